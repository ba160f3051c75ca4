//! What plugins log and print while a command runs, to be shown beside their answers.
//!
//! Everything else that the platform logs goes to standard error when it is a warning.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::plugins::LOG_TARGET;

/// Lines that are kept until somebody takes them.
const MAX_LINES: usize = 1000;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) level: Level,
    pub(super) text: String,
    /// `name=value`, as the plugin gave them.
    pub(super) fields: String,
}

/// Collects lines.
#[derive(Debug, Clone)]
pub(super) struct PluginLog {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug)]
struct Kept {
    lines: Vec<Line>,
    /// Which lines plugins are told are wanted.
    level: Level,
}

struct Collecting(PluginLog);

impl Line {
    pub(super) fn to_json(&self) -> Value {
        json!({"level": self.level.as_str().to_lowercase(), "text": self.text, "fields": self.fields})
    }

    /// As a line for people.
    pub(super) fn shown(&self) -> String {
        let space = if self.fields.is_empty() { "" } else { " " };
        format!(
            "{} {}{space}{}",
            self.level.as_str().to_lowercase(),
            self.text,
            self.fields
        )
    }
}

impl PluginLog {
    /// Collects from now on.
    pub(super) fn install() -> Self {
        let log = Self {
            kept: Arc::new(Mutex::new(Kept {
                lines: Vec::new(),
                level: Level::INFO,
            })),
        };
        // There is one command in a process; where there is a second subscriber, lines go there.
        let _ = tracing_subscriber::registry().with(Collecting(log.clone())).try_init();
        log
    }

    /// Keeps lines of this level and of more important ones.
    pub(super) fn set_level(&self, level: Level) {
        self.kept().level = level;
    }

    /// The lines since the last time.
    pub(super) fn take(&self) -> Vec<Line> {
        std::mem::take(&mut self.kept().lines)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for Collecting {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        if metadata.target() == LOG_TARGET {
            *metadata.level() <= self.0.kept().level
        } else {
            *metadata.level() <= Level::WARN && metadata.target().starts_with("distributor")
        }
    }

    fn register_callsite(&self, metadata: &'static tracing::Metadata<'static>) -> tracing::subscriber::Interest {
        // The level may be changed, so each line is asked for anew.
        if metadata.target().starts_with("distributor") {
            tracing::subscriber::Interest::sometimes()
        } else {
            tracing::subscriber::Interest::never()
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Parts::default();
        event.record(&mut fields);
        if event.metadata().target() != LOG_TARGET {
            eprintln!("warning: {}{}", fields.message, fields.others);
            return;
        }
        let mut kept = self.0.kept();
        if kept.lines.len() < MAX_LINES {
            kept.lines.push(Line {
                level: *event.metadata().level(),
                text: fields.text,
                fields: fields.values,
            });
        }
    }
}

/// The parts of an event that are shown.
#[derive(Default)]
struct Parts {
    message: String,
    /// What a plugin logged or printed.
    text: String,
    values: String,
    others: String,
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "text" | "line" => value.clone_into(&mut self.text),
            "fields" => value.clone_into(&mut self.values),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let written = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.others, " {name}={value:?}"),
        };
        written.expect("writing to a String cannot fail");
    }
}
