//! Writes spans in the protocol buffers of OTLP (`opentelemetry/proto/collector/trace/v1`).
//!
//! Called by [`super::export`]. Of the schema this is the small part that is needed, written by hand: the crates that know
//! all of it would add more to the binary than everything else that traces need. Field numbers are those of the schema;
//! the tests read it back with a decoder that was made from it.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Ended, Value};

/// How a value is written.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

/// `Status.code`.
const STATUS_ERROR: u64 = 2;

/// An `ExportTraceServiceRequest`.
pub(super) fn request(resource: &[(String, String)], spans: &[Ended]) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |resource_spans| {
        resource_spans.message(1, |message| {
            for (name, value) in resource {
                message.attribute(1, name, &Value::Text(value.clone()));
            }
        });
        resource_spans.message(2, |scope_spans| {
            scope_spans.message(1, |scope| {
                scope.text(1, "distributor");
                scope.text(2, env!("CARGO_PKG_VERSION"));
            });
            for span in spans {
                scope_spans.message(2, |message| message.span(span));
            }
        });
    });
    request.0
}

#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn span(&mut self, span: &Ended) {
        let Ended {
            context,
            recording,
            end,
        } = span;
        self.bytes(1, &context.trace_id.to_be_bytes());
        self.bytes(2, &context.span_id.to_be_bytes());
        self.text(3, context.state());
        if recording.parent_span_id != 0 {
            self.bytes(4, &recording.parent_span_id.to_be_bytes());
        }
        self.text(5, &recording.name);
        self.number(6, recording.kind as u64);
        self.moment(7, recording.start);
        // A clock that was set back makes no span end before it began.
        self.moment(8, (*end).max(recording.start));
        for (name, value) in &recording.attributes {
            self.attribute(9, name, value);
        }
        if recording.has_failed.load(std::sync::atomic::Ordering::Relaxed) {
            self.message(15, |status| {
                status.text(2, &recording.error);
                status.number(3, STATUS_ERROR);
            });
        }
        self.tag(16, FIXED_32);
        self.0.extend(u32::from(context.flags).to_le_bytes());
    }

    /// A `KeyValue`.
    fn attribute(&mut self, field: u64, name: &str, value: &Value) {
        self.message(field, |pair| {
            pair.text(1, name);
            pair.message(2, |any| match value {
                Value::Text(text) => any.bytes(1, text.as_bytes()),
                // Negative numbers are written as the unsigned ones with the same bits.
                Value::Number(number) => any.number(3, number.cast_unsigned()),
            });
        });
    }

    fn message(&mut self, field: u64, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }

    /// What is empty need not be written.
    fn text(&mut self, field: u64, text: &str) {
        if !text.is_empty() {
            self.bytes(field, text.as_bytes());
        }
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.tag(field, BYTES);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn number(&mut self, field: u64, number: u64) {
        self.tag(field, VARINT);
        self.varint(number);
    }

    fn moment(&mut self, field: u64, moment: SystemTime) {
        let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.tag(field, FIXED_64);
        let nanoseconds = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.0.extend(nanoseconds.to_le_bytes());
    }

    fn tag(&mut self, field: u64, form: u64) {
        self.varint(field << 3 | form);
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            // Seven bits, and that there are more.
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }
}
