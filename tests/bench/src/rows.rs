//! The rows of the table, and the order in which they are measured.
//!
//! Called by `main`. A row is data: a new one is a line in [`ROWS`]. It must not know how a round is run.

use std::path::Path;

use crate::Effort;
use crate::clock::Clock;
use crate::events::Load;
use crate::figures::Round;
use crate::measured::Program;
use crate::rounds::Bench;

/// What a row measures.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Throughput,
    Latency { per_second: u32 },
    Burst,
    Idle,
    StartUp,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    name: &'static str,
    kind: Kind,
    load: Load,
    /// Whether the distributor is given a project filter.
    filters: bool,
    /// Deliveries at once by the relay to compare with; `None` where a relay does not do the same work.
    relay_concurrency: Option<usize>,
}

const SMALL: Load = Load {
    size_bytes: 1024,
    n_keys: 1000,
    passing_percent: 100,
};
const LARGE: Load = Load {
    size_bytes: 32 * 1024,
    ..SMALL
};

/// A row that forwards all of `SMALL`, to start from.
const PLAIN: Row = Row {
    name: "1 KB",
    kind: Kind::Throughput,
    load: SMALL,
    filters: false,
    relay_concurrency: Some(16),
};

const fn passing(percent: usize) -> Load {
    Load {
        passing_percent: percent,
        ..SMALL
    }
}

const ROWS: &[Row] = &[
    Row {
        name: "1 KB, no filter",
        ..PLAIN
    },
    Row {
        name: "1 KB, filter passes 100 %",
        filters: true,
        ..PLAIN
    },
    Row {
        name: "1 KB, filter passes 10 %",
        filters: true,
        load: passing(10),
        relay_concurrency: None,
        ..PLAIN
    },
    Row {
        name: "1 KB, filter passes 1 %",
        filters: true,
        load: passing(1),
        relay_concurrency: None,
        ..PLAIN
    },
    Row {
        name: "32 KB, no filter",
        load: LARGE,
        ..PLAIN
    },
    // In order within the key means one at a time: so does the relay here.
    Row {
        name: "1 KB, one key",
        load: Load { n_keys: 1, ..SMALL },
        relay_concurrency: Some(1),
        ..PLAIN
    },
    Row {
        name: "1 KB at 2,000/s",
        kind: Kind::Latency { per_second: 2_000 },
        ..PLAIN
    },
    Row {
        name: "32 KB at 200/s",
        kind: Kind::Latency { per_second: 200 },
        load: LARGE,
        ..PLAIN
    },
    Row {
        name: "burst of 20,000 × 1 KB",
        kind: Kind::Burst,
        ..PLAIN
    },
    Row {
        name: "idle",
        kind: Kind::Idle,
        relay_concurrency: None,
        ..PLAIN
    },
    Row {
        name: "start-up",
        kind: Kind::StartUp,
        relay_concurrency: None,
        ..PLAIN
    },
];

/// The rounds of one row.
#[derive(Debug)]
pub(crate) struct MeasuredRow {
    pub(crate) name: &'static str,
    pub(crate) relay: Vec<Round>,
    pub(crate) distributor: Vec<Round>,
}

/// Measures all rows whose name contains `only`, relay and distributor in turn. Without a distributor, the relay alone.
pub(crate) async fn measure(
    effort: &Effort,
    distributor: Option<&Path>,
    only: &str,
    clock: Clock,
) -> anyhow::Result<Vec<MeasuredRow>> {
    let bench = Bench::start(clock).await?;
    let mut measured_rows = Vec::new();
    for row in ROWS.iter().filter(|row| row.name.contains(only)) {
        let relay = row.relay_concurrency.map(|concurrency| Program::Relay { concurrency });
        let distributor = distributor.map(|binary| Program::Distributor {
            binary,
            filters: row.filters,
        });
        if relay.is_none() && distributor.is_none() {
            continue;
        }
        let mut measured = MeasuredRow {
            name: row.name,
            relay: Vec::new(),
            distributor: Vec::new(),
        };
        for round in 1..=effort.rounds {
            eprintln!("{}: round {round} of {}", row.name, effort.rounds);
            if let Some(program) = relay {
                measured.relay.push(row.round(&bench, program, effort).await?);
            }
            if let Some(program) = distributor {
                measured.distributor.push(row.round(&bench, program, effort).await?);
            }
        }
        measured_rows.push(measured);
    }
    bench.stop().await?;
    Ok(measured_rows)
}

impl Row {
    async fn round(&self, bench: &Bench, program: Program<'_>, effort: &Effort) -> anyhow::Result<Round> {
        match self.kind {
            Kind::Throughput => bench.throughput(program, self.load, effort.events).await,
            Kind::Latency { per_second } => bench.latency(program, self.load, per_second, effort.observed).await,
            Kind::Burst => bench.burst(program, self.load, effort.burst_events).await,
            Kind::Idle => bench.idle(program, self.load, effort.observed).await,
            Kind::StartUp => bench.start_up(program, self.load, effort.starts).await,
        }
    }
}
