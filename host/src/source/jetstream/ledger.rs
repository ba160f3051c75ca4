//! What this instance owes a stream: every event that it received and has not settled.
//!
//! Entries are made by the reader of the stream, and closed through [`crate::receipt::Receipt`] from wherever the event
//! ended. What has to be told to the server goes out as [`Command`]s; the ledger itself knows no connection, so that a
//! test can play the server.
//!
//! Order of a key: as soon as one event of a key is given back, the later ones of that key go back as well, until the
//! lowest has come again. At the end everything goes back at once, and only when nothing is asked for any more: it would
//! come again to the one that leaves it, and then to others in another order.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Subject;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::consumer::Progress;
use super::place::Places;
use super::settled::Settled;
use crate::delivery::Key;
use crate::receipt::PartProgress;
use crate::telemetry::Counters;

/// Events of one key that are asked for ahead of the one that is being delivered.
const AHEAD_OF_KEY: usize = 16;
/// An event that should have come again so long before the server had nothing more for us went to another replica.
const OVERDUE: Duration = Duration::from_secs(2);
/// Acknowledgements that may be on their way when a connection breaks.
const MAX_LAST_SETTLED: usize = 1024;
/// What another replica settled is forgotten after this, even if its key never comes again.
const FORGET_AFTER: Duration = Duration::from_mins(5);

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
    returned: BTreeMap<u64, Returned>,
    /// The sequences of `returned` that have a key.
    returned_of_key: HashMap<Key, BTreeSet<u64>>,
    /// When the server had last handed out everything that was to come again by then.
    caught_up: Option<Instant>,
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

/// An event that went back to the stream: numbers only.
#[derive(Debug)]
struct Returned {
    reply: Subject,
    key: Option<Key>,
    /// When it should come again.
    due: Instant,
    /// Whether the server knows.
    is_told: bool,
    progress: Vec<PartProgress>,
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
        self.state().caught_up = Some(Instant::now());
    }

    /// Whether it is the turn of a received event among those of its key, with what is known from the last time.
    /// Otherwise it is given back.
    pub(crate) fn admit(&self, sequence: u64, key: Key) -> Option<Vec<PartProgress>> {
        let mut state = self.state();
        let is_turn = state.is_turn(sequence, key);
        let known = state.take_returned(sequence).map(|returned| returned.progress);
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
        state.take_returned(sequence);
        let Some(held) = state.held.remove(&sequence) else {
            return;
        };
        self.send(Command::Acknowledge(held.reply));
        if let Some(key) = held.key.filter(|key| state.returned_of_key.contains_key(key)) {
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
        let now = Instant::now();
        // What was to come again by now may have come to somebody else.
        let is_with_server = |returned: &Returned| !returned.is_told || returned.due > now;
        for returned in state.returned.values_mut().filter(|returned| is_with_server(returned)) {
            returned.is_told = true;
            returned.due = now;
            self.send(Command::GiveBack(returned.reply.clone(), Duration::ZERO));
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
        let elsewhere: Vec<_> = state
            .returned
            .iter()
            .filter(|(_, returned)| state.is_elsewhere(returned, FORGET_AFTER))
            .map(|(&sequence, _)| sequence)
            .collect();
        for sequence in elsewhere {
            state.take_returned(sequence);
        }
    }

    /// Where a new consumer has to start so that nothing is missed.
    pub fn lowest_unsettled(&self) -> u64 {
        let state = self.state();
        let unsettled = state.held.keys().chain(state.returned.keys()).min();
        unsettled.copied().unwrap_or(state.highest + 1)
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
        for (&sequence, returned) in &mut state.returned {
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
        if let Some(key) = held.key {
            state.returned_of_key.entry(key).or_default().insert(sequence);
        }
        let is_told = state.has_ended || !self.shutdown.is_cancelled();
        let returned = Returned {
            // A copy: the server's own text keeps a whole read buffer in memory.
            reply: Subject::from(held.reply.to_string()),
            key: held.key,
            due: Instant::now() + pause,
            is_told,
            progress,
        };
        self.counters.given_back.increment();
        if is_told {
            self.send(Command::GiveBack(returned.reply.clone(), pause));
        }
        state.returned.insert(sequence, returned);
    }

    /// Asks for the next events of a key that were given back, so that they do not wait until their pause is over.
    fn ask_for(&self, state: &mut State, key: Key) {
        let n_held = state.held.values().filter(|held| held.key == Some(key)).count();
        let n_wanted = AHEAD_OF_KEY.saturating_sub(n_held);
        let Some(sequences) = state.returned_of_key.get(&key) else {
            return;
        };
        let now = Instant::now();
        for sequence in sequences.iter().take(n_wanted) {
            let Some(returned) = state.returned.get_mut(sequence) else {
                continue;
            };
            let waits_for_its_own_sake = !returned.progress.is_empty() && returned.due > now;
            if waits_for_its_own_sake {
                // What comes before it was refused anyway.
                return;
            }
            if returned.due > now && !self.shutdown.is_cancelled() {
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

impl State {
    /// Whether no earlier event of the key is with the stream. What should have come long ago counts no more: another
    /// replica has it.
    fn is_turn(&mut self, sequence: u64, key: Key) -> bool {
        loop {
            let Some(&lowest) = self.returned_of_key.get(&key).and_then(BTreeSet::first) else {
                return true;
            };
            if lowest >= sequence {
                return true;
            }
            let returned = self.returned.get(&lowest);
            if returned.is_some_and(|returned| !self.is_elsewhere(returned, OVERDUE)) {
                return false;
            }
            self.take_returned(lowest);
        }
    }

    /// Whether the server has handed out what should have come again, but not to us, and so long ago.
    fn is_elsewhere(&self, returned: &Returned, long_ago: Duration) -> bool {
        self.caught_up.is_some_and(|at| at >= returned.due + long_ago)
    }

    fn take_returned(&mut self, sequence: u64) -> Option<Returned> {
        let returned = self.returned.remove(&sequence)?;
        if let Some(key) = returned.key
            && let Some(sequences) = self.returned_of_key.get_mut(&key)
        {
            sequences.remove(&sequence);
            if sequences.is_empty() {
                self.returned_of_key.remove(&key);
            }
        }
        Some(returned)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::sync::mpsc;

    use super::super::consumer::Position;
    use super::*;
    use crate::delivery::Key;

    const TAIL_PAUSE: Duration = Duration::from_secs(30);

    fn ledger() -> (Ledger, mpsc::UnboundedReceiver<Command>) {
        let (commands, receiver) = mpsc::unbounded_channel();
        let ledger = Ledger::new(
            "keptn".to_owned(),
            "d".to_owned(),
            TAIL_PAUSE,
            commands,
            Arc::default(),
            CancellationToken::new(),
        );
        (ledger, receiver)
    }

    fn reply(text: &str) -> Subject {
        Subject::from(text.to_owned())
    }

    fn sent(receiver: &mut mpsc::UnboundedReceiver<Command>) -> Vec<Command> {
        std::iter::from_fn(|| receiver.try_recv().ok()).collect()
    }

    /// Receives events 1 to `n` of one key and admits them.
    fn admitted(ledger: &Ledger, n: u64, key: Key) {
        for sequence in 1..=n {
            assert_eq!(ledger.receive(sequence, reply(&format!("r{sequence}"))), Arrival::New);
            assert_eq!(ledger.admit(sequence, key), Some(Vec::new()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_settled_event_is_acknowledged_and_never_processed_again() {
        let (ledger, mut commands) = ledger();
        admitted(&ledger, 1, Key::of(1));
        assert_eq!(
            ledger.receive(1, reply("second")),
            Arrival::Held,
            "it is being worked on"
        );
        ledger.settle(1);
        assert_eq!(ledger.receive(1, reply("third")), Arrival::Settled);
        assert_eq!(
            sent(&mut commands),
            [
                Command::Progress(reply("second")),
                Command::Acknowledge(reply("second")),
                Command::Acknowledge(reply("third")),
            ]
        );
        assert_eq!(ledger.lowest_unsettled(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn later_events_of_a_key_follow_the_first_one_that_went_back() {
        let (ledger, mut commands) = ledger();
        let key = Key::of(1);
        admitted(&ledger, 2, key);
        ledger.give_back(2, TAIL_PAUSE, Vec::new());
        ledger.receive(3, reply("r3"));
        assert_eq!(ledger.admit(3, key), None, "2 has not come again");
        ledger.receive(4, reply("r4"));
        assert_eq!(ledger.admit(4, Key::of(2)), Some(Vec::new()), "another key");
        assert_eq!(ledger.lowest_unsettled(), 1);
        sent(&mut commands);
        ledger.settle(1);
        assert_eq!(
            sent(&mut commands),
            [
                Command::Acknowledge(reply("r1")),
                Command::GiveBack(reply("r2"), Duration::ZERO),
                Command::GiveBack(reply("r3"), Duration::ZERO),
            ],
            "the key goes on: what waits is asked for"
        );
        ledger.receive(3, reply("r3b"));
        assert_eq!(ledger.admit(3, key), None, "came before 2");
        ledger.receive(2, reply("r2b"));
        assert_eq!(ledger.admit(2, key), Some(Vec::new()));
        ledger.receive(3, reply("r3c"));
        assert_eq!(ledger.admit(3, key), Some(Vec::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_end_everything_goes_back_in_its_order_and_not_before() {
        let (ledger, mut commands) = ledger();
        admitted(&ledger, 5, Key::of(1));
        ledger.give_back(2, Duration::from_secs(5), Vec::new());
        ledger.give_back(5, Duration::ZERO, Vec::new());
        sent(&mut commands);
        ledger.shutdown.cancel();
        for sequence in [4, 1] {
            ledger.give_back(sequence, Duration::ZERO, Vec::new());
        }
        assert_eq!(sent(&mut commands), [], "it would come again here");
        ledger.end();
        let again = |sequence: u64| Command::GiveBack(reply(&format!("r{sequence}")), Duration::ZERO);
        assert_eq!(
            sent(&mut commands),
            [again(1), again(2), again(4)],
            "somebody else may have the fifth by now"
        );
        ledger.give_back(3, Duration::ZERO, Vec::new());
        assert_eq!(sent(&mut commands), [again(3)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_replica_took_holds_nothing_up() {
        let (ledger, _commands) = ledger();
        let key = Key::of(1);
        admitted(&ledger, 1, key);
        ledger.give_back(1, Duration::from_secs(10), Vec::new());
        ledger.receive(2, reply("r2"));
        assert_eq!(ledger.admit(2, key), None);
        tokio::time::advance(Duration::from_secs(13)).await;
        ledger.catch_up();
        ledger.receive(2, reply("r2b"));
        assert_eq!(
            ledger.admit(2, key),
            Some(Vec::new()),
            "1 was due 3 s ago and has not come"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_is_waited_for_while_nothing_is_asked_for() {
        let (ledger, _commands) = ledger();
        let key = Key::of(1);
        admitted(&ledger, 2, key);
        ledger.give_back(1, Duration::from_secs(10), Vec::new());
        ledger.give_back(2, TAIL_PAUSE, Vec::new());
        tokio::time::advance(Duration::from_mins(10)).await;
        ledger.report_progress(Duration::from_secs(10));
        ledger.receive(2, reply("r2"));
        assert_eq!(ledger.admit(2, key), None, "1 was due long ago, and stands behind it");
        ledger.receive(1, reply("r1"));
        assert_eq!(ledger.admit(1, key), Some(Vec::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_goes_on_where_it_was_given_back() {
        let (ledger, mut commands) = ledger();
        let key = Key::of(1);
        admitted(&ledger, 2, key);
        let progress = vec![PartProgress {
            part: 7,
            is_settled: false,
            attempts: 3,
            first_attempt: None,
            due: None,
            given_up: None,
        }];
        ledger.give_back(2, TAIL_PAUSE, Vec::new());
        ledger.give_back(1, Duration::from_secs(8), progress.clone());
        assert_eq!(ledger.unsettled(), (0, 2));
        assert_eq!(
            sent(&mut commands),
            [
                Command::GiveBack(reply("r2"), TAIL_PAUSE),
                Command::GiveBack(reply("r1"), Duration::from_secs(8)),
            ]
        );
        ledger.receive(1, reply("r1b"));
        assert_eq!(ledger.admit(1, key), Some(progress));
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_hears_of_everything_in_memory_in_time() {
        let (ledger, mut commands) = ledger();
        let interval = Duration::from_secs(10);
        admitted(&ledger, 1, Key::of(1));
        tokio::time::advance(Duration::from_secs(6)).await;
        ledger.receive(2, reply("r2"));
        tokio::time::advance(Duration::from_secs(5)).await;
        ledger.report_progress(interval);
        assert_eq!(sent(&mut commands), [Command::Progress(reply("r1"))]);
        ledger.report_progress(interval);
        assert_eq!(sent(&mut commands), []);
        tokio::time::advance(Duration::from_secs(5)).await;
        ledger.report_progress(interval);
        assert_eq!(sent(&mut commands), [Command::Progress(reply("r2"))]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_break_everything_is_said_again_and_what_is_missing_asked_for() {
        let (ledger, mut commands) = ledger();
        admitted(&ledger, 6, Key::of(1));
        for sequence in [3, 1, 2] {
            ledger.settle(sequence);
        }
        ledger.give_back(6, Duration::from_secs(9), Vec::new());
        ledger.give_back(5, Duration::from_secs(2), Vec::new());
        tokio::time::advance(Duration::from_secs(4)).await;
        sent(&mut commands);
        let at = |consumer_seq, stream_seq| Position {
            consumer_seq,
            stream_seq,
        };
        let progress = Progress {
            delivered: at(12, 9),
            ack_floor: at(1, 1),
        };
        let places = Places::new("keptn", "d");
        let subject = |sequence, delivery| Subject::from(places.subject(sequence, delivery));

        let told = [
            Command::Acknowledge(subject(3, 0)),
            Command::Acknowledge(subject(2, 0)),
            Command::Progress(reply("r4")),
            Command::GiveBack(subject(6, 12), Duration::from_secs(5)),
        ];
        assert_eq!(ledger.say_again(&places, progress, None), 0);
        assert_eq!(
            sent(&mut commands),
            told,
            "4 is in memory, and another replica may have 5"
        );

        assert_eq!(ledger.say_again(&places, progress, Some(8..=9)), 3);
        let asked = [5, 8, 9].map(|sequence| Command::GiveBack(subject(sequence, 12), Duration::ZERO));
        assert_eq!(sent(&mut commands), [told.as_slice(), &asked].concat());
        ledger.receive(10, reply("r10"));
        assert_eq!(ledger.admit(10, Key::of(1)), None, "5 comes any moment");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_said_is_waited_for() {
        let (ledger, _commands) = ledger();
        admitted(&ledger, 2, Key::of(1));
        ledger.until_passed_on().await;
        ledger.settle(1);
        ledger.settle(2);
        ledger.passed_on(1);
        assert!(ledger.until_passed_on().now_or_never().is_none());
        ledger.passed_on(1);
        ledger.until_passed_on().await;
    }

    #[test]
    fn the_acknowledgements_that_are_remembered_are_bounded() {
        let (ledger, mut commands) = ledger();
        for sequence in 1..=2 * MAX_LAST_SETTLED as u64 {
            ledger.receive(sequence, reply("r"));
            ledger.settle(sequence);
        }
        sent(&mut commands);
        let at = |stream_seq| Position {
            consumer_seq: 0,
            stream_seq,
        };
        let progress = Progress {
            delivered: at(10_000),
            ack_floor: at(0),
        };
        ledger.say_again(&Places::new("keptn", "d"), progress, None);
        assert_eq!(sent(&mut commands).len(), MAX_LAST_SETTLED);
    }
}
