//! `distributor plugin replay`: what a plugin says of captured events, beside what was captured.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::events::{self, Case, Step};
use super::shown::{self, Change, Paint, answer_json, changes, diff_lines, events_of};
use super::target::TargetArguments;
use super::{CommandError, Desk, print, print_json};
use crate::event::Event;
use crate::plugins::workbench::Observation;
use crate::plugins::{Answer, Direction};

/// Options of `replay`.
#[derive(Debug, Args)]
pub struct ReplayArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// File with a capture, `-` for standard input. Without one, standard input.
    #[arg(long, short, visible_alias = "event", value_name = "FILE")]
    events: Vec<PathBuf>,
    /// Name of the plugin in the capture. Without it, that of the component here.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// An answer that is not the captured one.
struct Different {
    event_id: String,
    before: String,
    after: String,
    changes: Vec<Change>,
}

pub(super) async fn run(arguments: &ReplayArguments, desk: &Desk) -> Result<bool, CommandError> {
    let target = arguments.target.target()?;
    let cases = events::read(&arguments.events, Direction::Incoming)?;
    let name = arguments
        .name
        .clone()
        .unwrap_or_else(|| target.settings.name.to_string());
    let steps: Vec<_> = cases
        .iter()
        .flat_map(|case| case.at(&name).into_iter().map(move |(event, step)| (case, event, step)))
        .collect();
    if steps.is_empty() {
        return Err(nothing_of(&name, &cases));
    }
    // What is published has ids that are made of the plugin's name as well.
    let mut settings = target.settings.clone();
    settings.name = name.as_str().into();
    let workbench = desk.workbench()?;
    let piece = desk.piece(&workbench, &target).await?;
    let plugin = piece.plugin(&settings).await;
    let plugin = plugin.map_err(|error| CommandError::Failed(format!("{} {error}", target.shown)))?;
    let mut differences = Vec::new();
    for (number, (case, event, step)) in steps.iter().enumerate() {
        if number % 1000 == 0 {
            desk.progress.show(&format!("{number} of {}", steps.len()));
        }
        let observation = plugin.observe(event, &case.circumstances.context()).await;
        differences.extend(different(event, step, &observation));
    }
    desk.progress.clear();
    let n_same = steps.len() - differences.len();
    if arguments.json {
        let differences: Vec<_> = differences.iter().map(Different::to_json).collect();
        print_json(&json!({"events": steps.len(), "same": n_same, "different": differences}))?;
    } else {
        for different in &differences {
            print(&different.shown(desk.paint))?;
        }
        print(&format!(
            "{} events: {n_same} answered as captured, {} differently\n",
            steps.len(),
            differences.len()
        ))?;
    }
    Ok(n_same == steps.len())
}

fn nothing_of(name: &str, cases: &[Case]) -> CommandError {
    let names: BTreeSet<_> = cases
        .iter()
        .flat_map(|case| &case.steps)
        .map(|step| step.plugin.as_str())
        .collect();
    CommandError::Usage(if names.is_empty() {
        "these events were not captured, so nothing is known of what plugins said; `distributor plugin run` shows events to a \
         plugin, `distributor plugin diff` to two"
            .to_owned()
    } else {
        let names: Vec<_> = names.into_iter().collect();
        format!(
            "the capture has nothing of a plugin {name:?}; choose one with --name: {}",
            names.join(", ")
        )
    })
}

/// What is different from the captured answer.
fn different(event: &Event, step: &Step, observation: &Observation) -> Option<Different> {
    let answer = &observation.answer;
    let raw = |events: &[Box<serde_json::value::RawValue>]| -> Vec<Value> {
        events
            .iter()
            .filter_map(|event| serde_json::from_str(event.get()).ok())
            .collect()
    };
    let (forwarded, published) = events_of(answer);
    let captured = json!({"forwarded": raw(&step.forwarded), "published": without_ids(raw(&step.published))});
    let now = json!({"forwarded": forwarded, "published": without_ids(published)});
    let changes = changes(&captured, &now);
    let reason = match answer {
        Ok(Answer::Drop(reason)) => Some(reason.as_str()),
        _ => None,
    };
    let verdict = shown::verdict(answer);
    let is_same = verdict == step.verdict && changes.is_empty() && reason == step.reason.as_deref();
    if is_same {
        return None;
    }
    let before = match &step.reason {
        Some(reason) => format!("{}: {reason}", step.verdict),
        None => step.verdict.clone(),
    };
    Some(Different {
        event_id: event.id().into_owned(),
        before,
        after: shown::answer(answer),
        changes,
    })
}

/// Ids of published events are made of the event that came from outside, which may have passed other plugins before.
fn without_ids(mut events: Vec<Value>) -> Vec<Value> {
    for event in &mut events {
        if let Some(object) = event.as_object_mut() {
            object.shift_remove("id");
        }
    }
    events
}

impl Different {
    fn shown(&self, paint: Paint) -> String {
        let Self {
            event_id,
            before,
            after,
            changes,
        } = self;
        let verdict = format!("{} → {}", paint.bad(before), paint.good(after));
        format!(
            "{} {verdict}\n{}",
            paint.strong(event_id),
            diff_lines(changes, "    ", paint)
        )
    }

    fn to_json(&self) -> Value {
        let changes = self
            .changes
            .iter()
            .map(|Change { pointer, before, after }| json!({"pointer": pointer, "before": before, "after": after}));
        json!({
            "event_id": self.event_id,
            "before": self.before,
            "after": self.after,
            "differences": changes.collect::<Vec<_>>(),
        })
    }
}

/// The same of two components.
pub(super) struct Comparison {
    different: Option<Different>,
}

impl Comparison {
    /// What a second component says otherwise than the first.
    pub(super) fn of(event: &Event, one: &Observation, other: &Observation) -> Self {
        let [before, after] = [one, other].map(|observation| answer_json(&observation.answer));
        let found = changes(&before, &after);
        Self {
            different: (!found.is_empty()).then(|| Different {
                event_id: event.id().into_owned(),
                before: shown::answer(&one.answer),
                after: shown::answer(&other.answer),
                changes: found
                    .into_iter()
                    .filter(|change| !change.pointer.starts_with("/verdict"))
                    .collect(),
            }),
        }
    }

    pub(super) fn is_same(&self) -> bool {
        self.different.is_none()
    }

    pub(super) fn shown(&self, paint: Paint) -> String {
        self.different
            .as_ref()
            .map_or_else(String::new, |different| different.shown(paint))
    }

    pub(super) fn to_json(&self) -> Option<Value> {
        self.different.as_ref().map(Different::to_json)
    }
}
