//! Whatever stands in an event and its circumstances can be stored, and comes back.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use proptest::prelude::*;

use super::archive::Entry;
use super::metadata::{Detail, Document, from_headers, to_headers, wire_bytes};
use super::{DeadLetter, Integration, Reason, Selection, Tally, one_line, rfc3339, stream, text};
use crate::subject::Subject;

fn letter() -> DeadLetter {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_790_000_000_123);
    DeadLetter {
        payload: Bytes::from_static(b"{}"),
        is_child: true,
        event_id: "id 1".to_owned(),
        event_type: "sh.keptn.event.task.triggered".to_owned(),
        keptn_context: "ctx".to_owned(),
        reason: Reason::Plugin,
        status: Some(503),
        error: "answered 503".to_owned(),
        attempts: 11,
        first_attempt: Some(time),
        last_attempt: Some(time + Duration::from_secs(1)),
        stream: Some("keptn".to_owned()),
        sequence: Some(4711),
        subject: "sh.keptn.event.task.triggered".to_owned(),
        subscription_id: Some("sub-1".to_owned()),
        plugin: Some("reshape".to_owned()),
        generation: 3,
        emission: 2,
        message_id: Some("durable:4711:sub-1:2".to_owned()),
    }
}

fn entry(sequence: u64, letter: DeadLetter) -> Entry {
    Entry {
        sequence,
        stored: SystemTime::UNIX_EPOCH + Duration::from_hours(1),
        integration: "mine".to_owned(),
        bytes: letter.payload.len(),
        letter,
    }
}

#[test]
fn any_event_type_makes_a_subject() {
    let check = |integration: &str, event_type: &str, expected: &str| {
        assert_eq!(
            stream::subject(integration, event_type),
            format!("distributor.dlq.{expected}")
        );
    };
    check(
        "svc-1f",
        "sh.keptn.event.a.triggered",
        "svc-1f.sh.keptn.event.a.triggered",
    );
    check("svc", "", "svc.unknown");
    check("svc", "..", "svc._._._");
    check("svc", "a b.*.>", "svc.a_b._._");
    check("svc", "größe\r\n", "svc.gr__e__");
    check("a.b>", "x", "a_b_.x");
    check("", "x", "_.x");
}

#[test]
fn a_line_is_one_line_and_steers_nothing() {
    let check = |text: &str, expected: &str| assert_eq!(one_line(text, 10), expected, "{text:?}");
    check("plain", "plain");
    check(" a\r\nb ", "a  b");
    check("\u{1b}[2J\u{9b}\u{7f}x", "[2J  x");
    check("a\u{2028}b\u{202e}c", "a b c");
    check("0123456789abc", "0123456789");
    check("012345678ö", "012345678");
    check("", "");
}

#[test]
fn times_that_no_clock_shows_are_written_all_the_same() {
    let epoch = SystemTime::UNIX_EPOCH;
    assert_eq!(rfc3339(epoch - Duration::from_secs(5)), "1970-01-01T00:00:00.000Z");
    assert_eq!(
        rfc3339(epoch + Duration::from_secs(1 << 40)),
        "9999-12-31T23:59:59.000Z"
    );
}

#[test]
fn what_is_known_comes_back_from_headers_and_from_json() {
    let letter = letter();
    for subscription_id in [None, Some(String::new()), Some("sub-1".to_owned())] {
        let letter = DeadLetter {
            subscription_id,
            ..letter.clone()
        };
        let headers = to_headers(&letter, Detail::Full);
        assert_eq!(from_headers(&headers, letter.payload.clone()), letter);
    }
    for payload in [&b"{\"a\": 1.0}"[..], b"\xff\x00", b""] {
        let letter = DeadLetter {
            payload: Bytes::from_static(payload),
            ..letter.clone()
        };
        let document = Document::new(&letter, Some(1), SystemTime::now(), "mine").with_payload(&letter.payload);
        let text = serde_json::to_string(&document).unwrap();
        let read: Document = serde_json::from_str(&text).unwrap();
        assert_eq!(read.into_letter(), letter);
    }
}

#[test]
fn short_headers_keep_what_a_redrive_needs() {
    let letter = letter();
    let mut bytes = usize::MAX;
    for detail in Detail::ALL {
        let headers = to_headers(&letter, detail);
        assert!(
            wire_bytes(&headers) < bytes,
            "{detail:?} is shorter than the one before"
        );
        bytes = wire_bytes(&headers);
        let read = from_headers(&headers, letter.payload.clone());
        assert_eq!(
            (read.is_child, read.reason, read.subscription_id, read.message_id),
            (
                true,
                Reason::Plugin,
                letter.subscription_id.clone(),
                letter.message_id.clone()
            )
        );
    }
}

#[test]
fn a_record_of_somebody_else_is_read_as_far_as_possible() {
    let headers = [
        ("Distributor-Reason", "bored"),
        ("Distributor-Status", "many"),
        ("X", "y"),
    ];
    let headers = headers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    let read = from_headers(&headers.into_iter().collect(), Bytes::new());
    assert_eq!((read.reason, read.status, read.attempts), (Reason::Unknown, None, 0));
    let read: Document = serde_json::from_str(r#"{"reason":"expired","later":true}"#).unwrap();
    assert_eq!(read.into_letter().reason, Reason::Expired);
}

#[test]
fn every_reason_has_a_name_of_its_own() {
    for reason in Reason::ALL {
        assert_eq!(Reason::parse(reason.as_str()), reason);
        assert_ne!(reason, Reason::Unknown);
    }
    assert_eq!(Reason::parse("bored"), Reason::Unknown);
}

#[test]
fn types_are_chosen_by_pattern_and_odd_ones_as_they_are_stored() {
    let check = |pattern: &str, event_type: &str, expected: bool| {
        let selection = Selection {
            types: vec![Subject::pattern(pattern).unwrap()],
            ..Selection::all(Integration::All)
        };
        let letter = DeadLetter {
            event_type: event_type.to_owned(),
            ..letter()
        };
        assert_eq!(
            selection.matches(&entry(1, letter)),
            expected,
            "{pattern} {event_type:?}"
        );
    };
    check("a.b", "a.b", true);
    check("a.b", "a.b.c", false);
    check("a.*", "a.b", true);
    check("a.>", "a.b.c", true);
    check("a.>", "b.c", false);
    check("unknown", "", true);
    check("a_b", "a b", true);
    check("a.>", "a.*", true);
}

#[test]
fn all_conditions_have_to_be_met() {
    let all = Selection::all(Integration::Named("mine".to_owned()));
    let entry = entry(7, letter());
    assert!(all.matches(&entry) && !all.is_narrowed());
    let hour = |hours: u64| Some(SystemTime::UNIX_EPOCH + Duration::from_hours(hours));
    let check = |change: fn(&mut Selection), expected: bool| {
        let mut selection = all.clone();
        change(&mut selection);
        assert_eq!(selection.matches(&entry), expected, "{selection:?}");
    };
    check(
        |selection| selection.integration = Integration::Named("other".to_owned()),
        false,
    );
    check(|selection| selection.integration = Integration::All, true);
    check(
        |selection| selection.reasons = vec![Reason::Expired, Reason::Plugin],
        true,
    );
    check(|selection| selection.reasons = vec![Reason::Expired], false);
    check(|selection| selection.contexts = vec!["ctx".to_owned()], true);
    check(|selection| selection.event_ids = vec!["id".to_owned()], false);
    check(|selection| selection.sequences = [7].into(), true);
    check(|selection| selection.sequences = [8].into(), false);
    for (since, until, expected) in [(hour(1), hour(2), true), (hour(2), None, false), (None, hour(1), false)] {
        let selection = Selection {
            since,
            until,
            ..all.clone()
        };
        assert!(selection.is_narrowed());
        assert_eq!(selection.matches(&entry), expected, "{since:?} {until:?}");
    }
}

#[test]
fn a_tally_counts_by_reason() {
    let mut tally = Tally::default();
    assert_eq!(tally.to_string(), "0 dead letters");
    tally.add(&entry(1, letter()));
    assert_eq!(tally.to_string(), "1 dead letter: 1 plugin");
    let expired = DeadLetter {
        reason: Reason::Expired,
        ..letter()
    };
    tally.add(&entry(2, expired));
    assert_eq!(tally.to_string(), "2 dead letters: 1 expired, 1 plugin");
    assert_eq!((tally.total(), tally.bytes), (2, 4));
}

proptest! {
    #[test]
    fn a_subject_is_always_valid_and_has_no_wildcard(integration in ".*", event_type in ".*") {
        let subject = stream::subject(&integration, &event_type);
        prop_assert!(subject.is_ascii() && subject.len() < 1000, "{subject}");
        let subject = Subject::literal(&subject).unwrap();
        prop_assert!(Subject::pattern("distributor.dlq.*.>").unwrap().covers(&subject));
    }

    #[test]
    fn any_name_comes_back_from_a_header(name in "\\PC{0,40}|.{0,40}") {
        let value = text::to_header(&name);
        prop_assert!(value.bytes().all(|byte| byte.is_ascii_graphic()), "{value:?}");
        prop_assert_eq!(text::from_header(&value), name);
    }

    #[test]
    fn long_names_are_cut_between_characters(name in "[a-zö%\n]{300,900}") {
        let value = text::to_header(&name);
        prop_assert!(value.len() <= 512);
        let read = text::from_header(&value);
        prop_assert!(name.starts_with(&read) && value.len() > 500 || read == name, "{read:?}");
    }

    #[test]
    fn a_line_is_never_too_long(text in ".{0,50}", max_bytes in 0_usize..60) {
        let line = one_line(&text, max_bytes);
        prop_assert!(line.len() <= max_bytes);
        prop_assert!(!line.contains(char::is_control));
    }
}
