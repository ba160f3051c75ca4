//! Whether JSON is of the shape of other JSON.

use serde_json::Value;
use uuid::Uuid;

/// Everything that differs, one sentence each. Values must be the same, save those that are new each time: a UUID stands
/// for any UUID, a time for any time, with a fraction where it has one, a commit for any commit.
pub(crate) fn differences(expected: &Value, found: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    compare("$", expected, found, &mut differences);
    differences
}

fn compare(place: &str, expected: &Value, found: &Value, differences: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (name, value) in expected {
                match found.get(name) {
                    Some(other) => compare(&format!("{place}.{name}"), value, other, differences),
                    None => differences.push(format!("{place}.{name} is missing")),
                }
            }
            let unexpected = found.keys().filter(|name| !expected.contains_key(*name));
            differences.extend(unexpected.map(|name| format!("{place}.{name} is too much")));
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                compare(&format!("{place}[{index}]"), expected, found, differences);
            }
        }
        (Value::String(expected), Value::String(found)) if same_kind(expected, found) => {}
        (expected, found) if expected == found => {}
        _ => differences.push(format!("{place} is {found}, not {expected}")),
    }
}

fn same_kind(expected: &str, found: &str) -> bool {
    let is_uuid = |text: &str| text.len() == 36 && Uuid::try_parse(text).is_ok();
    let is_commit = |text: &str| text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_time = |text: &str| text.len() > 19 && text.as_bytes()[10] == b'T' && text.ends_with('Z');
    let without_digits = |text: &str| text.replace(|character: char| character.is_ascii_digit(), "");
    (is_uuid(expected) && is_uuid(found))
        || (is_commit(expected) && is_commit(found))
        || (is_time(expected) && without_digits(expected) == without_digits(found))
}

#[test]
fn only_what_is_new_each_time_may_differ() {
    let check = |expected: &str, found: &str, n: usize| {
        let [expected, found] = [expected, found].map(|text| serde_json::from_str(text).unwrap());
        let differences = differences(&expected, &found);
        assert_eq!(differences.len(), n, "{differences:?}");
    };
    let uuids = [
        "\"b22401a3-9def-4e3f-b228-289300caf6e9\"",
        "\"27665275-d285-4a5c-b9ee-a3fb072fbb41\"",
    ];
    check(uuids[0], uuids[1], 0);
    check(uuids[0], "\"\"", 1);
    check("\"2026-11-22T14:47:44.080Z\"", "\"2027-01-02T00:00:00.123456Z\"", 0);
    check("\"2026-11-22T14:47:44.080Z\"", "\"2027-01-02T00:00:00Z\"", 1);
    check(r#"{"a":1,"b":[]}"#, r#"{"b":[],"a":1}"#, 0);
    check(r#"{"a":1,"b":[]}"#, r#"{"a":"1","c":[]}"#, 3);
    check(r#"[{"a":"pass"}]"#, r#"[{"a":"fail"}]"#, 1);
    check("[1]", "[1,1]", 1);
}
