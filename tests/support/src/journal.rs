//! What a recipient writes down: whole requests where tests look at them, and for each delivery the little that long runs
//! are judged by.
//!
//! Called by `recipient`, and by tests through it. It must not know what is expected.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use serde::Deserialize;
use tokio::time::Instant;

/// One request as it arrived, written down before it is answered.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    /// The method, `POST` for a delivery.
    pub method: String,
    /// Path and query, as sent.
    pub path: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// When its last byte had been read.
    pub arrived: Instant,
    /// Which connection it came over, counted from 0.
    pub connection: usize,
}

impl ReceivedRequest {
    /// Reads a request to its end.
    pub(crate) async fn read(request: Request<Incoming>, connection: usize) -> Result<Self, hyper::Error> {
        let (head, body) = request.into_parts();
        Ok(Self {
            method: head.method.to_string(),
            path: head.uri.to_string(),
            headers: head.headers,
            body: body.collect().await?.to_bytes(),
            arrived: Instant::now(),
            connection,
        })
    }

    /// A header's value, if it is there and is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// When it is not JSON.
    pub fn json(&self) -> anyhow::Result<serde_json::Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("body is not JSON: {}", String::from_utf8_lossy(&self.body)))
    }
}

/// One attempt to deliver an event, without its body: some 64 bytes, so that a run may have millions of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Attribute `id`, empty if there is none.
    pub id: Arc<str>,
    /// Extension `shkeptncontext`, empty if there is none: the events of one key have an order.
    pub key: Arc<str>,
    /// When its last byte had been read.
    pub arrived: Instant,
    /// Which attempt it is, as the distributor counts them (header `distributor-attempt`).
    pub attempt: Option<u32>,
    /// What it was answered with; nothing while it is not answered, or if it never is.
    pub status: Option<u16>,
}

impl Delivery {
    /// Whether the recipient has taken the event.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    /// All requests, unless only deliveries are kept.
    pub(crate) requests: Vec<ReceivedRequest>,
    pub(crate) deliveries: Vec<Delivery>,
    /// Ids and keys, each kept once.
    texts: HashSet<Arc<str>>,
    accepted: HashSet<Arc<str>>,
}

impl Journal {
    /// Writes down a delivery and returns its number.
    pub(crate) fn push(&mut self, request: &ReceivedRequest, attributes: &Attributes<'_>) -> usize {
        let delivery = Delivery {
            id: self.kept_once(&attributes.id),
            key: self.kept_once(&attributes.shkeptncontext),
            arrived: request.arrived,
            attempt: request.header("distributor-attempt").and_then(|text| text.parse().ok()),
            status: None,
        };
        self.deliveries.push(delivery);
        self.deliveries.len() - 1
    }

    pub(crate) fn answered(&mut self, number: usize, status: u16) {
        let delivery = &mut self.deliveries[number];
        delivery.status = Some(status);
        if delivery.is_accepted() {
            self.accepted.insert(Arc::clone(&delivery.id));
        }
    }

    /// How many events were accepted, each counted once.
    pub(crate) fn n_accepted(&self) -> usize {
        self.accepted.len()
    }

    fn kept_once(&mut self, text: &str) -> Arc<str> {
        if let Some(kept) = self.texts.get(text) {
            return Arc::clone(kept);
        }
        let kept: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&kept));
        kept
    }
}

/// What of an event is written down.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Attributes<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    shkeptncontext: Cow<'a, str>,
}

impl<'a> Attributes<'a> {
    /// Of an event in structured mode; of one in binary mode where the headers have them. One pass over the body and no
    /// tree: some microseconds for a kilobyte.
    pub(crate) fn of(request: &'a ReceivedRequest) -> Self {
        match request.header("ce-id") {
            Some(id) => Self {
                id: id.into(),
                shkeptncontext: request.header("ce-shkeptncontext").unwrap_or_default().into(),
            },
            None => serde_json::from_slice(&request.body).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeptnEvent;

    fn request(headers: &[(&'static str, &str)], body: impl Into<Bytes>) -> ReceivedRequest {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        ReceivedRequest {
            method: "POST".into(),
            path: "/".into(),
            headers: headers.collect(),
            body: body.into(),
            arrived: Instant::now(),
            connection: 0,
        }
    }

    #[test]
    fn attributes_are_those_of_the_event_and_not_of_its_data() {
        let event = KeptnEvent {
            id: "a \"quoted\" id".into(),
            keptn_context: "key".into(),
            ..KeptnEvent::triggered("deployment")
        };
        let cases = [
            (request(&[], event.to_bytes()), "a \"quoted\" id", "key"),
            (request(&[], r#"{"data":{"id":"inner"},"id":"outer"}"#), "outer", ""),
            (request(&[("ce-id", "1"), ("ce-shkeptncontext", "2")], "text"), "1", "2"),
            (request(&[], "text"), "", ""),
            (request(&[], r#"{"id":1}"#), "", ""),
        ];
        for (request, id, key) in cases {
            let attributes = Attributes::of(&request);
            assert_eq!((&*attributes.id, &*attributes.shkeptncontext), (id, key), "{request:?}");
        }
    }

    #[test]
    fn an_event_that_is_repeated_is_accepted_once_and_kept_once() {
        let mut journal = Journal::default();
        let request = request(&[("distributor-attempt", "2")], r#"{"id":"1","shkeptncontext":"key"}"#);
        for status in [500, 200, 202] {
            let number = journal.push(&request, &Attributes::of(&request));
            assert_eq!(journal.deliveries[number].status, None);
            journal.answered(number, status);
        }
        assert_eq!((journal.n_accepted(), journal.deliveries.len()), (1, 3));
        assert_eq!(journal.deliveries[0].attempt, Some(2));
        assert!(Arc::ptr_eq(&journal.deliveries[0].id, &journal.deliveries[2].id));
        let accepted: Vec<_> = journal.deliveries.iter().map(Delivery::is_accepted).collect();
        assert_eq!(accepted, [false, true, true]);
    }
}
