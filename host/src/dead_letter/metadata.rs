//! What is known about a dead letter, as headers of a message and as a JSON document.
//!
//! Headers are public: operators read them with other tools too. Ids and names in them are percent-encoded where they
//! hold anything but visible ASCII, so that they come back as they were and no value can add a header.

use std::time::SystemTime;

use async_nats::HeaderMap;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::text::{from_header, one_line, rfc3339, to_header};
use super::{DeadLetter, Reason};

/// Longest error text.
const MAX_ERROR_BYTES: usize = 512;
/// What stays of it when there is hardly any room.
const SHORT_ERROR_BYTES: usize = 64;

/// Headers of dead letters.
mod header {
    pub(super) const REASON: &str = "Distributor-Reason";
    pub(super) const STATUS: &str = "Distributor-Status";
    pub(super) const ERROR: &str = "Distributor-Error";
    pub(super) const ATTEMPTS: &str = "Distributor-Attempts";
    pub(super) const FIRST_ATTEMPT: &str = "Distributor-First-Attempt";
    pub(super) const LAST_ATTEMPT: &str = "Distributor-Last-Attempt";
    pub(super) const STREAM: &str = "Distributor-Stream";
    pub(super) const SEQUENCE: &str = "Distributor-Sequence";
    pub(super) const SUBJECT: &str = "Distributor-Subject";
    pub(super) const SUBSCRIPTION: &str = "Distributor-Subscription";
    pub(super) const EMISSION: &str = "Distributor-Emission";
    pub(super) const CHILD: &str = "Distributor-Child";
    pub(super) const PLUGIN: &str = "Distributor-Plugin";
    pub(super) const GENERATION: &str = "Distributor-Generation";
    pub(super) const EVENT_ID: &str = "Distributor-Event-Id";
    pub(super) const EVENT_TYPE: &str = "Distributor-Event-Type";
    pub(super) const KEPTN_CONTEXT: &str = "Distributor-Keptn-Context";
    /// Of the server: makes it store a message once, however often it is sent within a while.
    pub(super) const MESSAGE_ID: &str = "Nats-Msg-Id";
}

/// How much of the headers there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    Full,
    /// Without what the event itself or the log tells.
    Short,
    /// What is needed to deliver the event again.
    Least,
}

impl Detail {
    /// From the longest to the shortest.
    pub(super) const ALL: [Self; 3] = [Self::Full, Self::Short, Self::Least];
}

/// The headers of a dead letter.
pub(super) fn to_headers(letter: &DeadLetter, detail: Detail) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(id) = &letter.subscription_id {
        // An empty id is another thing than none: the event matched a subscription that has no name.
        headers.insert(header::SUBSCRIPTION, to_header(id));
    }
    let mut put = |name: &str, value: String| {
        if !value.is_empty() {
            headers.insert(name, value);
        }
    };
    let name = |name: &Option<String>| name.as_deref().map(to_header).unwrap_or_default();
    let time = |time: Option<SystemTime>| time.map(rfc3339).unwrap_or_default();
    put(header::REASON, letter.reason.to_string());
    put(header::MESSAGE_ID, name(&letter.message_id));
    if letter.is_child {
        put(header::CHILD, "true".to_owned());
    }
    if detail == Detail::Least {
        return headers;
    }
    let max_error_bytes = if detail == Detail::Full {
        MAX_ERROR_BYTES
    } else {
        SHORT_ERROR_BYTES
    };
    put(header::ERROR, one_line(&letter.error, max_error_bytes));
    put(header::STATUS, number(letter.status));
    put(header::ATTEMPTS, letter.attempts.to_string());
    put(header::KEPTN_CONTEXT, to_header(&letter.keptn_context));
    put(header::EVENT_ID, to_header(&letter.event_id));
    if detail == Detail::Short {
        return headers;
    }
    put(header::EVENT_TYPE, to_header(&letter.event_type));
    put(header::FIRST_ATTEMPT, time(letter.first_attempt));
    put(header::LAST_ATTEMPT, time(letter.last_attempt));
    put(header::STREAM, name(&letter.stream));
    put(header::SEQUENCE, number(letter.sequence));
    put(header::SUBJECT, to_header(&letter.subject));
    put(header::PLUGIN, name(&letter.plugin));
    put(header::GENERATION, letter.generation.to_string());
    put(header::EMISSION, letter.emission.to_string());
    headers
}

/// The reverse of [`to_headers`]. What is missing or no value becomes the default: it may have been left out for lack of
/// room, or written by another version.
pub(super) fn from_headers(headers: &HeaderMap, payload: Bytes) -> DeadLetter {
    let text = |name: &str| headers.get(name).map(async_nats::HeaderValue::as_str);
    let name = |name: &str| text(name).map(from_header);
    let time = |name: &str| text(name).and_then(|text| humantime::parse_rfc3339(text).ok());
    DeadLetter {
        payload,
        is_child: text(header::CHILD) == Some("true"),
        event_id: name(header::EVENT_ID).unwrap_or_default(),
        event_type: name(header::EVENT_TYPE).unwrap_or_default(),
        keptn_context: name(header::KEPTN_CONTEXT).unwrap_or_default(),
        reason: Reason::parse(text(header::REASON).unwrap_or_default()),
        status: parsed(text(header::STATUS)),
        error: text(header::ERROR).unwrap_or_default().to_owned(),
        attempts: parsed(text(header::ATTEMPTS)).unwrap_or_default(),
        first_attempt: time(header::FIRST_ATTEMPT),
        last_attempt: time(header::LAST_ATTEMPT),
        stream: name(header::STREAM),
        sequence: parsed(text(header::SEQUENCE)),
        subject: name(header::SUBJECT).unwrap_or_default(),
        subscription_id: name(header::SUBSCRIPTION),
        plugin: name(header::PLUGIN),
        generation: parsed(text(header::GENERATION)).unwrap_or_default(),
        emission: parsed(text(header::EMISSION)).unwrap_or_default(),
        message_id: name(header::MESSAGE_ID),
    }
}

/// Bytes that headers take on the wire (NATS protocol, `HPUB`).
pub(super) fn wire_bytes(headers: &HeaderMap) -> usize {
    let line = |name: &str, value: &str| name.len() + ": ".len() + value.len() + "\r\n".len();
    let lines = headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| line(name.as_ref(), value.as_str())));
    "NATS/1.0\r\n\r\n".len() + lines.sum::<usize>()
}

fn number<T: ToString>(number: Option<T>) -> String {
    number.map(|number| number.to_string()).unwrap_or_default()
}

fn parsed<T: std::str::FromStr>(text: Option<&str>) -> Option<T> {
    text?.parse().ok()
}

/// A dead letter as JSON: a file of the directory, and what the commands print with `--json`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Document {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    #[serde(default)]
    stored: String,
    #[serde(default)]
    pub(super) integration: String,
    #[serde(default)]
    reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default)]
    error: String,
    #[serde(default)]
    attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_attempt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_attempt: Option<String>,
    #[serde(default)]
    event_id: String,
    #[serde(default)]
    event_type: String,
    #[serde(default)]
    keptn_context: String,
    #[serde(default)]
    subject: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subscription_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stream_sequence: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plugin: Option<String>,
    #[serde(default)]
    generation: u64,
    #[serde(default)]
    emission: u32,
    #[serde(default)]
    child: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message_id: Option<String>,
    /// Size of the event.
    #[serde(default)]
    bytes: usize,
    /// The event, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    /// The event, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

impl Document {
    /// The document without the event itself.
    pub(super) fn new(letter: &DeadLetter, sequence: Option<u64>, stored: SystemTime, integration: &str) -> Self {
        let letter = letter.clone();
        Self {
            sequence,
            stored: rfc3339(stored),
            integration: integration.to_owned(),
            reason: letter.reason.to_string(),
            status: letter.status,
            error: one_line(&letter.error, MAX_ERROR_BYTES),
            attempts: letter.attempts,
            first_attempt: letter.first_attempt.map(rfc3339),
            last_attempt: letter.last_attempt.map(rfc3339),
            event_id: letter.event_id,
            event_type: letter.event_type,
            keptn_context: letter.keptn_context,
            subject: letter.subject,
            subscription_id: letter.subscription_id,
            stream: letter.stream,
            stream_sequence: letter.sequence,
            plugin: letter.plugin,
            generation: letter.generation,
            emission: letter.emission,
            child: letter.is_child,
            message_id: letter.message_id,
            bytes: letter.payload.len(),
            payload: None,
            payload_base64: None,
        }
    }

    /// For something that is in the place of a dead letter and is none.
    pub(super) fn unreadable(error: String) -> Self {
        Self {
            error,
            ..Self::default()
        }
    }

    /// With the size of an event that was not loaded.
    pub(super) fn with_size(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// With the event: as text if it is text, so that people and tools can read it, and otherwise in Base64.
    pub(super) fn with_payload(mut self, payload: &Bytes) -> Self {
        match std::str::from_utf8(payload) {
            Ok(text) => self.payload = Some(text.to_owned()),
            Err(_) => self.payload_base64 = Some(BASE64_STANDARD.encode(payload)),
        }
        self
    }

    /// The reverse of [`Self::new`] and [`Self::with_payload`].
    pub(super) fn into_letter(self) -> DeadLetter {
        let time = |text: Option<String>| text.and_then(|text| humantime::parse_rfc3339(&text).ok());
        let decoded = self.payload_base64.and_then(|text| BASE64_STANDARD.decode(text).ok());
        let payload = decoded.or(self.payload.map(String::into_bytes)).unwrap_or_default();
        DeadLetter {
            payload: Bytes::from(payload),
            is_child: self.child,
            event_id: self.event_id,
            event_type: self.event_type,
            keptn_context: self.keptn_context,
            reason: Reason::parse(&self.reason),
            status: self.status,
            error: self.error,
            attempts: self.attempts,
            first_attempt: time(self.first_attempt),
            last_attempt: time(self.last_attempt),
            stream: self.stream,
            sequence: self.stream_sequence,
            subject: self.subject,
            subscription_id: self.subscription_id,
            plugin: self.plugin,
            generation: self.generation,
            emission: self.emission,
            message_id: self.message_id,
        }
    }

    /// When it was stored.
    pub(super) fn stored_at(&self) -> SystemTime {
        humantime::parse_rfc3339(&self.stored).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}
