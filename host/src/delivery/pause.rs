//! Whether events are taken from their sources: an operator may stop that for a while.
//!
//! Set by [`crate::control`], looked at by the sources through [`super::Deliveries`]. What was taken before is delivered
//! all the same.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Not paused at first.
#[derive(Debug, Default)]
pub struct Pause {
    is_paused: AtomicBool,
    changed: Notify,
}

impl Pause {
    /// Whether no events are taken.
    pub fn is_paused(&self) -> bool {
        self.is_paused.load(Ordering::Acquire)
    }

    /// Takes no events, or takes them again. True if that is something else than before.
    pub fn set(&self, is_paused: bool) -> bool {
        let was_paused = self.is_paused.swap(is_paused, Ordering::AcqRel);
        self.changed.notify_waiters();
        was_paused != is_paused
    }

    /// Waits until events are taken.
    pub async fn until_resumed(&self) {
        self.until(false).await;
    }

    /// Waits until no events are taken.
    pub async fn until_paused(&self) {
        self.until(true).await;
    }

    async fn until(&self, is_paused: bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on a notification is not missed.
            changed.as_mut().enable();
            if self.is_paused() == is_paused {
                return;
            }
            changed.await;
        }
    }
}
