//! A directory that nobody else can write to: what is kept there is trusted as far as this process is.
//!
//! Used by what lives below `PLUGINS_CACHE_DIR`. It knows nothing of what is kept.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Read, write and enter: the owner alone.
const OWNER_ONLY: u32 = 0o700;

/// An open directory of our own. It stays the same one, whatever becomes of its name: the directory above may belong to
/// others, as a volume of Kubernetes does.
#[derive(Debug)]
pub struct PrivateDirectory {
    handle: File,
    name: PathBuf,
}

/// Why a directory is not used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateDirectoryError {
    /// It cannot be made or opened.
    #[error("{} cannot be used: {error}", path.display())]
    Unusable {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others could have put something there.
    #[error("{} {problem}; delete it, or name another place in PLUGINS_CACHE_DIR", path.display())]
    NotPrivate {
        /// Its path.
        path: PathBuf,
        /// Who could.
        problem: String,
    },
}

impl PrivateDirectory {
    /// Opens it, and makes it if it is missing.
    ///
    /// # Errors
    /// Why it is not used.
    pub fn open(path: &Path) -> Result<Self, PrivateDirectoryError> {
        let unusable = |error| PrivateDirectoryError::Unusable {
            path: path.to_owned(),
            error,
        };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(unusable)?;
        }
        match DirBuilder::new().mode(OWNER_ONLY).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(unusable(error)),
            _ => {}
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let flags = flags.bits().cast_signed();
        let handle = File::options().read(true).custom_flags(flags).open(path);
        let directory = Self {
            handle: handle.map_err(unusable)?,
            name: path.to_owned(),
        };
        directory.check()?;
        // Through the handle, or nothing can be kept: without /proc there is no path that stays the same.
        std::fs::read_dir(directory.path()).map_err(unusable)?;
        Ok(directory)
    }

    fn check(&self) -> Result<(), PrivateDirectoryError> {
        let path = &self.name;
        let unusable = |error| PrivateDirectoryError::Unusable {
            path: path.clone(),
            error,
        };
        let found = self.handle.metadata().map_err(unusable)?;
        let not_private = |problem: String| PrivateDirectoryError::NotPrivate {
            path: path.clone(),
            problem,
        };
        let us = rustix::process::geteuid().as_raw();
        if found.uid() != us {
            return Err(not_private(format!("belongs to user {}, not to {us}", found.uid())));
        }
        let mode = found.mode() & 0o777;
        if mode & 0o022 != 0 {
            return Err(not_private(format!("can be written to by others (mode {mode:03o})")));
        }
        if mode != OWNER_ONLY {
            let permissions = Permissions::from_mode(OWNER_ONLY);
            self.handle.set_permissions(permissions).map_err(unusable)?;
        }
        Ok(())
    }

    /// A path that leads here, and nowhere else, while this value lives.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.handle.as_raw_fd()))
    }

    /// The path it was opened by, for messages.
    pub fn name(&self) -> &Path {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_directory_is_for_its_owner_alone() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let directory = PrivateDirectory::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, OWNER_ONLY);
        // It stays the same one when its name leads elsewhere.
        std::fs::rename(&path, parent.path().join("moved")).unwrap();
        std::fs::write(directory.path().join("file"), "here").unwrap();
        assert!(parent.path().join("moved/file").exists());
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        for mode in [0o770, 0o707, 0o777] {
            let path = parent.path().join(format!("{mode:o}"));
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let error = PrivateDirectory::open(&path).unwrap_err().to_string();
            let expected = format!("can be written to by others (mode {mode:03o})");
            assert!(error.contains(&expected), "{error}");
        }
        // One that others can only read is made private.
        let path = parent.path().join("read");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        PrivateDirectory::open(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, OWNER_ONLY);
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(parent.path(), &link).unwrap();
        assert!(PrivateDirectory::open(&link).is_err(), "it could lead anywhere");
        let file = parent.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(PrivateDirectory::open(&file).is_err());
        assert!(PrivateDirectory::open(&file.join("below")).is_err());
    }
}
