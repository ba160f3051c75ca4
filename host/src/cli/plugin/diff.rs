//! `distributor plugin diff`: the same events through two components.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::events;
use super::replay::Comparison;
use super::target::SettingsArguments;
use super::{CommandError, Desk, print, print_json};
use crate::plugins::{LoadError, Plugin};

/// Options of `diff`.
#[derive(Debug, Args)]
pub struct DiffArguments {
    /// The component as it was: a file (.wasm, .wasm.gz), or `builtin:NAME`.
    #[arg(value_name = "OLD")]
    old: String,
    /// The component as it will be.
    #[arg(value_name = "NEW")]
    new: String,
    #[command(flatten)]
    settings: SettingsArguments,
    /// File with events in JSON or with a capture, `-` for standard input. Without one, standard input.
    #[arg(long, short, visible_alias = "event", value_name = "FILE")]
    events: Vec<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: &DiffArguments, desk: &Desk) -> Result<bool, CommandError> {
    let old = arguments.settings.target(Some(&arguments.old))?;
    let mut new = arguments.settings.target(Some(&arguments.new))?;
    // Both under one name, of which ids of published events are made, and run alike.
    if !new.has_config {
        new.settings = old.settings.clone();
    }
    new.settings.name = old.settings.name.clone();
    let cases = events::read(&arguments.events, old.settings.directions[0])?;
    let workbench = desk.workbench()?;
    let mut plugins: Vec<Plugin> = Vec::new();
    for target in [&old, &new] {
        let piece = desk.piece(&workbench, target).await?;
        let plugin = piece.plugin(&target.settings).await;
        plugins.push(plugin.map_err(|error: LoadError| CommandError::Failed(format!("{} {error}", target.shown)))?);
    }
    let mut found = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        if number % 1000 == 0 {
            desk.progress.show(&format!("{number} of {}", cases.len()));
        }
        let context = case.circumstances.context();
        let one = plugins[0].observe(&case.event, &context).await;
        let other = plugins[1].observe(&case.event, &context).await;
        let comparison = Comparison::of(&case.event, &one, &other);
        if !comparison.is_same() {
            found.push(comparison);
        }
    }
    desk.progress.clear();
    let n_same = cases.len() - found.len();
    if arguments.json {
        let found: Vec<_> = found.iter().filter_map(Comparison::to_json).collect();
        print_json(&json!({"events": cases.len(), "same": n_same, "different": found}))?;
    } else {
        for comparison in &found {
            print(&comparison.shown(desk.paint))?;
        }
        let n_different = found.len();
        print(&format!(
            "{} events: {n_same} answered alike, {n_different} differently\n",
            cases.len()
        ))?;
    }
    Ok(found.is_empty())
}
