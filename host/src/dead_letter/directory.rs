//! Dead letters as files: one JSON document each, named by time.
//!
//! Called by [`super::sink`]; reading them back is in [`super::archive`]. Several processes may share a directory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::metadata::Document;
use super::{DeadLetter, StoreError};

const EXTENSION: &str = "json";
/// A file that is being written; hidden, so that nobody takes it for a dead letter.
const TEMPORARY_PREFIX: &str = ".writing-";
/// A temporary file that is older was left by a process that has ended.
const TEMPORARY_AGE: Duration = Duration::from_mins(10);

/// Stores dead letters as files.
#[derive(Debug)]
pub(super) struct DirectorySink {
    writer: Arc<Writer>,
}

#[derive(Debug)]
struct Writer {
    directory: PathBuf,
    max_bytes: u64,
    integration: String,
    /// One file is written at a time, so that the limit holds.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// None: not counted yet.
    used_bytes: Option<u64>,
    /// Nanoseconds in the last file name: names stay in order even if the clock is set back.
    last_name: u128,
}

impl DirectorySink {
    pub(super) fn new(directory: PathBuf, max_bytes: usize, integration: &str) -> Self {
        let writer = Writer {
            directory,
            max_bytes: max_bytes as u64,
            integration: integration.to_owned(),
            state: Mutex::default(),
        };
        Self {
            writer: Arc::new(writer),
        }
    }

    /// Returns when the file is on disk.
    pub(super) async fn store(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        let (writer, letter) = (Arc::clone(&self.writer), letter.clone());
        let written = tokio::task::spawn_blocking(move || writer.write(&letter)).await;
        written.unwrap_or_else(|error| Err(self.writer.unwritable(io::Error::other(error))))
    }
}

impl Writer {
    fn write(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        let now = SystemTime::now();
        let document = Document::new(letter, None, now, &self.integration).with_payload(&letter.payload);
        let mut text = serde_json::to_vec(&document).expect("a document can always be written as JSON");
        text.push(b'\n');
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_room(&mut state, text.len() as u64)?;
        let name = file_name(&mut state, now);
        let written = self.write_file(&name, &text);
        // After an error nobody knows what is there.
        state.used_bytes = written.is_ok().then_some(state.used_bytes).flatten();
        written.map_err(|error| self.unwritable(error))
    }

    /// Others delete files, and may write some: what is there is counted again before anything is refused.
    fn make_room(&self, state: &mut State, bytes: u64) -> Result<(), StoreError> {
        let fits = |used_bytes: u64| used_bytes.saturating_add(bytes) <= self.max_bytes;
        let mut used_bytes = match state.used_bytes.filter(|&used_bytes| fits(used_bytes)) {
            Some(used_bytes) => used_bytes,
            None => self.count().map_err(|error| self.unwritable(error))?,
        };
        if !fits(used_bytes) {
            state.used_bytes = Some(used_bytes);
            return Err(StoreError::Full {
                place: self.directory.display().to_string(),
                limit: format!(
                    "{used_bytes} of {} bytes are used, {bytes} are needed; DEAD_LETTER_MAX_BYTES",
                    self.max_bytes
                ),
            });
        }
        used_bytes += bytes;
        state.used_bytes = Some(used_bytes);
        Ok(())
    }

    fn count(&self) -> io::Result<u64> {
        fs::create_dir_all(&self.directory)?;
        let mut used_bytes = 0;
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            // Somebody may delete it meanwhile.
            let Ok(metadata) = entry.metadata() else { continue };
            let age = metadata.modified().ok().and_then(|time| time.elapsed().ok());
            if is_temporary(&entry.path()) && age > Some(TEMPORARY_AGE) {
                let _ = fs::remove_file(entry.path());
            } else {
                used_bytes += metadata.len();
            }
        }
        Ok(used_bytes)
    }

    /// Complete or not at all: a crash leaves the whole file under its name, or a temporary one.
    fn write_file(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let temporary = self.directory.join(format!("{TEMPORARY_PREFIX}{name}"));
        let written = File::create_new(&temporary).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
        let renamed = written.and_then(|()| fs::rename(&temporary, self.directory.join(name)));
        if renamed.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        renamed?;
        // The name is on disk only when the directory is.
        File::open(&self.directory)?.sync_all()
    }

    fn unwritable(&self, error: io::Error) -> StoreError {
        StoreError::Unwritable {
            directory: self.directory.clone(),
            error,
        }
    }
}

/// Sorts by time, and is another one in every process.
fn file_name(state: &mut State, now: SystemTime) -> String {
    let nanoseconds = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos();
    state.last_name = nanoseconds.max(state.last_name + 1);
    format!("{:020}-{:08x}.{EXTENSION}", state.last_name, fastrand::u32(..))
}

/// Whether this is the file of a dead letter.
pub(super) fn is_dead_letter(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == EXTENSION) && !is_temporary(path)
}

fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(TEMPORARY_PREFIX)
}
