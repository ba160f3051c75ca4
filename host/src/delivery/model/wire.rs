//! A connection in one direction: what is sent arrives in its order a little later, or never.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

/// Time from one end to the other.
pub(super) const LATENCY: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub(super) struct Sender<T> {
    is_broken: Arc<AtomicBool>,
    queue: mpsc::UnboundedSender<(Instant, T)>,
}

#[derive(Debug)]
pub(super) struct Receiver<T> {
    is_broken: Arc<AtomicBool>,
    queue: mpsc::UnboundedReceiver<(Instant, T)>,
}

/// Both ends. As long as `is_broken` is set, everything is lost.
pub(super) fn wire<T>(is_broken: &Arc<AtomicBool>) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let sender = Sender {
        is_broken: Arc::clone(is_broken),
        queue: sender,
    };
    let receiver = Receiver {
        is_broken: Arc::clone(is_broken),
        queue: receiver,
    };
    (sender, receiver)
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            is_broken: Arc::clone(&self.is_broken),
            queue: self.queue.clone(),
        }
    }
}

impl<T> Sender<T> {
    pub(super) fn send(&self, item: T) {
        if !self.is_broken.load(Ordering::Relaxed) {
            // Without a receiver the instance is gone.
            let _ = self.queue.send((Instant::now() + LATENCY, item));
        }
    }
}

impl<T> Receiver<T> {
    /// Hands over what arrives, until there are no senders.
    pub(super) async fn run(mut self, mut arrived: impl FnMut(T)) {
        while let Some((at, item)) = self.queue.recv().await {
            tokio::time::sleep_until(at).await;
            if !self.is_broken.load(Ordering::Relaxed) {
                arrived(item);
            }
        }
    }
}
