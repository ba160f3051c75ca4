//! What one process has seen between its start and its end.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::journal::{Ending, Outcome};

#[derive(Debug, Default)]
pub(super) struct Life {
    pub(super) ending: Option<Ending>,
    /// A part of what it said or was told.
    pub(super) has_lost_something: bool,
    /// Events that came to this process first.
    pub(super) fresh: BTreeSet<u64>,
    pub(super) in_flight: Vec<u64>,
    pub(super) n_refused: usize,
    /// The service has taken an event.
    pub(super) was_ready: bool,
    parts: HashMap<(u64, usize), Progress>,
}

/// How far a part is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    pub(super) n_counted: u32,
    pub(super) is_settled: bool,
    /// The service has said that it will never take it.
    pub(super) is_final: bool,
    pub(super) first_reached: Option<Duration>,
    pub(super) not_before: Duration,
    /// When the attempt began that is under way.
    started: Duration,
}

impl Life {
    /// Whether the server may not know what this process knew.
    pub(super) fn is_disturbed(&self) -> bool {
        self.has_lost_something || matches!(self.ending, Some(Ending::Killed | Ending::Undrained))
    }

    pub(super) fn progress(&self, sequence: u64, part: usize) -> Progress {
        self.parts.get(&(sequence, part)).copied().unwrap_or_default()
    }

    pub(super) fn begin(&mut self, sequence: u64, part: usize, now: Duration) {
        self.in_flight.push(sequence);
        self.parts.entry((sequence, part)).or_default().started = now;
    }

    pub(super) fn note(&mut self, sequence: u64, part: usize, number: u32, outcome: Outcome, now: Duration) {
        if outcome == Outcome::NotReady {
            self.n_refused += 1;
            return;
        }
        let progress = self.parts.entry((sequence, part)).or_default();
        progress.n_counted = number;
        let started = progress.started;
        progress.first_reached.get_or_insert(started);
        match outcome {
            Outcome::Settled => {}
            Outcome::TryAgain(pause) => progress.not_before = now + pause,
            Outcome::Final | Outcome::NotReady => progress.is_final = true,
        }
    }

    pub(super) fn settle(&mut self, sequence: u64, part: usize) {
        self.parts.entry((sequence, part)).or_default().is_settled = true;
    }
}
