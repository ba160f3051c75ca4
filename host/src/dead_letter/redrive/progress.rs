//! What became of the dead letters of a redrive so far.

use std::sync::{Mutex, PoisonError};

use crate::dead_letter::{ReadError, one_line};
use crate::metrics::Counter;

/// Failures that are remembered; further ones are counted.
const MAX_FAILURES: usize = 100;

/// Counts while a redrive runs.
#[derive(Debug, Default)]
pub struct Progress {
    /// Taken by the service and deleted.
    pub delivered: Counter,
    /// Dropped by a plugin, which is final, and deleted.
    pub dropped: Counter,
    /// Not there any more when it was their turn.
    pub gone: Counter,
    /// Not delivered, and still stored.
    pub failed: Counter,
    /// Delivered, and still stored.
    pub not_deleted: Counter,
    failures: Mutex<Vec<Failure>>,
}

/// A dead letter that is still stored.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    /// Its sequence.
    pub sequence: u64,
    /// Its event's id.
    pub event_id: String,
    /// Why.
    pub error: String,
}

impl Failure {
    pub(super) fn new(sequence: u64, event_id: &str, error: &str) -> Self {
        Self {
            sequence,
            event_id: event_id.to_owned(),
            error: one_line(error, 512),
        }
    }
}

impl Progress {
    pub(super) fn fail(&self, failure: Failure) {
        self.failed.increment();
        self.note(failure);
    }

    pub(super) fn note(&self, failure: Failure) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < MAX_FAILURES {
            failures.push(failure);
        }
    }

    /// What is still stored, and why.
    pub fn failures(&self) -> Vec<Failure> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn settled(&self) -> u64 {
        self.delivered.value() + self.dropped.value() + self.gone.value()
    }

    /// What was looked at.
    pub fn done(&self) -> u64 {
        self.settled() + self.failed.value() + self.not_deleted.value()
    }
}

/// How a redrive ended.
#[derive(Debug, serde::Serialize)]
pub struct Summary {
    /// Dead letters that were meant.
    pub selected: u64,
    /// Taken by the service and deleted.
    pub delivered: u64,
    /// Dropped by a plugin, which is final, and deleted.
    pub dropped: u64,
    /// Redriven, purged or expired by somebody else meanwhile.
    pub gone: u64,
    /// Still stored.
    pub left: u64,
    /// Why; not all of them if there are many.
    pub failures: Vec<Failure>,
    /// Why it ended early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Summary {
    /// `n_found`: how many were found in the end; none when it ended before all were looked for.
    pub(super) fn new(progress: &Progress, selected: u64, n_found: Option<u64>, error: Option<ReadError>) -> Self {
        let gone_before = n_found
            .map(|n_found| selected.saturating_sub(n_found))
            .unwrap_or_default();
        Self {
            selected,
            delivered: progress.delivered.value(),
            dropped: progress.dropped.value(),
            gone: progress.gone.value() + gone_before,
            left: selected.saturating_sub(progress.settled() + gone_before),
            failures: progress.failures(),
            error: error.map(|error| error.to_string()),
        }
    }
}
