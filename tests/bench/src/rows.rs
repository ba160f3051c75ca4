//! The rows of the table, and the order in which they are measured.
//!
//! Called by `main`. A row is data: a new one is a line in [`ROWS`]. It must not know how a round is run.

use std::path::Path;

use crate::Effort;
use crate::clock::Clock;
use crate::events::Load;
use crate::figures::Round;
use crate::measured::{Distributor, Filter, Mode, Program};
use crate::stage::Bench;

/// What a row measures.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Throughput,
    /// As the one before, but in JetStream mode with events that were there before the distributor ran.
    Stored,
    Latency {
        per_second: u32,
    },
    Burst,
    Backlog,
    Posts {
        n_connections: usize,
    },
    /// Through the API proxy. What it is compared with has nothing between client and control plane.
    Requests {
        n_connections: usize,
    },
    Idle,
    StartUp,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    name: &'static str,
    kind: Kind,
    load: Load,
    filter: Filter,
    /// Whether its native code is there when it starts.
    is_compiled: bool,
    /// Deliveries at once by the relay to compare with; `None` where a relay does not do the same work.
    relay_concurrency: Option<usize>,
    /// In which modes the distributor does this work.
    modes: &'static [Mode],
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
    filter: Filter::None,
    is_compiled: true,
    relay_concurrency: Some(16),
    modes: &[Mode::Core, Mode::JetStream],
};

/// The same for events that wait in a stream.
const STORED: Row = Row {
    kind: Kind::Stored,
    relay_concurrency: None,
    ..PLAIN
};

/// As large as a server takes them without being told to.
const HUGE: Load = Load {
    size_bytes: 1000 * 1024,
    n_keys: 50,
    ..SMALL
};
/// What a row sends at most, so that those of large events take no hour.
const MAX_BYTES: usize = 4 << 30;

/// A chain of so many filters that pass everything.
const fn chain(name: &'static str, length: usize) -> Row {
    Row {
        name,
        filter: Filter::Chain(length),
        relay_concurrency: None,
        modes: &[Mode::Core],
        ..PLAIN
    }
}

const fn passing(percent: usize) -> Load {
    Load {
        passing_percent: percent,
        ..SMALL
    }
}

/// Requests through the API proxy with answers of this size. In the place of the relay is a direct connection.
const fn requests(size_bytes: usize, n_connections: usize) -> Row {
    Row {
        kind: Kind::Requests { n_connections },
        load: Load { size_bytes, ..SMALL },
        modes: &[Mode::Core],
        ..PLAIN
    }
}

const ROWS: &[Row] = &[
    Row {
        name: "1 KB, no filter",
        ..PLAIN
    },
    Row {
        name: "1 KB, filter passes 100 %",
        filter: Filter::Project,
        ..PLAIN
    },
    Row {
        name: "1 KB, filter passes 10 %",
        filter: Filter::Project,
        load: passing(10),
        relay_concurrency: None,
        ..PLAIN
    },
    Row {
        name: "1 KB, filter passes 1 %",
        filter: Filter::Project,
        load: passing(1),
        relay_concurrency: None,
        ..PLAIN
    },
    Row {
        name: "32 KB, no filter",
        load: LARGE,
        ..PLAIN
    },
    Row {
        name: "1000 KB, no filter",
        load: HUGE,
        modes: &[Mode::Core],
        ..PLAIN
    },
    chain("1 KB, chain of 1", 1),
    chain("1 KB, chain of 3", 3),
    chain("1 KB, chain of 10", 10),
    chain("1 KB, chain of 100", 100),
    Row {
        name: "1 KB stored, filter 100 %",
        filter: Filter::Project,
        ..STORED
    },
    Row {
        name: "1 KB stored, filter 1 %",
        filter: Filter::Project,
        load: passing(1),
        ..STORED
    },
    Row {
        name: "32 KB stored, no filter",
        load: LARGE,
        ..STORED
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
        name: "backlog of 1 KB, 50 ms each",
        kind: Kind::Backlog,
        modes: &[Mode::JetStream],
        ..STORED
    },
    Row {
        name: "POST /event, 1 KB",
        kind: Kind::Posts { n_connections: 16 },
        relay_concurrency: None,
        ..PLAIN
    },
    Row {
        name: "POST /event, 32 KB",
        kind: Kind::Posts { n_connections: 16 },
        relay_concurrency: None,
        load: LARGE,
        ..PLAIN
    },
    Row {
        name: "API proxy, 1 KB × 1",
        ..requests(1024, 1)
    },
    Row {
        name: "API proxy, 1 KB × 16",
        ..requests(1024, 16)
    },
    Row {
        name: "API proxy, 1 KB × 64",
        ..requests(1024, 64)
    },
    Row {
        name: "API proxy, 60 KB × 16",
        ..requests(60 * 1024, 16)
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
    Row {
        name: "start-up that compiles",
        kind: Kind::StartUp,
        relay_concurrency: None,
        is_compiled: false,
        ..PLAIN
    },
];

/// The rounds of one row.
#[derive(Debug)]
pub(crate) struct MeasuredRow {
    pub(crate) name: &'static str,
    pub(crate) relay: Vec<Round>,
    pub(crate) core: Vec<Round>,
    pub(crate) jetstream: Vec<Round>,
}

/// Measures all rows whose name contains `only`, one program after the other in each round. Without a distributor, the
/// relay alone.
pub(crate) async fn measure(
    effort: &Effort,
    distributor: Option<&Path>,
    only: &str,
    clock: Clock,
) -> anyhow::Result<Vec<MeasuredRow>> {
    let bench = Bench::start(clock).await?;
    let mut measured_rows = Vec::new();
    for row in ROWS.iter().filter(|row| row.name.contains(only)) {
        let programs = row.programs(distributor);
        if programs.is_empty() {
            continue;
        }
        let mut measured = MeasuredRow {
            name: row.name,
            relay: Vec::new(),
            core: Vec::new(),
            jetstream: Vec::new(),
        };
        for round in 1..=effort.rounds {
            eprintln!("{}: round {round} of {}", row.name, effort.rounds);
            for &program in &programs {
                let figures = row.round(&bench, program, effort).await?;
                let rounds = match program {
                    Program::Relay { .. } => &mut measured.relay,
                    Program::Distributor(Distributor { mode: Mode::Core, .. }) => &mut measured.core,
                    Program::Distributor(_) => &mut measured.jetstream,
                };
                rounds.push(figures);
                bench.clear().await?;
            }
        }
        measured_rows.push(measured);
    }
    bench.stop().await?;
    Ok(measured_rows)
}

impl Row {
    fn programs<'a>(&self, distributor: Option<&'a Path>) -> Vec<Program<'a>> {
        let relay = self.relay_concurrency.map(|concurrency| Program::Relay { concurrency });
        let (filter, is_compiled) = (self.filter, self.is_compiled);
        let in_modes = distributor.into_iter().flat_map(|binary| {
            let in_mode = move |&mode: &Mode| {
                Program::Distributor(Distributor {
                    binary,
                    filter,
                    is_compiled,
                    mode,
                })
            };
            self.modes.iter().map(in_mode)
        });
        relay.into_iter().chain(in_modes).collect()
    }

    async fn round(&self, bench: &Bench, program: Program<'_>, effort: &Effort) -> anyhow::Result<Round> {
        let load = self.load;
        let n_events = effort.events.min(MAX_BYTES / load.size_bytes);
        match self.kind {
            Kind::Stored if program.mode() == Mode::JetStream => bench.stored(program, load, n_events).await,
            Kind::Throughput | Kind::Stored => bench.throughput(program, load, n_events).await,
            Kind::Latency { per_second } => bench.latency(program, load, per_second, effort.observed).await,
            Kind::Burst => bench.burst(program, load, effort.burst_events).await,
            Kind::Backlog => {
                bench
                    .backlog(program, load, effort.backlog_events, effort.observed)
                    .await
            }
            Kind::Posts { n_connections } => bench.posts(program, load, n_connections, n_events).await,
            Kind::Requests { n_connections } => bench.requests(program, load.size_bytes, n_connections, n_events).await,
            Kind::Idle => bench.idle(program, load, effort.observed).await,
            Kind::StartUp => bench.start_up(program, load, effort.starts).await,
        }
    }
}
