//! What an operator has set going, and how far it is.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Repairs;
use super::listing::LastLook;
use crate::dead_letter::redrive::{Failure, Progress};
use crate::dead_letter::rfc3339;
use crate::metrics::Counter;

/// Failures that are shown.
const MAX_FAILURES: usize = 20;

/// What is done with dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobKind {
    /// They are delivered again.
    Redrive,
    /// They are deleted.
    Purge,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) kind: JobKind,
    pub(super) started: SystemTime,
    pub(super) ended: Option<SystemTime>,
    pub(super) selected: u64,
    pub(super) progress: Arc<Progress>,
    pub(super) deleted: Arc<Counter>,
    pub(super) error: Option<String>,
}

/// How far a job is, or what came of the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobReport {
    /// What is done.
    pub kind: JobKind,
    /// Since when.
    pub started: String,
    /// Until when; none while it runs.
    pub ended: Option<String>,
    /// Dead letters that are meant.
    pub selected: u64,
    /// Taken by the service, and deleted.
    pub delivered: u64,
    /// Dropped by a plugin, and deleted.
    pub dropped: u64,
    /// Deleted by a purge.
    pub deleted: u64,
    /// Not there any more when it was their turn.
    pub gone: u64,
    /// Not delivered, and still stored.
    pub failed: u64,
    /// Why, for some of them.
    pub failures: Vec<Failure>,
    /// Why it ended early.
    pub error: Option<String>,
}

/// Ends the job, however that comes, and has the list made anew.
pub(super) struct EndOfJob<'a>(pub(super) &'a Repairs);

impl Drop for EndOfJob<'_> {
    fn drop(&mut self) {
        if let Some(job) = &mut *self.0.current_job() {
            job.ended = Some(SystemTime::now());
        }
        *self.0.last_look() = LastLook::default();
    }
}

impl Job {
    pub(super) fn report(&self) -> JobReport {
        let mut failures = self.progress.failures();
        failures.truncate(MAX_FAILURES);
        JobReport {
            kind: self.kind,
            started: rfc3339(self.started),
            ended: self.ended.map(rfc3339),
            selected: self.selected,
            delivered: self.progress.delivered.value(),
            dropped: self.progress.dropped.value(),
            deleted: self.deleted.value(),
            gone: self.progress.gone.value(),
            failed: self.progress.failed.value() + self.progress.not_deleted.value(),
            failures,
            error: self.error.clone(),
        }
    }
}
