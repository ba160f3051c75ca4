//! How deliveries are going, for whoever looks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::Deliveries;

/// How deliveries are going.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DeliveryReport {
    /// Events that are neither delivered nor given up: those being tried and those that wait for anything.
    pub pending: usize,
    /// Events that are being tried.
    pub in_flight: usize,
    /// Events that wait until it is their turn.
    pub queued: usize,
    /// Events that wait for their next attempt.
    pub waiting: usize,
    /// Whether the service takes events. If not, they wait, and no attempt is counted.
    pub is_gate_open: bool,
    /// Whether it has ever taken one.
    pub was_ready: bool,
    /// Age of the oldest event that is pending, since it came.
    pub oldest_seconds: Option<f64>,
}

/// How many deliveries there are of each kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaneCounts {
    pub(super) all: usize,
    pub(super) tried: usize,
    pub(super) waiting: usize,
}

/// What each worker is busy with: the moment at which its event came.
#[derive(Debug)]
pub(super) struct UnderWay {
    start: Instant,
    /// In microseconds since `start`, and 1 more; 0: nothing.
    since: Box<[AtomicU64]>,
}

impl UnderWay {
    pub(super) fn new(n_workers: usize) -> Self {
        Self {
            start: Instant::now(),
            since: (0..n_workers).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    pub(super) fn begin(&self, worker: usize, received: Instant) {
        let since = received.saturating_duration_since(self.start).as_micros();
        let since = u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1);
        self.since[worker].store(since, Ordering::Relaxed);
    }

    pub(super) fn end(&self, worker: usize) {
        self.since[worker].store(0, Ordering::Relaxed);
    }

    fn oldest(&self) -> Option<Instant> {
        let since = self.since.iter().map(|since| since.load(Ordering::Relaxed));
        let oldest = since.filter(|since| *since > 0).min()?;
        Some(self.start + Duration::from_micros(oldest - 1))
    }
}

impl Deliveries {
    /// How it is going.
    pub fn report(&self) -> DeliveryReport {
        let LaneCounts { all, tried, waiting } = self.lanes.counts();
        let oldest = self.lanes.oldest(|delivery| delivery.receipt.received());
        let oldest = [oldest, self.under_way.oldest()];
        DeliveryReport {
            pending: all,
            in_flight: tried,
            queued: all.saturating_sub(tried + waiting),
            waiting,
            is_gate_open: !self.gate.is_closed(),
            was_ready: self.was_ready.load(Ordering::Relaxed),
            oldest_seconds: oldest
                .into_iter()
                .flatten()
                .min()
                .map(|oldest| oldest.elapsed().as_secs_f64()),
        }
    }
}
