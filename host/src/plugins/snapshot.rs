//! The last plugins that worked, on disk: a restart comes up with them while those in the directory are broken.
//!
//! Called by [`super::reload`]. A snapshot is a copy of the directory, reached by a link that is replaced in one step, as
//! the kubelet does it. It does not know what the files mean.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use super::directory::{self, Look};
use super::load::hex;
use super::private_directory::PrivateDirectory;

/// Directory of all snapshots.
const FOLDER: &str = "snapshots";
/// A larger directory is not copied.
const MAX_BYTES: u64 = 128 << 20;

/// Where the snapshots of one directory of plugins are.
#[derive(Debug)]
pub(super) struct Snapshots {
    cache_dir: PathBuf,
    /// Distributors with different directories may share a cache.
    name: String,
}

/// One that can be used.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) directory: PathBuf,
    /// When it was taken.
    pub(super) taken: SystemTime,
}

/// A copy that is not the last one yet.
#[derive(Debug)]
pub(super) struct Prepared {
    snapshots: Arc<Snapshots>,
    folder: PrivateDirectory,
    files: Vec<PathBuf>,
    complete: PathBuf,
    partial: PathBuf,
}

impl Snapshots {
    pub(super) fn of(plugins_dir: &Path, cache_dir: PathBuf) -> Self {
        let path = std::path::absolute(plugins_dir).unwrap_or_else(|_| plugins_dir.to_owned());
        let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
        Self {
            cache_dir,
            name: hex(&digest[..8]),
        }
    }

    fn folder(&self) -> io::Result<PrivateDirectory> {
        PrivateDirectory::open(&self.cache_dir.join(FOLDER)).map_err(io::Error::other)
    }

    /// The last one, if there is one.
    ///
    /// # Errors
    /// When the place is not to be trusted.
    pub(super) fn last(&self) -> io::Result<Option<Snapshot>> {
        if !self.cache_dir.join(FOLDER).exists() {
            return Ok(None);
        }
        let folder = self.folder()?;
        let link = folder.path().join(&self.name);
        if !link.exists() {
            return Ok(None);
        }
        let directory = std::fs::canonicalize(&link)?;
        let taken = std::fs::symlink_metadata(&link)?.modified()?;
        Ok(Some(Snapshot { directory, taken }))
    }

    /// Copies what was looked at, before it is known whether it works: later it may be gone. None when it is already.
    ///
    /// # Errors
    /// Why it cannot be copied.
    pub(super) fn prepare(self: &Arc<Self>, look: &Look) -> io::Result<Option<Prepared>> {
        let folder = self.folder()?;
        let name = format!("{}.{}", self.name, hex(&look.digest[..8]));
        // Another process with the same plugins does not write to the same directory.
        let partial = folder.path().join(format!("{name}.{}", std::process::id()));
        let prepared = Prepared {
            snapshots: Arc::clone(self),
            files: look.files.clone(),
            complete: folder.path().join(&name),
            partial,
            folder,
        };
        if !prepared.complete.exists() {
            let _ = std::fs::remove_dir_all(&prepared.partial);
            std::fs::create_dir(&prepared.partial)?;
            copy(look, &prepared.partial)?;
            if directory::digest(&prepared.partial, &look.files) != look.digest {
                return Ok(None);
            }
        }
        Ok(Some(prepared))
    }

    /// Whatever else is there: older ones, and what a process left that was killed.
    fn remove_others(&self, folder: &Path, kept: &OsStr) -> io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let name = entry?.file_name();
            let is_ours = name
                .as_encoded_bytes()
                .starts_with(format!("{}.", self.name).as_bytes());
            if is_ours && name != kept {
                std::fs::remove_dir_all(folder.join(name))?;
            }
        }
        Ok(())
    }
}

impl Prepared {
    /// Makes it the last one.
    ///
    /// # Errors
    /// Why it cannot be kept; the one before stays.
    pub(super) fn keep(self) -> io::Result<()> {
        if !self.complete.exists() {
            for name in &self.files {
                // The link that makes it count must not reach the disk before it. Links to nowhere were not copied.
                if let Ok(file) = std::fs::File::open(self.partial.join(name)) {
                    file.sync_all()?;
                }
            }
            std::fs::rename(&self.partial, &self.complete)?;
        }
        let folder = self.folder.path();
        let name = self.complete.file_name().unwrap_or_default();
        let link = self.partial.with_extension("link");
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(name, &link)?;
        std::fs::rename(&link, folder.join(&self.snapshots.name))?;
        self.snapshots.remove_others(&folder, name)
    }
}

impl Drop for Prepared {
    /// What did not work is not kept.
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.partial);
    }
}

fn copy(look: &Look, target: &Path) -> io::Result<()> {
    let mut n_bytes = 0;
    for name in &look.files {
        let (from, to) = (look.directory.join(name), target.join(name));
        // A link to nowhere was none of the plugins.
        let Ok(metadata) = std::fs::metadata(&from) else {
            continue;
        };
        n_bytes += metadata.len();
        if n_bytes > MAX_BYTES {
            return Err(io::Error::other(format!(
                "the directory has more than {MAX_BYTES} bytes"
            )));
        }
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::copy(&from, &to)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(directory: &Path, files: &[(&str, &str)]) -> Look {
        for (name, content) in files {
            std::fs::write(directory.join(name), content).unwrap();
        }
        directory::look(directory).unwrap()
    }

    #[test]
    fn the_last_one_that_was_kept_is_found_again_and_older_ones_go() {
        let (plugins, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let snapshots = Arc::new(Snapshots::of(plugins.path(), cache.path().join("cache")));
        assert!(snapshots.last().unwrap().is_none());
        for content in ["1", "2", "2", "1"] {
            let look = look(plugins.path(), &[("a", content), ("b", "b")]);
            snapshots.prepare(&look).unwrap().unwrap().keep().unwrap();
            let last = snapshots.last().unwrap().unwrap();
            assert_eq!(std::fs::read_to_string(last.directory.join("a")).unwrap(), content);
            assert_eq!(directory::look(&last.directory).unwrap().digest, look.digest);
            // A link and what it points to.
            let n_entries = std::fs::read_dir(cache.path().join("cache").join(FOLDER))
                .unwrap()
                .count();
            assert_eq!(n_entries, 2);
        }
        let others = Snapshots::of(Path::new("/elsewhere"), cache.path().join("cache"));
        assert!(others.last().unwrap().is_none());
    }

    #[test]
    fn what_was_copied_counts_whatever_becomes_of_the_directory() {
        let (plugins, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let snapshots = Arc::new(Snapshots::of(plugins.path(), cache.path().to_owned()));
        let content = || {
            let last = snapshots.last().unwrap().unwrap();
            std::fs::read_to_string(last.directory.join("a")).unwrap()
        };
        let first = snapshots
            .prepare(&look(plugins.path(), &[("a", "1")]))
            .unwrap()
            .unwrap();
        look(plugins.path(), &[("a", "broken")]);
        first.keep().unwrap();
        assert_eq!(content(), "1");

        // Not kept, because it does not work, or because it is another one by now.
        drop(
            snapshots
                .prepare(&look(plugins.path(), &[("a", "2")]))
                .unwrap()
                .unwrap(),
        );
        let gone = look(plugins.path(), &[("a", "3")]);
        look(plugins.path(), &[("a", "4")]);
        assert!(snapshots.prepare(&gone).unwrap().is_none());
        assert_eq!(content(), "1");
        assert_eq!(std::fs::read_dir(cache.path().join(FOLDER)).unwrap().count(), 2);
    }
}
