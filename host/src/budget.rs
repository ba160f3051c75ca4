//! How much may be held in memory: one allowance of events and bytes, shared by everything that holds events.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What may be held at the same time.
#[derive(Debug)]
pub struct Budget {
    max_events: usize,
    max_bytes: usize,
    events: AtomicUsize,
    bytes: AtomicUsize,
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
        })
    }

    /// Room for an event of `bytes` bytes, or none. A single event gets it whatever its size.
    pub fn hold(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let events = self.events.fetch_add(1, Ordering::AcqRel);
        let held_bytes = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let held = Held {
            budget: Arc::clone(self),
            bytes,
        };
        let fits = events == 0 || (events < self.max_events && held_bytes + bytes <= self.max_bytes);
        fits.then_some(held)
    }
}

impl Held {
    /// The same again, whether there is room or not: one received event may become several deliveries. Its bytes are
    /// counted for each of them, though they are in memory once.
    #[must_use]
    pub fn another(&self) -> Self {
        self.budget.events.fetch_add(1, Ordering::AcqRel);
        self.budget.bytes.fetch_add(self.bytes, Ordering::AcqRel);
        Self {
            budget: Arc::clone(&self.budget),
            bytes: self.bytes,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.events.fetch_sub(1, Ordering::AcqRel);
        self.budget.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
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
}
