//! A secret of the configuration: given as a value, or as a file that may change while we run.
//!
//! Made by [`crate::config`], used by whoever has to show one: access to the Keptn API, OAuth, NATS. A mounted Kubernetes
//! secret is swapped by a symbolic link, without an event on the file itself, so the file is simply read again.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

/// A file is read at most this often.
const BETWEEN_READS: Duration = Duration::from_secs(1);
/// Text from outside that has so much in common with a secret is not shown.
const TELLING_BYTES: usize = 8;
/// Shorter secrets are part of ordinary words.
const SHORTEST_SECRET: usize = 4;

/// A secret. Cheap to clone; clones share what was read.
#[derive(Clone)]
pub struct Secret(Arc<Inner>);

struct Inner {
    /// The variable that names the file, and the file.
    file: Option<(&'static str, PathBuf)>,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    value: Option<SecretString>,
    version: u64,
    read_at: Option<Instant>,
    is_unreadable: bool,
}

/// The value at one moment.
#[derive(Debug, Clone)]
pub struct SecretValue {
    /// The secret.
    pub value: SecretString,
    /// Another one for each value.
    pub version: u64,
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {problem}")]
pub struct SecretError {
    /// The variable that names the file.
    pub variable: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.file {
            Some((_, path)) => write!(formatter, "Secret({})", path.display()),
            None => formatter.write_str("Secret(***)"),
        }
    }
}

impl Secret {
    /// A value that does not change.
    pub fn fixed(value: String) -> Self {
        let last = Last {
            value: Some(value.into()),
            ..Last::default()
        };
        Self(Arc::new(Inner {
            file: None,
            last: Mutex::new(last),
        }))
    }

    /// The content of a file without the line break at its end. It is not opened yet.
    pub fn in_file(variable: &'static str, path: PathBuf) -> Self {
        Self(Arc::new(Inner {
            file: Some((variable, path)),
            last: Mutex::default(),
        }))
    }

    /// The value at this moment, give or take a second. A file that can no longer be read leaves the last value.
    ///
    /// # Errors
    /// When the file could never be read.
    pub fn current(&self) -> Result<SecretValue, SecretError> {
        self.read(BETWEEN_READS)
    }

    /// The value at this moment: for one that has just been refused.
    ///
    /// # Errors
    /// When the file could never be read.
    pub fn current_now(&self) -> Result<SecretValue, SecretError> {
        self.read(Duration::ZERO)
    }

    fn read(&self, max_age: Duration) -> Result<SecretValue, SecretError> {
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut problem = None;
        if let Some((variable, path)) = &self.0.file
            && last.read_at.is_none_or(|at| at.elapsed() >= max_age)
        {
            last.read_at = Some(Instant::now());
            match read_file(path) {
                Ok(value) => last.replace(value),
                Err(error) => {
                    if !last.is_unreadable && last.value.is_some() {
                        tracing::warn!(variable, error, "a secret cannot be read; the last value stays in use");
                    }
                    last.is_unreadable = true;
                    problem = Some(error);
                }
            }
        }
        match (&last.value, &self.0.file) {
            (Some(value), _) => Ok(SecretValue {
                value: value.clone(),
                version: last.version,
            }),
            (None, file) => {
                // The next one who asks wants to know why as well.
                last.read_at = None;
                Err(SecretError {
                    variable: file.as_ref().map_or("", |(variable, _)| variable),
                    problem: problem.unwrap_or_default(),
                })
            }
        }
    }
}

impl Last {
    fn replace(&mut self, value: SecretString) {
        self.is_unreadable = false;
        let is_other = |last: &SecretString| last.expose_secret() != value.expose_secret();
        if self.value.as_ref().is_none_or(is_other) {
            self.value = Some(value);
            self.version += 1;
        }
    }
}

fn read_file(path: &std::path::Path) -> Result<SecretString, String> {
    let content = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let value = content.trim_end_matches(['\r', '\n']);
    if value.is_empty() {
        return Err(format!("{} is empty", path.display()));
    }
    Ok(value.to_owned().into())
}

/// As Go's `url.QueryEscape`, which the original uses.
pub fn query_escaped(text: &str) -> String {
    const ESCAPED: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    // What stood there as `%20` is `%2520` by now.
    utf8_percent_encode(text, &ESCAPED).to_string().replace("%20", "+")
}

/// Text that came from outside, for a log line, unless it repeats a secret or part of one, as it is or encoded.
pub fn without_secrets(text: String, secrets: &[&str]) -> String {
    let repeats = |secret: &&str| {
        let encoded = BASE64_STANDARD.encode(secret);
        // What the last bytes of a secret look like in base64 depends on what follows.
        let encoded = encoded.trim_end_matches('=');
        let encoded = &encoded[..encoded.len().saturating_sub(1)];
        [*secret, &query_escaped(secret), encoded]
            .into_iter()
            .any(|form| has_part_of(&text, form))
    };
    if secrets.iter().any(repeats) {
        "(its message repeats a secret and is not shown)".to_owned()
    } else {
        text
    }
}

fn has_part_of(text: &str, secret: &str) -> bool {
    let (text, secret) = (text.to_ascii_lowercase(), secret.to_ascii_lowercase());
    let text = text.as_bytes();
    let n_bytes = secret.len().min(TELLING_BYTES);
    n_bytes >= SHORTEST_SECRET
        && secret
            .as_bytes()
            .windows(n_bytes)
            .any(|part| memchr::memmem::find(text, part).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(secret: &Secret) -> String {
        secret.current_now().unwrap().value.expose_secret().to_owned()
    }

    #[test]
    fn a_file_is_read_again_and_its_last_good_value_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let secret = Secret::in_file("KEPTN_API_TOKEN_FILE", path.clone());
        let error = secret.current().unwrap_err();
        assert_eq!(error.variable, "KEPTN_API_TOKEN_FILE");
        assert!(error.problem.contains("cannot read"), "{error}");

        std::fs::write(&path, "first\n").unwrap();
        assert_eq!(value(&secret), "first");
        let first = secret.current().unwrap().version;
        std::fs::write(&path, "second").unwrap();
        assert_eq!(value(&secret), "second");
        assert_ne!(secret.current().unwrap().version, first);

        for broken in [Some(""), Some("\n"), None] {
            match broken {
                Some(content) => std::fs::write(&path, content).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            assert_eq!(value(&secret), "second", "{broken:?}");
        }
    }

    #[test]
    fn the_swap_of_a_mounted_secret_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (version, content) in [("..1", "first"), ("..2", "second")] {
            std::fs::create_dir(path(version)).unwrap();
            std::fs::write(path(version).join("token"), content).unwrap();
        }
        std::os::unix::fs::symlink("..1", path("..data")).unwrap();
        std::os::unix::fs::symlink("..data/token", path("token")).unwrap();
        let secret = Secret::in_file("KEPTN_API_TOKEN_FILE", path("token"));
        assert_eq!(value(&secret), "first");

        std::os::unix::fs::symlink("..2", path("..data_tmp")).unwrap();
        std::fs::rename(path("..data_tmp"), path("..data")).unwrap();
        assert_eq!(value(&secret), "second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_read_at_most_once_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "first").unwrap();
        let secret = Secret::in_file("KEPTN_API_TOKEN_FILE", path.clone());
        let current = || secret.current().unwrap().value.expose_secret().to_owned();
        assert_eq!(current(), "first");
        std::fs::write(&path, "second").unwrap();
        assert_eq!(current(), "first");
        tokio::time::advance(BETWEEN_READS).await;
        assert_eq!(current(), "second");
    }

    #[test]
    fn parts_are_escaped_as_the_original_does() {
        let check = |text: &str, expected: &str| assert_eq!(query_escaped(text), expected);
        check("s/e c", "s%2Fe+c");
        check("id:1", "id%3A1");
        check("a-b_c.d~e", "a-b_c.d~e");
        check("*%20+é", "%2A%2520%2B%C3%A9");
    }

    #[test]
    fn a_message_that_repeats_a_secret_is_not_shown() {
        let secret = "hunter2/hunter2 hunter2";
        let check = |text: &str, is_shown: bool| {
            let shown = without_secrets(text.to_owned(), &[secret, "tok"]);
            assert_eq!(shown == text, is_shown, "{text}: {shown}");
        };
        check("invalid credentials", true);
        check("a token is needed", true);
        check("bad secret hunter2/hunter2 hunter2", false);
        check("bad secret ...er2/hunte...", false);
        check("client_secret=hunter2%2fhunter2+hunter2", false);
        check("client_secret=hunter2%2Fhunter2%20hunter2", false);
        check(&BASE64_STANDARD.encode(format!("{secret}s")), false);
        assert!(!format!("{:?}", Secret::fixed(secret.to_owned())).contains("hunter"));
    }
}
