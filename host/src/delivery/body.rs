//! The body of a delivery: the event's own bytes with what recipients rely on spliced in.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::event::{Data, Event, KEPTN_EXTENSIONS, Slot};

/// At most two places are changed, so the event is cut in three and two pieces are added.
const MAX_PIECES: usize = 5;

/// An event in the form that goes to the service. Cloning it copies no bytes.
#[derive(Debug, Clone)]
pub struct Body {
    pieces: [Bytes; MAX_PIECES],
    next: usize,
}

/// One change: the bytes from `start` to `end` give way to `text`.
struct Edit {
    start: u32,
    end: u32,
    text: String,
}

impl Body {
    /// The event as the service gets it: with the Keptn extensions that it lacks (as empty text, for Keptn types), and
    /// with the id of the subscription it matched at `data.temporaryData.distributor.subscriptionID`.
    ///
    /// The flag is false when there was a subscription id and no place for it, because a value on the way is neither
    /// an object nor `null`.
    #[must_use]
    pub fn of(event: &Event, subscription_id: Option<&str>) -> (Self, bool) {
        let mut at_start = missing_extensions(event);
        let edit = match subscription_id {
            None => Ok(None),
            Some(id) if event.data() == Data::Absent => {
                at_start.push_str("\"data\":{");
                at_start.push_str(&nested(&["temporaryData", "distributor"], id));
                at_start.push_str("},");
                Ok(None)
            }
            Some(id) => subscription_edit(event, id).map(Some).ok_or(()),
        };
        let is_marked = edit.is_ok();
        let bytes = event.bytes();
        let inside = event.envelope_inside();
        let mut pieces = [const { Bytes::new() }; MAX_PIECES];
        if at_start.is_empty() && matches!(edit, Ok(None) | Err(())) {
            pieces[0] = bytes.clone();
            return (Self { pieces, next: 0 }, is_marked);
        }
        pieces[0] = bytes.slice(..inside as usize);
        pieces[1] = Bytes::from(at_start);
        match edit {
            Ok(Some(Edit { start, end, text })) => {
                pieces[2] = bytes.slice(inside as usize..start as usize);
                pieces[3] = Bytes::from(text);
                pieces[4] = bytes.slice(end as usize..);
            }
            _ => pieces[2] = bytes.slice(inside as usize..),
        }
        (Self { pieces, next: 0 }, is_marked)
    }

    /// All of it in one piece.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.pieces.concat()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        while self.next < MAX_PIECES {
            let number = self.next;
            self.next += 1;
            if !self.pieces[number].is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(self.pieces[number].clone()))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.pieces[self.next..].iter().all(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.pieces[self.next..].iter().map(|piece| piece.len() as u64).sum())
    }
}

/// Members with the Keptn extensions that the event lacks, each with a comma behind it: a valid envelope has others.
fn missing_extensions(event: &Event) -> String {
    let present = event.keptn_extensions();
    let mut members = String::new();
    if event.is_keptn() {
        for (number, name) in KEPTN_EXTENSIONS.iter().enumerate() {
            if present & (1 << number) == 0 {
                members.push('"');
                members.push_str(name);
                members.push_str("\":\"\",");
            }
        }
    }
    members
}

/// How to put the subscription id into data that is there. None: not possible.
fn subscription_edit(event: &Event, id: &str) -> Option<Edit> {
    // From the outside in: the first level that is not there is where the rest is put.
    let levels = [
        (event.data_slot(), &["temporaryData", "distributor"][..]),
        (event.temporary_data(), &["distributor"][..]),
        (event.distributor_slot(), &[][..]),
    ];
    let mut parent: Option<(u32, bool, &[&str])> = None;
    for (slot, path_inside) in levels {
        match (slot, parent) {
            (Slot::Object { inside, empty }, _) => parent = Some((inside, empty, path_inside)),
            (Slot::Null(span), _) => {
                let text = format!("{{{}}}", nested(path_inside, id));
                return Some(Edit {
                    start: span.start,
                    end: span.end,
                    text,
                });
            }
            (Slot::Absent, Some((inside, empty, path))) => return Some(insertion(inside, empty, path, id)),
            _ => return None,
        }
    }
    let span = event.subscription_id();
    if span.is_present() {
        return Some(Edit {
            start: span.start,
            end: span.end,
            text: quoted(id),
        });
    }
    let (inside, empty, path) = parent?;
    Some(insertion(inside, empty, path, id))
}

fn insertion(inside: u32, empty: bool, path: &[&str], id: &str) -> Edit {
    let comma = if empty { "" } else { "," };
    Edit {
        start: inside,
        end: inside,
        text: nested(path, id) + comma,
    }
}

/// The member `"a":{"b":{"subscriptionID":"…"}}` for the path `a`, `b`.
fn nested(path: &[&str], id: &str) -> String {
    let mut member = String::with_capacity(96);
    for name in path {
        member.push('"');
        member.push_str(name);
        member.push_str("\":{");
    }
    member.push_str("\"subscriptionID\":");
    member.push_str(&quoted(id));
    member.extend(path.iter().map(|_| '}'));
    member
}

fn quoted(id: &str) -> String {
    serde_json::to_string(id).expect("text can always be written as JSON")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn delivered(event: &str, subscription_id: Option<&str>) -> (String, bool) {
        let event = Event::parse(Bytes::copy_from_slice(event.as_bytes())).unwrap();
        let (body, is_marked) = Body::of(&event, subscription_id);
        let size = http_body::Body::size_hint(&body).exact().unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert_eq!(size, text.len() as u64);
        (text, is_marked)
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
            match merged(data.clone(), &id) {
                Some(expected) => {
                    prop_assert!(is_marked);
                    prop_assert_eq!(&delivered["data"], &expected);
                }
                None => {
                    prop_assert!(!is_marked);
                    prop_assert_eq!(&delivered["data"], &data);
                }
            }
        }
    }
}
