use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const TRIGGERED: &str = r#"{"specversion":"1.0","id":"b224","source":"shipyard-controller","type":"sh.keptn.event.build.triggered","datacontenttype":"application/json","time":"2026-11-22T14:47:44.255020602Z","data":{"labels":{"k":"v","n":1},"project":"rigproj","service":"svc-a","stage":"dev"},"shkeptncontext":"2766","shkeptnspecversion":"0.2.4"}"#;

fn parse(text: &str) -> Result<Event, Malformed> {
    Event::parse(Bytes::copy_from_slice(text.as_bytes()))
}

fn with_data(data: &str) -> Event {
    parse(&format!(
        r#"{{"specversion":"1.0","id":"i","source":"s","type":"t","data":{data}}}"#
    ))
    .unwrap()
}

#[test]
fn attributes_and_keptn_fields_are_found() {
    let event = parse(TRIGGERED).unwrap();
    assert_eq!(event.id(), "b224");
    assert_eq!(event.source(), "shipyard-controller");
    assert_eq!(event.ty(), "sh.keptn.event.build.triggered");
    assert!(event.is_keptn());
    assert_eq!(event.keptn_context().as_deref(), Some("2766"));
    assert_eq!(event.triggered_id(), None);
    let fields = [event.project(), event.stage(), event.service()];
    assert_eq!(
        fields.each_ref().map(Option::as_deref),
        [Some("rigproj"), Some("dev"), Some("svc-a")]
    );
    assert_eq!(
        event.labels(),
        [("k".to_owned(), "v".to_owned()), ("n".to_owned(), "1".to_owned())]
    );
}

#[test]
fn what_is_no_event_is_refused_with_the_reason() {
    let check = |text: &str, expected: &str| assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
    check("", "not JSON: expected a value at byte 0");
    check("hello", "not JSON: expected a value at byte 0");
    check("[]", "not a CloudEvent: a JSON object is expected");
    check("{}", "not a CloudEvent: `specversion` is missing or empty");
    check(
        r#"{"specversion":"1.0","id":"i","source":"s"}"#,
        "not a CloudEvent: `type` is missing or empty",
    );
    check(
        r#"{"specversion":"1.0","id":"i","source":"","type":"t"}"#,
        "not a CloudEvent: `source` is missing or empty",
    );
    check(
        r#"{"specversion":"2.0","id":"i","source":"s","type":"t"}"#,
        "not a CloudEvent: `specversion` is neither 1.0 nor 0.3",
    );
    check(
        r#"{"specversion":"1.0","id":5,"source":"s","type":"t"}"#,
        "not a CloudEvent: `id` is not text",
    );
    check(
        r#"{"specversion":"1.0","id":"i","source":"s","type":"t"} x"#,
        "not JSON: expected the end of the document at byte 55",
    );
    let not_text = Event::parse(Bytes::from_static(b"{\"a\":\"\xff\"}")).unwrap_err();
    assert_eq!(not_text.to_string(), "not UTF-8 text (first bad byte at 6)");
}

#[test]
fn version_0_3_is_an_event_too() {
    assert_eq!(
        parse(r#"{"specversion":"0.3","id":"i","source":"s","type":"t"}"#)
            .unwrap()
            .specversion(),
        "0.3"
    );
}

#[test]
fn a_field_is_missing_text_or_not_decodable() {
    let check = |data: &str, expected: Option<&str>| {
        assert_eq!(with_data(data).project().as_deref(), expected, "{data}");
    };
    check(r#"{"project":"p"}"#, Some("p"));
    check(r#"{"project":"\u0070\n"}"#, Some("p\n"));
    check(r#"{"project":null}"#, Some(""));
    check("{}", Some(""));
    check("null", Some(""));
    check(r#"{"project":5}"#, None);
    check(r#"{"project":{"project":"p"}}"#, None);
    check("[1,2]", None);
    check("\"text\"", None);
    // Labels, status or message of another type say nothing about the project.
    check(r#"{"labels":{"a":1},"status":7,"project":"p"}"#, Some("p"));
    // Keys are matched exactly, and of repeated members the last one counts.
    check(r#"{"Project":"p"}"#, Some(""));
    check(r#"{"project":"a","project":"b"}"#, Some("b"));
    let no_data = parse(r#"{"specversion":"1.0","id":"i","source":"s","type":"t"}"#).unwrap();
    assert_eq!(no_data.project().as_deref(), Some(""));
    let base64 = parse(r#"{"specversion":"1.0","id":"i","source":"s","type":"t","data_base64":"AA=="}"#).unwrap();
    assert_eq!(base64.project(), None);
}

#[test]
fn escaped_names_and_lone_surrogates_are_read() {
    let event = parse(r#"{"specversion":"1.0","\u0069d":"i\ud83d\ude00","source":"a\ud800b","type":"t"}"#).unwrap();
    assert_eq!(event.id(), "i\u{1f600}");
    assert_eq!(event.source(), "a\u{fffd}b");
}

#[test]
fn an_event_without_id_can_be_given_one() {
    for text in [
        r#"{"specversion":"1.0","source":"s","type":"t"} "#,
        r#"{"specversion":"1.0","id":"","source":"s","type":"t"}"#,
        r#"{"id":null,"specversion":"1.0","source":"s","type":"t"}"#,
    ] {
        assert_eq!(parse(text).unwrap_err(), Malformed::Missing("id"));
        let event = Event::parse_with_id(&Bytes::copy_from_slice(text.as_bytes()), "new \"id\"").unwrap();
        assert_eq!(event.id(), "new \"id\"");
    }
}

#[test]
fn another_id_changes_nothing_else() {
    let event = parse(TRIGGERED).unwrap().with_id("b224-1").unwrap();
    let expected = TRIGGERED.replace("\"b224\"", "\"b224-1\"");
    assert_eq!(event.bytes(), expected.as_bytes());
}

#[test]
fn a_batch_is_split_into_its_bytes() {
    let elements = split_batch(&Bytes::from_static(b" [ {\"a\":1} , [2],\"x\"]")).unwrap();
    assert_eq!(elements, [&b"{\"a\":1}"[..], b"[2]", b"\"x\""]);
    assert!(split_batch(&Bytes::from_static(b"[]")).unwrap().is_empty());
    assert!(split_batch(&Bytes::from_static(b"{}")).is_err());
}

#[test]
fn binary_mode_becomes_the_json_format() {
    let check = |content_type: &str, payload: &[u8], expected: &str| {
        let attributes = [
            ("specversion", "1.0"),
            ("id", "i"),
            ("source", "s"),
            ("type", "t"),
            ("datacontenttype", content_type),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let bytes = EventBuilder::from_binary(&attributes, payload).unwrap();
        let text = std::str::from_utf8(&bytes).unwrap();
        assert!(text.ends_with(&format!("{expected}}}")), "{text}");
    };
    check(
        "application/json",
        br#"{"n": 12345678901234567890}"#,
        r#","data":{"n": 12345678901234567890}"#,
    );
    check("application/vnd.x+json; charset=utf-8", b"[1]", r#","data":[1]"#);
    check("text/plain", b"a \"b\"", r#","data":"a \"b\"""#);
    check("application/octet-stream", b"abc", r#","data_base64":"YWJj""#);
    check("application/json", b"", r#""datacontenttype":"application/json""#);
}

proptest! {
    #[test]
    fn what_the_builder_writes_is_read_back(
        id in "\\PC{1,12}", source in "\\PC{1,12}", extension in "\\PC{0,12}", project in "\\PC{0,12}",
    ) {
        let data = serde_json::json!({"project": project}).to_string();
        let event = EventBuilder::new(64)
            .attribute("specversion", AttributeValue::Text("1.0"))
            .attribute("id", AttributeValue::Text(&id))
            .attribute("source", AttributeValue::Text(&source))
            .attribute("type", AttributeValue::Text("t"))
            .attribute("shkeptncontext", AttributeValue::Text(&extension))
            .payload(Payload::Json(&data)).unwrap()
            .finish().unwrap();
        prop_assert_eq!(event.id(), id);
        prop_assert_eq!(event.source(), source);
        prop_assert_eq!(event.keptn_context().unwrap_or_default(), extension);
        prop_assert_eq!(event.project().unwrap(), project);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Event::parse(Bytes::from(bytes));
    }

    #[test]
    fn no_damaged_event_makes_the_parser_panic(position in 0..TRIGGERED.len(), byte in any::<u8>()) {
        let mut bytes = TRIGGERED.as_bytes().to_vec();
        bytes[position] = byte;
        if let Ok(event) = Event::parse(Bytes::from(bytes)) {
            let _ = (event.id(), event.labels(), event.members(), event.project());
        }
    }
}
