//! A collector of OpenTelemetry: takes spans over HTTP and keeps them.
//!
//! Called by tests. Requests are read with the types that OpenTelemetry generates from its schema, so that what is wrong
//! with their encoding shows. It must not know what spans are expected.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::bail;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1 as proto;
use prost::Message;

use crate::eventually::eventually;
use crate::journal::ReceivedRequest;
use crate::recipient::Recipient;

/// A listening collector. Dropping it closes its listener.
pub struct Collector(Recipient);

impl std::fmt::Debug for Collector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Collector").field(&self.0.address()).finish()
    }
}

/// A span that was exported.
#[derive(Clone, Debug)]
pub struct CollectedSpan {
    /// 32 hexadecimal digits.
    pub trace_id: String,
    /// 16 hexadecimal digits.
    pub span_id: String,
    /// The same; empty for the first of a trace.
    pub parent_span_id: String,
    /// `tracestate`.
    pub trace_state: String,
    /// Its name.
    pub name: String,
    /// As in the schema: `Internal`, `Client`, `Producer`, `Consumer`.
    pub kind: String,
    /// Nanoseconds since 1970.
    pub start: u64,
    /// The same.
    pub end: u64,
    /// Whether its status is an error, and the message of that.
    pub error: Option<String>,
    /// What is said about it, numbers as text.
    pub attributes: HashMap<String, String>,
    /// What is said about the process that it is of.
    pub resource: HashMap<String, String>,
}

impl Collector {
    /// Listens on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub async fn start() -> anyhow::Result<Self> {
        Ok(Self(Recipient::start().await?))
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.0.address())
    }

    /// All requests so far.
    #[must_use]
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.0.journal()
    }

    /// All spans so far.
    ///
    /// # Errors
    ///
    /// When a request is not what a collector takes.
    pub fn spans(&self) -> anyhow::Result<Vec<CollectedSpan>> {
        let mut spans = Vec::new();
        for request in self.requests() {
            let content_type = request.header("content-type").unwrap_or_default();
            if (request.path.as_str(), content_type) != ("/v1/traces", "application/x-protobuf") {
                bail!("a collector takes no {content_type:?} at {:?}", request.path);
            }
            for of_resource in ExportTraceServiceRequest::decode(request.body)?.resource_spans {
                let resource = texts(of_resource.resource.unwrap_or_default().attributes);
                let of_scopes = of_resource.scope_spans.into_iter();
                let collected = of_scopes
                    .flat_map(|scope| scope.spans)
                    .map(|span| collected(span, &resource));
                spans.extend(collected);
            }
        }
        Ok(spans)
    }

    /// Waits until at least `n` spans of this name have arrived, and returns all.
    ///
    /// # Errors
    ///
    /// When there were fewer after `within`.
    pub async fn wait_for(&self, name: &str, n: usize, within: Duration) -> anyhow::Result<Vec<CollectedSpan>> {
        let n_arrived = |spans: &[CollectedSpan]| spans.iter().filter(|span| span.name == name).count();
        let have_arrived = async || self.spans().is_ok_and(|spans| n_arrived(&spans) >= n);
        let arrived = eventually(within, have_arrived).await;
        let spans = self.spans()?;
        if arrived.is_err() {
            bail!(
                "{} of {n} spans {name:?} arrived within {within:?}: {spans:#?}",
                n_arrived(&spans)
            );
        }
        Ok(spans)
    }
}

fn collected(span: proto::Span, resource: &HashMap<String, String>) -> CollectedSpan {
    let kind = format!("{:?}", span.kind());
    let status = span.status.unwrap_or_default();
    CollectedSpan {
        trace_id: digits(&span.trace_id),
        span_id: digits(&span.span_id),
        parent_span_id: digits(&span.parent_span_id),
        trace_state: span.trace_state,
        name: span.name,
        kind,
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        error: (status.code() == proto::status::StatusCode::Error).then_some(status.message),
        attributes: texts(span.attributes),
        resource: resource.clone(),
    }
}

fn digits(bytes: &[u8]) -> String {
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat()
}

fn texts(attributes: Vec<KeyValue>) -> HashMap<String, String> {
    let pairs = attributes.into_iter().map(|attribute| {
        let value = attribute.value.and_then(|value| value.value);
        let text = match value {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            other => format!("{other:?}"),
        };
        (attribute.key, text)
    });
    pairs.collect()
}
