//! Holds deliveries back while the service is not ready, so that it costs no attempts and no load.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex as SyncMutex, MutexGuard as SyncMutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Mutex, MutexGuard, Notify};

/// Pause after the first probe that failed; doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The service gets its events at most this long after it is ready.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Open as long as the service answers.
#[derive(Debug, Default)]
pub(super) struct Gate {
    is_closed: AtomicBool,
    opened: Notify,
    /// Whoever holds this finds out whether the service is ready.
    probe: Mutex<()>,
    /// Probes that found out that it is not, since the gate was closed.
    n_failed_probes: AtomicU32,
    held_back: SyncMutex<Option<HeldBack>>,
}

/// Why deliveries wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBack {
    /// Since when.
    pub since: SystemTime,
    /// How the service answered last.
    pub error: String,
}

/// The right to try a delivery while the gate is closed.
pub(super) type Probe<'a> = MutexGuard<'a, ()>;

impl Gate {
    /// Waits until a delivery may be tried: at once while the gate is open, otherwise one after the other. Some: the gate
    /// is closed, and the caller is to find out whether it still has to be.
    pub(super) async fn turn(&self) -> Option<Probe<'_>> {
        if !self.is_closed() {
            return None;
        }
        let probe = self.probe.lock().await;
        self.is_closed().then_some(probe)
    }

    /// Closes the gate; true if it was open.
    pub(super) fn close(&self, error: &impl Display) -> bool {
        let error = error.to_string();
        match &mut *self.held_back_now() {
            Some(held_back) => held_back.error = error,
            none => {
                let since = SystemTime::now();
                *none = Some(HeldBack { since, error });
            }
        }
        !self.is_closed.swap(true, Ordering::AcqRel)
    }

    /// Opens the gate; true if it was closed.
    pub(super) fn open(&self) -> bool {
        // Every delivery comes by here: only read as long as nothing has to change.
        let was_closed = self.is_closed() && self.is_closed.swap(false, Ordering::AcqRel);
        if was_closed {
            self.n_failed_probes.store(0, Ordering::Relaxed);
            self.held_back_now().take();
            self.opened.notify_waiters();
        }
        was_closed
    }

    /// The service is still not ready. The turn is the next one's: an answer may be about one delivery alone.
    pub(super) fn probe_failed(&self, probe: Probe<'_>) {
        self.n_failed_probes.fetch_add(1, Ordering::Relaxed);
        drop(probe);
    }

    /// How long whoever has the turn waits before the next probe. `random` is from 0 to 1: replicas do not knock together.
    pub(super) fn pause(&self, random: f64) -> Duration {
        pause_before_probe(self.n_failed_probes.load(Ordering::Relaxed), random)
    }

    /// Waits until the gate is open.
    pub(super) async fn until_open(&self) {
        loop {
            let opened = self.opened.notified();
            tokio::pin!(opened);
            // From here on a notification is not missed.
            opened.as_mut().enable();
            if !self.is_closed() {
                return;
            }
            opened.await;
        }
    }

    /// Why deliveries wait, while they do.
    pub(super) fn held_back(&self) -> Option<HeldBack> {
        self.held_back_now().clone()
    }

    fn held_back_now(&self) -> SyncMutexGuard<'_, Option<HeldBack>> {
        self.held_back.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether deliveries wait for the service.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }
}

fn pause_before_probe(failed: u32, random: f64) -> Duration {
    let ceiling = FIRST_PAUSE.saturating_mul(1 << failed.min(10)).min(LONGEST_PAUSE);
    ceiling.mul_f64(0.5 + random / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn while_closed_one_at_a_time_gets_through() {
        let gate = Gate::default();
        assert!(gate.turn().await.is_none());

        assert!(gate.close(&"refused"));
        let since = gate.held_back().map(|held_back| held_back.since);
        assert!(!gate.close(&"503"));
        let held_back = gate.held_back().unwrap();
        assert_eq!((Some(held_back.since), held_back.error.as_str()), (since, "503"));
        let probe = gate.turn().await;
        assert!(probe.is_some());
        let mut next = std::pin::pin!(gate.turn());
        assert!(futures_util::poll!(next.as_mut()).is_pending());

        assert!(gate.open());
        assert_eq!(gate.held_back(), None);
        drop(probe);
        assert!(next.await.is_none(), "the gate was opened meanwhile");
    }

    #[tokio::test]
    async fn after_a_probe_that_failed_it_is_the_next_ones_turn() {
        let gate = Gate::default();
        gate.close(&"refused");
        let probe = gate.turn().await.unwrap();
        let mut next = std::pin::pin!(gate.turn());
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        gate.probe_failed(probe);
        let mut again = std::pin::pin!(gate.turn());
        assert!(futures_util::poll!(again.as_mut()).is_pending());
        assert!(next.await.is_some());
        assert!(again.await.is_some());
        assert_eq!(gate.pause(1.0), Duration::from_millis(200));
        gate.open();
        assert_eq!(gate.pause(1.0), Duration::from_millis(100));
    }

    #[test]
    fn probes_come_at_least_every_five_seconds() {
        assert_eq!(pause_before_probe(0, 1.0), Duration::from_millis(100));
        assert_eq!(pause_before_probe(0, 0.0), Duration::from_millis(50));
        assert_eq!(pause_before_probe(3, 1.0), Duration::from_millis(800));
        assert_eq!(pause_before_probe(1000, 1.0), Duration::from_secs(5));
    }
}
