//! The server: one stream, and one durable consumer with explicit acknowledgement, as `nats-server` does it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Subject;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::journal::{Entry, Journal};
use super::wire;
use crate::source::jetstream::Command;

/// How long a request for messages is kept.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// Time until an event that nobody says anything about is given again.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(30);

/// What the server sends to an instance.
#[derive(Debug)]
pub(super) enum Sent {
    Message(Message),
    /// A request is over, and so many messages of it did not come.
    Unserved(usize),
}

/// An event, handed out.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) sequence: u64,
    pub(super) n_deliveries: u64,
    pub(super) reply: Subject,
}

/// What an instance says to the server.
#[derive(Debug)]
pub(super) enum Said {
    Command(Command),
    /// It has room for so many.
    Request(usize),
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
    left: usize,
    expires: Instant,
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

    /// Takes note of what an instance says.
    pub(super) fn hear(&self, life: usize, said: Said, sent: &wire::Sender<Sent>) {
        let mut state = self.state();
        match said {
            Said::Request(left) => state.requests.push_back(Request {
                life,
                left,
                expires: Instant::now() + PULL_EXPIRES,
                sent: sent.clone(),
            }),
            Said::Command(Command::Acknowledge(reply)) => {
                let sequence = sequence(&reply);
                self.journal.acknowledged(life, sequence);
                state.pending.remove(&sequence);
                state.redeliver.retain(|&waiting| waiting != sequence);
            }
            Said::Command(Command::Progress(reply)) => {
                if let Some(pending) = state.pending.get_mut(&sequence(&reply)) {
                    pending.deadline = Instant::now() + ACK_WAIT;
                }
            }
            Said::Command(Command::GiveBack(reply, pause)) => state.give_back(sequence(&reply), pause),
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Forgets what an instance asked for.
    pub(super) fn disconnect(&self, life: usize) {
        self.state().requests.retain(|request| request.life != life);
    }

    /// Gives an event again although somebody works on it.
    pub(super) fn repeat(&self) {
        let mut state = self.state();
        if let Some(&sequence) = state.pending.keys().nth(state.pending.len() / 2)
            && !state.redeliver.contains(&sequence)
        {
            self.journal.note(sequence, Entry::Repeated);
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
        self.expire(&mut state, now);
        state.requests.retain(|request| {
            let is_open = request.expires > now;
            if !is_open {
                request.sent.send(Sent::Unserved(request.left));
            }
            is_open
        });
        while let Some(request) = state.requests.front() {
            let life = request.life;
            let Some(message) = state.next(life, now, self.max_ack_pending) else {
                break;
            };
            self.journal.handed_out(life, message.sequence, message.n_deliveries);
            // Replicas are served in turn.
            if let Some(mut request) = state.requests.pop_front() {
                request.sent.send(Sent::Message(message));
                request.left -= 1;
                if request.left > 0 {
                    state.requests.push_back(request);
                }
            }
        }
        let waiting = state
            .pending
            .iter()
            .filter(|(sequence, _)| !state.redeliver.contains(sequence));
        let deadlines = waiting.map(|(_, pending)| pending.deadline);
        deadlines
            .chain(state.requests.iter().map(|request| request.expires))
            .min()
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

    fn next(&mut self, life: usize, now: Instant, max_ack_pending: usize) -> Option<Message> {
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
        Some(Message {
            sequence,
            n_deliveries: pending.n_deliveries,
            reply: Subject::from(format!("{sequence}.{}", pending.n_deliveries)),
        })
    }
}

fn sequence(reply: &Subject) -> u64 {
    let (sequence, _) = reply.split_once('.').expect("we made it");
    sequence.parse().expect("we made it")
}
