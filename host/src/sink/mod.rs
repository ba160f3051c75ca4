//! Sends events of the service to the control plane: over NATS in its cluster, over its API from elsewhere.
//!
//! Called by [`crate::ingress`], which does not know which of the two it is.

mod api;
mod coverage;
mod nats;

use std::time::Duration;

use http::StatusCode;

use self::api::ApiEvent;
pub use self::api::{ApiSink, ApiSinkError};
use self::nats::NatsEvent;
pub use self::nats::{NatsSink, NatsSinkError};
use crate::event::Event;
use crate::plugins::Published;
use crate::trace::TraceContext;

/// The way to the control plane.
#[derive(Debug, Clone)]
pub enum Sink {
    /// Over NATS.
    Nats(Box<NatsSink>),
    /// Over the Keptn API.
    Api(Box<ApiSink>),
}

/// Events that are sent together: all of them, or it is an error.
#[derive(Debug)]
pub struct Batch<'a>(Way<'a>);

#[derive(Debug)]
enum Way<'a> {
    Nats(&'a NatsSink, Vec<NatsEvent>),
    Api(&'a ApiSink, Vec<ApiEvent>),
}

/// Why an event was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Over NATS.
    #[error("{0}")]
    Nats(#[from] NatsSinkError),
    /// Over the Keptn API.
    #[error("{0}")]
    Api(#[from] ApiSinkError),
}

impl Sink {
    /// Nothing yet.
    pub fn batch(&self) -> Batch<'_> {
        Batch(match self {
            Self::Nats(sink) => Way::Nats(sink, Vec::new()),
            Self::Api(sink) => Way::Api(sink, Vec::new()),
        })
    }
}

impl Batch<'_> {
    /// Adds an event, after checking what can be known without sending it. Over NATS it goes on as part of `trace`; the
    /// Keptn API takes only what it knows.
    ///
    /// # Errors
    /// Why it cannot be sent.
    pub fn add(&mut self, event: Event, trace: Option<&TraceContext>) -> Result<(), SinkError> {
        match &mut self.0 {
            Way::Nats(sink, events) => events.push(sink.prepare(event, None, trace)?),
            Way::Api(sink, events) => events.push(sink.prepare(event)?),
        }
        Ok(())
    }

    /// Adds an event of a plugin, which a stream stores once even if it is sent again with other bytes, e.g. another
    /// time.
    ///
    /// # Errors
    /// Why it cannot be sent.
    pub fn publish(&mut self, published: &Published) -> Result<(), SinkError> {
        let event = published.event.clone();
        match &mut self.0 {
            Way::Nats(sink, events) => events.push(sink.prepare(event, Some(published.message_id), None)?),
            Way::Api(sink, events) => events.push(sink.prepare(event)?),
        }
        Ok(())
    }

    /// Sends all events in their order, and returns them when the control plane has them.
    ///
    /// # Errors
    /// When it cannot be said that it has all of them. It may have some.
    pub async fn send(self) -> Result<Vec<Event>, SinkError> {
        match self.0 {
            Way::Nats(sink, events) => {
                if !events.is_empty() {
                    sink.send(&events).await?;
                }
                Ok(events.into_iter().map(|event| event.event).collect())
            }
            Way::Api(sink, events) => {
                sink.send(&events).await?;
                Ok(events.into_iter().map(|event| event.event).collect())
            }
        }
    }
}

impl SinkError {
    /// The status that tells the service what to do.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Nats(NatsSinkError::Type { .. } | NatsSinkError::TypeTooLong { .. }) => StatusCode::BAD_REQUEST,
            Self::Nats(NatsSinkError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Nats(NatsSinkError::Lookup(_) | NatsSinkError::Refused(_) | NatsSinkError::Unconfirmed(_)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Api(error) => error.status(),
        }
    }

    /// How long the control plane wants to be left alone, if it says so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Nats(_) => None,
            Self::Api(error) => error.retry_after(),
        }
    }
}
