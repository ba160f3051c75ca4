//! A loaded plugin, its warm instances, and one call of a hook under its limits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use wasmtime::component::InstancePre;
use wasmtime::{Store, Trap, UpdateDeadline};

use super::bindings::exports::keptn::distributor::{filter, lifecycle, transform};
use super::bindings::keptn::distributor::types::Failure;
use super::chain::Context;
use super::convert::{Lowered, SubscriptionLists, lift};
use super::error::{Cause, Hook, PluginError};
use super::imports::{Shared, State};
use super::limits::{LimitReached, TickGuard};
use super::load::{Hooks, Host, LoadError};
use crate::event::Event;

/// Instances kept warm: more calls at the same time than this are rare, and an instance costs memory.
const MAX_IDLE_INSTANCES: usize = 8;

/// Which way an event travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Control plane → service.
    Incoming,
    /// Service → control plane.
    Outgoing,
}

/// A component, linked and configured.
pub struct Plugin {
    host: Arc<Host>,
    pre: InstancePre<State>,
    hooks: Hooks,
    shared: Arc<Shared>,
    config_text: String,
    directions: Vec<Direction>,
    digest: String,
    descriptor: lifecycle::Descriptor,
    idle: Mutex<Vec<Instance>>,
}

/// What a filter said.
#[derive(Debug)]
pub(super) enum Verdict {
    Pass,
    Drop(String),
}

/// What a transform did.
#[derive(Debug)]
pub(super) enum Outcome {
    Keep,
    Replace(Vec<Event>),
}

struct Instance {
    store: Store<State>,
    lifecycle: lifecycle::Guest,
    filter: Option<filter::Guest>,
    transform: Option<transform::Guest>,
    calls: u32,
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Plugin")
            .field("name", &self.shared.name)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl Plugin {
    pub(super) async fn start(
        host: Arc<Host>,
        pre: InstancePre<State>,
        hooks: Hooks,
        shared: Arc<Shared>,
        directions: Vec<Direction>,
        digest: String,
    ) -> Result<Self, LoadError> {
        let mut plugin = Self {
            config_text: shared.config.to_string(),
            descriptor: lifecycle::Descriptor {
                name: String::new(),
                version: String::new(),
                description: String::new(),
                config_schema: String::new(),
                event_types: Vec::new(),
                reads: lifecycle::EventParts::empty(),
            },
            host,
            pre,
            hooks,
            shared,
            directions,
            digest,
            idle: Mutex::default(),
        };
        let mut instance = plugin.instantiate().await?;
        plugin.descriptor = plugin.describe(&mut instance).await?;
        plugin.configure(&mut instance).await?;
        plugin.put_back(instance);
        Ok(plugin)
    }

    /// Its name in the chain.
    pub fn name(&self) -> &Arc<str> {
        &self.shared.name
    }

    /// SHA-256 of the component, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Its own version.
    pub fn version(&self) -> &str {
        &self.descriptor.version
    }

    /// What it counted, by name.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        self.shared.metrics()
    }

    /// Names of its hooks.
    pub fn hooks(&self) -> Vec<&'static str> {
        let filter = self.hooks.filter.as_ref().map(|_| "filter");
        let transform = self.hooks.transform.as_ref().map(|_| "transform");
        filter.into_iter().chain(transform).collect()
    }

    /// Which ways it is run.
    pub fn directions(&self) -> &[Direction] {
        &self.directions
    }

    pub(super) fn has_filter(&self) -> bool {
        self.hooks.filter.is_some()
    }

    pub(super) fn has_transform(&self) -> bool {
        self.hooks.transform.is_some()
    }

    /// Whether the plugin asked to see events of this type.
    pub(super) fn wants(&self, event: &Event) -> bool {
        let globs = &self.descriptor.event_types;
        globs.is_empty() || globs.iter().any(|glob| matches_glob(glob, &event.ty()))
    }

    /// Runs the filter hook.
    pub(super) async fn evaluate(&self, event: &Event, context: &Context<'_>) -> Result<Verdict, PluginError> {
        let mut instance = self.take(Hook::Filter, event).await?;
        let lowered = Lowered::new(event, self.descriptor.reads);
        let (extensions, labels) = (lowered.extension_records(), lowered.label_records());
        let lists = SubscriptionLists::new(context.subscription);
        let hook = instance
            .filter
            .take()
            .expect("only plugins with a filter are asked to filter");
        let answer = instance
            .call(&self.host, self.shared.limits.call_time, event, async |store| {
                let event = lowered.event_record(&extensions);
                hook.call_evaluate(store, event, lowered.context_record(context, &labels, &lists))
                    .await
            })
            .await
            .map_err(|cause| self.failed(&instance, Hook::Filter, event, cause))?;
        instance.filter = Some(hook);
        let output_limit = self.shared.limits.output_bytes;
        self.put_back(instance);
        match answer {
            Ok(filter::Verdict::Pass) => Ok(Verdict::Pass),
            Ok(filter::Verdict::Drop(reason)) if reason.len() <= output_limit => Ok(Verdict::Drop(reason)),
            Ok(filter::Verdict::Drop(_)) => {
                let cause = Cause::Limit(LimitReached::Output(output_limit));
                Err(self.error(Hook::Filter, event, cause, Vec::new()))
            }
            Err(failure) => Err(self.error(Hook::Filter, event, failure.into(), Vec::new())),
        }
    }

    /// Runs the transform hook.
    pub(super) async fn apply(&self, event: &Event, context: &Context<'_>) -> Result<Outcome, PluginError> {
        let mut instance = self.take(Hook::Transform, event).await?;
        let lowered = Lowered::new(event, self.descriptor.reads);
        let (extensions, labels) = (lowered.extension_records(), lowered.label_records());
        let lists = SubscriptionLists::new(context.subscription);
        let hook = instance
            .transform
            .take()
            .expect("only plugins with a transform are asked to transform");
        let answer = instance
            .call(&self.host, self.shared.limits.call_time, event, async |store| {
                let event = lowered.event_record(&extensions);
                hook.call_apply(store, event, lowered.context_record(context, &labels, &lists))
                    .await
            })
            .await
            .map_err(|cause| self.failed(&instance, Hook::Transform, event, cause))?;
        instance.transform = Some(hook);
        self.put_back(instance);
        let outcome = match answer {
            Ok(transform::Outcome::Keep) => Ok(Outcome::Keep),
            Ok(transform::Outcome::Replace(emissions)) => self.lift_all(emissions, event).map(Outcome::Replace),
            Err(failure) => Err(failure.into()),
        };
        outcome.map_err(|cause| self.error(Hook::Transform, event, cause, Vec::new()))
    }

    fn lift_all(&self, emissions: Vec<transform::Emission>, received: &Event) -> Result<Vec<Event>, Cause> {
        let limit = self.shared.limits.output_events;
        if emissions.len() > limit {
            let returned = emissions.len();
            return Err(Cause::Limit(LimitReached::OutputEvents { returned, limit }));
        }
        let is_split = emissions.len() > 1;
        let mut events = Vec::with_capacity(emissions.len());
        for (number, emission) in emissions.into_iter().enumerate() {
            let transform::Emission::Forward(returned) = emission else {
                return Err(Cause::NotGranted("publish"));
            };
            let mut event = lift(&returned, received, self.descriptor.reads).map_err(Cause::InvalidEvent)?;
            if is_split && returned.id == received.id() {
                // The parts of a split event must be told apart downstream.
                let part_id = format!("{}-{}", returned.id, number + 1);
                event = event.with_id(&part_id).map_err(Cause::InvalidEvent)?;
            }
            events.push(event);
        }
        Ok(events)
    }

    /// A warm instance, or a new one.
    async fn take(&self, hook: Hook, event: &Event) -> Result<Instance, PluginError> {
        if let Some(instance) = self.idle().pop() {
            return Ok(instance);
        }
        let prepared = async {
            let mut instance = self.instantiate().await?;
            self.configure(&mut instance).await?;
            Ok(instance)
        };
        prepared
            .await
            .map_err(|error: LoadError| self.error(hook, event, Cause::Start(error.to_string()), Vec::new()))
    }

    /// Keeps an instance warm, unless it is due to be replaced.
    fn put_back(&self, instance: Instance) {
        let limits = &self.shared.limits;
        let is_worn = instance.calls >= limits.calls_per_instance
            || instance.store.data().memory.used > limits.memory_bytes / 4 * 3;
        let mut idle = self.idle();
        if !is_worn && idle.len() < MAX_IDLE_INSTANCES {
            idle.push(instance);
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Instance>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn instantiate(&self) -> Result<Instance, LoadError> {
        let mut store = Store::new(&self.host.engine, State::new(Arc::clone(&self.shared)));
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(self.shared.limits.output_bytes);
        store.epoch_deadline_callback(|context| {
            let state = context.data();
            if Instant::now() >= state.deadline {
                return Err(wasmtime::Error::new(LimitReached::Time(state.call_time)));
            }
            Ok(UpdateDeadline::Yield(1))
        });
        let call_time = self.shared.limits.configure_time;
        store.data_mut().start_call(call_time, "", "");
        store.set_epoch_deadline(1);
        let _tick = self.host.ticker.guard();
        let started = self.pre.instantiate_async(&mut store);
        let instance = match tokio::time::timeout(call_time, started).await {
            Ok(Ok(instance)) => instance,
            Ok(Err(error)) => {
                return Err(failed_at_load(
                    &store,
                    "cannot be started",
                    &cause_of(&error, store.data()),
                ));
            }
            Err(_) => {
                return Err(LoadError::Call(format!(
                    "did not start within {}",
                    humantime::format_duration(call_time)
                )));
            }
        };
        let signature = |error: wasmtime::Error| {
            LoadError::Exports(format!(
                "has a function with another signature than the contract: {error:#}"
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
            lifecycle,
            filter: filter.transpose().map_err(signature)?,
            transform: transform.transpose().map_err(signature)?,
            store,
            calls: 0,
        })
    }

    async fn describe(&self, instance: &mut Instance) -> Result<lifecycle::Descriptor, LoadError> {
        let lifecycle = instance.lifecycle.clone();
        let described = instance.call_at_load(&self.host, self.shared.limits.configure_time, async |store| {
            lifecycle.call_describe(store).await
        });
        described
            .await
            .map_err(|cause| failed_at_load(&instance.store, "failed in `describe`", &cause))
    }

    async fn configure(&self, instance: &mut Instance) -> Result<(), LoadError> {
        let lifecycle = instance.lifecycle.clone();
        let configured = instance.call_at_load(&self.host, self.shared.limits.configure_time, async |store| {
            lifecycle.call_configure(store, &self.config_text).await
        });
        let answer = configured.await;
        let problems = match answer {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(problems)) => problems,
            Err(cause) => return Err(failed_at_load(&instance.store, "failed in `configure`", &cause)),
        };
        let problems = problems
            .into_iter()
            .map(|lifecycle::ConfigProblem { pointer, message }| {
                if pointer.is_empty() {
                    message
                } else {
                    format!("{pointer}: {message}")
                }
            });
        Err(LoadError::Config(problems.collect()))
    }

    fn failed(&self, instance: &Instance, hook: Hook, event: &Event, cause: Cause) -> PluginError {
        self.error(hook, event, cause, instance.store.data().output.last_lines())
    }

    fn error(&self, hook: Hook, event: &Event, cause: Cause, output: Vec<String>) -> PluginError {
        PluginError {
            plugin: Arc::clone(&self.shared.name),
            version: self.descriptor.version.clone(),
            hook,
            event_id: event.id().into_owned(),
            event_type: event.ty().into_owned(),
            cause,
            output,
        }
    }
}

impl Instance {
    /// One call of a hook. After an error the instance is dead and must be dropped.
    async fn call<R>(
        &mut self,
        host: &Host,
        call_time: std::time::Duration,
        event: &Event,
        call: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<R>,
    ) -> Result<R, Cause> {
        let context = event.keptn_context().unwrap_or_default();
        self.store.data_mut().start_call(call_time, &event.id(), &context);
        self.limited(host, call_time, call).await
    }

    async fn call_at_load<R>(
        &mut self,
        host: &Host,
        call_time: std::time::Duration,
        call: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<R>,
    ) -> Result<R, Cause> {
        self.store.data_mut().start_call(call_time, "", "");
        self.limited(host, call_time, call).await
    }

    async fn limited<R>(
        &mut self,
        host: &Host,
        call_time: std::time::Duration,
        call: impl AsyncFnOnce(&mut Store<State>) -> wasmtime::Result<R>,
    ) -> Result<R, Cause> {
        self.calls += 1;
        self.store.set_epoch_deadline(1);
        let _tick: TickGuard<'_> = host.ticker.guard();
        // The epoch stops a guest that computes; the time-out one that waits in a host function, e.g. sleeps.
        match tokio::time::timeout(call_time, call(&mut self.store)).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(cause_of(&error, self.store.data())),
            Err(_) => Err(Cause::Limit(LimitReached::Time(call_time))),
        }
    }
}

impl From<Failure> for Cause {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Transient(text) => Self::Transient(text),
            Failure::Permanent(text) => Self::Permanent(text),
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
    // The one limit that the engine has no type for.
    if format!("{error:#}").contains("fuel allocated for hostcalls has been exhausted") {
        return Cause::Limit(LimitReached::Output(state.shared.limits.output_bytes));
    }
    Cause::Trap(match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => "panicked or aborted".to_owned(),
        Some(Trap::StackOverflow) => "used up its stack (endless recursion?)".to_owned(),
        Some(Trap::MemoryOutOfBounds) => {
            "reached outside of its memory (a bad pointer, or a stack used up by recursion)".to_owned()
        }
        Some(trap) => trap.to_string(),
        None => format!("{error:#}").lines().next().unwrap_or_default().to_owned(),
    })
}

fn failed_at_load(store: &Store<State>, what: &str, cause: &Cause) -> LoadError {
    LoadError::Call(with_output(
        format!("{what}: {cause}"),
        &store.data().output.last_lines(),
    ))
}

fn with_output(mut text: String, output: &[String]) -> String {
    if !output.is_empty() {
        text.push_str("; it printed: ");
        text.push_str(&output.join(" | "));
    }
    text
}

/// Whether `text` matches `glob`, in which `*` stands for any text.
fn matches_glob(glob: &str, text: &str) -> bool {
    let mut parts = glob.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(position) => rest = &rest[position + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::matches_glob;

    #[test]
    fn a_glob_star_stands_for_any_text() {
        let check =
            |glob: &str, text: &str, expected: bool| assert_eq!(matches_glob(glob, text), expected, "{glob} {text}");
        check(
            "sh.keptn.event.*.triggered",
            "sh.keptn.event.deployment.triggered",
            true,
        );
        check(
            "sh.keptn.event.*.triggered",
            "sh.keptn.event.dev.delivery.triggered",
            true,
        );
        check(
            "sh.keptn.event.*.triggered",
            "sh.keptn.event.deployment.finished",
            false,
        );
        check("*", "", true);
        check("a*a", "a", false);
        check("exact", "exact", true);
        check("exact", "exactly", false);
        check("*.a.*.b", "x.a.y.b", true);
    }
}
