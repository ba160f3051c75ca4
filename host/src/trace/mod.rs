//! Distributed tracing: the context of a trace is taken from the event, passed on to the service and to what it answers,
//! and, where somebody collects them, spans say how long each step took.
//!
//! Called by the sources, [`crate::dispatch`], [`crate::delivery`] and [`crate::ingress`]. Where no collector is
//! configured and the event brings no context, there is nothing: no span, no look at the clock. It does not know what is
//! measured.

mod context;
mod encode;
mod export;
mod tracer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

pub use self::context::{TRACEPARENT, TRACESTATE, TraceContext};
pub use self::export::Exporter;
pub use self::tracer::{Sampler, Tracer};

/// What a span stands for. The numbers are those of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A step inside.
    Internal = 1,
    /// A request to somebody.
    Client = 3,
    /// An event that is sent.
    Producer = 4,
    /// An event that is received.
    Consumer = 5,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(i64::from(number))
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(i64::from(number))
    }
}

/// A step on the way of an event. It ends when it is dropped, and is then exported if anybody wants to know.
#[derive(Debug)]
pub struct Span {
    /// What those get who go on. Where nothing is recorded, this is what came.
    context: TraceContext,
    recording: Option<Box<Recording>>,
}

/// A span that is exported.
#[derive(Debug)]
struct Recording {
    tracer: Arc<Tracer>,
    parent_span_id: u64,
    name: String,
    kind: Kind,
    start: SystemTime,
    attributes: Vec<(&'static str, Value)>,
    has_failed: AtomicBool,
    error: String,
}

/// A span that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    context: TraceContext,
    recording: Recording,
    end: SystemTime,
}

impl Span {
    /// Goes on with what came, or begins something new. None: nobody wants to know, and nothing is to be passed on.
    pub fn start(
        tracer: Option<&Arc<Tracer>>,
        parent: Option<TraceContext>,
        kind: Kind,
        name: impl FnOnce() -> String,
    ) -> Option<Self> {
        match tracer {
            Some(tracer) => Some(Self::recorded_if_sampled(tracer, parent, kind, name)),
            None => parent.map(|context| Self {
                context,
                recording: None,
            }),
        }
    }

    fn recorded_if_sampled(
        tracer: &Arc<Tracer>,
        parent: Option<TraceContext>,
        kind: Kind,
        name: impl FnOnce() -> String,
    ) -> Self {
        let parent_span_id = parent.as_ref().map_or(0, |parent| parent.span_id);
        let (context, is_recorded) = tracer.next(parent);
        let recording = is_recorded.then(|| {
            Box::new(Recording {
                tracer: Arc::clone(tracer),
                parent_span_id,
                name: name(),
                kind,
                start: SystemTime::now(),
                attributes: Vec::new(),
                has_failed: AtomicBool::new(false),
                error: String::new(),
            })
        });
        Self { context, recording }
    }

    /// A step of this one. None: nothing is recorded.
    pub fn child(&self, kind: Kind, name: impl FnOnce() -> String) -> Option<Self> {
        let recording = self.recording.as_ref()?;
        let parent = Some(self.context.clone());
        Some(Self::recorded_if_sampled(&recording.tracer, parent, kind, name))
    }

    /// What those get who go on.
    pub fn context(&self) -> &TraceContext {
        &self.context
    }

    /// Adds what is known, asking for it only if it is recorded.
    pub fn describe<const N: usize>(&mut self, attributes: impl FnOnce() -> [(&'static str, Value); N]) {
        if let Some(recording) = &mut self.recording {
            recording.attributes.extend(attributes());
        }
    }

    /// Adds one thing.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(recording) = &mut self.recording {
            recording.attributes.push((name, value.into()));
        }
    }

    /// It failed.
    pub fn fail(&self) {
        if let Some(recording) = &self.recording {
            recording.has_failed.store(true, Ordering::Relaxed);
        }
    }

    /// It failed, for this reason.
    pub fn fail_with(&mut self, error: &dyn std::fmt::Display) {
        self.fail();
        if let Some(recording) = &mut self.recording {
            recording.error = error.to_string();
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(recording) = self.recording.take() {
            let tracer = Arc::clone(&recording.tracer);
            tracer.ended(Ended {
                context: self.context.clone(),
                recording: *recording,
                end: SystemTime::now(),
            });
        }
    }
}
