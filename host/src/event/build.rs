//! Puts an event together from its attributes: for binary mode, and for what a plugin hands back.
//!
//! The result is JSON that goes through the same parser as everything that arrives, so that there is one idea of what
//! an event is.

use std::fmt::Write;

use base64::Engine;
use bytes::Bytes;

use super::{Event, Malformed};
use crate::json;

/// The value of an attribute.
#[derive(Debug, Clone, Copy)]
pub enum AttributeValue<'a> {
    /// Text.
    Text(&'a str),
    /// Integer.
    Integer(i32),
    /// Boolean.
    Boolean(bool),
    /// JSON text that is known to be one well-formed value.
    Json(&'a str),
}

/// The payload, in the three forms of the JSON event format.
#[derive(Debug, Clone, Copy)]
pub enum Payload<'a> {
    /// JSON text, not yet checked.
    Json(&'a str),
    /// Other text.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

/// Writes the JSON event format member by member.
#[derive(Debug)]
pub struct EventBuilder {
    json: String,
}

impl EventBuilder {
    /// Starts an event; `capacity` is a guess of its size in bytes.
    pub fn new(capacity: usize) -> Self {
        let mut json = String::with_capacity(capacity);
        json.push('{');
        Self { json }
    }

    /// The JSON format of an event in binary mode: attributes from headers, the payload as it is.
    ///
    /// # Errors
    /// What makes it no `CloudEvent`.
    pub fn from_binary(attributes: &[(String, String)], payload: &[u8]) -> Result<Bytes, Malformed> {
        let mut builder = Self::new(payload.len() + 512);
        for (name, value) in attributes {
            builder = builder.attribute(name, AttributeValue::Text(value));
        }
        let content_type = attributes
            .iter()
            .find(|(name, _)| name == "datacontenttype")
            .map(|(_, value)| value.as_str());
        let is_json = content_type.is_none_or(is_json_type);
        if !payload.is_empty() {
            builder = match std::str::from_utf8(payload) {
                Ok(text) if is_json => builder.payload(Payload::Json(text))?,
                Ok(text) if content_type.is_some_and(|ty| ty.trim_start().starts_with("text/")) => {
                    builder.payload(Payload::Text(text))?
                }
                _ => builder.payload(Payload::Binary(payload))?,
            };
        }
        Ok(builder.into_bytes())
    }

    /// Adds an attribute.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: AttributeValue<'_>) -> Self {
        self.member(name);
        match value {
            AttributeValue::Text(text) => self.text(text),
            AttributeValue::Json(json) => self.json.push_str(json),
            AttributeValue::Integer(number) => {
                write!(self.json, "{number}").expect("writing to a String cannot fail");
            }
            AttributeValue::Boolean(value) => self.json.push_str(if value { "true" } else { "false" }),
        }
        self
    }

    /// Adds the payload.
    ///
    /// # Errors
    /// When JSON text is not exactly one well-formed value.
    pub fn payload(mut self, payload: Payload<'_>) -> Result<Self, Malformed> {
        match payload {
            Payload::Json(text) => {
                json::check(text).map_err(|_| Malformed::BadAttribute {
                    attribute: "data".to_owned(),
                    problem: "is not well-formed JSON",
                })?;
                self.member("data");
                self.json.push_str(text);
            }
            Payload::Text(text) => {
                self.member("data");
                self.text(text);
            }
            Payload::Binary(bytes) => {
                self.member("data_base64");
                self.json.push('"');
                base64::engine::general_purpose::STANDARD.encode_string(bytes, &mut self.json);
                self.json.push('"');
            }
        }
        Ok(self)
    }

    /// The event.
    ///
    /// # Errors
    /// What makes the result no `CloudEvent`, e.g. a missing attribute.
    pub fn finish(self) -> Result<Event, Malformed> {
        Event::parse(self.into_bytes())
    }

    pub(super) fn into_bytes(mut self) -> Bytes {
        self.json.push('}');
        Bytes::from(self.json)
    }

    fn member(&mut self, name: &str) {
        if self.json.len() > 1 {
            self.json.push(',');
        }
        self.text(name);
        self.json.push(':');
    }

    fn text(&mut self, text: &str) {
        self.json
            .push_str(&serde_json::to_string(text).expect("text can always be written as JSON"));
    }
}

/// JSON by the rules of the JSON event format: `application/json`, `text/json`, anything ending in `+json`.
pub fn is_json_type(content_type: &str) -> bool {
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}
