//! How results look to people: colour where it is wanted, progress where somebody waits, answers, sizes and differences
//! in words.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::log::Line;
use crate::event::Event;
use crate::plugins::workbench::Observation;
use crate::plugins::{Answer, PluginError, Published};

/// Characters of a value in a difference.
const MAX_SHOWN_VALUE: usize = 120;

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint {
    is_on: bool,
}

impl Paint {
    pub(super) fn new(is_on: bool) -> Self {
        Self { is_on }
    }

    pub(super) fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    pub(super) fn careful(self, text: &str) -> String {
        self.with("33", text)
    }

    pub(super) fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(super) fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.is_on {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// One line on standard error that says what takes so long, where a person looks at it.
#[derive(Debug)]
pub(super) struct Progress {
    is_on: bool,
}

impl Progress {
    pub(super) fn new(is_on: bool) -> Self {
        Self { is_on }
    }

    pub(super) fn show(&self, text: &str) {
        if self.is_on {
            self.write(&format!("\r\u{1b}[K{text} …"));
        }
    }

    pub(super) fn clear(&self) {
        if self.is_on {
            self.write("\r\u{1b}[K");
        }
    }

    #[expect(clippy::unused_self, reason = "only through it is known that somebody looks")]
    fn write(&self, text: &str) {
        let mut stderr = std::io::stderr().lock();
        // Nobody looks any more.
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }
}

/// A size, as people say it.
pub(super) fn size(bytes: usize) -> String {
    #[expect(clippy::cast_precision_loss, reason = "it is shown with three digits")]
    let number = bytes as f64;
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", number / 1024.0),
        _ => format!("{:.1} MiB", number / 1_048_576.0),
    }
}

/// A time, as people say it.
pub(super) fn time(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    if micros < 1000.0 {
        format!("{micros:.1} µs")
    } else if micros < 1e6 {
        format!("{:.1} ms", micros / 1e3)
    } else {
        format!("{:.2} s", micros / 1e6)
    }
}

/// A large number with its digits in groups.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The word for an answer, as captures have it.
pub(super) fn verdict(answer: &Result<Answer, Box<PluginError>>) -> &'static str {
    answer.as_ref().map_or("error", Answer::verdict)
}

/// An answer on one line.
pub(super) fn answer(answer: &Result<Answer, Box<PluginError>>) -> String {
    match answer {
        Ok(Answer::Drop(reason)) => format!("drop: {reason}"),
        Ok(Answer::Replace { forwarded, published }) => {
            let mut text = format!("replace: {} forwarded", forwarded.len());
            if !published.is_empty() {
                write!(text, ", {} published", published.len()).expect("writing to a String cannot fail");
            }
            text
        }
        Ok(Answer::NotCalled) => "not-called: it does not get events of this type".to_owned(),
        Ok(other) => other.verdict().to_owned(),
        Err(error) => format!("error: {}", failure(error)),
    }
}

/// A failure without the plugin and the event, which are known where it is shown.
pub(super) fn failure(error: &PluginError) -> String {
    let mut text = error.cause.to_string();
    if !error.output.is_empty() {
        write!(text, "; it printed: {}", error.output.join(" | ")).expect("writing to a String cannot fail");
    }
    if !error.frames.is_empty() {
        write!(text, "; in {}", error.frames.join(" < ")).expect("writing to a String cannot fail");
    }
    text
}

/// An event as JSON.
pub(super) fn event_json(event: &Event) -> Value {
    serde_json::from_slice(event.bytes()).unwrap_or_else(|_| String::from_utf8_lossy(event.bytes()).into())
}

/// What goes on and what is published, as JSON.
pub(super) fn events_of(answer: &Result<Answer, Box<PluginError>>) -> (Vec<Value>, Vec<Value>) {
    let Ok(Answer::Replace { forwarded, published }) = answer else {
        return (Vec::new(), Vec::new());
    };
    let published = published.iter().map(|Published { event, .. }| event_json(event));
    (forwarded.iter().map(event_json).collect(), published.collect())
}

/// An answer as JSON, in the words of captures.
pub(super) fn answer_json(answer: &Result<Answer, Box<PluginError>>) -> Value {
    let mut value = json!({"verdict": verdict(answer)});
    match answer {
        Ok(Answer::Drop(reason)) => value["reason"] = reason.as_str().into(),
        Ok(Answer::Replace { .. }) => {
            let (forwarded, published) = events_of(answer);
            value["forwarded"] = forwarded.into();
            value["published"] = published.into();
        }
        Ok(_) => {}
        Err(error) => {
            value["error"] = error.cause.to_string().into();
            value["printed"] = error.output.clone().into();
            value["frames"] = error.frames.clone().into();
        }
    }
    value
}

/// A call as JSON: the answer, and what it cost.
pub(super) fn observation_json(event: &Event, observation: &Observation, lines: &[Line]) -> Value {
    let mut value = answer_json(&observation.answer);
    value["event_id"] = event.id().into();
    value["event_type"] = event.ty().into();
    value["micros"] = json!(observation.elapsed.as_secs_f64() * 1e6);
    value["memory_bytes"] = observation.memory_bytes.into();
    if let Some(fuel) = observation.fuel {
        value["fuel"] = fuel.into();
    }
    value["log"] = lines.iter().map(Line::to_json).collect();
    value
}

/// What is different in a JSON value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    /// As JSON pointer.
    pub(super) pointer: String,
    pub(super) before: Option<Value>,
    pub(super) after: Option<Value>,
}

/// Everything that is different, in the order of the members.
pub(super) fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    compare(before, after, "", &mut found);
    found
}

fn compare(before: &Value, after: &Value, pointer: &str, found: &mut Vec<Change>) {
    let below = |key: &str| format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
    let one_sided = |pointer: String, before: Option<&Value>, after: Option<&Value>| Change {
        pointer,
        before: before.cloned(),
        after: after.cloned(),
    };
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in old {
                match new.get(key) {
                    Some(other) => compare(value, other, &below(key), found),
                    None => found.push(one_sided(below(key), Some(value), None)),
                }
            }
            let added = new.iter().filter(|(key, _)| !old.contains_key(*key));
            found.extend(added.map(|(key, value)| one_sided(below(key), None, Some(value))));
        }
        (Value::Array(old), Value::Array(new)) => {
            for index in 0..old.len().max(new.len()) {
                match (old.get(index), new.get(index)) {
                    (Some(old), Some(new)) => compare(old, new, &below(&index.to_string()), found),
                    (old, new) => found.push(one_sided(below(&index.to_string()), old, new)),
                }
            }
        }
        _ if before == after => {}
        _ => found.push(one_sided(pointer.to_owned(), Some(before), Some(after))),
    }
}

/// Differences as lines that begin with `-` and `+`.
pub(super) fn diff_lines(changes: &[Change], indent: &str, paint: Paint) -> String {
    let mut text = String::new();
    for Change { pointer, before, after } in changes {
        let pointer = if pointer.is_empty() { "(all)" } else { pointer };
        if let Some(value) = before {
            let line = format!("- {pointer}: {}", short(value));
            writeln!(text, "{indent}{}", paint.bad(&line)).expect("writing to a String cannot fail");
        }
        if let Some(value) = after {
            let line = format!("+ {pointer}: {}", short(value));
            writeln!(text, "{indent}{}", paint.good(&line)).expect("writing to a String cannot fail");
        }
    }
    text
}

/// JSON on one line of bounded length; it comes from plugins and events, so nothing in it may steer a terminal.
pub(super) fn short(value: &Value) -> String {
    let text = value.to_string();
    let mut line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MAX_SHOWN_VALUE)
        .collect();
    if line.len() < text.len() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_found_at_their_places() {
        let check = |before: Value, after: Value, expected: &[&str]| {
            let lines = diff_lines(&changes(&before, &after), "", Paint::new(false));
            assert_eq!(lines.lines().collect::<Vec<_>>(), expected, "{before} {after}");
        };
        check(json!({"a": 1}), json!({"a": 1}), &[]);
        check(
            json!({"a": 1, "b": {"c": [1, 2]}}),
            json!({"b": {"c": [1, 3, 4]}, "d": null}),
            &["- /a: 1", "- /b/c/1: 2", "+ /b/c/1: 3", "+ /b/c/2: 4", "+ /d: null"],
        );
        check(json!({"a/b": 1}), json!([]), &["- (all): {\"a/b\":1}", "+ (all): []"]);
        check(
            json!({"a/b~": 1}),
            json!({"a/b~": 2}),
            &["- /a~1b~0: 1", "+ /a~1b~0: 2"],
        );
    }

    #[test]
    fn numbers_are_shown_as_people_say_them() {
        assert_eq!(
            ["0", "12", "123", "1,234", "1,234,567"],
            [0, 12, 123, 1234, 1_234_567]
                .map(grouped)
                .each_ref()
                .map(String::as_str)
        );
        assert_eq!([size(12), size(2048), size(3 << 20)], ["12 B", "2.0 KiB", "3.0 MiB"]);
        let times = [1_500, 2_500_000, 3_000_000_000].map(Duration::from_nanos).map(time);
        assert_eq!(times, ["1.5 µs", "2.5 ms", "3.00 s"]);
    }

    #[test]
    fn colour_is_there_only_when_it_is_wanted() {
        assert_eq!(Paint::new(false).bad("x"), "x");
        assert_eq!(Paint::new(true).bad("x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
