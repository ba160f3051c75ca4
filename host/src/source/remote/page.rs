//! One page of the list of open events: where its events stand in the bytes, and how to ask for the next one.
//!
//! Read by [`super::intake`]. All of it is checked to be JSON; nothing is taken apart that is not needed to recognise an
//! event, because most of a list is known already.

use bytes::Bytes;
use serde::Deserialize;

use super::open::EventKey;
use crate::json::{Kind, Scanner, Span, SyntaxError};

/// One answer of the control plane.
#[derive(Debug)]
pub(super) struct Page {
    body: Bytes,
    pub(super) events: Vec<Listed>,
    /// What to ask for next; none at the end of the list.
    pub(super) next: Option<String>,
}

/// An event of a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed {
    pub(super) key: EventKey,
    span: Span,
}

/// Why an answer is no page.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PageError {
    #[error("it is not text")]
    NotText,
    #[error("it is not JSON: {0}")]
    NotJson(#[from] SyntaxError),
    #[error("it is no JSON object with a list of events")]
    NoList,
}

impl Page {
    pub(super) fn parse(body: Bytes) -> Result<Self, PageError> {
        if std::str::from_utf8(&body).is_err() || u32::try_from(body.len()).is_err() {
            return Err(PageError::NotText);
        }
        let mut scanner = Scanner::new(&body);
        if !scanner.peek_is_object() {
            scanner.value()?;
            return Err(PageError::NoList);
        }
        let mut events = None;
        let mut next = None;
        scanner.object(|scanner, name| {
            match name.of(&body) {
                b"events" => events = list(scanner, &body)?,
                b"nextPageKey" => {
                    let value = scanner.value()?;
                    next = page_key(value.span.of(&body));
                }
                _ => {
                    scanner.value()?;
                }
            }
            Ok::<(), SyntaxError>(())
        })?;
        scanner.end()?;
        let events = events.ok_or(PageError::NoList)?;
        Ok(Self { body, events, next })
    }

    /// The bytes of an event.
    pub(super) fn event(&self, listed: Listed) -> Bytes {
        self.body.slice(listed.span.start as usize..listed.span.end as usize)
    }
}

/// None: there is something else than a list.
fn list(scanner: &mut Scanner<'_>, body: &[u8]) -> Result<Option<Vec<Listed>>, SyntaxError> {
    if !scanner.peek_is_array() {
        let value = scanner.value()?;
        return Ok((value.kind == Kind::Null).then(Vec::new));
    }
    let mut events = Vec::new();
    scanner.array(|scanner| {
        let mut id = Span::ABSENT;
        let span = if scanner.peek_is_object() {
            let start = scanner.position();
            scanner.object(|scanner, name| {
                let value = scanner.value()?;
                if name.of(body) == b"id" {
                    id = value.text().unwrap_or(Span::ABSENT);
                }
                Ok::<(), SyntaxError>(())
            })?;
            Span {
                start,
                end: scanner.position(),
            }
        } else {
            scanner.value()?.span
        };
        // What has no id is at least recognised when it comes again as it is.
        let key = EventKey::of(if id.is_empty() { span } else { id }.of(body));
        events.push(Listed { key, span });
        Ok::<(), SyntaxError>(())
    })?;
    Ok(Some(events))
}

/// Text that holds an offset; nothing, empty text and 0 stand for the end.
fn page_key(json: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Key {
        Text(String),
        Number(u64),
    }
    let key = match serde_json::from_slice(json).ok()? {
        Key::Text(text) => text,
        Key::Number(number) => number.to_string(),
    };
    (!key.is_empty() && key != "0").then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str) -> Result<Page, PageError> {
        Page::parse(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn events_keep_their_bytes_and_are_known_by_their_id() {
        let page = page(r#"{"events":[{"data":{"id":"x"},"id":"1"}, {"id":"2","n":1.0},{"n":1},7],"totalCount":4}"#);
        let page = page.unwrap();
        let events: Vec<_> = page.events.iter().map(|&listed| page.event(listed)).collect();
        assert_eq!(
            events,
            [
                r#"{"data":{"id":"x"},"id":"1"}"#,
                r#"{"id":"2","n":1.0}"#,
                r#"{"n":1}"#,
                "7"
            ]
        );
        let keys: Vec<_> = page.events.iter().map(|listed| listed.key).collect();
        let expected = ["1", "2", r#"{"n":1}"#, "7"].map(|text| EventKey::of(text.as_bytes()));
        assert_eq!(keys, expected);
    }

    #[test]
    fn the_list_ends_where_no_further_page_is_named() {
        let check = |more: &str, expected: Option<&str>| {
            let page = page(&format!(r#"{{"events":[]{more}}}"#)).unwrap();
            assert_eq!(page.next.as_deref(), expected, "{more}");
        };
        check("", None);
        check(r#","nextPageKey":"0""#, None);
        check(r#","nextPageKey":"""#, None);
        check(r#","nextPageKey":null"#, None);
        check(r#","nextPageKey":"20","pageSize":20,"totalCount":37"#, Some("20"));
        check(r#","nextPageKey":20"#, Some("20"));
    }

    #[test]
    fn what_is_no_page_is_told() {
        assert!(page(r#"{"events":null}"#).unwrap().events.is_empty());
        assert_eq!(page(r#"{"code":0}"#).unwrap_err(), PageError::NoList);
        assert_eq!(page(r#"{"events":{}}"#).unwrap_err(), PageError::NoList);
        assert_eq!(page("[]").unwrap_err(), PageError::NoList);
        assert!(matches!(page("<html>").unwrap_err(), PageError::NotJson(_)));
        assert!(matches!(page("").unwrap_err(), PageError::NotJson(_)));
        assert!(matches!(
            page(r#"{"events":[{"id":"1"}"#).unwrap_err(),
            PageError::NotJson(_)
        ));
    }
}
