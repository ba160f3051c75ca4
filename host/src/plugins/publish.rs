//! Events that a transform sends to the control plane: their ids, what they take over from the event that they answer,
//! and the end of loops.
//!
//! Made by [`super::plugin`] of what a transform returns. Nothing here sends anything: [`crate::delivery`] and
//! [`crate::ingress`] do.

use std::sync::Arc;

use uuid::Uuid;

use super::bindings::keptn::distributor::types::CloudEventResult;
use super::convert::{write_attributes, write_payload};
use super::error::Cause;
use crate::event::{AttributeValue, Event, EventBuilder};
use crate::json::Kind;
use crate::subscription::Subscription;

/// The extension attribute that counts how often plugins have answered one another. Only events that plugins publish
/// have it.
const HOPS: &str = "distributorhops";
/// Answers to answers. A chain of steps between services goes through services, which begin to count anew.
const MAX_HOPS: u32 = 8;
/// What is taken over from the event that is answered, if the plugin says nothing else.
const CONTEXT: &str = "shkeptncontext";
const TRIGGERED_ID: &str = "triggeredid";

/// An event that a plugin sends to the control plane.
#[derive(Debug, Clone)]
pub struct Published {
    /// The event.
    pub event: Event,
    /// The plugin.
    pub by: Arc<str>,
    /// The same whenever the same plugin publishes at the same place in answer to the same event, so that a stream
    /// stores it once, however often the answered event is received.
    pub message_id: Uuid,
}

/// What an event is published in answer to.
#[derive(Debug)]
pub(super) struct Origin<'a> {
    /// The event as it was received, before any plugin.
    pub(super) root: &'a Event,
    /// That it matched.
    pub(super) subscription: Option<&'a Subscription>,
    /// Position of the event that the plugin got, among those that it got of this one.
    pub(super) position: usize,
}

impl Origin<'_> {
    /// How many plugins have answered one another before.
    fn hops(&self) -> u32 {
        let members = self.root.members();
        let hops = members.iter().rev().find(|(name, _)| name == HOPS);
        // Text, because an event in binary mode has its attributes in headers.
        let hops = hops.and_then(|(_, value)| match value.kind() {
            Kind::String => value.text()?.parse().ok(),
            _ => value.json().parse().ok(),
        });
        hops.unwrap_or(0)
    }

    fn message_id(&self, plugin: &str, number: usize) -> Uuid {
        let subscription = self.subscription.map(|subscription| subscription.id.as_str());
        // JSON tells apart what would run together otherwise.
        let name = serde_json::json!([
            self.root.source(),
            self.root.ty(),
            self.root.id(),
            plugin,
            subscription,
            self.position,
            number
        ]);
        Uuid::new_v5(&Uuid::NAMESPACE_OID, name.to_string().as_bytes())
    }
}

/// Makes an event of what a plugin asks to publish. `number` is its number among what this call publishes.
pub(super) fn published(
    returned: &CloudEventResult,
    received: &Event,
    origin: &Origin<'_>,
    plugin: &Arc<str>,
    number: usize,
) -> Result<Published, Cause> {
    let hops = origin.hops();
    if hops >= MAX_HOPS {
        return Err(Cause::Loop(hops));
    }
    let message_id = origin.message_id(plugin, number);
    let own_id = message_id.to_string();
    let is_new = !returned.id.is_empty() && returned.id != received.id() && returned.id != origin.root.id();
    let id = if is_new { &returned.id } else { &own_id };
    let payload_size = received.bytes().len();
    let is_ours = |name: &str| name == HOPS || ((name == CONTEXT || name == TRIGGERED_ID) && is_empty(returned, name));
    let mut builder = write_attributes(EventBuilder::new(payload_size + 512), returned, received, id, is_ours)
        .map_err(Cause::InvalidEvent)?;
    if is_empty(returned, CONTEXT)
        && let Some(context) = received.keptn_context().or(origin.root.keptn_context())
    {
        builder = builder.attribute(CONTEXT, AttributeValue::Text(&context));
    }
    if is_empty(returned, TRIGGERED_ID)
        && let Some(triggered_id) = answered_id(origin.root)
    {
        builder = builder.attribute(TRIGGERED_ID, AttributeValue::Text(&triggered_id));
    }
    let hops = i32::try_from(hops + 1).expect("it is at most the limit");
    builder = builder.attribute(HOPS, AttributeValue::Integer(hops));
    let event = write_payload(builder, returned).and_then(EventBuilder::finish);
    Ok(Published {
        event: event.map_err(Cause::InvalidEvent)?,
        by: Arc::clone(plugin),
        message_id,
    })
}

/// The id of the triggered event that an answer belongs to: in Keptn, answers to one name it, and so do their answers.
fn answered_id(root: &Event) -> Option<std::borrow::Cow<'_, str>> {
    if root.ty().ends_with(".triggered") {
        Some(root.id())
    } else {
        root.triggered_id()
    }
}

/// Whether the plugin has left an extension out. Empty text is what Keptn's events have where nothing is known.
fn is_empty(returned: &CloudEventResult, name: &str) -> bool {
    use super::bindings::keptn::distributor::types::AttributeValueResult;
    let found = returned.extensions.iter().find(|extension| extension.name == name);
    found.is_none_or(|extension| matches!(&extension.value, AttributeValueResult::Text(text) if text.is_empty()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::bindings::keptn::distributor::types::{AttributeValueResult, ExtensionResult};
    use super::*;
    use crate::subject::Subject;

    fn event(ty: &str, more: &str) -> Event {
        let text = format!(
            r#"{{"specversion":"1.0","id":"parent","source":"s","type":"{ty}","shkeptncontext":"c","triggeredid":"t"{more}}}"#
        );
        Event::parse(Bytes::from(text)).unwrap()
    }

    fn returned(id: &str, extensions: &[(&str, AttributeValueResult)]) -> CloudEventResult {
        let extensions = extensions.iter().map(|(name, value)| ExtensionResult {
            name: (*name).to_owned(),
            value: value.clone(),
        });
        CloudEventResult {
            id: id.to_owned(),
            source: "plugin".to_owned(),
            type_: "x.finished".to_owned(),
            specversion: "1.0".to_owned(),
            subject: None,
            time: None,
            datacontenttype: None,
            dataschema: None,
            extensions: extensions.collect(),
            data: None,
        }
    }

    fn text(text: &str) -> AttributeValueResult {
        AttributeValueResult::Text(text.to_owned())
    }

    fn publish(returned: &CloudEventResult, root: &Event) -> Result<Published, Cause> {
        let origin = Origin {
            root,
            subscription: None,
            position: 0,
        };
        published(returned, root, &origin, &"p".into(), 0)
    }

    fn document(returned: &CloudEventResult, root: &Event) -> serde_json::Value {
        let published = publish(returned, root).unwrap();
        serde_json::from_slice(published.event.bytes()).unwrap()
    }

    #[test]
    fn an_id_is_given_where_the_plugin_has_none_of_its_own() {
        let root = event("x.triggered", "");
        let id = |own: &str| publish(&returned(own, &[]), &root).unwrap().event.id().into_owned();
        assert_eq!(id("own"), "own");
        assert_eq!(id(""), id("parent"));
        assert_eq!(
            id("").parse::<Uuid>().unwrap(),
            publish(&returned("own", &[]), &root).unwrap().message_id
        );
    }

    #[test]
    fn the_id_depends_on_what_is_answered_and_by_whom() {
        let roots = [event("x.triggered", ""), event("y.triggered", "")];
        let subscription = crate::subscription::Subscription {
            id: "sub".to_owned(),
            event: Subject::pattern("x").unwrap(),
            projects: Vec::new(),
            stages: Vec::new(),
            services: Vec::new(),
        };
        let mut ids = std::collections::BTreeSet::new();
        for root in &roots {
            for subscription in [None, Some(&subscription)] {
                for position in 0..2 {
                    let origin = Origin {
                        root,
                        subscription,
                        position,
                    };
                    for plugin in ["p", "q"] {
                        ids.extend((0..2).map(|number| origin.message_id(plugin, number)));
                    }
                }
            }
        }
        assert_eq!(ids.len(), 32);
    }

    #[test]
    fn an_answer_says_what_it_belongs_to() {
        let check = |ty: &str, own: &[(&str, AttributeValueResult)], context: &str, triggered_id: &str| {
            let document = document(&returned("", own), &event(ty, ""));
            assert_eq!(
                (&document["shkeptncontext"], &document["triggeredid"]),
                (&context.into(), &triggered_id.into()),
                "{ty}"
            );
        };
        check("x.triggered", &[], "c", "parent");
        check("x.finished", &[], "c", "t");
        check(
            "x.triggered",
            &[(CONTEXT, text("")), (TRIGGERED_ID, text(""))],
            "c",
            "parent",
        );
        check("x.triggered", &[(CONTEXT, text("own"))], "own", "parent");
        check("x.triggered", &[(TRIGGERED_ID, text("own"))], "c", "own");
    }

    #[test]
    fn answers_to_answers_come_to_an_end() {
        let hops = |more: &str, own: &[(&str, AttributeValueResult)]| {
            publish(&returned("", own), &event("x", more)).map(|published| {
                let document: serde_json::Value = serde_json::from_slice(published.event.bytes()).unwrap();
                document[HOPS].as_i64().unwrap()
            })
        };
        assert_eq!(hops("", &[]).unwrap(), 1);
        assert_eq!(hops(r#","distributorhops":7"#, &[]).unwrap(), 8);
        assert_eq!(
            hops(r#","distributorhops":"7""#, &[]).unwrap(),
            8,
            "in binary mode it is text"
        );
        assert_eq!(hops(r#","distributorhops":"many""#, &[]).unwrap(), 1);
        let own = [(HOPS, AttributeValueResult::Integer(0))];
        assert_eq!(
            hops(r#","distributorhops":3"#, &own).unwrap(),
            4,
            "it is not for plugins to set"
        );
        for more in [
            r#","distributorhops":8"#,
            r#","distributorhops":"9""#,
            r#","distributorhops":4000000000"#,
        ] {
            assert!(matches!(hops(more, &own), Err(Cause::Loop(_))), "{more}");
        }
    }
}
