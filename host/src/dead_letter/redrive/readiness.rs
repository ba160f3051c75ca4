//! Whether the service takes events at all, as far as a redrive has seen.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex as SyncMutex, MutexGuard as SyncMutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::delivery::AttemptError;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What is known of the service.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    /// Since when it has not been ready.
    refused_since: SyncMutex<Option<Instant>>,
    /// Whether it has ever taken an event.
    was_ready: AtomicBool,
    /// Whoever holds this finds out whether it is ready.
    probe: Mutex<()>,
}

impl Readiness {
    /// Waits until an attempt may be made: at once while the service answers, otherwise one after the other.
    pub(super) async fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        if self.lock().is_none() {
            return None;
        }
        let probe = self.probe.lock().await;
        self.lock().is_some().then_some(probe)
    }

    /// The service has taken an event.
    pub(super) fn delivered(&self) {
        self.was_ready.store(true, Ordering::Relaxed);
        self.answered();
    }

    /// The service has answered.
    pub(super) fn answered(&self) {
        if self.lock().take().is_some() {
            tracing::warn!("the service is ready; the redrive goes on");
        }
    }

    /// The service is not ready. For how long that has been so.
    pub(super) fn refused(&self, error: &AttemptError) -> Duration {
        let mut is_new = false;
        let since = *self.lock().get_or_insert_with(|| {
            is_new = true;
            Instant::now()
        });
        if is_new {
            tracing::warn!(%error, "the service is not ready; the redrive waits");
        }
        since.elapsed()
    }

    /// Whether the service has ever taken an event.
    pub(super) fn was_ready(&self) -> bool {
        self.was_ready.load(Ordering::Relaxed)
    }

    fn lock(&self) -> SyncMutexGuard<'_, Option<Instant>> {
        self.refused_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pause before a further probe.
pub(super) fn pause(failed_probes: u32) -> Duration {
    let ceiling = FIRST_PAUSE
        .saturating_mul(1 << failed_probes.min(10))
        .min(LONGEST_PAUSE);
    ceiling.mul_f64(0.5 + fastrand::f64() / 2.0)
}
