//! What is known of all sources together: what they listen to, and how much of what they received is in memory.
//!
//! The sources enter themselves; [`crate::observe`] reads. What has ended drops out by itself.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde::Serialize;
use tokio::sync::watch;

use super::jetstream::{Filter, Ledger};
use crate::budget::Budget;
use crate::subject::Subject;

/// Where sources enter what they do.
#[derive(Debug, Default)]
pub struct Overview {
    budgets: Mutex<Vec<(SourceKind, Weak<Budget>)>>,
    streams: Mutex<Vec<Stream>>,
    core_subjects: Mutex<BTreeSet<Subject>>,
    n_polled: AtomicU64,
}

/// Kinds of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// Core NATS.
    Core,
    /// `JetStream`.
    Jetstream,
    /// The control plane's list of open events.
    Remote,
}

/// What of a source is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryReport {
    /// Which source.
    pub source: SourceKind,
    /// Events.
    pub events: usize,
    /// Bytes of them.
    pub bytes: usize,
    /// Events that fit.
    pub max_events: usize,
    /// Bytes of them.
    pub max_bytes: usize,
}

/// A stream that is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StreamReport {
    /// Its name.
    pub stream: String,
    /// The durable consumer.
    pub durable: String,
    /// Whether there is a consumer.
    pub is_received: bool,
    /// What it gives.
    pub subjects: Vec<String>,
    /// Events in memory that are not settled.
    pub in_memory: usize,
    /// Events that went back and have not come again.
    pub given_back: usize,
}

#[derive(Debug)]
struct Stream {
    ledger: Weak<Ledger>,
    /// What the consumer gives.
    kept: watch::Receiver<Option<Filter>>,
}

impl SourceKind {
    /// As in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Jetstream => "jetstream",
            Self::Remote => "remote",
        }
    }
}

impl Overview {
    /// Enters the memory of a source.
    pub fn add_budget(&self, kind: SourceKind, budget: &Arc<Budget>) {
        let mut budgets = lock(&self.budgets);
        budgets.retain(|(_, budget)| budget.strong_count() > 0);
        budgets.push((kind, Arc::downgrade(budget)));
    }

    /// Enters a stream.
    pub fn add_stream(&self, ledger: &Arc<Ledger>, kept: watch::Receiver<Option<Filter>>) {
        let mut streams = lock(&self.streams);
        streams.retain(|stream| stream.ledger.strong_count() > 0);
        let ledger = Arc::downgrade(ledger);
        streams.push(Stream { ledger, kept });
    }

    /// Core NATS listens to these from now on.
    pub fn listens_to(&self, subjects: BTreeSet<Subject>) {
        *lock(&self.core_subjects) = subjects;
    }

    /// The control plane has answered what is open.
    pub fn polled(&self) {
        self.n_polled.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it did.
    pub fn n_polled(&self) -> u64 {
        self.n_polled.load(Ordering::Relaxed)
    }

    /// What core NATS listens to.
    pub fn core_subjects(&self) -> Vec<String> {
        lock(&self.core_subjects).iter().map(ToString::to_string).collect()
    }

    /// What is in memory, one entry for each kind of source that there is.
    pub fn memory(&self) -> Vec<MemoryReport> {
        let mut reports: Vec<MemoryReport> = Vec::new();
        for (kind, budget) in lock(&self.budgets).iter() {
            let Some(budget) = budget.upgrade() else { continue };
            let (events, bytes) = budget.held();
            let (max_events, max_bytes) = budget.limits();
            if let Some(report) = reports.iter_mut().find(|report| report.source == *kind) {
                report.events += events;
                report.bytes += bytes;
                report.max_events += max_events;
                report.max_bytes += max_bytes;
            } else {
                reports.push(MemoryReport {
                    source: *kind,
                    events,
                    bytes,
                    max_events,
                    max_bytes,
                });
            }
        }
        reports
    }

    /// The streams that are read, or of which something is still owed.
    pub fn streams(&self) -> Vec<StreamReport> {
        let streams = lock(&self.streams);
        let reports = streams.iter().filter_map(|stream| {
            let ledger = stream.ledger.upgrade()?;
            let kept = stream.kept.borrow();
            let subjects = kept.iter().flat_map(|filter| &filter.subjects);
            let (in_memory, given_back) = ledger.unsettled();
            Some(StreamReport {
                stream: ledger.stream().to_owned(),
                durable: ledger.durable().to_owned(),
                // Without a sender, reading has ended.
                is_received: kept.is_some() && stream.kept.has_changed().is_ok(),
                subjects: subjects.map(ToString::to_string).collect(),
                in_memory,
                given_back,
            })
        });
        reports.collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
