//! A look at the directory of plugins: which files it holds at this moment, and whether it is still the same later.
//!
//! Called by [`super::watch`], [`super::reload`] and [`super::snapshot`]. A mounted `ConfigMap` is a link, `..data`, to a
//! directory that never changes; the kubelet renames another link over it, and removes the old directory. Read through
//! the names that are visible, two versions could be mixed, and a name may be there without its file or the other way
//! round. So everything is read in the directory that the link points to. It does not know what the files mean.

use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// The link that the kubelet replaces.
const DATA_LINK: &str = "..data";
/// Directories in directories. A `ConfigMap` has none.
const MAX_DEPTH: usize = 4;
/// More than that is no directory of plugins.
const MAX_FILES: usize = 4096;
/// Looks at a directory that changes while it is being looked at.
const MAX_LOOKS: usize = 10;

/// SHA-256 of all names and contents.
pub(super) type Digest = [u8; 32];

/// What tells one moment of the directory from another, without reading its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It cannot be read.
    Missing,
    /// Where the link points to.
    Linked(PathBuf),
    /// The files, where there is no link.
    Listed(Vec<File>),
}

/// A file, as far as the directory knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct File {
    /// Below the directory.
    pub(super) name: PathBuf,
    /// Inode, size, and times: whatever happens to a file, one of them changes. None for a link to nowhere.
    version: Option<(u64, u64, [i64; 4])>,
}

/// What the directory held at one moment.
#[derive(Debug)]
pub(super) struct Look {
    /// Where the files are.
    pub(super) directory: PathBuf,
    pub(super) state: State,
    pub(super) files: Vec<PathBuf>,
    pub(super) digest: Digest,
}

/// The state of this moment.
pub(super) fn state(mount: &Path) -> State {
    match std::fs::read_link(mount.join(DATA_LINK)) {
        Ok(target) => State::Linked(target),
        Err(_) => files(mount).map_or(State::Missing, State::Listed),
    }
}

/// Reads everything, from one moment.
///
/// # Errors
/// When the directory cannot be read, or does not stand still.
pub(super) fn look(mount: &Path) -> io::Result<Look> {
    let mut failed = None;
    for _ in 0..MAX_LOOKS {
        let before = state(mount);
        let directory = match &before {
            State::Linked(_) => std::fs::canonicalize(mount.join(DATA_LINK)),
            State::Missing | State::Listed(_) => Ok(mount.to_owned()),
        };
        let read = directory.and_then(|directory| {
            let files: Vec<_> = files(&directory)?.into_iter().map(|file| file.name).collect();
            let digest = digest(&directory, &files);
            Ok((directory, files, digest))
        });
        // What was read is worth nothing when another version came meanwhile, and neither is why it failed.
        if state(mount) != before {
            continue;
        }
        match read {
            Ok((directory, files, digest)) => {
                return Ok(Look {
                    directory,
                    state: before,
                    files,
                    digest,
                });
            }
            Err(error) => failed = Some(error),
        }
        break;
    }
    Err(failed.unwrap_or_else(|| io::Error::other("it changes faster than it can be read")))
}

/// The files in a directory and below it, in order. Names that begin with two dots are the kubelet's.
fn files(directory: &Path) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    collect(directory, Path::new(""), 0, &mut files)?;
    files.sort();
    Ok(files)
}

fn collect(root: &Path, below: &Path, depth: usize, files: &mut Vec<File>) -> io::Result<()> {
    for entry in std::fs::read_dir(root.join(below))? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        if entry.file_name().as_encoded_bytes().starts_with(b"..") {
            continue;
        }
        // Links are followed: where there is no `..data`, they are somebody's own.
        let metadata = std::fs::metadata(entry.path()).ok();
        if metadata.as_ref().is_some_and(Metadata::is_dir) {
            if depth < MAX_DEPTH {
                collect(root, &name, depth + 1, files)?;
            }
            continue;
        }
        let version = metadata.map(|file| {
            let times = [file.mtime(), file.mtime_nsec(), file.ctime(), file.ctime_nsec()];
            (file.ino(), file.size(), times)
        });
        files.push(File { name, version });
        if files.len() > MAX_FILES {
            let problem = format!("it has more than {MAX_FILES} files; plugins need a directory of their own");
            return Err(io::Error::other(problem));
        }
    }
    Ok(())
}

/// Of names and contents. A file that cannot be read counts as such: whether it is needed is not known here.
pub(super) fn digest(directory: &Path, files: &[PathBuf]) -> Digest {
    let mut all = Sha256::new();
    for name in files {
        let content = digest_of_file(&directory.join(name)).unwrap_or_default();
        all.update(Sha256::digest(name.as_os_str().as_encoded_bytes()));
        all.update(content);
    }
    all.finalize().into()
}

fn digest_of_file(path: &Path) -> io::Result<Digest> {
    let mut file = std::fs::File::open(path)?;
    let mut content = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(content.finalize().into()),
            n => content.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(directory: &Path, files: &[(&str, &str)]) {
        std::fs::create_dir_all(directory).unwrap();
        for (name, content) in files {
            std::fs::write(directory.join(name), content).unwrap();
        }
    }

    fn point_to(mount: &Path, version: &str) {
        symlink(version, mount.join("..data_tmp")).unwrap();
        std::fs::rename(mount.join("..data_tmp"), mount.join(DATA_LINK)).unwrap();
    }

    #[test]
    fn a_mounted_directory_is_read_through_its_link() {
        let folder = tempfile::tempdir().unwrap();
        let mount = folder.path();
        write(&mount.join("..1"), &[("a", "1"), ("b", "1")]);
        point_to(mount, "..1");
        // A visible name without its file, and a file without its visible name.
        symlink("..data/gone", mount.join("gone")).unwrap();
        symlink("..data/a", mount.join("a")).unwrap();
        let first = look(mount).unwrap();
        assert_eq!(first.files, [Path::new("a"), Path::new("b")]);
        assert_eq!(first.directory.file_name().unwrap(), "..1");
        assert_eq!(state(mount), first.state);

        // The same again is another state, and the same content.
        write(&mount.join("..2"), &[("a", "1"), ("b", "1")]);
        point_to(mount, "..2");
        let second = look(mount).unwrap();
        assert_ne!(second.state, first.state);
        assert_eq!(second.digest, first.digest);

        write(&mount.join("..3"), &[("a", "1"), ("b", "2")]);
        point_to(mount, "..3");
        assert_ne!(look(mount).unwrap().digest, first.digest);
    }

    #[test]
    fn whatever_changes_in_a_plain_directory_shows() {
        let folder = tempfile::tempdir().unwrap();
        let mount = folder.path();
        write(mount, &[("a", "1")]);
        let mut last = look(mount).unwrap();
        let mut check = |what: &str| {
            let now = look(mount).unwrap();
            assert_ne!(now.state, last.state, "{what}");
            assert_ne!(now.digest, last.digest, "{what}");
            last = now;
        };
        write(mount, &[("b", "1")]);
        check("another file");
        write(&mount.join("below"), &[("c", "1")]);
        check("a file below");
        std::fs::rename(mount.join("b"), mount.join("d")).unwrap();
        check("another name");
        symlink("nowhere", mount.join("e")).unwrap();
        check("a link to nowhere");
        std::fs::remove_file(mount.join("a")).unwrap();
        check("a file less");
    }

    #[test]
    fn a_link_to_nowhere_and_no_directory_at_all_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        point_to(folder.path(), "..gone");
        assert_eq!(look(folder.path()).unwrap_err().kind(), io::ErrorKind::NotFound);
        let gone = folder.path().join("gone");
        assert_eq!(state(&gone), State::Missing);
        assert_eq!(look(&gone).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn versions_that_follow_each_other_are_never_mixed() {
        fn version(number: u32) -> String {
            format!("..{number}")
        }
        let folder = tempfile::tempdir().unwrap();
        let mount = folder.path().to_owned();
        let put = |mount: &Path, number: u32| {
            let text = number.to_string();
            write(
                &mount.join(version(number)),
                &[("a", text.as_str()), ("b", text.as_str())],
            );
            point_to(mount, &version(number));
        };
        put(&mount, 0);
        let writer = {
            let mount = mount.clone();
            std::thread::spawn(move || {
                for number in 1..500 {
                    put(&mount, number);
                    std::fs::remove_dir_all(mount.join(version(number - 1))).unwrap();
                }
            })
        };
        let mut n_seen = 0;
        while !writer.is_finished() {
            // It may change faster than it can be read; that is an error and no mixture.
            let Ok(look) = look(&mount) else { continue };
            let number = look.directory.file_name().unwrap().to_str().unwrap()[2..].to_owned();
            let same = std::array::from_fn::<_, 2, _>(|_| Sha256::digest(&number));
            let mut expected = Sha256::new();
            for (name, content) in ["a", "b"].iter().zip(same) {
                expected.update(Sha256::digest(name));
                expected.update(content);
            }
            assert_eq!(look.digest, <Digest>::from(expected.finalize()), "version {number}");
            n_seen += 1;
        }
        writer.join().unwrap();
        assert!(n_seen > 0);
    }
}
