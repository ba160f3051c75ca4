//! Puts it on the screen: at most 100 columns, in colour only where somebody looks.
//!
//! Called by `path`, the acts and `main`. It must not know where the facts come from. Text from outside is shown without control
//! characters, which could otherwise change what the terminal shows.

use std::io::{self, IsTerminal, Write};

use serde_json::Value;
use tokio::time::Instant;

use crate::service::Attempt;
use crate::tally::{Counters, Tally};
use crate::watch::Message;

const WIDTH: usize = 100;
/// Width of what stands left of the time.
const WIDTH_BEFORE_TIME: usize = WIDTH - "  +1000.0 ms".len();

/// What a step means at first sight.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Colour {
    /// Well.
    Green,
    /// As somebody wants it.
    Yellow,
    /// Not well.
    Red,
    /// By the way.
    Blue,
}

/// Writes to standard output.
#[derive(Debug)]
pub(crate) struct Show {
    out: io::Stdout,
    is_coloured: bool,
}

impl Show {
    /// In colour when standard output is a terminal and the variable `NO_COLOR` does not ask for none.
    pub(crate) fn new() -> Self {
        let out = io::stdout();
        #[expect(clippy::disallowed_methods, reason = "how it looks, not what it does")]
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_coloured = out.is_terminal() && !no_colour;
        Self { out, is_coloured }
    }

    /// Lines of explanation, cut where they are too long.
    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        for line in text.split('\n') {
            writeln!(self.out, "{}", fit(line, WIDTH).trim_end())?;
        }
        Ok(())
    }

    /// A headline.
    pub(crate) fn headline(&mut self, text: &str) -> io::Result<()> {
        let headline = self.bold(text);
        writeln!(self.out, "{headline}")
    }

    /// An empty line.
    pub(crate) fn gap(&mut self) -> io::Result<()> {
        writeln!(self.out)
    }

    /// The first line of each message: where it came, and what it is about.
    pub(crate) fn came_in(&mut self, number: u64, message: &Message) -> io::Result<()> {
        let subject = self.bold(&fit(&message.subject, 44));
        if message.id().is_none() {
            let text = String::from_utf8_lossy(&message.payload);
            let about = fit(&format!("{} bytes: {text}", message.payload.len()), 48);
            return writeln!(self.out, "{number:>3} {subject} {}", about.trim_end());
        }
        let data = &message.event["data"];
        let about = ["project", "stage", "service"]
            .map(|member| brief(&data[member]))
            .join(" / ");
        let context: String = brief(&message.event["shkeptncontext"]).chars().take(8).collect();
        writeln!(self.out, "{number:>3} {subject} {} context {context}", fit(&about, 33))
    }

    /// A plugin did not want it.
    pub(crate) fn dropped(&mut self, plugin: &str, reason: &str) -> io::Result<()> {
        self.step(Colour::Yellow, "filtered", &format!("by {plugin}: {reason}"), None)
    }

    /// It is no event.
    pub(crate) fn malformed(&mut self, error: &str) -> io::Result<()> {
        self.step(Colour::Red, "refused", &format!("now a dead letter: {error}"), None)
    }

    /// It is not tried again.
    pub(crate) fn given_up(
        &mut self,
        message: &Message,
        attempt: u64,
        reason: &str,
        error: &str,
        requested: Option<&Attempt>,
    ) -> io::Result<()> {
        let answer = requested.map_or_else(|| error.to_owned(), |request| format!("answered {}", request.status));
        let since = requested.map(|request| (message.since, request.arrived));
        let text = format!("attempt {attempt}: {answer}; now a dead letter ({reason})");
        self.step(Colour::Red, "given up", &text, since)
    }

    /// A command that somebody could have typed.
    pub(crate) fn command(&mut self, command: &str) -> io::Result<()> {
        let command = self.bold(&format!("$ {command}"));
        writeln!(self.out, "{command}")
    }

    /// What it said in sentences, broken where lines are too long.
    pub(crate) fn sentences(&mut self, text: &str) -> io::Result<()> {
        for line in text.lines() {
            let mut row = String::new();
            for word in line.split(' ') {
                if !row.is_empty() && row.chars().count() + 1 + word.chars().count() > WIDTH {
                    self.text(&std::mem::take(&mut row))?;
                }
                if !row.is_empty() {
                    row.push(' ');
                }
                row.push_str(word);
            }
            self.text(&row)?;
        }
        Ok(())
    }

    /// Nobody listens for it.
    pub(crate) fn unheard(&mut self) -> io::Result<()> {
        let text = "PUBSUB_TOPIC does not match this type: the distributor did not get it";
        self.step(Colour::Blue, "not heard", text, None)
    }

    /// The service did not take it, and is asked again.
    pub(crate) fn retried(
        &mut self,
        message: &Message,
        attempt: u64,
        error: &str,
        requested: Option<&Attempt>,
    ) -> io::Result<()> {
        let answer = requested.map_or_else(|| error.to_owned(), |request| format!("answered {}", request.status));
        let since = requested.map(|request| (message.since, request.arrived));
        let text = format!("attempt {attempt}: {answer}; tried again");
        self.step(Colour::Red, "not taken", &text, since)
    }

    /// The service has it.
    pub(crate) fn delivered(&mut self, message: &Message, request: &Attempt) -> io::Result<()> {
        let text = format!("attempt {}: answered {}", request.number, request.status);
        let since = Some((message.since, request.arrived));
        self.step(Colour::Green, "delivered", &text, since)
    }

    /// An answer of the service was seen on NATS.
    pub(crate) fn came_back(&mut self, message: &Message, answer: &Message) -> io::Result<()> {
        let data = &answer.event["data"];
        let mut outcome = brief(&data["status"]);
        if !data["result"].is_null() {
            outcome = format!("{outcome}, {}", brief(&data["result"]));
        }
        let text = format!("{} {outcome}", fit(&answer.subject, 38));
        self.step(Colour::Green, "came back", &text, Some((message.since, answer.since)))
    }

    /// It could not be followed to its end.
    pub(crate) fn unclear(&mut self, error: &str) -> io::Result<()> {
        self.step(Colour::Red, "unclear", error, None)?;
        self.gap()
    }

    /// The table at the end.
    pub(crate) fn summary(&mut self, tally: &Tally, n_sent: u64, counters: Option<&Counters>) -> io::Result<()> {
        self.headline("Summary")?;
        let heading = if counters.is_some() {
            "counted by the distributor"
        } else {
            ""
        };
        writeln!(
            self.out,
            "{}",
            format!("  {:<56}{:>6}   {heading}", "", "seen").trim_end()
        )?;
        let mut row = |name: &str, seen: u64, counter: &str| {
            let counted = counters.and_then(|counters| counters.get(counter));
            let counted = counted
                .map(|counted| format!("{counter} {counted}"))
                .unwrap_or_default();
            let line = format!("  {} {seen:>5}   {counted}", fit(name, 56));
            writeln!(self.out, "{}", line.trim_end())
        };
        row("published to NATS", tally.published, "")?;
        row("  of a type that nobody listens for", tally.unheard, "")?;
        row("  received by the distributor", tally.received(), "received")?;
        row("    not an event", tally.malformed, "malformed")?;
        row("    given up", tally.given_up, "")?;
        row(
            "      dead letters in all",
            tally.given_up + tally.malformed,
            "dead_lettered",
        )?;
        row("      delivered by a redrive", tally.redriven, "")?;
        row("    filtered", tally.n_dropped(), "dropped")?;
        for (reason, n) in &tally.dropped {
            row(&format!("      {reason}"), *n, "")?;
        }
        row("    delivered to the service", tally.delivered, "delivered")?;
        row("      attempts that failed before", tally.retried, "retried")?;
        row("sent by the service, confirmed by the distributor", n_sent, "forwarded")?;
        row("  seen on NATS: .started", tally.n_answers("started"), "")?;
        row("  seen on NATS: .finished", tally.n_answers("finished"), "")?;
        row("  seen on NATS: its own report", tally.reports, "")?;
        self.gap()
    }

    /// The numbers add up.
    pub(crate) fn adds_up(&mut self, tally: &Tally) -> io::Result<()> {
        let verdict = self.coloured(Colour::Green, "It adds up:");
        let (published, delivered, given_up) = (tally.published, tally.delivered, tally.given_up);
        writeln!(
            self.out,
            "{verdict} {published} published = {delivered} delivered + {} filtered + {} not an event + {} not heard + \
             {given_up} given up,",
            tally.n_dropped(),
            tally.malformed,
            tally.unheard
        )?;
        self.text(&format!(
            "and of the {given_up} given up {} were redriven. Each of the {} that the service took came back as\n\
             started and as finished. Nothing is lost, and nothing came twice.",
            tally.redriven,
            delivered + tally.redriven
        ))
    }

    /// They do not.
    pub(crate) fn does_not_add_up(&mut self, problems: &[String]) -> io::Result<()> {
        let verdict = self.coloured(Colour::Red, "It does not add up:");
        writeln!(self.out, "{verdict}")?;
        for problem in problems {
            self.text(&format!("  {problem}"))?;
        }
        Ok(())
    }

    /// Something that happened, and how long after what.
    pub(crate) fn step(
        &mut self,
        colour: Colour,
        label: &str,
        text: &str,
        since: Option<(Instant, Instant)>,
    ) -> io::Result<()> {
        let label = self.coloured(colour, &fit(label, 11));
        let Some((from, to)) = since else {
            let text = fit(text, WIDTH - 16);
            return writeln!(self.out, "    {label} {}", text.trim_end());
        };
        let milliseconds = to.saturating_duration_since(from).as_secs_f64() * 1000.0;
        let text = fit(text, WIDTH_BEFORE_TIME - 16);
        writeln!(self.out, "    {label} {text}  {:>10}", format!("+{milliseconds:.1} ms"))
    }

    fn bold(&self, text: &str) -> String {
        self.styled("1", text)
    }

    fn coloured(&self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Red => "31",
            Colour::Blue => "34",
        };
        self.styled(code, text)
    }

    fn styled(&self, code: &str, text: &str) -> String {
        if self.is_coloured {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// A value of an event, as short as it goes.
fn brief(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The text with exactly `width` characters: filled up, or cut with a mark. Control characters become `?`.
fn fit(text: &str, width: usize) -> String {
    let mut characters = text
        .chars()
        .map(|character| if character.is_control() { '?' } else { character });
    let mut fitted: String = characters.by_ref().take(width).collect();
    if characters.next().is_some() {
        fitted.pop();
        fitted.push('~');
    }
    format!("{fitted:<width$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_filled_and_harmless() {
        let check = |text: &str, expected: &str| assert_eq!(fit(text, 5), expected);
        check("abc", "abc  ");
        check("abcde", "abcde");
        check("abcdef", "abcd~");
        check("\x1b[1m\n", "?[1m?");
        check("äöü", "äöü  ");
    }
}
