//! The plugin platform: WebAssembly components in a chain that is replaced as a whole.
//!
//! Called by [`crate::dispatch`] and [`crate::ingress`] with an event, and by `app` to build the chain. It knows the
//! contract (`wit/`) and nothing of where events come from or go to.

mod bindings;
mod builtins;
mod candidate;
mod capture;
mod chain;
mod compile;
mod context;
mod convert;
mod demands;
mod descriptor;
mod directory;
mod error;
mod host;
mod imports;
mod instance;
mod limits;
mod load;
mod manifest;
mod mounts;
mod output;
mod plugin;
mod private_dir;
mod publish;
mod reload;
mod settings;
mod shadow;
mod snapshot;
mod status;
mod trial;
mod watch;

use std::borrow::Cow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::{Value, json};

pub use self::builtins::{BUILTINS, Builtin, DEFAULT_FILTER, DEFAULT_FILTER_COMPONENT};
pub use self::capture::{Capture, CaptureError, CaptureOptions, CaptureStatus};
pub use self::chain::{Chain, Fate, Passage};
pub use self::compile::{COMMAND as COMPILE_COMMAND, Compiler, run_child as run_compiler};
pub use self::context::{Context, Direction};
pub use self::demands::{NotReplaced, PluginControl, Replaced};
pub use self::error::{Cause, Hook, LoadError, PluginError};
pub use self::host::Host;
pub use self::imports::metrics::Metric;
pub use self::limits::{LimitReached, Limits};
pub use self::load::{CONTRACT_VERSION, load};
pub use self::manifest::ManifestError;
pub use self::plugin::Plugin;
pub use self::publish::Published;
pub use self::reload::Reloader;
pub use self::settings::{Grants, Isolation, Mode, OnFailure, Settings};
pub use self::trial::{Sample, Trial};
use crate::config::{Config, FilterLists};

/// The running chain.
#[derive(Debug)]
pub struct Plugins {
    current: ArcSwap<Chain>,
}

/// Why there is no chain.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The directory.
    #[error("PLUGINS_DIR: {0}")]
    Manifest(#[from] ManifestError),
    /// A component file.
    #[error("plugin {plugin:?}: cannot read {file}: {error}")]
    Read {
        /// Name in the chain.
        plugin: String,
        /// The file.
        file: String,
        /// Why.
        error: std::io::Error,
    },
    /// A component.
    #[error("plugin {plugin:?} ({file}) {error}")]
    Load {
        /// Name in the chain.
        plugin: String,
        /// The file.
        file: String,
        /// Why.
        error: LoadError,
    },
}

impl Plugins {
    /// Starts with this chain.
    pub fn new(chain: Chain) -> Self {
        Self {
            current: ArcSwap::from_pointee(chain),
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
}

/// Builds the chain that the configuration asks for.
///
/// # Errors
/// The first plugin that is not usable, and why.
pub async fn build_chain(host: &Arc<Host>, config: &Config, generation: u64) -> Result<Chain, ChainError> {
    let manifest = match &config.plugins_dir {
        Some(directory) => manifest::read(directory)?,
        None => manifest::Manifest {
            default_filter: true,
            entries: Vec::new(),
        },
    };
    let mut plugins = Vec::with_capacity(manifest.entries.len() + 1);
    if manifest.default_filter {
        let loaded = load(host, DEFAULT_FILTER_COMPONENT, default_filter_settings(&config.filter)).await;
        plugins.push(loaded.map_err(|error| ChainError::Load {
            plugin: DEFAULT_FILTER.to_owned(),
            file: "built in".to_owned(),
            error,
        })?);
    }
    for entry in manifest.entries {
        let file = entry.component.display().to_string();
        let component = match builtins::named(&file) {
            Some(builtin) => builtin.component(),
            None => Cow::Owned(std::fs::read(&entry.component).map_err(|error| ChainError::Read {
                plugin: entry.settings.name.to_string(),
                file: file.clone(),
                error,
            })?),
        };
        let name = entry.settings.name.to_string();
        let loaded = load(host, &component, entry.settings).await;
        plugins.push(loaded.map_err(|error| ChainError::Load {
            plugin: name,
            file,
            error,
        })?);
    }
    let chain = Chain::new(generation, plugins.into_iter().map(Arc::new).collect());
    Ok(chain.captured_by(Arc::clone(host.capture())))
}

/// How the built-in filter is run: with the lists of the environment.
pub fn default_filter_settings(lists: &FilterLists) -> Settings {
    Settings {
        config: filter_config(lists),
        ..Settings::named(DEFAULT_FILTER)
    }
}

fn filter_config(lists: &FilterLists) -> Value {
    json!({"projects": lists.projects, "stages": lists.stages, "services": lists.services})
}

#[cfg(test)]
mod tests;
