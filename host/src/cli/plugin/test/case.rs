//! Reads cases: YAML, with events in files or where they are used.

use std::path::Path;

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde::Deserialize;
use serde_json::{Map, Number, Value};

use super::super::events::{Circumstances, WrittenContext, parse_value};
use super::expectation::{Expectation, Mismatch};
use crate::event::Event;
use crate::plugins::{Direction, Grants};

/// A case.
pub(super) struct TestCase {
    pub(super) name: String,
    /// None: that of the command line, or of the chain file.
    pub(super) config: Option<Value>,
    pub(super) grants: Grants,
    context: Option<Value>,
    /// Text of the message with which the configuration is to be refused.
    refusal: Option<String>,
    pub(super) steps: Vec<Step>,
}

/// An event, and what the plugin is to say of it.
pub(super) struct Step {
    pub(super) event: Event,
    pub(super) expected: Expectation,
}

/// A file: cases, and what is the same for all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFile {
    config: Option<Value>,
    context: Option<Value>,
    #[serde(default)]
    grants: Vec<WrittenGrant>,
    cases: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCase {
    name: String,
    event: Option<Value>,
    events: Option<Vec<Value>>,
    with: Option<Value>,
    config: Option<Value>,
    context: Option<Value>,
    #[serde(default)]
    grants: Vec<WrittenGrant>,
    expect: Value,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WrittenGrant {
    Publish,
    State,
}

impl TestCase {
    /// The circumstances of an event.
    pub(super) fn circumstances(&self, event: &Event, direction: Direction) -> Result<Circumstances, String> {
        let written = self.context.clone().unwrap_or_else(|| Value::Object(Map::new()));
        let written: WrittenContext = serde_json::from_value(written).map_err(|error| format!("`context`: {error}"))?;
        // What is not said of an event is as it is for the sidecar, which depends on the way it travels.
        let way = serde_json::from_value(
            self.context
                .as_ref()
                .map_or(Value::Null, |context| context["direction"].clone()),
        );
        Circumstances::of(event, way.unwrap_or(direction)).with(written)
    }

    /// What is wrong when the configuration was refused.
    pub(super) fn refused(&self, message: &str) -> Vec<Mismatch> {
        match &self.refusal {
            Some(expected) if message.contains(expected.as_str()) => Vec::new(),
            Some(expected) => vec![Mismatch::text("refused", expected, message)],
            None => vec![Mismatch::text("configuration", "accepted", message)],
        }
    }

    /// What is wrong when it was accepted.
    pub(super) fn accepted(&self) -> Vec<Mismatch> {
        let wrong = self
            .refusal
            .as_ref()
            .map(|_| Mismatch::text("configuration", "refused", "accepted"));
        wrong.into_iter().collect()
    }
}

/// The cases of a file, or what is wrong with it.
pub(super) fn read(path: &Path) -> Result<Vec<TestCase>, String> {
    let in_file = |problem: String| format!("{}: {problem}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| in_file(format!("cannot be read: {error}")))?;
    parse(&text, path).map_err(in_file)
}

fn parse(text: &str, path: &Path) -> Result<Vec<TestCase>, String> {
    let file = match yaml(text)? {
        list @ Value::Array(_) => serde_json::json!({"cases": list}),
        file => file,
    };
    let file: WrittenFile = serde_json::from_value(file).map_err(|error| {
        format!("{error}; a file is a list of cases, or has `cases`, and `config`, `context` and `grants` for all")
    })?;
    let cases = file.cases.iter().enumerate().map(|(position, written)| {
        let name = written["name"]
            .as_str()
            .map_or_else(|| format!("case {}", position + 1), |name| format!("{name:?}"));
        case(written, &file, path).map_err(|problem| format!("{name}: {problem}"))
    });
    cases.collect()
}

fn case(written: &Value, file: &WrittenFile, path: &Path) -> Result<TestCase, String> {
    let written: WrittenCase = serde_json::from_value(written.clone()).map_err(|error| error.to_string())?;
    let has = |grant| file.grants.contains(&grant) || written.grants.contains(&grant);
    let grants = Grants {
        publish: has(WrittenGrant::Publish),
        state: has(WrittenGrant::State),
    };
    let (events, expectations) = match (&written.event, &written.events, &written.expect) {
        (None, None, expect) => (Vec::new(), vec![expect.clone()]),
        (Some(event), None, expect) => (vec![event.clone()], vec![expect.clone()]),
        (None, Some(events), Value::Array(expected)) => (events.clone(), expected.clone()),
        (None, Some(_), _) => return Err("`events` is a list, so `expect` has to be one as well".to_owned()),
        (Some(_), Some(_), _) => return Err("there is `event` and `events`; one of them is enough".to_owned()),
    };
    let refusal = match expectations.as_slice() {
        [expected] => refusal(expected)?,
        _ => None,
    };
    let mut steps = Vec::new();
    if refusal.is_none() {
        if events.len() != expectations.len() {
            let (events, expected) = (events.len(), expectations.len());
            return Err(format!(
                "there are {events} events, and {expected} things are expected; name an `event`"
            ));
        }
        for (event, expected) in events.iter().zip(&expectations) {
            steps.push(Step {
                event: self::event(event, written.with.as_ref(), path)?,
                expected: Expectation::read(expected)?,
            });
        }
    }
    Ok(TestCase {
        name: written.name,
        config: written.config.or_else(|| file.config.clone()),
        context: written.context.or_else(|| file.context.clone()),
        grants,
        refusal,
        steps,
    })
}

/// Text with which the configuration is to be refused, if that is what is expected.
fn refusal(expected: &Value) -> Result<Option<String>, String> {
    match expected {
        Value::String(word) if word == "refused" => Ok(Some(String::new())),
        Value::Object(object) => match object.get("refused") {
            None => Ok(None),
            Some(Value::String(text)) if object.len() == 1 => Ok(Some(text.clone())),
            Some(_) => Err("`refused` is a text of the message, and stands alone".to_owned()),
        },
        _ => Ok(None),
    }
}

/// An event: the name of a file, or its attributes, of which those that say nothing may be left out.
fn event(written: &Value, with: Option<&Value>, path: &Path) -> Result<Event, String> {
    let mut value = match written {
        Value::String(name) => from_file(name, path)?,
        Value::Object(_) => {
            let mut value = serde_json::json!({"specversion": "1.0", "id": "1", "source": "test"});
            merge(&mut value, written);
            value
        }
        _ => return Err("`event` is neither the name of a file nor an event".to_owned()),
    };
    if let Some(with) = with {
        merge(&mut value, with);
    }
    parse_value(&value).map_err(|problem| format!("`event` is {problem}"))
}

/// Beside the file with the cases, or in the folder of the plugin above.
fn from_file(name: &str, path: &Path) -> Result<Value, String> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let above = folder.parent().unwrap_or(Path::new(""));
    let candidates = [folder.join(name), above.join(name), Path::new("..").join(name)];
    let found = candidates.iter().find(|candidate| candidate.is_file());
    let found = found.ok_or_else(|| {
        format!(
            "`event`: there is no file {name}, neither in {} nor in the folder above",
            folder.display()
        )
    })?;
    let content = std::fs::read(found).map_err(|error| format!("`event`: cannot read {}: {error}", found.display()))?;
    serde_json::from_slice(&content).map_err(|error| format!("`event`: {} is no JSON: {error}", found.display()))
}

/// As a JSON merge patch does it (RFC 7396).
fn merge(value: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(object) = value else { return };
    for (key, part) in patch {
        if part.is_null() {
            object.shift_remove(key);
        } else {
            merge(object.entry(key.as_str()).or_insert(Value::Null), part);
        }
    }
}

/// A YAML document as JSON.
pub(in crate::cli::plugin) fn yaml(text: &str) -> Result<Value, String> {
    let documents = Yaml::load_from_str(text).map_err(|error| format!("this is no YAML: {error}"))?;
    match documents.as_slice() {
        [] => Ok(Value::Null),
        [document] => json(document),
        _ => Err("there are several documents; one is read".to_owned()),
    }
}

fn json(yaml: &Yaml<'_>) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(boolean)) => (*boolean).into(),
        Yaml::Value(Scalar::Integer(number)) => (*number).into(),
        Yaml::Value(Scalar::FloatingPoint(number)) => Number::from_f64(number.into_inner())
            .map(Value::Number)
            .ok_or("there is a number that JSON does not have")?,
        Yaml::Value(Scalar::String(text)) | Yaml::Representation(text, ..) => text.as_ref().into(),
        Yaml::Sequence(items) => Value::Array(items.iter().map(json).collect::<Result<_, _>>()?),
        Yaml::Mapping(members) => {
            let mut object = Map::with_capacity(members.len());
            for (key, value) in members {
                let key = match json(key)? {
                    Value::String(text) => text,
                    other @ (Value::Number(_) | Value::Bool(_) | Value::Null) => other.to_string(),
                    _ => return Err("a key is a list or an object, and has to be a text".to_owned()),
                };
                object.insert(key, json(value)?);
            }
            Value::Object(object)
        }
        Yaml::Tagged(_, value) => json(value)?,
        Yaml::Alias(_) | Yaml::BadValue => return Err("there is a value that cannot be read".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_becomes_json() {
        let text = "a: &x [1, 2.5, yes, true, null, ~, 2026-11-22T14:00:00Z]\nb: {c: *x, \"d\": 'e'}\n1: f\n";
        let expected = json!([1, 2.5, "yes", true, null, null, "2026-11-22T14:00:00Z"]);
        assert_eq!(
            yaml(text).unwrap(),
            json!({"a": expected, "b": {"c": expected, "d": "e"}, "1": "f"})
        );
        assert!(yaml("a: [").is_err());
    }

    #[test]
    fn a_patch_changes_and_removes() {
        let mut value = json!({"a": {"b": 1, "c": 2}, "d": 3});
        merge(
            &mut value,
            &json!({"a": {"b": null, "e": [1]}, "d": {"f": null, "g": 1}}),
        );
        assert_eq!(value, json!({"a": {"c": 2, "e": [1]}, "d": {"g": 1}}));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_with_the_case() {
        let check = |text: &str, expected: &str| {
            let problem = parse(text, Path::new("tests/x.yaml")).err().unwrap_or_default();
            assert!(problem.contains(expected), "{text}: {problem}");
        };
        check(
            "- name: a\n  event: {type: t}\n  expct: pass\n",
            "\"a\": unknown field `expct`",
        );
        check(
            "- name: a\n  event: {type: t}\n  expect: passes\n",
            "\"a\": `expect`: \"passes\"",
        );
        check("- name: a\n  expect: pass\n", "name an `event`");
        check(
            "- name: a\n  event: nowhere.json\n  expect: pass\n",
            "there is no file nowhere.json",
        );
        check("- name: a\n  event: {id: x}\n  expect: pass\n", "`type` is missing");
        check(
            "- name: a\n  events: [{type: t}]\n  expect: pass\n",
            "has to be one as well",
        );
        check("nonsense", "a file is a list of cases");
    }

    #[test]
    fn a_refused_configuration_may_be_what_is_expected() {
        let text = "- name: a\n  config: {b: 1}\n  expect: {refused: no number}\n";
        let cases = parse(text, Path::new("tests/x.yaml")).unwrap();
        assert!(cases[0].refused("/b: no number, please").is_empty());
        assert_eq!(cases[0].refused("/b: else").len(), 1);
        assert_eq!(cases[0].accepted().len(), 1);
    }
}
