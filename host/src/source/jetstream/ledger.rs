//! What this instance owes a stream: every event that it received and has not settled.
//!
//! Entries are made by the reader of the stream, and closed through [`crate::receipt::Receipt`] from wherever the event
//! ended. What has to be told to the server goes out as [`Command`]s; the ledger itself knows no connection, so that a
//! test can play the server.
//!
//! Order of a key: as soon as one event of a key is given back, the later ones of that key go back as well, until the
//! lowest has come again. At the end everything goes back at once, and only when nothing is asked for any more: it would
//! come again to the one that leaves it, and then to others in another order.

mod returned;

use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Subject;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::returned::{Returned, ReturnedEvents};
use super::consumer::Progress;
use super::place::Places;
use super::settled::Settled;
use crate::delivery::Key;
use crate::metrics::Counters;
use crate::receipt::PartProgress;

/// Events of one key that are asked for ahead of the one that is being delivered.
const AHEAD_OF_KEY: usize = 16;
/// Acknowledgements that may be on their way when a connection breaks.
const MAX_LAST_SETTLED: usize = 1024;

/// What the server has to be told about an event. The subject is the one that the server gave with the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// It is settled.
    Acknowledge(Subject),
    /// It is still being worked on.
    Progress(Subject),
    /// It is to come again after this pause.
    GiveBack(Subject, Duration),
}

/// What the reader has to do with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Process it.
    New,
    /// Nothing: this instance holds it already, and the server has been told so.
    Held,
    /// Nothing: this instance settled it, and the server has been told so again.
    Settled,
}

/// Every unsettled event of one durable consumer, by its sequence in the stream.
#[derive(Debug)]
pub struct Ledger {
    stream: String,
    durable: String,
    /// Pause after which the tail of a key that is held up comes again by itself.
    tail_pause: Duration,
    commands: UnboundedSender<Command>,
    n_commands: AtomicU64,
    /// How many of them the client has been given.
    n_passed_on: watch::Sender<u64>,
    counters: Arc<Counters>,
    /// From now on what is given back is kept until nothing is asked for any more.
    shutdown: CancellationToken,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Whether events may be given back although there is a shutdown.
    has_ended: bool,
    held: HashMap<u64, Held>,
    returned: ReturnedEvents,
    settled: Settled,
    /// The sequences that were settled last.
    last_settled: VecDeque<u64>,
    highest: u64,
}

/// An event in memory.
#[derive(Debug)]
struct Held {
    reply: Subject,
    /// None until it is known.
    key: Option<Key>,
    /// When the server last heard of it.
    told: Instant,
}

impl Ledger {
    /// An empty one.
    pub fn new(
        stream: String,
        durable: String,
        tail_pause: Duration,
        commands: UnboundedSender<Command>,
        counters: Arc<Counters>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            stream,
            durable,
            tail_pause,
            commands,
            n_commands: AtomicU64::new(0),
            n_passed_on: watch::Sender::default(),
            counters,
            shutdown,
            state: Mutex::default(),
        }
    }

    /// Begins with a stream in which the consumer has handed out everything up to `delivered`. What is owed to an earlier
    /// stream of the same name is forgotten, because it is gone.
    pub fn restart(&self, delivered: u64) {
        *self.state() = State {
            highest: delivered,
            ..State::default()
        };
    }

    /// Name of the stream.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// Name of the consumer.
    pub fn durable(&self) -> &str {
        &self.durable
    }

    /// The server has given us an event; `reply` is where it wants to hear of it.
    pub fn receive(&self, sequence: u64, reply: Subject) -> Arrival {
        let mut state = self.state();
        state.highest = state.highest.max(sequence);
        if state.settled.contains(sequence) {
            self.send(Command::Acknowledge(reply));
            return Arrival::Settled;
        }
        if let Some(held) = state.held.get_mut(&sequence) {
            held.reply = reply.clone();
            held.told = Instant::now();
            self.send(Command::Progress(reply));
            return Arrival::Held;
        }
        let held = Held {
            reply,
            key: None,
            told: Instant::now(),
        };
        state.held.insert(sequence, held);
        Arrival::New
    }

    /// The server hands out something new, or says that it has nothing: what was to come again before has come, here or
    /// elsewhere. As long as nothing is asked for, nothing is known of that.
    pub(crate) fn catch_up(&self) {
        self.state().returned.catch_up();
    }

    /// Whether it is the turn of a received event among those of its key, with what is known from the last time.
    /// Otherwise it is given back.
    pub(crate) fn admit(&self, sequence: u64, key: Key) -> Option<Vec<PartProgress>> {
        let mut state = self.state();
        let is_turn = state.returned.is_turn(sequence, key);
        let known = state.returned.take(sequence).map(|returned| returned.progress);
        if let Some(held) = state.held.get_mut(&sequence) {
            held.key = Some(key);
        }
        if is_turn {
            return Some(known.unwrap_or_default());
        }
        self.return_now(&mut state, sequence, self.tail_pause, known.unwrap_or_default());
        None
    }

    /// An event is done with.
    pub(crate) fn settle(&self, sequence: u64) {
        let mut state = self.state();
        state.settled.insert(sequence);
        if state.last_settled.len() == MAX_LAST_SETTLED {
            state.last_settled.pop_front();
        }
        state.last_settled.push_back(sequence);
        state.returned.take(sequence);
        let Some(held) = state.held.remove(&sequence) else {
            return;
        };
        self.send(Command::Acknowledge(held.reply));
        if state.has_ended {
            self.leave(&mut state);
        } else if let Some(key) = held.key {
            self.ask_for(&mut state, key);
        }
    }

    /// An event that this instance does not want to hold any longer. A pause of 0 is for an event that somebody else may
    /// start at once.
    pub(crate) fn give_back(&self, sequence: u64, pause: Duration, progress: Vec<PartProgress>) {
        self.return_now(&mut self.state(), sequence, pause, progress);
    }

    /// Nothing is asked for any more: others get everything that is neither settled nor in memory, in its order.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.has_ended = true;
        self.leave(&mut state);
    }

    /// The process ends although some events are in memory. The server waits for those until their time is over; what
    /// stands behind them comes again after that.
    pub(crate) fn abandon(&self) {
        for (_, returned) in self
            .state()
            .returned
            .iter_mut()
            .filter(|(_, returned)| !returned.is_told)
        {
            returned.is_told = true;
            self.send(Command::GiveBack(returned.reply.clone(), self.tail_pause));
        }
    }

    /// The pause for events that wait for an earlier one of their key.
    pub fn tail_pause(&self) -> Duration {
        self.tail_pause
    }

    /// Tells the server that everything in memory that it has not heard of for `interval` is being worked on.
    pub fn report_progress(&self, interval: Duration) {
        let mut state = self.state();
        let now = Instant::now();
        for held in state.held.values_mut().filter(|held| now - held.told >= interval) {
            held.told = now;
            self.send(Command::Progress(held.reply.clone()));
        }
        for (_, returned) in state.returned.iter_mut().filter(|(_, returned)| !returned.is_told) {
            self.send(Command::Progress(returned.reply.clone()));
        }
        state.returned.forget_elsewhere();
    }

    /// Where a new consumer has to start so that nothing is missed.
    pub fn lowest_unsettled(&self) -> u64 {
        let state = self.state();
        let unsettled = state.held.keys().copied().chain(state.returned.lowest()).min();
        unsettled.unwrap_or(state.highest + 1)
    }

    /// After a connection broke: says again what a server that is so far may not have heard, and asks for what it may have
    /// sent in vain, in the order of the stream. That is `missing`, and what was to come again by now; another replica may
    /// have it, unless this instance is alone. Returns how many events it asked for.
    pub(crate) fn say_again(&self, places: &Places, progress: Progress, missing: Option<RangeInclusive<u64>>) -> usize {
        let Progress { delivered, ack_floor } = progress;
        let mut guard = self.state();
        let state = &mut *guard;
        let acknowledged = ack_floor.stream_seq + 1..=delivered.stream_seq;
        for &sequence in state
            .last_settled
            .iter()
            .filter(|sequence| acknowledged.contains(sequence))
        {
            self.send(Command::Acknowledge(places.subject(sequence, 0).into()));
        }
        let now = Instant::now();
        for held in state.held.values_mut() {
            held.told = now;
            self.send(Command::Progress(held.reply.clone()));
        }
        let mut due = Vec::new();
        for (sequence, returned) in state.returned.iter_mut() {
            returned.reply = places.subject(sequence, delivered.consumer_seq).into();
            let pause = returned.due.saturating_duration_since(now);
            if !pause.is_zero() {
                self.send(Command::GiveBack(returned.reply.clone(), pause));
            } else if missing.is_some() {
                returned.due = now;
                due.push(sequence);
            }
        }
        let asked = due.into_iter().chain(missing.into_iter().flatten());
        let asked = asked.map(|sequence| {
            let subject = places.subject(sequence, delivered.consumer_seq).into();
            self.send(Command::GiveBack(subject, Duration::ZERO));
        });
        asked.count()
    }

    /// The client has been given so many more commands.
    pub(crate) fn passed_on(&self, n: usize) {
        self.n_passed_on.send_modify(|n_passed_on| *n_passed_on += n as u64);
    }

    /// Waits until the client has been given everything that was said so far.
    pub(crate) async fn until_passed_on(&self) {
        let n_commands = self.n_commands.load(Ordering::Acquire);
        let mut n_passed_on = self.n_passed_on.subscribe();
        // It cannot fail: the sender is in here.
        let _ = n_passed_on.wait_for(|n_passed_on| *n_passed_on >= n_commands).await;
    }

    /// Events in memory, and events that went back and have not come again.
    pub fn unsettled(&self) -> (usize, usize) {
        let state = self.state();
        (state.held.len(), state.returned.len())
    }

    fn return_now(&self, state: &mut State, sequence: u64, pause: Duration, progress: Vec<PartProgress>) {
        let Some(held) = state.held.remove(&sequence) else {
            return;
        };
        let is_told = !self.shutdown.is_cancelled();
        // A copy: the server's own text keeps a whole read buffer in memory.
        let reply = Subject::from(held.reply.to_string());
        self.counters.given_back.increment();
        if is_told {
            self.send(Command::GiveBack(reply.clone(), pause));
        }
        let returned = Returned {
            reply,
            key: held.key,
            due: Instant::now() + pause,
            is_told,
            progress,
        };
        state.returned.insert(sequence, returned);
        if state.has_ended {
            self.leave(state);
        }
    }

    /// Gives back, in the order of the stream, what does not stand behind an event of its key that is still in memory:
    /// that one may have to go back as well.
    fn leave(&self, state: &mut State) {
        let mut first_held = HashMap::new();
        for (&sequence, held) in &state.held {
            if let Some(key) = held.key {
                let first = first_held.entry(key).or_insert(sequence);
                *first = sequence.min(*first);
            }
        }
        let now = Instant::now();
        for (sequence, returned) in state.returned.iter_mut() {
            let first_held = returned.key.and_then(|key| first_held.get(&key));
            let may_go = first_held.is_none_or(|&first| sequence < first);
            // What was to come again by now may have come to somebody else.
            let is_with_server = !returned.is_told || returned.due > now;
            if may_go && is_with_server {
                returned.is_told = true;
                returned.due = now;
                self.send(Command::GiveBack(returned.reply.clone(), Duration::ZERO));
            }
        }
    }

    /// Asks for the next events of a key that were given back, so that they do not wait until their pause is over.
    fn ask_for(&self, state: &mut State, key: Key) {
        if !state.returned.has(key) || self.shutdown.is_cancelled() {
            return;
        }
        let n_held = state.held.values().filter(|held| held.key == Some(key)).count();
        let n_wanted = AHEAD_OF_KEY.saturating_sub(n_held);
        let now = Instant::now();
        for sequence in state.returned.first_of_key(key, n_wanted) {
            let Some(returned) = state.returned.get_mut(sequence) else {
                continue;
            };
            let waits_for_its_own_sake = !returned.progress.is_empty() && returned.due > now;
            if waits_for_its_own_sake {
                // What comes before it was refused anyway.
                return;
            }
            if returned.due > now {
                returned.due = now;
                self.send(Command::GiveBack(returned.reply.clone(), Duration::ZERO));
            }
        }
    }

    fn send(&self, command: Command) {
        self.n_commands.fetch_add(1, Ordering::AcqRel);
        // Without a receiver the connection is gone for good, and the server will notice by itself.
        let _ = self.commands.send(command);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
