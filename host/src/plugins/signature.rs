//! Who vouches for a component: detached signatures of minisign, once the operator has named the keys that count.
//!
//! The keys come from [`crate::config`]; [`super::component`] asks about each file before it looks into it. A signature
//! covers the file as it lies there, compressed or not.

use std::path::{Path, PathBuf};

use minisign_verify::{Error, PublicKey, Signature};

/// What the name of a signature's file has behind that of the component.
const SUFFIX: &str = ".minisig";
/// A real one has some 300 bytes.
const MAX_SIGNATURE_BYTES: u64 = 10_000;

/// Where the keys are that count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustedKeys {
    /// Here.
    Keys(Vec<PublicKey>),
    /// In this file, one in each line, or several `minisign.pub` one after the other. It is read whenever a chain is
    /// built.
    File(PathBuf),
}

/// Why a component is not trusted.
#[derive(Debug, thiserror::Error)]
pub(super) enum SignatureError {
    #[error("is not signed: there is no {}; sign it with `minisign -Sm {}`, and mount both", signature.display(), component.display())]
    Unsigned { component: PathBuf, signature: PathBuf },
    #[error("cannot be trusted: {} cannot be read: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("cannot be trusted: {} is no signature of minisign", .0.display())]
    NoSignature(PathBuf),
    #[error(
        "is signed by another key than those of PLUGINS_TRUSTED_KEYS; sign it with one of them, or add its key if you \
         trust it"
    )]
    OtherKey,
    #[error("does not match its signature {}: it, or the signature, was changed after signing; sign it again", .0.display())]
    NoMatch(PathBuf),
    #[error("has a signature of the old kind, without a hash; sign it again with minisign 0.10 or later")]
    Legacy,
    #[error("cannot be trusted: {} of PLUGINS_TRUSTED_KEYS_FILE {problem}", path.display())]
    Keys { path: PathBuf, problem: String },
}

impl TrustedKeys {
    /// Reads keys: base64 text that begins with `RW`, as `minisign -G` prints it.
    ///
    /// # Errors
    /// The first that is none.
    pub fn parse<'a>(keys: impl Iterator<Item = &'a str>) -> Result<Vec<PublicKey>, String> {
        keys.map(|key| {
            PublicKey::from_base64(key)
                .map_err(|_| format!("{key:?} is no public key of minisign; it begins with `RW` and has 56 characters"))
        })
        .collect()
    }

    fn current(&self) -> Result<Vec<PublicKey>, SignatureError> {
        let path = match self {
            Self::Keys(keys) => return Ok(keys.clone()),
            Self::File(path) => path,
        };
        let failed = |problem: String| SignatureError::Keys {
            path: path.clone(),
            problem,
        };
        let text = std::fs::read_to_string(path).map_err(|error| failed(format!("cannot be read: {error}")))?;
        let lines = text.lines().map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("untrusted comment:"));
        let keys = Self::parse(lines).map_err(|problem| failed(format!("holds a mistake: {problem}")))?;
        if keys.is_empty() {
            return Err(failed("holds no key".to_owned()));
        }
        Ok(keys)
    }

    /// Whether somebody trusted has signed this content of a file.
    pub(super) fn verify(&self, component: &Path, content: &[u8]) -> Result<(), SignatureError> {
        let keys = self.current()?;
        let mut path = component.as_os_str().to_owned();
        path.push(SUFFIX);
        let path = PathBuf::from(path);
        let signature = read(component, &path)?;
        let mut refusal = SignatureError::OtherKey;
        for key in &keys {
            match key.verify(content, &signature, false) {
                Ok(()) => return Ok(()),
                Err(Error::UnexpectedKeyId) => {}
                Err(Error::UnexpectedAlgorithm) => refusal = SignatureError::Legacy,
                Err(_) => refusal = SignatureError::NoMatch(path.clone()),
            }
        }
        Err(refusal)
    }
}

fn read(component: &Path, path: &Path) -> Result<Signature, SignatureError> {
    use std::io::{ErrorKind, Read};

    let mut text = String::new();
    let opened = std::fs::File::open(path);
    match opened.and_then(|file| file.take(MAX_SIGNATURE_BYTES).read_to_string(&mut text)) {
        Ok(_) => Signature::decode(&text).map_err(|_| SignatureError::NoSignature(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(SignatureError::Unsigned {
            component: component.to_owned(),
            signature: path.to_owned(),
        }),
        Err(error) if error.kind() == ErrorKind::InvalidData => Err(SignatureError::NoSignature(path.to_owned())),
        Err(error) => Err(SignatureError::Read {
            path: path.to_owned(),
            error,
        }),
    }
}

#[cfg(test)]
mod tests {
    use minisign::KeyPair;
    use tempfile::TempDir;

    use super::*;

    fn key_pair() -> KeyPair {
        KeyPair::generate_unencrypted_keypair().unwrap()
    }

    fn signature(keys: &KeyPair, content: &[u8]) -> String {
        let signature = minisign::sign(Some(&keys.pk), &keys.sk, content, None, None);
        signature.unwrap().into_string()
    }

    fn trusting(keys: &[&KeyPair]) -> TrustedKeys {
        let keys: Vec<_> = keys.iter().map(|keys| keys.pk.to_base64()).collect();
        TrustedKeys::Keys(TrustedKeys::parse(keys.iter().map(String::as_str)).unwrap())
    }

    /// A folder with a component's signature in it, and the component's path.
    fn signed(signature: &str) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.wasm.gz.minisig"), signature).unwrap();
        let component = folder.path().join("a.wasm.gz");
        (folder, component)
    }

    fn refusal(trusted: &TrustedKeys, signature: &str, content: &[u8]) -> String {
        let (_folder, component) = signed(signature);
        trusted.verify(&component, content).unwrap_err().to_string()
    }

    #[test]
    fn a_signature_of_any_trusted_key_counts() {
        let (one, other, stranger) = (key_pair(), key_pair(), key_pair());
        let trusted = trusting(&[&one, &other]);
        for keys in [&one, &other] {
            let (_folder, component) = signed(&signature(keys, b"component"));
            trusted.verify(&component, b"component").unwrap();
        }
        let reason = refusal(&trusted, &signature(&stranger, b"component"), b"component");
        assert!(reason.starts_with("is signed by another key"), "{reason}");
    }

    #[test]
    fn a_changed_component_does_not_match() {
        let keys = key_pair();
        let trusted = trusting(&[&keys]);
        let reason = refusal(&trusted, &signature(&keys, b"component"), b"other component");
        assert!(reason.starts_with("does not match its signature"), "{reason}");
        let forged = signature(&keys, b"component").replace("timestamp:", "timestamp: 1");
        let reason = refusal(&trusted, &forged, b"component");
        assert!(reason.starts_with("does not match its signature"), "{reason}");
    }

    #[test]
    fn what_is_missing_or_no_signature_is_named() {
        let keys = key_pair();
        let trusted = trusting(&[&keys]);
        let missing = trusted
            .verify(Path::new("/no/such/a.wasm"), b"")
            .unwrap_err()
            .to_string();
        assert_eq!(
            missing,
            "is not signed: there is no /no/such/a.wasm.minisig; sign it with `minisign -Sm /no/such/a.wasm`, and mount \
             both"
        );
        for text in ["", "signature", "a\nb\nc\nd\n"] {
            assert!(
                refusal(&trusted, text, b"").contains("is no signature of minisign"),
                "{text}"
            );
        }
    }

    #[test]
    fn keys_may_stand_in_a_file_that_is_read_each_time() {
        let (first, second) = (key_pair(), key_pair());
        let (folder, component) = signed(&signature(&second, b"component"));
        let path = folder.path().join("trusted.pub");
        let trusted = TrustedKeys::File(path.clone());
        let reason = |trusted: &TrustedKeys| trusted.verify(&component, b"component").unwrap_err().to_string();
        assert!(reason(&trusted).contains("trusted.pub of PLUGINS_TRUSTED_KEYS_FILE cannot be read: No such file"));

        let public = |keys: &KeyPair| keys.pk.to_box().unwrap().into_string();
        std::fs::write(&path, public(&first)).unwrap();
        assert!(reason(&trusted).starts_with("is signed by another key"));
        std::fs::write(&path, format!("{}\n{}", public(&first), public(&second))).unwrap();
        trusted.verify(&component, b"component").unwrap();

        std::fs::write(&path, "untrusted comment: nothing\n\n").unwrap();
        assert!(reason(&trusted).contains("holds no key"));
        std::fs::write(&path, "RWQnokey").unwrap();
        assert!(reason(&trusted).contains("\"RWQnokey\" is no public key of minisign"));
    }
}
