//! JetStream: takes events from a stream as fast as they can be delivered, and answers for each of them.
//!
//! Run by [`super`], one for each stream. `reader` pulls, `acks` answers, and the [`Ledger`] between them knows what
//! is still owed.

mod acks;
mod consumer;
mod continuity;
mod gap;
mod inbox;
mod ledger;
mod place;
mod reader;
mod recovery;
mod settled;

use std::sync::Arc;

use async_nats::Client;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub use self::consumer::Filter;
#[cfg(test)]
pub(crate) use self::consumer::{Position, Progress};
#[cfg(test)]
pub(crate) use self::continuity::{Continuity, Number};
#[cfg(test)]
pub(crate) use self::gap::{Gap, Turn};
pub use self::ledger::{Arrival, Command, Ledger};
#[cfg(test)]
pub(crate) use self::place::{Place, Places};
use self::reader::Reader;
use crate::config::JetStreamConfig;
use crate::dispatch::Dispatcher;

/// What every stream is read with.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) client: Client,
    /// Counts the connections that were made.
    pub(super) connections: watch::Receiver<u64>,
    pub(super) config: JetStreamConfig,
    /// One event at a time, over all replicas.
    pub(super) is_strict: bool,
    pub(super) dispatcher: Arc<Dispatcher>,
    /// Ends reading; settling goes on.
    pub(super) shutdown: CancellationToken,
}

/// A stream that is being read.
#[derive(Debug)]
pub(super) struct StreamSource {
    filter: watch::Sender<Filter>,
    /// What the consumer gives.
    kept: watch::Receiver<Option<Filter>>,
    reading: JoinHandle<()>,
    settling: Settling,
}

/// The end of a source, as long as its events are not settled.
#[derive(Debug)]
pub struct Settling {
    ledger: Arc<Ledger>,
    task: JoinHandle<()>,
    finish: CancellationToken,
}

impl StreamSource {
    /// Starts reading `stream`.
    pub(super) fn start(settings: Settings, stream: &str, filter: Filter) -> Self {
        let (commands, receiver) = mpsc::unbounded_channel();
        let (filter, wanted) = watch::channel(filter);
        let (keeps, kept) = watch::channel(None);
        let finish = CancellationToken::new();
        let ledger = Arc::new(Ledger::new(
            stream.to_owned(),
            settings.config.durable.clone(),
            settings.config.ack_wait,
            commands,
            Arc::clone(&settings.dispatcher.counters),
            settings.shutdown.clone(),
        ));
        let acks = acks::run(
            settings.client.clone(),
            receiver,
            Arc::clone(&ledger),
            settings.config.ack_wait,
            finish.clone(),
        );
        settings.dispatcher.overview.add_stream(&ledger, kept.clone());
        let settled = Arc::clone(&ledger);
        let reader = Reader::new(settings, ledger, wanted, keeps);
        Self {
            filter,
            kept,
            reading: tokio::spawn(reader.run()),
            settling: Settling {
                ledger: settled,
                task: tokio::spawn(acks),
                finish,
            },
        }
    }

    /// Receives something else from now on.
    pub(super) fn change(&self, filter: Filter) {
        self.filter.send_if_modified(|current| {
            let is_other = *current != filter;
            *current = filter;
            is_other
        });
    }

    /// Waits until the stream keeps everything that is wanted for us, or is gone.
    pub(super) async fn is_kept(&mut self) {
        let wanted = self.filter.borrow().clone();
        // An error: it is gone.
        let _ = self.kept.wait_for(|kept| kept.as_ref() == Some(&wanted)).await;
    }

    /// Whether reading has ended: the stream is gone, or there is a shutdown.
    pub(super) fn has_ended(&self) -> bool {
        self.kept.has_changed().is_err()
    }

    /// Waits until reading has ended.
    pub(super) async fn ended(&mut self) {
        while self.kept.changed().await.is_ok() {}
    }

    /// Waits until reading has ended, and leaves what is to be settled.
    pub(super) async fn end(self) -> Settling {
        let _ = self.reading.await;
        self.settling
    }
}

impl Settling {
    /// Tells the server what it has not been told yet. Returns the number of events that are neither settled nor given
    /// back: the server waits for them until their time is over.
    pub async fn finish(self) -> usize {
        self.ledger.abandon();
        self.finish.cancel();
        let _ = self.task.await;
        let (in_memory, _) = self.ledger.unsettled();
        in_memory
    }
}
