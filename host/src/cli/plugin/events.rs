//! The events that commands show to plugins: as files of JSON hold them, or as a running distributor has captured them,
//! with what its plugins said.

use std::collections::HashMap;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::CommandError;
use crate::event::Event;
use crate::plugins::{Context, Direction};
use crate::subject::Subject;
use crate::subscription::Subscription;

/// Names standard input.
const STANDARD_INPUT: &str = "-";

/// An event, and the circumstances under which a plugin gets it.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) event: Event,
    pub(super) circumstances: Circumstances,
    /// What the plugins of a distributor said, if it was captured.
    pub(super) steps: Vec<Step>,
}

/// What there is to know of an event beside itself.
#[derive(Debug, Clone)]
pub(super) struct Circumstances {
    pub(super) direction: Direction,
    pub(super) subscription: Option<Subscription>,
    pub(super) received_on: String,
    pub(super) receipt: u32,
}

/// The same as files have it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenContext {
    direction: Option<Direction>,
    subscription: Option<WrittenSubscription>,
    received_on: Option<String>,
    receipt: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSubscription {
    #[serde(default)]
    id: String,
    event: Option<String>,
    #[serde(default)]
    projects: Vec<String>,
    #[serde(default)]
    stages: Vec<String>,
    #[serde(default)]
    services: Vec<String>,
}

/// What a plugin said of an event, as it was captured.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Step {
    pub(super) plugin: String,
    pub(super) event_id: String,
    pub(super) verdict: String,
    pub(super) reason: Option<String>,
    #[serde(default)]
    pub(super) forwarded: Vec<Box<RawValue>>,
    #[serde(default)]
    pub(super) published: Vec<Box<RawValue>>,
}

/// A line of a capture.
#[derive(Deserialize)]
struct Captured<'a> {
    direction: Option<Direction>,
    context: Option<WrittenContext>,
    #[serde(borrow)]
    event: &'a RawValue,
    plugins: Vec<Step>,
}

impl Circumstances {
    /// Those of an event about which nothing else is known.
    pub(super) fn of(event: &Event, direction: Direction) -> Self {
        let received_on = match direction {
            Direction::Incoming => event.ty().into_owned(),
            Direction::Outgoing => String::new(),
        };
        Self {
            direction,
            subscription: None,
            received_on,
            receipt: 1,
        }
    }

    /// With what is written about them.
    pub(super) fn with(self, written: WrittenContext) -> Result<Self, String> {
        let pattern = |written: WrittenSubscription| {
            let event = written.event.unwrap_or_else(|| ">".to_owned());
            let event = Subject::pattern(&event).map_err(|error| format!("`subscription`: {error}"))?;
            Ok::<_, String>(Subscription {
                id: written.id,
                event,
                projects: written.projects,
                stages: written.stages,
                services: written.services,
            })
        };
        Ok(Self {
            direction: written.direction.unwrap_or(self.direction),
            subscription: written.subscription.map(pattern).transpose()?.or(self.subscription),
            received_on: written.received_on.unwrap_or(self.received_on),
            receipt: written.receipt.unwrap_or(self.receipt),
        })
    }

    pub(super) fn context(&self) -> Context<'_> {
        Context {
            direction: self.direction,
            subscription: self.subscription.as_ref(),
            received_on: &self.received_on,
            receipt: self.receipt,
            span: None,
        }
    }
}

impl Case {
    /// An event of which nothing else is known.
    pub(super) fn of(event: Event, direction: Direction) -> Self {
        Self {
            circumstances: Circumstances::of(&event, direction),
            event,
            steps: Vec::new(),
        }
    }

    /// What the plugin of this name got of the event, and what it said: an event may have been changed or split before it
    /// came there.
    pub(super) fn at(&self, plugin: &str) -> Vec<(Event, Step)> {
        let mut events = HashMap::from([(self.event.id().into_owned(), self.event.clone())]);
        let mut found = Vec::new();
        for step in &self.steps {
            let Some(event) = events.get(&step.event_id).cloned() else {
                continue;
            };
            if step.plugin == plugin {
                found.push((event, step.clone()));
            }
            for forwarded in &step.forwarded {
                if let Ok(event) = parse(forwarded) {
                    events.insert(event.id().into_owned(), event);
                }
            }
        }
        found
    }
}

/// Reads the events of all files; of standard input, if none is named and nobody types there.
pub(super) fn read(paths: &[PathBuf], direction: Direction) -> Result<Vec<Case>, CommandError> {
    let usage = |problem: String| CommandError::Usage(problem);
    if paths.is_empty() && std::io::stdin().is_terminal() {
        return Err(usage(
            "which event? Name a file of JSON, or give it on standard input, e.g. `--event fixtures/deployment.triggered.json`"
                .to_owned(),
        ));
    }
    let standard_input = [PathBuf::from(STANDARD_INPUT)];
    let paths = if paths.is_empty() { &standard_input } else { paths };
    let mut cases = Vec::new();
    for path in paths {
        let content = content(path).map_err(|error| usage(format!("cannot read {}: {error}", path.display())))?;
        let found = parse_all(&content, direction);
        cases.extend(found.map_err(|problem| usage(format!("{}: {problem}", path.display())))?);
    }
    if cases.is_empty() {
        return Err(usage("there is no event in what was given".to_owned()));
    }
    Ok(cases)
}

fn content(path: &Path) -> std::io::Result<Vec<u8>> {
    if path.as_os_str() == STANDARD_INPUT {
        let mut content = Vec::new();
        std::io::stdin().lock().read_to_end(&mut content)?;
        return Ok(content);
    }
    std::fs::read(path)
}

/// Events after each other, in lists or not, and lines of captures.
pub(super) fn parse_all(content: &[u8], direction: Direction) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    for value in serde_json::Deserializer::from_slice(content).into_iter::<&RawValue>() {
        let value = value.map_err(|error| format!("this is no JSON: {error}"))?;
        if value.get().starts_with('[') {
            let items: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|error| error.to_string())?;
            for item in items {
                cases.push(case(item, direction, cases.len() + 1)?);
            }
        } else {
            cases.push(case(value, direction, cases.len() + 1)?);
        }
    }
    Ok(cases)
}

fn case(value: &RawValue, direction: Direction, number: usize) -> Result<Case, String> {
    if let Ok(captured) = serde_json::from_str::<Captured<'_>>(value.get()) {
        let event = parse(captured.event).map_err(|problem| format!("event {number} of the capture is {problem}"))?;
        let circumstances = Circumstances::of(&event, captured.direction.unwrap_or(direction));
        let circumstances = circumstances.with(captured.context.unwrap_or_default())?;
        return Ok(Case {
            event,
            circumstances,
            steps: captured.plugins,
        });
    }
    let event = parse(value).map_err(|problem| format!("event {number} is {problem}"))?;
    Ok(Case::of(event, direction))
}

/// The bytes of a JSON value as an event.
pub(super) fn parse(value: &RawValue) -> Result<Event, String> {
    parse_text(value.get())
}

/// The same of a value that was read.
pub(super) fn parse_value(value: &Value) -> Result<Event, String> {
    parse_text(&value.to_string())
}

fn parse_text(text: &str) -> Result<Event, String> {
    Event::parse(Bytes::copy_from_slice(text.as_bytes())).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(content: &str) -> Result<Vec<String>, String> {
        let cases = parse_all(content.as_bytes(), Direction::Incoming)?;
        Ok(cases.iter().map(|case| case.event.id().into_owned()).collect())
    }

    fn event(id: &str) -> String {
        format!(r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"t"}}"#)
    }

    #[test]
    fn events_stand_after_each_other_or_in_lists() {
        let [a, b, c] = ["a", "b", "c"].map(event);
        assert_eq!(ids(&a).unwrap(), ["a"]);
        assert_eq!(ids(&format!("{a}\n{b}\n\n")).unwrap(), ["a", "b"]);
        assert_eq!(ids(&format!("[{a}, {b}] {c}")).unwrap(), ["a", "b", "c"]);
        assert!(
            ids("{\"id\":1}")
                .unwrap_err()
                .starts_with("event 1 is not a CloudEvent")
        );
        assert!(
            ids(&format!("{a} nonsense"))
                .unwrap_err()
                .starts_with("this is no JSON")
        );
    }

    #[test]
    fn a_capture_tells_what_each_plugin_got() {
        let (root, part) = (event("a"), event("a-1"));
        let line = format!(
            r#"{{"time":"2026-11-23T00:00:00Z","direction":"outgoing","generation":1,"outcome":"replaced",
                "context":{{"subscription":{{"id":"s1","event":"sh.>","projects":["p"],"stages":[],"services":[]}},
                "received_on":"x","receipt":2}},"event":{root},"plugins":[
                {{"plugin":"one","event_id":"a","micros":3,"verdict":"replace","forwarded":[{part}]}},
                {{"plugin":"two","event_id":"a-1","micros":3,"verdict":"drop","reason":"r"}}]}}"#
        );
        let cases = parse_all(line.as_bytes(), Direction::Incoming).unwrap();
        let circumstances = &cases[0].circumstances;
        assert_eq!(
            (circumstances.direction, circumstances.receipt),
            (Direction::Outgoing, 2)
        );
        assert_eq!(circumstances.subscription.as_ref().unwrap().projects, ["p"]);
        let (event, step) = &cases[0].at("two")[0];
        assert_eq!((&*event.id(), step.reason.as_deref()), ("a-1", Some("r")));
        assert_eq!(cases[0].at("one")[0].0.id(), "a");
        assert!(cases[0].at("three").is_empty());
    }
}
