//! Where the bytes of a component come from, and whether they are those that the operator meant.
//!
//! Called by [`super::build`]. A pin covers the file as it lies there, compressed or not, because that is what
//! `sha256sum` shows. What is shown everywhere else is the digest of the component itself: the same code has the same
//! digest however it was packed.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use super::builtins::Builtin;
use super::load::hex;
use super::signature::{SignatureError, TrustedKeys};

/// Largest component, and largest file of one. The largest in use (Python) have some 20 MiB; a compressed file may claim
/// any size.
const MAX_BYTES: u64 = 64 << 20;
const GZIP_SUFFIX: &str = ".gz";
const OTHER_FILE: &str = "mount the file that was meant, or correct the pin";
const COMPONENT_IS_PINNED: &str =
    "that is the digest of the component inside, and a pin covers the file as it lies there (`sha256sum`)";

/// Where a component is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In this binary.
    Builtin(&'static Builtin),
    /// In this file.
    File(PathBuf),
}

/// A component.
#[derive(Debug)]
pub(super) struct Component {
    pub(super) bytes: Cow<'static, [u8]>,
    /// SHA-256 of the bytes, in hexadecimal.
    pub(super) digest: String,
}

/// Why the bytes are not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ComponentError {
    /// The file system says so.
    #[error("cannot be read: {0}")]
    Read(std::io::Error),
    /// It would take the memory that events need.
    #[error("has more than {} MiB; make the component smaller", MAX_BYTES >> 20)]
    TooLarge,
    /// The same, in disguise.
    #[error("has more than {} MiB when it is inflated; make the component smaller", MAX_BYTES >> 20)]
    InflatesTooFar,
    /// Damaged, or compressed in another way.
    #[error("is no gzip file that can be inflated: {0}; compress the component with `gzip`, or mount it as it is")]
    Gzip(std::io::Error),
    /// Nobody vouches for it.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// Other bytes than were meant.
    #[error("has the digest {actual}, and its entry asks for sha256 {pinned}; {hint}")]
    Pin {
        /// What it has.
        actual: String,
        /// What was asked for.
        pinned: String,
        /// What to do.
        hint: &'static str,
    },
}

impl Source {
    /// The component that a file with native code was made of, if it lies beside that under the same name.
    pub(super) fn of_native(&self) -> Option<Self> {
        let path = self.file()?;
        let mut others = ["wasm", "wasm.gz"].iter().map(|suffix| path.with_extension(suffix));
        others.find(|other| other != path && other.is_file()).map(Self::File)
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Builtin(_) => None,
            Self::File(path) => Some(path),
        }
    }
}

/// Reads a component, and refuses one that is not what `pin` (a SHA-256 in hexadecimal) says, or that nobody trusted
/// has signed, where `trusted_keys` say who is.
///
/// It blocks: files may be slow, and a large one takes time to inflate.
pub(super) fn read(
    source: &Source,
    pin: Option<&str>,
    trusted_keys: Option<&TrustedKeys>,
) -> Result<Component, ComponentError> {
    let (component, file_digest) = match source {
        Source::Builtin(builtin) => (Ok(Component::new(builtin.component())), None),
        Source::File(path) => {
            let file = File::open(path).map_err(ComponentError::Read)?;
            let content = at_most(MAX_BYTES, file).map_err(ComponentError::Read)?;
            let content = content.ok_or(ComponentError::TooLarge)?;
            if let Some(keys) = trusted_keys {
                keys.verify(path, &content)?;
            }
            if is_compressed(path) {
                (inflate(&content), Some(digest(&content)))
            } else {
                (Ok(Component::new(Cow::Owned(content))), None)
            }
        }
    };
    if let Some(pinned) = pin {
        let of_component = component.as_ref().ok().map(|component| component.digest.as_str());
        let actual = file_digest.as_deref().or(of_component).unwrap_or_default();
        if actual != pinned {
            return Err(ComponentError::Pin {
                actual: actual.to_owned(),
                pinned: pinned.to_owned(),
                hint: if of_component == Some(pinned) {
                    COMPONENT_IS_PINNED
                } else {
                    OTHER_FILE
                },
            });
        }
    }
    component
}

fn inflate(content: &[u8]) -> Result<Component, ComponentError> {
    let inflated = at_most(MAX_BYTES, MultiGzDecoder::new(content)).map_err(ComponentError::Gzip)?;
    let inflated = inflated.ok_or(ComponentError::InflatesTooFar)?;
    Ok(Component::new(Cow::Owned(inflated)))
}

/// All that there is to read, unless it is more than `limit`.
fn at_most(limit: u64, reader: impl Read) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let length = reader.take(limit + 1).read_to_end(&mut bytes)?;
    Ok((length as u64 <= limit).then_some(bytes))
}

fn is_compressed(path: &Path) -> bool {
    path.to_string_lossy().ends_with(GZIP_SUFFIX)
}

fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

impl Component {
    fn new(bytes: Cow<'static, [u8]>) -> Self {
        let digest = digest(&bytes);
        Self { bytes, digest }
    }
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
