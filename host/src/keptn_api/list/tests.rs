//! Pages that arrive in pieces, and answers that are none.

use proptest::prelude::*;

use super::*;

/// Ids, texts, and what to ask for next.
type Page = (Vec<(String, String)>, Option<String>);

/// Reads a page that arrives in pieces of this size.
fn page_in_pieces(text: &[u8], size: usize) -> Result<Page, ListError> {
    let mut reader = ListReader::of("events");
    let mut events = Vec::new();
    let mut pieces = text.chunks(size);
    loop {
        let piece = pieces.next();
        match piece {
            Some(piece) => reader.add(Bytes::copy_from_slice(piece)),
            None => reader.end(),
        }
        while let Some(item) = reader.item()? {
            let [id, item] = [item.id, item.bytes].map(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
            events.push((id, item));
        }
        if piece.is_none() {
            return Ok((events, reader.finish()?));
        }
    }
}

fn page(text: &str) -> Result<Page, ListError> {
    page_in_pieces(text.as_bytes(), usize::MAX)
}

#[test]
fn events_keep_their_bytes_and_are_known_by_their_id() {
    let text = r#"{"events":[{"data":{"id":"x"},"id":"1"}, {"id":"2","n":1.0},{"n":1},7],"totalCount":4}"#;
    let events = [
        ("1", r#"{"data":{"id":"x"},"id":"1"}"#),
        ("2", r#"{"id":"2","n":1.0}"#),
        (r#"{"n":1}"#, r#"{"n":1}"#),
        ("7", "7"),
    ];
    let expected: Vec<_> = events
        .iter()
        .map(|(id, event)| ((*id).to_owned(), (*event).to_owned()))
        .collect();
    assert_eq!(page(text).unwrap(), (expected, None));
}

#[test]
fn the_list_ends_where_no_further_page_is_named() {
    let check = |more: &str, expected: Option<&str>| {
        let (_, next) = page(&format!(r#"{{"events":[]{more}}}"#)).unwrap();
        assert_eq!(next.as_deref(), expected, "{more}");
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
    assert!(page(r#"{"events":null}"#).unwrap().0.is_empty());
    assert_eq!(page(r#"{"code":0}"#), Err(ListError::NoList("events")));
    assert_eq!(page(r#"{"events":{}}"#), Err(ListError::NoList("events")));
    assert_eq!(page("[]"), Err(ListError::NoList("events")));
    let check = |text: &str, expected: &str| {
        let error = page(text).unwrap_err().to_string();
        assert_eq!(error, format!("it is not JSON: {expected}"), "{text}");
    };
    check("<html>", "expected a value at byte 0");
    check("", "the end is missing at byte 0");
    check(r#"{"events":[{"id":"1"}"#, "the end is missing at byte 21");
    check(r#"{"events":[{"id":}]}"#, "expected a value at byte 17");
    check(r#"{"events":[1 2]}"#, "expected `,` or `]` at byte 13");
    check(r#"{"events":[]]"#, "expected `,` or `}` at byte 12");
    check(r#"{"events" []}"#, "expected `:` at byte 10");
    check(r#"{"events":[]} {"#, "expected the end of the document at byte 14");
    let not_text = [&b"{\"events\":[{\"id\":\""[..], &[0xff], &b"\"}]}"[..]].concat();
    assert_eq!(page_in_pieces(&not_text, 5), Err(ListError::NotText));
}

#[test]
fn what_is_wrong_is_told_before_all_of_it_is_there() {
    let mut reader = ListReader::of("events");
    reader.add(Bytes::from_static(br#"{"events":[{"id":oops,"data":{"project":"p"}},"#));
    assert!(matches!(reader.item(), Err(ListError::NotJson(_))));
}

#[test]
fn a_list_takes_no_more_memory_than_its_items() {
    let event = format!(r#"{{"id":"1","data":"{}"}}"#, "x".repeat(1000));
    let text = format!(r#"{{"events":[{}]}}"#, [event.as_str(); 1000].join(","));
    let mut reader = ListReader::of("events");
    let mut n_events = 0;
    for piece in text.as_bytes().chunks(400 << 10) {
        reader.add(Bytes::copy_from_slice(piece));
        while reader.item().unwrap().is_some() {
            n_events += 1;
        }
    }
    assert_eq!(n_events, 1000);
    assert!(
        reader.buffer.capacity() < 3 * SLICE_BYTES,
        "{}",
        reader.buffer.capacity()
    );
}

proptest! {
    #[test]
    fn pieces_of_any_size_give_the_same_page(
        ids in prop::collection::vec("[a-z\u{e9}\\\\]{0,6}", 0..6),
        number in -1e9..1e9,
        size in 1..40usize,
    ) {
        let event = |id: &String| serde_json::json!({"id": id, "data": {"n": number, "t": [true, null]}}).to_string();
        let events: Vec<_> = ids.iter().map(event).collect();
        let text = format!(r#" {{ "totalCount": {number}, "events" : [ {} ] , "nextPageKey":"7" }} "#, events.join(" , "));
        let (found, next) = page_in_pieces(text.as_bytes(), size).unwrap();
        let found: Vec<_> = found.into_iter().map(|(_, event)| event).collect();
        prop_assert_eq!(found, events);
        prop_assert_eq!(next.as_deref(), Some("7"));
    }

    #[test]
    fn a_page_that_is_cut_off_is_none(cut in 0..60usize, size in 1..40usize) {
        let text = br#"{"events":[{"id":"1","n":-1.5e3},{"id":"2"}],"nextPageKey":"0"}"#;
        let error = page_in_pieces(&text[..cut.min(text.len() - 1)], size).unwrap_err();
        prop_assert!(matches!(error, ListError::NotJson(_)), "{error}");
    }
}
