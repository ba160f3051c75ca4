//! Remembers for a while whether a stream stores what is published on a subject.
//!
//! Used by [`crate::sink`] for every event, so that hardly any waits for a look-up. It does not know how streams are
//! looked up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use tokio::time::Instant;

use crate::streams::{LookupError, Stream};
use crate::subject::Subject;

/// How long an answer holds: a stream that is created meanwhile is used no later than this.
const LOOKED_UP_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// The same while it cannot be looked up, as every attempt may take as long as a time-out.
const TRIED_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Subjects in memory. They come from the service, which has a handful.
const MAX_SUBJECTS: usize = 1_000;

/// Where an event is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Storage {
    /// In a stream, which says so.
    Stream,
    /// Nowhere: the server hands it to whoever listens.
    Nowhere,
}

type Lookup = BoxFuture<'static, Result<Storage, LookupError>>;

/// What is known about subjects.
#[derive(Debug, Clone, Default)]
pub(super) struct Coverage(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    subjects: HashMap<Subject, Entry>,
    /// Those who want to know the same thing at the same time wait for one look-up. It ends when nobody does.
    lookups: HashMap<Subject, WeakShared<Lookup>>,
}

#[derive(Debug)]
struct Entry {
    /// The subject of a stream that covers this one.
    covered_by: Option<Subject>,
    /// When it has to be looked up again. Until that is done it is still what was known last.
    holds_until: Instant,
}

impl Coverage {
    /// Where an event on `subject` is stored. `look_up` is used when that is not known, or not any more.
    ///
    /// While streams cannot be looked up, a subject that was covered counts as covered: the stream still has to confirm
    /// each event, and an outage of `JetStream` is no reason to do without.
    ///
    /// # Errors
    /// When it is not known and cannot be looked up.
    pub(super) async fn of<F>(
        &self,
        subject: &Subject,
        look_up: impl FnOnce(Subject) -> F,
    ) -> Result<Storage, LookupError>
    where
        F: Future<Output = Result<Vec<Stream>, LookupError>> + Send + 'static,
    {
        let pending = {
            let mut known = self.known();
            if let Some(entry) = known.subjects.get(subject)
                && Instant::now() < entry.holds_until
            {
                return Ok(entry.storage());
            }
            let running = known.lookups.get(subject).and_then(WeakShared::upgrade);
            running.unwrap_or_else(|| known.start(subject, self.ask(subject.clone(), look_up(subject.clone()))))
        };
        pending.await
    }

    /// What is known about `subject` has proven wrong: it is looked up before it is used again.
    pub(super) fn doubt(&self, subject: &Subject) {
        if let Some(entry) = self.known().subjects.get_mut(subject) {
            entry.holds_until = Instant::now();
        }
    }

    fn ask(
        &self,
        subject: Subject,
        look_up: impl Future<Output = Result<Vec<Stream>, LookupError>> + Send + 'static,
    ) -> Lookup {
        let this = self.clone();
        async move {
            let found = look_up.await;
            let mut known = this.known();
            known.lookups.remove(&subject);
            known.learn(subject, found)
        }
        .boxed()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn start(&mut self, subject: &Subject, lookup: Lookup) -> Shared<Lookup> {
        // Those for which nobody waits any more.
        self.lookups.retain(|_, lookup| lookup.upgrade().is_some());
        let lookup = lookup.shared();
        let weak = lookup.downgrade().expect("nobody has polled it to its end yet");
        self.lookups.insert(subject.clone(), weak);
        lookup
    }

    fn learn(&mut self, subject: Subject, found: Result<Vec<Stream>, LookupError>) -> Result<Storage, LookupError> {
        let (covered_by, holds_for) = match found {
            Ok(streams) => {
                // A stream that never confirms is of no use here.
                let mut patterns = streams
                    .into_iter()
                    .filter(|stream| stream.confirms)
                    .flat_map(|stream| stream.subjects);
                (patterns.find(|pattern| pattern.covers(&subject)), LOOKED_UP_AGAIN_AFTER)
            }
            Err(error) => match (self.was_covered_by(&subject), error) {
                (Some(pattern), _) => (Some(pattern.clone()), TRIED_AGAIN_AFTER),
                (None, LookupError::Unavailable(_)) => (None, LOOKED_UP_AGAIN_AFTER),
                (None, error @ LookupError::Failed { .. }) => return Err(error),
            },
        };
        let entry = Entry {
            covered_by,
            holds_until: Instant::now() + holds_for,
        };
        tracing::debug!(%subject, covered_by = entry.covered_by.as_ref().map(Subject::as_str), "looked up who stores it");
        let storage = entry.storage();
        self.make_room_for(&subject);
        self.subjects.insert(subject, entry);
        Ok(storage)
    }

    /// What is known about the subject itself, or else what a stream was known to store.
    fn was_covered_by(&self, subject: &Subject) -> Option<&Subject> {
        if let Some(entry) = self.subjects.get(subject) {
            return entry.covered_by.as_ref();
        }
        let mut patterns = self.subjects.values().filter_map(|entry| entry.covered_by.as_ref());
        patterns.find(|pattern| pattern.covers(subject))
    }

    fn make_room_for(&mut self, subject: &Subject) {
        if self.subjects.len() < MAX_SUBJECTS || self.subjects.contains_key(subject) {
            return;
        }
        // That a subject was covered is worth more than that it was not: see `of`.
        let of_least_worth = |(_, entry): &(&Subject, &Entry)| (entry.covered_by.is_some(), entry.holds_until);
        if let Some(oldest) = self
            .subjects
            .iter()
            .min_by_key(of_least_worth)
            .map(|(subject, _)| subject.clone())
        {
            self.subjects.remove(&oldest);
        }
    }
}

impl Entry {
    fn storage(&self) -> Storage {
        match self.covered_by {
            Some(_) => Storage::Stream,
            None => Storage::Nowhere,
        }
    }
}

#[cfg(test)]
mod tests;
