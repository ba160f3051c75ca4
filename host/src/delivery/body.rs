//! What goes to the service: the event's own bytes with what recipients rely on spliced in.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::event::{self, Data, Event, KEPTN_EXTENSIONS, Slot};
use crate::json::Span;

/// Where the subscription id belongs, below `data`.
const PATH: [&str; 3] = ["temporaryData", "distributor", "subscriptionID"];

/// An event in the form that waits for delivery: its bytes, and where something has to be put into them. Small, because
/// thousands may wait.
#[derive(Debug)]
pub(crate) struct Outgoing {
    bytes: Bytes,
    id: Span,
    ty: Span,
    keptn_context: Span,
    /// Offset behind the opening brace.
    inside: u32,
    /// Bit `n` is set when `KEPTN_EXTENSIONS[n]` has to be added.
    missing_extensions: u8,
    place: Place,
}

/// Where and how the subscription id is put in. `level` is the first name of [`PATH`] that is not there yet.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// A value on the way is neither an object nor `null`.
    Nowhere,
    /// There is no `data`: it is created at the start of the envelope.
    NewData,
    /// An object has room for a member, with others behind it or not.
    Member { at: u32, is_only: bool, level: u8 },
    /// `null` gives way to an object.
    Null { span: Span, level: u8 },
    /// There is an id already, which gives way.
    Value(Span),
}

impl Outgoing {
    /// Prepares an event.
    pub(crate) fn new(event: &Event) -> Self {
        let all = (1 << KEPTN_EXTENSIONS.len()) - 1;
        let (id, ty, keptn_context) = event.names();
        Self {
            bytes: event.bytes().clone(),
            id,
            ty,
            keptn_context,
            inside: event.envelope_inside(),
            missing_extensions: if event.is_keptn() {
                all & !event.keptn_extensions()
            } else {
                0
            },
            place: place(event),
        }
    }

    /// Something that is no event, and goes nowhere but to the dead letters.
    pub(crate) fn opaque(bytes: Bytes) -> Self {
        let nothing = Span::ABSENT;
        Self {
            bytes,
            id: nothing,
            ty: nothing,
            keptn_context: nothing,
            inside: 0,
            missing_extensions: 0,
            place: Place::Nowhere,
        }
    }

    /// Attribute `id`.
    pub(crate) fn id(&self) -> Cow<'_, str> {
        event::decode(&self.bytes, self.id)
    }

    /// Attribute `type`.
    pub(crate) fn ty(&self) -> Cow<'_, str> {
        event::decode(&self.bytes, self.ty)
    }

    /// Extension `shkeptncontext`, empty when it is missing.
    pub(crate) fn keptn_context(&self) -> Cow<'_, str> {
        event::decode(&self.bytes, self.keptn_context)
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether a subscription id can be put in.
    pub(crate) fn can_be_marked(&self) -> bool {
        !matches!(self.place, Place::Nowhere)
    }

    /// The body as the service gets it: with the Keptn extensions that the event lacks (as empty text, for Keptn
    /// types), and with the id of the subscription it matched at `data.temporaryData.distributor.subscriptionID`.
    pub(crate) fn body(&self, subscription_id: Option<&str>) -> Body {
        let mut at_start = String::new();
        for (number, name) in KEPTN_EXTENSIONS.iter().enumerate() {
            if self.missing_extensions & (1 << number) != 0 {
                at_start.push('"');
                at_start.push_str(name);
                // A valid envelope has other members, so a comma is always right.
                at_start.push_str("\":\"\",");
            }
        }
        let edit = subscription_id.and_then(|id| match self.place {
            Place::Nowhere => None,
            Place::NewData => {
                at_start.push_str("\"data\":{");
                at_start.push_str(&nested(0, id));
                at_start.push_str("},");
                None
            }
            Place::Member { at, is_only, level } => {
                let comma = if is_only { "" } else { "," };
                Some((Span { start: at, end: at }, nested(level, id) + comma))
            }
            Place::Null { span, level } => Some((span, format!("{{{}}}", nested(level, id)))),
            Place::Value(span) => Some((span, quoted(id))),
        });
        let inside = self.inside as usize;
        let pieces = match edit {
            None if at_start.is_empty() => [
                self.bytes.clone(),
                Bytes::new(),
                Bytes::new(),
                Bytes::new(),
                Bytes::new(),
            ],
            None => [
                self.bytes.slice(..inside),
                Bytes::from(at_start),
                self.bytes.slice(inside..),
                Bytes::new(),
                Bytes::new(),
            ],
            Some((Span { start, end }, text)) => [
                self.bytes.slice(..inside),
                Bytes::from(at_start),
                self.bytes.slice(inside..start as usize),
                Bytes::from(text),
                self.bytes.slice(end as usize..),
            ],
        };
        Body {
            pieces,
            next: 0,
            is_sent: None,
        }
    }
}

/// Goes down from `data` to the first level that is not there.
fn place(event: &Event) -> Place {
    if event.data() == Data::Absent {
        return Place::NewData;
    }
    let mut member = None;
    for (level, slot) in (0..).zip([event.data_slot(), event.temporary_data(), event.distributor_slot()]) {
        match (slot, member) {
            (Slot::Object { inside, empty }, _) => {
                member = Some(Place::Member {
                    at: inside,
                    is_only: empty,
                    level,
                });
            }
            (Slot::Null(span), _) => return Place::Null { span, level },
            (Slot::Absent, Some(member)) => return member,
            _ => return Place::Nowhere,
        }
    }
    let id = event.subscription_id();
    if id.is_present() {
        Place::Value(id)
    } else {
        member.unwrap_or(Place::Nowhere)
    }
}

/// The member for the rest of [`PATH`] from `level` on, e.g. `"distributor":{"subscriptionID":"…"}`.
fn nested(level: u8, id: &str) -> String {
    let (last, parents) = PATH[usize::from(level)..]
        .split_last()
        .expect("there are fewer levels than names");
    let mut member = String::with_capacity(96);
    for name in parents {
        member.push('"');
        member.push_str(name);
        member.push_str("\":{");
    }
    member.push('"');
    member.push_str(last);
    member.push_str("\":");
    member.push_str(&quoted(id));
    member.extend(parents.iter().map(|_| '}'));
    member
}

fn quoted(id: &str) -> String {
    serde_json::to_string(id).expect("text can always be written as JSON")
}

/// The pieces of a request body: at most two places are changed, so the event is cut in three and two are added.
#[derive(Debug)]
pub(crate) struct Body {
    pieces: [Bytes; 5],
    next: usize,
    /// Set when the last piece is taken.
    is_sent: Option<Arc<AtomicBool>>,
}

impl Body {
    /// The same, which tells when all of it was taken for the connection.
    pub(crate) fn telling(mut self, is_sent: Option<Arc<AtomicBool>>) -> Self {
        self.is_sent = is_sent;
        self
    }
}

#[cfg(test)]
impl Body {
    /// What will be sent.
    pub(crate) fn concatenated(&self) -> Vec<u8> {
        self.pieces.concat()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        while self.next < self.pieces.len() {
            let number = self.next;
            self.next += 1;
            let piece = std::mem::take(&mut self.pieces[number]);
            if !piece.is_empty() {
                if let Some(is_sent) = self.is_sent.as_ref().filter(|_| self.is_end_stream()) {
                    is_sent.store(true, Ordering::Relaxed);
                }
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.iter().all(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.pieces.iter().map(|piece| piece.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn delivered(event: &str, subscription_id: Option<&str>) -> (String, bool) {
        let event = Event::parse(Bytes::copy_from_slice(event.as_bytes())).unwrap();
        let outgoing = Outgoing::new(&event);
        let body = outgoing.body(subscription_id);
        let text = String::from_utf8(body.pieces.concat()).unwrap();
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(text.len() as u64));
        (text, outgoing.can_be_marked())
    }

    fn with_data(data: &str) -> String {
        format!(r#"{{"specversion":"1.0","id":"i","source":"s","type":"t","data":{data}}}"#)
    }

    #[test]
    fn the_subscription_id_is_merged_and_siblings_are_kept() {
        let check = |data: &str, expected: &str| {
            assert_eq!(
                delivered(&with_data(data), Some("sub-1")),
                (with_data(expected), true),
                "{data}"
            );
        };
        let whole = r#"{"temporaryData":{"distributor":{"subscriptionID":"sub-1"}}}"#;
        check("null", whole);
        check("{}", whole);
        check(r#"{"temporaryData":null}"#, whole);
        check(r#"{"temporaryData":{}}"#, whole);
        check(r#"{"temporaryData":{"distributor":null}}"#, whole);
        check(r#"{"temporaryData":{"distributor":{}}}"#, whole);
        check(r#"{"temporaryData":{"distributor":{"subscriptionID":"old"}}}"#, whole);
        check(
            r#"{"a":1}"#,
            r#"{"temporaryData":{"distributor":{"subscriptionID":"sub-1"}},"a":1}"#,
        );
        check(
            r#"{"a":1, "temporaryData": {"o":2}}"#,
            r#"{"a":1, "temporaryData": {"distributor":{"subscriptionID":"sub-1"},"o":2}}"#,
        );
        check(
            r#"{"temporaryData":{"distributor":{"x":true},"o":2}}"#,
            r#"{"temporaryData":{"distributor":{"subscriptionID":"sub-1","x":true},"o":2}}"#,
        );
    }

    #[test]
    fn values_that_can_hold_no_id_stay_unchanged_and_are_reported() {
        for data in [
            "5",
            "\"text\"",
            "[1,2]",
            r#"{"temporaryData":7}"#,
            r#"{"temporaryData":{"distributor":[]}}"#,
        ] {
            assert_eq!(
                delivered(&with_data(data), Some("sub-1")),
                (with_data(data), false),
                "{data}"
            );
        }
        let base64 = r#"{"specversion":"1.0","id":"i","source":"s","type":"t","data_base64":"AAEC"}"#;
        assert_eq!(delivered(base64, Some("sub-1")), (base64.to_owned(), false));
    }

    #[test]
    fn absent_data_is_created_for_the_subscription_id() {
        let event = r#"{"specversion":"1.0","id":"i","source":"s","type":"t"}"#;
        let expected = r#"{"data":{"temporaryData":{"distributor":{"subscriptionID":"a\"b"}}},"specversion":"1.0","id":"i","source":"s","type":"t"}"#;
        assert_eq!(delivered(event, Some("a\"b")), (expected.to_owned(), true));
    }

    #[test]
    fn keptn_types_get_the_extensions_they_lack_and_others_get_nothing() {
        let event =
            r#"{"specversion":"1.0","id":"i","source":"s","type":"sh.keptn.event.x.triggered","triggeredid":"t"}"#;
        let expected = r#"{"shkeptncontext":"","gitcommitid":"","shkeptnspecversion":"","specversion":"1.0","id":"i","source":"s","type":"sh.keptn.event.x.triggered","triggeredid":"t"}"#;
        assert_eq!(delivered(event, None), (expected.to_owned(), true));
        let other = r#"{"specversion":"1.0","id":"i","source":"s","type":"com.example.order"}"#;
        assert_eq!(delivered(other, None), (other.to_owned(), true));
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            "\\PC{0,6}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let name = prop_oneof![
                Just("temporaryData".to_owned()),
                Just("distributor".to_owned()),
                "[a-z]{1,3}"
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map(name, inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The merge as a reader of values would do it.
    fn merged(mut data: Value, id: &str) -> Option<Value> {
        let mut place = &mut data;
        for name in ["temporaryData", "distributor", "subscriptionID"] {
            if place.is_null() {
                *place = json!({});
            }
            place = place.as_object_mut()?.entry(name).or_insert(Value::Null);
        }
        *place = Value::from(id);
        Some(data)
    }

    proptest! {
        #[test]
        fn splicing_agrees_with_merging_values(data in json_value(), id in "\\PC{0,8}") {
            let event = with_data(&data.to_string());
            let (text, is_marked) = delivered(&event, Some(&id));
            let delivered: Value = serde_json::from_str(&text).unwrap();
            let merged = merged(data.clone(), &id);
            prop_assert_eq!(is_marked, merged.is_some());
            prop_assert_eq!(&delivered["data"], &merged.unwrap_or(data));
        }
    }
}
