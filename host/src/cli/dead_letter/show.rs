//! `distributor dead-letter show`.

use std::io::{self, Write};

use serde::de::IgnoredAny;

use super::{CommandError, ShowArguments, open};
use crate::config::Config;
use crate::dead_letter::{Entry, one_line, rfc3339};

const INDENT: &str = "  ";

pub(super) async fn run(arguments: &ShowArguments, config: &Config) -> Result<bool, CommandError> {
    let Some(archive) = open(config).await? else {
        return Ok(false);
    };
    let entry = archive.load(arguments.sequence).await?;
    let entry = entry.ok_or(CommandError::NoSuchSequence(arguments.sequence))?;
    let mut out = io::stdout().lock();
    if arguments.payload {
        out.write_all(&entry.letter.payload)?;
    } else if arguments.json {
        writeln!(out, "{}", entry.to_json_with_payload())?;
    } else {
        out.write_all(described(&entry).as_bytes())?;
    }
    out.flush()?;
    Ok(true)
}

fn described(entry: &Entry) -> String {
    let letter = &entry.letter;
    let or_none = |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned());
    let text = |text: &str| or_none(Some(one_line(text, 4096)));
    let optional = |text: &Option<String>| or_none(text.as_deref().map(|text| one_line(text, 4096)));
    let number = |number: Option<u64>| or_none(number.map(|number| number.to_string()));
    let kind = if letter.is_child {
        "made by a plugin; redriven as it is"
    } else {
        "original; redriven through the plugins"
    };
    let lines = [
        ("sequence", entry.sequence.to_string()),
        ("stored", rfc3339(entry.stored)),
        ("integration", text(&entry.integration)),
        ("reason", letter.reason.to_string()),
        ("status", number(letter.status.map(u64::from))),
        ("error", text(&letter.error)),
        ("attempts", letter.attempts.to_string()),
        ("first attempt", or_none(letter.first_attempt.map(rfc3339))),
        ("last attempt", or_none(letter.last_attempt.map(rfc3339))),
        ("event id", text(&letter.event_id)),
        ("event type", text(&letter.event_type)),
        ("keptn context", text(&letter.keptn_context)),
        ("subject", text(&letter.subject)),
        ("subscription", optional(&letter.subscription_id)),
        ("stream", optional(&letter.stream)),
        ("stream sequence", number(letter.sequence)),
        ("plugin", optional(&letter.plugin)),
        ("generation", letter.generation.to_string()),
        ("emission", letter.emission.to_string()),
        ("kind", kind.to_owned()),
        ("message id", optional(&letter.message_id)),
    ];
    let lines = lines.map(|(name, value)| format!("{name:<17}{value}\n")).concat();
    let bytes = letter.payload.len();
    match std::str::from_utf8(&letter.payload) {
        Err(_) => format!("{lines}\nevent ({bytes} bytes, not text; --payload prints them)\n"),
        Ok(event) if serde_json::from_str::<IgnoredAny>(event).is_ok() => {
            format!("{lines}\nevent ({bytes} bytes)\n{}\n", indented(event))
        }
        Ok(event) => {
            let shown: Vec<_> = event.lines().map(|line| one_line(line, usize::MAX)).collect();
            format!("{lines}\nevent ({bytes} bytes, not JSON)\n{}\n", shown.join("\n"))
        }
    }
}

/// JSON with line breaks and indentation, and otherwise as it is: a parser would round big numbers. Characters that
/// steer a terminal are shown by their number.
fn indented(json: &str) -> String {
    use std::fmt::Write;

    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0;
    let mut in_text = false;
    let mut is_escaped = false;
    let mut characters = json.chars().peekable();
    while let Some(c) = characters.next() {
        if in_text {
            if one_line(c.encode_utf8(&mut [0; 4]), 4).is_empty() && c != ' ' {
                write!(out, "\\u{:04x}", u32::from(c)).expect("writing to a String cannot fail");
            } else {
                out.push(c);
            }
            in_text = is_escaped || c != '"';
            is_escaped = !is_escaped && c == '\\';
            continue;
        }
        match c {
            ' ' | '\t' | '\r' | '\n' => {}
            '"' => {
                in_text = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                while characters.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = characters.next_if(|&c| c == '}' || c == ']') {
                    out.push(end);
                } else {
                    depth += 1;
                    break_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                break_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                break_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c => out.push(c),
        }
    }
    out
}

fn break_line(out: &mut String, depth: usize) {
    out.push('\n');
    for _ in 0..depth {
        out.push_str(INDENT);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn json_is_indented_and_otherwise_unchanged() {
        let json = r#"{"a":[1,{"b":"x, {y} \" \\"}],"big":123456789012345678901234567890,"e":{ },"f":[], "g" : null}"#;
        let expected = [
            "{",
            "  \"a\": [",
            "    1,",
            "    {",
            r#"      "b": "x, {y} \" \\""#,
            "    }",
            "  ],",
            "  \"big\": 123456789012345678901234567890,",
            "  \"e\": {},",
            "  \"f\": [],",
            "  \"g\": null",
            "}",
        ];
        assert_eq!(indented(json), expected.join("\n"));
    }

    #[test]
    fn what_steers_a_terminal_is_shown_by_number() {
        let json = "{\"a\":\"x\u{9b}2J\u{202e}y z\"}";
        let shown = indented(json);
        assert!(shown.contains(r#""x\u009b2J\u202ey z""#), "{shown:?}");
        let [original, shown]: [Value; 2] = [json, &shown].map(|text| serde_json::from_str(text).unwrap());
        assert_eq!(original, shown);
    }
}
