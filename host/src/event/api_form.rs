//! The Keptn API's own form of an event, and its translation from and to a `CloudEvent`.
//!
//! The API says `contenttype` instead of `datacontenttype`, leaves out what is empty, and has no place for other
//! attributes than its own. Values are copied as they are written, so that numbers of any size survive.

use std::borrow::Cow;
use std::time::SystemTime;

use bytes::Bytes;

use super::{AttributeValue, Event, EventBuilder, KEPTN_EXTENSIONS, Malformed, Member, decode, parse};
use crate::json::{Kind, Scanner, SyntaxError, Value};

/// What the API calls the attribute `datacontenttype`.
const CONTENT_TYPE: &str = "contenttype";
/// An object for further attributes, which the API itself ignores.
const EXTENSIONS: &str = "extensions";
/// The attributes that every event of the API has in the same form as a `CloudEvent`, in the order in which a service
/// gets them.
const ATTRIBUTES: [&str; 4] = ["specversion", "id", "source", "type"];

/// An event as the API takes it.
#[derive(Debug)]
pub struct ApiForm {
    /// JSON.
    pub body: Bytes,
    /// Names of the attributes that the API has no place for.
    pub left_out: Vec<String>,
}

/// Why an event cannot be written in the API's form.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoApiForm {
    /// Its payload is no JSON.
    #[error("`data_base64`: the Keptn API takes payloads in JSON only")]
    Binary,
}

/// Writes an event that the API has listed as a `CloudEvent`. Nothing that it says is left out.
///
/// # Errors
/// When it is no JSON object. Whether it is an event, [`Event::parse`] says.
pub fn from_api_form(listed: &Bytes) -> Result<Bytes, Malformed> {
    let members = Members::of(listed)?;
    let mut builder = EventBuilder::new(listed.len() + 256);
    for name in ATTRIBUTES {
        builder = match members.present(name) {
            Some(value) => builder.attribute(name, AttributeValue::Json(value)),
            None if name == "specversion" => builder.attribute(name, AttributeValue::Text("1.0")),
            None => builder,
        };
    }
    let content_type = members.present("datacontenttype").or(members.present(CONTENT_TYPE));
    let content_type = content_type.map_or(AttributeValue::Text("application/json"), AttributeValue::Json);
    builder = builder.attribute("datacontenttype", content_type);
    for name in ["time", "data"] {
        if let Some(value) = members.get(name) {
            builder = builder.attribute(name, AttributeValue::Json(value));
        }
    }
    for name in KEPTN_EXTENSIONS {
        let value = members.present(name);
        builder = builder.attribute(name, value.map_or(AttributeValue::Text(""), AttributeValue::Json));
    }
    for (name, value) in &members.0 {
        if name == EXTENSIONS {
            // Its members are attributes of their own in a `CloudEvent`.
            for (name, value) in Members::of(&Bytes::copy_from_slice(value.as_bytes()))
                .unwrap_or_default()
                .0
            {
                if !is_known(&name) && members.get(&name).is_none() {
                    builder = builder.attribute(&name, AttributeValue::Json(&value));
                }
            }
        } else if !is_known(name) {
            builder = builder.attribute(name, AttributeValue::Json(value));
        }
    }
    Ok(builder.into_bytes())
}

impl ApiForm {
    /// Writes an event for the API. One that has no time gets `now`: the API's own form always has one.
    ///
    /// # Errors
    /// Why that cannot be done.
    pub fn of(event: &Event, now: SystemTime) -> Result<Self, NoApiForm> {
        let members = event.members();
        // Of repeated members the last one counts.
        let get = |wanted: &str| {
            members
                .iter()
                .rev()
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| *value)
        };
        let present = |name: &str| get(name).filter(|value| !is_empty(value)).map(Member::json);
        if get("data_base64").is_some_and(|value| value.kind() != Kind::Null) {
            return Err(NoApiForm::Binary);
        }
        let mut builder = EventBuilder::new(event.bytes().len() + 64);
        let content_type = present("datacontenttype");
        let content_type = content_type.map_or(AttributeValue::Text("application/json"), AttributeValue::Json);
        builder = builder.attribute(CONTENT_TYPE, content_type);
        builder = builder.attribute("data", AttributeValue::Json(get("data").map_or("null", Member::json)));
        for name in ATTRIBUTES.iter().chain(&KEPTN_EXTENSIONS) {
            if let Some(value) = present(name) {
                builder = builder.attribute(name, AttributeValue::Json(value));
            }
        }
        let time = present("time").map_or_else(
            || Cow::Owned(format!("\"{}\"", humantime::format_rfc3339_millis(now))),
            Cow::Borrowed,
        );
        builder = builder.attribute("time", AttributeValue::Json(&time));
        let is_left_out = |name: &str, value: &Member<'_>| !is_known(name) && !is_empty(value);
        let mut left_out: Vec<String> = members
            .iter()
            .filter(|(name, value)| is_left_out(name, value))
            .map(|(name, _)| name.clone().into_owned())
            .collect();
        left_out.dedup();
        Ok(Self {
            body: builder.into_bytes(),
            left_out,
        })
    }
}

/// Whether a member has its place in both forms.
fn is_known(name: &str) -> bool {
    ATTRIBUTES.contains(&name)
        || KEPTN_EXTENSIONS.contains(&name)
        || ["time", "data", "data_base64", "datacontenttype", CONTENT_TYPE].contains(&name)
}

fn is_empty(value: &Member<'_>) -> bool {
    value.kind() == Kind::Null || value.text().is_some_and(|text| text.is_empty())
}

/// The members of an object, each once: the last one counts.
#[derive(Debug, Default)]
struct Members(Vec<(String, String)>);

impl Members {
    fn of(object: &Bytes) -> Result<Self, Malformed> {
        parse::check_text(object)?;
        let mut scanner = Scanner::new(object);
        if !scanner.peek_is_object() {
            scanner.value()?;
            return Err(Malformed::NotAnObject);
        }
        let mut members: Vec<(String, String)> = Vec::new();
        scanner.object(|scanner, key| {
            let Value { span, .. } = scanner.value()?;
            let (name, value) = (decode(object, key), String::from_utf8_lossy(span.of(object)));
            members.retain(|(other, _)| *other != name);
            members.push((name.into_owned(), value.into_owned()));
            Ok::<(), SyntaxError>(())
        })?;
        scanner.end()?;
        Ok(Self(members))
    }

    fn get(&self, wanted: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str())
    }

    /// What is there and says something.
    fn present(&self, wanted: &str) -> Option<&str> {
        self.get(wanted).filter(|value| !matches!(*value, "null" | "\"\""))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    fn listed(text: &str) -> String {
        let event = from_api_form(&Bytes::copy_from_slice(text.as_bytes())).unwrap();
        String::from_utf8(event.to_vec()).unwrap()
    }

    fn sent(text: &str) -> ApiForm {
        let event = Event::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap();
        ApiForm::of(&event, SystemTime::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn what_is_listed_becomes_a_cloudevent_with_all_keptn_extensions() {
        let event = listed(
            r#"{"data":{"n":12345678901234567890.10,"a":"<\u00e9>"},"id":"i","shkeptncontext":"c","source":"s","specversion":"1.0","time":"2026-11-22T14:50:02.371344627Z","type":"t"}"#,
        );
        assert_eq!(
            event,
            r#"{"specversion":"1.0","id":"i","source":"s","type":"t","datacontenttype":"application/json","time":"2026-11-22T14:50:02.371344627Z","data":{"n":12345678901234567890.10,"a":"<\u00e9>"},"shkeptncontext":"c","triggeredid":"","gitcommitid":"","shkeptnspecversion":""}"#
        );
    }

    #[test]
    fn nothing_that_is_listed_is_left_out() {
        let event = listed(
            r#"{"contenttype":"text/json","data":"text","id":"i","source":"s","type":"t","triggeredid":"x","new":7.0,"extensions":{"more":1e2,"id":"other","new":8}}"#,
        );
        assert_eq!(
            event,
            r#"{"specversion":"1.0","id":"i","source":"s","type":"t","datacontenttype":"text/json","data":"text","shkeptncontext":"","triggeredid":"x","gitcommitid":"","shkeptnspecversion":"","new":7.0,"more":1e2}"#
        );
        assert!(Event::parse(Bytes::from(event)).is_ok());
        assert!(!listed(r#"{"id":"i","extensions":null}"#).contains("extensions"));
    }

    #[test]
    fn what_is_listed_and_no_event_is_told_apart() {
        let check = |text: &'static str| from_api_form(&Bytes::from_static(text.as_bytes()));
        assert_eq!(check("[]"), Err(Malformed::NotAnObject));
        assert!(matches!(check("{\"a\":"), Err(Malformed::NotJson(_))));
        let nameless = check(r#"{"id":"i","source":"s"}"#).unwrap();
        assert_eq!(Event::parse(nameless).unwrap_err(), Malformed::Missing("type"));
    }

    #[test]
    fn what_is_sent_has_the_form_of_the_api() {
        let ApiForm { body, left_out } = sent(
            r#"{"specversion":"1.0","id":"x1","source":"my-svc","type":"t","subject":"s","datacontenttype":"application/json","time":"2026-11-22T14:50:02.984334Z","data":{"n":123456789012345678901234567890},"shkeptncontext":"c1","triggeredid":"","custom":"zz","none":null}"#,
        );
        assert_eq!(
            body,
            r#"{"contenttype":"application/json","data":{"n":123456789012345678901234567890},"specversion":"1.0","id":"x1","source":"my-svc","type":"t","shkeptncontext":"c1","time":"2026-11-22T14:50:02.984334Z"}"#
        );
        assert_eq!(left_out, ["subject", "custom"]);
    }

    #[test]
    fn data_and_time_are_always_sent() {
        let body: Json =
            serde_json::from_slice(&sent(r#"{"specversion":"1.0","id":"i","source":"s","type":"t"}"#).body).unwrap();
        assert_eq!(body["data"], Json::Null);
        assert_eq!(body["time"], "1970-01-01T00:00:00.000Z");
        assert_eq!(body["contenttype"], "application/json");
    }

    #[test]
    fn the_api_takes_no_binary_payload() {
        let event = br#"{"specversion":"1.0","id":"i","source":"s","type":"t","data_base64":"AA=="}"#;
        let event = Event::parse(Bytes::from_static(event)).unwrap();
        assert_eq!(
            ApiForm::of(&event, SystemTime::UNIX_EPOCH).unwrap_err(),
            NoApiForm::Binary
        );
    }
}
