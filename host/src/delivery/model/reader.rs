//! Takes what the server sends, as the reader of a stream does: the real ledger, continuity and gap between a simulated
//! connection and the real dispatcher. Compare with [`crate::source::jetstream`].

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::World;
use super::scenario::{Kind, Planned};
use super::server::{Said, Sent};
use super::wire::{Link, Sender};
use crate::budget::Budget;
use crate::dispatch::{Dispatcher, Received, Workspace};
use crate::receipt::Receipt;
use crate::source::jetstream::{Arrival, Continuity, Gap, Ledger, Number, Place, Places, Progress, Turn};

/// As in the reader of a stream.
const STUCK_INTERVAL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Reader {
    pub(super) world: Arc<World>,
    pub(super) life: usize,
    pub(super) ledger: Arc<Ledger>,
    pub(super) budget: Arc<Budget>,
    pub(super) dispatcher: Dispatcher,
    pub(super) arrivals: mpsc::UnboundedReceiver<Sent>,
    pub(super) to_server: Sender<Said>,
    pub(super) link: Arc<Link>,
    pub(super) shutdown: CancellationToken,
    pub(super) state: State,
}

/// What the reader begins with.
#[derive(Default)]
pub(super) struct State {
    workspace: Workspace,
    inbox: u64,
    /// Messages that came while an answer was waited for.
    earlier: VecDeque<Subject>,
    n_questions: u64,
    n_requested: usize,
    is_full: bool,
    is_known: bool,
    is_in_doubt: bool,
    connection: u64,
    continuity: Continuity,
    gap: Option<Gap<()>>,
}

/// Something may be lost.
struct LookAgain;

impl Reader {
    pub(super) async fn run(mut self) {
        while self.get_consumer().await {
            match self.pull().await {
                Ok(()) => break,
                Err(LookAgain) => self.state.is_in_doubt = true,
            }
        }
        self.stop().await;
        self.ledger.end();
    }

    /// False if there is a shutdown before.
    async fn get_consumer(&mut self) -> bool {
        let (shutdown, link) = (self.shutdown.clone(), Arc::clone(&self.link));
        loop {
            let connection = link.number();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return false,
                () = link.until(connection + 1) => {}
                () = self.try_consumer(connection), if !link.is_broken() => return true,
            }
        }
    }

    async fn try_consumer(&mut self, connection: u64) {
        self.state.is_in_doubt |= connection != self.state.connection;
        if self.state.is_in_doubt {
            self.to_server.send(Said::Void(self.state.inbox));
            self.state.inbox += 1;
            self.state.n_requested = 0;
        }
        let progress = self.ask().await;
        let delivered = progress.delivered;
        if !self.state.is_known {
            self.ledger.restart(delivered.stream_seq);
            self.state.continuity.restart(delivered);
        } else if self.state.is_in_doubt {
            self.state.gap = None;
            let n_missing = self.state.continuity.n_missing(delivered);
            let missing = self.recover(progress).await;
            self.state.gap = missing.and_then(|missing| Gap::new(missing, n_missing));
        }
        self.state.is_known = true;
        self.state.is_in_doubt = false;
        self.state.connection = connection;
        while let Some(reply) = self.state.earlier.pop_front() {
            // What it says is looked into already.
            let _ = self.take(reply).await;
        }
    }

    async fn recover(&mut self, progress: Progress) -> Option<RangeInclusive<u64>> {
        let handed_out = progress.delivered;
        let is_alone = self.state.continuity.is_alone();
        let missing = is_alone.then(|| {
            let after = self.state.continuity.missing_after(handed_out);
            after.unwrap_or(handed_out.stream_seq) + 1..=handed_out.stream_seq
        });
        let places = Places::new(self.ledger.stream(), self.ledger.durable());
        self.ledger.say_again(&places, progress, missing.clone());
        self.ledger.until_passed_on().await;
        self.ask().await;
        if is_alone {
            self.state.continuity.ask_again(handed_out);
        } else {
            self.state.continuity.restart(handed_out);
        }
        missing
    }

    /// How far the consumer is, when the server has taken note of everything that was said before.
    async fn ask(&mut self) -> Progress {
        self.state.n_questions += 1;
        let question = self.state.n_questions;
        self.to_server.send(Said::Question(question));
        loop {
            match self.arrivals.recv().await.expect("the wire stays") {
                Sent::Answer(number, progress) if number == question => return progress,
                Sent::Message(reply) => self.state.earlier.push_back(reply),
                _ => {}
            }
        }
    }

    async fn pull(&mut self) -> Result<(), LookAgain> {
        let (shutdown, link) = (self.shutdown.clone(), Arc::clone(&self.link));
        let (deliveries, budget) = (Arc::clone(&self.dispatcher.deliveries), Arc::clone(&self.budget));
        loop {
            while let Ok(sent) = self.arrivals.try_recv() {
                self.come(sent).await?;
            }
            if self.state.n_requested == 0 || link.is_broken() {
                self.state.gap.iter_mut().for_each(Gap::begin_waiting);
            }
            if self.state.gap.as_ref().is_some_and(|gap| gap.ends() <= Instant::now()) {
                self.close_gap().await;
            }
            let is_accepting = deliveries.is_accepting();
            if is_accepting {
                self.request();
            }
            let wanted = self.state.n_requested + self.step();
            let waits_for_room = is_accepting && wanted <= budget.max_events();
            let patience = self.patience();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                () = link.until(self.state.connection + 1) => return Err(LookAgain),
                sent = self.arrivals.recv() => self.come(sent.expect("the wire stays")).await?,
                () = budget.until_room_for(wanted, 1), if waits_for_room => {}
                () = deliveries.until_accepting(), if !is_accepting => {}
                () = sleep(patience) => if self.state.is_full {
                    self.make_room(true);
                },
            }
        }
    }

    fn request(&mut self) {
        let mut room = self.room();
        if room.is_none() && self.state.n_requested == 0 && self.make_room(false) > 0 {
            room = self.room();
        }
        self.state.is_full = room.is_none() && self.state.n_requested == 0;
        if let Some(n) = room {
            self.state.n_requested += n;
            self.to_server.send(Said::Request(self.state.inbox, n));
        }
    }

    fn step(&self) -> usize {
        (self.budget.max_events() / 4).max(1)
    }

    fn room(&self) -> Option<usize> {
        let (room, _) = self.budget.room();
        let room = room.saturating_sub(self.state.n_requested);
        (room >= self.step()).then_some(room)
    }

    fn make_room(&self, for_a_while: bool) -> usize {
        let pause = self.ledger.tail_pause();
        self.dispatcher.deliveries.make_room(pause, for_a_while)
    }

    fn patience(&self) -> Duration {
        let patience = if self.state.is_full { STUCK_INTERVAL } else { PATIENCE };
        let gap_ends = self.state.gap.as_ref().map(|gap| gap.ends() - Instant::now());
        gap_ends.map_or(patience, |gap_ends| gap_ends.min(patience))
    }

    async fn come(&mut self, sent: Sent) -> Result<(), LookAgain> {
        match sent {
            Sent::Message(reply) => self.take(reply).await?,
            Sent::Unserved(inbox, n) if inbox == self.state.inbox => {
                self.state.n_requested = self.state.n_requested.saturating_sub(n);
            }
            Sent::Heartbeat(inbox, at) if inbox == self.state.inbox => {
                self.ledger.catch_up();
                self.state.continuity.hear(at);
            }
            _ => {}
        }
        Ok(())
    }

    async fn take(&mut self, reply: Subject) -> Result<(), LookAgain> {
        let place = Place::of(&reply).expect("the server made it");
        match self.state.continuity.judge(place.delivery) {
            Number::AskedAgain => return Ok(()),
            Number::AfterGap if self.state.continuity.is_alone() && self.link.number() != self.state.connection => {
                return Err(LookAgain);
            }
            Number::AfterGap | Number::Expected => self.state.continuity.count(place.delivery),
        }
        if place.n_deliveries == 1 {
            self.ledger.catch_up();
        }
        let turn = match &mut self.state.gap {
            Some(gap) => gap.turn(place.sequence, reply, ()),
            None => Turn::Now((reply, ())),
        };
        match turn {
            Turn::Now((reply, ())) => self.dispatch(reply).await,
            Turn::Later => {}
            Turn::Close(next) => {
                self.close_gap().await;
                if let Some((reply, ())) = next {
                    self.dispatch(reply).await;
                }
            }
        }
        Ok(())
    }

    async fn close_gap(&mut self) {
        if let Some(gap) = self.state.gap.take() {
            for (reply, ()) in gap.closed() {
                self.dispatch(reply).await;
            }
            self.state.continuity.take_all();
        }
    }

    async fn dispatch(&mut self, reply: Subject) {
        self.state.n_requested = self.state.n_requested.saturating_sub(1);
        let place = Place::of(&reply).expect("the server made it");
        self.state.continuity.take(place.sequence);
        if let Some(received) = self.received(reply, place) {
            self.dispatcher.dispatch(received, &mut self.state.workspace).await;
        }
    }

    fn received(&self, reply: Subject, place: Place) -> Option<Received> {
        let sequence = place.sequence;
        if self.ledger.receive(sequence, reply) != Arrival::New {
            return None;
        }
        let planned = self.world.scenario.event(sequence);
        let payload = payload(sequence, planned);
        self.world.journal.received(self.life, sequence);
        let held = self.budget.take(payload.len());
        let n_held = self.budget.max_events() - self.budget.room().0;
        let n_held = n_held.max(self.ledger.unsettled().0);
        self.world.journal.holds(self.life, n_held);
        Some(Received {
            subject: subject(planned),
            payload: Ok(payload),
            trace: None,
            receipt: Receipt::stream(held, Arc::clone(&self.ledger), sequence, place.n_deliveries),
        })
    }

    /// Wants nothing more, and gives back what has come meanwhile.
    async fn stop(&mut self) {
        if self.link.is_broken() {
            return;
        }
        self.to_server.send(Said::Void(self.state.inbox));
        // In vain if the connection breaks meanwhile.
        let _ = timeout(ANSWER_TIMEOUT, self.ask()).await;
        let kept = self.state.gap.take().into_iter().flat_map(Gap::closed);
        let mut came: Vec<_> = kept.map(|(reply, ())| reply).collect();
        came.extend(self.state.earlier.drain(..));
        for reply in came {
            let place = Place::of(&reply).expect("the server made it");
            drop(self.received(reply, place));
        }
    }
}

fn subject(planned: &Planned) -> Subject {
    Subject::from_static(match planned.kind {
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
