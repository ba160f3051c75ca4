//! Events that are valid and that nobody thinks of: each has ended a plugin somewhere.

use bytes::Bytes;

use crate::event::Event;

/// Bytes of the data of a large event, and of a huge one: NATS carries 1 MiB by default.
const LARGE_BYTES: usize = 64 << 10;
const HUGE_BYTES: usize = 1_000_000;
const DEPTH: usize = 100;

/// One such event.
pub(super) struct OddEvent {
    pub(super) name: &'static str,
    pub(super) event: Event,
    /// What to do in a plugin that fails on it.
    pub(super) fix: &'static str,
}

/// An event as Keptn sends it, of this type.
pub(super) fn ordinary(ty: &str) -> Event {
    with(
        ty,
        r#","data":{"project":"sockshop","stage":"dev","service":"carts","labels":{"team":"a"},"status":"succeeded","result":"pass"}"#,
    )
}

/// All of them, of this type.
pub(super) fn all(ty: &str) -> Vec<OddEvent> {
    const DATA_IS_OPTIONAL: &str = "`data` is an option: pass or keep an event that has none, and do not unwrap it";
    const ANY_DATA: &str = "data may be any JSON: check what it is before looking into it";
    const DATA_FORMS: &str = "data has three forms, JSON, text and bytes: handle each, if only by passing the event on";
    const ANY_SIZE: &str = "do not copy more often than needed, read only what is used (`reads`), or raise `memory`";
    const ANY_TEXT: &str = "texts are UTF-8 of any length: cut at characters, not at bytes";
    const ATTRIBUTES: &str =
        "extensions are a list of any names and types: look for those that are wanted, and leave the rest";
    let keptn = r#""project":"sockshop","stage":"dev","service":"carts""#;
    let large = |bytes: usize| format!(r#","data":{{{keptn},"text":"{}"}}"#, "x".repeat(bytes));
    let deep = format!(r#","data":{}1{}"#, "[".repeat(DEPTH), "]".repeat(DEPTH));
    let long = "ä".repeat(5000);
    let many: Vec<_> = (0..50).map(|n| format!(r#","extension{n}":"{n}""#)).collect();
    let many = many.concat();
    let list: [(&str, String, &str); 22] = [
        ("no data", String::new(), DATA_IS_OPTIONAL),
        ("data null", r#","data":null"#.to_owned(), DATA_IS_OPTIONAL),
        ("empty data", r#","data":{}"#.to_owned(), "each member of the data may be missing: handle an event without it"),
        ("empty text as data", r#","data":"""#.to_owned(), ANY_DATA),
        ("a list as data", r#","data":[1,"a",null]"#.to_owned(), ANY_DATA),
        ("a number as data", r#","data":-1.5e300"#.to_owned(), ANY_DATA),
        ("data that is text", r#","datacontenttype":"text/plain","data":"a\nb""#.to_owned(), DATA_FORMS),
        ("data that is bytes", r#","datacontenttype":"application/octet-stream","data_base64":"AP/+AAE=""#.to_owned(), DATA_FORMS),
        ("no bytes as data", r#","data_base64":"""#.to_owned(), DATA_FORMS),
        ("fields of other types", r#","data":{"project":1,"stage":null,"service":{"a":[]},"labels":[],"message":{}}"#.to_owned(), ANY_DATA),
        ("deep data", deep, "do not recurse without a bound"),
        ("numbers of any size", r#","data":{"a":123456789012345678901234567890,"b":1e400,"c":-0}"#.to_owned(), "numbers may not fit: do not unwrap their conversion"),
        ("the same member twice", format!(r#","data":{{{keptn},"project":"other","project":"last"}}"#), ANY_DATA),
        ("64 KiB of data", large(LARGE_BYTES), ANY_SIZE),
        ("1 MB of data", large(HUGE_BYTES), ANY_SIZE),
        ("odd unicode", r#","subject":"\u0000\u202e\ud83d\ude00e\u0301","data":{"project":"🦀\u200b","stage":"\ud800","labels":{"ß":"\u0007"}}"#.to_owned(), ANY_TEXT),
        ("long attributes", format!(r#","subject":"{long}","shkeptncontext":"{long}","data":{{}}"#), ANY_TEXT),
        ("unknown attributes", r#","a":true,"b":-7,"c":"x","d":null,"e":1.5,"f":{"g":[1]},"data":{}"#.to_owned(), ATTRIBUTES),
        ("many attributes", format!(r#"{many},"data":{{}}"#), ATTRIBUTES),
        ("odd times and schemas", r#","time":"yesterday","dataschema":"::","datacontenttype":";;","data":{}"#.to_owned(), "`time`, `dataschema` and `datacontenttype` are as received: do not unwrap their parsing"),
        ("empty attributes", r#","subject":"","time":"","shkeptncontext":"","triggeredid":"","data":{}"#.to_owned(), ANY_TEXT),
        ("labels of every kind", format!(r#","data":{{{keptn},"labels":{{"":"","n":1,"o":{{"p":[]}},"t":true,"z":null}}}}"#), ANY_DATA),
    ];
    let list = list.into_iter().map(|(name, members, fix)| OddEvent {
        name,
        event: with(ty, &members),
        fix,
    });
    list.collect()
}

fn with(ty: &str, members: &str) -> Event {
    let ty = serde_json::Value::from(ty);
    let context = if members.contains("shkeptncontext") {
        ""
    } else {
        r#","shkeptncontext":"8ad4f8a5-c0de""#
    };
    let text =
        format!(r#"{{"specversion":"1.0","id":"check-1","source":"distributor-check","type":{ty}{context}{members}}}"#);
    Event::parse(Bytes::from(text)).expect("it is an event, as a test shows")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_an_event_with_a_name_of_its_own() {
        let events = all("sh.keptn.event.task.triggered");
        for (position, odd) in events.iter().enumerate() {
            assert_eq!(odd.event.ty(), "sh.keptn.event.task.triggered", "{}", odd.name);
            assert!(!odd.fix.is_empty());
            assert!(
                events[..position].iter().all(|other| other.name != odd.name),
                "{}",
                odd.name
            );
        }
        assert_eq!(ordinary("t \"x\"").project().as_deref(), Some("sockshop"));
    }
}
