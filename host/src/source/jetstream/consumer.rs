//! The durable consumer: made when it is missing, adjusted when something else is wanted, never deleted.
//!
//! Asks the API by hand, so that settings of newer servers that this version does not know stay as they are.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::Client;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::config::JetStreamConfig;
use crate::jetstream_api::{ApiError, ask};
use crate::subject::{Subject, common, cover};

/// Events that may be unacknowledged at the same time, over all replicas: those in memory, and those that were given
/// back because an earlier event of their key is held up.
pub(super) const MAX_UNACKNOWLEDGED: u64 = 8192;
/// How long the consumer of a service that is gone keeps its place. Longer than any holiday.
const SHARED_INACTIVE_THRESHOLD: Duration = Duration::from_hours(30 * 24);
/// The same for the consumer of a single instance, whose name hardly ever comes again.
const OWN_INACTIVE_THRESHOLD: Duration = Duration::from_mins(10);

/// What is to be received.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Free of overlaps.
    pub subjects: BTreeSet<Subject>,
    /// Whether the consumer is to give nothing else. As long as something may have changed a moment ago, it is only
    /// widened: another replica may know of a subject that we have not heard of yet.
    pub is_exact: bool,
}

/// The consumer as the server has it.
#[derive(Debug)]
pub(super) struct Consumer {
    /// How far it is.
    pub(super) progress: Progress,
    /// Whether it was made just now.
    pub(super) is_new: bool,
}

/// How far a consumer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Progress {
    /// What it has handed out.
    pub(crate) delivered: Position,
    /// Everything up to here is settled.
    pub(crate) ack_floor: Position,
}

/// A message of a stream, or one of the deliveries of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Position {
    /// The delivery, counted over all replicas.
    pub(crate) consumer_seq: u64,
    /// The sequence in the stream.
    pub(crate) stream_seq: u64,
}

/// What is needed to make the consumer.
#[derive(Debug)]
pub(super) struct Definition<'a> {
    pub(super) client: &'a Client,
    pub(super) stream: &'a str,
    pub(super) config: &'a JetStreamConfig,
    /// One event at a time, everywhere.
    pub(super) is_strict: bool,
}

/// Why there is no consumer to receive from.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConsumerError {
    /// There is no stream any more.
    #[error("the stream does not exist")]
    NoStream,
    /// Somebody else uses the name for something else.
    #[error("the consumer {0:?} exists, but is not one of ours: {1}; JETSTREAM_DURABLE chooses another name")]
    Foreign(String, &'static str),
    /// The server.
    #[error("{0}")]
    Api(#[from] ApiError),
}

#[derive(Deserialize)]
struct Info {
    config: Map<String, Value>,
    #[serde(flatten)]
    progress: Progress,
}

#[derive(Deserialize)]
struct StreamInfo {
    created: String,
    config: StreamConfig,
}

#[derive(Deserialize)]
struct StreamConfig {
    #[serde(default)]
    subjects: Vec<String>,
}

/// What matters about the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stream {
    /// Tells a stream from an earlier one of the same name.
    pub(super) created: String,
    subjects: Vec<Subject>,
}

impl Definition<'_> {
    /// The stream of the consumer.
    pub(super) async fn stream(&self) -> Result<Stream, ConsumerError> {
        match ask::<StreamInfo>(self.client, &format!("STREAM.INFO.{}", self.stream), String::new()).await {
            Ok(info) => Ok(Stream {
                created: info.created,
                subjects: info
                    .config
                    .subjects
                    .iter()
                    .filter_map(|text| Subject::pattern(text).ok())
                    .collect(),
            }),
            Err(ApiError::NotFound(_)) => Err(ConsumerError::NoStream),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the consumer give `filter`. One that is missing starts at `start`, or with what comes from now on.
    pub(super) async fn ensure(
        &self,
        stream: &Stream,
        filter: &Filter,
        start: Option<u64>,
    ) -> Result<Consumer, ConsumerError> {
        let api = format!("CONSUMER.INFO.{}.{}", self.stream, self.config.durable);
        let info = match ask::<Info>(self.client, &api, String::new()).await {
            Ok(info) => info,
            Err(ApiError::NotFound(_)) => {
                let mut config = self.settings();
                config.insert("ack_policy".to_owned(), json!("explicit"));
                config.insert("replay_policy".to_owned(), json!("instant"));
                match start {
                    Some(sequence) => {
                        config.insert("deliver_policy".to_owned(), json!("by_start_sequence"));
                        config.insert("opt_start_seq".to_owned(), json!(sequence.max(1)));
                    }
                    None => {
                        config.insert("deliver_policy".to_owned(), json!("new"));
                    }
                }
                let progress = self.put(config, stream, &filter.subjects).await?;
                return Ok(Consumer { progress, is_new: true });
            }
            Err(error) => return Err(error.into()),
        };
        self.check_is_ours(&info.config)?;
        let mut subjects = filter.subjects.clone();
        if !filter.is_exact {
            subjects = cover(subjects.iter().chain(&filter_of(&info.config)));
        }
        let mut config = info.config.clone();
        config.extend(self.settings());
        let is_enough = filter_of(&info.config) == subjects || is_wider(&info.config, stream, &subjects);
        let progress = if config == info.config && is_enough {
            info.progress
        } else {
            self.put(config, stream, &subjects).await?
        };
        Ok(Consumer {
            progress,
            is_new: false,
        })
    }

    /// What we want of every consumer, new or old.
    fn settings(&self) -> Map<String, Value> {
        let inactive_threshold = if self.config.is_shared {
            SHARED_INACTIVE_THRESHOLD
        } else {
            OWN_INACTIVE_THRESHOLD
        };
        let nanoseconds = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let settings = json!({
            "durable_name": self.config.durable,
            "name": self.config.durable,
            "description": "distributor",
            "ack_wait": nanoseconds(self.config.ack_wait),
            // A limit of the server's would strand the message: attempts are counted here.
            "max_deliver": -1,
            "max_ack_pending": if self.is_strict { 1 } else { MAX_UNACKNOWLEDGED },
            "inactive_threshold": nanoseconds(inactive_threshold),
        });
        match settings {
            Value::Object(settings) => settings,
            _ => Map::new(),
        }
    }

    fn check_is_ours(&self, config: &Map<String, Value>) -> Result<(), ConsumerError> {
        let foreign = |why| Err(ConsumerError::Foreign(self.config.durable.clone(), why));
        if config.get("deliver_subject").is_some_and(|subject| subject != "") {
            return foreign("it pushes its messages");
        }
        if config.get("ack_policy").is_some_and(|policy| policy != "explicit") {
            return foreign("it does not want each message to be acknowledged");
        }
        Ok(())
    }

    /// Creates or updates, and reads back what the server made of it: before 2.10 it ignores a filter of several
    /// subjects without a word, and then gets one that covers all of them.
    async fn put(
        &self,
        mut config: Map<String, Value>,
        stream: &Stream,
        subjects: &BTreeSet<Subject>,
    ) -> Result<Progress, ConsumerError> {
        config.remove("filter_subject");
        config.remove("filter_subjects");
        let mut info = if subjects.len() == 1 {
            self.send(config.clone(), subjects.first()).await?
        } else {
            let texts: Vec<_> = subjects.iter().map(Subject::as_str).collect();
            let mut config = config.clone();
            config.insert("filter_subjects".to_owned(), json!(texts));
            self.send(config, None).await?
        };
        if filter_of(&info.config) != *subjects {
            info = self.send(config, wide_filter(stream, subjects).as_ref()).await?;
        }
        Ok(info.progress)
    }

    async fn send(&self, mut config: Map<String, Value>, filter: Option<&Subject>) -> Result<Info, ConsumerError> {
        let mut api = format!("CONSUMER.CREATE.{}.{}", self.stream, self.config.durable);
        if let Some(filter) = filter {
            config.insert("filter_subject".to_owned(), json!(filter.as_str()));
            api.push('.');
            api.push_str(filter.as_str());
        }
        let request = json!({ "stream_name": self.stream, "config": config });
        match ask(self.client, &api, request.to_string()).await {
            Ok(info) => Ok(info),
            Err(ApiError::NotFound(_)) => Err(ConsumerError::NoStream),
            Err(error) => Err(error.into()),
        }
    }
}

/// One subject for all: what they have in common, or nothing where no single subject of the stream covers that.
fn wide_filter(stream: &Stream, subjects: &BTreeSet<Subject>) -> Option<Subject> {
    let common = common(subjects)?;
    stream
        .subjects
        .iter()
        .any(|subject| subject.covers(&common))
        .then_some(common)
}

/// Whether the consumer has the filter that stands for `subjects` on a server that takes only one.
fn is_wider(config: &Map<String, Value>, stream: &Stream, subjects: &BTreeSet<Subject>) -> bool {
    !config.contains_key("filter_subjects") && subjects.len() > 1 && {
        let wide: BTreeSet<_> = wide_filter(stream, subjects).into_iter().collect();
        filter_of(config) == wide
    }
}

fn filter_of(config: &Map<String, Value>) -> BTreeSet<Subject> {
    let several = config.get("filter_subjects").and_then(Value::as_array);
    let one = config.get("filter_subject");
    let texts = several.into_iter().flatten().chain(one).filter_map(Value::as_str);
    texts.filter_map(|text| Subject::pattern(text).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(texts: &[&str]) -> BTreeSet<Subject> {
        texts.iter().map(|text| Subject::pattern(text).unwrap()).collect()
    }

    #[test]
    fn a_server_that_takes_one_filter_gets_what_all_have_in_common() {
        let check = |stream: &[&str], wanted: &[&str], expected: Option<&str>| {
            let stream = Stream {
                created: String::new(),
                subjects: subjects(stream).into_iter().collect(),
            };
            let filter = wide_filter(&stream, &subjects(wanted));
            assert_eq!(filter.as_ref().map(Subject::as_str), expected);
        };
        let stream = ["sh.keptn.>"];
        check(
            &stream,
            &["sh.keptn.event.a.triggered", "sh.keptn.event.b.triggered"],
            Some("sh.keptn.event.*.triggered"),
        );
        check(
            &stream,
            &["sh.keptn.event.a.triggered", "sh.keptn.log"],
            Some("sh.keptn.>"),
        );
        check(&["a.>", "b.>"], &["a.x", "b.x"], None);
    }
}
