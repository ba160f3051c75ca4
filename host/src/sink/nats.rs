//! Sends events of the service to NATS, and says that it did so only when it is true.
//!
//! Called by [`super`]. Where a stream stores what is published on the event's type, the stream has to confirm it;
//! elsewhere the server has to have handled it. It knows neither HTTP nor plugins.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::{self, message::PublishMessage};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::coverage::{Coverage, Storage};
use crate::event::Event;
use crate::nats::{self, Echo};
use crate::streams::{LookupError, Streams};
use crate::subject::{Subject, SubjectError};
use crate::trace::TraceContext;

/// Time for all of one request: looking up streams, the way to the client's queue, and what NATS needs to confirm.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// Events of one request that wait for a stream at the same time.
const MAX_UNCONFIRMED: usize = 256;
/// A server closes the connection over a line longer than 4,096 bytes, which holds the subject and some 100 bytes more.
const MAX_TYPE_BYTES: usize = 2_048;
/// What a message has before its payload and counts as part of it: `NATS/1.0`, `Nats-Msg-Id: ` with 32 digits, and an
/// empty line.
const HEADER_BYTES: usize = 59;

/// The way to the control plane in the cluster.
#[derive(Debug, Clone)]
pub struct NatsSink {
    client: Client,
    jetstream: jetstream::Context,
    streams: Streams,
    coverage: Coverage,
    /// Made for the first event that no stream confirms.
    echo: Arc<OnceCell<Echo>>,
}

/// Why an event was not sent.
#[derive(Debug, thiserror::Error)]
pub enum NatsSinkError {
    /// It has a type that no subject can have.
    #[error("type {ty:?} {error}; it is also the NATS subject")]
    Type {
        /// The type.
        ty: String,
        /// What is wrong with it.
        error: SubjectError,
    },
    /// It has a type that is too long for a subject.
    #[error("a type of {size} bytes is longer than {MAX_TYPE_BYTES}; it is also the NATS subject")]
    TypeTooLong {
        /// Length of the type in bytes.
        size: usize,
    },
    /// Larger than the server takes.
    #[error("{size} bytes are more than the {limit} that NATS takes")]
    TooLarge {
        /// Size of the event with its headers.
        size: usize,
        /// What the server takes.
        limit: usize,
    },
    /// It is not known whether a stream has to store it, so nothing was sent.
    #[error("{0}")]
    Lookup(#[from] LookupError),
    /// The stream does not take it, for one because it is full.
    #[error("the stream refused the event: {0}")]
    Refused(String),
    /// NATS is away, or went away before it confirmed. The event may have arrived.
    #[error("NATS did not confirm the event: {0}")]
    Unconfirmed(String),
}

/// An event and where it goes.
#[derive(Debug)]
pub(super) struct NatsEvent {
    subject: Subject,
    pub(super) event: Event,
    /// None: made of the bytes, where it is needed.
    message_id: Option<String>,
}

impl NatsSink {
    /// Sends over this connection.
    pub fn new(client: Client, streams: Streams) -> Self {
        Self {
            jetstream: jetstream::new(client.clone()),
            streams,
            coverage: Coverage::default(),
            echo: Arc::default(),
            client,
        }
    }

    /// Checks what can be known without sending.
    ///
    /// # Errors
    /// Why the event cannot be sent.
    pub(super) fn prepare(
        &self,
        event: Event,
        message_id: Option<Uuid>,
        trace: Option<&TraceContext>,
    ) -> Result<NatsEvent, NatsSinkError> {
        let mut message_id = message_id.map(|id| id.simple().to_string());
        let mut event = event;
        // Where the event began it says so itself, and that is not changed on its way.
        if let Some(trace) = trace
            && event.trace().is_none()
            && let Ok(traced) = event.with_trace(&trace.to_string(), trace.state())
        {
            // If the service sends it again, as another step, it is still the same event.
            message_id.get_or_insert_with(|| hash_of(&event));
            event = traced;
        }
        Ok(NatsEvent {
            subject: self.check(&event)?,
            event,
            message_id,
        })
    }

    fn check(&self, event: &Event) -> Result<Subject, NatsSinkError> {
        let ty = event.ty();
        if ty.len() > MAX_TYPE_BYTES {
            return Err(NatsSinkError::TypeTooLong { size: ty.len() });
        }
        let subject = Subject::literal(&ty).map_err(|error| NatsSinkError::Type {
            ty: ty.clone().into_owned(),
            error,
        })?;
        self.check_size(event.bytes().len())?;
        Ok(subject)
    }

    /// Publishes events on their types, in their order, and waits until all of them are stored: in the stream that
    /// covers the type, or, where none does, in the server.
    ///
    /// # Errors
    /// When it cannot be said that all of them are stored. Some may be; sent again, a stream stores none twice.
    pub(super) async fn send(&self, events: &[NatsEvent]) -> Result<(), NatsSinkError> {
        if !nats::is_connected(&self.client) {
            return Err(unconfirmed("not connected"));
        }
        let sent = tokio::time::timeout(SEND_TIMEOUT, self.send_all(events)).await;
        let sent = sent.unwrap_or_else(|_| Err(unconfirmed("it took too long")));
        if matches!(sent, Err(NatsSinkError::Unconfirmed(_))) {
            // Without its stream an event goes to those who listen, none of whom confirms it.
            for NatsEvent { subject, .. } in events {
                self.coverage.doubt(subject);
            }
        }
        sent
    }

    async fn send_all(&self, events: &[NatsEvent]) -> Result<(), NatsSinkError> {
        let nobody_took = self.publish(events.iter()).await?;
        // A stream that has gone meanwhile. Nobody has these events yet, so they may be sent once more.
        for NatsEvent { subject, .. } in &nobody_took {
            self.coverage.doubt(subject);
        }
        match self.publish(nobody_took.into_iter()).await?.first() {
            None => Ok(()),
            Some(NatsEvent { subject, .. }) => Err(unconfirmed(&format!("the stream of {subject} is away"))),
        }
    }

    /// Returns the events that should have gone to a stream but reached nobody at all.
    async fn publish<'a>(
        &self,
        events: impl Iterator<Item = &'a NatsEvent>,
    ) -> Result<Vec<&'a NatsEvent>, NatsSinkError> {
        // All that can fail without sending comes first.
        let mut routed = Vec::with_capacity(events.size_hint().0);
        for entry in events {
            let storage = self.storage(&entry.subject).await?;
            if storage == Storage::Stream {
                self.check_size(entry.event.bytes().len() + HEADER_BYTES)?;
            }
            routed.push((storage, entry));
        }

        let mut unconfirmed = Unconfirmed::default();
        let mut unstored = None;
        for (storage, entry) in routed {
            let NatsEvent {
                subject,
                event,
                message_id,
            } = entry;
            match storage {
                Storage::Stream => {
                    if unconfirmed.waiting.len() == MAX_UNCONFIRMED {
                        unconfirmed.wait_for_one().await?;
                    }
                    let message = PublishMessage::build().payload(event.bytes().clone());
                    let message = message.message_id(message_id.clone().unwrap_or_else(|| hash_of(event)));
                    let sent = self.jetstream.send_publish(subject.as_str().to_owned(), message).await;
                    unconfirmed
                        .waiting
                        .push_back((entry, sent.map_err(|error| refusal(&error))?));
                }
                Storage::Nowhere => {
                    unstored.get_or_insert_with(|| self.connection());
                    let sent = self
                        .client
                        .publish(subject.as_str().to_owned(), event.bytes().clone())
                        .await;
                    sent.map_err(|error| NatsSinkError::Unconfirmed(error.to_string()))?;
                }
            }
        }
        if let Some(connection) = unstored {
            self.confirm(&connection).await?;
        }
        while !unconfirmed.waiting.is_empty() {
            unconfirmed.wait_for_one().await?;
        }
        Ok(unconfirmed.reached_nobody)
    }

    async fn storage(&self, subject: &Subject) -> Result<Storage, LookupError> {
        let look_up = |subject| {
            let streams = self.streams.clone();
            async move { streams.storing(&subject).await }
        };
        self.coverage.of(subject, look_up).await
    }

    /// Waits until the server has handled what was sent over this connection.
    async fn confirm(&self, connection: &(String, u64)) -> Result<(), NatsSinkError> {
        let echo = self.echo.get_or_try_init(|| Echo::start(self.client.clone())).await;
        let echo = echo.map_err(|error| NatsSinkError::Unconfirmed(error.to_string()))?;
        echo.round_trip().await.map_err(NatsSinkError::Unconfirmed)?;
        // On another connection the message says nothing about events that went over the one before.
        if self.connection() == *connection {
            Ok(())
        } else {
            Err(unconfirmed("the connection was lost meanwhile"))
        }
    }

    fn check_size(&self, size: usize) -> Result<(), NatsSinkError> {
        let limit = self.client.max_payload();
        if size > limit {
            return Err(NatsSinkError::TooLarge { size, limit });
        }
        Ok(())
    }

    fn connection(&self) -> (String, u64) {
        let info = self.client.server_info();
        (info.server_id, info.client_id)
    }
}

/// Events that streams have not confirmed yet, the oldest first.
#[derive(Default)]
struct Unconfirmed<'a> {
    waiting: VecDeque<(&'a NatsEvent, PublishAckFuture)>,
    reached_nobody: Vec<&'a NatsEvent>,
}

impl Unconfirmed<'_> {
    async fn wait_for_one(&mut self) -> Result<(), NatsSinkError> {
        let Some((entry, confirmation)) = self.waiting.pop_front() else {
            return Ok(());
        };
        match confirmation.await {
            // A duplicate is confirmed as well: the stream has it from an attempt before.
            Ok(_) => Ok(()),
            Err(error) if error.kind() == PublishErrorKind::StreamNotFound => {
                self.reached_nobody.push(entry);
                Ok(())
            }
            Err(error) => Err(refusal(&error)),
        }
    }
}

/// The same bytes have the same id, in every attempt and in every process: a stream stores one of them (within its
/// duplicate window, two minutes unless it says otherwise). They include source, id and type.
fn hash_of(event: &Event) -> String {
    let hash = Sha256::digest(event.bytes());
    let (first, _) = hash.split_first_chunk().expect("the hash has 32 bytes");
    format!("{:032x}", u128::from_be_bytes(*first))
}

fn refusal(error: &PublishError) -> NatsSinkError {
    match error
        .source()
        .and_then(|source| source.downcast_ref::<jetstream::Error>())
    {
        Some(refused) => NatsSinkError::Refused(refused.to_string()),
        None => NatsSinkError::Unconfirmed(error.to_string()),
    }
}

fn unconfirmed(reason: &str) -> NatsSinkError {
    NatsSinkError::Unconfirmed(reason.to_owned())
}
