//! The events that went back to the stream and have not come again, and where they stand among those of their key.
//!
//! Owned by the [`super::Ledger`]. Here are numbers only: what was read of an event is forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use async_nats::Subject;
use tokio::time::Instant;

use crate::delivery::Key;
use crate::receipt::PartProgress;

/// An event that should have come again by then went to another replica.
const OVERDUE: Duration = Duration::from_secs(2);
/// What another replica settled is forgotten after this, even if its key never comes again.
const FORGET_AFTER: Duration = Duration::from_mins(5);

/// One of them.
#[derive(Debug)]
pub(super) struct Returned {
    pub(super) reply: Subject,
    pub(super) key: Option<Key>,
    /// When it should come again.
    pub(super) due: Instant,
    /// Whether the server knows.
    pub(super) is_told: bool,
    pub(super) progress: Vec<PartProgress>,
}

/// All of them, by their sequence in the stream.
#[derive(Debug, Default)]
pub(super) struct ReturnedEvents {
    events: BTreeMap<u64, Returned>,
    /// The sequences of those that have a key.
    of_key: HashMap<Key, BTreeSet<u64>>,
    /// When the server had last handed out everything that was to come again by then.
    caught_up: Option<Instant>,
}

impl ReturnedEvents {
    pub(super) fn insert(&mut self, sequence: u64, returned: Returned) {
        if let Some(key) = returned.key {
            self.of_key.entry(key).or_default().insert(sequence);
        }
        self.events.insert(sequence, returned);
    }

    pub(super) fn take(&mut self, sequence: u64) -> Option<Returned> {
        let returned = self.events.remove(&sequence)?;
        if let Some(key) = returned.key
            && let Some(sequences) = self.of_key.get_mut(&key)
        {
            sequences.remove(&sequence);
            if sequences.is_empty() {
                self.of_key.remove(&key);
            }
        }
        Some(returned)
    }

    pub(super) fn get_mut(&mut self, sequence: u64) -> Option<&mut Returned> {
        self.events.get_mut(&sequence)
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn lowest(&self) -> Option<u64> {
        self.events.keys().next().copied()
    }

    /// The sequences of the first `n` events of a key.
    pub(super) fn first_of_key(&self, key: Key, n: usize) -> Vec<u64> {
        let sequences = self.of_key.get(&key).into_iter().flatten();
        sequences.take(n).copied().collect()
    }

    pub(super) fn has(&self, key: Key) -> bool {
        self.of_key.contains_key(&key)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u64, &mut Returned)> {
        self.events.iter_mut().map(|(&sequence, returned)| (sequence, returned))
    }

    /// What was to come again by now has come, here or elsewhere.
    pub(super) fn catch_up(&mut self) {
        self.caught_up = Some(Instant::now());
    }

    /// Whether no earlier event of the key is with the stream. What should have come long ago counts no more: another
    /// replica has it.
    pub(super) fn is_turn(&mut self, sequence: u64, key: Key) -> bool {
        loop {
            let Some(&lowest) = self.of_key.get(&key).and_then(BTreeSet::first) else {
                return true;
            };
            if lowest >= sequence {
                return true;
            }
            let returned = self.events.get(&lowest);
            if returned.is_some_and(|returned| !self.is_elsewhere(returned, OVERDUE)) {
                return false;
            }
            self.take(lowest);
        }
    }

    pub(super) fn forget_elsewhere(&mut self) {
        let elsewhere = self.events.iter();
        let elsewhere = elsewhere.filter(|(_, returned)| self.is_elsewhere(returned, FORGET_AFTER));
        let elsewhere: Vec<_> = elsewhere.map(|(&sequence, _)| sequence).collect();
        for sequence in elsewhere {
            self.take(sequence);
        }
    }

    /// Whether the server has handed out what should have come again, but not to us, and so long ago.
    fn is_elsewhere(&self, returned: &Returned, long_ago: Duration) -> bool {
        self.caught_up.is_some_and(|at| at >= returned.due + long_ago)
    }
}
