//! What happened, and whether it was allowed to happen.
//!
//! Everybody reports here. The first thing that must not be is kept, with the history of the events of that key. Rules that
//! take more than a line are in [`rules`].

mod rules;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::life::Life;
use super::scenario::Scenario;
use crate::config::Ordering;
use crate::dead_letter::DeadLetter;

/// An event that is handed out more often than that is sent to and fro.
const MAX_DELIVERIES: u64 = 500;
/// The least time between attempts to store the same dead letter.
const PAUSE_TO_STORE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Journal {
    scenario: Arc<Scenario>,
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    history: Vec<(Duration, u64, String)>,
    lives: Vec<Life>,
    /// By sequence.
    events: BTreeMap<u64, Event>,
    violation: Option<(u64, String)>,
}

#[derive(Debug, Default)]
struct Event {
    is_acknowledged: bool,
    is_tried: bool,
    n_deliveries: u64,
    /// Although there was no shutdown.
    n_given_back: usize,
    /// Somebody else may have it as well.
    is_repeated: bool,
    /// Where and when its parts were settled.
    settled: BTreeMap<usize, Vec<Settlement>>,
}

impl Event {
    /// Whether it stayed with the process that it came to, until that ended.
    fn stayed(&self) -> bool {
        self.n_deliveries <= 2 && self.n_given_back == 0
    }
}

/// A part was delivered, or stored as a dead letter.
#[derive(Debug, Clone, Copy)]
struct Settlement {
    life: usize,
    at: Duration,
}

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Killed,
    /// The time to drain was over.
    Undrained,
    Clean,
}

/// What an attempt meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Taken, or as good as that.
    Settled,
    NotReady,
    /// Not before this time, counted from now.
    TryAgain(Duration),
    Final,
}

impl Journal {
    pub(super) fn new(scenario: Arc<Scenario>) -> Self {
        Self {
            scenario,
            start: Instant::now(),
            state: Mutex::default(),
        }
    }

    /// Time since the beginning.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) fn starts(&self) -> usize {
        let mut state = self.state();
        state.lives.push(Life::default());
        let life = state.lives.len() - 1;
        self.write(&mut state, 0, format!("life {life} starts"));
        life
    }

    pub(super) fn ends(&self, life: usize, ending: Ending) {
        let mut state = self.state();
        state.lives[life].ending = Some((ending, self.now()));
        self.write(&mut state, 0, format!("life {life} ends: {ending:?}"));
    }

    /// A shutdown begins.
    pub(super) fn shuts_down(&self, life: usize) {
        let mut state = self.state();
        state.lives[life].is_ending = true;
        self.write(&mut state, 0, format!("life {life} shuts down"));
    }

    /// A process has ended with so many events in memory.
    pub(super) fn is_drained(&self, life: usize, in_memory: usize) {
        let mut state = self.state();
        let is_undrained = matches!(state.lives[life].ending, Some((Ending::Undrained, _)));
        self.check(&mut state, 0, in_memory == 0 || is_undrained, || {
            format!("life {life} has kept {in_memory} events")
        });
    }

    pub(super) fn wire_breaks(&self, life: usize, pause: Duration) {
        let mut state = self.state();
        let now = self.now();
        state.lives[life].breaks.push((now, now + pause));
        self.write(&mut state, 0, format!("life {life} has no connection for {pause:?}"));
    }

    /// Whether the service has taken an event of this life.
    pub(super) fn was_ready(&self, life: usize) -> bool {
        self.state().lives[life].was_ready
    }

    pub(super) fn is_ready(&self, life: usize) {
        self.state().lives[life].was_ready = true;
    }

    /// The server gives an event again that somebody works on.
    pub(super) fn repeated(&self, sequence: u64) {
        let mut state = self.state();
        state.event(sequence).is_repeated = true;
        self.write(&mut state, sequence, "is repeated".to_owned());
    }

    pub(super) fn handed_out(&self, life: usize, sequence: u64, n_deliveries: u64) {
        let mut state = self.state();
        if n_deliveries == 1 {
            state.lives[life].fresh.insert(sequence);
        }
        state.event(sequence).n_deliveries = n_deliveries;
        let text = format!("is handed out to life {life}, delivery {n_deliveries}");
        self.write(&mut state, sequence, text);
        self.check(&mut state, sequence, n_deliveries <= MAX_DELIVERIES, || {
            format!("is handed out {n_deliveries} times")
        });
    }

    pub(super) fn given_back(&self, life: usize, sequence: u64, pause: Duration) {
        let mut state = self.state();
        let is_ending = state.lives[life].is_ending;
        state.event(sequence).n_given_back += usize::from(!is_ending);
        let text = format!("is given back by life {life} for {pause:?}");
        self.write(&mut state, sequence, text);
    }

    /// A process takes an event in that it does not have.
    pub(super) fn received(&self, life: usize, sequence: u64) {
        let mut state = self.state();
        self.write(&mut state, sequence, format!("comes to life {life}"));
    }

    /// A process has so many events in memory.
    pub(super) fn holds(&self, life: usize, n_held: usize) {
        let mut state = self.state();
        let max = self.scenario.max_events;
        self.check(&mut state, 0, n_held <= max, || {
            format!("life {life} holds {n_held} events, not {max}")
        });
    }

    /// Nobody has said anything about an event for too long.
    pub(super) fn expired(&self, sequence: u64, holder: Option<usize>) {
        let mut state = self.state();
        self.write(&mut state, sequence, "comes to its end".to_owned());
        let is_excused = holder.is_none_or(|life| state.lives[life].is_disturbed());
        self.check(&mut state, sequence, is_excused, || {
            format!("life {holder:?} has it, and did not say so")
        });
    }

    pub(super) fn acknowledged(&self, life: usize, sequence: u64) {
        let mut state = self.state();
        let n_parts = self.scenario.event(sequence).n_parts();
        let event = state.event(sequence);
        event.is_acknowledged = true;
        let n_settled = event.settled.len();
        self.write(&mut state, sequence, format!("is acknowledged by life {life}"));
        self.check(&mut state, sequence, n_settled == n_parts, || {
            format!("acknowledged with {n_settled} of {n_parts} parts settled")
        });
    }

    /// An attempt begins.
    pub(super) fn attempt(&self, life: usize, sequence: u64, part: usize, number: u32) {
        let mut state = self.state();
        let text = format!("part {part}, attempt {number} in life {life}");
        self.write(&mut state, sequence, text);
        self.check_order(&mut state, life, sequence);
        self.check_repetition(&mut state, life, sequence, part);
        self.check_number(&mut state, life, sequence, part, number);
        let now = self.now();
        let in_flight = &state.lives[life].in_flight;
        let has_other = self.is_ordered(sequence) && in_flight.iter().any(|&other| self.is_same_key(other, sequence));
        self.check(&mut state, sequence, !has_other, || {
            "another one of its key is being tried".to_owned()
        });
        state.lives[life].begin(sequence, part, now);
        let n_in_flight = state.lives[life].in_flight.len();
        let concurrency = self.scenario.config.concurrency;
        self.check(&mut state, sequence, n_in_flight <= concurrency, || {
            format!("{n_in_flight} at a time, not {concurrency}")
        });
    }

    /// An attempt ends; without an outcome if whoever made it is gone.
    pub(super) fn outcome(&self, life: usize, sequence: u64, part: usize, number: u32, outcome: Option<Outcome>) {
        let mut state = self.state();
        let in_flight = &mut state.lives[life].in_flight;
        if let Some(index) = in_flight.iter().position(|&other| other == sequence) {
            in_flight.swap_remove(index);
        }
        self.write(&mut state, sequence, format!("part {part}: {outcome:?}"));
        let Some(outcome) = outcome else {
            return;
        };
        let now = self.now();
        state.lives[life].note(sequence, part, number, outcome, now, &self.scenario.config);
        if outcome == Outcome::Settled {
            state.settle(life, sequence, part, now);
            self.check_delay(&mut state, sequence, now);
        }
        if outcome == Outcome::NotReady {
            let n_refused = state.lives[life].n_refused;
            let max = self.scenario.max_refused();
            self.check(&mut state, sequence, n_refused <= max, || {
                format!("life {life} has knocked {n_refused} times at a closed door, not {max}")
            });
        }
    }

    /// An attempt to store a dead letter begins.
    pub(super) fn stores(&self, life: usize, sequence: u64, part: usize) {
        let mut state = self.state();
        let not_before = state.lives[life].progress(sequence, part).no_letter_before;
        self.check(&mut state, sequence, self.now() >= not_before, || {
            format!("stored again, and not before {not_before:?}")
        });
    }

    /// No dead letter can be stored.
    pub(super) fn not_stored(&self, life: usize, sequence: u64, part: usize) {
        let mut state = self.state();
        self.write(&mut state, sequence, format!("part {part}: cannot be stored"));
        let not_before = self.now() + PAUSE_TO_STORE;
        state.lives[life].part(sequence, part).no_letter_before = not_before;
    }

    /// A dead letter is stored.
    pub(super) fn stored(&self, life: usize, sequence: u64, part: usize, letter: &DeadLetter) {
        let mut state = self.state();
        let text = format!("part {part}: is stored by life {life}, {:?}", letter.reason);
        self.write(&mut state, sequence, text);
        self.check_repetition(&mut state, life, sequence, part);
        self.check_letter(&mut state, life, sequence, part, letter);
        let now = self.now();
        state.settle(life, sequence, part, now);
    }

    /// Checks what must be in the end. `is_empty`: what is left in a replica.
    pub(super) fn end(&self, left: &str) {
        let mut state = self.state();
        for sequence in 1..=self.scenario.events.len() as u64 {
            let is_done = state.events.get(&sequence).is_some_and(|event| event.is_acknowledged);
            self.check(&mut state, sequence, is_done, || "never settled".to_owned());
        }
        self.check(&mut state, 0, left.is_empty(), || format!("something is left: {left}"));
    }

    pub(super) fn has_violation(&self) -> bool {
        self.state().violation.is_some()
    }

    /// What must not be, with the history that led to it.
    pub(super) fn violation(&self) -> Option<String> {
        let state = self.state();
        let (sequence, text) = state.violation.as_ref()?;
        let mut report = format!("seed {}: #{sequence}: {text}\n", self.scenario.seed);
        for (time, other, entry) in &state.history {
            let is_near = *sequence == 0 || *other == 0 || self.is_same_key(*other, *sequence);
            if is_near {
                let _ = writeln!(report, "{:>9.3} #{other} {entry}", time.as_secs_f64());
            }
        }
        let _ = writeln!(report, "{:?}", self.scenario);
        Some(report)
    }

    /// All that happened.
    pub(super) fn history(&self) -> Vec<(Duration, u64, String)> {
        self.state().history.clone()
    }

    fn is_same_key(&self, a: u64, b: u64) -> bool {
        let key = |sequence| self.scenario.event(sequence).key;
        a != 0
            && (a == b || (key(a).is_some() && key(a) == key(b)) || self.scenario.config.ordering == Ordering::Strict)
    }

    /// Whether an event is in an order with others.
    fn is_ordered(&self, sequence: u64) -> bool {
        match self.scenario.config.ordering {
            Ordering::Key => self.scenario.event(sequence).key.is_some(),
            Ordering::Strict => true,
            Ordering::None => false,
        }
    }

    fn check(&self, state: &mut State, sequence: u64, is_right: bool, text: impl FnOnce() -> String) {
        if !is_right && state.violation.is_none() {
            state.violation = Some((sequence, format!("at {:.3}: {}", self.now().as_secs_f64(), text())));
        }
    }

    fn write(&self, state: &mut State, sequence: u64, entry: String) {
        state.history.push((self.now(), sequence, entry));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn event(&mut self, sequence: u64) -> &mut Event {
        self.events.entry(sequence).or_default()
    }

    fn settle(&mut self, life: usize, sequence: u64, part: usize, at: Duration) {
        self.lives[life].part(sequence, part).is_settled = true;
        let settled = &mut self.event(sequence).settled;
        settled.entry(part).or_default().push(Settlement { life, at });
    }
}
