//! A loaded plugin: its hooks, with warm instances behind them.
//!
//! Made by [`super::load`], called by [`super::chain`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::Component;

use super::bindings::exports::keptn::distributor::{filter, lifecycle, transform};
use super::blocking;
use super::context::{Context, Direction};
use super::convert::{Lowered, lift};
use super::error::{Cause, Hook, LoadError, PluginError, one_line};
use super::health::{Health, HealthReport};
use super::imports::Shared;
use super::imports::kept::Kept;
use super::imports::metrics::Metric;
use super::instance::{Figures, Instance, Stopped, Template};
use super::limits::{LimitReached, Limits, Made};
use super::publish::{self, Origin, Published};
use super::schema;
use super::settings::{Isolation, Settings};
use super::usage::Usage;
use crate::event::Event;

/// Instances kept warm: more calls at the same time than this are rare, and an instance costs memory.
const MAX_IDLE_INSTANCES: usize = 8;

/// A component, linked and configured.
pub struct Plugin {
    template: Template,
    descriptor: lifecycle::Descriptor,
    digest: Arc<str>,
    idle: Mutex<Vec<Instance>>,
    health: Health,
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
    Replace {
        /// Goes on in the same direction.
        forwarded: Vec<Event>,
        /// Goes to the control plane.
        published: Vec<Published>,
    },
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Plugin")
            .field("name", self.name())
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl Plugin {
    /// Starts the first instance, asks it who it is, and configures it.
    pub(super) async fn start(template: Template, digest: String) -> Result<Self, LoadError> {
        let mut instance = template.instantiate().await?;
        let descriptor = instance.describe().await?;
        let (config_schema, config) = (
            descriptor.config_schema.clone(),
            template.shared.settings.config.clone(),
        );
        blocking(move || schema::check(&config_schema, &config)).await?;
        instance.configure(&template.config_text).await?;
        let plugin = Self {
            template,
            descriptor,
            digest: digest.into(),
            idle: Mutex::default(),
            health: Health::default(),
        };
        plugin.put_back(instance);
        Ok(plugin)
    }

    /// A copy that shares nothing with the original: neither instances nor state nor metrics.
    pub(super) async fn for_self_tests(&self) -> Result<Self, LoadError> {
        let kept = Arc::new(Kept::new(self.name()));
        let template = Template {
            host: Arc::clone(&self.template.host),
            pre: self.template.pre.clone(),
            hooks: self.template.hooks.clone(),
            config_text: self.template.config_text.clone(),
            shared: Arc::new(Shared::new(self.settings().clone(), &self.digest, kept)),
        };
        Self::start(template, self.digest.to_string()).await
    }

    /// Its name in the chain.
    pub fn name(&self) -> &Arc<str> {
        &self.settings().name
    }

    /// What the instance that was used last has used, if it was kept.
    pub(super) fn figures(&self) -> Option<Figures> {
        self.idle().last().map(Instance::figures)
    }

    /// What the component calls itself.
    pub(super) fn component_name(&self) -> &str {
        &self.descriptor.name
    }

    /// SHA-256 of the component, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Its code.
    pub(super) fn component(&self) -> &Component {
        self.template.pre.component()
    }

    /// Its own version.
    pub fn version(&self) -> &str {
        &self.descriptor.version
    }

    /// What it counts and measures, by name; a plugin of the same name in an earlier chain may have begun.
    pub fn metrics(&self) -> BTreeMap<String, Metric> {
        self.template.shared.kept.metrics.values()
    }

    /// Names of its hooks.
    pub fn hooks(&self) -> Vec<&'static str> {
        let filter = self.template.hooks.filter.as_ref().map(|_| "filter");
        let transform = self.template.hooks.transform.as_ref().map(|_| "transform");
        filter.into_iter().chain(transform).collect()
    }

    /// Which ways it is run.
    pub fn directions(&self) -> &[Direction] {
        &self.settings().directions
    }

    /// How it is run.
    pub fn settings(&self) -> &Settings {
        &self.template.shared.settings
    }

    /// How it is doing.
    pub fn health_report(&self) -> HealthReport {
        self.health.report()
    }

    pub(super) fn usage(&self) -> &Usage {
        &self.template.shared.kept.usage
    }

    /// How many instances are kept warm, and their memory.
    pub(super) fn idle_memory(&self) -> (usize, usize) {
        let idle = self.idle();
        (idle.len(), idle.iter().map(Instance::memory_bytes).sum())
    }

    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    pub(super) fn has_filter(&self) -> bool {
        self.template.hooks.filter.is_some()
    }

    pub(super) fn has_transform(&self) -> bool {
        self.template.hooks.transform.is_some()
    }

    /// Whether the plugin is to see events of this type: the chain file and the plugin itself may say so.
    pub(super) fn wants(&self, event: &Event) -> bool {
        let wants = |globs: &[String]| globs.is_empty() || globs.iter().any(|glob| matches_glob(glob, &event.ty()));
        wants(&self.settings().event_types) && wants(&self.descriptor.event_types)
    }

    /// Runs the filter hook.
    pub(super) async fn evaluate(
        &self,
        lowered: &mut Lowered<'_>,
        context: &Context<'_>,
    ) -> Result<Verdict, PluginError> {
        let event = lowered.event();
        let mut instance = self.take(Hook::Filter, event).await?;
        let records = lowered.records(self.descriptor.reads, context);
        let hook = instance
            .filter
            .take()
            .expect("only plugins with a filter are asked to filter");
        let answer = instance
            .call(records.about(), async |store| {
                hook.call_evaluate(store, records.event(), records.context()).await
            })
            .await
            .map_err(|stopped| self.stopped(Hook::Filter, event, stopped, &instance))?;
        instance.filter = Some(hook);
        self.put_back(instance);
        match answer {
            Ok(filter::Verdict::Pass) => Ok(Verdict::Pass),
            Ok(filter::Verdict::Drop(reason)) => Ok(Verdict::Drop(one_line(&reason))),
            Err(failure) => Err(self.error(Hook::Filter, event, failure.into())),
        }
    }

    /// Runs the transform hook.
    pub(super) async fn apply(
        &self,
        lowered: &mut Lowered<'_>,
        context: &Context<'_>,
        origin: &Origin<'_>,
    ) -> Result<Outcome, PluginError> {
        let event = lowered.event();
        let mut instance = self.take(Hook::Transform, event).await?;
        let records = lowered.records(self.descriptor.reads, context);
        let hook = instance
            .transform
            .take()
            .expect("only plugins with a transform are asked to transform");
        let answer = instance
            .call(records.about(), async |store| {
                hook.call_apply(store, records.event(), records.context()).await
            })
            .await
            .map_err(|stopped| self.stopped(Hook::Transform, event, stopped, &instance))?;
        instance.transform = Some(hook);
        self.put_back(instance);
        let outcome = match answer {
            Ok(transform::Outcome::Keep) => Ok(Outcome::Keep),
            Ok(transform::Outcome::Replace(emissions)) => self.lift_all(emissions, event, origin),
            Err(failure) => Err(failure.into()),
        };
        outcome.map_err(|cause| self.error(Hook::Transform, event, cause))
    }

    fn lift_all(
        &self,
        emissions: Vec<transform::Emission>,
        received: &Event,
        origin: &Origin<'_>,
    ) -> Result<Outcome, Cause> {
        let limit = self.limits().output_events;
        if emissions.len() > limit {
            let returned = emissions.len();
            return Err(Cause::Limit(LimitReached::OutputEvents { returned, limit }));
        }
        let is_forward = |emission: &&transform::Emission| matches!(emission, transform::Emission::Forward(_));
        let is_split = emissions.iter().filter(is_forward).count() > 1;
        let (mut forwarded, mut published) = (Vec::with_capacity(emissions.len()), Vec::new());
        let mut made = Made::default();
        for emission in emissions {
            let returned = match emission {
                transform::Emission::Forward(returned) => returned,
                transform::Emission::Publish(_) if !self.settings().grants.publish => {
                    return Err(Cause::NotGranted("publish"));
                }
                transform::Emission::Publish(returned) => {
                    let number = published.len();
                    published.push(publish::published(&returned, received, origin, self.name(), number)?);
                    continue;
                }
            };
            let mut event = lift(&returned, received, self.descriptor.reads).map_err(Cause::InvalidEvent)?;
            if is_split && returned.id == received.id() {
                // The parts of a split event must be told apart downstream.
                let part_id = format!("{}-{}", returned.id, forwarded.len() + 1);
                event = event.with_id(&part_id).map_err(Cause::InvalidEvent)?;
            }
            // Data that the plugin did not read was put back into each.
            made.add(event.bytes().len()).map_err(Cause::Limit)?;
            forwarded.push(event);
        }
        Ok(Outcome::Replace { forwarded, published })
    }

    /// A warm instance, or a new one.
    async fn take(&self, hook: Hook, event: &Event) -> Result<Instance, PluginError> {
        if let Some(instance) = self.idle().pop() {
            return Ok(instance);
        }
        let prepared = async {
            let mut instance = self.template.instantiate().await?;
            instance.configure(&self.template.config_text).await?;
            Ok(instance)
        };
        prepared
            .await
            .map_err(|error: LoadError| self.error(hook, event, Cause::Start(error.to_string())))
    }

    /// Keeps an instance warm, unless it is due to be replaced. One that failed, or whose call was given up, never gets
    /// here.
    fn put_back(&self, instance: Instance) {
        if self.settings().isolation == Isolation::PerEvent {
            return;
        }
        let mut idle = self.idle();
        if !instance.is_worn() && idle.len() < MAX_IDLE_INSTANCES {
            idle.push(instance);
        }
    }

    /// Gives back the memory of instances that wait for calls. A call that comes all the same gets a new one.
    pub(super) fn rest(&self) {
        let idle = std::mem::take(&mut *self.idle());
        drop(idle);
    }

    #[cfg(test)]
    pub(super) fn n_idle(&self) -> usize {
        self.idle().len()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Instance>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limits(&self) -> &Limits {
        &self.settings().limits
    }

    /// The chain has made too much of an event, and this plugin was the last to add to it.
    pub(super) fn made_too_much(&self, event: &Event, limit: LimitReached) -> PluginError {
        self.error(Hook::Transform, event, Cause::Limit(limit))
    }

    /// The event is not shown to the plugin, because that failed too often.
    pub(super) fn resting(&self, event: &Event, until: tokio::time::Instant) -> PluginError {
        let hook = if self.has_filter() {
            Hook::Filter
        } else {
            Hook::Transform
        };
        self.error(hook, event, Cause::Resting(until))
    }

    fn stopped(&self, hook: Hook, event: &Event, stopped: Stopped, instance: &Instance) -> PluginError {
        PluginError {
            output: instance.last_lines(),
            frames: stopped.frames,
            ..self.error(hook, event, stopped.cause)
        }
    }

    fn error(&self, hook: Hook, event: &Event, cause: Cause) -> PluginError {
        PluginError {
            plugin: Arc::clone(self.name()),
            version: self.descriptor.version.clone(),
            hook,
            event_id: event.id().into_owned(),
            event_type: event.ty().into_owned(),
            cause,
            output: Vec::new(),
            frames: Vec::new(),
            digest: Arc::clone(&self.digest),
            on_failure: self.settings().on_failure,
        }
    }
}

/// Whether `text` matches `glob`, in which `*` stands for any text.
pub(super) fn matches_glob(glob: &str, text: &str) -> bool {
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
