//! The story of one received event: is it one, who wants it, what do the plugins say, and off to delivery.
//!
//! Called by a source for each event, in the order they were received. It does not know how events arrive.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;
use uuid::Uuid;

use crate::budget::Held;
use crate::delivery::{Deliveries, Delivery};
use crate::event::{Event, Malformed};
use crate::plugins::{Context, Direction, Passage, Plugins};
use crate::subscription::{Interest, Match};
use crate::telemetry::Counters;

/// An event as a source got it.
#[derive(Debug)]
pub struct Received {
    /// The subject it came on.
    pub subject: async_nats::Subject,
    /// The event in JSON format.
    pub payload: Bytes,
    /// Its place in memory.
    pub held: Held,
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
    /// What is counted.
    pub counters: Arc<Counters>,
}

impl Dispatcher {
    /// Runs one event up to the point where its deliveries are queued.
    ///
    /// Plugins run here, in the task that reads, and not in the tasks that deliver: what they drop is never handed
    /// over, which halves the cost of a dropped event.
    pub async fn dispatch(&self, received: Received, matches: &mut Vec<Match>) {
        let Received { subject, payload, held } = received;
        let event = match parse(&payload) {
            Ok(event) => event,
            Err(error) => {
                self.counters.malformed.increment();
                tracing::warn!(subject = subject.as_str(), %error, "received something that is no event; dropped");
                return;
            }
        };
        self.interest.borrow().matches(&subject, matches);
        if matches.is_empty() {
            self.counters.unmatched.increment();
            tracing::debug!(
                event_id = &*event.id(),
                subject = subject.as_str(),
                "nobody wants this event; dropped"
            );
            return;
        }
        let key = self.deliveries.key(&event);
        // One chain for all of it, whatever is swapped meanwhile.
        let chain = arc_swap::Guard::into_inner(self.plugins.current());
        for subscription in matches.drain(..) {
            let context = Context {
                direction: Direction::Incoming,
                subscription: subscription.as_deref(),
                received_on: &subject,
                receipt: 1,
            };
            let passage = match chain.run(&event, &context).await {
                Ok(passage) => passage,
                Err(error) => {
                    self.counters.plugin_failures.increment();
                    tracing::error!(
                        event_id = &*event.id(), event_type = &*event.ty(), plugin = %error.plugin, %error,
                        generation = chain.generation, "a plugin failed; the event is not delivered"
                    );
                    continue;
                }
            };
            let deliver = |event: &Event| {
                let delivery = Delivery::new(event, subscription.clone(), held.another(), chain.generation);
                self.deliveries.push(key, delivery);
            };
            match passage {
                Passage::Unchanged => deliver(&event),
                Passage::Replaced(events) => events.iter().for_each(deliver),
                Passage::Dropped { by, reason } => {
                    self.counters.dropped.increment();
                    tracing::debug!(
                        event_id = &*event.id(), event_type = &*event.ty(), plugin = %by, reason,
                        generation = chain.generation, "dropped by a plugin"
                    );
                }
            }
        }
    }
}

/// Takes the bytes as an event. One without an id gets one that is the same whenever the same bytes come.
fn parse(payload: &Bytes) -> Result<Event, Malformed> {
    match Event::parse(payload.clone()) {
        Err(Malformed::Missing("id")) => {
            let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, payload).to_string();
            tracing::info!(event_id = id, "received an event without an id; it is given this one");
            Event::parse_with_id(payload, &id)
        }
        result => result,
    }
}
