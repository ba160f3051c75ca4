//! The plugin platform: WebAssembly components in a chain that is replaced as a whole.
//!
//! Called by [`crate::dispatch`] and [`crate::ingress`] with an event, and by `app` to build the chain. It knows the
//! contract (`wit/`) and nothing of where events come from or go to.

mod answer;
mod bindings;
mod breaker;
mod build;
mod builtins;
mod candidate;
mod capture;
mod chain;
mod compile;
mod component;
mod context;
mod convert;
mod demands;
mod descriptor;
mod directory;
mod error;
mod guest_thread;
mod health;
mod host;
mod imports;
mod instance;
mod limits;
mod load;
mod manifest;
mod mounts;
mod offer;
mod output;
mod plugin;
mod private_directory;
mod problem;
mod publish;
mod reload;
mod report;
mod schema;
mod selftest;
mod settings;
mod shadow;
mod signature;
mod snapshot;
mod status;
mod trial;
mod usage;
mod watch;
pub mod workbench;

use std::sync::Arc;

use arc_swap::ArcSwap;

pub use self::answer::{Answer, Hooks};
pub use self::breaker::BreakerState;
pub use self::build::{build_chain, default_filter_settings};
pub use self::builtins::{BUILTINS, Builtin, DEFAULT_FILTER, DEFAULT_FILTER_COMPONENT};
pub use self::candidate::last_good_chain;
pub use self::capture::{Capture, CaptureError, CaptureOptions, CaptureStatus};
#[cfg(test)]
pub(crate) use self::chain::Script;
pub use self::chain::{Chain, Fate, Passage};
pub use self::compile::{
    COMMAND as COMPILE_COMMAND, Cgroup, CompileError, Compiler, Headroom, run_child as run_compiler,
};
pub use self::component::Source;
pub use self::context::{Context, Direction};
pub use self::demands::{NotReplaced, PluginControl, Replaced};
pub use self::error::{Cause, ConfigProblem, Hook, LoadError, PluginError};
pub use self::guest_thread::GuestThread;
pub use self::health::HealthReport;
pub use self::host::Host;
pub(crate) use self::imports::LOG_TARGET;
pub use self::imports::metrics::Metric;
pub use self::limits::{LimitReached, Limits};
pub use self::load::{CONTRACT_VERSION, load};
pub use self::plugin::Plugin;
pub use self::private_directory::{PrivateDirectory, PrivateDirectoryError};
pub use self::problem::{ChainError, ChainProblem, Place};
pub use self::publish::Published;
pub use self::reload::Reloader;
pub use self::report::{ChainReport, PluginReport};
pub use self::settings::{Grants, Isolation, Mode, OnFailure, Settings};
pub use self::signature::TrustedKeys;
pub use self::status::{Refusal, ReloadReport};
pub use self::trial::{Sample, Trial};

/// The running chain.
#[derive(Debug)]
pub struct Plugins {
    current: ArcSwap<Chain>,
    guest_thread: GuestThread,
}

impl Plugins {
    /// Starts with this chain.
    pub fn new(chain: Chain) -> Self {
        Self {
            current: ArcSwap::from_pointee(chain),
            guest_thread: GuestThread::default(),
        }
    }

    /// The chain of this moment. An event takes it once, and is done with it when the event is.
    pub fn current(&self) -> arc_swap::Guard<Arc<Chain>> {
        self.current.load()
    }

    /// The same, for those who keep it for a while.
    fn current_chain(&self) -> Arc<Chain> {
        self.current.load_full()
    }

    /// Puts another chain in force, and returns the one that was. It ends with the last event that is under way in it.
    fn replace(&self, chain: Chain) -> Arc<Chain> {
        self.current.swap(Arc::new(chain))
    }

    /// The same, without a thread for plugins: where time is simulated, there is one thread only.
    #[cfg(test)]
    pub(crate) fn rehearsed(chain: Chain) -> Self {
        Self {
            guest_thread: GuestThread::none(),
            ..Self::new(chain)
        }
    }

    /// Where events go on whose plugins take long.
    pub fn guest_thread(&self) -> &GuestThread {
        &self.guest_thread
    }
}

/// Runs what may take long, or waits for a disk, where it holds nothing up.
async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    let done = tokio::task::spawn_blocking(work).await;
    done.expect("nothing in it panics, and it is never cancelled")
}

#[cfg(test)]
mod contract_tests;
#[cfg(test)]
mod tests;
