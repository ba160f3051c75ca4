//! Dead letters: events that cannot be delivered, kept with the reason until somebody decides about them.
//!
//! [`DeadLetters`] stores them and is called by whoever gives an event up, which it settles only after that. The commands
//! of [`crate::cli`] read them back and deliver them again, and so does [`Repairs`] in a running distributor. It does not know why an event is
//! given up.

mod archive;
mod directory;
mod error;
mod metadata;
pub mod redrive;
mod repair;
mod selection;
mod sink;
mod stream;
mod text;

use std::sync::Arc;
use std::time::SystemTime;

use async_nats::Client;
use bytes::Bytes;

pub use self::archive::{Archive, Entry, Scan};
pub use self::error::{ReadError, StoreError};
pub use self::repair::{Choice, JobKind, JobReport, Letter, Listing, RepairError, Repairs};
pub use self::selection::{Integration, Selection, Tally};
use self::sink::Sink;
pub use self::stream::{STREAM, SUBJECT_PREFIX};
pub use self::text::{one_line, rfc3339};
use crate::config::DeadLetterConfig;
use crate::error_log::ErrorLog;
use crate::metrics::Label;

/// An event that is given up, and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The original bytes; of a split event the child's.
    pub payload: Bytes,
    /// Whether a plugin made this event. It is delivered again as it is, and an original passes the plugins again.
    pub is_child: bool,
    /// Attribute `id`; empty when there is none.
    pub event_id: String,
    /// Attribute `type`; empty when there is none.
    pub event_type: String,
    /// Extension `shkeptncontext`; empty when there is none.
    pub keptn_context: String,
    /// Why it is given up.
    pub reason: Reason,
    /// The status that the service answered last.
    pub status: Option<u16>,
    /// What went wrong last, for people.
    pub error: String,
    /// Attempts that reached the service.
    pub attempts: u32,
    /// When the first of them was made.
    pub first_attempt: Option<SystemTime>,
    /// When the last of them was made.
    pub last_attempt: Option<SystemTime>,
    /// The stream that the event came from.
    pub stream: Option<String>,
    /// Its sequence there.
    pub sequence: Option<u64>,
    /// The subject it was received on.
    pub subject: String,
    /// The subscription it matched.
    pub subscription_id: Option<String>,
    /// The plugin that failed on it.
    pub plugin: Option<String>,
    /// The generation of the chain it passed.
    pub generation: u64,
    /// Its number among the events that the chain made of one.
    pub emission: u32,
    /// `<durable>:<sequence>:<subscription>:<emission>`: the same dead letter is stored once.
    pub message_id: Option<String>,
}

/// Why an event is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// No attempt is left.
    RetriesExhausted,
    /// The service has answered that it will not take it.
    PermanentStatus,
    /// It has been tried for too long.
    Expired,
    /// It is no event.
    Malformed,
    /// A plugin failed on it, or wants it here.
    Plugin,
    /// It is too large for something on its way.
    TooLarge,
    /// What a later version wrote; never stored by this one.
    Unknown,
}

/// Where a dead letter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// In the stream.
    Nats,
    /// In a file.
    Directory,
    /// Nowhere but for a line in the log.
    Log,
}

/// Stores dead letters where the configuration says.
#[derive(Debug)]
pub struct DeadLetters {
    sink: Sink,
    /// Where it is said as well, if there is an integration.
    error_log: Option<Arc<ErrorLog>>,
}

impl DeadLetters {
    /// Opens nothing before the first dead letter. `integration` is the name of this service among all that use the
    /// same stream. Without NATS there is no stream.
    pub fn new(client: impl Into<Option<Client>>, config: &DeadLetterConfig, integration: &str) -> Self {
        Self {
            sink: Sink::new(client.into(), config, integration),
            error_log: None,
        }
    }

    /// The control plane is told as well.
    #[must_use]
    pub fn reported_to(self, error_log: Option<Arc<ErrorLog>>) -> Self {
        Self { error_log, ..self }
    }

    /// Returns when it is stored. The caller settles the event only then, and otherwise tries again.
    ///
    /// # Errors
    /// Why it is not stored, or not known to be.
    pub async fn store(&self, letter: &DeadLetter) -> Result<Stored, StoreError> {
        let stored = self.sink.store(letter).await?;
        if let Some(error_log) = &self.error_log {
            error_log.not_delivered(letter, stored);
        }
        Ok(stored)
    }
}

impl Reason {
    /// All that are stored.
    pub const ALL: [Self; 6] = [
        Self::RetriesExhausted,
        Self::PermanentStatus,
        Self::Expired,
        Self::Malformed,
        Self::Plugin,
        Self::TooLarge,
    ];

    /// As it is written in dead letters, metrics and options.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RetriesExhausted => "retries_exhausted",
            Self::PermanentStatus => "permanent_status",
            Self::Expired => "expired",
            Self::Malformed => "malformed",
            Self::Plugin => "plugin",
            Self::TooLarge => "too_large",
            Self::Unknown => "unknown",
        }
    }

    /// The reverse of [`Self::as_str`].
    pub fn parse(text: &str) -> Self {
        let found = Self::ALL.into_iter().find(|reason| reason.as_str() == text);
        found.unwrap_or(Self::Unknown)
    }
}

impl Label for Reason {
    const VALUES: &'static [Self] = &Self::ALL;

    fn name(self) -> &'static str {
        self.as_str()
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
