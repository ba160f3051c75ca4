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

use crate::receipt::PartProgress;
use crate::subscription::Match;

/// Events that are remembered. More are not taken, because what is not remembered would be delivered again and again.
pub(super) const MAX_EVENTS: usize = 100_000;
/// An event is forgotten when so many complete lists in a row lack it. One is not enough: the control plane counts the
/// pages of a list that changes meanwhile, and so skips events.
const KEPT_ROUNDS: u32 = 3;
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

    /// How far the parts of an event were when it was given back.
    pub(crate) fn progress(&self, topic: &Arc<str>, event: EventKey) -> Vec<PartProgress> {
        let mut state = self.state();
        let known = state.known(topic, event);
        let returned = known.and_then(|known| known.returned.take());
        returned.map_or_else(Vec::new, |returned| returned.progress)
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

    /// The event is to be taken again when it is listed after `pause`, and to go on from there.
    pub(crate) fn give_back(&self, topic: &Arc<str>, event: EventKey, pause: Duration, progress: Vec<PartProgress>) {
        let mut state = self.state();
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
        known.returned = Some(Box::new(Returned {
            due: Instant::now() + pause,
            progress,
        }));
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
mod tests {
    use super::*;

    const A: SubscriptionKey = SubscriptionKey(1);
    const B: SubscriptionKey = SubscriptionKey(2);

    fn topic() -> Arc<str> {
        "t".into()
    }

    fn key(id: &str) -> EventKey {
        EventKey::of(id.as_bytes())
    }

    /// Takes everything that is owed of a complete list.
    fn poll(open: &OpenEvents, ids: &[&str], wanted_by: &[SubscriptionKey]) -> Vec<String> {
        let owed = ids.iter().filter(|id| open.is_owed(&topic(), key(id), wanted_by));
        let taken = owed.filter(|id| open.take(&topic(), key(id), wanted_by).is_some());
        let taken = taken.map(|&id| id.to_owned()).collect();
        open.end_round(&topic());
        taken
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_is_taken_once_while_it_stays_listed() {
        let open = OpenEvents::default();
        assert_eq!(poll(&open, &["1", "2"], &[A]), ["1", "2"]);
        assert!(poll(&open, &["1", "2"], &[A]).is_empty(), "being delivered");
        open.settle(&topic(), key("1"), &[A]);
        open.settle(&topic(), key("1"), &[A]);
        assert!(poll(&open, &["1", "2"], &[A]).is_empty());
        assert_eq!(open.n_held(), 1);
        assert_eq!(
            open.settled()[&topic()],
            [(key("1"), SubscriptionKeys::from_elem(A, 1))]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_is_given_back_is_taken_again_when_it_is_due() {
        let open = OpenEvents::default();
        poll(&open, &["1", "2"], &[A]);
        open.give_back(&topic(), key("1"), Duration::ZERO, Vec::new());
        open.give_back(&topic(), key("2"), Duration::from_secs(5), Vec::new());
        assert_eq!(poll(&open, &["1", "2"], &[A]), ["1"]);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(poll(&open, &["1", "2"], &[A]), ["2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_known_of_its_parts_comes_back_with_an_event() {
        let open = OpenEvents::default();
        poll(&open, &["1"], &[A]);
        let progress = vec![PartProgress {
            part: 7,
            is_settled: true,
            attempts: 2,
            first_attempt: None,
            due: None,
            given_up: None,
        }];
        open.give_back(&topic(), key("1"), Duration::ZERO, progress.clone());
        assert_eq!(poll(&open, &["1"], &[A]), ["1"]);
        assert_eq!(open.progress(&topic(), key("1")), progress);
        assert!(open.progress(&topic(), key("1")).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn each_subscription_gets_an_event_once() {
        let open = OpenEvents::default();
        let take = |wanted_by: &[SubscriptionKey]| open.take(&topic(), key("1"), wanted_by);
        assert_eq!(take(&[A]).unwrap().as_slice(), [A]);
        assert!(take(&[A, B]).is_none(), "one copy at a time");
        open.settle(&topic(), key("1"), &[A]);
        assert_eq!(take(&[A, B]).unwrap().as_slice(), [B]);
        open.settle(&topic(), key("1"), &[B]);
        assert!(take(&[A, B]).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_closed_is_forgotten_and_what_a_list_skips_is_not() {
        let open = OpenEvents::default();
        poll(&open, &["1", "2"], &[A]);
        open.settle(&topic(), key("1"), &[A]);
        for _ in 1..KEPT_ROUNDS {
            assert!(poll(&open, &[], &[A]).is_empty());
        }
        assert!(poll(&open, &["1"], &[A]).is_empty(), "it was only skipped");
        for _ in 0..KEPT_ROUNDS {
            poll(&open, &[], &[A]);
        }
        assert_eq!(poll(&open, &["1"], &[A]), ["1"]);
        assert_eq!(open.n_held(), 2, "what is being delivered is not forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_is_not_complete_closes_nothing() {
        let open = OpenEvents::default();
        poll(&open, &["1"], &[A]);
        open.settle(&topic(), key("1"), &[A]);
        for _ in 0..=KEPT_ROUNDS {
            assert!(open.is_owed(&topic(), key("another"), &[A]));
        }
        assert!(poll(&open, &["1"], &[A]).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_is_remembered_for_a_while_when_it_is_not_wanted_any_more() {
        let open = OpenEvents::default();
        poll(&open, &["1"], &[A]);
        open.settle(&topic(), key("1"), &[A]);
        tokio::time::advance(TOPIC_KEPT / 2).await;
        open.keep_topics([].iter());
        assert!(poll(&open, &["1"], &[A]).is_empty());
        tokio::time::advance(TOPIC_KEPT).await;
        open.keep_topics([].iter());
        assert_eq!(poll(&open, &["1"], &[A]), ["1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_remembered_is_not_taken() {
        let open = OpenEvents::default();
        for number in 0..MAX_EVENTS {
            assert!(open.take(&topic(), EventKey(number as u128), &[A]).is_some());
        }
        assert!(open.is_full());
        assert!(open.take(&topic(), EventKey(u128::MAX), &[A]).is_none());
        open.give_back(&topic(), EventKey(0), Duration::ZERO, Vec::new());
        assert!(open.take(&topic(), EventKey(u128::MAX), &[A]).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_goes_on_with_what_was_settled() {
        let before = OpenEvents::default();
        poll(&before, &["1", "2"], &[A]);
        before.settle(&topic(), key("1"), &[A]);
        let after = OpenEvents::default();
        after.restore(before.settled());
        assert_eq!(poll(&after, &["1", "2"], &[A]), ["2"]);
    }
}
