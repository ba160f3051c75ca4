//! What the distributor's log says about events.
//!
//! Called by `path`. It must not know where the lines come from, and it decides nothing: a line that is not about an
//! event is left out, every other one can be taken once.

use test_support::Output;

/// What one line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A plugin did not want it.
    Dropped { plugin: String, reason: String },
    /// It is a dead letter now. No attempt: it was not for the service to refuse it.
    GivenUp {
        reason: String,
        attempt: u64,
        error: String,
    },
    /// The service has it.
    Delivered { attempt: u64, status: u64 },
    /// The service did not take it, and is asked again.
    Retried { attempt: u64, error: String },
    /// It is kept nowhere, or nobody wants it, for the reason in the line.
    Lost { line: String },
}

#[derive(Clone, Debug)]
struct Line {
    /// What stands behind the message: `event_id=…` comes first, where the line has one.
    fields: String,
    entry: Entry,
}

/// The lines about events, read as they come.
#[derive(Debug)]
pub(crate) struct Log {
    output: Output,
    n_read: usize,
    lines: Vec<Line>,
}

impl Log {
    /// Reads what this process prints.
    pub(crate) fn new(output: Output) -> Self {
        Self {
            output,
            n_read: 0,
            lines: Vec::new(),
        }
    }

    /// Takes the first line about the event with this id, or about a message on this subject that is no event and so
    /// has no id.
    pub(crate) fn take(&mut self, id: Option<&str>, subject: &str) -> Option<Entry> {
        self.read();
        let index = self.lines.iter().position(|line| {
            id.is_some_and(|id| is_about(&line.fields, id))
                || (is_about(&line.fields, "") && field(&line.fields, "subject").is_some_and(|value| value == subject))
        })?;
        Some(self.lines.remove(index).entry)
    }

    /// Lines that were not taken.
    pub(crate) fn n_left(&mut self) -> usize {
        self.read();
        self.lines.len()
    }

    fn read(&mut self) {
        let lines = self.output.lines();
        let new = lines[self.n_read..].iter();
        self.lines.extend(new.filter_map(|line| parse(&line.text)));
        self.n_read = lines.len();
    }
}

/// `<time> <LEVEL> <message> <name>=<value> …`
fn parse(line: &str) -> Option<Line> {
    let (_time, rest) = line.split_once(' ')?;
    let (_level, rest) = rest.trim_start().split_once(' ')?;
    let behind = |message: &str| rest.strip_prefix(message)?.strip_prefix(' ');
    let number = |fields: &str, name: &str| field(fields, name)?.parse().ok();
    let text = |fields: &str, name: &str| field(fields, name).unwrap_or_default();
    let (fields, entry) = if let Some(fields) = behind("dropped by a plugin") {
        let (plugin, reason) = (text(fields, "plugin"), text(fields, "reason"));
        (fields, Entry::Dropped { plugin, reason })
    } else if let Some(fields) = behind("not delivered; the event is in the dead letters") {
        let (reason, attempt, error) = (
            text(fields, "reason"),
            number(fields, "attempt")?,
            text(fields, "error"),
        );
        (fields, Entry::GivenUp { reason, attempt, error })
    } else if let Some(fields) = behind("delivered") {
        let (attempt, status) = (number(fields, "attempt")?, number(fields, "status")?);
        (fields, Entry::Delivered { attempt, status })
    } else if let Some(fields) = behind("delivery failed; trying again") {
        let (attempt, error) = (number(fields, "attempt")?, text(fields, "error"));
        (fields, Entry::Retried { attempt, error })
    } else {
        let fields = behind("dead letter; the event is kept nowhere")
            .or_else(|| behind("cannot store a dead letter; the event is held back"))
            .or_else(|| behind("delivered; the service works on it, but did not answer in time"))
            .or_else(|| behind("nobody wants this event; dropped"))?;
        (fields, Entry::Lost { line: rest.to_owned() })
    };
    Some(Line {
        fields: fields.to_owned(),
        entry,
    })
}

fn is_about(fields: &str, id: &str) -> bool {
    field(fields, "event_id").is_some_and(|found| found == id)
}

/// The value behind `name=`: a quoted text, or everything up to the next ` name=`.
fn field(fields: &str, name: &str) -> Option<String> {
    let start = fields.match_indices(name).find_map(|(index, _)| {
        let is_start = index == 0 || fields[..index].ends_with(' ');
        let value = fields[index + name.len()..].strip_prefix('=')?;
        is_start.then_some(value)
    })?;
    if start.starts_with('"') {
        return unquoted(start);
    }
    let mut end = 0;
    for word in start.split_inclusive(' ') {
        if end > 0 && word.split_once('=').is_some_and(|(name, _)| is_name(name)) {
            break;
        }
        end += word.len();
    }
    Some(start[..end].trim_end().to_owned())
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// The text in quotes, with `\"` and the like resolved.
fn unquoted(quoted: &str) -> Option<String> {
    let mut text = String::new();
    let mut characters = quoted.chars().skip(1);
    loop {
        match characters.next()? {
            '"' => return Some(text),
            '\\' => match characters.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, id: &str, expected: Option<&Entry>) {
        let found = parse(line).filter(|line| is_about(&line.fields, id));
        assert_eq!(found.as_ref().map(|line| &line.entry), expected, "{line}");
    }

    #[test]
    fn lines_about_an_event_are_read() {
        check(
            concat!(
                "2026-11-22T17:25:59.904071Z DEBUG dropped by a plugin event_id=\"a\" event_type=\"t\" plugin=keptn-filter ",
                r#"reason="project \"podtato\" is not one of sockshop" generation=1"#
            ),
            "a",
            Some(&Entry::Dropped {
                plugin: "keptn-filter".to_owned(),
                reason: "project \"podtato\" is not one of sockshop".to_owned(),
            }),
        );
        check(
            concat!(
                "2026-11-22T17:25:59.926076Z  WARN delivery failed; trying again event_id=\"b c\" event_type=\"t\" ",
                "subscription_id=\"\" attempt=1 error=the service answered 503 next_attempt_ms=369"
            ),
            "b c",
            Some(&Entry::Retried {
                attempt: 1,
                error: "the service answered 503".to_owned(),
            }),
        );
        check(
            concat!(
                "2026-11-22T17:25:59.926159Z ERROR not delivered; the event is in the dead letters event_id=\"a\" ",
                "event_type=\"t\" subject=\"t\" attempt=3 reason=\"retries_exhausted\" error=\"answered 500\""
            ),
            "a",
            Some(&Entry::GivenUp {
                reason: "retries_exhausted".to_owned(),
                attempt: 3,
                error: "answered 500".to_owned(),
            }),
        );
        check(
            "2026-11-22T17:25:59.926159Z  INFO delivered event_id=\"ab\" event_type=\"t\" status=200 attempt=2",
            "a",
            None,
        );
        check(
            "2026-11-22T17:25:59.926159Z  INFO forwarded event_id=\"a\" event_type=\"t\"",
            "a",
            None,
        );
    }
}
