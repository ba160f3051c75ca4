//! Dead letters in the stream.
//!
//! A page is read with a consumer of its own that is gone afterwards: a redrive may take hours, and no consumer has to
//! live as long. Only headers are sent for it (nats-server 2.6.2 and later).

use std::time::{Duration, SystemTime};

use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, pull};
use async_nats::jetstream::context::RequestErrorKind;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{DeleteStatus, Info, RawMessageErrorKind, State};
use async_nats::jetstream::{self, Context, ErrorCode, Message};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use futures_util::StreamExt;

use super::Entry;
use crate::dead_letter::stream::{
    REQUEST_TIMEOUT, STREAM, SUBJECT_PREFIX, context, error_text, is_without_jetstream, with_source,
};
use crate::dead_letter::{Integration, ReadError, metadata, text};

/// Dead letters in memory at the same time, without the events.
const PAGE: usize = 256;
/// Of the server: the size of a payload that it has left out.
const MESSAGE_SIZE: &str = "Nats-Msg-Size";
/// The server forgets the consumer of a page that nobody has deleted.
const CONSUMER_LIFE: Duration = Duration::from_secs(30);
/// Where others delete at the same time a page may be empty though there is something behind it.
const MAX_EMPTY_PAGES: usize = 10;

/// The dead letters that were in the stream when it was opened.
#[derive(Debug)]
pub struct StreamArchive {
    jetstream: Context,
    state: State,
}

impl StreamArchive {
    pub(super) async fn open(client: Client) -> Result<Self, ReadError> {
        let jetstream = context(client);
        let what = format!("look for the stream {STREAM}");
        let answer = jetstream.request(format!("STREAM.INFO.{STREAM}"), &()).await;
        let answer: Response<Info> = answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => ReadError::NoJetStream("nobody answers".to_owned()),
            _ => failed(&what)(with_source(&error)),
        })?;
        match answer {
            Response::Ok(info) => Ok(Self {
                jetstream,
                state: info.state,
            }),
            Response::Err { error } if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                Err(ReadError::Nothing(format!("the stream {STREAM}")))
            }
            Response::Err { error } if is_without_jetstream(&error) => Err(ReadError::NoJetStream(error_text(&error))),
            Response::Err { error } => Err(failed(&what)(error_text(&error))),
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.state.messages
    }

    pub(super) fn last_sequence(&self) -> u64 {
        self.state.last_sequence
    }

    pub(super) async fn page(&self, integration: &Integration, after: u64) -> Result<Vec<Entry>, ReadError> {
        let what = format!("read the stream {STREAM}");
        for _ in 0..MAX_EMPTY_PAGES {
            let consumer = self.consumer(integration, after + 1).await?;
            let pending = consumer.cached_info().num_pending;
            if pending == 0 || after >= self.state.last_sequence {
                return Ok(Vec::new());
            }
            let batch = consumer.fetch().max_messages(PAGE).expires(REQUEST_TIMEOUT).messages();
            let mut batch = batch.await.map_err(|error| failed(&what)(with_source(&error)))?;
            let mut page = Vec::new();
            while let Some(message) = batch.next().await {
                let message = message.map_err(|error| failed(&what)(error.to_string()))?;
                let entry = listed(&message).map_err(failed(&what))?;
                if entry.sequence <= self.state.last_sequence {
                    page.push(entry);
                }
            }
            // Gone by itself soon, if this fails.
            let name = &consumer.cached_info().name;
            let _ = self.jetstream.delete_consumer_from_stream(name, STREAM).await;
            if !page.is_empty() {
                return Ok(page);
            }
        }
        Err(failed(&what)("nothing comes, though there is something".to_owned()))
    }

    pub(super) async fn load(&self, sequence: u64) -> Result<Option<Entry>, ReadError> {
        let what = format!("read dead letter {sequence} of the stream {STREAM}");
        let stream = self.jetstream.get_stream_no_info(STREAM).await;
        let stream = stream.map_err(|error| failed(&what)(with_source(&error)))?;
        match stream.get_raw_message(sequence).await {
            Ok(message) => Ok(Some(loaded(message))),
            Err(error) => match error.kind() {
                RawMessageErrorKind::NoMessageFound => Ok(None),
                RawMessageErrorKind::JetStream(error) if is_gone(&error) => Ok(None),
                _ => Err(failed(&what)(with_source(&error))),
            },
        }
    }

    pub(super) async fn delete(&self, sequence: u64) -> Result<bool, ReadError> {
        let what = format!("delete dead letter {sequence} of the stream {STREAM}");
        // Overwriting the bytes on disk as well takes the server some 8 ms for each.
        let answer = self
            .jetstream
            .request(
                format!("STREAM.MSG.DELETE.{STREAM}"),
                &serde_json::json!({"seq": sequence, "no_erase": true}),
            )
            .await;
        let answer: Response<DeleteStatus> = answer.map_err(|error| failed(&what)(with_source(&error)))?;
        match answer {
            Response::Ok(status) => Ok(status.success),
            Response::Err { error } if is_gone(&error) => Ok(false),
            Response::Err { error } => Err(failed(&what)(error_text(&error))),
        }
    }

    async fn consumer(&self, integration: &Integration, first: u64) -> Result<Consumer<pull::Config>, ReadError> {
        let filter_subject = match integration {
            Integration::All => format!("{SUBJECT_PREFIX}.>"),
            Integration::Named(name) => format!("{SUBJECT_PREFIX}.{}.>", text::token(name)),
        };
        let config = pull::Config {
            description: Some("a look at dead letters".to_owned()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: first },
            ack_policy: AckPolicy::None,
            filter_subject,
            headers_only: true,
            inactive_threshold: CONSUMER_LIFE,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let created = self.jetstream.create_consumer_on_stream(config, STREAM).await;
        created.map_err(|error| failed(&format!("read the stream {STREAM}"))(with_source(&error)))
    }
}

fn failed(what: &str) -> impl Fn(String) -> ReadError {
    move |error| ReadError::Nats {
        what: what.to_owned(),
        error,
    }
}

/// Somebody else, or its age, was faster.
fn is_gone(error: &jetstream::Error) -> bool {
    matches!(
        error.error_code(),
        ErrorCode::NO_MESSAGE_FOUND | ErrorCode::SEQUENCE_NOT_FOUND
    ) || error.to_string().contains("no message found")
}

/// From the headers alone.
fn listed(message: &Message) -> Result<Entry, String> {
    let info = message.info().map_err(|error| error.to_string())?;
    let none = HeaderMap::new();
    let headers = message.headers.as_ref().unwrap_or(&none);
    let size = headers.get(MESSAGE_SIZE);
    let bytes = size.and_then(|size| size.as_str().parse().ok()).unwrap_or_default();
    let (sequence, stored) = (info.stream_sequence, info.published.into());
    Ok(entry(sequence, stored, &message.subject, headers, Bytes::new(), bytes))
}

fn loaded(message: StreamMessage) -> Entry {
    let bytes = message.payload.len();
    let stored = message.time.into();
    entry(
        message.sequence,
        stored,
        &message.subject,
        &message.headers,
        message.payload,
        bytes,
    )
}

fn entry(sequence: u64, stored: SystemTime, subject: &str, headers: &HeaderMap, payload: Bytes, bytes: usize) -> Entry {
    let mut letter = metadata::from_headers(headers, payload);
    let rest = subject.strip_prefix(SUBJECT_PREFIX).unwrap_or_default();
    let (integration, event_type) = rest.trim_start_matches('.').split_once('.').unwrap_or_default();
    if letter.event_type.is_empty() && event_type != text::type_tokens("") {
        // There was no room for the header.
        event_type.clone_into(&mut letter.event_type);
    }
    Entry {
        sequence,
        stored,
        integration: integration.to_owned(),
        bytes,
        letter,
    }
}
