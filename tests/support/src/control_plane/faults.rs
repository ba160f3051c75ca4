//! What the control plane may do instead of what it should.
//!
//! Called by `mod`; tests script it. It must not know what a call does.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::answer::Answer;
use super::target::Route;

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status with the control plane's error body. Nothing is done.
    Status(u16),
    /// This status, headers and body. Nothing is done.
    Answer(u16, Vec<(String, String)>, String),
    /// This status and a page in HTML, as a load balancer's. Nothing is done.
    Html(u16),
    /// 200 without a body. Nothing is done.
    Empty,
    /// 200 with JSON that has nothing of what it should. Nothing is done.
    WrongJson,
    /// No answer; the connection stays open.
    Hang,
    /// The connection is closed. Nothing is done.
    Close,
    /// What was asked is done, then the connection is closed.
    LoseAnswer,
    /// What was asked is done and answered, but later.
    Delay(Duration),
}

/// What a fault makes of a request.
#[derive(Debug)]
pub(super) enum Effect {
    Answer(Answer),
    Hang,
    Close,
    LoseAnswer,
    Delay(Duration),
}

impl Fault {
    pub(super) fn effect(self) -> Effect {
        const HTML: &str = "<html><head><title>error</title></head><body><h1>error</h1></body></html>\r\n";
        match self {
            Self::Status(status) => Effect::Answer(Answer::error(status, "told to fail")),
            Self::Answer(status, headers, body) => Effect::Answer(Answer::other(status, headers, body)),
            Self::Html(status) => Effect::Answer(Answer::text(status, "text/html", HTML)),
            Self::Empty => Effect::Answer(Answer::empty(200)),
            Self::WrongJson => Effect::Answer(Answer::json(200, &serde_json::json!([{ "id": 7 }, "unexpected"]))),
            Self::Hang => Effect::Hang,
            Self::Close => Effect::Close,
            Self::LoseAnswer => Effect::LoseAnswer,
            Self::Delay(delay) => Effect::Delay(delay),
        }
    }
}

type Script = Box<dyn Fn(usize) -> Option<Fault> + Send + Sync>;

/// Which calls go wrong.
#[derive(Default)]
pub(super) struct Faults(Mutex<HashMap<Route, Script>>);

impl Faults {
    pub(super) fn set(&self, route: Route, script: Script) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(route, script);
    }

    pub(super) fn clear(&self, route: Route) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&route);
    }

    /// What goes wrong with this request, the `nth` of its route.
    pub(super) fn of(&self, route: Route, nth: usize) -> Option<Fault> {
        let faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        faults.get(&route)?(nth)
    }
}
