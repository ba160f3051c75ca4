//! How much a plugin may write into the log over time, whether it logs or prints. What is more is left out, and counted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lines a second that a plugin may write in the long run. A line counts as one, and one more for each
/// [`BYTES_PER_SHARE`] of it.
pub(in crate::plugins) const LINES_PER_SECOND: u32 = 100;
/// Lines it may write at once after a quiet time.
const BURST: u32 = 200;
const BYTES_PER_SHARE: usize = 512;
/// How often it is said that lines are left out.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(1);

/// One for each plugin.
#[derive(Debug)]
pub(in crate::plugins) struct LineRate {
    plugin: Arc<str>,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    lines_left: f64,
    filled_at: Instant,
    left_out: u64,
    summed_up_at: Option<Instant>,
}

impl LineRate {
    pub(super) fn new(plugin: Arc<str>) -> Self {
        Self {
            plugin,
            bucket: Mutex::new(Bucket {
                lines_left: f64::from(BURST),
                filled_at: Instant::now(),
                left_out: 0,
                summed_up_at: None,
            }),
        }
    }

    /// Whether a line of this length may be written now.
    pub(in crate::plugins) fn admits(&self, bytes: usize) -> bool {
        let now = Instant::now();
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let is_admitted = bucket.take(bytes, now);
        self.sum_up(&mut bucket, !is_admitted, now);
        is_admitted
    }

    /// Counts a line that is left out for another reason.
    pub(in crate::plugins) fn leave_out(&self) {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        self.sum_up(&mut bucket, true, Instant::now());
    }

    fn sum_up(&self, bucket: &mut Bucket, is_left_out: bool, now: Instant) {
        bucket.left_out += u64::from(is_left_out);
        let is_due = bucket.summed_up_at.is_none_or(|at| now - at >= SUMMARY_INTERVAL);
        if bucket.left_out > 0 && is_due {
            bucket.summed_up_at = Some(now);
            report(&self.plugin, std::mem::take(&mut bucket.left_out));
        }
    }
}

impl Bucket {
    fn take(&mut self, bytes: usize, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.filled_at = now;
        self.lines_left = (self.lines_left + elapsed * f64::from(LINES_PER_SECOND)).min(f64::from(BURST));
        let shares = u32::try_from(1 + bytes / BYTES_PER_SHARE).unwrap_or(u32::MAX);
        if self.lines_left < f64::from(shares) {
            return false;
        }
        self.lines_left -= f64::from(shares);
        true
    }
}

impl Drop for LineRate {
    fn drop(&mut self) {
        let bucket = self.bucket.get_mut().unwrap_or_else(PoisonError::into_inner);
        if bucket.left_out > 0 {
            report(&self.plugin, bucket.left_out);
        }
    }
}

fn report(plugin: &str, left_out: u64) {
    tracing::warn!(
        plugin,
        left_out,
        "lines of a plugin are left out: it writes more than it may in one call, or more than {LINES_PER_SECOND} lines a second"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn n_admitted(rate: &LineRate, n: usize, bytes: usize) -> usize {
        (0..n).filter(|_| rate.admits(bytes)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_cut_to_a_burst_and_then_to_the_rate() {
        let rate = LineRate::new("flood".into());
        assert_eq!(n_admitted(&rate, 1_000_000, 10), 200);
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(n_admitted(&rate, 100_000, 10), 100);
        }
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(n_admitted(&rate, 1000, 10), 200, "silence is not saved up for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn long_lines_count_for_more() {
        let rate = LineRate::new("long".into());
        assert_eq!(n_admitted(&rate, 1000, 4 * BYTES_PER_SHARE), 40);
    }

    #[tokio::test(start_paused = true)]
    async fn it_says_at_most_once_a_second_that_lines_are_left_out() {
        let rate = LineRate::new("counted".into());
        let left_out = || rate.bucket.lock().unwrap().left_out;
        n_admitted(&rate, 300, 0);
        assert_eq!(left_out(), 99, "the first is reported at once, the others wait");
        tokio::time::advance(SUMMARY_INTERVAL).await;
        assert!(rate.admits(0));
        assert_eq!(left_out(), 0);
    }
}
