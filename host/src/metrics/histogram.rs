//! How long things take: two relaxed additions for each, and no lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// Durations, counted by size.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds in nanoseconds, rising.
    bounds: &'static [u64],
    /// One more than there are bounds.
    counts: Box<[AtomicU64]>,
    sum_nanoseconds: AtomicU64,
}

/// What a [`Histogram`] has counted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HistogramReport {
    /// Durations.
    pub count: u64,
    /// All of them together.
    pub sum_seconds: f64,
    /// Upper bound in seconds, and how many are in the bucket below it and above the one before. Without the last
    /// bucket, which has no bound: it has what is left of `count`.
    pub buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// An empty one with these bounds.
    pub fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum_nanoseconds: AtomicU64::new(0),
        }
    }

    /// Counts one.
    pub fn observe(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.bounds.partition_point(|bound| *bound < nanoseconds);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn report(&self) -> HistogramReport {
        let counts: Vec<_> = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let seconds = self
            .bounds
            .iter()
            .map(|bound| Duration::from_nanos(*bound).as_secs_f64());
        HistogramReport {
            count: counts.iter().sum(),
            sum_seconds: Duration::from_nanos(self.sum_nanoseconds.load(Ordering::Relaxed)).as_secs_f64(),
            buckets: seconds.zip(counts).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_bucket_of_the_first_bound_that_it_does_not_exceed() {
        let histogram = Histogram::new(&[1_000, 1_000_000]);
        for nanoseconds in [0, 1_000, 1_001, 1_000_000, 1_000_001, u64::MAX / 4] {
            histogram.observe(Duration::from_nanos(nanoseconds));
        }
        let report = histogram.report();
        assert_eq!(report.buckets, [(0.000_001, 2), (0.001, 2)]);
        assert_eq!(report.count, 6);
        assert!(report.sum_seconds > 4e9, "{}", report.sum_seconds);
    }
}
