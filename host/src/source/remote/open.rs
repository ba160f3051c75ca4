//! What this instance knows of the events that are open at the control plane, which lists them again and again until
//! their task is done.
//!
//! An event is remembered for each subscription that has got it, or for which it is a dead letter, as long as it is
//! listed. Marked by [`super::intake`], settled or given back through [`crate::receipt::Receipt`] from wherever the event
//! ended. Numbers only: the events themselves stay at the control plane.

mod keys;
mod state;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use self::keys::{EventKey, SubscriptionKey, SubscriptionKeys};
use self::state::{AWAITED, Away, Returned, State, Topic};
use crate::delivery::Key;
use crate::receipt::PartProgress;

/// Events that are remembered. More are not taken, because what is not remembered would be delivered again and again.
pub(super) const MAX_EVENTS: usize = 100_000;
/// An event is forgotten when so many complete lists in a row lack it. One is not enough: the control plane counts the
/// pages of a list that changes meanwhile, and so skips events.
const KEPT_ROUNDS: u32 = 3;
/// A topic that is not asked for any more is forgotten after this. It may be wanted again soon.
const TOPIC_KEPT: Duration = Duration::from_hours(1);

/// The memory. Shared by the poller and the receipts of its events.
#[derive(Debug)]
pub struct OpenEvents {
    state: Mutex<State>,
    /// Counts what a restart would have to know.
    changes: watch::Sender<u64>,
}

/// The settled events of each topic.
pub(super) type Settled = HashMap<Arc<str>, Vec<(EventKey, SubscriptionKeys)>>;

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

#[cfg(test)]
mod tests;
