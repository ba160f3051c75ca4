//! The one pass over an event's bytes.
//!
//! Called by [`Event::parse`](super::Event::parse) for every event, so it allocates nothing unless a key is escaped.

use bytes::Bytes;

use super::{Data, Field, KEPTN_EXTENSIONS, Layout, Malformed, Slot, decode};
use crate::json::{Kind, Scanner, Span, SyntaxError, Value};

pub(super) fn layout(bytes: &[u8]) -> Result<Layout, Malformed> {
    check_text(bytes)?;
    let mut scanner = Scanner::new(bytes);
    if !scanner.peek_is_object() {
        // Text that is no JSON at all deserves the better message.
        scanner.value()?;
        return Err(Malformed::NotAnObject);
    }
    let mut layout = Layout {
        envelope_inside: scanner.position() + 1,
        ..Layout::default()
    };
    scanner.object(|scanner, key| attribute(scanner, bytes, key, &mut layout))?;
    scanner.end()?;
    for (name, text) in [
        ("specversion", layout.specversion),
        ("type", layout.ty),
        ("source", layout.source),
        ("id", layout.id),
    ] {
        if text.is_empty() {
            return Err(Malformed::Missing(name));
        }
    }
    match layout.specversion.of(bytes) {
        b"1.0" | b"0.3" => Ok(layout),
        _ => Err(bad_attribute("specversion", "is neither 1.0 nor 0.3")),
    }
}

/// Takes a JSON array of events (batch mode) apart; the elements keep their bytes. They are not checked to be events.
///
/// # Errors
/// When the bytes are not a JSON array.
pub fn split_batch(bytes: &Bytes) -> Result<Vec<Bytes>, Malformed> {
    check_text(bytes)?;
    let mut scanner = Scanner::new(bytes);
    let mut elements = Vec::new();
    scanner.array(|scanner| {
        let Span { start, end } = scanner.value()?.span;
        elements.push(bytes.slice(start as usize..end as usize));
        Ok::<(), SyntaxError>(())
    })?;
    scanner.end()?;
    Ok(elements)
}

pub(super) fn check_text(bytes: &[u8]) -> Result<(), Malformed> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(Malformed::TooLarge);
    }
    // Looking for ASCII alone is three times as fast, and most events are.
    if bytes.is_ascii() {
        return Ok(());
    }
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(()),
        Err(error) => Err(Malformed::NotText(error.valid_up_to())),
    }
}

/// Of repeated members the last one counts, as it does for almost every reader of JSON.
fn attribute(scanner: &mut Scanner<'_>, bytes: &[u8], key: Span, layout: &mut Layout) -> Result<(), Malformed> {
    let raw_key = key.of(bytes);
    let decoded_key;
    let key = if raw_key.contains(&b'\\') {
        decoded_key = decode(bytes, key).into_owned();
        decoded_key.as_bytes()
    } else {
        raw_key
    };
    match key {
        b"data" => return data(scanner, bytes, layout),
        b"data_base64" => {
            let value = scanner.value()?;
            let text = value
                .text()
                .ok_or_else(|| bad_attribute("data_base64", "is not text"))?;
            layout.data = Data::Base64(text);
            layout.data_slot = Slot::Other;
        }
        b"id" => layout.id = required_text(scanner, "id")?,
        b"source" => layout.source = required_text(scanner, "source")?,
        b"type" => layout.ty = required_text(scanner, "type")?,
        b"specversion" => layout.specversion = required_text(scanner, "specversion")?,
        // What is no text is no context, and none of our business.
        b"traceparent" => layout.traceparent = scanner.value()?.text().unwrap_or_default(),
        b"tracestate" => layout.tracestate = scanner.value()?.text().unwrap_or_default(),
        _ => {
            let value = scanner.value()?;
            keptn_extension(key, value, layout);
        }
    }
    Ok(())
}

fn required_text(scanner: &mut Scanner<'_>, name: &'static str) -> Result<Span, Malformed> {
    let value = scanner.value()?;
    match value.kind {
        Kind::String => Ok(value.text().unwrap_or_default()),
        Kind::Null => Ok(Span::ABSENT),
        _ => Err(bad_attribute(name, "is not text")),
    }
}

fn keptn_extension(key: &[u8], value: Value, layout: &mut Layout) {
    let Some(number) = KEPTN_EXTENSIONS.iter().position(|name| name.as_bytes() == key) else {
        return;
    };
    // A value that is no text says nothing, but the member is there, so that none is added.
    let text = value.text().unwrap_or_default();
    layout.keptn_extensions |= 1 << number;
    match KEPTN_EXTENSIONS[number] {
        "shkeptncontext" => layout.keptn_context = text,
        "triggeredid" => layout.triggered_id = text,
        _ => {}
    }
}

fn data(scanner: &mut Scanner<'_>, bytes: &[u8], layout: &mut Layout) -> Result<(), Malformed> {
    layout.project = Field::Missing;
    layout.stage = Field::Missing;
    layout.service = Field::Missing;
    layout.labels = Span::ABSENT;
    layout.temporary_data = Slot::Absent;
    layout.distributor = Slot::Absent;
    layout.subscription_id = Span::ABSENT;
    let (slot, span) = slot(scanner, |scanner, key| {
        match key.of(bytes) {
            b"project" => layout.project = field(scanner)?,
            b"stage" => layout.stage = field(scanner)?,
            b"service" => layout.service = field(scanner)?,
            b"labels" => {
                let value = scanner.value()?;
                layout.labels = if value.kind == Kind::Object {
                    value.span
                } else {
                    Span::ABSENT
                };
            }
            b"temporaryData" => temporary_data(scanner, bytes, layout)?,
            _ => {
                scanner.value()?;
            }
        }
        Ok(())
    })?;
    layout.data = Data::Json(span);
    layout.data_slot = slot;
    Ok(())
}

fn temporary_data(scanner: &mut Scanner<'_>, bytes: &[u8], layout: &mut Layout) -> Result<(), SyntaxError> {
    layout.distributor = Slot::Absent;
    layout.subscription_id = Span::ABSENT;
    let (temporary_data, _) = slot(scanner, |scanner, key| {
        if key.of(bytes) != b"distributor" {
            scanner.value()?;
            return Ok(());
        }
        layout.subscription_id = Span::ABSENT;
        let (distributor, _) = slot(scanner, |scanner, key| {
            let value = scanner.value()?;
            if key.of(bytes) == b"subscriptionID" {
                layout.subscription_id = value.span;
            }
            Ok(())
        })?;
        layout.distributor = distributor;
        Ok(())
    })?;
    layout.temporary_data = temporary_data;
    Ok(())
}

/// Scans a value; when it is an object, `member` is called for its members.
fn slot(
    scanner: &mut Scanner<'_>,
    mut member: impl FnMut(&mut Scanner<'_>, Span) -> Result<(), SyntaxError>,
) -> Result<(Slot, Span), SyntaxError> {
    if !scanner.peek_is_object() {
        let value = scanner.value()?;
        let slot = if value.kind == Kind::Null {
            Slot::Null(value.span)
        } else {
            Slot::Other
        };
        return Ok((slot, value.span));
    }
    let start = scanner.position();
    let mut empty = true;
    scanner.object(|scanner, key| {
        empty = false;
        member(scanner, key)
    })?;
    let span = Span {
        start,
        end: scanner.position(),
    };
    Ok((
        Slot::Object {
            inside: start + 1,
            empty,
        },
        span,
    ))
}

fn field(scanner: &mut Scanner<'_>) -> Result<Field, SyntaxError> {
    let value = scanner.value()?;
    Ok(match value.kind {
        Kind::String => Field::Text(value.text().unwrap_or_default()),
        Kind::Null => Field::Missing,
        _ => Field::NotText,
    })
}

fn bad_attribute(attribute: &str, problem: &'static str) -> Malformed {
    Malformed::BadAttribute {
        attribute: attribute.to_owned(),
        problem,
    }
}
