//! Order: a queue of deliveries for each key, so that events of one key go out one after the other and different keys
//! side by side.
//!
//! Knows nothing of HTTP. [`super::run`] takes deliveries out, tries them, and says how it went.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::report::LaneCounts;

/// A delivery that waits for longer than this may wait with its source.
const LONG_PAUSE: Duration = Duration::from_secs(1);

/// Deliveries with long pauses that make room at once.
const MAX_WAITING_TAKEN: usize = 64;

/// What keeps deliveries in order: equal keys are delivered one after the other.
///
/// It is a hash. Two texts with the same one wait for each other without need, which harms nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

#[cfg(test)]
impl Key {
    /// A key for tests that have no texts.
    pub(crate) const fn of(number: u64) -> Self {
        Self(number)
    }
}

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
    /// Deliveries being tried.
    n_tried: usize,
}

impl<T> Default for Lanes<T> {
    fn default() -> Self {
        let state = State {
            behind: HashMap::new(),
            ready: VecDeque::new(),
            waiting: BTreeMap::new(),
            count: 0,
            n_tried: 0,
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

    /// How many there are.
    pub(super) fn counts(&self) -> LaneCounts {
        let state = self.state();
        LaneCounts {
            all: state.count,
            tried: state.n_tried,
            waiting: state.waiting.len(),
        }
    }

    /// The least of what `of` says about those that are not being tried. Only the first of each key is asked: the others
    /// came later.
    pub(super) fn oldest(&self, of: impl Fn(&T) -> Instant) -> Option<Instant> {
        let state = self.state();
        let heads = state.ready.iter().chain(state.waiting.values());
        heads.map(|(_, delivery)| of(delivery)).min()
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
        loop {
            self.ready.acquire().await.ok()?.forget();
            let mut state = self.state();
            // What was ready may have been taken back meanwhile.
            if let Some(next) = state.ready.pop_front() {
                state.n_tried += 1;
                return Some(next);
            }
        }
    }

    /// The delivery is settled, one way or the other: the next one of its key can start.
    pub(super) fn done(&self, key: Key) {
        let mut state = self.state();
        state.n_tried -= 1;
        self.end(state, key);
    }

    fn end(&self, mut state: MutexGuard<'_, State<T>>, key: Key) {
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
        let mut state = self.state();
        state.n_tried -= 1;
        state.waiting.insert((moment, serial), (key, delivery));
        drop(state);
        self.waiting_changed.notify_one();
    }

    /// Takes out what is not being tried and for which `wanted` holds.
    pub(super) fn take_back(&self, wanted: impl Fn(&T) -> bool) -> Vec<T> {
        let mut state = self.state();
        let mut heads = extract(&mut state.ready, |(_, delivery)| wanted(delivery));
        let waiting = state.waiting.extract_if(.., |_, (_, delivery)| wanted(delivery));
        heads.extend(waiting.map(|(_, head)| head).collect::<Vec<_>>());
        let mut taken = Vec::new();
        for queue in state.behind.values_mut() {
            taken.extend(extract(queue, &wanted));
        }
        state.count -= taken.len();
        drop(state);
        for (key, delivery) in heads {
            taken.push(delivery);
            self.end(self.state(), key);
        }
        taken
    }

    /// Takes out some deliveries that cannot start, if workers are idle: what stands more than `keep` behind a first of its
    /// key that waits, or with `behind_tried` behind one that is being tried; or else some of those that have to wait the
    /// longest, with all that stands behind them. Of each key the last goes first, so that the order of the others stays.
    pub(super) fn take_stuck(
        &self,
        n_workers: usize,
        keep: usize,
        behind_tried: bool,
        wanted: impl Fn(&T) -> bool,
    ) -> Vec<T> {
        let mut state = self.state();
        let state = &mut *state;
        if state.n_tried >= n_workers || !state.ready.is_empty() {
            return Vec::new();
        }
        let mut taken = Vec::new();
        let mut take_surplus = |queue: &mut VecDeque<T>| {
            while queue.len() > keep && queue.back().is_some_and(&wanted) {
                taken.extend(queue.pop_back());
            }
        };
        if behind_tried {
            state.behind.values_mut().for_each(take_surplus);
        } else {
            for (key, _) in state.waiting.values() {
                state.behind.get_mut(key).into_iter().for_each(&mut take_surplus);
            }
        }
        let has_surplus = !taken.is_empty();
        let soon = Instant::now() + LONG_PAUSE;
        while !has_surplus && taken.len() < MAX_WAITING_TAKEN {
            let Some((&(moment, _), (key, head))) = state.waiting.last_key_value() else {
                break;
            };
            let mut behind = state.behind.get(key).into_iter().flatten();
            if moment <= soon || !wanted(head) || !behind.all(&wanted) {
                break;
            }
            let Some((_, (key, head))) = state.waiting.pop_last() else {
                break;
            };
            let behind = state.behind.remove(&key).unwrap_or_default();
            taken.extend(behind.into_iter().rev());
            taken.push(head);
        }
        state.count -= taken.len();
        taken
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

    /// What is known of the first deliveries that have to wait, in the order of their moments: the moment, the delivery,
    /// and how many of the same key wait behind it.
    pub(super) fn waiting<R>(&self, max: usize, of: impl Fn(Instant, &T, usize) -> R) -> Vec<R> {
        let state = self.state();
        let waiting = state.waiting.iter().take(max);
        waiting
            .map(|((moment, _), (key, delivery))| {
                let n_behind = state.behind.get(key).map_or(0, VecDeque::len);
                of(*moment, delivery, n_behind)
            })
            .collect()
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

/// Takes out what is wanted; the order of the others stays.
fn extract<T>(queue: &mut VecDeque<T>, wanted: impl Fn(&T) -> bool) -> Vec<T> {
    let mut taken = Vec::new();
    for _ in 0..queue.len() {
        let Some(item) = queue.pop_front() else { break };
        if wanted(&item) {
            taken.push(item);
        } else {
            queue.push_back(item);
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
        let waiting = lanes.waiting(10, |moment, delivery, n_behind| (moment - start, *delivery, n_behind));
        assert_eq!(waiting, [(Duration::from_secs(5), "a1", 1)]);
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

    #[tokio::test(start_paused = true)]
    async fn what_cannot_start_makes_room_from_the_back() {
        let lanes = Lanes::default();
        let (a, b) = (lanes.key(Some("a")), lanes.key(Some("b")));
        for number in 1..=6 {
            lanes.push(a, number);
        }
        lanes.push(b, 10);
        lanes.push(b, 11);
        let any = |_: &i32| true;
        assert!(lanes.take_stuck(2, 3, true, any).is_empty(), "a and b are ready");
        let (_, head_of_a) = lanes.next().await.unwrap();
        let (_, head_of_b) = lanes.next().await.unwrap();
        assert!(lanes.take_stuck(2, 3, true, any).is_empty(), "no worker is idle");
        assert!(lanes.take_stuck(3, 3, false, any).is_empty(), "nothing waits");
        assert_eq!(lanes.take_stuck(3, 3, true, any), [6, 5], "2, 3 and 4 stay behind 1");
        lanes.wait_until(Instant::now() + Duration::from_mins(1), a, head_of_a);
        lanes.wait_until(Instant::now() + Duration::from_secs(5), b, head_of_b);
        assert_eq!(lanes.take_stuck(3, 2, false, any), [4]);
        assert!(
            lanes.take_stuck(3, 9, false, |&number| number != 2).is_empty(),
            "2 has to stay"
        );
        let all_but_b = |number: &i32| *number < 10;
        assert_eq!(
            lanes.take_stuck(3, 9, false, all_but_b),
            [3, 2, 1],
            "a waits longest, and goes as a whole"
        );
        assert_eq!(lanes.count(), 2);
        lanes.push(a, 7);
        assert_eq!(lanes.next().await, Some((a, 7)), "the key is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn taking_back_leaves_what_is_being_tried_and_what_is_not_wanted() {
        let lanes = Lanes::default();
        let (a, b, c) = (lanes.key(Some("a")), lanes.key(Some("b")), lanes.key(Some("c")));
        for (key, number) in [(a, 1), (a, 2), (b, 3), (b, 4), (c, 6), (c, 5)] {
            lanes.push(key, number);
        }
        assert_eq!(lanes.next().await, Some((a, 1)));
        let mut taken = lanes.take_back(|&number| number != 5);
        taken.sort_unstable();
        assert_eq!(taken, [2, 3, 4, 6]);
        assert_eq!(lanes.next().await, Some((c, 5)), "it stood behind one that was taken");
        lanes.done(a);
        lanes.done(c);
        assert_eq!(lanes.count(), 0);
    }
}
