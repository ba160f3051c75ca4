//! Order: a queue of deliveries for each key, so that events of one key go out one after the other and different keys
//! side by side.
//!
//! Knows nothing of HTTP. [`super::run`] takes deliveries out, tries them, and says how it went.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

/// What keeps deliveries in order: equal keys are delivered one after the other.
///
/// It is a hash. Two texts with the same one wait for each other without need, which harms nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

/// Queues by key.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    hasher: RandomState,
    /// Tells events without a key, and deliveries that wait until the same moment, apart.
    serial: AtomicU64,
    state: Mutex<State<T>>,
    /// One permit for each entry of `State::ready`.
    ready: Semaphore,
    /// Wakes the timer when there is an earlier deadline.
    waiting_changed: Notify,
    /// Wakes whoever waits for the lanes to be empty.
    emptied: Notify,
}

#[derive(Debug)]
struct State<T> {
    /// What stands behind the first delivery of a key. The first one is ready, being tried, or waiting; a key is here
    /// as long as there is one.
    behind: HashMap<Key, VecDeque<T>>,
    /// First deliveries that can start.
    ready: VecDeque<(Key, T)>,
    /// First deliveries that have to wait, by the moment until which.
    waiting: BTreeMap<(Instant, u64), (Key, T)>,
    /// All deliveries, those being tried included.
    count: usize,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        let state = State {
            behind: HashMap::new(),
            ready: VecDeque::new(),
            waiting: BTreeMap::new(),
            count: 0,
        };
        Self {
            hasher: RandomState::new(),
            serial: AtomicU64::new(0),
            state: Mutex::new(state),
            ready: Semaphore::new(0),
            waiting_changed: Notify::new(),
            emptied: Notify::new(),
        }
    }
}

impl<T> Lanes<T> {
    /// The key of a text; without one, a key of its own.
    pub(super) fn key(&self, text: Option<&str>) -> Key {
        Key(match text {
            Some(text) => self.hasher.hash_one(text),
            None => self.hasher.hash_one(self.next_serial()),
        })
    }

    /// Queues a delivery behind the others of its key.
    pub(super) fn push(&self, key: Key, delivery: T) {
        let mut state = self.state();
        state.count += 1;
        if let Some(behind) = state.behind.get_mut(&key) {
            behind.push_back(delivery);
            return;
        }
        state.behind.insert(key, VecDeque::new());
        self.make_ready(state, key, delivery);
    }

    /// The next delivery to try; none after [`Lanes::close`]. The caller must hand it to [`Lanes::done`] or
    /// [`Lanes::wait_until`].
    pub(super) async fn next(&self) -> Option<(Key, T)> {
        self.ready.acquire().await.ok()?.forget();
        self.state().ready.pop_front()
    }

    /// The delivery is settled, one way or the other: the next one of its key can start.
    pub(super) fn done(&self, key: Key) {
        let mut state = self.state();
        state.count -= 1;
        let next = state.behind.get_mut(&key).and_then(VecDeque::pop_front);
        if let Some(delivery) = next {
            self.make_ready(state, key, delivery);
            return;
        }
        state.behind.remove(&key);
        if state.count == 0 {
            drop(state);
            self.emptied.notify_waiters();
        }
    }

    /// The delivery is to be tried again at `moment`; the rest of its key waits with it.
    pub(super) fn wait_until(&self, moment: Instant, key: Key, delivery: T) {
        let serial = self.next_serial();
        self.state().waiting.insert((moment, serial), (key, delivery));
        self.waiting_changed.notify_one();
    }

    /// Makes waiting deliveries ready when their time has come. Runs until it is dropped.
    pub(super) async fn run_timer(&self) {
        loop {
            let next = self.wake_due();
            let changed = self.waiting_changed.notified();
            match next {
                Some(moment) => {
                    // Whichever comes first, the answer is to look again.
                    let _ = tokio::time::timeout_at(moment, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// Waits until nothing is queued, tried or waiting.
    pub(super) async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            // From here on a notification is not missed.
            emptied.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Deliveries queued, being tried, or waiting.
    pub(super) fn count(&self) -> usize {
        self.state().count
    }

    /// Ends [`Lanes::next`] for everybody.
    pub(super) fn close(&self) {
        self.ready.close();
    }

    /// The moment of the first delivery that still has to wait, after waking those that do not.
    fn wake_due(&self) -> Option<Instant> {
        let now = Instant::now();
        loop {
            let mut state = self.state();
            let entry = state.waiting.first_entry()?;
            let (moment, _) = *entry.key();
            if moment > now {
                return Some(moment);
            }
            let (key, delivery) = entry.remove();
            self.make_ready(state, key, delivery);
        }
    }

    fn make_ready(&self, mut state: MutexGuard<'_, State<T>>, key: Key, delivery: T) {
        state.ready.push_back((key, delivery));
        drop(state);
        self.ready.add_permits(1);
    }

    fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_key_goes_one_after_the_other_and_keys_go_side_by_side() {
        let lanes = Lanes::default();
        let (a, b) = (lanes.key(Some("a")), lanes.key(Some("b")));
        for (key, delivery) in [(a, "a1"), (a, "a2"), (b, "b1")] {
            lanes.push(key, delivery);
        }
        assert_eq!(lanes.next().await, Some((a, "a1")));
        assert_eq!(lanes.next().await, Some((b, "b1")));
        lanes.done(a);
        assert_eq!(lanes.next().await, Some((a, "a2")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_delivery_holds_back_its_own_key_only() {
        let lanes = Arc::new(Lanes::default());
        let in_task = Arc::clone(&lanes);
        let timer = tokio::spawn(async move { in_task.run_timer().await });
        let (a, b) = (lanes.key(Some("a")), lanes.key(Some("b")));
        lanes.push(a, "a1");
        lanes.push(a, "a2");
        let (_, first) = lanes.next().await.unwrap();
        let start = Instant::now();
        lanes.wait_until(start + Duration::from_secs(5), a, first);
        lanes.push(b, "b1");
        assert_eq!(lanes.next().await, Some((b, "b1")));
        assert_eq!(lanes.next().await, Some((a, "a1")));
        assert_eq!(start.elapsed().as_secs(), 5);
        lanes.done(a);
        assert_eq!(lanes.next().await, Some((a, "a2")));
        timer.abort();
    }

    #[tokio::test]
    async fn deliveries_without_a_key_do_not_wait_for_each_other() {
        let lanes = Lanes::default();
        lanes.push(lanes.key(None), 1);
        lanes.push(lanes.key(None), 2);
        assert_eq!(lanes.next().await.map(|(_, delivery)| delivery), Some(1));
        assert_eq!(lanes.next().await.map(|(_, delivery)| delivery), Some(2));
    }

    #[tokio::test]
    async fn empty_waits_for_the_last_delivery() {
        let lanes = Arc::new(Lanes::default());
        let key = lanes.key(Some("a"));
        lanes.push(key, ());
        let in_task = Arc::clone(&lanes);
        let empty = tokio::spawn(async move { in_task.empty().await });
        lanes.next().await.unwrap();
        tokio::task::yield_now().await;
        assert!(!empty.is_finished());
        lanes.done(key);
        empty.await.unwrap();
        assert_eq!(lanes.count(), 0);
    }
}
