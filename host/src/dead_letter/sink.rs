//! Stores dead letters in the place that the configuration names.

use std::sync::atomic::{AtomicU32, Ordering};

use async_nats::Client;

use super::directory::DirectorySink;
use super::stream::StreamSink;
use super::{DeadLetter, StoreError, Stored, one_line};
use crate::config::{DeadLetterConfig, DeadLetterSink};

/// So many unanswered questions make one believe that there is no JetStream.
const MAX_UNKNOWN: u32 = 3;

#[derive(Debug)]
pub(super) enum Sink {
    /// The stream; the log where JetStream does not exist.
    Auto {
        stream: StreamSink,
        /// How often in a row nothing was heard from a JetStream that has never answered.
        n_unknown: AtomicU32,
    },
    Stream(StreamSink),
    Directory(DirectorySink),
    Log,
}

impl Sink {
    pub(super) fn new(client: Option<Client>, config: &DeadLetterConfig, integration: &str) -> Self {
        match (&config.sink, client) {
            (DeadLetterSink::Auto, Some(client)) => Self::Auto {
                stream: StreamSink::new(client, config, integration),
                n_unknown: AtomicU32::new(0),
            },
            (DeadLetterSink::Nats, Some(client)) => Self::Stream(StreamSink::new(client, config, integration)),
            (DeadLetterSink::Directory(directory), _) => {
                Self::Directory(DirectorySink::new(directory.clone(), config.max_bytes, integration))
            }
            (DeadLetterSink::Log | DeadLetterSink::Auto | DeadLetterSink::Nats, _) => Self::Log,
        }
    }

    pub(super) async fn store(&self, letter: &DeadLetter) -> Result<Stored, StoreError> {
        match self {
            Self::Auto { stream, n_unknown } => match stream.store(letter).await {
                Ok(()) => Ok(Stored::Nats),
                // An event that came from a stream shows that there is JetStream, and so does an answer it gave before:
                // then it will be back. Only where it does not exist is an event given up for a line in the log.
                Err(error) if letter.stream.is_none() && !stream.was_available() => {
                    let is_missing = match error {
                        StoreError::NoJetStream(_) => true,
                        // An account that may not ask never gets an answer.
                        StoreError::Unconfirmed(_) => n_unknown.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_UNKNOWN,
                        _ => false,
                    };
                    if !is_missing {
                        return Err(error);
                    }
                    log(letter);
                    Ok(Stored::Log)
                }
                Err(error) => Err(error),
            },
            Self::Stream(sink) => sink.store(letter).await.map(|()| Stored::Nats),
            Self::Directory(sink) => sink.store(letter).await.map(|()| Stored::Directory),
            Self::Log => {
                log(letter);
                Ok(Stored::Log)
            }
        }
    }
}

/// The event itself is not logged: it may hold what nobody but its recipient may see.
fn log(letter: &DeadLetter) {
    let line = |text: &str| one_line(text, 512);
    tracing::error!(
        event_id = line(&letter.event_id),
        event_type = line(&letter.event_type),
        keptn_context = line(&letter.keptn_context),
        subject = line(&letter.subject),
        subscription_id = line(letter.subscription_id.as_deref().unwrap_or_default()),
        plugin = line(letter.plugin.as_deref().unwrap_or_default()),
        reason = letter.reason.as_str(),
        status = letter.status,
        attempt = letter.attempts,
        generation = letter.generation,
        error = line(&letter.error),
        "dead letter; the event is kept nowhere"
    );
}
