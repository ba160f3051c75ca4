//! What a row is, and how its rounds are run: one program after the other, so that what else the machine does meets all.
//!
//! Called by `main` with the table of `rows`, and by `scaling` with rows of its own. It must not know which rows there are.

use std::path::Path;

use crate::Effort;
use crate::calls::Callee;
use crate::events::Load;
use crate::figures::Round;
use crate::goals::Column;
use crate::measured::{Distributor, Filter, Mode, Program};
use crate::outages::Outage;
use crate::stage::Bench;
use crate::subscriptions::Wanted;

/// What a row measures.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Throughput,
    /// As the one before, but in JetStream mode with events that were there before the distributor ran, or several of
    /// them that share the durable consumer.
    Stored {
        n_replicas: usize,
    },
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
    Outage {
        outage: Outage,
        per_second: u32,
    },
    /// A plugin is replaced while events flow.
    Swap,
    /// Events that stay open are asked for again and again.
    Polling,
    /// As `Throughput`, with subscriptions of the control plane, of which the events match the last.
    Subscriptions(Wanted),
    /// One component, again and again. What it is compared with is native code.
    Call(Callee),
    Idle,
    StartUp,
    /// Its size. Nothing runs.
    Binary,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) load: Load,
    pub(crate) filter: Filter,
    /// Whether its native code is there when it starts.
    pub(crate) is_compiled: bool,
    /// As many as it chooses by itself where nothing is said.
    pub(crate) worker_threads: Option<usize>,
    /// Deliveries at once by the relay to compare with; `None` where a relay does not do the same work.
    pub(crate) relay_concurrency: Option<usize>,
    /// In which modes the distributor does this work.
    pub(crate) modes: &'static [Mode],
}

/// What a row sends at most, so that those of large events take no hour.
const MAX_BYTES: usize = 4 << 30;

/// The rounds of one row.
#[derive(Debug)]
pub(crate) struct MeasuredRow {
    pub(crate) name: String,
    pub(crate) relay: Vec<Round>,
    pub(crate) core: Vec<Round>,
    pub(crate) jetstream: Vec<Round>,
}

impl MeasuredRow {
    pub(crate) fn rounds(&self, column: Column) -> &[Round] {
        match column {
            Column::Relay => &self.relay,
            Column::Core => &self.core,
            Column::JetStream => &self.jetstream,
        }
    }
}

impl Row {
    /// Measures all rounds under this name. `None`: it cannot be measured, which is told and must not cost the other rows
    /// of a long run.
    pub(crate) async fn try_measure(
        &self,
        name: &str,
        bench: &Bench,
        distributor: Option<&Path>,
        effort: &Effort,
    ) -> anyhow::Result<Option<MeasuredRow>> {
        let measured = self.measure(name, bench, distributor, effort).await;
        match measured {
            Ok(measured) => Ok(measured),
            Err(error) => {
                eprintln!("{name}: FAILED: {error:#}");
                bench.clear().await?;
                Ok(None)
            }
        }
    }

    async fn measure(
        &self,
        name: &str,
        bench: &Bench,
        distributor: Option<&Path>,
        effort: &Effort,
    ) -> anyhow::Result<Option<MeasuredRow>> {
        let programs = self.programs(distributor);
        if programs.is_empty() {
            return Ok(None);
        }
        if let Some(missing) = self.missing()? {
            eprintln!("{name}: LEFT OUT: {missing}");
            return Ok(None);
        }
        let mut measured = MeasuredRow {
            name: name.to_owned(),
            relay: Vec::new(),
            core: Vec::new(),
            jetstream: Vec::new(),
        };
        for &program in &programs {
            bench.compile(program).await?;
        }
        for round in 1..=effort.rounds {
            eprintln!("{name}: round {round} of {}", effort.rounds);
            for &program in &programs {
                let figures = self.round(bench, program, effort).await?;
                let rounds = match program {
                    Program::Relay { .. } => &mut measured.relay,
                    Program::Distributor(Distributor { mode: Mode::Core, .. }) => &mut measured.core,
                    Program::Distributor(_) => &mut measured.jetstream,
                };
                rounds.push(figures);
                bench.clear().await?;
            }
        }
        Ok(Some(measured))
    }

    /// What `make` has to build first.
    fn missing(&self) -> anyhow::Result<Option<String>> {
        let component = match (self.filter, self.kind) {
            (Filter::Language(language), _) => Some(language.component()?),
            (_, Kind::Call(callee)) => callee.component()?,
            (_, Kind::Swap) => Some(crate::swaps::component()?),
            _ => None,
        };
        let missing = component.filter(|path| !path.is_file());
        Ok(missing.map(|path| format!("there is no {}: `make guests examples` builds it", path.display())))
    }

    fn programs<'a>(&self, distributor: Option<&'a Path>) -> Vec<Program<'a>> {
        let relay = self.relay_concurrency.map(|concurrency| Program::Relay { concurrency });
        let (filter, is_compiled, worker_threads) = (self.filter, self.is_compiled, self.worker_threads);
        let in_modes = distributor.into_iter().flat_map(|binary| {
            let in_mode = move |&mode: &Mode| {
                Program::Distributor(Distributor {
                    binary,
                    filter,
                    is_compiled,
                    worker_threads,
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
            Kind::Stored { n_replicas } if program.mode() == Mode::JetStream => {
                bench.stored(program, load, n_replicas, n_events).await
            }
            Kind::Throughput | Kind::Stored { .. } => bench.throughput(program, load, n_events).await,
            Kind::Latency { per_second } => bench.latency(program, load, per_second, effort.observed).await,
            Kind::Burst => bench.burst(program, load, effort.burst_events).await,
            Kind::Backlog => {
                let n_events = effort.backlog_events;
                bench.backlog(program, load, n_events, effort.observed).await
            }
            Kind::Posts { n_connections } => bench.posts(program, load, n_connections, n_events).await,
            Kind::Requests { n_connections } => bench.requests(program, load.size_bytes, n_connections, n_events).await,
            Kind::Outage { outage, per_second } => {
                let away = outage.lasts(effort);
                bench.outage(program, load, outage, per_second, away).await
            }
            Kind::Swap => bench.swaps(program, load, effort.swaps).await,
            Kind::Polling => bench.polling(program, load).await,
            Kind::Subscriptions(wanted) => bench.subscriptions(program, load, wanted, n_events).await,
            Kind::Call(callee) => bench.call(program, load, callee, effort.observed).await,
            Kind::Idle => bench.idle(program, load, effort.observed).await,
            Kind::StartUp => bench.start_up(program, load, effort.starts).await,
            Kind::Binary => crate::binary::sizes(program),
        }
    }
}
