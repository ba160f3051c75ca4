//! Sends events of the service to NATS, and says that it did so only when it is true.

use std::time::Duration;

use async_nats::Client;

use crate::event::Event;
use crate::nats;
use crate::subject::{Subject, SubjectError};

/// Time that NATS gets to confirm.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// The way to the control plane.
#[derive(Debug, Clone)]
pub struct Sink {
    client: Client,
}

/// Why an event was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// It has a type that no subject can have.
    #[error("type {ty:?} {error}; it is also the NATS subject")]
    Type {
        /// The type.
        ty: String,
        /// What is wrong with it.
        error: SubjectError,
    },
    /// Larger than the server takes.
    #[error("{size} bytes are more than the {limit} that NATS takes")]
    TooLarge {
        /// Size of the event.
        size: usize,
        /// What the server takes.
        limit: usize,
    },
    /// NATS is away, or went away before it confirmed. The event may have arrived.
    #[error("NATS did not confirm the event: {0}")]
    Unconfirmed(String),
}

impl Sink {
    /// Sends over this connection.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Checks what can be known without sending.
    ///
    /// # Errors
    /// Why the event cannot be sent.
    pub fn check(&self, event: &Event) -> Result<Subject, SinkError> {
        let ty = event.ty();
        let subject = Subject::literal(&ty).map_err(|error| SinkError::Type {
            ty: ty.clone().into_owned(),
            error,
        })?;
        let (size, limit) = (event.bytes().len(), self.client.max_payload());
        if size > limit {
            return Err(SinkError::TooLarge { size, limit });
        }
        Ok(subject)
    }

    /// Publishes events on their types, and waits until the server has them.
    ///
    /// # Errors
    /// When it cannot be said that the server has all of them.
    pub async fn send(&self, events: &[(Subject, Event)]) -> Result<(), SinkError> {
        let unconfirmed = |reason: &str| SinkError::Unconfirmed(reason.to_owned());
        if !nats::is_connected(&self.client) {
            return Err(unconfirmed("not connected"));
        }
        let connection = self.connection();
        for (subject, event) in events {
            let published = self.client.publish(subject.to_string(), event.bytes().clone()).await;
            published.map_err(|error| SinkError::Unconfirmed(error.to_string()))?;
        }
        nats::round_trip(&self.client, CONFIRM_TIMEOUT)
            .await
            .map_err(SinkError::Unconfirmed)?;
        // On another connection the message says nothing about events that went over the one before.
        if self.connection() == connection {
            Ok(())
        } else {
            Err(unconfirmed("the connection was lost meanwhile"))
        }
    }

    fn connection(&self) -> (String, u64) {
        let info = self.client.server_info();
        (info.server_id, info.client_id)
    }
}
