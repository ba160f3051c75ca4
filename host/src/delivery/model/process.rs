//! One process: the real ledger, budget, dispatcher and deliveries, and a reader and a teller as in
//! [`crate::source::jetstream`], but on a simulated wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::World;
use super::journal::Ending;
use super::scenario::{Kind, Planned};
use super::server::{ACK_WAIT, Message, Said, Sent};
use super::service::{SUBSCRIPTIONS, Script};
use super::wire::{LATENCY, Sender, wire};
use crate::answers::Answers;
use crate::budget::Budget;
use crate::delivery::Deliveries;
use crate::delivery::outside::Outside;
use crate::dispatch::{Dispatcher, Received};
use crate::plugins::{Chain, Plugins};
use crate::receipt::Receipt;
use crate::source::jetstream::{Arrival, Command, Ledger};
use crate::subject::Subject;
use crate::subscription::{Interest, Match, Subscription};

/// As in the reader of a stream.
const STUCK_INTERVAL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Process {
    world: Arc<World>,
    life: usize,
    ledger: Arc<Ledger>,
    budget: Arc<Budget>,
    deliveries: Arc<Deliveries>,
    is_broken: Arc<AtomicBool>,
    reconnected: Arc<Notify>,
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
        let ledger = Ledger::new("keptn".to_owned(), "d".to_owned(), ACK_WAIT, commands, Arc::default());
        let ledger = Arc::new(ledger);
        let is_broken = Arc::new(AtomicBool::new(false));
        let (to_server, at_server) = wire(&is_broken);
        let (from_server, at_process) = wire(&is_broken);
        let (arrived, inbox) = mpsc::unbounded_channel();
        let in_task = Arc::clone(world);
        tasks.spawn(at_server.run(move |said| in_task.server.hear(life, said, &from_server)));
        tasks.spawn(at_process.run(move |sent| drop(arrived.send(sent))));
        let (shutdown, finish) = (CancellationToken::new(), CancellationToken::new());
        let budget = Budget::new(scenario.max_events, usize::MAX);
        let reconnected = Arc::new(Notify::new());
        let telling = tell(receiver, Arc::clone(&ledger), to_server.clone(), finish.clone());
        let reader = Reader {
            world: Arc::clone(world),
            life,
            ledger: Arc::clone(&ledger),
            budget: Arc::clone(&budget),
            dispatcher: dispatcher(&deliveries),
            matches: Vec::new(),
            step: (scenario.max_events / 4).max(1),
            n_requested: 0,
            is_full: false,
            inbox,
            to_server,
            reconnected: Arc::clone(&reconnected),
            shutdown: shutdown.clone(),
        };
        Self {
            world: Arc::clone(world),
            life,
            ledger,
            budget,
            deliveries,
            is_broken,
            reconnected,
            shutdown,
            finish,
            reading: tokio::spawn(reader.run()),
            telling: tokio::spawn(telling),
            tasks,
        }
    }

    /// Stops at once.
    pub(super) fn kill(self) {
        self.is_broken.store(true, Ordering::Relaxed);
        self.world.server.disconnect(self.life);
        self.world.journal.ends(self.life, Ending::Killed);
        self.reading.abort();
        self.telling.abort();
    }

    /// Ends as [`crate::app`] does.
    pub(super) async fn end(self) {
        self.shutdown.cancel();
        self.deliveries.end();
        let drained = timeout(self.world.scenario.drain_timeout, async {
            self.reading.await.expect("reading does not fail");
            self.deliveries.drained().await;
        });
        let is_drained = drained.await.is_ok();
        self.deliveries.close();
        self.finish.cancel();
        self.telling.await.expect("telling does not fail");
        sleep(LATENCY * 2).await;
        let ending = if is_drained { Ending::Clean } else { Ending::Undrained };
        self.is_broken.store(true, Ordering::Relaxed);
        self.world.server.disconnect(self.life);
        self.world.journal.ends(self.life, ending);
        let (in_memory, _) = self.ledger.unsettled();
        self.world.journal.is_drained(self.life, in_memory);
    }

    /// Loses what is on the wire from now on, until the pause is over.
    pub(super) fn break_wire(&mut self, pause: Duration) {
        self.is_broken.store(true, Ordering::Relaxed);
        self.world.server.disconnect(self.life);
        self.world.journal.wire_breaks(self.life);
        let (is_broken, reconnected) = (Arc::clone(&self.is_broken), Arc::clone(&self.reconnected));
        self.tasks.spawn(async move {
            sleep(pause).await;
            is_broken.store(false, Ordering::Relaxed);
            reconnected.notify_one();
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

/// Takes what the server sends, as the reader of a stream does.
struct Reader {
    world: Arc<World>,
    life: usize,
    ledger: Arc<Ledger>,
    budget: Arc<Budget>,
    dispatcher: Dispatcher,
    matches: Vec<Match>,
    step: usize,
    n_requested: usize,
    is_full: bool,
    inbox: mpsc::UnboundedReceiver<Sent>,
    to_server: Sender<Said>,
    reconnected: Arc<Notify>,
    shutdown: CancellationToken,
}

impl Reader {
    async fn run(mut self) {
        let deliveries = Arc::clone(&self.dispatcher.deliveries);
        let budget = Arc::clone(&self.budget);
        loop {
            while let Ok(sent) = self.inbox.try_recv() {
                self.take(sent).await;
            }
            let is_accepting = deliveries.is_accepting();
            if is_accepting {
                self.request();
            }
            let wanted = self.n_requested + self.step;
            let waits_for_room = is_accepting && wanted <= budget.max_events();
            let patience = if self.is_full { STUCK_INTERVAL } else { PATIENCE };
            tokio::select! {
                sent = self.inbox.recv() => self.take(sent.expect("the wire stays")).await,
                () = budget.until_room_for(wanted, 1), if waits_for_room => {}
                () = deliveries.until_accepting(), if !is_accepting => {}
                () = self.shutdown.cancelled() => break,
                () = self.reconnected.notified() => self.n_requested = 0,
                () = sleep(patience) => if self.is_full {
                    self.make_room(true);
                },
            }
        }
        self.stop().await;
    }

    fn request(&mut self) {
        let mut room = self.room();
        if room.is_none() && self.n_requested == 0 && self.make_room(false) > 0 {
            room = self.room();
        }
        self.is_full = room.is_none() && self.n_requested == 0;
        if let Some(n) = room {
            self.n_requested += n;
            self.to_server.send(Said::Request(n));
        }
    }

    fn room(&self) -> Option<usize> {
        let (room, _) = self.budget.room();
        Some(room.saturating_sub(self.n_requested)).filter(|&n| n >= self.step)
    }

    fn make_room(&self, for_a_while: bool) -> usize {
        let pause = self.ledger.tail_pause();
        self.dispatcher.deliveries.make_room(pause, for_a_while)
    }

    async fn take(&mut self, sent: Sent) {
        match sent {
            Sent::Unserved(n) => self.n_requested = self.n_requested.saturating_sub(n),
            Sent::Message(message) => {
                self.n_requested = self.n_requested.saturating_sub(1);
                if let Some(received) = self.received(message) {
                    self.dispatcher.dispatch(received, &mut self.matches).await;
                }
            }
        }
    }

    fn received(&self, message: Message) -> Option<Received> {
        let Message {
            sequence,
            n_deliveries,
            reply,
        } = message;
        if self.ledger.receive(sequence, reply) != Arrival::New {
            return None;
        }
        let planned = self.world.scenario.event(sequence);
        let payload = payload(sequence, planned);
        self.world.journal.received(self.life, sequence, n_deliveries);
        let held = self.budget.take(payload.len());
        let n_held = self.budget.max_events() - self.budget.room().0;
        self.world
            .journal
            .holds(self.life, n_held.max(self.ledger.unsettled().0));
        Some(Received {
            subject: subject(planned),
            payload: Ok(payload),
            receipt: Receipt::stream(held, Arc::clone(&self.ledger), sequence, n_deliveries),
        })
    }

    async fn stop(mut self) {
        self.world.server.disconnect(self.life);
        sleep(LATENCY * 2).await;
        while let Ok(sent) = self.inbox.try_recv() {
            if let Sent::Message(message) = sent {
                drop(self.received(message));
            }
        }
    }
}

/// Passes commands on, as the task of [`crate::source::jetstream`] does.
async fn tell(
    mut commands: mpsc::UnboundedReceiver<Command>,
    ledger: Arc<Ledger>,
    to_server: Sender<Said>,
    finish: CancellationToken,
) {
    let mut ticks = tokio::time::interval(ACK_WAIT / 6);
    loop {
        tokio::select! {
            Some(command) = commands.recv() => to_server.send(Said::Command(command)),
            _ = ticks.tick() => ledger.report_progress(ACK_WAIT / 3),
            () = finish.cancelled() => break,
        }
    }
    while let Ok(command) = commands.try_recv() {
        to_server.send(Said::Command(command));
    }
}

fn dispatcher(deliveries: &Arc<Deliveries>) -> Dispatcher {
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
    let chain = Chain {
        generation: 1,
        plugins: Vec::new(),
    };
    Dispatcher {
        // Nobody changes it.
        interest: watch::channel(Arc::new(interest)).1,
        plugins: Arc::new(Plugins::new(chain)),
        deliveries: Arc::clone(deliveries),
        dedupe: Arc::default(),
        comes_twice: Arc::default(),
        counters: Arc::default(),
    }
}

fn subject(planned: &Planned) -> async_nats::Subject {
    async_nats::Subject::from_static(match planned.kind {
        Kind::Wanted(2) => "wanted.twice",
        Kind::Unwanted => "unwanted",
        _ => "wanted.once",
    })
}

fn payload(sequence: u64, planned: &Planned) -> Bytes {
    if planned.kind == Kind::Malformed {
        return Bytes::from_static(b"{");
    }
    let key = planned
        .key
        .map_or_else(String::new, |key| format!(r#","shkeptncontext":"{key}""#));
    Bytes::from(format!(
        r#"{{"specversion":"1.0","id":"{sequence}","source":"s","type":"t"{key}}}"#
    ))
}
