//! How a plugin is doing, and what becomes of an event that it fails on.
//!
//! Used by [`super::chain`] around each call. It does not know what is called.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::breaker::{Breaker, BreakerState, Change, MAX_FAILURES_IN_ROW, Probe};
use super::error::PluginError;
use super::settings::OnFailure;

/// Events that go on or end because of a failure are told one by one no more often than this.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// An event asks again after this, though the pause may be longer: the plugin may have been replaced meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

fn soon(until: Instant) -> Instant {
    until.min(Instant::now() + LONGEST_WAIT)
}

/// What is known of one plugin.
#[derive(Debug, Default)]
pub(super) struct Health {
    breaker: Breaker,
    n_failures: AtomicU64,
    n_passed_over: AtomicU64,
    n_dropped: AtomicU64,
    warned: Mutex<Warned>,
}

#[derive(Debug, Default)]
struct Warned {
    at: Option<Instant>,
    n_left_out: u64,
}

/// How a plugin is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct HealthReport {
    /// Whether it is called.
    pub breaker: BreakerState,
    /// Calls that failed.
    pub failures: u64,
    /// Those since the last one that did not.
    pub failures_in_row: u32,
    /// Events that went on as if it were not there, because it failed or was not called.
    pub passed_over: u64,
    /// Events that ended for the same reason.
    pub dropped_on_failure: u64,
}

impl Health {
    /// Asks whether the plugin may be called.
    ///
    /// # Errors
    /// Not before this moment.
    pub(super) fn admit(&self) -> Result<Option<Probe<'_>>, Instant> {
        self.breaker.admit().map_err(soon)
    }

    /// The moment before which the plugin is not called; none: it is.
    pub(super) fn rests_until(&self) -> Option<Instant> {
        self.breaker.rests_until().map(soon)
    }

    /// A call came to its end.
    pub(super) fn worked(&self, plugin: &str, probe: Option<Probe<'_>>) {
        if self.breaker.worked(probe) {
            tracing::info!(plugin, "the plugin works again; it is called for every event");
        }
    }

    /// A call failed.
    pub(super) fn failed(&self, error: &PluginError, probe: Option<Probe<'_>>) {
        self.n_failures.fetch_add(1, Ordering::Relaxed);
        if !error.cause.is_about_the_plugin() {
            // It gave an answer, if not one that helps this event.
            self.worked(&error.plugin, probe);
            return;
        }
        match self.breaker.failed(probe) {
            Some(Change::Opened(pause)) => tracing::error!(
                plugin = %error.plugin, %error, pause_ms = pause.as_millis(),
                "the plugin failed {MAX_FAILURES_IN_ROW} times in a row; it is not called for a while, and {}",
                match error.on_failure {
                    OnFailure::RetryThenDeadLetter => "its events wait",
                    OnFailure::DeadLetter => "its events become dead letters",
                    OnFailure::Pass => "its events go on without it",
                    OnFailure::Drop => "its events end here",
                }
            ),
            Some(Change::StaysOpen(pause)) => tracing::debug!(
                plugin = %error.plugin, %error, pause_ms = pause.as_millis(), "the plugin still fails"
            ),
            None => {}
        }
    }

    /// Notes that an event goes on, or ends, because of a failure.
    pub(super) fn noted(&self, error: &PluginError) {
        let what = if error.on_failure == OnFailure::Pass {
            self.n_passed_over.fetch_add(1, Ordering::Relaxed);
            "the event goes on without the plugin that failed"
        } else {
            self.n_dropped.fetch_add(1, Ordering::Relaxed);
            "the event is dropped because a plugin failed"
        };
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.at.is_some_and(|at| at.elapsed() < WARNING_INTERVAL) {
            warned.n_left_out += 1;
            tracing::debug!(plugin = %error.plugin, %error, "{what}");
            return;
        }
        let left_out = std::mem::take(&mut warned.n_left_out);
        warned.at = Some(Instant::now());
        drop(warned);
        tracing::warn!(plugin = %error.plugin, %error, left_out, "{what}");
    }

    pub(super) fn report(&self) -> HealthReport {
        HealthReport {
            breaker: self.breaker.state(),
            failures: self.n_failures.load(Ordering::Relaxed),
            failures_in_row: self.breaker.n_failures_in_row(),
            passed_over: self.n_passed_over.load(Ordering::Relaxed),
            dropped_on_failure: self.n_dropped.load(Ordering::Relaxed),
        }
    }
}
