//! A directory in which files change as in a mounted `ConfigMap`.
//!
//! Called by tests and the demo. The steps and their order are those of the kubelet: the files of a new version in a
//! directory of their own, a link to it, the link renamed over `..data`, then what is visible, and at last the old version
//! goes. It must not know what the files mean.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Context;
use tempfile::TempDir;
use tokio::time::Instant;

/// A mounted `ConfigMap`. It is deleted when this is dropped.
#[derive(Debug)]
pub struct ConfigMapVolume {
    mount: TempDir,
    /// Directory of the version that is mounted.
    version: Option<String>,
    n_versions: u32,
}

impl ConfigMapVolume {
    /// One that is mounted and has no files, as `optional: true` gives it.
    ///
    /// # Errors
    ///
    /// When there is no place for it.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {
            mount: tempfile::tempdir().context("no folder for a volume")?,
            version: None,
            n_versions: 0,
        })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.mount.path()
    }

    /// The same for a variable of the environment.
    ///
    /// # Panics
    ///
    /// When the folder for temporary files has no plain name.
    #[must_use]
    pub fn text(&self) -> &str {
        self.path().to_str().expect("temporary folders have plain names")
    }

    /// Replaces all files. Returns the moment at which the new ones became the mounted ones.
    ///
    /// # Errors
    ///
    /// When it cannot be written to.
    pub fn write<C: AsRef<[u8]>>(&mut self, files: &[(&str, C)]) -> anyhow::Result<Instant> {
        let version = self.prepare(files)?;
        self.switch_to(version, files.iter().map(|(name, _)| *name))
    }

    /// The first step alone: the files of a new version, which is not mounted yet.
    ///
    /// # Errors
    ///
    /// When it cannot be written to.
    pub fn prepare<C: AsRef<[u8]>>(&mut self, files: &[(&str, C)]) -> anyhow::Result<String> {
        self.n_versions += 1;
        let version = format!("..2026_11_23_00_00_00.{}", self.n_versions);
        let directory = self.path().join(&version);
        fs::create_dir(&directory)?;
        for (name, content) in files {
            fs::write(directory.join(name), content)?;
        }
        Ok(version)
    }

    fn switch_to<'a>(&mut self, version: String, names: impl Iterator<Item = &'a str>) -> anyhow::Result<Instant> {
        let path = |name: &str| self.mount.path().join(name);
        symlink(&version, path("..data_tmp"))?;
        fs::rename(path("..data_tmp"), path("..data"))?;
        let switched = Instant::now();
        let names: BTreeSet<&str> = names.collect();
        for name in &names {
            if fs::symlink_metadata(path(name)).is_err() {
                symlink(Path::new("..data").join(name), path(name))?;
            }
        }
        for entry in fs::read_dir(self.mount.path())? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if !name.starts_with("..") && !names.contains(&*name) {
                fs::remove_file(path(&name))?;
            }
        }
        if let Some(old) = self.version.replace(version) {
            fs::remove_dir_all(self.mount.path().join(old))?;
        }
        Ok(switched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_visible_is_what_was_written_last() {
        let mut volume = ConfigMapVolume::new().unwrap();
        volume.write(&[("a", "1"), ("b", "1")]).unwrap();
        volume.write(&[("b", "2"), ("c", "2")]).unwrap();
        let read = |name: &str| fs::read_to_string(volume.path().join(name)).ok();
        assert_eq!(
            [read("a"), read("b"), read("c")],
            [None, Some("2".into()), Some("2".into())]
        );
        let mut names: Vec<_> = fs::read_dir(volume.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["..2026_11_23_00_00_00.2", "..data", "b", "c"]);
    }
}
