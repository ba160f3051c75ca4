//! What the guest does wrong, or right, when it is asked to change an event.
//!
//! Called by the `apply` hook. It knows nothing of the configuration.

use crate::bindings::exports::keptn::distributor::transform::{CloudEvent, Emission, Outcome};
use crate::bindings::keptn::distributor::types::{AttributeValue, EventData, Extension};
use crate::orders::Behaviour;

const HUGE_DATA_BYTES: usize = 16 << 20;
const N_BLIND_PARTS: usize = 64;

/// Behaves as told; keeps the event when the order is for another place.
pub(crate) fn behave(behaviour: Behaviour, count: u32, event: CloudEvent) -> Outcome {
    match behaviour {
        Behaviour::ManyEvents => forward((0..count).map(|_| tiny(&event))),
        Behaviour::HugeEvent => forward([with_json(event, huge_text())]),
        Behaviour::BadJson => forward([with_json(event, "{\"renamed\":".to_owned())]),
        Behaviour::BadEvent => forward([CloudEvent {
            id: String::new(),
            type_: String::new(),
            ..event
        }]),
        Behaviour::BadNames => forward([with_bad_name(event)]),
        Behaviour::Publish => Outcome::Replace(vec![Emission::Publish(event)]),
        Behaviour::Answer => Outcome::Replace(vec![Emission::Publish(finished(&event)), Emission::Forward(event)]),
        Behaviour::Rename => forward([with_json(event, "{\"renamed\":true}".to_owned())]),
        Behaviour::Split => forward([event.clone(), event.clone(), event]),
        Behaviour::BlindSplit => forward(std::iter::repeat_n(event, N_BLIND_PARTS)),
        Behaviour::Empty => Outcome::Replace(Vec::new()),
        _ => Outcome::Keep,
    }
}

fn forward(events: impl IntoIterator<Item = CloudEvent>) -> Outcome {
    Outcome::Replace(events.into_iter().map(Emission::Forward).collect())
}

fn with_json(event: CloudEvent, text: String) -> CloudEvent {
    CloudEvent {
        datacontenttype: Some("application/json".to_owned()),
        data: Some(EventData::Json(text)),
        ..event
    }
}

fn with_bad_name(mut event: CloudEvent) -> CloudEvent {
    event.extensions.push(Extension {
        name: "a\nINFO forged\u{1b}[31m".repeat(50_000),
        value: AttributeValue::Boolean(true),
    });
    event
}

/// Without an id and without extensions, so that the host has to add what an answer needs.
fn finished(event: &CloudEvent) -> CloudEvent {
    CloudEvent {
        id: String::new(),
        type_: event.type_.replace(".triggered", ".finished"),
        ..tiny(event)
    }
}

/// A JSON text, made in one piece: growing would take several times the memory, and the host may not give it.
fn huge_text() -> String {
    let mut text = String::with_capacity(HUGE_DATA_BYTES);
    text.push('"');
    text.extend(std::iter::repeat_n('x', HUGE_DATA_BYTES - 2));
    text.push('"');
    text
}

/// An event with nothing but what it must have, so that the number of events is what counts.
fn tiny(event: &CloudEvent) -> CloudEvent {
    CloudEvent {
        id: event.id.clone(),
        source: "s".to_owned(),
        type_: "t".to_owned(),
        specversion: "1.0".to_owned(),
        subject: None,
        time: None,
        datacontenttype: None,
        dataschema: None,
        extensions: Vec::new(),
        data: None,
    }
}
