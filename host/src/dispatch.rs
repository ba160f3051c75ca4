//! The story of one received event: is it one, who wants it, what do the plugins say, and off to delivery.
//!
//! Called by a source for each event, in the order they were received. It does not know how events arrive.
//!
//! The chain runs here, in the task that reads, because most events are dropped or kept within microseconds. One that is
//! not through at once goes to its lane as it is, and the rest is done there (`passage`).

mod passage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};
use tokio::sync::watch;
use uuid::Uuid;

use self::passage::{Passing, Unfinished};
use crate::dedupe::{Dedupe, Sight};
use crate::delivery::{Deliveries, Delivery, Part};
use crate::event::{Event, Malformed};
use crate::metrics::Counters;
use crate::plugins::Plugins;
use crate::receipt::Receipt;
use crate::recent_events::{EventNames, RecentEvents, StepKind};
use crate::source::Overview;
use crate::subscription::{Interest, Match};
use crate::trace::{Kind, Span, TraceContext, Tracer};

/// The copy of an event that is being delivered is looked at again after this.
const UNDER_WAY_PAUSE: Duration = Duration::from_secs(2);

/// An event as a source got it.
#[derive(Debug)]
pub struct Received {
    /// The subject it came on.
    pub subject: async_nats::Subject,
    /// The event in JSON format, or why it cannot be put into it.
    pub payload: Result<Bytes, Box<(Bytes, Malformed)>>,
    /// The trace that the message belongs to, where it is not the event that says so.
    pub trace: Option<Box<TraceContext>>,
    /// What is owed to the source.
    pub receipt: Receipt,
}

/// What a reader uses again for each event, so that nothing has to be allocated.
#[derive(Debug, Default)]
pub struct Workspace {
    matches: Vec<Match>,
    run: passage::Slot,
}

/// Takes received events through matching and plugins to delivery.
#[derive(Debug)]
pub struct Dispatcher {
    /// What is wanted.
    pub interest: watch::Receiver<Arc<Interest>>,
    /// What may drop or change an event.
    pub plugins: Arc<Plugins>,
    /// Where it goes.
    pub deliveries: Arc<Deliveries>,
    /// What came already.
    pub dedupe: Arc<Dedupe>,
    /// Set while events may come over core NATS and from a stream.
    pub comes_twice: Arc<AtomicBool>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// What is shown.
    pub recent: Arc<RecentEvents>,
    /// Where sources enter what they do.
    pub overview: Arc<Overview>,
    /// Where somebody collects spans.
    pub tracer: Option<Arc<Tracer>>,
}

impl Dispatcher {
    /// Runs one event up to the point where its delivery is queued.
    ///
    /// Plugins run here, in the task that reads, and not in the tasks that deliver: what they drop is never handed
    /// over, which halves the cost of a dropped event. One that takes longer than a moment goes on elsewhere, and so do
    /// later events of its key.
    pub async fn dispatch(&self, received: Received, workspace: &mut Workspace) {
        let Workspace { matches, run } = workspace;
        let Received {
            subject,
            payload,
            trace,
            mut receipt,
        } = received;
        let parsed = payload.and_then(|payload| parse(&payload, &receipt).map_err(|error| Box::new((payload, error))));
        let event = match parsed {
            Ok(event) => event,
            Err(malformed) => {
                let (payload, error) = *malformed;
                let part = Part::malformed(payload, error.to_string());
                let delivery = Delivery::new(receipt, smallvec![part], &subject, &[]);
                self.deliveries.push(self.deliveries.unordered_key(), delivery);
                return;
            }
        };
        self.interest.borrow().matches(&subject, matches);
        receipt.claim(matches);
        if matches.is_empty() {
            self.counters.unmatched.increment();
            self.recent.dropped(StepKind::Unmatched, || {
                let what = format!("no subscription matches {subject}");
                (EventNames::of(&event, None), what)
            });
            tracing::debug!(
                event_id = &*event.id(),
                subject = subject.as_str(),
                "nobody wants this event; dropped"
            );
            receipt.unwanted();
            return;
        }
        let key = self.deliveries.key(&event);
        let Some(progress) = receipt.admit(key) else {
            return;
        };
        if matches.len() > 1 {
            self.counters.fanned_out.add(matches.len() as u64 - 1);
        }
        let mut is_later = self.deliveries.has_unprepared(key) || progress.iter().any(|part| part.is_unprepared);
        let span = self.span(&event, &subject, trace);
        // One chain for all of it, whatever is swapped meanwhile.
        let chain = arc_swap::Guard::into_inner(self.plugins.current());
        let mut parts = SmallVec::new();
        for subscription in matches.drain(..) {
            let seen = match self.see(&event, &subscription, &receipt) {
                None => None,
                Some(Sight::First(seen)) => Some(seen),
                // The copy under way may still fail, and in the end this one is the only one that lasts.
                Some(Sight::UnderWay) if receipt.can_be_given_back() => {
                    receipt.give_back(UNDER_WAY_PAUSE, Vec::new());
                    return;
                }
                Some(Sight::UnderWay | Sight::Delivered) => {
                    self.counters.duplicates.increment();
                    self.recent.dropped(StepKind::Duplicate, || {
                        let id = subscription.as_ref().map(|subscription| subscription.id.as_str());
                        (EventNames::of(&event, id), "came before on another way".to_owned())
                    });
                    tracing::debug!(event_id = &*event.id(), "came already; dropped");
                    continue;
                }
            };
            let before = parts.len();
            let passing = Passing {
                event: event.clone(),
                received_on: subject.clone(),
                subscription: subscription.clone(),
                receipt: receipt.n_deliveries(),
                span: span.clone(),
            };
            let unfinished = if is_later {
                Some(Unfinished::NotStarted(Box::new(passing)))
            } else {
                match run.start(passing, Arc::clone(&chain)).await {
                    Poll::Ready(ended) => self.through(ended, &mut parts),
                    Poll::Pending => {
                        is_later = true;
                        run.take().map(Unfinished::Started)
                    }
                }
            };
            if let Some(unfinished) = unfinished {
                parts.push(self.unprepared(&event, subscription, unfinished));
            }
            // The one copy that counts is known by its first part.
            if let Some(part) = parts.get_mut(before) {
                part.remember(seen);
            }
        }
        if parts.is_empty() {
            receipt.settle();
            return;
        }
        let delivery = Delivery::new(receipt, parts, &subject, &progress).traced(span);
        self.deliveries.push(key, delivery);
    }

    /// The step that lasts as long as the event is here. Its message says where it comes from; the event, where it began.
    fn span(&self, event: &Event, subject: &str, message: Option<Box<TraceContext>>) -> Option<Arc<Span>> {
        let parent = message
            .map(|context| *context)
            .or_else(|| TraceContext::of_event(event));
        let mut span = Span::start(self.tracer.as_ref(), parent, Kind::Consumer, || {
            format!("process {}", event.ty())
        })?;
        span.describe(|| {
            [
                ("messaging.operation.type", "process".into()),
                ("messaging.destination.name", subject.into()),
                ("messaging.message.id", (&*event.id()).into()),
                ("cloudevents.event_type", (&*event.ty()).into()),
                ("cloudevents.event_source", (&*event.source()).into()),
                ("keptn_context", (&*event.keptn_context().unwrap_or_default()).into()),
            ]
        });
        Some(Arc::new(span))
    }

    /// Whether the event came before, on another way; none where that cannot be.
    fn see(&self, event: &Event, subscription: &Match, receipt: &Receipt) -> Option<Sight> {
        // Without registration the original delivered whatever came, as often as it came.
        let is_core = !receipt.can_be_given_back();
        let may_come_twice = (is_core && subscription.is_some()) || self.comes_twice.load(Ordering::Acquire);
        may_come_twice.then(|| self.dedupe.see(event, subscription.as_deref()))
    }
}

/// Takes the bytes as an event. One without an id gets one that is the same whenever the same event comes: in a stream
/// its place says which one it is, otherwise its bytes do.
fn parse(payload: &Bytes, receipt: &Receipt) -> Result<Event, Malformed> {
    match Event::parse(payload.clone()) {
        Err(Malformed::Missing("id")) => {
            let id = match receipt.stream_position() {
                Some((stream, sequence)) => {
                    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{stream}:{sequence}").as_bytes())
                }
                None => Uuid::new_v5(&Uuid::NAMESPACE_OID, payload),
            };
            let id = id.to_string();
            tracing::info!(event_id = id, "received an event without an id; it is given this one");
            Event::parse_with_id(payload, &id)
        }
        result => result,
    }
}
