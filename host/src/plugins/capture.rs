//! Keeps the last events with what each plugin said about them, for the tools of plugin authors to replay.
//!
//! Off unless somebody asks for it: then [`super::chain`] writes down one line of JSON for each event. What is kept is
//! whole events, so it goes nowhere but to whoever may ask this process on its own machine.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::chain::Fate;
use super::context::{Context, Direction};
use super::error::PluginError;
use super::plugin::{Plugin, matches_glob};
use super::publish::Published;
use crate::event::Event;

/// Events that are kept unless something else is asked for, and at most.
const EVENTS: usize = 1_000;
const MAX_EVENTS: usize = 100_000;
/// The same for bytes.
const BYTES: usize = 4 << 20;
const MAX_BYTES: usize = 64 << 20;

/// The last events that went through the plugins of this process.
#[derive(Debug, Default)]
pub struct Capture {
    is_on: AtomicBool,
    ring: Mutex<Option<Ring>>,
}

/// What is to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaptureOptions {
    /// So many of the last events.
    pub events: usize,
    /// So many bytes of them, written down.
    pub bytes: usize,
    /// Only events of these types; `*` stands for any text. Empty: all.
    pub types: Vec<String>,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        Self {
            events: EVENTS,
            bytes: BYTES,
            types: Vec::new(),
        }
    }
}

/// Why nothing is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    /// Not a number that can be kept.
    #[error("`{key}` is {value}, it can be 1 to {max}")]
    OutOfRange {
        /// The option.
        key: &'static str,
        /// Its value.
        value: usize,
        /// What is possible.
        max: usize,
    },
}

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaptureStatus {
    /// Whether events are written down.
    pub capturing: bool,
    /// Events that are kept.
    pub events: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Events that had to go for later ones, or were too large.
    pub overwritten: u64,
}

#[derive(Debug)]
struct Ring {
    options: CaptureOptions,
    lines: VecDeque<Bytes>,
    bytes: usize,
    overwritten: u64,
}

/// One event, while it is on its way.
#[derive(Debug)]
pub(super) struct Trace {
    time: SystemTime,
    steps: String,
}

impl Capture {
    /// Keeps events from now on, and forgets those that it has.
    ///
    /// # Errors
    /// When it is asked for more than it may keep.
    pub fn start(&self, options: CaptureOptions) -> Result<(), CaptureError> {
        for (key, value, max) in [
            ("events", options.events, MAX_EVENTS),
            ("bytes", options.bytes, MAX_BYTES),
        ] {
            if !(1..=max).contains(&value) {
                return Err(CaptureError::OutOfRange { key, value, max });
            }
        }
        *self.ring() = Some(Ring {
            options,
            lines: VecDeque::new(),
            bytes: 0,
            overwritten: 0,
        });
        self.is_on.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Keeps nothing any more, and forgets what it has.
    pub fn stop(&self) {
        self.is_on.store(false, Ordering::Relaxed);
        *self.ring() = None;
    }

    /// How it stands.
    pub fn status(&self) -> CaptureStatus {
        let ring = self.ring();
        let ring = ring.as_ref();
        CaptureStatus {
            capturing: ring.is_some(),
            events: ring.map_or(0, |ring| ring.lines.len()),
            bytes: ring.map_or(0, |ring| ring.bytes),
            overwritten: ring.map_or(0, |ring| ring.overwritten),
        }
    }

    /// What is kept, the oldest first: a line of JSON for each event, with the line break.
    pub fn lines(&self) -> Vec<Bytes> {
        let ring = self.ring();
        ring.as_ref()
            .map_or_else(Vec::new, |ring| ring.lines.iter().cloned().collect())
    }

    /// Starts to write an event down, if it is to be.
    pub(super) fn trace(&self, event: &Event) -> Option<Trace> {
        if !self.is_on.load(Ordering::Relaxed) {
            return None;
        }
        let ring = self.ring();
        let types = &ring.as_ref()?.options.types;
        let is_wanted = types.is_empty() || types.iter().any(|glob| matches_glob(glob, &event.ty()));
        is_wanted.then(|| Trace {
            time: SystemTime::now(),
            steps: String::new(),
        })
    }

    pub(super) fn keep(
        &self,
        trace: Trace,
        event: &Event,
        context: &Context<'_>,
        generation: u64,
        fate: Result<&Fate, &PluginError>,
    ) {
        let line = trace.line(event, context, generation, fate);
        if let Some(ring) = self.ring().as_mut() {
            ring.push(line);
        }
    }

    fn ring(&self) -> MutexGuard<'_, Option<Ring>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn push(&mut self, line: Bytes) {
        if line.len() > self.options.bytes {
            self.overwritten += 1;
            return;
        }
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.lines.len() > self.options.events || self.bytes > self.options.bytes {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.len();
            self.overwritten += 1;
        }
    }
}

impl Trace {
    /// Writes down what a plugin did.
    pub(super) fn step(
        &mut self,
        plugin: &Plugin,
        event: &Event,
        elapsed: Duration,
        fate: &Result<Fate, PluginError>,
        published: &[Published],
    ) {
        let mut step = json!({
            "plugin": &**plugin.name(),
            "version": plugin.version(),
            "digest": plugin.digest(),
            "event_id": event.id(),
            "micros": u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        });
        let mut forwarded: &[Event] = &[];
        let (verdict, more) = match fate {
            Ok(Fate::Unchanged) if !plugin.wants(event) => ("not-called", None),
            Ok(Fate::Unchanged) if plugin.has_transform() => ("keep", None),
            Ok(Fate::Unchanged) => ("pass", None),
            Ok(Fate::Dropped { reason, .. }) => ("drop", Some(("reason", reason.clone()))),
            Ok(Fate::Replaced(events)) => {
                forwarded = events;
                ("replace", None)
            }
            Err(error) => ("error", Some(("error", error.cause.to_string()))),
        };
        step["verdict"] = verdict.into();
        if let Some((name, text)) = more {
            step[name] = text.into();
        }
        if !self.steps.is_empty() {
            self.steps.push(',');
        }
        let step = step.to_string();
        self.steps.push_str(step.strip_suffix('}').unwrap_or(&step));
        self.events("forwarded", forwarded.iter());
        self.events("published", published.iter().map(|published| &published.event));
        self.steps.push('}');
    }

    fn events<'a>(&mut self, name: &str, events: impl ExactSizeIterator<Item = &'a Event>) {
        if events.len() == 0 {
            return;
        }
        self.steps.push_str(",\"");
        self.steps.push_str(name);
        self.steps.push_str("\":[");
        for (number, event) in events.enumerate() {
            if number > 0 {
                self.steps.push(',');
            }
            self.steps.push_str(&on_one_line(event));
        }
        self.steps.push(']');
    }

    fn line(self, event: &Event, context: &Context<'_>, generation: u64, fate: Result<&Fate, &PluginError>) -> Bytes {
        let outcome = match fate {
            Ok(Fate::Unchanged) => "unchanged",
            Ok(Fate::Replaced(_)) => "replaced",
            Ok(Fate::Dropped { .. }) => "dropped",
            Err(_) => "failed",
        };
        let subscription = context.subscription.map_or(Value::Null, |subscription| {
            json!({
                "id": subscription.id,
                "event": subscription.event.as_str(),
                "projects": subscription.projects,
                "stages": subscription.stages,
                "services": subscription.services,
            })
        });
        let head = json!({
            "time": humantime::format_rfc3339_micros(self.time).to_string(),
            "direction": match context.direction {
                Direction::Incoming => "incoming",
                Direction::Outgoing => "outgoing",
            },
            "generation": generation,
            "context": {
                "subscription": subscription,
                "received_on": context.received_on,
                "receipt": context.receipt,
            },
            "outcome": outcome,
        })
        .to_string();
        let head = head.strip_suffix('}').unwrap_or(&head);
        let line = format!(
            "{head},\"event\":{},\"plugins\":[{}]}}\n",
            on_one_line(event),
            self.steps
        );
        Bytes::from(line)
    }
}

/// The event's own bytes: numbers of any size and the order of members stay. A line break in JSON stands between values,
/// so a blank says the same.
fn on_one_line(event: &Event) -> String {
    String::from_utf8_lossy(event.bytes()).replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, more: &str) -> Event {
        let text = format!("{{\"specversion\":\"1.0\",\n\"id\":\"{id}\",\"source\":\"s\",\"type\":\"t\"{more}}}");
        Event::parse(Bytes::from(text)).unwrap()
    }

    const CONTEXT: Context<'_> = Context {
        direction: Direction::Incoming,
        subscription: None,
        received_on: "t",
        receipt: 1,
        span: None,
    };

    fn keep(capture: &Capture, event: &Event) {
        if let Some(trace) = capture.trace(event) {
            capture.keep(trace, event, &CONTEXT, 1, Ok(&Fate::Unchanged));
        }
    }

    fn ids(capture: &Capture) -> Vec<String> {
        let id = |line: &Bytes| {
            let line: Value = serde_json::from_slice(line).unwrap();
            line["event"]["id"].as_str().unwrap().to_owned()
        };
        capture.lines().iter().map(id).collect()
    }

    #[test]
    fn nothing_is_kept_unless_somebody_asks_for_it() {
        let capture = Capture::default();
        keep(&capture, &event("1", ""));
        assert!(capture.lines().is_empty() && !capture.status().capturing);
        capture.start(CaptureOptions::default()).unwrap();
        keep(&capture, &event("2", ""));
        assert_eq!(ids(&capture), ["2"]);
        capture.stop();
        keep(&capture, &event("3", ""));
        assert!(capture.lines().is_empty() && !capture.status().capturing);
    }

    #[test]
    fn the_oldest_go_first_by_number_and_by_size() {
        let capture = Capture::default();
        let options = CaptureOptions {
            events: 3,
            ..CaptureOptions::default()
        };
        capture.start(options).unwrap();
        for id in ["1", "2", "3", "4", "5"] {
            keep(&capture, &event(id, ""));
        }
        assert_eq!(ids(&capture), ["3", "4", "5"]);
        let CaptureStatus { bytes, overwritten, .. } = capture.status();
        assert_eq!(overwritten, 2);

        let options = CaptureOptions {
            bytes,
            ..CaptureOptions::default()
        };
        capture.start(options).unwrap();
        for id in ["1", "2", "3", "4"] {
            keep(&capture, &event(id, ""));
        }
        assert_eq!(ids(&capture), ["2", "3", "4"]);
        keep(&capture, &event("5", &format!(",\"x\":\"{}\"", "x".repeat(bytes))));
        assert_eq!(ids(&capture), ["2", "3", "4"], "one that never fits costs no others");
        assert_eq!(capture.status().overwritten, 2);
    }

    #[test]
    fn only_the_types_that_were_asked_for_are_kept() {
        let capture = Capture::default();
        let types = vec!["sh.*".to_owned()];
        capture
            .start(CaptureOptions {
                types,
                ..CaptureOptions::default()
            })
            .unwrap();
        keep(&capture, &event("1", ""));
        assert!(capture.lines().is_empty());
    }

    #[test]
    fn a_line_holds_the_event_as_it_is() {
        let capture = Capture::default();
        capture.start(CaptureOptions::default()).unwrap();
        keep(&capture, &event("1", ",\r\n\"data\":{\"big\":12345678901234567890123}"));
        let lines = capture.lines();
        let text = std::str::from_utf8(&lines[0]).unwrap();
        assert!(text.contains("\"data\":{\"big\":12345678901234567890123}"), "{text}");
        assert_eq!(text.matches('\n').count(), 1);
        let line: Value = serde_json::from_str(text).unwrap();
        assert_eq!(
            (&line["direction"], &line["generation"], &line["outcome"]),
            (&json!("incoming"), &json!(1), &json!("unchanged"))
        );
        assert_eq!(
            line["context"],
            json!({"subscription": null, "received_on": "t", "receipt": 1})
        );
    }

    #[test]
    fn what_is_too_much_is_refused_with_the_limit() {
        let capture = Capture::default();
        let check = |options: CaptureOptions, expected: &str| {
            let error = capture.start(options).unwrap_err().to_string();
            assert_eq!(error, expected);
        };
        let default = CaptureOptions::default;
        check(
            CaptureOptions { events: 0, ..default() },
            "`events` is 0, it can be 1 to 100000",
        );
        check(
            CaptureOptions {
                bytes: 1 << 30,
                ..default()
            },
            "`bytes` is 1073741824, it can be 1 to 67108864",
        );
        assert!(!capture.status().capturing);
    }
}
