//! A model of the world around [`super::Deliveries`], to run them through many histories in little time: a server with one
//! stream, a service that is often in trouble, a place for dead letters that is not always there, and processes that are
//! killed, end and lose what is on the wire. Time is simulated, and every seed is another history.
//!
//! What must always hold is in [`journal`]. The processes are the real [`crate::source::jetstream::Ledger`],
//! [`crate::dispatch::Dispatcher`] and [`super::Deliveries`]; what talks to sockets is replaced.

mod journal;
mod life;
mod plugin;
mod process;
mod reader;
mod scenario;
mod server;
mod service;
mod wire;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use self::journal::Journal;
use self::process::Process;
use self::scenario::{Fault, Scenario};
use self::server::Server;
pub(super) use self::service::Script;

const SEEDS: Range<u64> = 0..200;
/// To look at one history again.
const ONLY: Option<u64> = None;
const THREADS: u64 = 4;
/// Everything has ended by then.
const LONGEST: Duration = Duration::from_hours(3);
/// What another replica settled is forgotten by then.
const FORGOTTEN: Duration = Duration::from_mins(12);

/// What processes share.
struct World {
    scenario: Arc<Scenario>,
    journal: Arc<Journal>,
    server: Server,
}

#[test]
fn no_history_loses_repeats_or_reorders_events_without_need() {
    let seeds = ONLY.map_or(SEEDS, |seed| seed..seed + 1);
    let violations: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|offset| {
                let seeds = seeds
                    .clone()
                    .skip(usize::try_from(offset).unwrap())
                    .step_by(usize::try_from(THREADS).unwrap());
                scope.spawn(move || {
                    seeds
                        .filter_map(|seed| violation(seed).map(|text| (seed, text)))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    for (seed, text) in &violations {
        eprintln!("SEED {seed}: {}", text.lines().next().unwrap_or_default());
    }
    if let Some((_, first)) = violations.iter().min_by_key(|(_, text)| text.len()) {
        let seeds: Vec<_> = violations.iter().map(|(seed, _)| seed).collect();
        panic!(
            "{} of {} histories, of the seeds {seeds:?}:\n{first}",
            violations.len(),
            SEEDS.end - SEEDS.start
        );
    }
}

#[test]
fn one_seed_is_one_history() {
    for seed in SEEDS.step_by(10) {
        assert!(journal(seed).history() == journal(seed).history(), "seed {seed}");
    }
}

/// What goes wrong with this seed.
fn violation(seed: u64) -> Option<String> {
    journal(seed).violation()
}

fn journal(seed: u64) -> Arc<Journal> {
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(run(Scenario::of(seed)))
}

async fn run(scenario: Scenario) -> Arc<Journal> {
    let scenario = Arc::new(scenario);
    let journal = Arc::new(Journal::new(Arc::clone(&scenario)));
    let world = Arc::new(World {
        server: Server::new(Arc::clone(&journal), scenario.max_ack_pending),
        scenario,
        journal,
    });
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    let in_task = Arc::clone(&world);
    tasks.spawn(async move { in_task.server.run().await });
    let in_task = Arc::clone(&world);
    tasks.spawn(async move {
        for event in &in_task.scenario.events {
            sleep_until(start + event.at).await;
            in_task.server.publish();
        }
    });
    let mut replicas: Vec<_> = (0..world.scenario.n_replicas).map(|_| Process::start(&world)).collect();
    for &(at, fault) in &world.scenario.faults {
        sleep_until(start + at).await;
        go_wrong(&world, &mut replicas, fault).await;
    }
    let n_events = world.scenario.events.len() as u64;
    while !world.server.has_settled(n_events) && start.elapsed() < LONGEST && !world.journal.has_violation() {
        sleep(Duration::from_secs(1)).await;
    }
    if replicas.len() > 1 {
        sleep(FORGOTTEN).await;
    }
    let left: String = replicas.iter().map(Process::left).collect();
    world.journal.end(&left);
    Arc::clone(&world.journal)
}

async fn go_wrong(world: &Arc<World>, replicas: &mut Vec<Process>, fault: Fault) {
    match fault {
        Fault::Kill(replica, pause, is_noticed) => {
            let life = replicas.remove(replica).kill(is_noticed);
            sleep(pause).await;
            world.server.disconnect(life);
            replicas.insert(replica, Process::start(world));
        }
        Fault::End(replica) => {
            replicas.remove(replica).end().await;
            replicas.insert(replica, Process::start(world));
        }
        Fault::BreakWire(replica, pause, is_noticed) => replicas[replica].break_wire(pause, is_noticed),
        Fault::Repeat => world.server.repeat(),
    }
}
