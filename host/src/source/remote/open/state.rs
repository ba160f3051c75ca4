//! What is remembered, and how it is looked up.
//!
//! Kept by [`super::OpenEvents`] under its lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::keys::{EventKey, SubscriptionKeys};
use crate::delivery::Key;
use crate::receipt::PartProgress;

/// So long after it was due, no newer event of its key waits for an event that was given back: it may not come again.
pub(super) const AWAITED: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) topics: HashMap<Arc<str>, Topic>,
    pub(super) n_events: usize,
    /// Of each key the event that was given back last, which is the oldest: newer ones wait for it.
    pub(super) away: HashMap<Key, Away>,
}

/// An event that was given back.
#[derive(Debug)]
pub(super) struct Away {
    pub(super) topic: Arc<str>,
    pub(super) event: EventKey,
    pub(super) due: Instant,
}

#[derive(Debug)]
pub(super) struct Topic {
    pub(super) events: HashMap<EventKey, Known>,
    /// Counts complete lists.
    pub(super) round: u32,
    pub(super) last_wanted: Instant,
}

/// One event.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Those that nothing is owed to any more.
    pub(super) settled: SubscriptionKeys,
    pub(super) is_held: bool,
    /// Only for what has to wait, or to go on where it was.
    pub(super) returned: Option<Box<Returned>>,
    /// The last list that had it.
    pub(super) round: u32,
}

#[derive(Debug)]
pub(super) struct Returned {
    pub(super) due: Instant,
    pub(super) progress: Vec<PartProgress>,
}

impl State {
    pub(super) fn topic(&mut self, name: &Arc<str>) -> &mut Topic {
        self.topics.entry(Arc::clone(name)).or_insert_with(|| Topic {
            events: HashMap::new(),
            round: 0,
            last_wanted: Instant::now(),
        })
    }

    pub(super) fn known(&mut self, topic: &Arc<str>, event: EventKey) -> Option<&mut Known> {
        self.topics.get_mut(topic)?.events.get_mut(&event)
    }

    /// Lets an event wait that was taken already. What is known of its parts stays.
    pub(super) fn wait(&mut self, topic: &Arc<str>, event: EventKey, due: Instant) {
        let Some(known) = self.known(topic, event) else {
            return;
        };
        known.is_held = false;
        let progress = known
            .returned
            .take()
            .map_or_else(Vec::new, |returned| returned.progress);
        known.returned = Some(Box::new(Returned { due, progress }));
    }

    /// Forgets events that nobody has to wait for any more.
    pub(super) fn forget_away(&mut self) {
        let (topics, now) = (&self.topics, Instant::now());
        self.away.retain(|_, away| {
            let topic = topics.get(&away.topic);
            now < away.due + AWAITED && topic.is_some_and(|topic| topic.events.contains_key(&away.event))
        });
    }

    pub(super) fn forget(&mut self, topic: &Arc<str>, event: EventKey) {
        let topic = self.topics.get_mut(topic);
        let forgotten = topic.and_then(|topic| topic.events.remove(&event));
        self.n_events -= usize::from(forgotten.is_some());
    }
}

impl Known {
    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.is_held && self.returned.as_ref().is_none_or(|returned| returned.due <= now)
    }
}
