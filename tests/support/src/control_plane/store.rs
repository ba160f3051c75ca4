//! What the control plane knows, and what follows from a request or an event.
//!
//! Called by `mod`, under one lock. It must not know connections: what is to be published it hands back.

use serde_json::{Value, json};

use super::answer::Answer;
use super::events::{Events, cloud_event};
use super::ids::{ZERO_TIME, now};
use super::resources::Resources;
use super::sequence::{Next, Sequence};
use super::target::{Route, Target};
use super::uniform::{Uniform, malformed};

/// Everything that is known.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) uniform: Uniform,
    pub(super) events: Events,
    pub(super) logs: Vec<Value>,
    pub(super) resources: Resources,
    pub(super) sequences: Vec<Sequence>,
    /// Events sent to the API are checked as they are where validation is switched on.
    pub(super) validates: bool,
}

/// What follows.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// To be published on NATS, in the form of `CloudEvents`.
    pub(super) events: Vec<Value>,
}

impl Store {
    /// Does what a request asks for. `nats` is whether events travel over NATS: then the control plane gets what it is
    /// sent from there.
    pub(super) fn handle(&mut self, method: &str, target: &Target, body: &[u8], nats: bool) -> (Answer, Effects) {
        let mut effects = Effects::default();
        let segments = target.segments();
        let segment = |index: usize| segments.get(index).map(String::as_str);
        let id = segment(3).unwrap_or_default();
        let answer = match target.route {
            Route::Register => self.uniform.register(body),
            Route::Ping => self.uniform.ping(id),
            Route::Unregister => self.uniform.unregister(id),
            Route::Registrations => self.uniform.registrations(|name| target.parameter(name)),
            Route::Subscriptions => self.uniform.subscriptions(method, id, segment(5), body),
            Route::OpenEvents => self.events.list(id, target),
            Route::Log => self.log(method, body),
            Route::SendEvent => match self.events.accept(body, self.validates) {
                Ok(event) => {
                    if nats {
                        effects.events.push(cloud_event(&event));
                    } else {
                        effects = self.saw(&event);
                    }
                    Answer::openapi(200, &json!({ "keptnContext": event["shkeptncontext"] }))
                }
                Err(answer) => answer,
            },
            Route::Datastore => match (method, segment(0)) {
                ("GET", Some("event")) => self.events.stored(target),
                _ => Answer::openapi_error(404, 404, &format!("path {} was not found", target.path)),
            },
            Route::Resources => self.resources.answer(method, target, body),
            // The identity provider has answered already.
            Route::Token | Route::Discovery | Route::Unknown => Answer::text(404, "text/plain", "404 page not found"),
        };
        (answer, effects)
    }

    /// Takes note of an event of a service, which may take a sequence further.
    pub(super) fn saw(&mut self, event: &Value) -> Effects {
        self.events.saw(event);
        let steps: Vec<_> = self
            .sequences
            .iter_mut()
            .map(|sequence| sequence.progress(event))
            .collect();
        let mut effects = Effects::default();
        for next in steps {
            self.follow(next, &mut effects);
        }
        effects
    }

    /// Starts a sequence.
    pub(super) fn start(&mut self, sequence: Sequence, next: Next) -> Effects {
        self.sequences.push(sequence);
        let mut effects = Effects::default();
        self.follow(next, &mut effects);
        effects
    }

    fn follow(&mut self, next: Next, effects: &mut Effects) {
        if let Some(id) = next.closed {
            self.events.close(&id);
        }
        for event in &next.events {
            self.events.saw(event);
        }
        if let Some(task) = next.events.last().filter(|_| next.opens) {
            self.events.open(task);
        }
        effects.events.extend(next.events);
    }

    fn log(&mut self, method: &str, body: &[u8]) -> Answer {
        if method == "GET" {
            let page = json!({ "nextPageKey": 0, "pageSize": 0, "totalCount": self.logs.len(), "logs": self.logs });
            return Answer::json(200, &page);
        }
        let sent = match serde_json::from_slice::<Value>(body) {
            Ok(sent) => sent,
            Err(error) => return malformed(body, &error),
        };
        let Some(entries) = sent["logs"].as_array().filter(|entries| !entries.is_empty()) else {
            // The database's words about an empty list.
            return Answer::error(500, "must provide at least one element in input slice");
        };
        for entry in entries {
            let mut entry = entry.clone();
            if entry["time"].as_str().is_none_or(|time| time == ZERO_TIME) {
                entry["time"] = now().into();
            }
            self.logs.push(entry);
        }
        Answer::json(200, &json!({}))
    }
}
