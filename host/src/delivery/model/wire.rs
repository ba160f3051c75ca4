//! A connection: what is sent arrives in its order a little later, or is lost when the connection breaks meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Time from one end to the other.
pub(super) const LATENCY: Duration = Duration::from_millis(2);

/// The connection of one process. It gets a new number each time that it is made.
#[derive(Debug)]
pub(super) struct Link(watch::Sender<Connection>);

#[derive(Debug, Clone, Copy)]
struct Connection {
    number: u64,
    is_broken: bool,
}

impl Link {
    pub(super) fn new() -> Arc<Self> {
        let connection = Connection {
            number: 1,
            is_broken: false,
        };
        Arc::new(Self(watch::Sender::new(connection)))
    }

    pub(super) fn is_broken(&self) -> bool {
        self.0.borrow().is_broken
    }

    /// The number of the connection, or of the last one.
    pub(super) fn number(&self) -> u64 {
        self.0.borrow().number
    }

    pub(super) fn break_off(&self) {
        self.0.send_modify(|connection| connection.is_broken = true);
    }

    /// Connects again.
    pub(super) fn mend(&self) {
        self.0.send_modify(|connection| {
            connection.number += 1;
            connection.is_broken = false;
        });
    }

    /// Waits until there is a connection with this number, or a later one.
    pub(super) async fn until(&self, number: u64) {
        let mut changes = self.0.subscribe();
        let is_there = |connection: &Connection| connection.number >= number && !connection.is_broken;
        let _ = changes.wait_for(is_there).await;
    }
}

#[derive(Debug)]
pub(super) struct Sender<T> {
    link: Arc<Link>,
    keeps_unsent: bool,
    queue: mpsc::UnboundedSender<Parcel<T>>,
}

#[derive(Debug)]
pub(super) struct Receiver<T> {
    link: Arc<Link>,
    queue: mpsc::UnboundedReceiver<Parcel<T>>,
}

#[derive(Debug)]
struct Parcel<T> {
    arrives: Instant,
    /// The number of the connection that it goes over.
    connection: u64,
    item: T,
}

/// Both ends of one direction. As a client does and a server does not, `keeps_unsent` keeps what is sent without a
/// connection for the next one.
pub(super) fn wire<T>(link: &Arc<Link>, keeps_unsent: bool) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let sender = Sender {
        link: Arc::clone(link),
        keeps_unsent,
        queue: sender,
    };
    let receiver = Receiver {
        link: Arc::clone(link),
        queue: receiver,
    };
    (sender, receiver)
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            link: Arc::clone(&self.link),
            keeps_unsent: self.keeps_unsent,
            queue: self.queue.clone(),
        }
    }
}

impl<T> Sender<T> {
    pub(super) fn send(&self, item: T) {
        let is_broken = self.link.is_broken();
        if is_broken && !self.keeps_unsent {
            return;
        }
        // Without a receiver the process is gone.
        let _ = self.queue.send(Parcel {
            arrives: Instant::now() + LATENCY,
            connection: self.link.number() + u64::from(is_broken),
            item,
        });
    }
}

impl<T> Receiver<T> {
    /// Hands over what arrives, until there are no senders.
    pub(super) async fn run(mut self, mut arrived: impl FnMut(T)) {
        while let Some(parcel) = self.queue.recv().await {
            tokio::time::sleep_until(parcel.arrives).await;
            if parcel.connection > self.link.number() {
                self.link.until(parcel.connection).await;
            }
            if parcel.connection == self.link.number() && !self.link.is_broken() {
                arrived(parcel.item);
            }
        }
    }
}
