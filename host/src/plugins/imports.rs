//! The functions that the host offers to plugins, and the state behind them: one [`State`] for each instance.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::time::Instant;
use wasmtime::component::HasSelf;
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::bindings::keptn::distributor::{config, logging, metrics, state, types};
use super::limits::{LimitReached, MemoryCap};
use super::output::Output;
use super::settings::Settings;

/// Names that one plugin may count under.
const MAX_METRIC_NAMES: usize = 50;

/// What all instances of a plugin share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    metrics: Mutex<BTreeMap<String, f64>>,
}

impl Shared {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            metrics: Mutex::default(),
        }
    }

    /// What the plugin counted, by name.
    pub(super) fn metrics(&self) -> BTreeMap<String, f64> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change_metric(&self, name: String, change: impl FnOnce(f64) -> f64) {
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        if metrics.len() < MAX_METRIC_NAMES || metrics.contains_key(&name) {
            let value = metrics.entry(name).or_default();
            *value = change(*value);
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
    pub(super) call_time: std::time::Duration,
    /// For the log lines of the plugin.
    event_id: String,
    keptn_context: String,
    host_calls_left: u32,
    log_lines_left: u32,
    wasi: WasiCtx,
    resources: ResourceTable,
}

impl State {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let output = Output::new(Arc::clone(&shared.settings.name));
        // Nothing of this process is there for the guest: no environment, no files, no sockets. Clocks and random
        // numbers are.
        let wasi = WasiCtxBuilder::new()
            .stdout(output.clone())
            .stderr(output.clone())
            .build();
        Self {
            memory: MemoryCap::new(shared.settings.limits.memory_bytes),
            shared,
            output,
            deadline: Instant::now(),
            call_time: std::time::Duration::ZERO,
            event_id: String::new(),
            keptn_context: String::new(),
            host_calls_left: 0,
            log_lines_left: 0,
            wasi,
            resources: ResourceTable::new(),
        }
    }

    /// Refills every budget for a call that may take `call_time`.
    pub(super) fn start_call(&mut self, call_time: std::time::Duration, event_id: &str, keptn_context: &str) {
        self.deadline = Instant::now() + call_time;
        self.call_time = call_time;
        self.event_id.clear();
        self.event_id.push_str(event_id);
        self.keptn_context.clear();
        self.keptn_context.push_str(keptn_context);
        self.host_calls_left = self.shared.settings.limits.host_calls;
        self.log_lines_left = self.shared.settings.limits.log_lines;
        self.output.start_call(self.shared.settings.limits.log_lines);
    }

    fn count_call(&mut self) -> wasmtime::Result<()> {
        self.host_calls_left = self
            .host_calls_left
            .checked_sub(1)
            .ok_or_else(|| wasmtime::Error::new(LimitReached::HostCalls(self.shared.settings.limits.host_calls)))?;
        Ok(())
    }

    /// A value of the configuration; `a.b` reaches into objects.
    fn configured(&self, key: &str) -> Option<&Value> {
        key.split('.')
            .try_fold(&self.shared.settings.config, |value, part| value.get(part))
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

impl logging::Host for State {
    fn enabled(&mut self, level: logging::Level) -> wasmtime::Result<bool> {
        self.count_call()?;
        Ok(match level {
            logging::Level::Trace => tracing::enabled!(tracing::Level::TRACE),
            logging::Level::Debug => tracing::enabled!(tracing::Level::DEBUG),
            logging::Level::Info => tracing::enabled!(tracing::Level::INFO),
            logging::Level::Warn => tracing::enabled!(tracing::Level::WARN),
            logging::Level::Error => tracing::enabled!(tracing::Level::ERROR),
        })
    }

    fn log(&mut self, level: logging::Level, message: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        self.count_call()?;
        if self.log_lines_left == 0 {
            return Ok(());
        }
        self.log_lines_left -= 1;
        let cut = self.log_lines_left == 0;
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let fields = fields.join(" ");
        let Self {
            shared,
            event_id,
            keptn_context,
            ..
        } = self;
        let plugin = &shared.settings.name;
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(%plugin, event_id, keptn_context, text = message, fields, "plugin says")
            };
        }
        match level {
            logging::Level::Trace => line!(trace),
            logging::Level::Debug => line!(debug),
            logging::Level::Info => line!(info),
            logging::Level::Warn => line!(warn),
            logging::Level::Error => line!(error),
        }
        if cut {
            let limit = shared.settings.limits.log_lines;
            tracing::warn!(%plugin, event_id, "plugin logged {limit} lines in one call; the rest of this call is left out");
        }
        Ok(())
    }
}

impl config::Host for State {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        self.count_call()?;
        Ok(self.configured(&key).and_then(scalar_text))
    }

    fn get_list(&mut self, key: String) -> wasmtime::Result<Vec<String>> {
        self.count_call()?;
        Ok(match self.configured(&key) {
            Some(Value::Array(items)) => items.iter().filter_map(scalar_text).collect(),
            Some(Value::String(text)) if text.is_empty() => Vec::new(),
            Some(Value::String(text)) => text.split(',').map(str::to_owned).collect(),
            _ => Vec::new(),
        })
    }
}

/// Scalars as text, objects and lists as JSON, nothing for `null`.
fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

impl metrics::Host for State {
    fn add(&mut self, name: String, delta: u64) -> wasmtime::Result<()> {
        self.count_call()?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "counters are exact up to 2^53, which no plugin reaches"
        )]
        self.shared.change_metric(name, |value| value + delta as f64);
        Ok(())
    }

    fn set(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        self.count_call()?;
        self.shared.change_metric(name, |_| value);
        Ok(())
    }
}

/// Nobody can be granted state yet, so everybody is told `denied`, as the contract says.
impl state::Host for State {
    fn get(&mut self, _: String) -> wasmtime::Result<Result<Option<Vec<u8>>, state::Error>> {
        self.denied()
    }

    fn set(&mut self, _: String, _: Vec<u8>, _: Option<u64>) -> wasmtime::Result<Result<(), state::Error>> {
        self.denied()
    }

    fn delete(&mut self, _: String) -> wasmtime::Result<Result<(), state::Error>> {
        self.denied()
    }

    fn increment(&mut self, _: String, _: i64, _: Option<u64>) -> wasmtime::Result<Result<i64, state::Error>> {
        self.denied()
    }

    fn set_if_absent(&mut self, _: String, _: Vec<u8>, _: Option<u64>) -> wasmtime::Result<Result<bool, state::Error>> {
        self.denied()
    }
}

impl State {
    fn denied<T>(&mut self) -> wasmtime::Result<Result<T, state::Error>> {
        self.count_call()?;
        Ok(Err(state::Error::Denied))
    }
}
