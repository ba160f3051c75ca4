//! Counts what arrives: lost, doubled, out of order, and when.
//!
//! Written by `recipient` from many tasks, read by `publisher` and the rounds. It must not slow the recipient down: no
//! lock, one atomic write or two per event.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::events::EventId;

/// Nothing arriving for so long means that nothing will.
const STALLED_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Tally {
    clock: Clock,
    /// By sequence: nanoseconds from publishing to arrival; 0 for what has not arrived.
    latencies: Vec<AtomicU64>,
    /// By key: one more than the highest sequence that has arrived.
    newest_by_key: Vec<AtomicUsize>,
    newest: AtomicUsize,
    delivered: AtomicUsize,
    doubled: AtomicUsize,
    /// By key: whether its events are to be delivered.
    wanted: Vec<bool>,
    unwanted: AtomicUsize,
    misordered: AtomicUsize,
    warmed_up: AtomicUsize,
    last_arrival_ns: AtomicU64,
    /// Told of every arrival. One task waits at a time.
    arrived: Notify,
}

impl Tally {
    /// For events numbered below `n_events`, of keys of which those `wanted` are to be delivered.
    pub(crate) fn new(n_events: usize, wanted: Vec<bool>, clock: Clock) -> Self {
        Self {
            clock,
            latencies: (0..n_events).map(|_| AtomicU64::new(0)).collect(),
            newest_by_key: wanted.iter().map(|_| AtomicUsize::new(0)).collect(),
            newest: AtomicUsize::new(0),
            delivered: AtomicUsize::new(0),
            doubled: AtomicUsize::new(0),
            wanted,
            unwanted: AtomicUsize::new(0),
            misordered: AtomicUsize::new(0),
            warmed_up: AtomicUsize::new(0),
            last_arrival_ns: AtomicU64::new(0),
            arrived: Notify::new(),
        }
    }

    /// Counts one delivery. `false`: it is not one of this round's events.
    pub(crate) fn record(&self, id: EventId) -> bool {
        let now = self.clock.nanoseconds();
        if id.counted {
            let (Some(latency), Some(newest_of_key)) =
                (self.latencies.get(id.sequence), self.newest_by_key.get(id.key))
            else {
                return false;
            };
            if !self.wanted[id.key] {
                self.unwanted.fetch_add(1, Relaxed);
            } else if latency.swap(now.saturating_sub(id.published_ns).max(1), Relaxed) == 0 {
                self.delivered.fetch_add(1, Relaxed);
                if newest_of_key.fetch_max(id.sequence + 1, Relaxed) > id.sequence {
                    self.misordered.fetch_add(1, Relaxed);
                }
                self.newest.fetch_max(id.sequence + 1, Relaxed);
                self.last_arrival_ns.fetch_max(now, Relaxed);
            } else {
                self.doubled.fetch_add(1, Relaxed);
            }
        } else {
            self.warmed_up.fetch_add(1, Relaxed);
        }
        self.arrived.notify_one();
        true
    }

    /// Waits until `condition` holds, looking at it after each arrival. `false`: nothing has arrived for
    /// [`STALLED_AFTER`].
    pub(crate) async fn wait_until(&self, condition: impl Fn(&Self) -> bool) -> bool {
        while !condition(self) {
            if timeout(STALLED_AFTER, self.arrived.notified()).await.is_err() {
                return condition(self);
            }
        }
        true
    }

    /// Different events that have arrived.
    pub(crate) fn delivered(&self) -> usize {
        self.delivered.load(Relaxed)
    }

    /// One more than the highest sequence that has arrived.
    pub(crate) fn newest(&self) -> usize {
        self.newest.load(Relaxed)
    }

    pub(crate) fn doubled(&self) -> usize {
        self.doubled.load(Relaxed)
    }

    /// Arrivals of events that the filter was to drop.
    pub(crate) fn unwanted(&self) -> usize {
        self.unwanted.load(Relaxed)
    }

    /// Events that arrived after a later one of their key.
    pub(crate) fn misordered(&self) -> usize {
        self.misordered.load(Relaxed)
    }

    pub(crate) fn warmed_up(&self) -> usize {
        self.warmed_up.load(Relaxed)
    }

    /// When the last event that was new arrived, by [`Clock`].
    pub(crate) fn last_arrival_ns(&self) -> u64 {
        self.last_arrival_ns.load(Relaxed)
    }

    /// The latencies of all that arrived, shortest first.
    pub(crate) fn sorted_latencies_ns(&self) -> Vec<u64> {
        let mut latencies: Vec<u64> = self.latencies.iter().map(|latency| latency.load(Relaxed)).collect();
        latencies.retain(|&latency| latency != 0);
        latencies.sort_unstable();
        latencies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unwanted_doubled_and_misordered_events_are_counted_apart() {
        let tally = Tally::new(10, vec![true, true, false], Clock::start());
        let deliver = |key, sequence| {
            tally.record(EventId {
                counted: true,
                key,
                sequence,
                published_ns: 0,
            })
        };

        for (key, sequence) in [(0, 0), (1, 3), (0, 2), (1, 1), (0, 2), (2, 5)] {
            assert!(deliver(key, sequence));
        }

        assert_eq!(
            (tally.delivered(), tally.doubled(), tally.misordered(), tally.newest()),
            (4, 1, 1, 4)
        );
        assert_eq!(tally.unwanted(), 1);
        assert!(!deliver(0, 10), "a sequence that was never published");
    }
}
