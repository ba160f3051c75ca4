//! Directories below `PLUGINS_CACHE_DIR` that nobody else can write to.
//!
//! Called by whoever keeps something there. What is read back from them is trusted, so they have to be ours.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Opens, or creates, a private directory of this name.
///
/// # Errors
/// When it cannot be created, or another user could have put something into it.
pub(super) fn open(cache_dir: &Path, name: &str) -> io::Result<PathBuf> {
    let path = cache_dir.join(name);
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(&path)?;
    let user = rustix::process::geteuid().as_raw();
    // Volumes belong to root, and all may write to them; then it is the directory in it that counts.
    check(cache_dir, &[user, 0], 0)?;
    check(&path, &[user], 0o077)?;
    Ok(path)
}

fn check(path: &Path, owners: &[u32], not_allowed: u32) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    let problem = if !metadata.is_dir() {
        "is no directory"
    } else if !owners.contains(&metadata.uid()) {
        "belongs to another user"
    } else if metadata.mode() & not_allowed != 0 {
        "is open to other users; its mode has to be 0700"
    } else {
        return Ok(());
    };
    Err(io::Error::other(format!("{} {problem}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_a_directory_of_our_own_that_is_closed_to_others_will_do() {
        let folder = tempfile::tempdir().unwrap();
        let cache_dir = folder.path().join("a/b");
        let path = open(&cache_dir, "kept").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert_eq!(open(&cache_dir, "kept").unwrap(), path);

        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o770)).unwrap();
        let error = open(&cache_dir, "kept").unwrap_err().to_string();
        assert!(error.contains("has to be 0700"), "{error}");

        symlink(folder.path(), cache_dir.join("link")).unwrap();
        let error = open(&cache_dir, "link").unwrap_err().to_string();
        assert!(error.contains("is no directory"), "{error}");
    }
}
