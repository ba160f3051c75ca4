//! Measures the distributor from NATS to the recipient and back: each figure over core NATS, from a stream, and beside
//! the one of a bare relay, in the same run.
//!
//! Called by `make bench`. It must not link the distributor: what is measured is the program that users run, as a
//! process of its own; its memory and processor time are read from `/proc`. Publisher and recipient are in this process,
//! so that one clock gives the latency; the relay is this program once more, as `bench relay`.
//!
//! Absolute figures move with the machine and by some 10–15 % from run to run: compare ratios.

mod binary;
mod calls;
mod chart;
mod clock;
mod events;
mod figures;
mod goals;
mod http;
mod judged;
mod languages;
mod measured;
mod outages;
mod polling;
mod posts;
mod publisher;
mod recipient;
mod relay;
mod report;
mod requests;
mod rounds;
mod row;
mod rows;
mod scaling;
mod stage;
mod storage;
mod stored;
mod subscriptions;
mod swaps;
mod tally;
mod targets;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::clock::Clock;
use crate::relay::RelayOptions;
use crate::rows::ROWS;
use crate::stage::Bench;
use crate::targets::TARGETS;

/// The distributor is measured with the allocator that it has; the relay must not win or lose by another one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the distributor end to end, beside a bare relay in the same run.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// Rounds of each row, relay and both modes of the distributor in turn; the table has their median
    #[arg(long, default_value_t = 3)]
    rounds: usize,

    /// Events of each throughput round
    #[arg(long, default_value_t = 100_000)]
    events: usize,

    /// One short round of each row: shows that everything runs, not how fast
    #[arg(long)]
    quick: bool,

    /// How cost grows instead: with threads, replicas, subscriptions, plugins, and the size of events
    #[arg(long)]
    scaling: bool,

    /// Only rows, or curves, with this text in their name
    #[arg(long, default_value = "", value_name = "TEXT")]
    only: String,

    /// Leaves the distributor out: what this machine can do
    #[arg(long)]
    relay_only: bool,

    /// Writes all figures, each round's included, to this file as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// The distributor to measure; without it, the one beside this program
    #[arg(long, value_name = "PATH")]
    distributor: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the bare relay until it is ended: what every other figure is compared with
    Relay(RelayOptions),
    /// Draws the figures that a run wrote (`--json`) as SVG
    Chart {
        /// What the run wrote
        json: PathBuf,
        /// The picture
        svg: PathBuf,
    },
}

/// How much is measured, the same for all rows.
#[derive(Debug)]
struct Effort {
    rounds: usize,
    events: usize,
    /// How long the rows with a fixed rate, and the idle row, are looked at.
    observed: Duration,
    burst_events: usize,
    backlog_events: usize,
    starts: usize,
    /// Swaps of each kind.
    swaps: usize,
    /// How long a recipient is closed.
    closed: Duration,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let clock = Clock::start();
    let arguments = Arguments::parse();
    match &arguments.command {
        Some(Command::Relay(options)) => return relay::run(options).await,
        Some(Command::Chart { json, svg }) => {
            let text = std::fs::read_to_string(json).with_context(|| format!("cannot read {}", json.display()))?;
            return std::fs::write(svg, chart::draw(&text)?).with_context(|| format!("cannot write {}", svg.display()));
        }
        None => {}
    }

    let effort = if arguments.quick {
        let events = arguments.events.min(20_000);
        Effort {
            rounds: 1,
            events,
            observed: Duration::from_secs(2),
            burst_events: 20_000,
            backlog_events: 10_000,
            starts: 3,
            swaps: 2,
            closed: Duration::from_secs(2),
        }
    } else {
        let (rounds, events) = (arguments.rounds.max(1), arguments.events);
        Effort {
            rounds,
            events,
            observed: Duration::from_secs(10),
            burst_events: 20_000,
            backlog_events: 50_000,
            starts: 5,
            swaps: 10,
            closed: Duration::from_secs(12),
        }
    };
    let distributor = match (arguments.relay_only, arguments.distributor) {
        (true, _) => None,
        (false, Some(path)) => Some(path),
        (false, None) => Some(std::env::current_exe()?.with_file_name("distributor")),
    };
    if let Some(path) = distributor.as_ref().filter(|path| !path.is_file()) {
        anyhow::bail!(
            "there is no distributor at {}: build it, or name one with --distributor",
            path.display()
        );
    }

    let (distributor, only) = (distributor.as_deref(), arguments.only.as_str());
    let bench = Bench::start(clock).await?;
    let results = if arguments.scaling {
        let lines = scaling::measure(&bench, distributor, only, &effort).await?;
        scaling::print(&lines)?;
        scaling::to_json(&lines, &effort)
    } else {
        let mut measured = Vec::new();
        for row in ROWS.iter().filter(|row| row.name.contains(only)) {
            measured.extend(row.try_measure(row.name, &bench, distributor, &effort).await?);
        }
        let judged = judged::judge(TARGETS, &measured);
        report::print(&measured)?;
        report::print_goals(&judged)?;
        report::to_json(&measured, &judged, &effort)
    };
    bench.stop().await?;
    if let Some(path) = arguments.json {
        let json = serde_json::to_vec_pretty(&results)?;
        std::fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
