//! `distributor plugin run`.

use std::fmt::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;
use tracing::Level;

use super::events::{self, Case};
use super::log::Line;
use super::shown::{self, Paint, answer, changes, diff_lines, event_json, events_of, size, time};
use super::target::TargetArguments;
use super::{CommandError, Desk, print, print_json};
use crate::plugins::workbench::Observation;
use crate::plugins::{Answer, Direction, Plugin};

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// File with events in JSON, `-` for standard input. Without one, standard input.
    #[arg(long, short, value_name = "FILE")]
    event: Vec<PathBuf>,
    /// The way that events travel.
    #[arg(long, value_enum)]
    direction: Option<Way>,
    /// Lines of the plugin that are shown: this level and more important ones.
    #[arg(long, value_enum, default_value = "debug")]
    log: LogLevel,
    /// Print one JSON object for each event.
    #[arg(long)]
    json: bool,
}

/// A direction, by the words of the chain file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Way {
    /// From the control plane to the service.
    Incoming,
    /// From the service to the control plane.
    Outgoing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl From<Way> for Direction {
    fn from(way: Way) -> Self {
        match way {
            Way::Incoming => Self::Incoming,
            Way::Outgoing => Self::Outgoing,
        }
    }
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Trace => Self::TRACE,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Info => Self::INFO,
            LogLevel::Warn => Self::WARN,
            LogLevel::Error => Self::ERROR,
        }
    }
}

pub(super) async fn run(arguments: &RunArguments, desk: &Desk) -> Result<bool, CommandError> {
    let target = arguments.target.target()?;
    let direction = arguments
        .direction
        .map_or(target.settings.directions[0], Direction::from);
    let cases = events::read(&arguments.event, direction)?;
    desk.log.set_level(arguments.log.into());
    let workbench = desk.workbench()?;
    let piece = desk.piece(&workbench, &target).await?;
    let plugin = piece.plugin(&target.settings).await;
    let plugin = plugin.map_err(|error| CommandError::Failed(format!("{} {error}", target.shown)))?;
    let mut is_well = true;
    let mut tally = Tally::default();
    print_lines_at_start(arguments, desk)?;
    for case in &cases {
        let observation = plugin.observe(&case.event, &case.circumstances.context()).await;
        let lines = desk.log.take();
        is_well &= observation.answer.is_ok();
        tally.count(&observation);
        if arguments.json {
            let line = shown::observation_json(&case.event, &observation, &lines);
            print(&format!("{line}\n"))?;
        } else {
            print(&described(case, &observation, &lines, desk.paint))?;
        }
    }
    if cases.len() > 1 && !arguments.json {
        print(&format!("{}\n", tally.shown(&plugin)))?;
    }
    Ok(is_well)
}

/// What the plugin said while it was started.
fn print_lines_at_start(arguments: &RunArguments, desk: &Desk) -> Result<(), CommandError> {
    let lines = desk.log.take();
    if lines.is_empty() {
        return Ok(());
    }
    if arguments.json {
        let lines: Vec<_> = lines.iter().map(Line::to_json).collect();
        return print_json(&json!({"at_start": lines}));
    }
    print(&format!("at the start\n{}", log_lines(&lines, desk.paint)))
}

fn described(case: &Case, observation: &Observation, lines: &[Line], paint: Paint) -> String {
    let event = &case.event;
    let verdict = answer(&observation.answer);
    let verdict = match &observation.answer {
        Ok(Answer::Drop(_)) => paint.careful(&verdict),
        Ok(_) => paint.good(&verdict),
        Err(_) => paint.bad(&verdict),
    };
    let memory = observation.memory_bytes.map_or("stopped".to_owned(), size);
    let cost = format!("{}, memory {memory}", time(observation.elapsed));
    let mut text = format!(
        "{} {} {verdict}  {}\n",
        paint.strong(&event.id()),
        event.ty(),
        paint.faint(&cost)
    );
    let (forwarded, published) = events_of(&observation.answer);
    let before = event_json(event);
    for (position, after) in forwarded.iter().enumerate() {
        let of = if forwarded.len() > 1 {
            format!(" {}", position + 1)
        } else {
            String::new()
        };
        let changes = changes(&before, after);
        let same = if changes.is_empty() { " (no difference)" } else { "" };
        writeln!(text, "  forwarded{of}{same}").expect("writing to a String cannot fail");
        text.push_str(&diff_lines(&changes, "    ", paint));
    }
    for published in &published {
        writeln!(text, "  published\n    {published}").expect("writing to a String cannot fail");
    }
    text.push_str(&log_lines(lines, paint));
    text
}

fn log_lines(lines: &[Line], paint: Paint) -> String {
    let lines = lines
        .iter()
        .map(|line| format!("  {}\n", paint.faint(&format!("log {}", line.shown()))));
    lines.collect()
}

/// What came of many events.
#[derive(Default)]
struct Tally {
    verdicts: Vec<(&'static str, usize)>,
    elapsed: std::time::Duration,
}

impl Tally {
    fn count(&mut self, observation: &Observation) {
        self.elapsed += observation.elapsed;
        let verdict = shown::verdict(&observation.answer);
        match self.verdicts.iter_mut().find(|(known, _)| *known == verdict) {
            Some((_, n)) => *n += 1,
            None => self.verdicts.push((verdict, 1)),
        }
    }

    fn shown(&self, plugin: &Plugin) -> String {
        let total: usize = self.verdicts.iter().map(|(_, n)| n).sum();
        let verdicts: Vec<_> = self
            .verdicts
            .iter()
            .map(|(verdict, n)| format!("{n} {verdict}"))
            .collect();
        format!(
            "{total} events through {} {}: {}, {} in all",
            plugin.name(),
            plugin.version(),
            verdicts.join(", "),
            time(self.elapsed)
        )
    }
}
