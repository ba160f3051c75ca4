//! The server: one stream, and one durable consumer with explicit acknowledgement, as `nats-server` does it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Subject;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::journal::Journal;
use super::wire;
use crate::source::jetstream::{Command, Place, Position, Progress};

/// How long a request for messages is kept.
const PULL_EXPIRES: Duration = Duration::from_secs(10);
/// How often the server shows that it has nothing for a request.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Time until an event that nobody says anything about is given again.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(30);

/// What the server sends to a process. Where it matters, with the number of the inbox.
#[derive(Debug)]
pub(super) enum Sent {
    /// An event, with the subject that it is acknowledged on.
    Message(Subject),
    /// A request is over, and so many messages of it did not come.
    Unserved(u64, usize),
    Heartbeat(u64, Position),
    /// How far the consumer is, to the question of this number.
    Answer(u64, Progress),
}

/// What a process says to the server.
#[derive(Debug)]
pub(super) enum Said {
    Command(Command),
    /// It has room for so many, in this inbox.
    Request(u64, usize),
    /// It wants nothing more in this inbox.
    Void(u64),
    /// How far is the consumer?
    Question(u64),
}

#[derive(Debug)]
pub(super) struct Server {
    journal: Arc<Journal>,
    max_ack_pending: usize,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    n_published: u64,
    n_handed_out: u64,
    /// All of them, those that were made again included.
    n_deliveries: u64,
    pending: BTreeMap<u64, Pending>,
    /// Served before anything new.
    redeliver: VecDeque<u64>,
    requests: VecDeque<Request>,
}

#[derive(Debug)]
struct Pending {
    deadline: Instant,
    n_deliveries: u64,
    /// The life that has it; none: it is to come again after a pause.
    holder: Option<usize>,
}

#[derive(Debug)]
struct Request {
    life: usize,
    inbox: u64,
    left: usize,
    expires: Instant,
    last_sign: Instant,
    sent: wire::Sender<Sent>,
}

impl Server {
    pub(super) fn new(journal: Arc<Journal>, max_ack_pending: usize) -> Self {
        Self {
            journal,
            max_ack_pending,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// The next event is in the stream.
    pub(super) fn publish(&self) {
        self.state().n_published += 1;
        self.changed.notify_one();
    }

    /// Whether so many events were published and are acknowledged.
    pub(super) fn has_settled(&self, n_events: u64) -> bool {
        let state = self.state();
        state.n_handed_out == n_events && state.pending.is_empty()
    }

    /// Takes note of what a process says.
    pub(super) fn hear(&self, life: usize, said: Said, sent: &wire::Sender<Sent>) {
        let mut state = self.state();
        match said {
            Said::Request(inbox, left) => state.requests.push_back(Request {
                life,
                inbox,
                left,
                expires: Instant::now() + PULL_EXPIRES,
                last_sign: Instant::now(),
                sent: sent.clone(),
            }),
            Said::Void(inbox) => {
                let is_void = |request: &Request| request.life == life && request.inbox == inbox;
                state.requests.retain(|request| !is_void(request));
            }
            Said::Question(number) => {
                // Everything that was asked for before is on its way before the answer.
                self.hand_out(&mut state);
                sent.send(Sent::Answer(number, state.progress()));
            }
            Said::Command(Command::Acknowledge(reply)) => {
                let Place { sequence, .. } = place(&reply);
                self.journal.acknowledged(life, sequence);
                state.pending.remove(&sequence);
                state.redeliver.retain(|&waiting| waiting != sequence);
            }
            Said::Command(Command::Progress(reply)) => {
                if let Some(pending) = state.pending.get_mut(&place(&reply).sequence) {
                    pending.deadline = Instant::now() + ACK_WAIT;
                }
            }
            Said::Command(Command::GiveBack(reply, pause)) => {
                let Place { sequence, delivery, .. } = place(&reply);
                self.journal.given_back(life, sequence, pause);
                if delivery <= state.n_deliveries {
                    state.give_back(sequence, pause);
                }
            }
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Forgets what an process asked for.
    pub(super) fn disconnect(&self, life: usize) {
        self.state().requests.retain(|request| request.life != life);
    }

    /// Gives an event again although somebody works on it.
    pub(super) fn repeat(&self) {
        let mut state = self.state();
        if let Some(&sequence) = state.pending.keys().nth(state.pending.len() / 2)
            && !state.redeliver.contains(&sequence)
        {
            self.journal.repeated(sequence);
            state.redeliver.push_back(sequence);
        }
        drop(state);
        self.changed.notify_one();
    }

    pub(super) async fn run(&self) {
        loop {
            let next = self.work();
            let changed = self.changed.notified();
            match next {
                Some(moment) => {
                    let _ = tokio::time::timeout_at(moment, changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// Does everything that can be done now. Returns the next moment that matters.
    fn work(&self) -> Option<Instant> {
        let mut state = self.state();
        let now = Instant::now();
        self.hand_out(&mut state);
        let handed_out = state.progress().delivered;
        for request in &mut state.requests {
            if now >= request.last_sign + HEARTBEAT {
                request.last_sign = now;
                request.sent.send(Sent::Heartbeat(request.inbox, handed_out));
            }
        }
        let waiting = state
            .pending
            .iter()
            .filter(|(sequence, _)| !state.redeliver.contains(sequence));
        let deadlines = waiting.map(|(_, pending)| pending.deadline);
        let signs = state.requests.iter().map(|request| request.last_sign + HEARTBEAT);
        let ends = state.requests.iter().map(|request| request.expires);
        deadlines.chain(signs).chain(ends).min()
    }

    fn hand_out(&self, state: &mut State) {
        let now = Instant::now();
        self.expire(state, now);
        state.requests.retain(|request| {
            let is_open = request.expires > now;
            if !is_open {
                request.sent.send(Sent::Unserved(request.inbox, request.left));
            }
            is_open
        });
        while let Some(request) = state.requests.front() {
            let life = request.life;
            let Some((sequence, n_deliveries)) = state.next(life, now, self.max_ack_pending) else {
                break;
            };
            self.journal.handed_out(life, sequence, n_deliveries);
            let delivery = state.n_deliveries;
            let reply = format!("$JS.ACK.keptn.d.{n_deliveries}.{sequence}.{delivery}.0.0");
            // Replicas are served in turn.
            if let Some(mut request) = state.requests.pop_front() {
                request.sent.send(Sent::Message(reply.into()));
                request.last_sign = now;
                request.left -= 1;
                if request.left > 0 {
                    state.requests.push_back(request);
                }
            }
        }
    }

    /// What is due comes again, in the order of the stream.
    fn expire(&self, state: &mut State, now: Instant) {
        let State { pending, redeliver, .. } = state;
        for (&sequence, pending) in pending.iter_mut() {
            if pending.deadline <= now && !redeliver.contains(&sequence) {
                self.journal.expired(sequence, pending.holder);
                pending.deadline = now + ACK_WAIT;
                redeliver.push_back(sequence);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn give_back(&mut self, sequence: u64, pause: Duration) {
        let Some(pending) = self.pending.get_mut(&sequence) else {
            return;
        };
        pending.holder = None;
        if !pause.is_zero() {
            pending.deadline = Instant::now() + pause;
        } else if !self.redeliver.contains(&sequence) {
            self.redeliver.push_back(sequence);
        }
    }

    /// The next event to hand out, and how often it was by then.
    fn next(&mut self, life: usize, now: Instant, max_ack_pending: usize) -> Option<(u64, u64)> {
        let sequence = match self.redeliver.pop_front() {
            Some(sequence) => sequence,
            None if self.pending.len() < max_ack_pending && self.n_handed_out < self.n_published => {
                self.n_handed_out += 1;
                self.n_handed_out
            }
            None => return None,
        };
        let pending = self.pending.entry(sequence).or_insert(Pending {
            deadline: now,
            n_deliveries: 0,
            holder: None,
        });
        pending.n_deliveries += 1;
        pending.deadline = now + ACK_WAIT;
        pending.holder = Some(life);
        self.n_deliveries += 1;
        Some((sequence, pending.n_deliveries))
    }

    fn progress(&self) -> Progress {
        let at = |consumer_seq, stream_seq| Position {
            consumer_seq,
            stream_seq,
        };
        let lowest = self.pending.keys().next();
        Progress {
            delivered: at(self.n_deliveries, self.n_handed_out),
            // Nobody looks at the first number.
            ack_floor: at(0, lowest.map_or(self.n_handed_out, |lowest| lowest - 1)),
        }
    }
}

fn place(reply: &Subject) -> Place {
    Place::of(reply).expect("we made it")
}
