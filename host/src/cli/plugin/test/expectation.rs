//! What a plugin is expected to say of an event, and how that differs from what it says.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::log::Line;
use super::super::shown::{self, Change, Paint, diff_lines, short};
use crate::event::Event;
use crate::plugins::{Answer, PluginError};

const VERDICTS: [&str; 6] = ["pass", "drop", "keep", "replace", "error", "not-called"];

/// What is expected. What is not said may be anything.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expectation {
    verdict: Option<String>,
    /// Text in the reason of a drop.
    reason: Option<String>,
    /// Text in the message of a failure.
    error: Option<String>,
    /// How many events go on, or what they have to have in them.
    forwarded: Option<Value>,
    /// The same of events that are published.
    published: Option<Value>,
    /// Texts in lines that the plugin logs or prints.
    #[serde(default)]
    log: Vec<String>,
}

/// Something that is not as expected.
#[derive(Debug)]
pub(super) struct Mismatch {
    /// Of what.
    subject: String,
    changes: Vec<Change>,
}

impl Mismatch {
    /// Two texts that are not the same.
    pub(super) fn text(subject: &str, expected: &str, actual: &str) -> Self {
        Self {
            subject: subject.to_owned(),
            changes: vec![Change {
                pointer: String::new(),
                before: Some(expected.into()),
                after: Some(actual.into()),
            }],
        }
    }

    /// The same with more words before it.
    pub(super) fn of(self, prefix: &str) -> Self {
        Self {
            subject: format!("{prefix}{}", self.subject),
            ..self
        }
    }

    pub(super) fn shown(&self, paint: Paint) -> String {
        format!(
            "  {} (- expected, + actual)\n{}",
            self.subject,
            diff_lines(&self.changes, "    ", paint)
        )
    }

    pub(super) fn to_json(&self) -> Value {
        let changes = self
            .changes
            .iter()
            .map(|change| json!({"pointer": change.pointer, "expected": change.before, "actual": change.after}));
        json!({"subject": self.subject, "differences": changes.collect::<Vec<_>>()})
    }
}

impl Expectation {
    pub(super) fn read(written: &Value) -> Result<Self, String> {
        let expectation = match written {
            Value::String(verdict) => Self {
                verdict: Some(verdict.clone()),
                ..Self::default()
            },
            Value::Object(_) => {
                serde_json::from_value(written.clone()).map_err(|error| format!("`expect`: {error}"))?
            }
            _ => return Err("`expect` is neither a word nor an object".to_owned()),
        };
        if let Some(verdict) = &expectation.verdict
            && !VERDICTS.contains(&verdict.as_str())
        {
            return Err(format!(
                "`expect`: {verdict:?} is none of {}, refused",
                VERDICTS.join(", ")
            ));
        }
        for events in [&expectation.forwarded, &expectation.published].into_iter().flatten() {
            if !(events.is_u64() || events.is_array()) {
                return Err(format!(
                    "`expect`: {} is neither a number of events nor a list of what is in them",
                    short(events)
                ));
            }
        }
        Ok(expectation)
    }

    /// The verdict that the other expectations come to.
    fn verdict(&self) -> Option<&str> {
        let implied = match self {
            Self { reason: Some(_), .. } => Some("drop"),
            Self { error: Some(_), .. } => Some("error"),
            Self {
                forwarded: None,
                published: None,
                ..
            } => None,
            _ => Some("replace"),
        };
        self.verdict.as_deref().or(implied)
    }

    /// Everything that is not as expected.
    pub(super) fn compare(
        &self,
        event: &Event,
        answer: &Result<Answer, Box<PluginError>>,
        lines: &[Line],
    ) -> Vec<Mismatch> {
        let mut found = Vec::new();
        let actual = shown::verdict(answer);
        if let Some(expected) = self.verdict()
            && expected != actual
        {
            let said = format!("{} (event {})", shown::answer(answer), event.id());
            found.push(Mismatch::text("verdict", expected, &said));
            return found;
        }
        if let (Some(expected), Ok(Answer::Drop(reason))) = (&self.reason, answer)
            && !reason.contains(expected.as_str())
        {
            found.push(Mismatch::text("reason", expected, reason));
        }
        if let (Some(expected), Err(error)) = (&self.error, answer) {
            let message = shown::failure(error);
            if !message.contains(expected.as_str()) {
                found.push(Mismatch::text("error", expected, &message));
            }
        }
        let (forwarded, published) = shown::events_of(answer);
        found.extend(
            self.forwarded
                .iter()
                .flat_map(|expected| events("forwarded", expected, &forwarded)),
        );
        found.extend(
            self.published
                .iter()
                .flat_map(|expected| events("published", expected, &published)),
        );
        for expected in &self.log {
            if !lines.iter().any(|line| line.shown().contains(expected.as_str())) {
                let lines: Vec<_> = lines.iter().map(Line::shown).collect();
                found.push(Mismatch::text("log", expected, &lines.join(" | ")));
            }
        }
        found
    }
}

fn events(subject: &str, expected: &Value, actual: &[Value]) -> Vec<Mismatch> {
    let parts = match expected {
        Value::Array(parts) => parts.as_slice(),
        number if number.as_u64() == Some(actual.len() as u64) => return Vec::new(),
        number => {
            return vec![Mismatch::text(
                subject,
                &format!("{number} events"),
                &format!("{} events", actual.len()),
            )];
        }
    };
    if parts.len() != actual.len() {
        return vec![Mismatch::text(
            subject,
            &format!("{} events", parts.len()),
            &format!("{} events: {}", actual.len(), short(&actual.into())),
        )];
    }
    let pairs = parts.iter().zip(actual).enumerate();
    let mismatches = pairs.filter_map(|(position, (expected, actual))| {
        let mut changes = Vec::new();
        compare_part(expected, Some(actual), "", &mut changes);
        (!changes.is_empty()).then(|| Mismatch {
            subject: format!("{subject} {}", position + 1),
            changes,
        })
    });
    mismatches.collect()
}

/// Members that are not named may be there; lists have to have as many items. Null: it must not be there.
fn compare_part(expected: &Value, actual: Option<&Value>, pointer: &str, found: &mut Vec<Change>) {
    let below = |key: &str| format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
    match (expected, actual) {
        (Value::Null, None | Some(Value::Null)) => {}
        (Value::Object(parts), Some(Value::Object(members))) => {
            for (key, part) in parts {
                compare_part(part, members.get(key), &below(key), found);
            }
        }
        (Value::Array(parts), Some(Value::Array(items))) if parts.len() == items.len() => {
            for (index, (part, item)) in parts.iter().zip(items).enumerate() {
                compare_part(part, Some(item), &below(&index.to_string()), found);
            }
        }
        (expected, Some(actual)) if expected == actual => {}
        _ => found.push(Change {
            pointer: pointer.to_owned(),
            before: Some(expected.clone()),
            after: actual.cloned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_compared_and_nothing_else() {
        let check = |expected: Value, actual: Value, n_changes: usize| {
            let mut changes = Vec::new();
            compare_part(&expected, Some(&actual), "", &mut changes);
            assert_eq!(changes.len(), n_changes, "{expected} {actual}: {changes:?}");
        };
        check(json!({"a": 1}), json!({"a": 1, "b": 2}), 0);
        check(json!({"a": null, "b": {"c": "x"}}), json!({"b": {"c": "x", "d": 1}}), 0);
        check(json!({"a": null}), json!({"a": 1}), 1);
        check(json!({"a": [1, {"b": 2}]}), json!({"a": [1, {"b": 2, "c": 3}]}), 0);
        check(json!({"a": [1]}), json!({"a": [1, 2]}), 1);
        check(json!({"a": 1, "b": 2}), json!({"a": 2}), 2);
    }

    #[test]
    fn details_imply_the_verdict() {
        let verdict = |written: Value| Expectation::read(&written).unwrap().verdict().map(str::to_owned);
        assert_eq!(verdict(json!("keep")).as_deref(), Some("keep"));
        assert_eq!(verdict(json!({"reason": "x"})).as_deref(), Some("drop"));
        assert_eq!(verdict(json!({"error": "x"})).as_deref(), Some("error"));
        assert_eq!(verdict(json!({"published": 1})).as_deref(), Some("replace"));
        assert_eq!(verdict(json!({"log": ["x"]})), None);
    }
}
