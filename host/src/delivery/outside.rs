//! What is outside of the process and ends a delivery: the service, the place for dead letters, and the control plane
//! for what plugins answer.
//!
//! Called by [`super::attempt`]. In the model, a script stands in for both.

use http::StatusCode;

use super::Outgoing;
use super::recipient::{AttemptError, Recipient};
use crate::dead_letter::{DeadLetter, DeadLetters, StoreError, Stored};
use crate::plugins::Published;
use crate::sink::{Sink, SinkError};
use crate::trace::TraceContext;

/// All of them.
#[derive(Debug)]
#[cfg_attr(test, expect(clippy::large_enum_variant, reason = "the small one is for tests only"))]
pub(super) enum Outside {
    Real(Recipient, DeadLetters, Sink),
    #[cfg(test)]
    Scripted(super::model::Script),
}

impl Outside {
    /// See [`Recipient::deliver`].
    pub(super) async fn deliver(
        &self,
        event: &Outgoing,
        subscription_id: Option<&str>,
        attempt: u32,
        trace: Option<&TraceContext>,
    ) -> Result<StatusCode, AttemptError> {
        match self {
            Self::Real(recipient, ..) => recipient.deliver(event, subscription_id, attempt, trace).await,
            #[cfg(test)]
            Self::Scripted(script) => script.deliver(event, subscription_id, attempt).await,
        }
    }

    /// See [`DeadLetters::store`].
    pub(super) async fn store(&self, letter: &DeadLetter) -> Result<Stored, StoreError> {
        match self {
            Self::Real(_, dead_letters, _) => dead_letters.store(letter).await,
            #[cfg(test)]
            Self::Scripted(script) => script.store(letter).await,
        }
    }

    /// Sends an event of a plugin to the control plane. Returns when it is stored.
    pub(super) async fn publish(&self, published: &Published) -> Result<(), SinkError> {
        match self {
            Self::Real(_, _, sink) => {
                let mut batch = sink.batch();
                batch.publish(published)?;
                batch.send().await.map(|_| ())
            }
            #[cfg(test)]
            Self::Scripted(_) => Ok(()),
        }
    }
}
