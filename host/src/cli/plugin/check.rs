//! `distributor plugin check`: everything that makes plugins fail in production, tried beforehand.
//!
//! Each part looks at one thing and says what it found; where a part finds that the component cannot be used at all, the
//! later ones are left out.

mod behaviour;
mod contract;
mod cost;
mod odd_events;

use clap::Args;
use serde_json::{Value, json};

use super::shown::Paint;
use super::target::{Target, TargetArguments};
use super::{CommandError, Desk, print, print_json};
use crate::event::Event;
use crate::plugins::workbench::{ComponentBytes, Description, Workpiece};
use crate::plugins::{CompileError, LoadError, Settings};

/// An event as Keptn sends it.
pub(super) fn ordinary_event() -> Event {
    odd_events::ordinary("sh.keptn.event.task.triggered")
}

/// Options of `check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// Fail on warnings as well.
    #[arg(long)]
    strict: bool,
    /// Calls by which leaks are looked for, three times. It ends early where that takes long.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    calls: u32,
    /// Print one JSON object with all findings.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Good,
    Warning,
    Failed,
    Skipped,
}

/// What a part found.
#[derive(Debug)]
struct Finding {
    part: &'static str,
    status: Status,
    text: String,
    /// What to do about it.
    fix: Option<String>,
}

/// Everything that was found.
#[derive(Debug, Default)]
struct Report {
    findings: Vec<Finding>,
}

/// What is checked, as far as it could be loaded.
struct Subject<'a> {
    target: &'a Target,
    component: &'a ComponentBytes,
    piece: &'a Workpiece,
    /// With the configuration that is used.
    settings: Settings,
    description: Description,
    desk: &'a Desk,
    calls: u32,
}

impl Report {
    fn good(&mut self, part: &'static str, text: impl Into<String>) {
        self.add(part, Status::Good, text, None);
    }

    fn warn(&mut self, part: &'static str, text: impl Into<String>, fix: &str) {
        self.add(part, Status::Warning, text, Some(fix));
    }

    fn fail(&mut self, part: &'static str, text: impl Into<String>, fix: &str) {
        self.add(part, Status::Failed, text, Some(fix));
    }

    fn skip(&mut self, part: &'static str, text: impl Into<String>) {
        self.add(part, Status::Skipped, text, None);
    }

    fn add(&mut self, part: &'static str, status: Status, text: impl Into<String>, fix: Option<&str>) {
        self.findings.push(Finding {
            part,
            status,
            text: text.into(),
            fix: fix.map(str::to_owned),
        });
    }

    fn count(&self, status: Status) -> usize {
        self.findings.iter().filter(|finding| finding.status == status).count()
    }

    fn has_failed(&self, part: &str) -> bool {
        let mut findings = self.findings.iter();
        findings.any(|finding| finding.part == part && finding.status == Status::Failed)
    }
}

pub(super) async fn run(arguments: &CheckArguments, desk: &Desk) -> Result<bool, CommandError> {
    let target = arguments.target.target()?;
    let component = target.component().await?;
    let mut report = Report::default();
    checked(arguments, desk, &target, &component, &mut report).await?;
    let (failed, warnings) = (report.count(Status::Failed), report.count(Status::Warning));
    if arguments.json {
        print_json(&to_json(&report, &target, &component))?;
    } else {
        print(&described(&report, &target, &component, desk.paint))?;
    }
    Ok(failed == 0 && !(arguments.strict && warnings > 0))
}

async fn checked(
    arguments: &CheckArguments,
    desk: &Desk,
    target: &Target,
    component: &ComponentBytes,
    report: &mut Report,
) -> Result<(), CommandError> {
    let workbench = desk.workbench()?;
    let piece = match desk.take(&workbench, component).await {
        Ok(piece) => piece,
        Err(error) => {
            contract::cannot_be_loaded(&error, report);
            return Ok(());
        }
    };
    report.good("component", "it compiles");
    let Some(description) = contract::check(&piece, &target.settings, report).await else {
        return Ok(());
    };
    let Some(settings) = contract::configured(target, &piece, &description, report).await else {
        return Ok(());
    };
    let subject = Subject {
        target,
        component,
        piece: &piece,
        settings,
        description,
        desk,
        calls: arguments.calls,
    };
    let answered = behaviour::odd_events(&subject, report).await?;
    if report.has_failed(behaviour::TIME) {
        report.skip(behaviour::REPEATS, "calls take too long");
        report.skip(cost::LEAK, "calls take too long");
        return Ok(());
    }
    behaviour::repeats(&subject, &answered, report).await?;
    cost::leak_and_time(&subject, report).await?;
    cost::fuel(&subject, report).await
}

/// The part that a reason not to load a component belongs to, and what to do.
fn place(error: &LoadError) -> (&'static str, &'static str) {
    match error {
        LoadError::Compile(
            CompileError::Time
            | CompileError::NoRoom { .. }
            | CompileError::OutOfMemory { .. }
            | CompileError::Killed
            | CompileError::Write(_),
        ) => (
            "component",
            "run this command where there is more memory and time; where the component is to run, mount native code \
             (`distributor plugin compile`)",
        ),
        LoadError::Compile(_) | LoadError::Precompiled | LoadError::OtherEngine(_) => (
            "component",
            "give it the component that the build makes for WASI 0.2 (for Rust: --target wasm32-wasip2)",
        ),
        LoadError::Contract(_) => (
            "contract",
            "`distributor plugin wit --output wit` writes this distributor's contract; generate the bindings from that, and build again",
        ),
        LoadError::Exports(_) => (
            "contract",
            "build for the world `filter-plugin`, `transform-plugin` or `plugin`, and export what it names \
             (`distributor plugin wit` prints it; `distributor plugin new` makes a plugin that does)",
        ),
        LoadError::Imports(_) => (
            "imports",
            "build it without them; what there is, `distributor plugin wit` prints",
        ),
        LoadError::Link(_) => (
            "contract",
            "generate the bindings anew from `distributor plugin wit`, and build again",
        ),
        LoadError::TooBig(_) => (
            "memory",
            "let it declare less, or raise `memory` in its entry (here: --memory)",
        ),
        LoadError::Descriptor(_) => ("describe", "correct what `describe` returns"),
        LoadError::Call(_) => (
            "start",
            "it has to start, describe itself and take its configuration without a trap",
        ),
        LoadError::Schema(_) => ("schema", "correct `config-schema`, which is a JSON Schema (2020-12)"),
        LoadError::Config(_) => ("configuration", "give it a configuration that it accepts (--config)"),
    }
}

fn described(report: &Report, target: &Target, component: &ComponentBytes, paint: Paint) -> String {
    use std::fmt::Write;

    let mut text = format!(
        "{} {}\n",
        paint.strong(&target.shown),
        paint.faint(&format!("sha256 {}", component.digest))
    );
    for Finding {
        part,
        status,
        text: found,
        fix,
    } in &report.findings
    {
        let status = match status {
            Status::Good => paint.good("ok     "),
            Status::Warning => paint.careful("warning"),
            Status::Failed => paint.bad("FAILED "),
            Status::Skipped => paint.faint("skipped"),
        };
        writeln!(text, "{status} {part:<14} {found}").expect("writing to a String cannot fail");
        if let Some(fix) = fix {
            writeln!(text, "{:22} fix: {fix}", "").expect("writing to a String cannot fail");
        }
    }
    let (failed, warnings) = (report.count(Status::Failed), report.count(Status::Warning));
    let verdict = if failed == 0 {
        paint.good("usable")
    } else {
        paint.bad("not fit for use")
    };
    writeln!(text, "{verdict}: {failed} failed, {warnings} warnings").expect("writing to a String cannot fail");
    text
}

fn to_json(report: &Report, target: &Target, component: &ComponentBytes) -> Value {
    let findings = report.findings.iter().map(
        |Finding {
             part,
             status,
             text,
             fix,
         }| {
            let status = match status {
                Status::Good => "ok",
                Status::Warning => "warning",
                Status::Failed => "failed",
                Status::Skipped => "skipped",
            };
            json!({"part": part, "status": status, "text": text, "fix": fix})
        },
    );
    json!({
        "component": target.shown,
        "digest": component.digest,
        "failed": report.count(Status::Failed),
        "warnings": report.count(Status::Warning),
        "findings": findings.collect::<Vec<_>>(),
    })
}
