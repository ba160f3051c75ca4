//! The functions that the host offers to plugins, one module for each interface of the contract, and the host side of
//! an instance behind them: one [`State`] each.
//!
//! Set up by [`super::instance`]. What has to outlive instances and chains is in [`kept`].

mod config;
#[cfg(test)]
mod fuzz;
pub(super) mod kept;
pub(super) mod line_rate;
mod logging;
pub(super) mod metrics;
mod state;
mod store;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::HasSelf;
use wasmtime_wasi::{Deterministic, HostWallClock, ResourceTable, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use self::kept::Kept;
use super::bindings::keptn::distributor::types;
use super::limits::{LimitReached, MAX_HANDLES, MAX_RANDOM_BYTES, MemoryCap};
use super::output::{Call, Output};
use super::settings::Settings;

/// Digits of the digest that log lines name; the full one is logged when the plugin is loaded.
const SHORT_DIGEST: usize = 12;

/// The target of everything that plugins say, so that their lines can be turned on and off by themselves
/// (`LOG_LEVEL=info,distributor::plugin=debug`).
pub(crate) use crate::telemetry::PLUGIN_TARGET as LOG_TARGET;

/// The random numbers of an instance whose calls are to be repeatable.
const REPEATED_BYTES: [u8; 16] = *b"as random as any";

/// The clock of such an instance.
struct StoppedClock;

impl HostWallClock for StoppedClock {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn now(&self) -> Duration {
        /// Some moment of 2026, in hours since 1970.
        const HOURS: u64 = 500_000;
        Duration::from_hours(HOURS)
    }
}

/// What all instances of a plugin share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) short_digest: String,
    pub(super) kept: Arc<Kept>,
}

impl Shared {
    pub(super) fn new(settings: Settings, digest: &str, kept: Arc<Kept>) -> Self {
        Self {
            settings,
            short_digest: digest.chars().take(SHORT_DIGEST).collect(),
            kept,
        }
    }
}

/// The host side of one instance.
pub(super) struct State {
    pub(super) shared: Arc<Shared>,
    pub(super) memory: MemoryCap,
    pub(super) output: Output,
    /// When the running call has to be over.
    pub(super) deadline: Instant,
    /// The time it was given, for the message.
    pub(super) call_time: Duration,
    host_calls_left: u32,
    wasi: WasiCtx,
    resources: ResourceTable,
}

impl State {
    /// `is_repeatable`: time stands still, and random numbers are always the same, so that the same call costs the same.
    pub(super) fn new(shared: Arc<Shared>, is_repeatable: bool) -> Self {
        let output = Output::new(Arc::clone(&shared));
        // Nothing of this process is there for the guest: no environment, no files, no sockets. Clocks and random
        // numbers are.
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(output.clone())
            .stderr(output.clone())
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(MAX_RANDOM_BYTES);
        if is_repeatable {
            wasi.secure_random(Deterministic::new(REPEATED_BYTES.to_vec()))
                .insecure_random(Deterministic::new(REPEATED_BYTES.to_vec()))
                .insecure_random_seed(u128::from_le_bytes(REPEATED_BYTES))
                .wall_clock(StoppedClock);
        }
        let mut resources = ResourceTable::new();
        resources.set_max_capacity(MAX_HANDLES);
        Self {
            memory: MemoryCap::new(shared.settings.limits.memory_bytes),
            shared,
            output,
            deadline: Instant::now(),
            call_time: Duration::ZERO,
            host_calls_left: 0,
            wasi: wasi.build(),
            resources,
        }
    }

    /// Refills every budget for a call that may take `call_time`. Returns the moment at which that begins.
    pub(super) fn start_call(&mut self, call_time: Duration, call: Call<'_>) -> Instant {
        let now = Instant::now();
        self.deadline = now + call_time;
        self.call_time = call_time;
        self.host_calls_left = self.shared.settings.limits.host_calls;
        self.output.start_call(call);
        now
    }

    fn count_call(&mut self) -> wasmtime::Result<()> {
        self.host_calls_left = self
            .host_calls_left
            .checked_sub(1)
            .ok_or_else(|| wasmtime::Error::new(LimitReached::HostCalls(self.shared.settings.limits.host_calls)))?;
        Ok(())
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.resources,
        }
    }
}

/// Offers all of it to a linker.
pub(super) fn add_to_linker(linker: &mut wasmtime::component::Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    super::bindings::Plugin::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

impl types::Host for State {}
