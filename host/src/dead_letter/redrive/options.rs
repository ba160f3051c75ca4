//! How fast and how patiently dead letters are delivered again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What an operator may choose.
#[derive(Debug, Clone)]
pub struct Options {
    /// Deliveries at the same time.
    pub concurrency: usize,
    /// Attempts after the first, when the service answers that a later one may succeed.
    pub retries: u32,
    /// Attempts in a time.
    pub rate: Option<Rate>,
    /// How long a service may not be ready.
    pub patience: Duration,
}

/// A number of attempts in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// From one attempt to the next.
    pub interval: Duration,
}

impl Rate {
    /// Reads `10/s`, `30/m` or `100/h`; a number alone is one a second.
    ///
    /// # Errors
    /// What a rate looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
        let seconds = match unit.trim() {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => f64::NAN,
        };
        let per_unit: f64 = number.trim().parse().unwrap_or(f64::NAN);
        let interval = Duration::try_from_secs_f64(seconds / per_unit).ok();
        // More than one in a microsecond is no limit, and less than one a day a mistake.
        let sensible = Duration::from_micros(1)..=Duration::from_hours(24);
        let interval = interval.filter(|interval| sensible.contains(interval));
        interval
            .map(|interval| Self { interval })
            .ok_or_else(|| "is not a rate, e.g. `10/s`, `30/m` or `100/h`".to_owned())
    }
}

/// Lets attempts through at a rate.
#[derive(Debug)]
pub(super) struct Limiter {
    rate: Option<Rate>,
    next: Mutex<Instant>,
}

impl Limiter {
    pub(super) fn new(rate: Option<Rate>) -> Self {
        Self {
            rate,
            next: Mutex::new(Instant::now()),
        }
    }

    /// Waits until an attempt may be made.
    pub(super) async fn wait(&self) {
        let Some(Rate { interval }) = self.rate else { return };
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            // What was not used does not make up for a burst.
            let turn = (*next).max(Instant::now());
            *next = turn + interval;
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_in_a_time() {
        let check = |text: &str, expected_ms: Option<u64>| {
            let rate = Rate::parse(text).ok();
            assert_eq!(
                rate.map(|rate| rate.interval),
                expected_ms.map(Duration::from_millis),
                "{text:?}"
            );
        };
        check("10/s", Some(100));
        check("10", Some(100));
        check("0.5/s", Some(2000));
        check("30/m", Some(2000));
        check(" 60 / h ", Some(60_000));
        for wrong in [
            "", "0/s", "-1/s", "10/d", "ten/s", "10/", "inf/s", "1e-9/h", "1e9/s", "NaN",
        ] {
            check(wrong, None);
        }
    }

    #[tokio::test]
    async fn attempts_are_spread() {
        let limiter = Limiter::new(Some(Rate::parse("50/s").unwrap()));
        let start = Instant::now();
        for _ in 0..4 {
            limiter.wait().await;
        }
        assert!(start.elapsed() >= Duration::from_millis(60), "{:?}", start.elapsed());
    }
}
