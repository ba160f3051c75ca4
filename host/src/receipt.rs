//! The receipt of one event: who holds it owes the source to settle the event or to give it back.
//!
//! Made by a source, carried through [`crate::dispatch`] and [`crate::delivery`]. For core NATS it is a place in memory
//! and no more; for a stream it is an entry of the [`Ledger`], and for the control plane's list of open events a mark in
//! [`OpenEvents`].

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::budget::Held;
use crate::delivery::{GivenUp, Key};
use crate::source::jetstream::Ledger;
use crate::source::remote::{EventKey, OpenEvents, SubscriptionKey, SubscriptionKeys};
use crate::subscription::Match;

/// The duty to settle one event. Dropped without that, the event goes back to where it came from, if that is possible.
#[derive(Debug)]
pub struct Receipt {
    origin: Origin,
    /// The event's place in memory, given back with the receipt.
    _held: Held,
    /// When the event came.
    received: Instant,
}

#[derive(Debug)]
enum Origin {
    /// Nobody else has a copy.
    Core,
    /// A stream keeps it until it is settled.
    Stream {
        ledger: Arc<Ledger>,
        sequence: u64,
        /// Short, because thousands of receipts may wait.
        n_deliveries: u32,
    },
    /// The control plane lists it until its task is done.
    Polled(Box<Polled>),
    /// Nothing is owed any more.
    Settled,
}

/// An open event of the control plane.
#[derive(Debug)]
pub(crate) struct Polled {
    /// Where it is remembered.
    pub(crate) open: Arc<OpenEvents>,
    /// What it was asked for as.
    pub(crate) topic: Arc<str>,
    /// Its place in the memory.
    pub(crate) event: EventKey,
    /// Whom it is owed to.
    pub(crate) subscriptions: SubscriptionKeys,
    /// What keeps it in order, as soon as it was its turn.
    pub(crate) key: Option<Key>,
}

/// What is known of a part of an event that was given back, so that it goes on where it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartProgress {
    /// Which part.
    pub part: u64,
    /// It was not known yet what there is to deliver; the rest is about the attempts to find out.
    pub is_unprepared: bool,
    /// Whether it is delivered or in the dead letters.
    pub is_settled: bool,
    /// Attempts so far.
    pub attempts: u32,
    /// The first one that reached the service.
    pub first_attempt: Option<(Instant, SystemTime)>,
    /// Not to be tried before.
    pub due: Option<Instant>,
    /// Why it is to be a dead letter, if it could not be stored as one.
    pub given_up: Option<Box<GivenUp>>,
}

impl Receipt {
    /// For an event of core NATS.
    pub fn core(held: Held) -> Self {
        Self {
            origin: Origin::Core,
            _held: held,
            received: Instant::now(),
        }
    }

    /// For an event of a stream, which gave it to us or others so many times.
    pub fn stream(held: Held, ledger: Arc<Ledger>, sequence: u64, n_deliveries: u64) -> Self {
        Self {
            origin: Origin::Stream {
                ledger,
                sequence,
                n_deliveries: u32::try_from(n_deliveries).unwrap_or(u32::MAX),
            },
            _held: held,
            received: Instant::now(),
        }
    }

    /// For an event that the control plane has listed.
    pub(crate) fn polled(held: Held, polled: Polled) -> Self {
        Self {
            origin: Origin::Polled(Box::new(polled)),
            _held: held,
            received: Instant::now(),
        }
    }

    /// When the event came.
    pub fn received(&self) -> Instant {
        self.received
    }

    /// Whether the source keeps a copy, so that giving the event back loses nothing.
    pub fn can_be_given_back(&self) -> bool {
        matches!(self.origin, Origin::Stream { .. } | Origin::Polled(_))
    }

    /// Leaves in `matches` those that have not got the event before; from now on it is owed to them only.
    pub fn claim(&mut self, matches: &mut Vec<Match>) {
        let Origin::Polled(polled) = &mut self.origin else {
            return;
        };
        let owed = std::mem::take(&mut polled.subscriptions);
        matches.retain(|found| {
            let key = SubscriptionKey::of(found);
            let is_owed = owed.contains(&key);
            if is_owed {
                polled.subscriptions.push(key);
            }
            is_owed
        });
    }

    /// Stream and sequence.
    pub fn stream_position(&self) -> Option<(&str, u64)> {
        match &self.origin {
            Origin::Stream { ledger, sequence, .. } => Some((ledger.stream(), *sequence)),
            _ => None,
        }
    }

    /// A name for one part of the event that is the same whenever the stream gives it, and different for every part.
    pub fn message_id(&self, subscription_id: &str, emission: u32) -> Option<String> {
        match &self.origin {
            Origin::Stream { ledger, sequence, .. } => {
                Some(format!("{}:{sequence}:{subscription_id}:{emission}", ledger.durable()))
            }
            _ => None,
        }
    }

    /// How many times the event was received, counted over all instances.
    pub fn n_deliveries(&self) -> u32 {
        match self.origin {
            Origin::Stream { n_deliveries, .. } => n_deliveries,
            _ => 1,
        }
    }

    /// Asks whether it is this event's turn among those of its key. Some: it is, and this is how far its parts were when
    /// it was given back the last time. None: an earlier event of the key is still with the stream, and this one has
    /// been given back as well.
    pub fn admit(&mut self, key: Key) -> Option<Vec<PartProgress>> {
        let admitted = match &mut self.origin {
            Origin::Stream { ledger, sequence, .. } => ledger.admit(*sequence, key),
            Origin::Polled(polled) => {
                polled.key = Some(key);
                polled.open.admit(&polled.topic, polled.event, key)
            }
            Origin::Core | Origin::Settled => Some(Vec::new()),
        };
        if admitted.is_none() {
            self.origin = Origin::Settled;
        }
        admitted
    }

    /// Everything that was to be done with the event is done.
    pub fn settle(mut self) {
        match std::mem::replace(&mut self.origin, Origin::Settled) {
            Origin::Stream { ledger, sequence, .. } => ledger.settle(sequence),
            Origin::Polled(polled) => {
                let Polled {
                    open,
                    topic,
                    event,
                    subscriptions,
                    ..
                } = *polled;
                open.settle(&topic, event, &subscriptions);
            }
            Origin::Core | Origin::Settled => {}
        }
    }

    /// Nobody wants the event now. Where it may be asked for again, somebody may want it then.
    pub fn unwanted(self) {
        if !matches!(self.origin, Origin::Polled(_)) {
            self.settle();
        }
    }

    /// The event is to come again after `pause`, and to go on from there.
    pub fn give_back(mut self, pause: Duration, progress: Vec<PartProgress>) {
        match std::mem::replace(&mut self.origin, Origin::Settled) {
            Origin::Stream { ledger, sequence, .. } => ledger.give_back(sequence, pause, progress),
            Origin::Polled(polled) => polled
                .open
                .give_back(&polled.topic, polled.event, polled.key, pause, progress),
            Origin::Core | Origin::Settled => {}
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        match &self.origin {
            Origin::Stream { ledger, sequence, .. } => ledger.give_back(*sequence, Duration::ZERO, Vec::new()),
            Origin::Polled(polled) => {
                polled
                    .open
                    .give_back(&polled.topic, polled.event, None, Duration::ZERO, Vec::new());
            }
            Origin::Core | Origin::Settled => {}
        }
    }
}
