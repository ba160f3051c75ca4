//! Reads and deletes dead letters, wherever they are.
//!
//! Called by the commands and by [`super::redrive`]. A scan goes page by page and without the events themselves, so that
//! memory does not depend on how many there are; an event is loaded when it is its turn.

mod files;
mod stream;

use std::collections::VecDeque;
use std::path::Path;
use std::time::SystemTime;

use async_nats::Client;

use self::files::FileArchive;
use self::stream::StreamArchive;
use super::metadata::Document;
use super::{DeadLetter, Integration, ReadError, Selection};

/// A dead letter where it is stored.
#[derive(Debug, Clone)]
pub struct Entry {
    /// In the stream; of a directory the number of the file in the order of names.
    pub sequence: u64,
    /// When it was stored.
    pub stored: SystemTime,
    /// Whose it is.
    pub integration: String,
    /// Size of the event.
    pub bytes: usize,
    /// What is known. The payload is empty unless it was loaded.
    pub letter: DeadLetter,
}

/// The place of dead letters, as it was when it was opened: what is stored later is not seen.
#[derive(Debug)]
pub enum Archive {
    /// The stream.
    Stream(Box<StreamArchive>),
    /// A directory.
    Directory(FileArchive),
}

impl Archive {
    /// The stream.
    ///
    /// # Errors
    /// When there is none, or it cannot be asked for.
    pub async fn in_stream(client: Client) -> Result<Self, ReadError> {
        let archive = StreamArchive::open(client).await?;
        Ok(Self::Stream(Box::new(archive)))
    }

    /// A directory.
    ///
    /// # Errors
    /// When it does not exist or cannot be read.
    pub async fn in_directory(directory: &Path) -> Result<Self, ReadError> {
        FileArchive::open(directory).await.map(Self::Directory)
    }

    /// The dead letters that `selection` is about, in order, without the events themselves.
    pub fn scan<'a>(&'a self, selection: &'a Selection) -> Scan<'a> {
        Scan {
            archive: self,
            selection,
            after: 0,
            page: VecDeque::new(),
            is_over: false,
        }
    }

    /// The same for the newest of them, of which no more than `max` are looked at; and whether there are others.
    pub(super) fn scan_newest<'a>(&'a self, selection: &'a Selection, max: u64) -> (Scan<'a>, bool) {
        let (total, last) = match self {
            Self::Stream(archive) => (archive.total(), archive.last_sequence()),
            Self::Directory(archive) => (archive.total(), archive.total()),
        };
        let mut scan = self.scan(selection);
        let has_more = total > max;
        if has_more {
            // Where some were deleted, there are fewer of them.
            scan.after = last.saturating_sub(max);
        }
        (scan, has_more)
    }

    /// Another one whenever a dead letter was stored or deleted.
    pub(super) fn mark(&self) -> (u64, u64) {
        match self {
            Self::Stream(archive) => (archive.total(), archive.last_sequence()),
            Self::Directory(archive) => (archive.total(), archive.hash()),
        }
    }

    /// What names a dead letter for as long as it is stored.
    pub(super) fn id(&self, sequence: u64) -> String {
        match self {
            Self::Stream(_) => sequence.to_string(),
            Self::Directory(archive) => archive.id(sequence).unwrap_or_default(),
        }
    }

    /// The reverse of [`Self::id`]; none: it is not there (any more).
    pub(super) fn sequence(&self, id: &str) -> Option<u64> {
        match self {
            Self::Stream(_) => id.parse().ok(),
            Self::Directory(archive) => archive.sequence(id),
        }
    }

    /// One dead letter with the event. None: it is not there (any more).
    ///
    /// # Errors
    /// When that cannot be told.
    pub async fn load(&self, sequence: u64) -> Result<Option<Entry>, ReadError> {
        match self {
            Self::Stream(archive) => archive.load(sequence).await,
            Self::Directory(archive) => archive.load(sequence).await,
        }
    }

    /// Deletes one. False: it was not there (any more).
    ///
    /// # Errors
    /// When it is not known to be deleted.
    pub async fn delete(&self, sequence: u64) -> Result<bool, ReadError> {
        match self {
            Self::Stream(archive) => archive.delete(sequence).await,
            Self::Directory(archive) => archive.delete(sequence).await,
        }
    }

    /// How many there are, whoever's they are.
    pub fn total(&self) -> u64 {
        match self {
            Self::Stream(archive) => archive.total(),
            Self::Directory(archive) => archive.total(),
        }
    }

    /// Where they are, for people.
    pub fn place(&self) -> String {
        match self {
            Self::Stream(_) => format!("the stream {}", super::STREAM),
            Self::Directory(archive) => archive.directory().display().to_string(),
        }
    }

    /// The next ones behind a sequence; none at the end.
    async fn page(&self, integration: &Integration, after: u64) -> Result<Vec<Entry>, ReadError> {
        match self {
            Self::Stream(archive) => archive.page(integration, after).await,
            Self::Directory(archive) => archive.page(after).await,
        }
    }
}

/// Goes through dead letters in order.
#[derive(Debug)]
pub struct Scan<'a> {
    archive: &'a Archive,
    selection: &'a Selection,
    after: u64,
    page: VecDeque<Entry>,
    is_over: bool,
}

impl Scan<'_> {
    /// The next one that is meant.
    ///
    /// # Errors
    /// When the place does not answer.
    pub async fn next(&mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            while let Some(entry) = self.page.pop_front() {
                self.after = entry.sequence;
                if self.selection.matches(&entry) {
                    return Ok(Some(entry));
                }
            }
            if self.is_over {
                return Ok(None);
            }
            self.turn_page().await?;
        }
    }

    async fn turn_page(&mut self) -> Result<(), ReadError> {
        if self.selection.sequences.is_empty() {
            self.page = self.archive.page(&self.selection.integration, self.after).await?.into();
            self.is_over = self.page.is_empty();
            return Ok(());
        }
        // A few that are known by their sequence are not worth going through all.
        let Some(&sequence) = self.selection.sequences.range(self.after + 1..).next() else {
            self.is_over = true;
            return Ok(());
        };
        self.after = sequence;
        if let Some(mut entry) = self.archive.load(sequence).await? {
            entry.letter.payload = bytes::Bytes::new();
            self.page.push_back(entry);
        }
        Ok(())
    }
}

impl Entry {
    /// As JSON, on one line.
    pub fn to_json(&self) -> String {
        written(&self.document())
    }

    /// As JSON with the event: its text, or Base64 when it is none.
    pub fn to_json_with_payload(&self) -> String {
        written(&self.document().with_payload(&self.letter.payload))
    }

    fn document(&self) -> Document {
        Document::new(&self.letter, Some(self.sequence), self.stored, &self.integration).with_size(self.bytes)
    }
}

fn written(document: &Document) -> String {
    serde_json::to_string(document).expect("a document can always be written as JSON")
}
