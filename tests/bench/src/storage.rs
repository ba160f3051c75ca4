//! The server with JetStream, and the stream that a round has for itself.
//!
//! Called by `stage` and the rounds that fill a stream themselves. It must not know what is measured.

use anyhow::{Context as _, ensure};
use async_nats::jetstream::context::{DeleteStreamError, DeleteStreamErrorKind};
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{self, Context, ErrorCode};
use async_nats::{Client, Subject};
use test_support::{NatsServer, create_keptn_stream};

use crate::events::{Events, SUBJECT};

/// The durable consumer that the distributor is told to use.
pub(crate) const DURABLE: &str = "bench";

/// The stream that `create_keptn_stream` makes.
const STREAM: &str = "keptn";

/// A running server. Its files are in a temporary folder that goes with it.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) server: NatsServer,
    pub(crate) client: Client,
    context: Context,
}

/// A stream with all events of this load, and nothing else in it.
#[derive(Clone, Debug)]
pub(crate) struct EventStream {
    client: Client,
    context: Context,
    stream: Stream,
}

impl Storage {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let server = NatsServer::builder().jetstream(true).start().await?;
        let client = server.client().await?;
        Ok(Self {
            server,
            context: jetstream::new(client.clone()),
            client,
        })
    }

    /// An empty stream without consumers, if there was none.
    pub(crate) async fn new_stream(&self) -> anyhow::Result<EventStream> {
        Ok(EventStream {
            client: self.client.clone(),
            context: self.context.clone(),
            stream: create_keptn_stream(&self.context).await?,
        })
    }

    /// Deletes the stream, if there is one: its files are not to be written out while the next round is measured.
    pub(crate) async fn clear(&self) -> anyhow::Result<()> {
        match self.context.delete_stream(STREAM).await {
            Err(error) if !is_not_found(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl EventStream {
    /// Stores the events with the numbers below `n_events`, as fast as the server takes them.
    pub(crate) async fn fill(&self, events: &Events, n_events: usize) -> anyhow::Result<()> {
        // A stream drops what comes without a wish for confirmation while 10,000 messages or 128 MiB wait for it. It
        // takes them in order, so the confirmation of the last one of a batch is one for all.
        const BATCH: usize = 2_048;
        let subject = Subject::from_static(SUBJECT);
        let before = self.n_stored().await?;
        for start in (0..n_events).step_by(BATCH) {
            let last = (start + BATCH).min(n_events) - 1;
            for sequence in start..last {
                let event = events.counted(sequence);
                self.client.publish(subject.clone(), event).await?;
            }
            let sent = self.context.publish(subject.clone(), events.counted(last)).await?;
            sent.await.context("the stream does not take the events")?;
        }
        let stored = self.n_stored().await? - before;
        ensure!(
            stored == n_events,
            "{stored} of {n_events} events are in the stream: the publisher lost the others"
        );
        Ok(())
    }

    /// How many events are in it, delivered or not.
    pub(crate) async fn n_stored(&self) -> anyhow::Result<usize> {
        Ok(usize::try_from(self.stream.get_info().await?.state.messages)?)
    }

    /// Whether the distributor has made its durable consumer.
    pub(crate) async fn has_durable(&self) -> bool {
        self.stream.consumer_info(DURABLE).await.is_ok()
    }

    /// Events that the durable consumer still has to give, or to be told of.
    pub(crate) async fn n_outstanding(&self) -> anyhow::Result<u64> {
        let info = self.stream.consumer_info(DURABLE).await?;
        Ok(info.num_pending + u64::try_from(info.num_ack_pending)?)
    }
}

fn is_not_found(error: &DeleteStreamError) -> bool {
    match error.kind() {
        DeleteStreamErrorKind::JetStream(error) => error.error_code() == ErrorCode::STREAM_NOT_FOUND,
        _ => false,
    }
}
