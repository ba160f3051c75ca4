//! Dead letters in a directory.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::Entry;
use crate::dead_letter::directory::is_dead_letter;
use crate::dead_letter::metadata::Document;
use crate::dead_letter::{ReadError, one_line};

/// Files in memory at the same time, though without the events.
const PAGE: usize = 64;

/// The files that were there when it was opened.
#[derive(Debug)]
pub struct FileArchive {
    directory: PathBuf,
    /// In order of time. The number of a file, from 1, is its sequence.
    names: Vec<PathBuf>,
}

impl FileArchive {
    pub(super) async fn open(directory: &Path) -> Result<Self, ReadError> {
        let (in_task, mut names) = (directory.to_owned(), Vec::new());
        let listed = tokio::task::spawn_blocking(move || {
            for entry in std::fs::read_dir(in_task)? {
                let path = entry?.path();
                if is_dead_letter(&path) {
                    names.push(path);
                }
            }
            names.sort_unstable();
            Ok(names)
        });
        match listed.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(names) => Ok(Self {
                directory: directory.to_owned(),
                names,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(ReadError::Nothing(format!("the directory {}", directory.display())))
            }
            Err(error) => Err(ReadError::File {
                what: "read the directory",
                path: directory.to_owned(),
                error,
            }),
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.names.len() as u64
    }

    /// Of all names.
    pub(super) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.names.hash(&mut hasher);
        hasher.finish()
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) async fn page(&self, after: u64) -> Result<Vec<Entry>, ReadError> {
        let mut page = Vec::new();
        for sequence in after + 1..=self.total() {
            if let Some(mut entry) = self.load(sequence).await? {
                entry.letter.payload = Bytes::new();
                page.push(entry);
            }
            if page.len() == PAGE {
                break;
            }
        }
        Ok(page)
    }

    pub(super) async fn load(&self, sequence: u64) -> Result<Option<Entry>, ReadError> {
        let Some(path) = self.path(sequence) else {
            return Ok(None);
        };
        match tokio::fs::read(path).await {
            Ok(content) => Ok(Some(entry(sequence, &content))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ReadError::File {
                what: "read",
                path: path.clone(),
                error,
            }),
        }
    }

    pub(super) async fn delete(&self, sequence: u64) -> Result<bool, ReadError> {
        let Some(path) = self.path(sequence) else {
            return Ok(false);
        };
        match tokio::fs::remove_file(path).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(ReadError::File {
                what: "delete",
                path: path.clone(),
                error,
            }),
        }
    }

    /// The name of the file: its number changes when others are deleted.
    pub(super) fn id(&self, sequence: u64) -> Option<String> {
        let name = self.path(sequence)?.file_stem()?;
        Some(name.to_string_lossy().into_owned())
    }

    pub(super) fn sequence(&self, id: &str) -> Option<u64> {
        let is_this = |path: &PathBuf| path.file_stem().is_some_and(|name| name.to_string_lossy() == id);
        let position = self.names.iter().position(is_this)?;
        Some(position as u64 + 1)
    }

    fn path(&self, sequence: u64) -> Option<&PathBuf> {
        let position = usize::try_from(sequence.checked_sub(1)?).ok()?;
        self.names.get(position)
    }
}

/// A file that is no dead letter is shown as one about which nothing is known: one bad file must not hide the others.
fn entry(sequence: u64, content: &[u8]) -> Entry {
    let document = serde_json::from_slice(content).unwrap_or_else(|error| {
        let error = one_line(&format!("the file is no dead letter: {error}"), 256);
        Document::unreadable(error)
    });
    let (stored, integration) = (document.stored_at(), document.integration.clone());
    let letter = document.into_letter();
    Entry {
        sequence,
        stored,
        integration,
        bytes: letter.payload.len(),
        letter,
    }
}
