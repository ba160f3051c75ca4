//! One process: the real ledger, budget, dispatcher and deliveries, and a reader and a teller as in
//! [`crate::source::jetstream`], but on a simulated wire.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::World;
use super::journal::Ending;
use super::plugin;
use super::reader::{self, Reader};
use super::server::{ACK_WAIT, Said};
use super::service::{SUBSCRIPTIONS, Script};
use super::wire::{LATENCY, Link, Sender, wire};
use crate::answers::Answers;
use crate::budget::Budget;
use crate::delivery::Deliveries;
use crate::delivery::outside::Outside;
use crate::dispatch::Dispatcher;
use crate::plugins::Plugins;
use crate::source::jetstream::{Command, Ledger};
use crate::subject::Subject;
use crate::subscription::{Interest, Subscription};

pub(super) struct Process {
    world: Arc<World>,
    life: usize,
    ledger: Arc<Ledger>,
    budget: Arc<Budget>,
    deliveries: Arc<Deliveries>,
    link: Arc<Link>,
    shutdown: CancellationToken,
    finish: CancellationToken,
    reading: JoinHandle<()>,
    telling: JoinHandle<()>,
    /// Ended with the process.
    tasks: JoinSet<()>,
}

impl Process {
    pub(super) fn start(world: &Arc<World>) -> Self {
        let life = world.journal.starts();
        let scenario = &world.scenario;
        let answers = Arc::new(Answers::default());
        let script = Script {
            scenario: Arc::clone(scenario),
            journal: Arc::clone(&world.journal),
            answers: Arc::clone(&answers),
            life,
        };
        let outside = Outside::Scripted(script);
        let deliveries = Arc::new(Deliveries::to(outside, &scenario.config, answers, Arc::default()));
        let mut tasks = JoinSet::new();
        deliveries.run(&mut tasks);
        let (commands, receiver) = mpsc::unbounded_channel();
        let (shutdown, finish) = (CancellationToken::new(), CancellationToken::new());
        let ledger = Ledger::new(
            "keptn".to_owned(),
            "d".to_owned(),
            ACK_WAIT,
            commands,
            Arc::default(),
            shutdown.clone(),
        );
        let ledger = Arc::new(ledger);
        let link = Link::new();
        let (to_server, at_server) = wire(&link, true);
        let (from_server, at_process) = wire(&link, false);
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let in_task = Arc::clone(world);
        tasks.spawn(at_server.run(move |said| in_task.server.hear(life, said, &from_server)));
        tasks.spawn(at_process.run(move |sent| drop(arrived.send(sent))));
        let budget = Budget::new(scenario.max_events, usize::MAX);
        let telling = tell(
            receiver,
            Arc::clone(&ledger),
            Arc::clone(&link),
            to_server.clone(),
            finish.clone(),
        );
        let reader = Reader {
            world: Arc::clone(world),
            life,
            ledger: Arc::clone(&ledger),
            budget: Arc::clone(&budget),
            dispatcher: dispatcher(world, &deliveries),
            arrivals,
            to_server,
            link: Arc::clone(&link),
            shutdown: shutdown.clone(),
            state: reader::State::default(),
        };
        Self {
            world: Arc::clone(world),
            life,
            ledger,
            budget,
            deliveries,
            link,
            shutdown,
            finish,
            reading: tokio::spawn(reader.run()),
            telling: tokio::spawn(telling),
            tasks,
        }
    }

    /// Stops at once. The server may notice that later.
    pub(super) fn kill(self, is_noticed: bool) -> usize {
        self.link.break_off();
        if is_noticed {
            self.world.server.disconnect(self.life);
        }
        self.world.journal.ends(self.life, Ending::Killed);
        self.reading.abort();
        self.telling.abort();
        self.life
    }

    /// Ends as [`crate::app`] does.
    pub(super) async fn end(self) {
        self.world.journal.shuts_down(self.life);
        self.shutdown.cancel();
        self.deliveries.end();
        let drained = timeout(self.world.scenario.drain_timeout, async {
            self.reading.await.expect("reading does not fail");
            self.deliveries.drained().await;
        });
        let is_drained = drained.await.is_ok();
        self.deliveries.close();
        self.ledger.abandon();
        self.finish.cancel();
        self.telling.await.expect("telling does not fail");
        sleep(LATENCY * 2).await;
        let ending = if is_drained { Ending::Clean } else { Ending::Undrained };
        self.link.break_off();
        self.world.server.disconnect(self.life);
        self.world.journal.ends(self.life, ending);
        let (in_memory, _) = self.ledger.unsettled();
        self.world.journal.is_drained(self.life, in_memory);
    }

    /// Loses what is on the wire, and is without a connection until the pause is over.
    pub(super) fn break_wire(&mut self, pause: Duration, is_noticed: bool) {
        if self.link.is_broken() {
            return;
        }
        self.link.break_off();
        if is_noticed {
            self.world.server.disconnect(self.life);
        }
        self.world.journal.wire_breaks(self.life, pause);
        let (world, life, link) = (Arc::clone(&self.world), self.life, Arc::clone(&self.link));
        self.tasks.spawn(async move {
            sleep(pause).await;
            world.server.disconnect(life);
            link.mend();
        });
    }

    /// What it still has; empty if there is nothing.
    pub(super) fn left(&self) -> String {
        let unsettled = self.ledger.unsettled();
        let (room, _) = self.budget.room();
        let n_held = self.world.scenario.max_events - room;
        let n_pending = self.deliveries.pending();
        let is_empty = unsettled == (0, 0) && n_held == 0 && n_pending == 0;
        if is_empty {
            return String::new();
        }
        format!(
            "life {}: in the ledger {unsettled:?}, {n_held} held, {n_pending} to deliver; ",
            self.life
        )
    }
}

/// Passes commands on, as the task of [`crate::source::jetstream`] does.
async fn tell(
    mut commands: mpsc::UnboundedReceiver<Command>,
    ledger: Arc<Ledger>,
    link: Arc<Link>,
    to_server: Sender<Said>,
    finish: CancellationToken,
) {
    let mut ticks = tokio::time::interval(ACK_WAIT / 6);
    loop {
        tokio::select! {
            biased;
            Some(command) = commands.recv() => {
                to_server.send(Said::Command(command));
                ledger.passed_on(1);
            }
            _ = ticks.tick() => if !link.is_broken() {
                ledger.report_progress(ACK_WAIT / 3);
            },
            () = finish.cancelled() => break,
        }
    }
    while let Ok(command) = commands.try_recv() {
        to_server.send(Said::Command(command));
    }
}

fn dispatcher(world: &World, deliveries: &Arc<Deliveries>) -> Dispatcher {
    let subscription = |id: &str, pattern| Subscription {
        id: id.to_owned(),
        event: Subject::pattern(pattern).expect("a subject"),
        projects: Vec::new(),
        stages: Vec::new(),
        services: Vec::new(),
    };
    let [first, second] = SUBSCRIPTIONS;
    let interest = Interest::subscriptions(vec![
        subscription(first, "wanted.>"),
        subscription(second, "wanted.twice"),
    ]);
    Dispatcher {
        // Nobody changes it.
        interest: watch::channel(Arc::new(interest)).1,
        plugins: Arc::new(Plugins::rehearsed(plugin::chain(&world.scenario, &world.journal))),
        deliveries: Arc::clone(deliveries),
        dedupe: Arc::default(),
        comes_twice: Arc::default(),
        counters: Arc::default(),
        recent: Arc::default(),
        overview: Arc::default(),
        tracer: None,
    }
}
