//! Why a dead letter is not stored, or cannot be read.

use std::io;
use std::path::PathBuf;

use super::stream::STREAM;

/// Why a dead letter is not stored. But for [`StoreError::TooLarge`] a later attempt may succeed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing is known of JetStream at the moment.
    #[error("not connected to NATS")]
    NotConnected,
    /// The server has not said that it has the dead letter.
    #[error("the NATS server has not confirmed the dead letter: {0}")]
    Unconfirmed(String),
    /// There is no JetStream.
    #[error("JetStream is not available for dead letters ({0}); DEAD_LETTER=file:<directory> keeps them in files")]
    NoJetStream(String),
    /// The stream is missing and must not be created.
    #[error("the stream {STREAM} does not exist; create it, or set DEAD_LETTER_CREATE_STREAM=true")]
    NoStream,
    /// There is no room.
    #[error("no room for dead letters in {place} ({limit}); redrive or purge some, or make the limit larger")]
    Full {
        /// The stream or the directory.
        place: String,
        /// What is used up.
        limit: String,
    },
    /// The dead letter is larger than the server takes.
    #[error(
        "a dead letter of {bytes} bytes is more than the NATS server takes ({max_bytes} bytes with headers); raise its \
         `max_payload`, or use DEAD_LETTER=file:<directory>"
    )]
    TooLarge {
        /// The event with the shortest headers.
        bytes: usize,
        /// The server's limit.
        max_bytes: usize,
    },
    /// The server does not want it.
    #[error("the NATS server refuses dead letters: {0}")]
    Refused(String),
    /// The directory cannot be written to.
    #[error(
        "cannot write to {}: {error}; DEAD_LETTER=file:<directory> needs a directory that the user of this process may \
         write to, in a container a mounted volume", directory.display()
    )]
    Unwritable {
        /// The directory.
        directory: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Why dead letters cannot be read or deleted.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nothing was ever stored.
    #[error("there are no dead letters: {0} does not exist")]
    Nothing(String),
    /// None are kept.
    #[error(
        "there are no dead letters to work on: with DEAD_LETTER=log, also the default of a remote execution plane, they are \
         lines in the sidecar's log; DEAD_LETTER=file:<directory> keeps them"
    )]
    OnlyLogged,
    /// There is no JetStream.
    #[error("there are no dead letters in NATS: JetStream is not available ({0})")]
    NoJetStream(String),
    /// The server did not answer, or not with what was asked for.
    #[error("cannot {what}: {error}")]
    Nats {
        /// What was tried.
        what: String,
        /// Why it failed.
        error: String,
    },
    /// A file or the directory.
    #[error("cannot {what} {}: {error}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
}
