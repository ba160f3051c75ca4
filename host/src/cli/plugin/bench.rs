//! `distributor plugin bench`: fuel, time, memory, and two components beside each other.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::events::{self, Case};
use super::shown::{Paint, failure, grouped, size, time};
use super::target::{SettingsArguments, Target};
use super::{CommandError, Desk, check, print, print_json};
use crate::plugins::{LoadError, Plugin};

/// Times that fuel is counted, each on a new instance.
const FUEL_RUNS: usize = 3;
/// Turns of each component: what else the machine does then meets both.
const ROUNDS: u32 = 5;
const WARM_UP: Duration = Duration::from_millis(100);

/// Options of `bench`.
#[derive(Debug, Args)]
pub struct BenchArguments {
    /// One component, or two to compare: files (.wasm, .wasm.gz), or `builtin:NAME`.
    #[arg(value_name = "COMPONENT", num_args = 1..=2, required = true)]
    components: Vec<String>,
    #[command(flatten)]
    settings: SettingsArguments,
    /// File with events in JSON, `-` for standard input. Without one, an ordinary event of 300 bytes.
    #[arg(long, short, visible_alias = "events", value_name = "FILE")]
    event: Vec<PathBuf>,
    /// Time for which each component is measured.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    time: Duration,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was measured of one component.
struct Measured {
    shown: String,
    bytes: usize,
    /// Of all events, in each run.
    fuel: Vec<u64>,
    /// Median of a call in each round.
    medians: Vec<Duration>,
    times: Vec<Duration>,
    memory_bytes: usize,
}

pub(super) async fn run(arguments: &BenchArguments, desk: &Desk) -> Result<bool, CommandError> {
    let targets = arguments
        .components
        .iter()
        .map(|component| arguments.settings.target(Some(component)));
    let targets = targets.collect::<Result<Vec<_>, _>>()?;
    let cases = if arguments.event.is_empty() {
        vec![Case::of(check::ordinary_event(), targets[0].settings.directions[0])]
    } else {
        events::read(&arguments.event, targets[0].settings.directions[0])?
    };
    let (workbench, counting) = (desk.workbench()?, desk.counting_workbench()?);
    let (mut plugins, mut measured) = (Vec::new(), Vec::new());
    for target in &targets {
        let failed = |error: LoadError| CommandError::Failed(format!("{} {error}", target.shown));
        let component = target.component().await?;
        let counted = desk.take(&counting, &component).await.map_err(failed)?;
        let mut fuel = Vec::new();
        for _ in 0..FUEL_RUNS {
            let plugin = counted.plugin(&target.settings).await.map_err(failed)?;
            fuel.push(fuel_of(&plugin, &cases, target).await?);
        }
        let piece = desk.take(&workbench, &component).await.map_err(failed)?;
        plugins.push(piece.plugin(&target.settings).await.map_err(failed)?);
        measured.push(Measured {
            shown: target.shown.clone(),
            bytes: component.bytes.len(),
            fuel,
            medians: Vec::new(),
            times: Vec::new(),
            memory_bytes: 0,
        });
    }
    for plugin in &plugins {
        timed(plugin, &cases, WARM_UP, &mut Vec::new()).await;
    }
    for round in 1..=ROUNDS {
        for (plugin, measured) in plugins.iter().zip(&mut measured) {
            desk.progress
                .show(&format!("round {round} of {ROUNDS}: {}", measured.shown));
            let mut times = Vec::new();
            let memory = timed(plugin, &cases, arguments.time / ROUNDS, &mut times).await;
            measured.memory_bytes = memory.unwrap_or(measured.memory_bytes);
            times.sort_unstable();
            measured.medians.push(times[times.len() / 2]);
            measured.times.append(&mut times);
        }
    }
    desk.progress.clear();
    for measured in &mut measured {
        measured.times.sort_unstable();
        measured.medians.sort_unstable();
    }
    if arguments.json {
        print_json(&json!({
            "events": cases.len(),
            "components": measured.iter().map(|measured| measured.to_json(cases.len())).collect::<Vec<_>>(),
        }))?;
    } else {
        print(&table(&measured, cases.len(), desk.paint))?;
    }
    Ok(true)
}

/// What all events cost on an instance that has seen them once: caches are filled then.
async fn fuel_of(plugin: &Plugin, cases: &[Case], target: &Target) -> Result<u64, CommandError> {
    let mut fuel = 0;
    for is_counted in [false, true] {
        for case in cases {
            let observation = plugin.observe(&case.event, &case.circumstances.context()).await;
            if let Err(error) = &observation.answer {
                let failure = failure(error);
                return Err(CommandError::Failed(format!(
                    "{} fails on the event {:?}, so there is nothing to measure: {failure}",
                    target.shown,
                    &*case.event.id()
                )));
            }
            if is_counted {
                fuel += observation.fuel.unwrap_or_default();
            }
        }
    }
    Ok(fuel)
}

/// Calls for so long, at least once for each event. Returns the memory after the last call.
async fn timed(plugin: &Plugin, cases: &[Case], duration: Duration, times: &mut Vec<Duration>) -> Option<usize> {
    let start = Instant::now();
    let mut memory = None;
    loop {
        for case in cases {
            let observation = plugin.observe(&case.event, &case.circumstances.context()).await;
            times.push(observation.elapsed);
            memory = observation.memory_bytes.or(memory);
        }
        if start.elapsed() >= duration {
            return memory;
        }
    }
}

impl Measured {
    fn median(&self) -> Duration {
        self.medians[self.medians.len() / 2]
    }

    fn p99(&self) -> Duration {
        self.times[(self.times.len() - 1) * 99 / 100]
    }

    /// Events that one core gets through.
    fn per_second(&self) -> f64 {
        let total: Duration = self.times.iter().sum();
        #[expect(clippy::cast_precision_loss, reason = "nobody makes 2^52 calls")]
        let n_calls = self.times.len() as f64;
        n_calls / total.as_secs_f64()
    }

    /// How far the slowest round is from the quickest, in percent.
    fn spread(&self) -> f64 {
        let (quickest, slowest) = (self.medians[0], self.medians[self.medians.len() - 1]);
        (slowest.as_secs_f64() / quickest.as_secs_f64() - 1.0) * 100.0
    }

    fn is_exact(&self) -> bool {
        self.fuel.iter().all(|fuel| *fuel == self.fuel[0])
    }

    fn to_json(&self, n_events: usize) -> Value {
        json!({
            "component": self.shown,
            "bytes": self.bytes,
            "fuel_runs": self.fuel,
            "fuel_per_event": self.fuel[0] / n_events as u64,
            "fuel_is_exact": self.is_exact(),
            "median_micros": self.median().as_secs_f64() * 1e6,
            "round_median_micros": self.medians.iter().map(|median| median.as_secs_f64() * 1e6).collect::<Vec<_>>(),
            "p99_micros": self.p99().as_secs_f64() * 1e6,
            "events_per_second": self.per_second(),
            "calls": self.times.len(),
            "memory_bytes": self.memory_bytes,
        })
    }
}

/// What stands in a row of the table.
type Column<'a> = &'a dyn Fn(&Measured) -> String;

fn table(measured: &[Measured], n_events: usize, paint: Paint) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is a rate, shown in whole events"
    )]
    let per_second = |measured: &Measured| grouped(measured.per_second() as u64);
    let fuel = |measured: &Measured| {
        let exact = if measured.is_exact() {
            format!("the same in {FUEL_RUNS} runs")
        } else {
            format!(
                "differs: {}",
                measured
                    .fuel
                    .iter()
                    .map(|fuel| grouped(*fuel))
                    .collect::<Vec<_>>()
                    .join(", ")
            )
        };
        format!("{} ({exact})", grouped(measured.fuel[0] / n_events as u64))
    };
    let median = |measured: &Measured| {
        format!(
            "{} (rounds differ by {:.0} %)",
            time(measured.median()),
            measured.spread()
        )
    };
    let rows: [(&str, Column<'_>); 7] = [
        ("component", &|measured| measured.shown.clone()),
        ("size", &|measured| size(measured.bytes)),
        ("fuel for an event", &fuel),
        ("time, median", &median),
        ("time, p99", &|measured| time(measured.p99())),
        ("events/s per core", &per_second),
        ("memory", &|measured| size(measured.memory_bytes)),
    ];
    let mut text = String::new();
    for (name, value) in rows {
        let columns: Vec<_> = measured
            .iter()
            .map(|measured| format!("{:<44}", value(measured)))
            .collect();
        writeln!(text, "{name:<20}{}", columns.join(" ").trim_end()).expect("writing to a String cannot fail");
    }
    if let [one, other] = measured {
        #[expect(clippy::cast_precision_loss, reason = "a ratio is shown with two digits")]
        let fuel = other.fuel[0] as f64 / one.fuel[0] as f64;
        let time = other.median().as_secs_f64() / one.median().as_secs_f64();
        let line = format!("the second takes {fuel:.2} times the fuel and {time:.2} times the time of the first");
        writeln!(text, "{}", paint.strong(&line)).expect("writing to a String cannot fail");
    }
    text
}
