//! What this instance knows of the events that are open at the control plane, which lists them again and again until
//! their task is done.
//!
//! An event is remembered for each subscription that has got it, or for which it is a dead letter, as long as it is
//! listed. Marked by [`super::intake`], settled or given back through [`crate::receipt::Receipt`] from wherever the event
//! ended. Numbers only: the events themselves stay at the control plane.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::delivery::Key;
use crate::receipt::PartProgress;
use crate::subscription::Match;

/// Events that are remembered. More are not taken, because what is not remembered would be delivered again and again.
pub(super) const MAX_EVENTS: usize = 100_000;
/// An event is forgotten when so many complete lists in a row lack it. One is not enough: the control plane counts the
/// pages of a list that changes meanwhile, and so skips events.
const KEPT_ROUNDS: u32 = 3;
/// So long after it was due, no newer event of its key waits for an event that was given back: it may not come again.
const AWAITED: Duration = Duration::from_mins(1);
/// A topic that is not asked for any more is forgotten after this. It may be wanted again soon.
const TOPIC_KEPT: Duration = Duration::from_hours(1);

/// Stands for the id of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EventKey(pub(super) u128);

/// Stands for a subscription, or for the topics of a distributor that is not registered. The same in every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SubscriptionKey(pub(super) u64);

/// The subscriptions of one event; most have one.
pub(crate) type SubscriptionKeys = SmallVec<[SubscriptionKey; 1]>;

/// The memory. Shared by the poller and the receipts of its events.
#[derive(Debug)]
pub struct OpenEvents {
    state: Mutex<State>,
    /// Counts what a restart would have to know.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    topics: HashMap<Arc<str>, Topic>,
    n_events: usize,
    /// Of each key the event that was given back last, which is the oldest: newer ones wait for it.
    away: HashMap<Key, Away>,
}

/// An event that was given back.
#[derive(Debug)]
struct Away {
    topic: Arc<str>,
    event: EventKey,
    due: Instant,
}

#[derive(Debug)]
struct Topic {
    events: HashMap<EventKey, Known>,
    /// Counts complete lists.
    round: u32,
    last_wanted: Instant,
}

/// One event.
#[derive(Debug, Default)]
struct Known {
    /// Those that nothing is owed to any more.
    settled: SubscriptionKeys,
    is_held: bool,
    /// Only for what has to wait, or to go on where it was.
    returned: Option<Box<Returned>>,
    /// The last list that had it.
    round: u32,
}

#[derive(Debug)]
struct Returned {
    due: Instant,
    progress: Vec<PartProgress>,
}

/// The settled events of each topic.
pub(super) type Settled = HashMap<Arc<str>, Vec<(EventKey, SubscriptionKeys)>>;

impl EventKey {
    pub(super) fn of(id: &[u8]) -> Self {
        let hash = Sha256::digest(id);
        let (first, _) = hash.split_first_chunk().expect("the hash has 32 bytes");
        Self(u128::from_be_bytes(*first))
    }
}

impl SubscriptionKey {
    /// Ids may be empty; those are told apart by what they ask for.
    pub(crate) fn of(found: &Match) -> Self {
        let Some(subscription) = found else {
            return Self(0);
        };
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update(text.len().to_be_bytes());
            hash.update(text);
        };
        add(&subscription.id);
        if subscription.id.is_empty() {
            add(subscription.event.as_str());
            for list in [&subscription.projects, &subscription.stages, &subscription.services] {
                add(&list.join(","));
            }
        }
        let hash = hash.finalize();
        let (first, _) = hash.split_first_chunk().expect("the hash has 32 bytes");
        Self(u64::from_be_bytes(*first))
    }
}

impl Default for OpenEvents {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl OpenEvents {
    /// Goes on with what an earlier process has settled.
    pub(super) fn restore(&self, settled: Settled) {
        let mut state = self.state();
        for (topic, events) in settled {
            let topic = state.topic(&topic);
            for (event, settled) in events {
                let round = topic.round;
                let known = topic.events.entry(event).or_default();
                (known.settled, known.round) = (settled, round);
            }
        }
        state.n_events = state.topics.values().map(|topic| topic.events.len()).sum();
    }

    /// Notes that an event is listed. Whether it may have to be taken.
    pub(super) fn is_owed(&self, topic: &Arc<str>, event: EventKey, wanted_by: &[SubscriptionKey]) -> bool {
        let mut state = self.state();
        let topic = state.topic(topic);
        topic.events.get_mut(&event).is_none_or(|known| {
            known.round = topic.round;
            wanted_by.iter().any(|key| !known.settled.contains(key)) && known.is_due(Instant::now())
        })
    }

    /// Takes an event on, and returns whom it is owed to. None: to nobody now, or memory is full.
    pub(super) fn take(
        &self,
        topic: &Arc<str>,
        event: EventKey,
        wanted_by: &[SubscriptionKey],
    ) -> Option<SubscriptionKeys> {
        let mut state = self.state();
        let is_full = state.n_events >= MAX_EVENTS;
        let topic = state.topic(topic);
        let is_new = !topic.events.contains_key(&event);
        if is_new && is_full {
            return None;
        }
        let round = topic.round;
        let known = topic.events.entry(event).or_default();
        known.round = round;
        let owed: SubscriptionKeys = wanted_by
            .iter()
            .filter(|key| !known.settled.contains(key))
            .copied()
            .collect();
        let is_taken = known.is_due(Instant::now()) && !owed.is_empty();
        known.is_held |= is_taken;
        state.n_events += usize::from(is_new);
        is_taken.then_some(owed)
    }

    /// Whether nothing new can be taken.
    pub(super) fn is_full(&self) -> bool {
        self.state().n_events >= MAX_EVENTS
    }

    /// Asks whether it is this event's turn among those of its key. Some: it is, and this is how far its parts were when
    /// it was given back. None: an older one of the key was given back, and now this one is, too.
    pub(crate) fn admit(&self, topic: &Arc<str>, event: EventKey, key: Key) -> Option<Vec<PartProgress>> {
        let mut state = self.state();
        if let Some(away) = state.away.get(&key) {
            let is_other = away.event != event && Instant::now() < away.due + AWAITED;
            let due = away.due;
            if is_other {
                state.wait(topic, event, due);
                return None;
            }
            state.away.remove(&key);
        }
        let known = state.known(topic, event);
        let returned = known.and_then(|known| known.returned.take());
        Some(returned.map_or_else(Vec::new, |returned| returned.progress))
    }

    /// Nothing is owed to these any more.
    pub(crate) fn settle(&self, topic: &Arc<str>, event: EventKey, subscriptions: &[SubscriptionKey]) {
        if let Some(known) = self.state().known(topic, event) {
            known.is_held = false;
            known.returned = None;
            let new = subscriptions.iter().filter(|key| !known.settled.contains(key));
            let new: SubscriptionKeys = new.copied().collect();
            known.settled.extend(new);
        }
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// The event is to be taken again when it is listed after `pause`, and to go on from there. `key`: its key, if it was
    /// its turn.
    pub(crate) fn give_back(
        &self,
        topic: &Arc<str>,
        event: EventKey,
        key: Option<Key>,
        pause: Duration,
        progress: Vec<PartProgress>,
    ) {
        let mut state = self.state();
        let due = Instant::now() + pause;
        let Some(known) = state.known(topic, event) else {
            return;
        };
        known.is_held = false;
        if pause.is_zero() && progress.is_empty() {
            if known.settled.is_empty() && known.returned.is_none() {
                state.forget(topic, event);
            }
            return;
        }
        known.returned = Some(Box::new(Returned { due, progress }));
        if let Some(key) = key {
            let topic = Arc::clone(topic);
            state.away.insert(key, Away { topic, event, due });
        }
    }

    /// A list of this topic is complete: what has been missing for a while is closed, and is forgotten.
    pub(super) fn end_round(&self, topic: &Arc<str>) {
        let mut state = self.state();
        let topic = state.topic(topic);
        topic.round = topic.round.wrapping_add(1);
        let (before, round) = (topic.events.len(), topic.round);
        topic
            .events
            .retain(|_, known| known.is_held || round.wrapping_sub(known.round) <= KEPT_ROUNDS);
        let n_forgotten = before - topic.events.len();
        state.n_events -= n_forgotten;
        if n_forgotten > 0 {
            state.forget_away();
        }
        drop(state);
        if n_forgotten > 0 {
            self.changes.send_modify(|changes| *changes += 1);
        }
    }

    /// Forgets topics that have not been asked for for long.
    pub(super) fn keep_topics<'a>(&self, wanted: impl Iterator<Item = &'a Arc<str>>) {
        let mut state = self.state();
        let now = Instant::now();
        for topic in wanted {
            state.topic(topic).last_wanted = now;
        }
        let is_kept = |topic: &Topic| {
            now.duration_since(topic.last_wanted) < TOPIC_KEPT || topic.events.values().any(|known| known.is_held)
        };
        state.topics.retain(|_, topic| is_kept(topic));
        state.forget_away();
        state.n_events = state.topics.values().map(|topic| topic.events.len()).sum();
    }

    /// Events in memory that are not settled.
    pub(super) fn n_held(&self) -> usize {
        let state = self.state();
        let events = state.topics.values().flat_map(|topic| topic.events.values());
        events.filter(|known| known.is_held).count()
    }

    /// What a restart has to know.
    pub(super) fn settled(&self) -> Settled {
        let state = self.state();
        let topics = state.topics.iter().map(|(name, topic)| {
            let settled = topic.events.iter().filter(|(_, known)| !known.settled.is_empty());
            let settled = settled.map(|(event, known)| (*event, known.settled.clone()));
            (Arc::clone(name), settled.collect())
        });
        topics.collect()
    }

    /// Counts changes of what [`Self::settled`] returns.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn topic(&mut self, name: &Arc<str>) -> &mut Topic {
        self.topics.entry(Arc::clone(name)).or_insert_with(|| Topic {
            events: HashMap::new(),
            round: 0,
            last_wanted: Instant::now(),
        })
    }

    fn known(&mut self, topic: &Arc<str>, event: EventKey) -> Option<&mut Known> {
        self.topics.get_mut(topic)?.events.get_mut(&event)
    }

    /// Lets an event wait that was taken already. What is known of its parts stays.
    fn wait(&mut self, topic: &Arc<str>, event: EventKey, due: Instant) {
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
    fn forget_away(&mut self) {
        let (topics, now) = (&self.topics, Instant::now());
        self.away.retain(|_, away| {
            let topic = topics.get(&away.topic);
            now < away.due + AWAITED && topic.is_some_and(|topic| topic.events.contains_key(&away.event))
        });
    }

    fn forget(&mut self, topic: &Arc<str>, event: EventKey) {
        let topic = self.topics.get_mut(topic);
        let forgotten = topic.and_then(|topic| topic.events.remove(&event));
        self.n_events -= usize::from(forgotten.is_some());
    }
}

impl Known {
    fn is_due(&self, now: Instant) -> bool {
        !self.is_held && self.returned.as_ref().is_none_or(|returned| returned.due <= now)
    }
}

#[cfg(test)]
mod tests;
