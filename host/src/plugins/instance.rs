//! One instance of a component: how it is started, and one call under its limits.
//!
//! Used by [`super::plugin`]. After any failed call an instance is dead and must be dropped.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::poll;
use tokio::time::Instant;
use wasmtime::component::InstancePre;
use wasmtime::{Store, Trap, UpdateDeadline, WasmBacktrace};

use super::bindings::exports::keptn::distributor::{filter, lifecycle, transform};
use super::bindings::keptn::distributor::types::Failure;
use super::descriptor::check_descriptor;
use super::error::{Cause, ConfigProblem, LoadError, Misuse, one_line};
use super::host::Host;
use super::imports::{Shared, State};
use super::limits::{LimitReached, MAX_HANDLES};
use super::output::Call;

/// Problems of a configuration that are named; a plugin may find a million.
const MAX_CONFIG_PROBLEMS: usize = 50;

/// Frames in a message: more would be cut away where it is stored.
const SHOWN_FRAMES: usize = 3;
/// What stands above the author's functions when they panic or abort.
const PANIC_MACHINERY: [&str; 9] = [
    "__rust",
    "abort",
    "_abort",
    "core::panicking",
    "core::result::unwrap_failed",
    "core::option::",
    "panic_abort",
    "rust_panic",
    "std::",
];

/// Which hooks a component has.
#[derive(Clone)]
pub(super) struct Hooks {
    pub(super) lifecycle: lifecycle::GuestIndices,
    pub(super) filter: Option<filter::GuestIndices>,
    pub(super) transform: Option<transform::GuestIndices>,
}

/// What the instances of a plugin are made of.
pub(super) struct Template {
    pub(super) host: Arc<Host>,
    pub(super) pre: InstancePre<State>,
    pub(super) hooks: Hooks,
    pub(super) shared: Arc<Shared>,
    pub(super) config_text: String,
}

/// A running component.
pub(super) struct Instance {
    host: Arc<Host>,
    store: Store<State>,
    lifecycle: lifecycle::Guest,
    pub(super) filter: Option<filter::Guest>,
    pub(super) transform: Option<transform::Guest>,
    calls: u32,
}

/// What an instance has used since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Figures {
    /// All its memories together; they never shrink.
    pub(super) memory_bytes: usize,
    /// Where it is counted.
    pub(super) fuel: Option<u64>,
}

/// Why a call did not come to its end.
pub(super) struct Stopped {
    pub(super) cause: Cause,
    /// The functions that the guest was in, the innermost first.
    pub(super) frames: Vec<String>,
}

impl Template {
    /// Starts an instance. It has to be configured before its first hook is called.
    pub(super) async fn instantiate(&self) -> Result<Instance, LoadError> {
        let mut store = limited_store(&self.host, &self.shared);
        let call_time = self.shared.settings.limits.configure_time;
        store.data_mut().start_call(call_time, Call::default());
        let instance = limited(&self.host, &mut store, call_time, async |store| {
            self.pre.instantiate_async(store).await
        });
        let instance = match instance.await {
            Ok(instance) => instance,
            Err(stopped) => return Err(failed_at_load(&store, "cannot be started", &stopped)),
        };
        let signature = |error: wasmtime::Error| {
            LoadError::Exports(format!(
                "has a function with another signature than the contract: {error:#}; rebuild it against this host's wit/world.wit"
            ))
        };
        let lifecycle = self.hooks.lifecycle.load(&mut store, &instance).map_err(signature)?;
        let filter = self.hooks.filter.as_ref().map(|hook| hook.load(&mut store, &instance));
        let transform = self
            .hooks
            .transform
            .as_ref()
            .map(|hook| hook.load(&mut store, &instance));
        Ok(Instance {
            host: Arc::clone(&self.host),
            lifecycle,
            filter: filter.transpose().map_err(signature)?,
            transform: transform.transpose().map_err(signature)?,
            store,
            calls: 0,
        })
    }
}

impl Instance {
    /// Calls a hook for an event.
    pub(super) async fn call<R>(
        &mut self,
        about: Call<'_>,
        call: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<R>,
    ) -> Result<R, Stopped> {
        let call_time = self.store.data().shared.settings.limits.call_time;
        let begun = self.store.data_mut().start_call(call_time, about);
        self.calls += 1;
        let result = limited_until(&self.host, &mut self.store, begun + call_time, call_time, call).await;
        self.store.data().shared.kept.usage.calls.observe(begun.elapsed());
        result
    }

    /// Bytes of its linear memories.
    pub(super) fn memory_bytes(&self) -> usize {
        self.store.data().memory.used()
    }

    /// Asks it who it is.
    pub(super) async fn describe(&mut self) -> Result<lifecycle::Descriptor, LoadError> {
        let lifecycle = self.lifecycle.clone();
        let described = self.call_at_load(async |store| lifecycle.call_describe(store).await);
        let described = described.await;
        let descriptor = described.map_err(|stopped| failed_at_load(&self.store, "failed in `describe`", &stopped))?;
        check_descriptor(&descriptor)?;
        Ok(descriptor)
    }

    /// Gives it its configuration.
    pub(super) async fn configure(&mut self, config_text: &str) -> Result<(), LoadError> {
        let lifecycle = self.lifecycle.clone();
        let configured = self.call_at_load(async |store| lifecycle.call_configure(store, config_text).await);
        match configured.await {
            Ok(Ok(())) => {
                self.store.data_mut().memory.mark_start();
                Ok(())
            }
            Ok(Err(problems)) => Err(LoadError::Config(in_words(&problems))),
            Err(stopped) => Err(failed_at_load(&self.store, "failed in `configure`", &stopped)),
        }
    }

    /// Whether it is due to be replaced: after many calls, or with little memory left. Guests leak.
    pub(super) fn is_worn(&self) -> bool {
        let state = self.store.data();
        let limits = &state.shared.settings.limits;
        self.calls >= limits.calls_per_instance || state.memory.is_low()
    }

    /// What it has used so far.
    pub(super) fn figures(&self) -> Figures {
        Figures {
            memory_bytes: self.store.data().memory.used(),
            fuel: self.fuel(),
        }
    }

    fn fuel(&self) -> Option<u64> {
        let counts = self.host.compiler.counts_fuel();
        counts.then(|| u64::MAX - self.store.get_fuel().unwrap_or(u64::MAX))
    }

    /// The last lines it printed during this call.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.store.data().output.last_lines()
    }

    async fn call_at_load<R>(
        &mut self,
        call: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<R>,
    ) -> Result<R, Stopped> {
        let call_time = self.store.data().shared.settings.limits.configure_time;
        self.store.data_mut().start_call(call_time, Call::default());
        limited(&self.host, &mut self.store, call_time, call).await
    }
}

/// An empty store in which nothing gets more than the limits of the plugin say.
pub(super) fn limited_store(host: &Host, shared: &Arc<Shared>) -> Store<State> {
    let state = State::new(Arc::clone(shared), host.compiler.counts_fuel());
    let mut store = Store::new(&host.engine, state);
    if host.compiler.counts_fuel() {
        // It is to be counted, and not to run out.
        store.set_fuel(u64::MAX).expect("the engine was made to count it");
    }
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(shared.settings.limits.output_bytes);
    store.set_max_component_handles(MAX_HANDLES);
    store.epoch_deadline_callback(|context| {
        let state = context.data();
        if Instant::now() >= state.deadline {
            return Err(wasmtime::Error::new(LimitReached::Time(state.call_time)));
        }
        Ok(UpdateDeadline::Yield(1))
    });
    store
}

/// Runs guest code for at most `call_time`.
pub(super) async fn limited<R>(
    host: &Host,
    store: &mut Store<State>,
    call_time: Duration,
    call: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<R>,
) -> Result<R, Stopped> {
    limited_until(host, store, Instant::now() + call_time, call_time, call).await
}

/// The same for whoever knows when the time is over: looking at the clock costs.
async fn limited_until<R>(
    host: &Host,
    store: &mut Store<State>,
    ends: Instant,
    call_time: Duration,
    call: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<R>,
) -> Result<R, Stopped> {
    store.set_epoch_deadline(1);
    let _tick = host.ticker.guard();
    // Most are through at once, and a timer costs.
    let answered = {
        let mut call = pin!(call(store));
        match poll!(call.as_mut()) {
            Poll::Ready(answered) => Some(answered),
            // The epoch stops a guest that computes; the time-out one that waits in a host function, e.g. sleeps.
            Poll::Pending => tokio::time::timeout_at(ends, call).await.ok(),
        }
    };
    match answered {
        Some(Ok(result)) => Ok(result),
        Some(Err(error)) => Err(Stopped {
            cause: cause_of(&error, store.data()),
            frames: frames_of(&error),
        }),
        // It waits for the host, and is in no function of its own.
        None => Err(Stopped {
            cause: Cause::Limit(LimitReached::Time(call_time)),
            frames: Vec::new(),
        }),
    }
}

impl From<Failure> for Cause {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Transient(text) => Self::Transient(one_line(&text)),
            Failure::Permanent(text) => Self::Permanent(one_line(&text)),
        }
    }
}

fn cause_of(error: &wasmtime::Error, state: &State) -> Cause {
    if let Some(limit) = error.downcast_ref::<LimitReached>() {
        return Cause::Limit(limit.clone());
    }
    if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        return Cause::Trap(format!("ended itself with exit code {}", exit.0));
    }
    if let Some(misuse) = error.downcast_ref::<Misuse>() {
        return Cause::Trap(misuse.to_string());
    }
    let innermost = error.root_cause().to_string();
    // The limits that the engine has no type for.
    if innermost.contains("fuel allocated for hostcalls has been exhausted") {
        return Cause::Limit(LimitReached::Output(state.shared.settings.limits.output_bytes));
    }
    if innermost.contains("handle limit exceeded") || innermost.contains("resource table has no free keys") {
        return Cause::Limit(LimitReached::Handles);
    }
    if innermost.starts_with("requested len ") {
        return Cause::Limit(LimitReached::RandomBytes);
    }
    Cause::Trap(match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => "panicked or aborted".to_owned(),
        Some(Trap::StackOverflow) => "used up its stack (endless recursion?)".to_owned(),
        Some(Trap::MemoryOutOfBounds) => {
            "reached outside of its memory (a bad pointer, or a stack used up by recursion)".to_owned()
        }
        Some(trap) => trap.to_string(),
        None => one_line(&innermost),
    })
}

/// What `configure` found, of bounded length.
fn in_words(problems: &[lifecycle::ConfigProblem]) -> Vec<ConfigProblem> {
    let named = problems.iter().take(MAX_CONFIG_PROBLEMS);
    let mut found: Vec<_> = named
        .map(|lifecycle::ConfigProblem { pointer, message }| ConfigProblem {
            pointer: one_line(pointer),
            message: one_line(message),
        })
        .collect();
    if problems.len() > MAX_CONFIG_PROBLEMS {
        found.push(ConfigProblem {
            pointer: String::new(),
            message: format!("and {} more", problems.len() - MAX_CONFIG_PROBLEMS),
        });
    }
    found
}

/// The first functions that are the author's, where the component has names.
fn frames_of(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return Vec::new();
    };
    let names = backtrace.frames().iter().filter_map(wasmtime::FrameInfo::func_name);
    let names = names.map(|name| one_line(&format!("{:#}", rustc_demangle::demangle(name))));
    let authors = |name: &String| !PANIC_MACHINERY.iter().any(|start| name.starts_with(start));
    names.filter(authors).take(SHOWN_FRAMES).collect()
}

fn failed_at_load(store: &Store<State>, what: &str, stopped: &Stopped) -> LoadError {
    let mut text = format!("{what}: {}", stopped.cause);
    let output = store.data().output.last_lines();
    if !output.is_empty() {
        text.push_str("; it printed: ");
        text.push_str(&output.join(" | "));
    }
    LoadError::Call(text)
}
