//! One event's way through the chain for one subscription: at once where that takes a moment, otherwise in its lane.
//!
//! Used by [`super::Dispatcher`]. A run that is not through when it is first asked goes on, where it stands, on the
//! thread for plugins; one that failed is made again from the start, with the chain of that moment.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use smallvec::SmallVec;
use tokio_util::sync::ReusableBoxFuture;

use super::Dispatcher;
use crate::dead_letter::Reason;
use crate::delivery::{GivenUp, Part, Preparation, Prepared};
use crate::event::Event;
use crate::metrics::Counters;
use crate::plugins::{Chain, Context, Direction, Fate, Passage, PluginError, Plugins};
use crate::recent_events::{EventNames, RecentEvents, StepKind};
use crate::subscription::Match;
use crate::trace::Span;

/// What goes through the chain.
#[derive(Debug)]
pub(super) struct Passing {
    pub(super) event: Event,
    pub(super) received_on: async_nats::Subject,
    pub(super) subscription: Match,
    pub(super) receipt: u32,
    pub(super) span: Option<Arc<Span>>,
}

/// How that ended.
#[derive(Debug)]
pub(super) struct Ended {
    passing: Passing,
    generation: u64,
    result: Result<Passage, Box<PluginError>>,
}

/// A run that has begun.
type Run = ReusableBoxFuture<'static, Ended>;

/// The place of the run that a reader is at: allocated once, and anew only after a run that went on elsewhere.
#[derive(Debug, Default)]
pub(super) struct Slot(Option<Run>);

/// What is not through yet.
#[derive(Debug)]
pub(super) enum Unfinished {
    NotStarted(Box<Passing>),
    Started(Run),
    Failed(Box<Ended>),
}

impl Slot {
    /// Starts a run, and says whether it is through at once: a guest that computes for longer than a tick of the clock is
    /// not, and neither is one that waits.
    pub(super) async fn start(&mut self, passing: Passing, chain: Arc<Chain>) -> Poll<Ended> {
        let run = run(passing, chain);
        let slot = match &mut self.0 {
            Some(slot) => {
                slot.set(run);
                slot
            }
            empty => empty.insert(Run::new(run)),
        };
        poll_fn(|context| Poll::Ready(slot.poll(context))).await
    }

    /// The run that is not through.
    pub(super) fn take(&mut self) -> Option<Run> {
        self.0.take()
    }
}

async fn run(passing: Passing, chain: Arc<Chain>) -> Ended {
    let context = Context {
        direction: Direction::Incoming,
        subscription: passing.subscription.as_deref(),
        received_on: &passing.received_on,
        receipt: passing.receipt,
        span: passing.span.as_deref(),
    };
    let result = chain.run(&passing.event, &context).await;
    Ended {
        passing,
        generation: chain.generation,
        result,
    }
}

impl Dispatcher {
    /// Adds what the chain let through to `parts`. Some: it did not work.
    pub(super) fn through(&self, ended: Ended, parts: &mut SmallVec<[Part; 1]>) -> Option<Unfinished> {
        match ended.result {
            Ok(passage) => {
                let noted = Noted {
                    counters: &self.counters,
                    recent: &self.recent,
                };
                add_parts(&ended.passing, passage, ended.generation, &noted, parts);
                None
            }
            Err(_) => Some(Unfinished::Failed(Box::new(ended))),
        }
    }

    /// A part that is to be prepared in its lane.
    pub(super) fn unprepared(&self, event: &Event, subscription: Match, unfinished: Unfinished) -> Part {
        let later = Later {
            unfinished,
            plugins: Arc::clone(&self.plugins),
            counters: Arc::clone(&self.counters),
            recent: Arc::clone(&self.recent),
        };
        Part::unprepared(event, subscription, Box::new(later))
    }
}

/// A run of the chain in the event's lane.
#[derive(Debug)]
struct Later {
    unfinished: Unfinished,
    plugins: Arc<Plugins>,
    counters: Arc<Counters>,
    recent: Arc<RecentEvents>,
}

/// Where it is noted that an event was dropped.
struct Noted<'a> {
    counters: &'a Counters,
    recent: &'a RecentEvents,
}

impl Preparation for Later {
    fn run(self: Box<Self>) -> Pin<Box<dyn Future<Output = Prepared> + Send>> {
        Box::pin(async move {
            let Self {
                unfinished,
                plugins,
                counters,
                recent,
            } = *self;
            let ended = match unfinished {
                Unfinished::NotStarted(passing) => {
                    let chain = arc_swap::Guard::into_inner(plugins.current());
                    plugins.guest_thread().run(run(*passing, chain)).await
                }
                Unfinished::Started(run) => plugins.guest_thread().run(run).await,
                Unfinished::Failed(ended) => *ended,
            };
            prepared(ended, plugins, counters, recent)
        })
    }
}

fn prepared(ended: Ended, plugins: Arc<Plugins>, counters: Arc<Counters>, recent: Arc<RecentEvents>) -> Prepared {
    let Ended {
        passing,
        generation,
        result,
    } = ended;
    let error = match result {
        Ok(passage) => {
            let mut parts = SmallVec::new();
            let noted = Noted {
                counters: &counters,
                recent: &recent,
            };
            add_parts(&passing, passage, generation, &noted, &mut parts);
            return Prepared::Parts(parts);
        }
        Err(error) => error,
    };
    let again = |counters| {
        Box::new(Later {
            unfinished: Unfinished::NotStarted(Box::new(passing)),
            plugins,
            counters,
            recent,
        })
    };
    if let Some(moment) = error.rests_until() {
        return Prepared::NotBefore(moment, again(counters));
    }
    counters.plugin_failures.increment();
    Prepared::Failed {
        error: GivenUp {
            reason: Reason::Plugin,
            status: None,
            error: error.to_string(),
            plugin: Some(error.plugin.to_string()),
        },
        generation,
        again: error
            .may_help_to_retry()
            .then(|| again(counters) as Box<dyn Preparation>),
    }
}

/// What there is to deliver of what the chain let through.
fn add_parts(passing: &Passing, passage: Passage, generation: u64, noted: &Noted<'_>, parts: &mut SmallVec<[Part; 1]>) {
    let Passing {
        event, subscription, ..
    } = passing;
    let Passage { fate, published } = passage;
    // Before the service gets the event: a `.started` that a plugin sends precedes what the service answers.
    for (number, published) in (1..).zip(published) {
        parts.push(Part::published(
            event,
            published,
            number,
            subscription.clone(),
            generation,
        ));
    }
    match fate {
        Fate::Unchanged => parts.push(Part::unchanged(event, subscription.clone(), generation)),
        Fate::Replaced(events) => {
            let original = (events.len() == 1).then_some(event);
            if original.is_none() {
                noted.counters.made.add(events.len().saturating_sub(1) as u64);
            }
            let made = (0..).zip(&events);
            parts.extend(made.map(|(number, event)| {
                Part::made_by_plugin(event, number, original, subscription.clone(), generation)
            }));
        }
        Fate::Dropped { by, reason } => {
            noted.counters.dropped.increment();
            noted.recent.dropped(StepKind::Dropped, || {
                let id = subscription.as_ref().map(|subscription| subscription.id.as_str());
                let what = format!("plugin {by} of generation {generation}: {reason}");
                (EventNames::of(event, id), what)
            });
            tracing::debug!(
                event_id = &*event.id(), event_type = &*event.ty(), plugin = %by, reason,
                generation, "dropped by a plugin"
            );
        }
    }
}
