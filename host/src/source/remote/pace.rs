//! When to poll next.

use std::time::Duration;

/// A control plane that is away is asked this often at least.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// It may ask for a longer pause, but not for any length.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);
/// Of the interval: a poll that took longer than that is not followed by the next one at once.
const SHORTEST_PAUSE: f64 = 0.2;

/// The pace of one poller.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    n_failures: u32,
}

impl Pace {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            n_failures: 0,
        }
    }

    /// The pause after a poll that went well. `random` is from 0 to 1.
    pub(super) fn after_poll(&mut self, took: Duration, random: f64) -> Duration {
        self.n_failures = 0;
        let rest = jittered(self.interval, random).saturating_sub(took);
        rest.max(self.interval.mul_f64(SHORTEST_PAUSE))
    }

    /// The pause after a poll that was not finished for reasons of our own: there is more to be had.
    pub(super) fn after_unfinished(&mut self, random: f64) -> Duration {
        self.after_poll(self.interval.mul_f64(2.0), random)
    }

    /// The pause after a poll that the control plane refused for a reason that only a person can change.
    pub(super) fn after_refusal(&mut self, random: f64) -> Duration {
        self.after_poll(Duration::ZERO, random)
    }

    /// The pause after a poll that found the control plane away or overloaded: twice as long each time.
    pub(super) fn after_failure(&mut self, retry_after: Option<Duration>, random: f64) -> Duration {
        let longest = LONGEST_PAUSE.max(self.interval);
        let pause = self.interval.saturating_mul(1 << self.n_failures.min(10)).min(longest);
        self.n_failures += 1;
        let wanted = retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
        jittered(pause, random).max(wanted)
    }
}

/// Up to a fifth more or less, so that many distributors that started together do not poll together.
fn jittered(pause: Duration, random: f64) -> Duration {
    pause.mul_f64(0.8 + 0.4 * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_come_in_the_interval_give_or_take_a_fifth() {
        let mut pace = Pace::new(Duration::from_secs(10));
        let mut check = |took_ms: u64, random: f64, expected_ms: u128| {
            let pause = pace.after_poll(Duration::from_millis(took_ms), random);
            assert_eq!(pause.as_millis(), expected_ms);
        };
        check(0, 0.0, 8_000);
        check(0, 1.0, 12_000);
        check(3_000, 0.5, 7_000);
        check(60_000, 0.5, 2_000);
        assert_eq!(pace.after_unfinished(0.5).as_millis(), 2_000);
    }

    #[test]
    fn a_control_plane_that_is_away_is_asked_less_and_less_often() {
        let mut pace = Pace::new(Duration::from_secs(10));
        let mut pause = |retry_after: Option<u64>| {
            let pause = pace.after_failure(retry_after.map(Duration::from_secs), 0.5);
            pause.as_secs()
        };
        assert_eq!([pause(None), pause(None), pause(None), pause(None)], [10, 20, 40, 60]);
        assert_eq!(pause(Some(90)), 90, "it says when");
        assert_eq!(pause(Some(100_000)), 300);
        assert_eq!(pause(Some(1)), 60);
        pace.after_poll(Duration::ZERO, 0.5);
        assert_eq!(pace.after_failure(None, 0.5).as_secs(), 10);
    }

    #[test]
    fn a_refusal_changes_nothing_about_the_pace() {
        let mut pace = Pace::new(Duration::from_secs(100));
        assert_eq!(pace.after_refusal(0.5).as_secs(), 100);
        assert_eq!(
            pace.after_failure(None, 0.5).as_secs(),
            100,
            "never faster than the interval"
        );
        assert_eq!(pace.after_failure(None, 0.5).as_secs(), 100);
    }
}
