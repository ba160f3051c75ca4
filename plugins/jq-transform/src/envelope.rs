//! An event as JSON (`CloudEvents` JSON event format, sections 2 and 3), and back.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::bindings::exports::keptn::distributor::transform::{CloudEvent, EventContext};
use crate::bindings::keptn::distributor::types::{AttributeValue, Direction, EventData, Extension};

/// Everything but the payload.
pub(crate) fn attributes(event: &CloudEvent) -> String {
    let mut members = Map::new();
    let required = [
        ("id", &event.id),
        ("source", &event.source),
        ("type", &event.type_),
        ("specversion", &event.specversion),
    ];
    let optional = [
        ("subject", &event.subject),
        ("time", &event.time),
        ("datacontenttype", &event.datacontenttype),
        ("dataschema", &event.dataschema),
    ];
    let optional = optional
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_ref()?)));
    for (name, value) in required.into_iter().chain(optional) {
        members.insert(name.to_owned(), value.as_str().into());
    }
    for extension in &event.extensions {
        let value = match &extension.value {
            AttributeValue::Boolean(truth) => Value::from(*truth),
            AttributeValue::Integer(number) => Value::from(*number),
            AttributeValue::Text(text) => Value::from(text.as_str()),
        };
        members.insert(extension.name.clone(), value);
    }
    Value::Object(members).to_string()
}

/// What is known of an event besides itself.
pub(crate) fn circumstances(context: &EventContext) -> String {
    let direction = match context.direction {
        Direction::Incoming => "incoming",
        Direction::Outgoing => "outgoing",
    };
    let labels: Map<String, Value> = context
        .labels
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect();
    let subscription = context.subscription.as_ref().map(|subscription| {
        json!({
            "id": subscription.id, "event": subscription.event, "projects": subscription.projects,
            "stages": subscription.stages, "services": subscription.services,
        })
    });
    let known = json!({
        "direction": direction, "project": context.project, "stage": context.stage, "service": context.service,
        "labels": labels, "keptncontext": context.keptn_context, "triggeredid": context.triggered_id,
        "subscription": subscription, "receivedon": context.received_on, "receipt": context.receipt,
    });
    known.to_string()
}

/// The payload as JSON.
pub(crate) fn data(data: Option<&EventData>) -> Result<Option<String>, String> {
    match data {
        None => Ok(None),
        Some(EventData::Json(json)) => Ok(Some(json.clone())),
        Some(EventData::Text(text)) => Ok(Some(Value::from(text.as_str()).to_string())),
        Some(EventData::Binary(_)) => Err("jq cannot work on binary data".to_owned()),
    }
}

/// The payload with everything around it.
pub(crate) fn whole(attributes: &str, data: Option<&str>) -> String {
    let Some(data) = data else {
        return attributes.to_owned();
    };
    let members = attributes.strip_suffix('}').unwrap_or(attributes);
    format!("{members},\"data\":{data}}}")
}

/// The event with another payload, a JSON document.
pub(crate) fn with_data(mut event: CloudEvent, json: String) -> CloudEvent {
    let is_json = event
        .datacontenttype
        .as_deref()
        .is_none_or(|name| name.contains("json"));
    if !is_json {
        event.datacontenttype = Some("application/json".to_owned());
    }
    event.data = Some(EventData::Json(json));
    event
}

/// An output of the program that is to be an event.
pub(crate) fn parse(json: &str) -> Result<CloudEvent, String> {
    // Raw, so that numbers in the payload stay as they are written.
    let mut members: BTreeMap<String, &RawValue> =
        serde_json::from_str(json).map_err(|_| "an output is not an object, and so no event".to_owned())?;
    let data = members
        .remove("data")
        .map(|data| EventData::Json(data.get().to_owned()));
    let mut text = |name: &str| match members.remove(name).map(|raw| serde_json::from_str(raw.get())) {
        None => Ok(None),
        Some(Ok(value)) => Ok(value),
        Some(Err(_)) => Err(format!("`{name}` of an output is not text")),
    };
    let required = |name: &str, value: Option<String>| value.ok_or_else(|| format!("an output has no `{name}`"));
    let (id, source, ty) = (text("id")?, text("source")?, text("type")?);
    let event = CloudEvent {
        id: required("id", id)?,
        source: required("source", source)?,
        type_: required("type", ty)?,
        specversion: text("specversion")?.unwrap_or_else(|| "1.0".to_owned()),
        subject: text("subject")?,
        time: text("time")?,
        datacontenttype: text("datacontenttype")?,
        dataschema: text("dataschema")?,
        extensions: Vec::new(),
        data,
    };
    let mut extensions = Vec::new();
    for (name, raw) in members {
        let value = match serde_json::from_str(raw.get()) {
            Ok(Extended::Nothing(())) => continue,
            Ok(Extended::Boolean(truth)) => AttributeValue::Boolean(truth),
            Ok(Extended::Integer(number)) => AttributeValue::Integer(number),
            Ok(Extended::Text(text)) => AttributeValue::Text(text),
            Err(_) => {
                return Err(format!(
                    "`{name}` of an output is neither text, a truth value nor a whole number of 32 bits"
                ));
            }
        };
        extensions.push(Extension { name, value });
    }
    Ok(CloudEvent { extensions, ..event })
}

/// The values that an extension attribute may have in JSON.
#[derive(Deserialize)]
#[serde(untagged)]
enum Extended {
    Nothing(()),
    Boolean(bool),
    Integer(i32),
    Text(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_comes_back_as_it_was() {
        let json = r#"{"id":"1","source":"s","type":"t","specversion":"1.0","time":"2026-01-01T00:00:00Z","shkeptncontext":"c","big":7,"on":true}"#;
        let whole = whole(json, Some(r#"{"n":12345678901234567890}"#));
        let event = parse(&whole).unwrap();
        assert_eq!(event.time.as_deref(), Some("2026-01-01T00:00:00Z"));
        assert!(matches!(&event.data, Some(EventData::Json(data)) if data == r#"{"n":12345678901234567890}"#));
        let back: Value = serde_json::from_str(&attributes(&event)).unwrap();
        assert_eq!(back, serde_json::from_str::<Value>(json).unwrap());
    }

    #[test]
    fn an_output_that_is_no_event_is_named() {
        let problem = |json: &str| parse(json).unwrap_err();
        assert_eq!(problem("[]"), "an output is not an object, and so no event");
        assert_eq!(problem(r#"{"source":"s","type":"t"}"#), "an output has no `id`");
        assert_eq!(
            problem(r#"{"id":5,"source":"s","type":"t"}"#),
            "`id` of an output is not text"
        );
        let nested = r#"{"id":"1","source":"s","type":"t","x":{}}"#;
        assert!(problem(nested).starts_with("`x` of an output is neither"));
    }

    #[test]
    fn data_that_was_not_json_becomes_json() {
        let text = r#"{"id":"1","source":"s","type":"t","datacontenttype":"text/plain"}"#;
        let event = with_data(parse(text).unwrap(), "{}".to_owned());
        assert_eq!(event.datacontenttype.as_deref(), Some("application/json"));
    }
}
