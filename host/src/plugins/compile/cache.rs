//! Native code on disk, so that a component is compiled once and not at every start.
//!
//! Called by [`super::Compiler`]. An entry is found by what it was compiled from and for: the digest of the component
//! and the settings of the engine. The name of a file also has the digest of its content, so that one that is cut off or
//! damaged is not loaded. Against others that would put code here stands the [`PrivateDirectory`].

use std::fmt::Display;
use std::fs::{DirEntry, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;

use crate::plugins::private_directory::{PrivateDirectory, PrivateDirectoryError};

/// Its folder below `PLUGINS_CACHE_DIR`.
const FOLDER: &str = "native";
/// Room for native code. The largest components known, those that carry a `JavaScript` engine, take 37 MB.
const CAPACITY: u64 = 256 << 20;
/// What is still being written after this time was left by a process that is gone.
const DRAFT_AGE: Duration = Duration::from_mins(10);
const DRAFT_SUFFIX: &str = ".draft";
const SUFFIX: &str = ".cwasm";

/// What an entry is found by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(String);

impl Key {
    pub(crate) fn of(engine: &Engine, component: &[u8]) -> Self {
        let mut settings = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut settings);
        Self(format!("{:x}-{:016x}", Sha256::digest(component), settings.finish()))
    }
}

/// The cache.
#[derive(Debug)]
pub(super) struct Cache {
    directory: PrivateDirectory,
    capacity: u64,
    /// A full disk is said once, not for each plugin and each change.
    has_warned: AtomicBool,
}

/// A file that is being written. It is deleted when dropped.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) file: File,
    path: PathBuf,
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Once it is kept it has another name.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Cache {
    /// Opens the cache below this directory.
    pub(super) fn open(cache_directory: &Path) -> Result<Self, PrivateDirectoryError> {
        Ok(Self {
            directory: PrivateDirectory::open(&cache_directory.join(FOLDER))?,
            capacity: CAPACITY,
            has_warned: AtomicBool::new(false),
        })
    }

    /// The native code of a component, if it is there and whole.
    pub(super) fn find(&self, key: &Key) -> Option<File> {
        let entry = self.entries(key).next()?;
        if let Ok(Some(file)) = whole(&entry.path()) {
            // The last use decides what is evicted. It is a hint: nothing depends on it.
            let _ = file.set_modified(SystemTime::now());
            return Some(file);
        }
        tracing::warn!(
            entry = %entry.file_name().display(),
            "native code in PLUGINS_CACHE_DIR is damaged; the component is compiled anew"
        );
        let _ = std::fs::remove_file(entry.path());
        None
    }

    /// A file to write native code into.
    pub(super) fn draft(&self) -> io::Result<Draft> {
        let name = format!("{:016x}{DRAFT_SUFFIX}", fastrand::u64(..));
        let path = self.directory.path().join(name);
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        Ok(Draft {
            file: options.open(&path)?,
            path,
        })
    }

    /// Makes a draft the entry of a key.
    pub(super) fn keep(&self, draft: &Draft, key: &Key) -> io::Result<File> {
        let file = File::open(&draft.path)?;
        let name = format!("{}-{}{SUFFIX}", key.0, digest(&file)?);
        std::fs::rename(&draft.path, self.directory.path().join(&name))?;
        self.evict(&name);
        Ok(file)
    }

    /// Deletes what there is of a component.
    pub(super) fn forget(&self, key: &Key) {
        for entry in self.entries(key) {
            let _ = std::fs::remove_file(entry.path());
        }
    }

    /// Says why native code is used and not kept.
    pub(super) fn warn_not_kept(&self, problem: &dyn Display) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            let directory = self.directory.name().display();
            tracing::warn!(%directory, %problem, "native code is not kept (PLUGINS_CACHE_DIR); plugins are compiled at every start");
        }
    }

    fn entries(&self, key: &Key) -> impl Iterator<Item = DirEntry> {
        let files = std::fs::read_dir(self.directory.path()).into_iter().flatten();
        files.filter_map(Result::ok).filter(|entry| {
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            name.starts_with(&key.0) && name.ends_with(SUFFIX)
        })
    }

    /// Deletes what was not used for longest until the rest fits. What is in use stays in memory without its name.
    fn evict(&self, newest: &str) {
        let Ok(files) = std::fs::read_dir(self.directory.path()) else {
            return;
        };
        let now = SystemTime::now();
        let mut kept = Vec::new();
        for entry in files.filter_map(Result::ok) {
            let Ok(found) = entry.metadata() else { continue };
            let used = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let name = entry.file_name();
            let is_draft = name.to_str().is_none_or(|name| name.ends_with(DRAFT_SUFFIX));
            if is_draft {
                if now.duration_since(used).is_ok_and(|age| age > DRAFT_AGE) {
                    let _ = std::fs::remove_file(entry.path());
                }
            } else {
                let used = if name == newest { now } else { used };
                kept.push((used, found.len(), entry.path()));
            }
        }
        kept.sort();
        let mut total: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in kept {
            if total <= self.capacity {
                return;
            }
            let _ = std::fs::remove_file(path);
            total -= bytes;
        }
    }
}

/// Opens an entry whose content is what its name says; none when it is not.
fn whole(path: &Path) -> io::Result<Option<File>> {
    let file = File::open(path)?;
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let expected = name.rsplit('-').next().unwrap_or_default();
    Ok((digest(&file)? == expected).then_some(file))
}

/// The digest of a file, which need not fit into memory.
fn digest(mut file: &File) -> io::Result<String> {
    struct Hashing(Sha256);
    impl Write for Hashing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hashing = Hashing(Sha256::new());
    io::copy(&mut file, &mut hashing)?;
    Ok(format!("{:x}", hashing.0.finalize()))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn key(text: &str) -> Key {
        Key::of(&Engine::default(), text.as_bytes())
    }

    fn cache(directory: &tempfile::TempDir, capacity: u64) -> Cache {
        Cache {
            capacity,
            ..Cache::open(directory.path()).unwrap()
        }
    }

    fn store(cache: &Cache, component: &str, native: &[u8], age: Duration) {
        let mut draft = cache.draft().unwrap();
        draft.file.write_all(native).unwrap();
        let file = cache.keep(&draft, &key(component)).unwrap();
        file.set_modified(SystemTime::now() - age).unwrap();
    }

    fn found(cache: &Cache, component: &str) -> Option<Vec<u8>> {
        let path = cache.entries(&key(component)).next()?.path();
        cache.find(&key(component))?;
        Some(std::fs::read(path).unwrap())
    }

    fn names(cache: &Cache) -> Vec<String> {
        let files = std::fs::read_dir(cache.directory.path()).unwrap();
        files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn what_was_kept_is_found_by_the_component_it_was_made_of() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(&directory, 1000);
        store(&cache, "a", b"native a", Duration::ZERO);
        assert_eq!(found(&cache, "a").unwrap(), b"native a");
        assert_eq!(found(&cache, "b"), None);
        // Another engine needs other code.
        let mut other_settings = wasmtime::Config::new();
        other_settings.epoch_interruption(true);
        let other = Engine::new(&other_settings).unwrap();
        assert_ne!(Key::of(&other, b"a"), key("a"));
    }

    #[test]
    fn an_entry_that_is_damaged_is_deleted_and_not_found() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(&directory, 1000);
        for damage in [&b"native"[..], b"", b"native b"] {
            store(&cache, "a", b"native a", Duration::ZERO);
            let path = cache.entries(&key("a")).next().unwrap().path();
            std::fs::write(&path, damage).unwrap();
            assert_eq!(found(&cache, "a"), None);
            assert_eq!(names(&cache), [""; 0]);
        }
    }

    #[test]
    fn what_was_used_last_stays_when_there_is_no_more_room() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(&directory, 30);
        store(&cache, "old", &[1; 10], Duration::from_hours(3));
        store(&cache, "older", &[2; 10], Duration::from_hours(4));
        store(&cache, "recent", &[3; 10], Duration::from_hours(1));
        assert!(cache.find(&key("older")).is_some(), "which makes it the latest");
        store(&cache, "new", &[4; 15], Duration::ZERO);
        assert_eq!(
            [found(&cache, "old"), found(&cache, "recent")],
            [None, None],
            "15 bytes were left"
        );
        assert!(found(&cache, "older").is_some() && found(&cache, "new").is_some());
    }

    #[test]
    fn what_is_larger_than_all_the_room_can_be_used_and_is_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(&directory, 10);
        let mut draft = cache.draft().unwrap();
        draft.file.write_all(&[7; 11]).unwrap();
        let mut file = cache.keep(&draft, &key("large")).unwrap();
        assert_eq!(names(&cache), [""; 0]);
        let mut native = Vec::new();
        io::Seek::rewind(&mut file).unwrap();
        file.read_to_end(&mut native).unwrap();
        assert_eq!(native, [7; 11]);
    }

    #[test]
    fn drafts_that_nobody_finished_are_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let cache = cache(&directory, 1000);
        drop(cache.draft().unwrap());
        assert_eq!(names(&cache), [""; 0]);
        let left_behind = cache.directory.path().join(format!("1{DRAFT_SUFFIX}"));
        let file = File::create(&left_behind).unwrap();
        file.set_modified(SystemTime::now() - DRAFT_AGE * 2).unwrap();
        let in_work = cache.draft().unwrap();
        store(&cache, "a", b"native a", Duration::ZERO);
        assert!(!left_behind.exists() && in_work.path.exists());
    }
}
