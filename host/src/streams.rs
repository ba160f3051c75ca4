//! Finds the `JetStream` streams that store what is published on a subject.
//!
//! Asked by [`crate::sink`], which may say that an event is stored only when a stream has it, and by whoever receives
//! from streams. It knows neither events nor consumers, and changes nothing. It asks the server for `STREAM.NAMES` and
//! `STREAM.INFO` and nothing else, so that an account needs no more permissions than these two.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::jetstream_api::{ApiError, ask};
use crate::nats;
use crate::subject::{Subject, is_wildcard};

/// Time for one answer where hardly anybody can give it, see [`Streams::is_alone_without_jetstream`].
const HARDLY_EXPECTED_TIMEOUT: Duration = Duration::from_millis(500);

/// Why nothing was asked.
const DENIED: &str = "this account may not publish to $JS.API.STREAM.NAMES or $JS.API.STREAM.INFO.*";

/// Looks up streams over one connection.
#[derive(Debug, Clone)]
pub struct Streams {
    client: Client,
    is_denied: Arc<AtomicBool>,
}

/// A stream, as far as it matters who stores what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// What it stores.
    pub subjects: Vec<Subject>,
    /// Whether it keeps messages until a limit is reached, whoever has taken them: others delete what one consumer has
    /// acknowledged, or what no consumer waits for.
    pub has_limits_retention: bool,
    /// Whether it confirms what it has stored, as all do that are not set up otherwise (`no_ack`).
    pub confirms: bool,
}

/// Why it is not known which streams there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The server has no `JetStream` for us. In a cluster this may be for the moment only.
    #[error("there is no JetStream: {0}")]
    Unavailable(String),
    /// There may be streams or not.
    #[error("cannot look up the stream of {subject}: {reason}")]
    Failed {
        /// What was looked for.
        subject: String,
        /// What went wrong.
        reason: String,
    },
}

impl Streams {
    /// Asks over this connection.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            is_denied: Arc::default(),
        }
    }

    /// Asks nothing while this says that the account may not: the server leaves such questions unanswered.
    #[must_use]
    pub fn unless_denied(mut self, is_denied: Arc<AtomicBool>) -> Self {
        self.is_denied = is_denied;
        self
    }

    /// The streams of which one subject covers `subject` entirely: they store all that is published on it. Without one
    /// the list is empty. A server lets no two streams of an account overlap, so there is hardly ever a second.
    ///
    /// # Errors
    /// Why the streams are not known.
    pub async fn storing(&self, subject: &Subject) -> Result<Vec<Stream>, LookupError> {
        if self.is_denied() {
            return Err(LookupError::Unavailable(DENIED.to_owned()));
        }
        self.storing_by_now(subject).await
    }

    /// The same, asked even if the account was refused the last time: it may have been given the permission since.
    ///
    /// # Errors
    /// Why the streams are not known.
    pub async fn storing_by_now(&self, subject: &Subject) -> Result<Vec<Stream>, LookupError> {
        let found = self.covering(subject).await;
        if found.is_ok() {
            self.is_denied.store(false, Ordering::Release);
        }
        found.map_err(|error| match error {
            ApiError::NoJetStream(reason) => LookupError::Unavailable(reason),
            // The refusal comes on its own, while nobody answers the question.
            ApiError::Failed(_) if self.is_denied() => LookupError::Unavailable(DENIED.to_owned()),
            error => LookupError::Failed {
                subject: subject.to_string(),
                reason: error.to_string(),
            },
        })
    }

    fn is_denied(&self) -> bool {
        self.is_denied.load(Ordering::Acquire)
    }

    async fn covering(&self, subject: &Subject) -> Result<Vec<Stream>, ApiError> {
        let filter = serde_json::json!({ "subject": example(subject) }).to_string();
        let found: Names = self.ask("STREAM.NAMES", filter).await?;
        let mut streams = Vec::new();
        // One page of names is all: there is at most one stream for one subject.
        for name in found.streams.unwrap_or_default() {
            let info: Info = match self.ask(&format!("STREAM.INFO.{name}"), String::new()).await {
                Ok(info) => info,
                // Deleted just now.
                Err(ApiError::NotFound(_)) => continue,
                Err(error) => return Err(error),
            };
            let stream = Stream::from(info.config);
            if stream.subjects.iter().any(|pattern| pattern.covers(subject)) {
                streams.push(stream);
            }
        }
        Ok(streams)
    }

    async fn ask<T: DeserializeOwned>(&self, api: &str, question: String) -> Result<T, ApiError> {
        let answer = ask(&self.client, api, question);
        if !self.is_alone_without_jetstream() {
            return answer.await;
        }
        let answer = tokio::time::timeout(HARDLY_EXPECTED_TIMEOUT, answer).await;
        answer.unwrap_or_else(|_| Err(ApiError::NoJetStream("the server has none".to_owned())))
    }

    /// Whether the server we are connected to says that it has no `JetStream`, and is in no cluster that may have one.
    /// Usually it says for each request that nobody answers it; but it does not where somebody listens to every subject.
    fn is_alone_without_jetstream(&self) -> bool {
        let server = self.client.server_info();
        nats::is_connected(&self.client) && !server.jetstream && server.cluster.is_none()
    }
}

impl From<StreamConfig> for Stream {
    fn from(config: StreamConfig) -> Self {
        let subjects = config.subjects.unwrap_or_default();
        Self {
            name: config.name,
            // What this version takes for no subject cannot cover one.
            subjects: subjects.iter().filter_map(|text| Subject::pattern(text).ok()).collect(),
            has_limits_retention: config.retention == "limits",
            confirms: !config.no_ack,
        }
    }
}

/// A subject without wildcards that `subject` matches. The server names streams that merely overlap; those that cover
/// `subject` also have this one, and only they are asked for.
fn example(subject: &Subject) -> String {
    let tokens: Vec<_> = subject
        .tokens()
        .map(|token| if is_wildcard(token) { "any" } else { token })
        .collect();
    tokens.join(".")
}

#[derive(Deserialize)]
struct Names {
    streams: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Info {
    config: StreamConfig,
}

#[derive(Deserialize)]
struct StreamConfig {
    name: String,
    #[serde(default)]
    subjects: Option<Vec<String>>,
    retention: String,
    #[serde(default)]
    no_ack: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(text: &str) -> Subject {
        Subject::pattern(text).unwrap()
    }

    #[test]
    fn an_example_has_no_wildcards_and_matches() {
        for text in ["a.b", "a.*", "*.b.*", "a.>", ">", "a*b"] {
            let example = Subject::literal(&example(&subject(text))).unwrap();
            assert!(subject(text).covers(&example), "{example} and {text}");
        }
    }

    #[test]
    fn a_stream_is_read_whatever_else_its_description_holds() {
        let stream = |text: &str| Stream::from(serde_json::from_str::<Info>(text).unwrap().config);
        let expected = Stream {
            name: "s".to_owned(),
            subjects: vec![subject("a.>"), subject("b")],
            has_limits_retention: false,
            confirms: false,
        };
        let of_a_later_server = r#"{"type":"io.nats.jetstream.api.v1.stream_info_response","config":{"name":"s","subjects":["a.>","b"],"retention":"another","no_ack":true,"new":{}},"state":{}}"#;
        assert_eq!(stream(of_a_later_server), expected);

        let mirror = stream(r#"{"config":{"name":"mirror","retention":"limits"}}"#);
        assert_eq!(mirror.subjects, []);
        assert!(mirror.has_limits_retention && mirror.confirms);
    }
}
