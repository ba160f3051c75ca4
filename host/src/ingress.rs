//! Events of the service: taken over HTTP, through the plugins, to the control plane.
//!
//! Called by [`crate::server`]. What it learns about events that the service has answered goes to [`crate::answers`]. It
//! does not know the API proxy.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use percent_encoding::percent_decode;
use tokio::time::Instant;

use crate::answers::Answers;
use crate::error_log::{self, Entry, ErrorLog};
use crate::event::{Event, EventBuilder, Malformed, split_batch};
use crate::metrics::Counters;
use crate::plugins::{Context, Direction, Fate, Passage, PluginError, Plugins, Published};
use crate::recent_events::{EventNames, RecentEvents, StepKind};
use crate::sink::{Sink, SinkError};
use crate::trace::{Kind, Span, TraceContext, Tracer};

/// Takes events of the service.
#[derive(Debug)]
pub struct Ingress {
    /// What may drop or change an event.
    pub plugins: Arc<Plugins>,
    /// Where it goes.
    pub sink: Sink,
    /// The events that the service has answered.
    pub answers: Arc<Answers>,
    /// Where errors are copied to, if there is an integration.
    pub error_log: Option<Arc<ErrorLog>>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// What is shown.
    pub recent: Arc<RecentEvents>,
    /// Where somebody collects spans.
    pub tracer: Option<Arc<Tracer>>,
}

/// Why events were not taken.
#[derive(Debug, thiserror::Error)]
pub enum IngressError {
    /// Not an event.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// One of a batch is not an event.
    #[error("event {number} of the batch: {error}")]
    MalformedInBatch {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        error: Malformed,
    },
    /// A plugin failed.
    #[error("{0}")]
    Plugin(#[from] Box<PluginError>),
    /// Not sent.
    #[error("{0}")]
    Sink(#[from] SinkError),
    /// An error that can be copied nowhere.
    #[error("the log of the control plane takes no errors, and no more can be kept until it does")]
    ErrorLogFull,
}

impl IngressError {
    /// The status that tells the service what to do.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) | Self::MalformedInBatch { .. } => StatusCode::BAD_REQUEST,
            Self::Plugin(error) if error.may_help_to_retry() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Plugin(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::ErrorLogFull => StatusCode::SERVICE_UNAVAILABLE,
            Self::Sink(error) => error.status(),
        }
    }

    /// How long the service had better wait, if the control plane says so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Sink(error) => error.retry_after(),
            Self::Plugin(error) => error
                .rests_until()
                .map(|until| until.saturating_duration_since(Instant::now())),
            _ => None,
        }
    }
}

impl Ingress {
    /// Takes what one request holds: an event in structured or binary mode, or a batch. Returns when all of it is
    /// stored.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn accept(&self, headers: &HeaderMap, body: Bytes) -> Result<(), IngressError> {
        let accepted = SystemTime::now();
        let mut outgoing = self.sink.batch();
        let mut answered = Vec::new();
        let mut errors = Vec::new();
        let caller = TraceContext::of_request(headers);
        let mut spans = Vec::new();
        for event in events(headers, body)? {
            if event.ty() == error_log::LOG_TYPE {
                errors.extend(self.reported_error(&event, accepted));
                continue;
            }
            answered.extend(answered_id(&event));
            let span = self.span(&event, caller.as_ref()).map(Arc::new);
            let (passed, published) = self.pass(event, span.clone()).await?;
            for event in passed {
                outgoing.add(event, span.as_deref().map(Span::context))?;
            }
            spans.extend(span);
            for published in published {
                outgoing.publish(&published)?;
            }
        }
        // Of an event that is sent the copy may get lost; of one that is nothing but an error nothing would be left.
        if let Some(error_log) = &self.error_log
            && !errors.is_empty()
            && !error_log.has_room_for(&errors)
        {
            return Err(IngressError::ErrorLogFull);
        }
        let sent = outgoing.send().await;
        let sent = sent.inspect_err(|_| spans.iter().for_each(|span| span.fail()))?;
        errors.extend(sent.iter().filter_map(|event| self.reported_error(event, accepted)));
        if let Some(error_log) = &self.error_log {
            for error in errors {
                error_log.push(error);
            }
        }
        // Also where a plugin has dropped the answer: the service works on the event all the same.
        for id in &answered {
            self.answers.record(id);
        }
        for event in &sent {
            self.counters.forwarded.increment();
            self.recent
                .forwarded(|| (EventNames::of(event, None), "stored by the control plane".to_owned()));
            tracing::info!(
                event_id = &*event.id(),
                event_type = &*event.ty(),
                keptn_context = &*event.keptn_context().unwrap_or_default(),
                triggered_id = &*event.triggered_id().unwrap_or_default(),
                "forwarded"
            );
        }
        Ok(())
    }

    /// The error that an event reports, if anybody is to be told.
    fn reported_error(&self, event: &Event, accepted: SystemTime) -> Option<Entry> {
        if self.error_log.is_none() {
            if event.ty() == error_log::LOG_TYPE {
                tracing::debug!(
                    event_id = &*event.id(),
                    "error log without a registration; nobody to tell"
                );
            }
            return None;
        }
        Entry::of(event, accepted).unwrap_or_else(|error| {
            tracing::error!(
                event_id = &*event.id(), event_type = &*event.ty(), %error,
                "an error of the service cannot be copied to the control plane"
            );
            None
        })
    }

    /// The step of sending it: of what the service does, or, where it says nothing of that, of what the event belongs to.
    fn span(&self, event: &Event, caller: Option<&TraceContext>) -> Option<Span> {
        let parent = caller.cloned().or_else(|| TraceContext::of_event(event));
        let mut span = Span::start(self.tracer.as_ref(), parent, Kind::Producer, || {
            format!("publish {}", event.ty())
        })?;
        span.describe(|| {
            [
                ("messaging.operation.type", "send".into()),
                ("messaging.message.id", (&*event.id()).into()),
                ("cloudevents.event_type", (&*event.ty()).into()),
                ("keptn_context", (&*event.keptn_context().unwrap_or_default()).into()),
            ]
        });
        Some(span)
    }

    /// What goes to the control plane in the event's place, and what plugins add to it.
    async fn pass(
        &self,
        event: Event,
        span: Option<Arc<Span>>,
    ) -> Result<(Vec<Event>, Vec<Published>), Box<PluginError>> {
        let chain = arc_swap::Guard::into_inner(self.plugins.current());
        let generation = chain.generation;
        let passing = async move {
            let context = Context {
                direction: Direction::Outgoing,
                subscription: None,
                received_on: "",
                receipt: 1,
                span: span.as_deref(),
            };
            let result = chain.run(&event, &context).await;
            (event, result)
        };
        let (event, result) = self.plugins.guest_thread().run_if_long(passing).await;
        match result {
            Ok(Passage { fate, published }) => {
                let passed = match fate {
                    Fate::Unchanged => vec![event],
                    Fate::Replaced(events) => events,
                    Fate::Dropped { by, reason } => {
                        self.counters.dropped_outgoing.increment();
                        self.recent.dropped(StepKind::Dropped, || {
                            let what = format!("sent by the service; plugin {by} of generation {generation}: {reason}");
                            (EventNames::of(&event, None), what)
                        });
                        tracing::debug!(event_id = &*event.id(), event_type = &*event.ty(), plugin = %by, reason, "dropped by a plugin");
                        Vec::new()
                    }
                };
                Ok((passed, published))
            }
            Err(error) => {
                self.counters.plugin_failures.increment();
                let what = format!("sent by the service, which is told and keeps it: {error}");
                self.recent
                    .in_trouble(EventNames::of(&event, None), StepKind::PluginFailed, &what);
                tracing::error!(
                    event_id = &*event.id(), event_type = &*event.ty(), plugin = %error.plugin, %error,
                    generation, "a plugin failed; the service is told, and keeps the event"
                );
                if let Some(error_log) = &self.error_log {
                    error_log.plugin_failed(&event, &error);
                }
                Err(error)
            }
        }
    }
}

/// The id of the event that this one answers, if it is an answer: the service has started to work on it, or is done.
fn answered_id(event: &Event) -> Option<String> {
    let ty = event.ty();
    if !ty.ends_with(".started") && !ty.ends_with(".finished") {
        return None;
    }
    Some(event.triggered_id()?.into_owned())
}

/// The events of a request (`CloudEvents` HTTP protocol binding, section 3). As in the original, a structured event is
/// taken under any content type.
fn events(headers: &HeaderMap, body: Bytes) -> Result<Vec<Event>, IngressError> {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if content_type.starts_with("application/cloudevents-batch") {
        let elements = split_batch(&body)?.into_iter().enumerate();
        let events = elements.map(|(index, bytes)| {
            Event::parse(bytes).map_err(|error| IngressError::MalformedInBatch {
                number: index + 1,
                error,
            })
        });
        return events.collect();
    }
    if !headers.contains_key("ce-specversion") || content_type.starts_with("application/cloudevents") {
        return Ok(vec![Event::parse(body)?]);
    }
    let mut attributes = Vec::new();
    for (name, value) in headers {
        let attribute = match name.as_str() {
            "content-type" => "datacontenttype",
            name => match name.strip_prefix("ce-") {
                Some(attribute) => attribute,
                None => continue,
            },
        };
        // Attributes are percent-encoded in headers (HTTP protocol binding, section 3.1.3.2).
        let text = percent_decode(value.as_bytes()).decode_utf8_lossy();
        attributes.push((attribute.to_owned(), text.into_owned()));
    }
    Ok(vec![Event::parse(EventBuilder::from_binary(&attributes, &body)?)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_started_or_finished_the_event_that_triggered_it() {
        let check = |ty: &str, more: &str, expected: Option<&str>| {
            let event = format!(r#"{{"specversion":"1.0","id":"i","source":"s","type":"{ty}"{more}}}"#);
            let event = Event::parse(Bytes::from(event)).unwrap();
            assert_eq!(answered_id(&event).as_deref(), expected, "{ty} {more}");
        };
        let triggered_by_t1 = r#","triggeredid":"t1""#;
        check("sh.keptn.event.task.started", triggered_by_t1, Some("t1"));
        check("sh.keptn.event.task.finished", triggered_by_t1, Some("t1"));
        check("other.started", triggered_by_t1, Some("t1"));
        check("sh.keptn.event.task.status.changed", triggered_by_t1, None);
        check("sh.keptn.event.task.triggered", triggered_by_t1, None);
        check("sh.keptn.event.task.unfinished", triggered_by_t1, None);
        check("sh.keptn.event.task.started", "", None);
        check("sh.keptn.event.task.started", r#","triggeredid":"""#, None);
        check("sh.keptn.event.task.started", r#","triggeredid":null"#, None);
    }
}
