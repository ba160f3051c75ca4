//! `DEDUPE_STATE_FILE`: which open events are settled, for the next process.
//!
//! Read once at the start by [`super`], and written by a task of it some time after something has changed, and at the
//! end. A file that cannot be used costs deliveries that come again after a restart, and nothing else.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::open::{EventKey, MAX_EVENTS, OpenEvents, Settled, SubscriptionKey};

/// What happens within this time is written together.
const WRITE_PAUSE: Duration = Duration::from_secs(2);
/// A larger file is not one of ours.
const MAX_BYTES: u64 = 64 << 20;
/// Of the format.
const VERSION: u32 = 1;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("is no file of settled events; delete it, or name another one")]
    Corrupt,
    #[error("cannot be written: {0}")]
    Unwritable(io::Error),
}

/// The whole file. Ids are hashed: they may be of any length.
#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    /// By topic, then by event: the subscriptions.
    settled: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

/// What an earlier process has settled; nothing if there is no file yet.
pub(super) fn read(path: &Path) -> Result<Settled, StateError> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Settled::new()),
        metadata => metadata.map_err(StateError::Unreadable)?,
    };
    if metadata.len() > MAX_BYTES {
        return Err(StateError::Corrupt);
    }
    let text = fs::read(path).map_err(StateError::Unreadable)?;
    if text.is_empty() {
        return Ok(Settled::new());
    }
    let document: Document = serde_json::from_slice(&text).map_err(|_| StateError::Corrupt)?;
    if document.version != VERSION {
        return Err(StateError::Corrupt);
    }
    let settled = document.settled.into_iter().map(|(topic, events)| {
        let events = events.into_iter().map(|(event, subscriptions)| {
            let event = u128::from_str_radix(&event, 16).ok()?;
            let keys = subscriptions
                .iter()
                .map(|key| u64::from_str_radix(key, 16).ok().map(SubscriptionKey));
            Some((EventKey(event), keys.collect::<Option<_>>()?))
        });
        Some((Arc::from(topic), events.collect::<Option<Vec<_>>>()?))
    });
    let settled: HashMap<_, _> = settled.collect::<Option<_>>().ok_or(StateError::Corrupt)?;
    let n_events: usize = settled.values().map(Vec::len).sum();
    if n_events > MAX_EVENTS {
        return Err(StateError::Corrupt);
    }
    Ok(settled)
}

/// Complete or not at all: a crash leaves the file as it was before, or as it is after.
pub(super) fn write(path: &Path, settled: &Settled) -> Result<(), StateError> {
    let document = Document {
        version: VERSION,
        settled: settled
            .iter()
            .map(|(topic, events)| {
                let events = events.iter().map(|(event, subscriptions)| {
                    let keys = subscriptions.iter().map(|key| format!("{:016x}", key.0));
                    (format!("{:032x}", event.0), keys.collect())
                });
                (topic.as_ref().to_owned(), events.collect())
            })
            .collect(),
    };
    let text = serde_json::to_vec(&document).expect("a document can always be written as JSON");
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".writing");
    let temporary = PathBuf::from(temporary);
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&temporary, path));
    renamed.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        StateError::Unwritable(error)
    })
}

/// Writes what changes, until `finish` and then once more.
pub(super) async fn keep(path: PathBuf, open: Arc<OpenEvents>, finish: CancellationToken) {
    let mut changes = open.changes();
    let mut is_failing = false;
    loop {
        // The first round shows at once whether the file can be written.
        let is_last = finish.is_cancelled();
        let settled = open.settled();
        let place = path.clone();
        let written = tokio::task::spawn_blocking(move || write(&place, &settled)).await;
        let written = written.unwrap_or_else(|error| Err(StateError::Unwritable(io::Error::other(error))));
        match written {
            Err(error) if !is_failing => {
                is_failing = true;
                tracing::warn!(
                    path = %path.display(), %error,
                    "DEDUPE_STATE_FILE is not usable; a restart would deliver open events again"
                );
            }
            Ok(()) if is_failing => {
                is_failing = false;
                tracing::info!(path = %path.display(), "DEDUPE_STATE_FILE is written again");
            }
            _ => {}
        }
        if is_last {
            return;
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = finish.cancelled() => {}
        }
        tokio::select! {
            () = tokio::time::sleep(WRITE_PAUSE) => {}
            () = finish.cancelled() => {}
        }
        changes.mark_unchanged();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled() -> Settled {
        let keys = [SubscriptionKey(7), SubscriptionKey(u64::MAX)].into_iter().collect();
        Settled::from([("t.x".into(), vec![(EventKey::of(b"1"), keys)])])
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settled.json");
        assert!(read(&path).unwrap().is_empty());
        write(&path, &settled()).unwrap();
        assert_eq!(read(&path).unwrap(), settled());
        write(&path, &Settled::new()).unwrap();
        assert!(read(&path).unwrap().is_empty());
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn a_file_of_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settled.json");
        for text in [
            "{",
            "[]",
            r#"{"version":2,"settled":{}}"#,
            r#"{"version":1,"settled":{"t":{"x":[]}}}"#,
            r#"{"version":1,"settled":{"t":{"1":["x"]}}}"#,
        ] {
            fs::write(&path, text).unwrap();
            assert!(matches!(read(&path), Err(StateError::Corrupt)), "{text}");
        }
        fs::write(&path, "").unwrap();
        assert!(read(&path).unwrap().is_empty(), "an empty file is a new one");
        assert!(matches!(read(folder.path()), Err(StateError::Unreadable(_))));
        let nowhere = folder.path().join("missing/settled.json");
        assert!(matches!(write(&nowhere, &settled()), Err(StateError::Unwritable(_))));
    }
}
