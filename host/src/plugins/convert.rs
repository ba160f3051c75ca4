//! Between [`Event`] and the records of the contract.

use std::borrow::Cow;

use base64::Engine as _;
use smallvec::SmallVec;

use super::bindings::exports::keptn::distributor::lifecycle::EventParts;
use super::bindings::keptn::distributor::types::{
    AttributeValueParam, AttributeValueResult, CloudEventParam, CloudEventResult, Direction as WitDirection,
    EventContext, EventDataParam, EventDataResult, ExtensionParam, Subscription as WitSubscription,
};
use super::context::{Context, Direction};
use super::output::Call;
use crate::event::{AttributeValue, Data, Event, EventBuilder, Malformed, Member, Payload, is_json_type};
use crate::json::Kind;
use crate::subscription::Subscription;

/// Members that are fields of their own in the contract, or hold the payload; all others are extensions.
const FIELDS: [&str; 10] = [
    "id",
    "source",
    "type",
    "specversion",
    "subject",
    "time",
    "datacontenttype",
    "dataschema",
    "data",
    "data_base64",
];

/// The specification recommends 20 and sets no limit.
const MAX_EXTENSION_NAME_BYTES: usize = 100;

/// The parts of an event that go into hooks, decoded as soon as the first hook reads them, and for all hooks.
pub(super) struct Lowered<'a> {
    event: &'a Event,
    names: Option<Names<'a>>,
    optional: Option<OptionalAttributes<'a>>,
    data: Option<LoweredData<'a>>,
}

/// What every hook gets.
struct Names<'a> {
    id: Cow<'a, str>,
    source: Cow<'a, str>,
    ty: Cow<'a, str>,
    specversion: Cow<'a, str>,
    project: Option<Cow<'a, str>>,
    stage: Option<Cow<'a, str>>,
    service: Option<Cow<'a, str>>,
    labels: Vec<(String, String)>,
    keptn_context: Option<Cow<'a, str>>,
    triggered_id: Option<Cow<'a, str>>,
}

#[derive(Default)]
struct OptionalAttributes<'a> {
    subject: Option<Cow<'a, str>>,
    time: Option<Cow<'a, str>>,
    datacontenttype: Option<Cow<'a, str>>,
    dataschema: Option<Cow<'a, str>>,
    extensions: Vec<(Cow<'a, str>, Extension<'a>)>,
}

enum Extension<'a> {
    Boolean(bool),
    Integer(i32),
    Text(Cow<'a, str>),
}

enum LoweredData<'a> {
    None,
    Json(&'a str),
    Text(Cow<'a, str>),
    Binary(Vec<u8>),
}

impl<'a> Lowered<'a> {
    pub(super) fn new(event: &'a Event) -> Self {
        Self {
            event,
            names: None,
            optional: None,
            data: None,
        }
    }

    pub(super) fn event(&self) -> &'a Event {
        self.event
    }

    /// What a hook gets that reads these parts; nothing else is looked at.
    pub(super) fn records<'r>(&'r mut self, reads: EventParts, context: &'r Context<'r>) -> Records<'r> {
        let event = self.event;
        self.names.get_or_insert_with(|| Names::of(event));
        if reads.contains(EventParts::OPTIONAL_ATTRIBUTES) {
            self.optional.get_or_insert_with(|| OptionalAttributes::of(event));
        }
        if reads.contains(EventParts::DATA) {
            self.data.get_or_insert_with(|| data(event));
        }
        let names = self.names.as_ref().expect("they were just set");
        let optional = self.optional.as_ref();
        let optional = optional.filter(|_| reads.contains(EventParts::OPTIONAL_ATTRIBUTES));
        let data = self.data.as_ref();
        let labels = names.labels.iter();
        let lists = |list: fn(&Subscription) -> &Vec<String>| {
            context.subscription.map_or_else(Vec::new, |subscription| {
                list(subscription).iter().map(String::as_str).collect()
            })
        };
        Records {
            names,
            optional,
            extensions: optional.map(OptionalAttributes::extension_records).unwrap_or_default(),
            data: data.filter(|_| reads.contains(EventParts::DATA)),
            context,
            labels: labels.map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            projects: lists(|subscription| &subscription.projects),
            stages: lists(|subscription| &subscription.stages),
            services: lists(|subscription| &subscription.services),
        }
    }
}

impl<'a> Names<'a> {
    fn of(event: &'a Event) -> Self {
        Self {
            id: event.id(),
            source: event.source(),
            ty: event.ty(),
            specversion: event.specversion(),
            project: event.project(),
            stage: event.stage(),
            service: event.service(),
            labels: event.labels(),
            keptn_context: event.keptn_context(),
            triggered_id: event.triggered_id(),
        }
    }
}

impl<'a> OptionalAttributes<'a> {
    fn of(event: &'a Event) -> Self {
        let mut attributes = Self::default();
        for (name, member) in event.members() {
            attributes.add(name, member);
        }
        attributes
    }

    fn add(&mut self, name: Cow<'a, str>, member: Member<'a>) {
        match name.as_ref() {
            "subject" => self.subject = member.text(),
            "time" => self.time = member.text(),
            "datacontenttype" => self.datacontenttype = member.text(),
            "dataschema" => self.dataschema = member.text(),
            other if FIELDS.contains(&other) => {}
            _ => {
                if let Some(value) = extension(member) {
                    self.extensions.push((name, value));
                }
            }
        }
    }

    fn extension_records(&self) -> Vec<ExtensionParam<'_>> {
        let records = self.extensions.iter().map(|(name, value)| ExtensionParam {
            name,
            value: match value {
                Extension::Boolean(value) => AttributeValueParam::Boolean(*value),
                Extension::Integer(value) => AttributeValueParam::Integer(*value),
                Extension::Text(text) => AttributeValueParam::Text(text),
            },
        });
        records.collect()
    }
}

/// What one hook gets, in the form that the records of the contract borrow.
pub(super) struct Records<'r> {
    names: &'r Names<'r>,
    optional: Option<&'r OptionalAttributes<'r>>,
    extensions: Vec<ExtensionParam<'r>>,
    data: Option<&'r LoweredData<'r>>,
    context: &'r Context<'r>,
    labels: SmallVec<[(&'r str, &'r str); 4]>,
    projects: Vec<&'r str>,
    stages: Vec<&'r str>,
    services: Vec<&'r str>,
}

impl Records<'_> {
    /// What the call is about, for its log.
    pub(super) fn about(&self) -> Call<'_> {
        Call {
            event_id: &self.names.id,
            keptn_context: self.names.keptn_context.as_deref().unwrap_or_default(),
            direction: Some(self.context.direction),
        }
    }

    pub(super) fn event(&self) -> CloudEventParam<'_> {
        CloudEventParam {
            id: &self.names.id,
            source: &self.names.source,
            type_: &self.names.ty,
            specversion: &self.names.specversion,
            subject: self.optional.and_then(|optional| optional.subject.as_deref()),
            time: self.optional.and_then(|optional| optional.time.as_deref()),
            datacontenttype: self.optional.and_then(|optional| optional.datacontenttype.as_deref()),
            dataschema: self.optional.and_then(|optional| optional.dataschema.as_deref()),
            extensions: &self.extensions,
            data: match self.data {
                None | Some(LoweredData::None) => None,
                Some(LoweredData::Json(text)) => Some(EventDataParam::Json(text)),
                Some(LoweredData::Text(text)) => Some(EventDataParam::Text(text)),
                Some(LoweredData::Binary(bytes)) => Some(EventDataParam::Binary(bytes)),
            },
        }
    }

    pub(super) fn context(&self) -> EventContext<'_> {
        EventContext {
            direction: match self.context.direction {
                Direction::Incoming => WitDirection::Incoming,
                Direction::Outgoing => WitDirection::Outgoing,
            },
            project: self.names.project.as_deref(),
            stage: self.names.stage.as_deref(),
            service: self.names.service.as_deref(),
            labels: &self.labels,
            keptn_context: self.names.keptn_context.as_deref(),
            triggered_id: self.names.triggered_id.as_deref(),
            subscription: self.context.subscription.map(|subscription| WitSubscription {
                id: &subscription.id,
                event: subscription.event.as_str(),
                projects: &self.projects,
                stages: &self.stages,
                services: &self.services,
            }),
            received_on: self.context.received_on,
            receipt: self.context.receipt,
        }
    }
}

/// The value of an extension attribute, if the contract can carry it.
fn extension(member: Member<'_>) -> Option<Extension<'_>> {
    match member.kind() {
        Kind::String => member.text().map(Extension::Text),
        Kind::Boolean => Some(Extension::Boolean(member.json() == "true")),
        Kind::Number => member.json().parse().ok().map(Extension::Integer),
        _ => None,
    }
}

fn data(event: &Event) -> LoweredData<'_> {
    match event.data() {
        Data::Absent => LoweredData::None,
        Data::Json(_) => {
            let members = event.members();
            let find = |wanted: &str| {
                members
                    .iter()
                    .rev()
                    .find(|(name, _)| name == wanted)
                    .map(|(_, member)| *member)
            };
            let is_json = find("datacontenttype")
                .and_then(Member::text)
                .is_none_or(|ty| is_json_type(&ty));
            match find("data") {
                // Text with a textual content type is text; with a JSON content type it is a JSON string.
                Some(member) if !is_json && matches!(member.kind(), Kind::String) => {
                    member.text().map_or(LoweredData::None, LoweredData::Text)
                }
                Some(member) => LoweredData::Json(member.json()),
                None => LoweredData::None,
            }
        }
        Data::Base64(_) => {
            let members = event.members();
            let text = members
                .iter()
                .rev()
                .find(|(name, _)| name == "data_base64")
                .and_then(|(_, member)| member.text());
            let bytes = text.and_then(|text| base64::engine::general_purpose::STANDARD.decode(text.as_bytes()).ok());
            bytes.map_or(LoweredData::None, LoweredData::Binary)
        }
    }
}

/// Makes an event of what a transform returned for `received`.
///
/// What the transform could not see, because it does not read it or the contract cannot carry it, is taken over from
/// `received` as long as the id is the same.
pub(super) fn lift(returned: &CloudEventResult, received: &Event, reads: EventParts) -> Result<Event, Malformed> {
    let is_same = returned.id == received.id();
    let payload_size = match &returned.data {
        Some(EventDataResult::Json(text) | EventDataResult::Text(text)) => text.len(),
        Some(EventDataResult::Binary(bytes)) => bytes.len() * 4 / 3,
        None => received.bytes().len(),
    };
    let mut builder = write_attributes(
        EventBuilder::new(payload_size + 512),
        returned,
        received,
        &returned.id,
        |_| false,
    )?;
    let reads_data = reads.contains(EventParts::DATA);
    if is_same {
        for (name, member) in received.members() {
            let is_payload = name == "data" || name == "data_base64";
            let is_hidden = match name.as_ref() {
                "data" | "data_base64" => !reads_data && returned.data.is_none(),
                "id" | "source" | "type" | "specversion" => false,
                "subject" | "time" | "datacontenttype" | "dataschema" => {
                    !reads.contains(EventParts::OPTIONAL_ATTRIBUTES)
                }
                _ => !reads.contains(EventParts::OPTIONAL_ATTRIBUTES) || self::extension(member).is_none(),
            };
            let is_returned = returned.extensions.iter().any(|extension| extension.name == name)
                || (!is_payload && is_set(returned, &name));
            if is_hidden && !is_returned {
                builder = builder.attribute(&name, AttributeValue::Json(member.json()));
            }
        }
    }
    write_payload(builder, returned)?.finish()
}

/// Writes what a transform returned for `received`, but for the payload and for the extensions that are `left_out`.
pub(super) fn write_attributes(
    builder: EventBuilder,
    returned: &CloudEventResult,
    received: &Event,
    id: &str,
    left_out: impl Fn(&str) -> bool,
) -> Result<EventBuilder, Malformed> {
    let mut builder = builder
        .attribute("specversion", AttributeValue::Text(&returned.specversion))
        .attribute("id", AttributeValue::Text(id))
        .attribute("source", AttributeValue::Text(&returned.source))
        .attribute("type", AttributeValue::Text(&returned.type_));
    for (name, value) in [
        ("subject", &returned.subject),
        ("time", &returned.time),
        ("datacontenttype", &returned.datacontenttype),
        ("dataschema", &returned.dataschema),
    ] {
        if let Some(text) = value {
            builder = builder.attribute(name, AttributeValue::Text(text));
        }
    }
    for extension in &returned.extensions {
        if FIELDS.contains(&extension.name.as_str()) {
            return Err(Malformed::BadAttribute {
                attribute: extension.name.clone(),
                problem: "is no extension attribute",
            });
        }
        if !is_extension_name(&extension.name) && received.members().iter().all(|(name, _)| *name != extension.name) {
            return Err(Malformed::BadAttribute {
                attribute: extension.name.clone(),
                problem: "is no name for an extension attribute: lower-case letters and digits only, at most 100",
            });
        }
        if left_out(&extension.name) {
            continue;
        }
        let value = match &extension.value {
            AttributeValueResult::Boolean(value) => AttributeValue::Boolean(*value),
            AttributeValueResult::Integer(value) => AttributeValue::Integer(*value),
            AttributeValueResult::Text(text) => AttributeValue::Text(text),
        };
        builder = builder.attribute(&extension.name, value);
    }
    Ok(builder)
}

/// Writes the payload that a transform returned.
pub(super) fn write_payload(builder: EventBuilder, returned: &CloudEventResult) -> Result<EventBuilder, Malformed> {
    match &returned.data {
        Some(EventDataResult::Json(text)) => builder.payload(Payload::Json(text)),
        Some(EventDataResult::Text(text)) => builder.payload(Payload::Text(text)),
        Some(EventDataResult::Binary(bytes)) => builder.payload(Payload::Binary(bytes)),
        None => Ok(builder),
    }
}

/// Whether `CloudEvents` allows the name. An event that was received with another one may keep it.
fn is_extension_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=MAX_EXTENSION_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_allowed)
}

fn is_set(returned: &CloudEventResult, name: &str) -> bool {
    match name {
        "subject" => returned.subject.is_some(),
        "time" => returned.time.is_some(),
        "datacontenttype" => returned.datacontenttype.is_some(),
        "dataschema" => returned.dataschema.is_some(),
        _ => false,
    }
}
