//! The story of one received event: is it one, who wants it, what do the plugins say, and off to delivery.
//!
//! Called by a source for each event, in the order they were received. It does not know how events arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use smallvec::{SmallVec, smallvec};
use tokio::sync::watch;
use uuid::Uuid;

use crate::dedupe::{Dedupe, Sight};
use crate::delivery::{Deliveries, Delivery, Part};
use crate::event::{Event, Malformed};
use crate::plugins::{Chain, Context, Direction, Fate, Passage, Plugins};
use crate::receipt::Receipt;
use crate::subscription::{Interest, Match};
use crate::telemetry::Counters;

/// The copy of an event that is being delivered is looked at again after this.
const UNDER_WAY_PAUSE: Duration = Duration::from_secs(2);

/// An event as a source got it.
#[derive(Debug)]
pub struct Received {
    /// The subject it came on.
    pub subject: async_nats::Subject,
    /// The event in JSON format, or why it cannot be put into it.
    pub payload: Result<Bytes, Box<(Bytes, Malformed)>>,
    /// What is owed to the source.
    pub receipt: Receipt,
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
}

impl Dispatcher {
    /// Runs one event up to the point where its delivery is queued.
    ///
    /// Plugins run here, in the task that reads, and not in the tasks that deliver: what they drop is never handed
    /// over, which halves the cost of a dropped event.
    pub async fn dispatch(&self, received: Received, matches: &mut Vec<Match>) {
        let Received {
            subject,
            payload,
            mut receipt,
        } = received;
        let parsed = payload.and_then(|payload| parse(&payload, &receipt).map_err(|error| Box::new((payload, error))));
        let event = match parsed {
            Ok(event) => event,
            Err(malformed) => {
                let (payload, error) = *malformed;
                let part = Part::malformed(payload, error.to_string());
                let delivery = Delivery::new(receipt, smallvec![part], 0, &subject, &[]);
                self.deliveries.push(self.deliveries.unordered_key(), delivery);
                return;
            }
        };
        self.interest.borrow().matches(&subject, matches);
        receipt.claim(matches);
        if matches.is_empty() {
            self.counters.unmatched.increment();
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
                    tracing::debug!(event_id = &*event.id(), "came already; dropped");
                    continue;
                }
            };
            let before = parts.len();
            self.pass(&chain, &event, &subject, &subscription, &receipt, &mut parts)
                .await;
            // The one copy that counts is known by its first part.
            if let Some(part) = parts.get_mut(before) {
                part.remember(seen);
            }
        }
        if parts.is_empty() {
            receipt.settle();
            return;
        }
        let delivery = Delivery::new(receipt, parts, chain.generation, &subject, &progress);
        self.deliveries.push(key, delivery);
    }

    /// Whether the event came before, on another way; none where that cannot be.
    fn see(&self, event: &Event, subscription: &Match, receipt: &Receipt) -> Option<Sight> {
        // Without registration the original delivered whatever came, as often as it came.
        let is_core = !receipt.can_be_given_back();
        let may_come_twice = (is_core && subscription.is_some()) || self.comes_twice.load(Ordering::Acquire);
        may_come_twice.then(|| self.dedupe.see(event, subscription.as_deref()))
    }

    /// Runs the chain for one subscription, and adds what it lets through to `parts`.
    async fn pass(
        &self,
        chain: &Chain,
        event: &Event,
        subject: &str,
        subscription: &Match,
        receipt: &Receipt,
        parts: &mut SmallVec<[Part; 1]>,
    ) {
        let context = Context {
            direction: Direction::Incoming,
            subscription: subscription.as_deref(),
            received_on: subject,
            receipt: receipt.n_deliveries(),
        };
        let Passage { fate, published } = match chain.run(event, &context).await {
            Ok(passage) => passage,
            Err(error) => {
                self.counters.plugin_failures.increment();
                parts.push(Part::failed(
                    event,
                    subscription.clone(),
                    &error.plugin,
                    error.to_string(),
                ));
                return;
            }
        };
        // Before the service gets the event: a `.started` that a plugin sends precedes what the service answers.
        for (number, published) in (1..).zip(published) {
            parts.push(Part::published(event, published, number, subscription.clone()));
        }
        match fate {
            Fate::Unchanged => parts.push(Part::unchanged(event, subscription.clone())),
            Fate::Replaced(events) => {
                let original = (events.len() == 1).then_some(event);
                let made = (0..).zip(&events);
                parts.extend(
                    made.map(|(number, event)| Part::made_by_plugin(event, number, original, subscription.clone())),
                );
            }
            Fate::Dropped { by, reason } => {
                self.counters.dropped.increment();
                tracing::debug!(
                    event_id = &*event.id(), event_type = &*event.ty(), plugin = %by, reason,
                    generation = chain.generation, "dropped by a plugin"
                );
            }
        }
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
