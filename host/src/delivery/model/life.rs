//! What one process has seen between its start and its end.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::journal::{Ending, Outcome};
use crate::config::DeliveryConfig;

#[derive(Debug, Default)]
pub(super) struct Life {
    pub(super) is_ending: bool,
    /// How and when it ended.
    pub(super) ending: Option<(Ending, Duration)>,
    /// From when until when it had no connection.
    pub(super) breaks: Vec<(Duration, Duration)>,
    /// Events that were handed out to this process first.
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
    /// It is given up.
    pub(super) is_final: bool,
    pub(super) first_reached: Option<Duration>,
    pub(super) not_before: Duration,
    pub(super) no_letter_before: Duration,
    /// When the attempt began that is under way.
    started: Duration,
}

impl Life {
    /// Whether the server may not know what this process knew.
    pub(super) fn is_disturbed(&self) -> bool {
        !self.breaks.is_empty() || matches!(self.ending, Some((Ending::Killed | Ending::Undrained, _)))
    }

    /// Whether the server must have heard what this process knew at that moment.
    pub(super) fn could_tell(&self, at: Duration, telling: Duration, telling_again: Duration) -> bool {
        let Some((_, end)) = self.ending else {
            return true;
        };
        let is_lost = |&(from, until): &(Duration, Duration)| {
            at + telling >= from && at <= until + telling_again && end <= until + telling_again
        };
        at + telling < end && !self.breaks.iter().any(is_lost)
    }

    pub(super) fn progress(&self, sequence: u64, part: usize) -> Progress {
        self.parts.get(&(sequence, part)).copied().unwrap_or_default()
    }

    pub(super) fn part(&mut self, sequence: u64, part: usize) -> &mut Progress {
        self.parts.entry((sequence, part)).or_default()
    }

    pub(super) fn begin(&mut self, sequence: u64, part: usize, now: Duration) {
        self.in_flight.push(sequence);
        self.part(sequence, part).started = now;
    }

    pub(super) fn note(
        &mut self,
        sequence: u64,
        part: usize,
        number: u32,
        outcome: Outcome,
        now: Duration,
        config: &DeliveryConfig,
    ) {
        if outcome == Outcome::NotReady {
            self.n_refused += 1;
            return;
        }
        let progress = self.part(sequence, part);
        progress.n_counted = number;
        let first = *progress.first_reached.get_or_insert(progress.started);
        match outcome {
            Outcome::TryAgain(pause) if now < first + config.max_age => progress.not_before = now + pause,
            Outcome::TryAgain(_) | Outcome::Final => progress.is_final = true,
            Outcome::Settled | Outcome::NotReady => {}
        }
    }
}
