//! The status as lines for people.

use std::fmt::Write;

use serde_json::Value;

use crate::dead_letter::one_line;
use crate::status::{Figure, Level, Status, moment, number, seconds};

/// Events that are listed.
const MAX_RETRYING: usize = 10;
/// Reloads that are listed.
const MAX_RELOADS: usize = 5;
const MAX_TEXT_BYTES: usize = 1024;

/// What the status page shows, but for single events that are done.
pub(super) fn text(status: &Status) -> String {
    let mut out = String::new();
    for finding in &status.findings {
        let word = match finding.level {
            Level::Ok => "OK",
            Level::Note => "NOTE",
            Level::Attention => "ATTENTION",
            Level::Stuck => "STUCK",
        };
        line(&mut out, format_args!("{word:<10} {}", plain(&finding.title)));
        line(&mut out, format_args!("{:<10} {}", "", plain(&finding.advice)));
    }
    let uptime = humantime::format_duration(std::time::Duration::from_secs(status.uptime_seconds));
    let integration = plain(&status.integration);
    line(
        &mut out,
        format_args!(
            "\ndistributor {} of {integration}, up for {uptime}",
            plain(&status.version)
        ),
    );
    flow(&mut out, status);
    connections(&mut out, status);
    retrying(&mut out, status);
    plugins(&mut out, status);
    subscriptions(&mut out, status);
    out
}

fn flow(out: &mut String, status: &Status) {
    line(out, format_args!("\n{:<16}{:>14}{:>12}", "FLOW", "TOTAL", "PER SECOND"));
    let flow = &status.flow;
    let figures = [
        ("received", flow.received),
        ("unmatched", flow.unmatched),
        ("filtered", flow.filtered),
        ("delivered", flow.delivered),
        ("retried", flow.retried),
        ("dead-lettered", flow.dead_lettered),
        ("lost", flow.lost),
        ("forwarded", flow.forwarded),
    ];
    for (name, Figure { total, per_second }) in figures {
        line(out, format_args!("{name:<16}{:>14}{per_second:>12.1}", number(total)));
    }
    let in_flight = status.in_flight;
    line(
        out,
        format_args!(
            "in flight: {} ({} being delivered, {} in the queue, {} retrying)",
            in_flight.total, in_flight.delivering, in_flight.queued, in_flight.retrying
        ),
    );
    let letters = &status.dead_letters;
    let total = letters.total.map_or_else(|| "not known".to_owned(), number);
    let reasons = letters
        .by_reason
        .iter()
        .map(|(reason, n)| format!(", {} {reason}", number(*n)));
    let reasons: String = reasons.collect();
    line(
        out,
        format_args!("dead letters: {total}{} in {}", plain(&reasons), plain(&letters.place)),
    );
}

fn connections(out: &mut String, status: &Status) {
    line(
        out,
        format_args!("\n{:<16}{:<7}{:<42}{}", "CONNECTION", "STATE", "ADDRESS", "SINCE"),
    );
    for connection in &status.connections {
        let state = if connection.is_up { "up" } else { "DOWN" };
        let since = connection.since.as_deref().map(|since| moment(since, &status.time));
        let since = since.unwrap_or_else(|| "the start".to_owned());
        let detail = if connection.detail.is_empty() {
            String::new()
        } else {
            format!(": {}", plain(&connection.detail))
        };
        let (name, address) = (plain(&connection.name), plain(&connection.address));
        line(
            out,
            format_args!("{name:<16}{state:<7}{address:<41} {}{detail}", plain(&since)),
        );
    }
    for stream in &status.streams {
        let known = |n: Option<u64>| n.map_or_else(|| "?".to_owned(), number);
        line(
            out,
            format_args!(
                "stream {}: {} waiting, {} handed out and not settled",
                plain(&stream.stream),
                known(stream.waiting),
                known(stream.unsettled)
            ),
        );
    }
}

fn retrying(out: &mut String, status: &Status) {
    if status.retrying.is_empty() {
        return;
    }
    line(out, format_args!("\nRETRYING"));
    for retrying in status.retrying.iter().take(MAX_RETRYING) {
        line(
            out,
            format_args!(
                "in {}: {} {}, {} attempts, {} behind it: {}",
                seconds(retrying.next_attempt_in_seconds),
                plain(&retrying.names.ty),
                plain(&retrying.names.id),
                retrying.attempts,
                retrying.n_behind,
                plain(&retrying.error)
            ),
        );
    }
    let n_others = status.in_flight.retrying.saturating_sub(MAX_RETRYING);
    if n_others > 0 {
        line(out, format_args!("and {n_others} others"));
    }
}

fn plugins(out: &mut String, status: &Status) {
    let plugins = &status.plugins;
    let since = moment(text_of(&plugins["since"]), &status.time);
    line(
        out,
        format_args!(
            "\nPLUGINS, generation {} since {}",
            plugins["generation"],
            plain(&since)
        ),
    );
    for plugin in plugins["plugins"].as_array().into_iter().flatten() {
        let digest = text_of(&plugin["digest"]);
        let latency = plugin["latency"]["mean_micros"].as_f64();
        line(
            out,
            format_args!(
                "{:<24}{:<10}{:<9}{:<10}{:<14}sha256 {}",
                plain(text_of(&plugin["name"])),
                plain(text_of(&plugin["version"])),
                plain(text_of(&plugin["mode"])),
                if plugin["health"]["breaker"] == "closed" {
                    "works"
                } else {
                    "RESTING"
                },
                latency.map_or_else(String::new, |micros| format!("{micros:.1} µs")),
                plain(digest.get(..12).unwrap_or(digest))
            ),
        );
    }
    for reload in plugins["history"].as_array().into_iter().flatten().take(MAX_RELOADS) {
        let at = moment(text_of(&reload["at"]), &status.time);
        let (trigger, result) = (plain(text_of(&reload["trigger"])), plain(text_of(&reload["result"])));
        line(
            out,
            format_args!(
                "{} {trigger}: {result}, generation {}",
                plain(&at),
                reload["generation"]
            ),
        );
        for problem in reload["problems"].as_array().into_iter().flatten() {
            line(out, format_args!("  {}", plain(text_of(problem))));
        }
    }
}

fn subscriptions(out: &mut String, status: &Status) {
    line(out, format_args!("\nSUBSCRIPTIONS"));
    for subscription in &status.subscriptions {
        line(
            out,
            format_args!(
                "{} from {}",
                plain(&subscription.event),
                plain(&subscription.received_from)
            ),
        );
    }
}

fn line(out: &mut String, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("writing to a String cannot fail");
    out.push('\n');
}

/// What comes from events and plugins must not steer the terminal.
fn plain(text: &str) -> String {
    one_line(text, MAX_TEXT_BYTES)
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Finding, Retrying};

    #[test]
    fn the_sentence_is_first_and_nothing_steers_the_terminal() {
        let mut status = Status {
            findings: vec![Finding {
                level: Level::Stuck,
                title: "Held back".to_owned(),
                advice: "Look there.".to_owned(),
            }],
            ..Status::default()
        };
        status.retrying.push(Retrying {
            error: "\x1b[2J\nanswered 503".to_owned(),
            ..Retrying::default()
        });
        let text = text(&status);
        assert!(
            text.starts_with("STUCK      Held back\n           Look there.\n"),
            "{text}"
        );
        assert!(
            text.contains("[2J answered 503\n") && !text.contains('\x1b'),
            "{text:?}"
        );
    }
}
