//! How much may be held in memory: one allowance of events and bytes, shared by everything that holds events.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// What may be held at the same time.
#[derive(Debug)]
pub struct Budget {
    max_events: usize,
    max_bytes: usize,
    events: AtomicUsize,
    bytes: AtomicUsize,
    /// Whoever waits for room is woken when as little as this is held, and not at each event that is given back.
    wake_at_events: AtomicUsize,
    wake_at_bytes: AtomicUsize,
    freed: Notify,
}

/// The part of a [`Budget`] that one event takes; given back when dropped.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// An allowance of `max_events` events with `max_bytes` bytes in all.
    pub fn new(max_events: usize, max_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            max_events,
            max_bytes,
            events: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            wake_at_events: AtomicUsize::new(0),
            wake_at_bytes: AtomicUsize::new(0),
            freed: Notify::new(),
        })
    }

    /// Room for an event of `bytes` bytes, or none. A single event gets it whatever its size.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let held = self.take(bytes);
        let (events, held_bytes) = self.held();
        let fits = events == 1 || (events <= self.max_events && held_bytes <= self.max_bytes);
        fits.then_some(held)
    }

    /// Takes an event of `bytes` bytes in, whether there is room or not: it was asked for.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Held {
        self.events.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
        Held {
            budget: Arc::clone(self),
            bytes,
        }
    }

    /// Events that fit in all.
    pub fn max_events(&self) -> usize {
        self.max_events
    }

    /// Events and bytes that fit in all.
    pub fn limits(&self) -> (usize, usize) {
        (self.max_events, self.max_bytes)
    }

    /// Events and bytes that still fit.
    pub fn room(&self) -> (usize, usize) {
        let (events, bytes) = self.held();
        (
            self.max_events.saturating_sub(events),
            self.max_bytes.saturating_sub(bytes),
        )
    }

    /// Waits until there is room for this many events and bytes. One task may wait at a time.
    pub async fn until_room_for(&self, events: usize, bytes: usize) {
        let wake_at_events = self.max_events.saturating_sub(events);
        let wake_at_bytes = self.max_bytes.saturating_sub(bytes);
        self.wake_at_events.store(wake_at_events, Ordering::Release);
        self.wake_at_bytes.store(wake_at_bytes, Ordering::Release);
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // From here on a notification is not missed.
            freed.as_mut().enable();
            let (events, bytes) = self.held();
            if events <= wake_at_events && bytes <= wake_at_bytes {
                return;
            }
            freed.await;
        }
    }

    /// Events and bytes that are held.
    pub fn held(&self) -> (usize, usize) {
        (self.events.load(Ordering::Acquire), self.bytes.load(Ordering::Acquire))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let events = self.budget.events.fetch_sub(1, Ordering::AcqRel);
        let bytes = self.budget.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        let crosses = |before: usize, freed: usize, mark: &AtomicUsize| {
            let mark = mark.load(Ordering::Acquire);
            before > mark && before - freed <= mark
        };
        if crosses(events, 1, &self.budget.wake_at_events) || crosses(bytes, self.bytes, &self.budget.wake_at_bytes) {
            self.budget.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Budget;

    #[test]
    fn holds_no_more_events_and_bytes_than_allowed() {
        let budget = Budget::new(2, 100);
        let first = budget.hold(60).unwrap();
        assert!(budget.hold(50).is_none());
        let second = budget.hold(40).unwrap();
        assert!(budget.hold(0).is_none());
        drop(first);
        assert!(budget.hold(60).is_some());
        drop(second);
        assert!(
            budget.hold(1000).is_some(),
            "an event that is alone is held whatever its size"
        );
    }

    #[tokio::test]
    async fn whoever_waits_for_room_is_woken_when_there_is_enough() {
        let budget = Budget::new(4, 100);
        let mut held: Vec<_> = (0..4).map(|_| budget.take(20)).collect();
        let in_task = std::sync::Arc::clone(&budget);
        let waiting = tokio::spawn(async move { in_task.until_room_for(2, 60).await });
        tokio::task::yield_now().await;
        held.pop();
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "there is room for one event only");
        held.pop();
        waiting.await.unwrap();
        assert_eq!(budget.room(), (2, 60));
    }
}
