//! Keeps events from a plugin that fails again and again, so that not each of them waits for the failure.
//!
//! Asked by [`super::health`] before each call. Closed it costs one load.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Failures in a row that open it. A single poisoned event gets there only where it is alone with the plugin.
pub(super) const MAX_FAILURES_IN_ROW: u32 = 10;
/// First pause; doubled after each probe that failed.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long others wait for the probe that is under way before they ask again.
const PROBE_PAUSE: Duration = Duration::from_millis(100);

/// Closed as long as the plugin works.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    n_failures_in_row: AtomicU32,
    is_open: AtomicBool,
    rest: Mutex<Rest>,
}

#[derive(Debug, Default)]
struct Rest {
    until: Option<Instant>,
    n_pauses: u32,
    is_probing: bool,
}

/// Whether the plugin is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// It is.
    Closed,
    /// It is not, for a while.
    Open,
    /// One call finds out whether it works again.
    HalfOpen,
}

/// The right to find out whether the plugin works again. Dropped without an answer, it is somebody else's turn.
#[derive(Debug)]
pub(super) struct Probe<'a>(&'a Breaker);

/// What a failure changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Opened(Duration),
    StaysOpen(Duration),
}

impl Breaker {
    /// Asks whether the plugin may be called. Some: this call is the one that decides.
    ///
    /// # Errors
    /// Not before this moment.
    pub(super) fn admit(&self) -> Result<Option<Probe<'_>>, Instant> {
        if !self.is_open.load(Ordering::Acquire) {
            return Ok(None);
        }
        let mut rest = self.rest();
        if let Some(until) = rest.rests_until() {
            return Err(until);
        }
        rest.is_probing = true;
        Ok(Some(Probe(self)))
    }

    /// The moment before which it makes no sense to ask; none: it may be asked now.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        if !self.is_open.load(Ordering::Acquire) {
            return None;
        }
        self.rest().rests_until()
    }

    /// A call came to an end. True if that closes it.
    pub(super) fn worked(&self, probe: Option<Probe<'_>>) -> bool {
        // Nearly every call comes by here: only read as long as nothing has to change.
        if self.n_failures_in_row.load(Ordering::Relaxed) != 0 {
            self.n_failures_in_row.store(0, Ordering::Relaxed);
        }
        let Some(probe) = probe else {
            return false;
        };
        let mut rest = self.rest();
        *rest = Rest::default();
        self.is_open.store(false, Ordering::Release);
        drop(rest);
        drop(probe);
        true
    }

    /// A call failed.
    pub(super) fn failed(&self, probe: Option<Probe<'_>>) -> Option<Change> {
        let n_failures = self.n_failures_in_row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let mut rest = self.rest();
        let was_open = self.is_open.load(Ordering::Acquire);
        // Calls that had begun before say nothing new.
        if n_failures < MAX_FAILURES_IN_ROW || (was_open && probe.is_none()) {
            return None;
        }
        let pause = FIRST_PAUSE
            .saturating_mul(1 << rest.n_pauses.min(10))
            .min(LONGEST_PAUSE);
        rest.until = Some(Instant::now() + pause);
        rest.n_pauses += 1;
        self.is_open.store(true, Ordering::Release);
        drop(rest);
        drop(probe);
        Some(if was_open {
            Change::StaysOpen(pause)
        } else {
            Change::Opened(pause)
        })
    }

    pub(super) fn state(&self) -> BreakerState {
        if !self.is_open.load(Ordering::Acquire) {
            BreakerState::Closed
        } else if self.rest().is_probing {
            BreakerState::HalfOpen
        } else {
            BreakerState::Open
        }
    }

    pub(super) fn n_failures_in_row(&self) -> u32 {
        self.n_failures_in_row.load(Ordering::Relaxed)
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rest {
    fn rests_until(&self) -> Option<Instant> {
        let now = Instant::now();
        if self.is_probing {
            return Some(now + PROBE_PAUSE);
        }
        self.until.filter(|until| *until > now)
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        self.0.rest().is_probing = false;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep_until};

    use super::*;

    fn open(breaker: &Breaker) {
        for _ in 1..MAX_FAILURES_IN_ROW {
            assert_eq!(breaker.failed(None), None);
        }
        assert_eq!(breaker.failed(None), Some(Change::Opened(FIRST_PAUSE)));
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_only() {
        let breaker = Breaker::default();
        for _ in 0..5 {
            for _ in 1..MAX_FAILURES_IN_ROW {
                assert_eq!(breaker.failed(None), None);
            }
            breaker.worked(None);
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        open(&breaker);
        assert_eq!(breaker.state(), BreakerState::Open);
        assert_eq!(breaker.failed(None), None, "a call that had begun before");
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_decides_after_a_pause_that_grows() {
        let breaker = Breaker::default();
        open(&breaker);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            let until = breaker.admit().unwrap_err();
            assert_eq!(until - Instant::now(), Duration::from_secs(seconds));
            sleep_until(until).await;
            let probe = breaker.admit().unwrap();
            assert_eq!(breaker.state(), BreakerState::HalfOpen);
            assert_eq!(breaker.admit().unwrap_err() - Instant::now(), PROBE_PAUSE);
            assert!(matches!(breaker.failed(probe), Some(Change::StaysOpen(_))));
        }
        advance(LONGEST_PAUSE).await;
        let probe = breaker.admit().unwrap();
        assert!(breaker.worked(probe));
        assert_eq!(breaker.state(), BreakerState::Closed);
        open(&breaker);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_given_up_is_somebody_elses() {
        let breaker = Breaker::default();
        open(&breaker);
        advance(FIRST_PAUSE).await;
        drop(breaker.admit().unwrap());
        assert!(breaker.admit().unwrap().is_some());
    }
}
