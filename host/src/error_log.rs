//! Copies of errors for the log of the control plane, which the Bridge shows beside the integration.
//!
//! [`crate::ingress`] brings what the service reports, [`crate::dead_letter`] what is given up; `app` runs the task that
//! sends. Nobody ever waits for it: what does not fit is counted. It must not know how events travel.

mod entry;
mod sending;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

pub use self::entry::{Entry, ErrorLogError, LOG_TYPE};
pub use self::sending::Sending;
use crate::dead_letter::{DeadLetter, Stored};
use crate::event::Event;
use crate::metrics::Counters;
use crate::plugins::PluginError;

/// Entries in memory.
const MAX_ENTRIES: usize = 1000;
/// Bytes of them.
const MAX_BYTES: usize = 1 << 20;
/// Entries of one request.
const MAX_BATCH: usize = 100;
/// Bytes of them: gateways take bodies of 1 MiB, and JSON may double a text.
const MAX_BATCH_BYTES: usize = 256 << 10;
/// The same failure of a plugin is reported again after this: the service sends what was not taken again and again.
const PLUGIN_REMINDER: Duration = Duration::from_mins(1);

/// What is still to be told to the control plane.
#[derive(Debug)]
pub struct ErrorLog {
    queue: Mutex<Queue>,
    arrived: Notify,
    /// The id of the integration, as soon as it is registered.
    integration: watch::Receiver<Option<Arc<str>>>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    /// Of the first entry; every entry has the next one.
    first_number: u64,
    /// The failure of a plugin that was reported last, and when.
    plugin_failure: Option<(String, Instant)>,
}

impl ErrorLog {
    /// Reports under the id of the integration, which may come later.
    pub fn new(integration: watch::Receiver<Option<Arc<str>>>, counters: Arc<Counters>) -> Self {
        Self {
            queue: Mutex::default(),
            arrived: Notify::new(),
            integration,
            counters,
        }
    }

    /// Whether these fit as well, or else the log has not been taking any for a while.
    pub fn has_room_for(&self, entries: &[Entry]) -> bool {
        let queue = self.queue();
        let n_bytes: usize = entries.iter().map(Entry::size).sum();
        let fits = queue.entries.len() + entries.len() <= MAX_ENTRIES && queue.bytes + n_bytes <= MAX_BYTES;
        // What never fits is not to be tried again and again.
        fits || queue.entries.is_empty()
    }

    /// Queues an entry. Where there is no room, the oldest ones are dropped.
    pub fn push(&self, entry: Entry) {
        let mut queue = self.queue();
        queue.bytes += entry.size();
        queue.entries.push_back(Arc::new(entry));
        let mut n_dropped = 0;
        while queue.entries.len() > MAX_ENTRIES || (queue.bytes > MAX_BYTES && queue.entries.len() > 1) {
            queue.pop();
            n_dropped += 1;
        }
        drop(queue);
        self.counters.unreported.add(n_dropped);
        self.arrived.notify_one();
    }

    /// An event was given up.
    pub fn not_delivered(&self, letter: &DeadLetter, stored: Stored) {
        self.push(Entry::of_dead_letter(letter, stored, SystemTime::now()));
    }

    /// A plugin failed on an event of the service.
    pub fn plugin_failed(&self, event: &Event, error: &PluginError) {
        let entry = Entry::of_plugin_failure(event, error, SystemTime::now());
        let mut queue = self.queue();
        let is_same = |(last, at): &(String, Instant)| *last == entry.message() && at.elapsed() < PLUGIN_REMINDER;
        if queue.plugin_failure.as_ref().is_some_and(is_same) {
            return;
        }
        queue.plugin_failure = Some((entry.message().to_owned(), Instant::now()));
        drop(queue);
        self.push(entry);
    }

    /// Plugins were not replaced, because the new ones do not work.
    pub fn plugins_refused(&self, problems: &[String]) {
        self.push(Entry::of_refused_plugins(problems, SystemTime::now()));
    }

    /// Entries that are not sent.
    pub fn n_queued(&self) -> usize {
        self.queue().entries.len()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The oldest entries, for one request.
#[derive(Debug)]
struct Batch {
    entries: Vec<Arc<Entry>>,
    first_number: u64,
}

impl Queue {
    fn batch(&self, max: usize) -> Batch {
        let mut bytes = 0;
        let fits = |entry: &&Arc<Entry>| {
            bytes += entry.size();
            bytes <= MAX_BATCH_BYTES
        };
        let mut entries: Vec<_> = self.entries.iter().take(max).take_while(fits).cloned().collect();
        if entries.is_empty() {
            entries.extend(self.entries.front().cloned());
        }
        Batch {
            entries,
            first_number: self.first_number,
        }
    }

    /// Removes what is left of a batch: some of it may have been dropped meanwhile.
    fn remove(&mut self, batch: &Batch) {
        let end = batch.first_number + batch.entries.len() as u64;
        while self.first_number < end && self.pop() {}
    }

    fn pop(&mut self) -> bool {
        let Some(entry) = self.entries.pop_front() else {
            return false;
        };
        self.bytes -= entry.size();
        self.first_number += 1;
        true
    }
}

#[cfg(test)]
mod tests;
