//! The plugins in their order, and an event's way through them.

use std::sync::Arc;

use tokio::time::Instant;

use super::capture::{Capture, Trace};
use super::context::Context;
use super::convert::Lowered;
use super::error::PluginError;
use super::limits::{LimitReached, Made};
use super::plugin::{Outcome, Plugin, Verdict};
use super::publish::{Origin, Published};
use super::settings::OnFailure;
use super::shadow::{Did, Shadows};
use super::trial::{self, Slot, Trial};
use crate::event::Event;
use crate::trace::{Kind, Span};

/// Ordered plugins. Replaced as a whole, never changed: an event takes one chain at its start and finishes on it.
#[derive(Debug)]
pub struct Chain {
    /// Counts the chains of this process, from 1.
    pub generation: u64,
    /// In order of execution.
    pub plugins: Vec<Arc<Plugin>>,
    /// The same, with those that are tried out at the place where they are.
    slots: Vec<Slot>,
    /// Where there are any to be tried out.
    shadows: Option<Shadows>,
    capture: Arc<Capture>,
    #[cfg(test)]
    script: Option<Script>,
}

/// What came of an event's way through the plugins.
#[derive(Debug)]
pub struct Passage {
    /// What became of the event itself.
    pub fate: Fate,
    /// What plugins send to the control plane in answer to it. The event is not settled before this is stored.
    pub published: Vec<Published>,
}

/// What became of an event.
#[derive(Debug)]
pub enum Fate {
    /// It goes on as it came.
    Unchanged,
    /// These go on instead, in this order.
    Replaced(Vec<Event>),
    /// It ends here, on purpose.
    Dropped {
        /// The plugin that said so.
        by: Arc<str>,
        /// Why.
        reason: String,
    },
}

/// What a test has in the place of plugins.
#[cfg(test)]
pub(crate) struct Script(pub(crate) Box<Rehearsal>);

#[cfg(test)]
type Rehearsal = dyn Fn(&Event) -> futures_util::future::BoxFuture<'static, Result<(), Box<PluginError>>> + Send + Sync;

#[cfg(test)]
impl std::fmt::Debug for Script {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Script").finish_non_exhaustive()
    }
}

/// An event on its way.
struct Run<'a> {
    root: &'a Event,
    context: &'a Context<'a>,
    published: Vec<Published>,
    made_to_publish: Made,
    /// Where events are written down.
    trace: Option<Trace>,
}

impl Chain {
    /// A chain of these plugins, in this order. Nobody writes its events down.
    pub fn new(generation: u64, plugins: Vec<Arc<Plugin>>) -> Self {
        let slots = trial::places(&plugins);
        let candidates = slots.iter().flat_map(|slot| &slot.candidates);
        let shadows: Vec<_> = candidates.map(|candidate| Arc::clone(&candidate.shadow)).collect();
        Self {
            generation,
            plugins,
            slots,
            shadows: (!shadows.is_empty()).then(|| Shadows::start(shadows, generation)),
            capture: Arc::default(),
            #[cfg(test)]
            script: None,
        }
    }

    /// The same chain, of which `capture` writes events down.
    #[must_use]
    pub fn captured_by(mut self, capture: Arc<Capture>) -> Self {
        self.capture = capture;
        self
    }

    /// What writes events down.
    pub(super) fn capture(&self) -> &Arc<Capture> {
        &self.capture
    }

    /// A chain without plugins, but with a script that takes time or fails in their place.
    #[cfg(test)]
    pub(crate) fn scripted(script: Script) -> Self {
        let mut chain = Self::new(1, Vec::new());
        chain.script = Some(script);
        chain
    }

    /// What came of the plugins that are tried out.
    pub fn trials(&self) -> Vec<Trial> {
        let candidates = self.slots.iter().flat_map(|slot| &slot.candidates);
        candidates.map(trial::Candidate::report).collect()
    }

    /// Lets the plugins that are tried out look at what waits for them, for a moment, and then at nothing more. What came
    /// of it is logged.
    pub fn close_trials(&self) {
        if let Some(shadows) = &self.shadows {
            shadows.close();
        }
    }

    /// Does so, and waits until that is done.
    pub async fn end_trials(&self) {
        self.close_trials();
        if let Some(shadows) = &self.shadows {
            shadows.ended().await;
        }
    }

    /// Runs an event through the plugins.
    ///
    /// # Errors
    /// When a plugin could not do its work; the event has then not gone through, and nothing is to be published.
    pub async fn run(&self, event: &Event, context: &Context<'_>) -> Result<Passage, Box<PluginError>> {
        self.wait_for_rested(event, context)?;
        #[cfg(test)]
        if let Some(Script(script)) = &self.script {
            script(event).await?;
        }
        let mut run = Run {
            root: event,
            context,
            published: Vec::new(),
            made_to_publish: Made::default(),
            trace: self.capture.trace(event),
        };
        let fate = self.fate(&mut run).await;
        if let Some(trace) = run.trace {
            self.capture.keep(
                trace,
                event,
                context,
                self.generation,
                fate.as_ref().map_err(AsRef::as_ref),
            );
        }
        Ok(Passage {
            fate: fate?,
            published: run.published,
        })
    }

    async fn fate(&self, run: &mut Run<'_>) -> Result<Fate, Box<PluginError>> {
        // None: nothing has changed the event yet, and nothing is copied.
        let mut replaced: Option<Vec<Event>> = None;
        let mut root = Lowered::new(run.root);
        for slot in &self.slots {
            let Some(events) = replaced.take() else {
                match run.at(slot, &mut root, 0, None).await? {
                    Fate::Unchanged => {}
                    Fate::Replaced(events) => replaced = Some(events),
                    dropped @ Fate::Dropped { .. } => return Ok(dropped),
                }
                continue;
            };
            let mut next = Vec::with_capacity(events.len());
            let mut last_drop = None;
            let mut made = Made::default();
            for (position, part) in events.into_iter().enumerate() {
                match run
                    .at(slot, &mut Lowered::new(&part), position, Some(&mut made))
                    .await?
                {
                    Fate::Unchanged => next.push(part),
                    Fate::Replaced(parts) => next.extend(parts),
                    dropped @ Fate::Dropped { .. } => last_drop = Some(dropped),
                }
            }
            match last_drop {
                Some(dropped) if next.is_empty() => return Ok(dropped),
                _ => replaced = Some(next),
            }
        }
        Ok(replaced.map_or(Fate::Unchanged, Fate::Replaced))
    }

    /// Does not begin where the event would have to wait for a plugin further on: those before it would run twice.
    fn wait_for_rested(&self, event: &Event, context: &Context<'_>) -> Result<(), Box<PluginError>> {
        // Where a canary stands it is known only later who runs.
        let certain = self.slots.iter().filter(|slot| slot.candidates.is_empty());
        for plugin in certain.filter_map(|slot| slot.active.as_ref()) {
            if let Some(until) = plugin.health().rests_until()
                && plugin.settings().on_failure == OnFailure::RetryThenDeadLetter
                && plugin.directions().contains(&context.direction)
                && plugin.wants(event)
            {
                return Err(Box::new(plugin.resting(event, until)));
            }
        }
        Ok(())
    }
}

impl Run<'_> {
    /// Runs one event through what stands at one place. `position` is the event's among those that come there.
    /// What there will be behind it is counted in `made`.
    async fn at(
        &mut self,
        slot: &Slot,
        lowered: &mut Lowered<'_>,
        position: usize,
        made: Option<&mut Made>,
    ) -> Result<Fate, Box<PluginError>> {
        let event = lowered.event();
        let direction = self.context.direction;
        let enforced = slot.enforced(self.root, direction);
        let n_published = self.published.len();
        let fate = match enforced {
            Some(plugin) => self.pass(plugin, lowered, position).await,
            None => Ok(Fate::Unchanged),
        };
        if let (Some(plugin), Ok(fate), Some(made)) = (enforced, &fate, made) {
            let is_within_limits = made.add_all(fate, event);
            is_within_limits.map_err(|limit| plugin.made_too_much(self.root, limit))?;
        }
        if slot.candidates.is_empty() {
            return fate;
        }
        // A canary takes the place of the other, which is not run; whoever does not count is a shadow.
        let counts = |plugin: &Arc<Plugin>| enforced.is_some_and(|enforced| Arc::ptr_eq(enforced, plugin));
        for candidate in &slot.candidates {
            if candidate.runs(direction) && !counts(&candidate.plugin) {
                let did = fate.as_ref().ok();
                let did = did.map(|fate| Did::of(fate, &self.published[n_published..]));
                candidate.shadow.look_at(self.root, event, position, self.context, did);
            }
        }
        fate
    }

    /// Runs one event through one plugin, and does as the plugin's settings say when it fails. `position` is the event's
    /// among those that the plugin gets.
    async fn pass(
        &mut self,
        plugin: &Plugin,
        lowered: &mut Lowered<'_>,
        position: usize,
    ) -> Result<Fate, Box<PluginError>> {
        let event = lowered.event();
        if !plugin.wants(event) {
            return Ok(Fate::Unchanged);
        }
        let health = plugin.health();
        let error = match health.admit() {
            Ok(probe) => match self.traced(plugin, lowered, position).await {
                Ok(fate) => {
                    if matches!(fate, Fate::Dropped { .. }) {
                        plugin.usage().dropped.increment();
                    }
                    health.worked(plugin.name(), probe);
                    return Ok(fate);
                }
                Err(error) => {
                    plugin.usage().failed(&error.cause);
                    health.failed(&error, probe);
                    error
                }
            },
            Err(until) => plugin.resting(event, until),
        };
        match error.on_failure {
            OnFailure::RetryThenDeadLetter | OnFailure::DeadLetter => Err(Box::new(error)),
            OnFailure::Pass => {
                health.noted(&error);
                Ok(Fate::Unchanged)
            }
            OnFailure::Drop => {
                health.noted(&error);
                Ok(Fate::Dropped {
                    by: Arc::clone(plugin.name()),
                    reason: error.cause.to_string(),
                })
            }
        }
    }

    /// Calls the plugin, and writes down what it says where that is wanted.
    async fn traced(
        &mut self,
        plugin: &Plugin,
        lowered: &mut Lowered<'_>,
        position: usize,
    ) -> Result<Fate, PluginError> {
        let name = || format!("plugin {}", plugin.name());
        let span = self.context.span.and_then(|span| span.child(Kind::Internal, name));
        if self.trace.is_none() && span.is_none() {
            return self.call(plugin, lowered, position).await;
        }
        let (start, n_published) = (Instant::now(), self.published.len());
        let fate = self.call(plugin, lowered, position).await;
        if let Some(span) = span {
            end(span, plugin, &fate);
        }
        if let Some(trace) = &mut self.trace {
            trace.step(
                plugin,
                lowered.event(),
                start.elapsed(),
                &fate,
                &self.published[n_published..],
            );
        }
        fate
    }

    /// Calls the hooks of one plugin: the filter first.
    async fn call(&mut self, plugin: &Plugin, lowered: &mut Lowered<'_>, position: usize) -> Result<Fate, PluginError> {
        if plugin.has_filter()
            && let Verdict::Drop(reason) = plugin.evaluate(lowered, self.context).await?
        {
            let by = Arc::clone(plugin.name());
            return Ok(Fate::Dropped { by, reason });
        }
        if !plugin.has_transform() {
            return Ok(Fate::Unchanged);
        }
        let origin = Origin {
            root: self.root,
            subscription: self.context.subscription,
            position,
        };
        Ok(match plugin.apply(lowered, self.context, &origin).await? {
            Outcome::Keep => Fate::Unchanged,
            Outcome::Replace { forwarded, published } => {
                let has_published = !published.is_empty();
                for one in &published {
                    let is_within_limits = self.made_to_publish.add(one.event.bytes().len());
                    is_within_limits.map_err(|limit| plugin.made_too_much(lowered.event(), limit))?;
                }
                self.published.extend(published);
                if !forwarded.is_empty() {
                    return Ok(Fate::Replaced(forwarded));
                }
                let reason = if has_published {
                    "answered to the control plane"
                } else {
                    "answered with no event"
                };
                Fate::Dropped {
                    by: Arc::clone(plugin.name()),
                    reason: reason.to_owned(),
                }
            }
        })
    }
}

/// Ends the step of one call with what came of it.
fn end(mut span: Span, plugin: &Plugin, fate: &Result<Fate, PluginError>) {
    span.set("plugin", &**plugin.name());
    match fate {
        Ok(Fate::Unchanged) => span.set("outcome", "unchanged"),
        Ok(Fate::Replaced(_)) => span.set("outcome", "changed"),
        Ok(Fate::Dropped { reason, .. }) => {
            span.set("outcome", "dropped");
            span.set("reason", reason.as_str());
        }
        Err(error) => span.fail_with(error),
    }
}

impl Made {
    /// Counts what there is of an event behind a plugin.
    fn add_all(&mut self, fate: &Fate, event: &Event) -> Result<(), LimitReached> {
        match fate {
            Fate::Unchanged => self.add(event.bytes().len()),
            Fate::Replaced(events) => events.iter().try_for_each(|event| self.add(event.bytes().len())),
            Fate::Dropped { .. } => Ok(()),
        }
    }
}
