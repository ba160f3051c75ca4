//! The receipt of one event: who holds it owes the source to settle the event or to give it back.
//!
//! Made by a source, carried through [`crate::dispatch`] and [`crate::delivery`]. For core NATS it is a place in memory
//! and no more; for a stream it is an entry of the [`Ledger`].

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::budget::Held;
use crate::delivery::{GivenUp, Key};
use crate::source::jetstream::Ledger;

/// The duty to settle one event. Dropped without that, the event goes back to where it came from, if that is possible.
#[derive(Debug)]
pub struct Receipt {
    origin: Origin,
    /// The event's place in memory, given back with the receipt.
    _held: Held,
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
    /// Nothing is owed any more.
    Settled,
}

/// What is known of a part of an event that was given back, so that it goes on where it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartProgress {
    /// Which part.
    pub part: u64,
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
        }
    }

    /// Whether the source keeps a copy, so that giving the event back loses nothing.
    pub fn can_be_given_back(&self) -> bool {
        matches!(self.origin, Origin::Stream { .. })
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
        let Origin::Stream { ledger, sequence, .. } = &self.origin else {
            return Some(Vec::new());
        };
        let admitted = ledger.admit(*sequence, key);
        if admitted.is_none() {
            self.origin = Origin::Settled;
        }
        admitted
    }

    /// Everything that was to be done with the event is done.
    pub fn settle(mut self) {
        if let Origin::Stream { ledger, sequence, .. } = std::mem::replace(&mut self.origin, Origin::Settled) {
            ledger.settle(sequence);
        }
    }

    /// The event is to come again after `pause`, and to go on from there.
    pub fn give_back(mut self, pause: Duration, progress: Vec<PartProgress>) {
        if let Origin::Stream { ledger, sequence, .. } = std::mem::replace(&mut self.origin, Origin::Settled) {
            ledger.give_back(sequence, pause, progress);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Origin::Stream { ledger, sequence, .. } = &self.origin {
            ledger.give_back(*sequence, Duration::ZERO, Vec::new());
        }
    }
}
