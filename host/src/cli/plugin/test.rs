//! `distributor plugin test`: the cases of a plugin's author.

mod case;
mod expectation;
mod junit;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::time::Instant;

use self::case::TestCase;
pub(super) use self::case::yaml;
use self::expectation::Mismatch;
use super::shown::{Paint, time};
use super::target::{Target, TargetArguments};
use super::{CommandError, Desk, print, print_json};
use crate::plugins::LoadError;
use crate::plugins::workbench::Workpiece;

const FOLDER: &str = "tests";
const SUFFIXES: [&str; 2] = ["yaml", "yml"];

/// Options of `test`.
#[derive(Debug, Args)]
pub struct TestArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// A file with cases, or a folder of such files. Without it, `tests` beside the component, or here.
    #[arg(long, value_name = "FILE|DIR")]
    tests: Vec<PathBuf>,
    /// Run only cases whose name has this text in it.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Write a report in the form of `JUnit`.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print one JSON object with all results.
    #[arg(long)]
    json: bool,
}

/// What came of a case.
struct CaseResult {
    file: String,
    name: String,
    elapsed: Duration,
    /// Nothing: it passed.
    mismatches: Vec<Mismatch>,
}

pub(super) async fn run(arguments: &TestArguments, desk: &Desk) -> Result<bool, CommandError> {
    let target = arguments.target.target()?;
    let files = files(&arguments.tests, &target)?;
    let workbench = desk.workbench()?;
    let piece = desk.piece(&workbench, &target).await?;
    let mut results = Vec::new();
    for file in &files {
        for case in case::read(file).map_err(CommandError::Usage)? {
            if arguments.filter.as_ref().is_some_and(|text| !case.name.contains(text)) {
                continue;
            }
            desk.progress.show(&case.name);
            let start = Instant::now();
            let mismatches = mismatches(&case, &target, &piece, desk).await?;
            desk.progress.clear();
            let result = CaseResult {
                file: file.display().to_string(),
                name: case.name,
                elapsed: start.elapsed(),
                mismatches,
            };
            if !arguments.json {
                print(&described(&result, desk.paint))?;
            }
            results.push(result);
        }
    }
    if results.is_empty() {
        return Err(CommandError::Failed("there is no case to run".to_owned()));
    }
    if let Some(path) = &arguments.junit {
        let written = std::fs::write(path, junit::report(&results));
        written.map_err(|error| CommandError::Failed(format!("cannot write {}: {error}", path.display())))?;
    }
    let failed = results.iter().filter(|result| !result.mismatches.is_empty()).count();
    if arguments.json {
        print_json(&summary(&results, failed))?;
    } else {
        let passed = results.len() - failed;
        print(&format!("{passed} passed, {failed} failed\n"))?;
    }
    Ok(failed == 0)
}

/// Runs a case on a plugin of its own, so that none sees what another has left.
async fn mismatches(
    case: &TestCase,
    target: &Target,
    piece: &Workpiece,
    desk: &Desk,
) -> Result<Vec<Mismatch>, CommandError> {
    let mut settings = target.settings.clone();
    if let Some(config) = &case.config {
        settings.config = config.clone();
    }
    settings.grants.publish |= case.grants.publish;
    settings.grants.state |= case.grants.state;
    desk.log.take();
    let plugin = match piece.plugin(&settings).await {
        Ok(plugin) => plugin,
        Err(error @ LoadError::Config(_)) => return Ok(case.refused(&error.to_string())),
        Err(error) => return Err(CommandError::Failed(format!("{} {error}", target.shown))),
    };
    let mut found = case.accepted();
    for (position, step) in case.steps.iter().enumerate() {
        let circumstances = case.circumstances(&step.event, target.settings.directions[0]);
        let circumstances =
            circumstances.map_err(|problem| CommandError::Usage(format!("{}: {problem}", case.name)))?;
        let observation = plugin.observe(&step.event, &circumstances.context()).await;
        let lines = desk.log.take();
        let mismatches = step.expected.compare(&step.event, &observation.answer, &lines);
        let of = if case.steps.len() > 1 {
            format!("event {}: ", position + 1)
        } else {
            String::new()
        };
        found.extend(mismatches.into_iter().map(|mismatch| mismatch.of(&of)));
    }
    Ok(found)
}

/// All files with cases.
fn files(named: &[PathBuf], target: &Target) -> Result<Vec<PathBuf>, CommandError> {
    let beside = target.folder().join(FOLDER);
    let places = match named {
        [] if beside.is_dir() => vec![beside],
        [] => vec![PathBuf::from(FOLDER)],
        named => named.to_vec(),
    };
    let mut files = Vec::new();
    for place in places {
        if place.is_file() {
            files.push(place);
            continue;
        }
        let unreadable = |error: std::io::Error| {
            CommandError::Usage(format!(
                "cannot read {}: {error}; put files with cases there, or name them with --tests",
                place.display()
            ))
        };
        let entries = std::fs::read_dir(&place).map_err(unreadable)?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let mut paths = paths.collect::<std::io::Result<Vec<_>>>().map_err(unreadable)?;
        let has_cases = |path: &Path| {
            path.extension()
                .is_some_and(|suffix| SUFFIXES.iter().any(|known| suffix == *known))
        };
        paths.retain(|path| has_cases(path));
        paths.sort();
        files.extend(paths);
    }
    if files.is_empty() {
        return Err(CommandError::Failed(format!(
            "there is no file with cases; write one below {FOLDER}/, e.g. {FOLDER}/first.yaml"
        )));
    }
    Ok(files)
}

fn described(result: &CaseResult, paint: Paint) -> String {
    let name = format!("{}: {}", result.file, result.name);
    if result.mismatches.is_empty() {
        let elapsed = paint.faint(&time(result.elapsed));
        return format!("{} {name}  {elapsed}\n", paint.good("ok    "));
    }
    let lines = result.mismatches.iter().map(|mismatch| mismatch.shown(paint));
    format!("{} {name}\n{}", paint.bad("FAILED"), lines.collect::<String>())
}

fn summary(results: &[CaseResult], failed: usize) -> serde_json::Value {
    let cases = results.iter().map(|result| {
        json!({
            "file": result.file,
            "name": result.name,
            "passed": result.mismatches.is_empty(),
            "micros": result.elapsed.as_secs_f64() * 1e6,
            "mismatches": result.mismatches.iter().map(Mismatch::to_json).collect::<Vec<_>>(),
        })
    });
    json!({
        "passed": results.len() - failed,
        "failed": failed,
        "cases": cases.collect::<Vec<_>>(),
    })
}
