//! One `CloudEvent`: where its attributes stand in the bytes it arrived as.
//!
//! Everything on the event path works on this type; it knows neither HTTP nor NATS nor WIT. The original bytes are the
//! event: they are forwarded as they came (unknown attributes, big numbers and key order survive), and what the
//! distributor adds is spliced in by [`crate::delivery`] at the places recorded here.

mod api_form;
mod build;
mod parse;

use std::borrow::Cow;

use bytes::Bytes;

pub use self::api_form::{ApiForm, NoApiForm, from_api_form};
pub use self::build::{AttributeValue, EventBuilder, Payload, is_json_type};
pub use self::parse::split_batch;
use crate::json::{Kind, Scanner, Span, Value};

/// The extension attributes that every Keptn event carries when it reaches a service, if only as empty text.
pub const KEPTN_EXTENSIONS: [&str; 4] = ["shkeptncontext", "triggeredid", "gitcommitid", "shkeptnspecversion"];

/// Types with this prefix belong to Keptn; nothing is ever added to others.
pub const KEPTN_TYPE_PREFIX: &str = "sh.keptn.";

/// Why bytes are not a `CloudEvent`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes are not text.
    #[error("not UTF-8 text (first bad byte at {0})")]
    NotText(usize),
    /// The bytes are larger than the parser addresses.
    #[error("larger than 4 GiB")]
    TooLarge,
    /// Not well-formed JSON.
    #[error("not JSON: {0}")]
    NotJson(#[from] crate::json::SyntaxError),
    /// JSON, but not an object.
    #[error("not a CloudEvent: a JSON object is expected")]
    NotAnObject,
    /// A required attribute is missing or empty.
    #[error("not a CloudEvent: `{0}` is missing or empty")]
    Missing(&'static str),
    /// An attribute has a value it cannot have.
    #[error("not a CloudEvent: `{}` {problem}", attribute.escape_debug())]
    BadAttribute {
        /// Which one.
        attribute: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// A value that is looked for inside `data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Field {
    /// Not there, or `null`.
    #[default]
    Missing,
    /// Text.
    Text(Span),
    /// There, but neither text nor `null`.
    NotText,
}

/// An object that something may have to be put into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Slot {
    /// The member is not there.
    #[default]
    Absent,
    /// The member is `null`, at this place.
    Null(Span),
    /// The member is an object.
    Object {
        /// Offset behind the opening brace.
        inside: u32,
        /// Whether it has no members.
        empty: bool,
    },
    /// The member is something else.
    Other,
}

/// The `data` (or `data_base64`) member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Data {
    /// Neither member is there.
    #[default]
    Absent,
    /// `data`, a JSON value.
    Json(Span),
    /// `data_base64`.
    Base64(Span),
}

/// Places in the bytes. What is inside `data` is recorded in the same single pass as the envelope.
#[derive(Debug, Clone, Copy, Default)]
struct Layout {
    id: Span,
    source: Span,
    ty: Span,
    specversion: Span,
    keptn_context: Span,
    triggered_id: Span,
    traceparent: Span,
    tracestate: Span,
    /// Bit `n` is set when `KEPTN_EXTENSIONS[n]` is there.
    keptn_extensions: u8,
    /// Offset behind the opening brace of the envelope.
    envelope_inside: u32,
    data: Data,
    data_slot: Slot,
    project: Field,
    stage: Field,
    service: Field,
    labels: Span,
    temporary_data: Slot,
    distributor: Slot,
    /// The value of `data.temporaryData.distributor.subscriptionID`.
    subscription_id: Span,
}

/// A `CloudEvent` in JSON format, with its original bytes.
#[derive(Debug, Clone)]
pub struct Event {
    bytes: Bytes,
    layout: Layout,
}

impl Event {
    /// Takes `bytes` as a `CloudEvent` in structured mode (JSON event format, specification 1.0 or 0.3).
    ///
    /// # Errors
    /// What makes the bytes no `CloudEvent`.
    pub fn parse(bytes: Bytes) -> Result<Self, Malformed> {
        let layout = parse::layout(&bytes)?;
        Ok(Self { bytes, layout })
    }

    /// Takes bytes that are an event but for a missing `id`, and gives it one.
    ///
    /// # Errors
    /// What else makes the bytes no `CloudEvent`.
    pub fn parse_with_id(bytes: &Bytes, id: &str) -> Result<Self, Malformed> {
        // At the end, because of repeated members the last one counts: an empty or null id may be there.
        let end = bytes.iter().rposition(|&byte| byte == b'}').unwrap_or(bytes.len());
        let member = format!(",\"id\":{}", serde_json::Value::from(id));
        Self::parse(Bytes::from([&bytes[..end], member.as_bytes(), &bytes[end..]].concat()))
    }

    /// The same event under another id.
    ///
    /// # Errors
    /// When the id is empty.
    pub fn with_id(&self, id: &str) -> Result<Self, Malformed> {
        let Span { start, end } = self.layout.id;
        let quoted = serde_json::Value::from(id).to_string();
        let (before, after) = (&self.bytes[..start as usize - 1], &self.bytes[end as usize + 1..]);
        Self::parse(Bytes::from([before, quoted.as_bytes(), after].concat()))
    }

    /// The event as it came.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Attribute `id`.
    pub fn id(&self) -> Cow<'_, str> {
        self.text(self.layout.id)
    }

    /// Where `id`, `type` and `shkeptncontext` stand; see [`decode`].
    pub fn names(&self) -> (Span, Span, Span) {
        (self.layout.id, self.layout.ty, self.layout.keptn_context)
    }

    /// Attribute `source`.
    pub fn source(&self) -> Cow<'_, str> {
        self.text(self.layout.source)
    }

    /// Attribute `type`.
    pub fn ty(&self) -> Cow<'_, str> {
        self.text(self.layout.ty)
    }

    /// Attribute `specversion`.
    pub fn specversion(&self) -> Cow<'_, str> {
        self.text(self.layout.specversion)
    }

    /// Extension `shkeptncontext`: what ties the events of one sequence together. Empty counts as missing.
    pub fn keptn_context(&self) -> Option<Cow<'_, str>> {
        self.optional_text(self.layout.keptn_context)
    }

    /// Extension `triggeredid`: the id of the event that this one answers. Empty counts as missing.
    pub fn triggered_id(&self) -> Option<Cow<'_, str>> {
        self.optional_text(self.layout.triggered_id)
    }

    /// Extensions `traceparent` and `tracestate`: the trace that the event belongs to.
    pub fn trace(&self) -> Option<(Cow<'_, str>, Option<Cow<'_, str>>)> {
        let parent = self.optional_text(self.layout.traceparent)?;
        Some((parent, self.optional_text(self.layout.tracestate)))
    }

    /// The same event as part of a trace.
    ///
    /// # Errors
    /// When that is no event, which happens only if it is too large for one.
    pub fn with_trace(&self, parent: &str, state: &str) -> Result<Self, Malformed> {
        let member = |name, value| format!("\"{name}\":{},", serde_json::Value::from(value));
        let mut members = member("traceparent", parent);
        if !state.is_empty() {
            members += &member("tracestate", state);
        }
        // An envelope has other members, so a comma is always right. An empty attribute further on would win.
        let inside = self.layout.envelope_inside as usize;
        let (before, after) = self.bytes.split_at(inside);
        Self::parse(Bytes::from([before, members.as_bytes(), after].concat()))
    }

    /// Whether the type is one of Keptn's.
    pub fn is_keptn(&self) -> bool {
        self.layout.ty.of(&self.bytes).starts_with(KEPTN_TYPE_PREFIX.as_bytes())
    }

    /// Which of [`KEPTN_EXTENSIONS`] are there, as a bit set.
    pub fn keptn_extensions(&self) -> u8 {
        self.layout.keptn_extensions
    }

    /// Offset behind the opening brace.
    pub fn envelope_inside(&self) -> u32 {
        self.layout.envelope_inside
    }

    /// The payload.
    pub fn data(&self) -> Data {
        self.layout.data
    }

    /// `data` as a place to put something.
    pub fn data_slot(&self) -> Slot {
        self.layout.data_slot
    }

    /// `data.temporaryData` as a place to put something.
    pub fn temporary_data(&self) -> Slot {
        self.layout.temporary_data
    }

    /// `data.temporaryData.distributor` as a place to put something.
    pub fn distributor_slot(&self) -> Slot {
        self.layout.distributor
    }

    /// The value of `data.temporaryData.distributor.subscriptionID`, if there.
    pub fn subscription_id(&self) -> Span {
        self.layout.subscription_id
    }

    /// `data.project`. None: it cannot be decoded; empty text: it is missing.
    pub fn project(&self) -> Option<Cow<'_, str>> {
        self.decoded(self.layout.project)
    }

    /// `data.stage`. None: it cannot be decoded; empty text: it is missing.
    pub fn stage(&self) -> Option<Cow<'_, str>> {
        self.decoded(self.layout.stage)
    }

    /// `data.service`. None: it cannot be decoded; empty text: it is missing.
    pub fn service(&self) -> Option<Cow<'_, str>> {
        self.decoded(self.layout.service)
    }

    /// `data.labels` as text: strings as they are, other values as JSON. Empty unless it is an object.
    pub fn labels(&self) -> Vec<(String, String)> {
        if !self.layout.labels.is_present() {
            return Vec::new();
        }
        let mut labels = Vec::new();
        let mut scanner = Scanner::new(self.layout.labels.of(&self.bytes));
        let labels_text = self.layout.labels.of(&self.bytes);
        let walked = scanner.object(|scanner, key| {
            let value = scanner.value()?;
            let value = match value.text() {
                Some(text) => decode(labels_text, text),
                None => String::from_utf8_lossy(value.span.of(labels_text)),
            };
            labels.push((decode(labels_text, key).into_owned(), value.into_owned()));
            Ok::<(), crate::json::SyntaxError>(())
        });
        debug_assert!(walked.is_ok(), "the whole event was checked when it was parsed");
        labels
    }

    /// All members of the envelope in their order: names, and values with their bytes.
    pub fn members(&self) -> Vec<(Cow<'_, str>, Member<'_>)> {
        let mut members = Vec::new();
        let mut scanner = Scanner::new(&self.bytes);
        let walked = scanner.object(|scanner, key| {
            let value = scanner.value()?;
            members.push((self.text(key), Member { event: self, value }));
            Ok::<(), crate::json::SyntaxError>(())
        });
        debug_assert!(walked.is_ok(), "the whole event was checked when it was parsed");
        members
    }

    /// None: the data cannot be decoded (it is no JSON object, or the field is neither text nor null). Empty text: the
    /// field is missing.
    fn decoded(&self, field: Field) -> Option<Cow<'_, str>> {
        match (self.layout.data, self.layout.data_slot, field) {
            (Data::Absent, ..) | (_, Slot::Null(_), _) | (_, Slot::Object { .. }, Field::Missing) => {
                Some(Cow::Borrowed(""))
            }
            (_, Slot::Object { .. }, Field::Text(text)) => Some(self.text(text)),
            _ => None,
        }
    }

    fn optional_text(&self, text: Span) -> Option<Cow<'_, str>> {
        (!text.is_empty()).then(|| self.text(text))
    }

    fn text(&self, text: Span) -> Cow<'_, str> {
        decode(&self.bytes, text)
    }
}

/// One member of an envelope.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    event: &'a Event,
    value: Value,
}

impl<'a> Member<'a> {
    /// What it is.
    pub fn kind(self) -> Kind {
        self.value.kind
    }

    /// The JSON text of the value.
    pub fn json(self) -> &'a str {
        // The whole event was checked to be UTF-8, and a value starts and ends at characters.
        std::str::from_utf8(self.value.span.of(&self.event.bytes)).unwrap_or_default()
    }

    /// The text, if it is a string.
    pub fn text(self) -> Option<Cow<'a, str>> {
        self.value.text().map(|text| decode(&self.event.bytes, text))
    }
}

/// The text of a JSON string. A lone surrogate, which no text can hold, becomes U+FFFD.
pub fn decode(document: &[u8], text: Span) -> Cow<'_, str> {
    let raw = text.of(document);
    // Nearly always it is UTF-8, and that is found out faster than what is to be replaced.
    let raw = std::str::from_utf8(raw).map_or_else(|_| String::from_utf8_lossy(raw), Cow::Borrowed);
    if !raw.contains('\\') {
        return raw;
    }
    serde_json::from_str(&format!("\"{raw}\"")).map_or_else(|_| Cow::Owned(decode_lossily(&raw)), Cow::Owned)
}

fn decode_lossily(raw: &str) -> String {
    let mut decoded = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(position) = rest.find('\\') {
        decoded.push_str(&rest[..position]);
        // `\uXXXX\uXXXX` may be a pair, `\uXXXX` one character, everything else is two bytes long.
        let escape = &rest[position..];
        let lengths = if escape[1..].starts_with('u') { [12, 6] } else { [2, 2] };
        let found = lengths.into_iter().find_map(|length| {
            let candidate = escape.get(..length)?;
            let text = serde_json::from_str::<String>(&format!("\"{candidate}\"")).ok()?;
            Some((length, text))
        });
        let (length, text) = found.unwrap_or((lengths[1], char::REPLACEMENT_CHARACTER.to_string()));
        decoded.push_str(&text);
        rest = &escape[length.min(escape.len())..];
    }
    decoded.push_str(rest);
    decoded
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
