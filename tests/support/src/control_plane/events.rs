//! Open events and all events that were seen, with the server's paging.
//!
//! Called by `mod` and `store`. It must not know why an event is open.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::ids::{is_id, new_id, now};
use super::target::Target;
use super::validation::invalid;

/// How many events an answer has where nothing else is asked for.
const PAGE_SIZE: i64 = 20;

/// Attributes in the order of the API's form of an event; empty ones are left out, except the first.
const API_FORM: [&str; 10] = [
    "data",
    "id",
    "shkeptncontext",
    "shkeptnspecversion",
    "source",
    "specversion",
    "time",
    "triggeredid",
    "gitcommitid",
    "type",
];

/// The API's form of an event that is in its own form or that of `CloudEvents`.
pub(super) fn api_form(event: &Value) -> Value {
    let mut form = Map::new();
    for name in API_FORM {
        let value = &event[name];
        if name == "data" || !(value.is_null() || *value == "") {
            form.insert(name.to_owned(), value.clone());
        }
    }
    Value::Object(form)
}

/// The event in the form of `CloudEvents`.
pub(super) fn cloud_event(event: &Value) -> Value {
    let mut form = Map::new();
    for name in ["specversion", "id", "source", "type"] {
        form.insert(name.to_owned(), event[name].clone());
    }
    form.insert("datacontenttype".to_owned(), json!("application/json"));
    for name in [
        "time",
        "data",
        "shkeptncontext",
        "triggeredid",
        "shkeptnspecversion",
        "gitcommitid",
    ] {
        if !event[name].is_null() {
            form.insert(name.to_owned(), event[name].clone());
        }
    }
    Value::Object(form)
}

#[derive(Debug)]
struct OpenEvent {
    id: String,
    ty: String,
    project: String,
    stage: String,
    service: String,
    time: String,
    /// The API's form, written once: there may be ten thousand.
    json: Arc<str>,
}

/// All open events, and all that were ever seen.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// In the order in which they were opened.
    open: Vec<OpenEvent>,
    /// In the API's form.
    seen: Vec<Value>,
    /// Those of them that came through the API.
    sent: Vec<Value>,
}

impl Events {
    /// Lists an event as one that nobody has finished yet.
    pub(super) fn open(&mut self, event: &Value) {
        let text = |pointer: &str| {
            let value = event.pointer(pointer).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        self.open.push(OpenEvent {
            id: text("/id"),
            ty: text("/type"),
            project: text("/data/project"),
            stage: text("/data/stage"),
            service: text("/data/service"),
            time: text("/time"),
            json: api_form(event).to_string().into(),
        });
    }

    pub(super) fn close(&mut self, id: &str) {
        self.open.retain(|event| event.id != id);
    }

    /// The open events in the API's form.
    pub(super) fn open_events(&self) -> impl Iterator<Item = Value> {
        let open = self.open.iter();
        open.filter_map(|event| serde_json::from_str(&event.json).ok())
    }

    pub(super) fn n_open(&self) -> usize {
        self.open.len()
    }

    pub(super) fn saw(&mut self, event: &Value) {
        self.seen.push(api_form(event));
    }

    pub(super) fn sent(&self) -> Vec<Value> {
        self.sent.clone()
    }

    /// One page of the open events of a type, newest first, project by project.
    ///
    /// The server has a defect here, which is kept: each page starts with the first event again, so that whoever follows
    /// `nextPageKey` sees the events of the first page over and over, and never those behind. A page may be as large as is
    /// asked for.
    pub(super) fn list(&self, ty: &str, target: &Target) -> Answer {
        let wanted = |name: &str| target.parameter(name).filter(|value| !value.is_empty());
        let (project, stage, service, id) = (wanted("project"), wanted("stage"), wanted("service"), wanted("eventID"));
        let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|wanted| wanted == value);
        let matching = self.open.iter().filter(|event| {
            event.ty == ty
                && is(&project, &event.project)
                && is(&stage, &event.stage)
                && is(&service, &event.service)
                && is(&id, &event.id)
        });
        let mut events: Vec<_> = matching.collect();
        events.sort_by(|one, other| (&one.project, &other.time).cmp(&(&other.project, &one.time)));

        let size = match wanted("pageSize").map(|size| size.parse::<i64>()).transpose() {
            Ok(size) => size.unwrap_or(PAGE_SIZE),
            Err(error) => return Answer::error(400, &format!("Invalid request format: pageSize: {error}")),
        };
        let key = target.parameter("nextPageKey").and_then(|key| key.parse::<i64>().ok());
        let Some(page) = Page::of(events.len(), size, key.unwrap_or_default()) else {
            return Answer::empty(500);
        };
        let shown: Vec<&str> = events[..page.len].iter().map(|event| &*event.json).collect();
        let total = match events.len() {
            0 => String::new(),
            total => format!(r#","totalCount":{total}"#),
        };
        let body = format!(
            r#"{{"events":[{}],"nextPageKey":"{}"{total}}}"#,
            shown.join(","),
            page.next
        );
        Answer::written_json(200, body)
    }

    /// Takes an event that was sent to the API, and returns it as it is passed on.
    ///
    /// # Errors
    ///
    /// What the API answers to an event that it does not take.
    pub(super) fn accept(&mut self, body: &[u8], validates: bool) -> Result<Value, Answer> {
        let mut event = serde_json::from_slice::<Value>(body).map_err(|error| {
            let message = format!("parsing body body from \"\" failed, because {error}");
            Answer::openapi_error(400, 400, &message)
        })?;
        for name in ["data", "source", "type"] {
            if event[name].is_null() {
                return Err(Answer::openapi_error(422, 602, &format!("{name} in body is required")));
            }
        }
        if validates && let Some(message) = invalid(&event) {
            return Err(Answer::openapi_error(400, 400, &message));
        }
        if !event["shkeptncontext"].as_str().is_some_and(is_id) {
            event["shkeptncontext"] = new_id().into();
        }
        if event["source"] == "" {
            event["source"] = "https://github.com/keptn/keptn/api".into();
        }
        event["id"] = new_id().into();
        event["time"] = now().into();
        let event = api_form(&event);
        self.sent.push(event.clone());
        Ok(event)
    }

    /// What the datastore answers: all events, newest first.
    pub(super) fn stored(&self, target: &Target) -> Answer {
        let wanted = |name: &str| target.parameter(name).filter(|value| !value.is_empty());
        let filters: Vec<_> = [
            ("project", "/data/project"),
            ("stage", "/data/stage"),
            ("service", "/data/service"),
            ("type", "/type"),
            ("source", "/source"),
            ("keptnContext", "/shkeptncontext"),
            ("eventID", "/id"),
        ]
        .into_iter()
        .filter_map(|(name, pointer)| Some((pointer, wanted(name)?)))
        .collect();
        let matches = |event: &&Value| {
            let mut filters = filters.iter();
            filters.all(|(pointer, wanted)| event.pointer(pointer).is_some_and(|value| value == wanted))
        };
        let events: Vec<&Value> = self.seen.iter().rev().filter(matches).collect();
        let number = |name: &str, default| wanted(name).and_then(|text| text.parse().ok()).unwrap_or(default);
        let (size, key) = (number("pageSize", 20_usize), number("nextPageKey", 0_usize));
        let end = events.len().min(key.saturating_add(size));
        let next = if end < events.len() { end } else { 0 };
        let shown = events.get(key..end).unwrap_or_default();
        let page = json!({
            "events": shown,
            "nextPageKey": next.to_string(),
            "pageSize": shown.len(),
            "totalCount": events.len(),
        });
        Answer::openapi(200, &page)
    }
}

/// A page of open events.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    /// How many it has, from the first event on.
    len: usize,
    /// The key of the next one, 0 if it is the last.
    next: i64,
}

impl Page {
    /// Nothing where the server fails over the numbers.
    fn of(total: usize, size: i64, key: i64) -> Option<Self> {
        let total_number = i64::try_from(total).ok()?;
        let behind = key.checked_add(size)?;
        let next = if behind < total_number { behind } else { 0 };
        if key >= total_number {
            return Some(Self { len: 0, next });
        }
        let len = usize::try_from(behind.min(total_number).checked_sub(key)?).ok()?;
        (key >= 0).then_some(Self { len, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_starts_with_the_first_event_as_on_the_server() {
        let check = |total, size, key, len, next| {
            assert_eq!(
                Page::of(total, size, key),
                Some(Page { len, next }),
                "{total} {size} {key}"
            );
        };
        check(0, 20, 0, 0, 0);
        check(20, 20, 0, 20, 0);
        check(45, 20, 0, 20, 20);
        check(45, 20, 20, 20, 40);
        check(45, 20, 40, 5, 0);
        check(45, 20, 60, 0, 0);
        check(45, 1000, 0, 45, 0);
        assert_eq!(Page::of(45, -1, 0), None);
        assert_eq!(Page::of(45, 20, -1), None);
    }
}
