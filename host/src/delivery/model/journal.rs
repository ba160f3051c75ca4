//! What happened, and whether it was allowed to happen.
//!
//! Everybody reports here. The first thing that must not be is kept, with the history of the events of that key.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::life::{Life, Progress};
use super::scenario::{Kind, Scenario};
use crate::config::Ordering;
use crate::dead_letter::{DeadLetter, Reason};

#[derive(Debug)]
pub(super) struct Journal {
    scenario: Arc<Scenario>,
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    history: Vec<(Duration, u64, Entry)>,
    lives: Vec<Life>,
    /// By sequence.
    events: BTreeMap<u64, Event>,
    violation: Option<(u64, String)>,
}

#[derive(Debug, Default)]
struct Event {
    is_acknowledged: bool,
    /// Somebody else may have it as well.
    is_repeated: bool,
    /// The lives in which its parts were settled.
    settled: HashMap<usize, Vec<usize>>,
}

/// One line of the history. The first number is that of the life.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    Starts(usize),
    Ends(usize, Ending),
    WireBreaks(usize),
    HandedOut(usize, u64),
    Received(usize),
    Repeated,
    CameToItsEnd,
    Attempt(usize, usize, u32),
    Outcome(usize, usize, Outcome),
    Dropped(usize, usize),
    Stored(usize, usize, Reason),
    Acknowledged(usize),
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
        self.write(&mut state, 0, Entry::Starts(life));
        life
    }

    pub(super) fn ends(&self, life: usize, ending: Ending) {
        let mut state = self.state();
        state.lives[life].ending = Some(ending);
        self.write(&mut state, 0, Entry::Ends(life, ending));
    }

    /// A process has ended with so many events in memory.
    pub(super) fn is_drained(&self, life: usize, in_memory: usize) {
        let mut state = self.state();
        let is_right = in_memory == 0 || state.lives[life].ending == Some(Ending::Undrained);
        self.check(&mut state, 0, is_right, || {
            format!("life {life} has kept {in_memory} events")
        });
    }

    pub(super) fn wire_breaks(&self, life: usize) {
        let mut state = self.state();
        state.lives[life].has_lost_something = true;
        self.write(&mut state, 0, Entry::WireBreaks(life));
    }

    /// Whether the service has taken an event of this life.
    pub(super) fn was_ready(&self, life: usize) -> bool {
        self.state().lives[life].was_ready
    }

    pub(super) fn is_ready(&self, life: usize) {
        self.state().lives[life].was_ready = true;
    }

    pub(super) fn note(&self, sequence: u64, entry: Entry) {
        let mut state = self.state();
        state.events.entry(sequence).or_default().is_repeated |= matches!(entry, Entry::Repeated);
        self.write(&mut state, sequence, entry);
    }

    pub(super) fn handed_out(&self, life: usize, sequence: u64, n_deliveries: u64) {
        self.note(sequence, Entry::HandedOut(life, n_deliveries));
    }

    /// An instance takes an event in that it does not have.
    pub(super) fn received(&self, life: usize, sequence: u64, n_deliveries: u64) {
        let mut state = self.state();
        if n_deliveries == 1 {
            state.lives[life].fresh.insert(sequence);
        }
        self.write(&mut state, sequence, Entry::Received(life));
    }

    /// An instance has so many events in memory.
    pub(super) fn holds(&self, life: usize, n_held: usize) {
        let mut state = self.state();
        let max = self.scenario.max_events;
        let is_excused = state.lives[life].has_lost_something;
        self.check(&mut state, 0, is_excused || n_held <= max, || {
            format!("life {life} holds {n_held} events, not {max}")
        });
    }

    /// Nobody has said anything about an event for too long.
    pub(super) fn expired(&self, sequence: u64, holder: Option<usize>) {
        let mut state = self.state();
        self.write(&mut state, sequence, Entry::CameToItsEnd);
        let is_excused = holder.is_none_or(|life| state.lives[life].is_disturbed());
        self.check(&mut state, sequence, is_excused, || {
            format!("life {holder:?} has it, and did not say so")
        });
    }

    pub(super) fn acknowledged(&self, life: usize, sequence: u64) {
        let mut state = self.state();
        let n_parts = self.scenario.event(sequence).n_parts();
        let event = state.events.entry(sequence).or_default();
        event.is_acknowledged = true;
        let n_settled = event.settled.len();
        self.write(&mut state, sequence, Entry::Acknowledged(life));
        self.check(&mut state, sequence, n_settled == n_parts, || {
            format!("acknowledged with {n_settled} of {n_parts} parts settled")
        });
    }

    /// An attempt begins.
    pub(super) fn attempt(&self, life: usize, sequence: u64, part: usize, number: u32) {
        let mut state = self.state();
        self.write(&mut state, sequence, Entry::Attempt(life, part, number));
        self.check_order(&mut state, life, sequence);
        self.check_repetition(&mut state, life, sequence, part);
        self.check_number(&mut state, life, sequence, part, number);
        let key = self.scenario.event(sequence).key;
        let is_keyed = self.scenario.config.ordering == Ordering::Strict || key.is_some();
        let is_ordered = is_keyed && self.scenario.config.ordering != Ordering::None;
        let now = self.now();
        let in_life = &mut state.lives[life];
        let has_other = is_ordered && in_life.in_flight.iter().any(|&other| self.is_same_key(other, sequence));
        in_life.begin(sequence, part, now);
        let n_in_flight = in_life.in_flight.len();
        self.check(&mut state, sequence, !has_other, || {
            "another one of its key is being tried".to_owned()
        });
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
        let Some(outcome) = outcome else {
            self.write(&mut state, sequence, Entry::Dropped(life, part));
            return;
        };
        let now = self.now();
        state.lives[life].note(sequence, part, number, outcome, now);
        if outcome == Outcome::Settled {
            state.settle(life, sequence, part);
            self.check_delay(&mut state, sequence, now);
        }
        if outcome == Outcome::NotReady {
            let n_refused = state.lives[life].n_refused;
            let max = self.scenario.max_refused();
            self.check(&mut state, sequence, n_refused <= max, || {
                format!("life {life} has knocked {n_refused} times at a closed door, not {max}")
            });
        }
        self.write(&mut state, sequence, Entry::Outcome(life, part, outcome));
    }

    /// A dead letter is stored.
    pub(super) fn stored(&self, life: usize, sequence: u64, part: usize, letter: &DeadLetter) {
        let mut state = self.state();
        self.write(&mut state, sequence, Entry::Stored(life, part, letter.reason));
        let progress = state.lives[life].progress(sequence, part);
        let config = &self.scenario.config;
        let kind = self.scenario.event(sequence).kind;
        let is_right = !progress.is_settled
            && match letter.reason {
                Reason::RetriesExhausted => letter.attempts == config.retries + 1,
                Reason::Expired => progress
                    .first_reached
                    .is_some_and(|first| self.now() >= first + config.max_age),
                Reason::PermanentStatus => matches!(kind, Kind::Refused(400 | 501)),
                Reason::TooLarge => kind == Kind::Refused(413),
                Reason::Malformed => kind == Kind::Malformed,
                Reason::Plugin | Reason::Unknown => false,
            };
        self.check(&mut state, sequence, is_right, || {
            format!("a dead letter without reason: {letter:?}, {progress:?}")
        });
        let is_counted = letter.attempts == progress.n_counted || self.is_forgetful(&state, life);
        self.check(&mut state, sequence, is_counted, || {
            format!("a dead letter with another count: {letter:?}, {progress:?}")
        });
        state.settle(life, sequence, part);
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
                let _ = writeln!(report, "{:>9.3} #{other} {entry:?}", time.as_secs_f64());
            }
        }
        let _ = writeln!(report, "{:?}", self.scenario);
        Some(report)
    }

    /// First in, first out for what came to this life first.
    fn check_order(&self, state: &mut State, life: usize, sequence: u64) {
        if self.is_forgetful(state, life) || self.scenario.config.ordering == Ordering::None {
            return;
        }
        let fresh = &state.lives[life].fresh;
        let earlier = fresh.range(..sequence).find(|&&earlier| {
            let is_done = state
                .events
                .get(&earlier)
                .is_some_and(|event| event.settled.len() == self.scenario.event(earlier).n_parts());
            !is_done && self.is_same_key(earlier, sequence)
        });
        let earlier = earlier.copied();
        self.check(state, sequence, earlier.is_none(), || {
            format!("goes before {earlier:?}")
        });
    }

    /// What is settled is tried again only after something was lost.
    fn check_repetition(&self, state: &mut State, life: usize, sequence: u64, part: usize) {
        let event = state.events.entry(sequence).or_default();
        let settled = event.settled.get(&part).cloned().unwrap_or_default();
        let has_replicas = self.scenario.n_replicas > 1;
        // How far the parts are is known to one process only.
        let has_parts = self.scenario.event(sequence).n_parts() > 1;
        let is_repeated = event.is_repeated && has_replicas;
        let unexcused = settled.into_iter().find(|&other| {
            let is_excused = other != life && (state.lives[other].is_disturbed() || has_parts);
            !is_excused && !(has_parts && has_replicas) && !is_repeated
        });
        self.check(state, sequence, unexcused.is_none(), || {
            format!("part {part} was settled in life {unexcused:?}, and is tried again in {life}")
        });
    }

    fn check_number(&self, state: &mut State, life: usize, sequence: u64, part: usize, number: u32) {
        let Progress {
            n_counted,
            is_final,
            not_before,
            ..
        } = state.lives[life].progress(sequence, part);
        let is_forgetful = self.is_forgetful(state, life);
        let is_right = number == n_counted + 1 || (is_forgetful && number <= n_counted);
        let max = self.scenario.config.retries + 1;
        self.check(state, sequence, is_right && number <= max, || {
            format!("attempt {number} after {n_counted}, of {max}")
        });
        let is_allowed = is_forgetful || (!is_final && self.now() >= not_before);
        self.check(state, sequence, is_allowed, || {
            format!("tried again (was that final? {is_final}), and not before {not_before:?}")
        });
    }

    /// Poisoned keys do not hold the others up.
    fn check_delay(&self, state: &mut State, sequence: u64, now: Duration) {
        let planned = self.scenario.event(sequence);
        let is_healthy = planned.key.is_some_and(|key| self.scenario.keys[key].healed.is_zero());
        let delay = now.saturating_sub(planned.at);
        let is_right = !self.scenario.is_calm || !is_healthy || delay <= self.scenario.longest_delay();
        self.check(state, sequence, is_right, || {
            format!("delivered after {delay:?}, although nothing is wrong with its key")
        });
    }

    /// Something may have been lost or be elsewhere, so that this life cannot know everything.
    fn is_forgetful(&self, state: &State, life: usize) -> bool {
        self.scenario.n_replicas > 1 || state.lives[life].has_lost_something
    }

    fn is_same_key(&self, a: u64, b: u64) -> bool {
        let key = |sequence| self.scenario.event(sequence).key;
        a != 0
            && (a == b || (key(a).is_some() && key(a) == key(b)) || self.scenario.config.ordering == Ordering::Strict)
    }

    fn check(&self, state: &mut State, sequence: u64, is_right: bool, text: impl FnOnce() -> String) {
        if !is_right && state.violation.is_none() {
            state.violation = Some((sequence, format!("at {:.3}: {}", self.now().as_secs_f64(), text())));
        }
    }

    fn write(&self, state: &mut State, sequence: u64, entry: Entry) {
        state.history.push((self.now(), sequence, entry));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn settle(&mut self, life: usize, sequence: u64, part: usize) {
        self.lives[life].settle(sequence, part);
        let settled = &mut self.events.entry(sequence).or_default().settled;
        settled.entry(part).or_default().push(life);
    }
}
