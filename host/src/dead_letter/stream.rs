//! Dead letters in a JetStream stream of their own.
//!
//! Called by [`super::sink`]; reading them back is in [`super::archive`]. The stream is outside `sh.keptn.>`, where the
//! control plane would take dead letters for events.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::context::{PublishErrorKind, RequestErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};
use async_nats::jetstream::{self, Context, ErrorCode};

use super::metadata::{Detail, to_headers, wire_bytes};
use super::{DeadLetter, StoreError, text};
use crate::config::DeadLetterConfig;
use crate::nats;

/// The stream.
pub const STREAM: &str = "DISTRIBUTOR_DLQ";
/// What the subjects of dead letters start with; the integration and the event type follow.
pub const SUBJECT_PREFIX: &str = "distributor.dlq";
/// Within this time the same dead letter is stored once: long enough for an event that is received again because this
/// process ended between storing it and settling the event.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(10);
/// An answer that takes longer will not come.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Stores dead letters in the stream.
#[derive(Debug)]
pub(super) struct StreamSink {
    client: Client,
    jetstream: Context,
    config: Config,
    creates_stream: bool,
    integration: String,
    /// Whether JetStream has answered before: then it is not missing but away.
    was_available: AtomicBool,
}

/// Why a message was not stored; what is missing may be created.
enum Unstored {
    NoStream,
    Other(StoreError),
}

impl StreamSink {
    pub(super) fn new(client: Client, config: &DeadLetterConfig, integration: &str) -> Self {
        Self {
            jetstream: context(client.clone()),
            client,
            config: stream_config(config),
            creates_stream: config.creates_stream,
            integration: integration.to_owned(),
            was_available: AtomicBool::new(false),
        }
    }

    /// Whether JetStream is known to exist, so that having no answer from it means that it is away.
    pub(super) fn was_available(&self) -> bool {
        self.was_available.load(Ordering::Relaxed)
    }

    /// Returns when the server has it.
    pub(super) async fn store(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        if !nats::is_connected(&self.client) {
            // It would be sent after a reconnect, when the caller has tried again already.
            return Err(StoreError::NotConnected);
        }
        let subject = subject(&self.integration, &letter.event_type);
        let message = message(letter, self.client.server_info().max_payload)?;
        match self.publish(&subject, message.clone()).await {
            Ok(()) => Ok(()),
            Err(Unstored::Other(error)) => Err(error),
            Err(Unstored::NoStream) => {
                let info = self.existing_or_created(letter.stream.as_deref()).await?;
                self.publish(&subject, message).await.map_err(|error| match error {
                    Unstored::Other(error) => error,
                    Unstored::NoStream if covers(&info, &subject) => {
                        StoreError::Unconfirmed(format!("the stream {STREAM} has no leader at the moment"))
                    }
                    Unstored::NoStream => StoreError::Refused(format!(
                        "the stream {STREAM} does not store {SUBJECT_PREFIX}.> but {}",
                        info.config.subjects.join(", ")
                    )),
                })
            }
        }
    }

    async fn publish(&self, subject: &str, message: PublishMessage) -> Result<(), Unstored> {
        let unstored = |error: async_nats::jetstream::context::PublishError| match (error.kind(), code(&error)) {
            // Another stream that stores every subject may answer in the place of ours.
            (PublishErrorKind::StreamNotFound, _) | (_, Some((ErrorCode::STREAM_NOT_MATCH, _))) => Unstored::NoStream,
            (_, Some((ErrorCode::STREAM_STORE_FAILED, description))) => Unstored::Other(StoreError::Full {
                place: format!("the stream {STREAM}"),
                limit: description,
            }),
            (_, Some((_, description))) => Unstored::Other(StoreError::Refused(description)),
            _ => Unstored::Other(StoreError::Unconfirmed(with_source(&error))),
        };
        let confirmed = self.jetstream.send_publish(subject.to_owned(), message).await;
        confirmed.map_err(unstored)?.await.map_err(unstored)?;
        self.was_available.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// The stream as it is: it belongs to whoever has made it, and is never changed.
    async fn existing_or_created(&self, source: Option<&str>) -> Result<Info, StoreError> {
        match self.info(STREAM).await? {
            Some(info) => Ok(info),
            None if self.creates_stream => self.create(source).await,
            None => Err(StoreError::NoStream),
        }
    }

    /// None: JetStream is there, and the stream is not.
    async fn info(&self, stream: &str) -> Result<Option<Info>, StoreError> {
        let answer = self.request(&format!("STREAM.INFO.{stream}"), &()).await?;
        match answer {
            Response::Ok(info) => Ok(Some(info)),
            Response::Err { error } if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
            Response::Err { error } => Err(refused(&error)),
        }
    }

    async fn create(&self, source: Option<&str>) -> Result<Info, StoreError> {
        let mut config = self.config.clone();
        if let Some(source) = source
            && let Ok(Some(info)) = self.info(source).await
        {
            // A dead letter is worth as much as the event that it was.
            config.num_replicas = info.config.num_replicas;
        }
        let answer = self.request(&format!("STREAM.CREATE.{STREAM}"), &config).await?;
        match answer {
            Response::Ok(info) => {
                tracing::info!(stream = STREAM, "created the stream for dead letters");
                Ok(info)
            }
            // Somebody else, with other settings, was faster.
            Response::Err { error } if error.error_code() == ErrorCode::STREAM_NAME_EXIST => {
                self.info(STREAM).await?.ok_or(StoreError::NoStream)
            }
            Response::Err { error } => Err(StoreError::Refused(format!(
                "the stream {STREAM} cannot be created: {}",
                error_text(&error)
            ))),
        }
    }

    async fn request<T: serde::Serialize>(&self, subject: &str, payload: &T) -> Result<Response<Info>, StoreError> {
        let answer = self.jetstream.request(subject.to_owned(), payload).await;
        let answer: Response<Info> = answer.map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => StoreError::NoJetStream("nobody answers".to_owned()),
            _ => StoreError::Unconfirmed(with_source(&error)),
        })?;
        if let Response::Err { error } = &answer
            && is_without_jetstream(error)
        {
            return Err(StoreError::NoJetStream(error_text(error)));
        }
        self.was_available.store(true, Ordering::Relaxed);
        Ok(answer)
    }
}

/// With a time limit on every request.
pub(super) fn context(client: Client) -> Context {
    let mut jetstream = jetstream::new(client);
    jetstream.set_timeout(REQUEST_TIMEOUT);
    jetstream
}

/// The subject of a dead letter.
pub(super) fn subject(integration: &str, event_type: &str) -> String {
    format!(
        "{SUBJECT_PREFIX}.{}.{}",
        text::token(integration),
        text::type_tokens(event_type)
    )
}

/// Whether the server says that there is no JetStream for us, now and later.
pub(super) fn is_without_jetstream(error: &jetstream::Error) -> bool {
    matches!(
        error.error_code(),
        ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
    )
}

/// What the server said, for people.
pub(super) fn error_text(error: &jetstream::Error) -> String {
    text::one_line(&error.to_string(), 256)
}

/// The message of an error with that of its cause, as the client leaves it out.
pub(super) fn with_source(error: &dyn Error) -> String {
    match error.source() {
        Some(source) if !error.to_string().contains(&source.to_string()) => format!("{error}: {source}"),
        _ => error.to_string(),
    }
}

fn stream_config(config: &DeadLetterConfig) -> Config {
    Config {
        name: STREAM.to_owned(),
        description: Some("Events that a distributor could not deliver".to_owned()),
        subjects: vec![format!("{SUBJECT_PREFIX}.>")],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        // What is full takes nothing more, so that nothing is settled that is not stored.
        discard: DiscardPolicy::New,
        max_bytes: i64::try_from(config.max_bytes).unwrap_or(i64::MAX),
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        max_message_size: -1,
        max_age: config.max_age,
        // The server wants a window that is no longer than the age.
        duplicate_window: DUPLICATE_WINDOW.min(config.max_age),
        num_replicas: 1,
        ..Config::default()
    }
}

/// With as much detail as there is room for.
fn message(letter: &DeadLetter, max_bytes: usize) -> Result<PublishMessage, StoreError> {
    let mut bytes = 0;
    for detail in Detail::ALL {
        let mut headers = to_headers(letter, detail);
        headers.insert(async_nats::header::NATS_EXPECTED_STREAM, STREAM);
        bytes = letter.payload.len() + wire_bytes(&headers);
        if bytes <= max_bytes {
            return Ok(PublishMessage::build().headers(headers).payload(letter.payload.clone()));
        }
    }
    Err(StoreError::TooLarge { bytes, max_bytes })
}

fn covers(info: &Info, subject: &str) -> bool {
    use crate::subject::Subject;
    let Ok(subject) = Subject::literal(subject) else {
        return false;
    };
    let mut patterns = info
        .config
        .subjects
        .iter()
        .filter_map(|text| Subject::pattern(text).ok());
    patterns.any(|pattern| pattern.covers(&subject))
}

fn code(error: &(dyn Error + 'static)) -> Option<(ErrorCode, String)> {
    let error = error.source()?.downcast_ref::<jetstream::Error>()?;
    Some((error.error_code(), error_text(error)))
}

fn refused(error: &jetstream::Error) -> StoreError {
    StoreError::Refused(error_text(error))
}
