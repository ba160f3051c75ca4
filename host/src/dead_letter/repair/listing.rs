//! The list of dead letters, made anew in the background while somebody looks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Repairs;
use crate::dead_letter::{Entry, Integration, ReadError, Selection, one_line, rfc3339};

/// Letters that are listed, the newest ones.
const MAX_LISTED: usize = 200;
/// Letters that are looked at for that. Of more nobody can say how many there are without reading them all.
const MAX_SCANNED: u64 = 4096;
/// The place is asked no more often than this, and no more than a tenth of the time is spent on it.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// A list that is older is waited for.
const OLD: Duration = Duration::from_secs(5);
/// Time to read the list.
const LIST_TIMEOUT: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
pub(super) struct LastLook {
    mark: Option<(u64, u64)>,
    next: Option<Instant>,
    ended: Option<Instant>,
}

/// The dead letters of this integration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Listing {
    /// Where they are.
    pub place: String,
    /// When they were looked at.
    pub as_of: Option<String>,
    /// How many there are.
    pub total: u64,
    /// Whether there may be more of them, among what was not looked at.
    pub has_more: bool,
    /// How many for which reason.
    pub by_reason: BTreeMap<String, u64>,
    /// The newest ones, the newest first.
    pub letters: Vec<Letter>,
    /// Why they could not be looked at the last time.
    pub error: Option<String>,
}

/// A dead letter without its event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Letter {
    /// Its name for redrive and purge.
    pub id: String,
    /// When it was stored.
    pub stored: String,
    /// Why it was given up.
    pub reason: String,
    /// The status that the service answered last.
    pub status: Option<u16>,
    /// What went wrong last.
    pub error: String,
    /// Attempts that reached the service.
    pub attempts: u32,
    /// When the first of them was made.
    pub first_attempt: Option<String>,
    /// When the last of them was made.
    pub last_attempt: Option<String>,
    /// The event's id.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// Its Keptn context.
    pub keptn_context: String,
    /// The subject it came on.
    pub subject: String,
    /// The subscription it matched.
    pub subscription_id: Option<String>,
    /// The plugin that failed on it.
    pub plugin: Option<String>,
    /// The generation of the plugins it passed.
    pub generation: u64,
    /// Size of the event.
    pub bytes: usize,
    /// Whether a plugin made this event: then it is delivered again as it is.
    pub is_child: bool,
}

impl Repairs {
    /// What is known of the dead letters. Looks again in the background, and waits for that if what is known is old.
    pub async fn list(self: &Arc<Self>, patience: Duration) -> Listing {
        let mut changes = self.listing.subscribe();
        changes.mark_unchanged();
        self.look_again();
        let is_old = self.last_look().ended.is_none_or(|ended| ended.elapsed() > OLD);
        if is_old {
            // An error: it takes longer than that.
            let _ = tokio::time::timeout(patience, changes.changed()).await;
        }
        self.listing.borrow().clone()
    }

    fn look_again(self: &Arc<Self>) {
        let is_due = self.last_look().next.is_none_or(|next| next <= Instant::now());
        if !is_due || self.stop.is_cancelled() || self.is_listing.swap(true, Ordering::AcqRel) {
            return;
        }
        let repairs = Arc::clone(self);
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            let start = Instant::now();
            let looked = async { tokio::time::timeout(LIST_TIMEOUT, repairs.look()).await };
            let looked = repairs.stop.run_until_cancelled(looked).await;
            match looked {
                Some(Ok(Ok(()))) | None => {}
                Some(Ok(Err(error))) => repairs.not_listed(&error),
                Some(Err(_)) => repairs.note_error("the dead letters cannot be read in time".to_owned()),
            }
            let now = Instant::now();
            let mut last_look = repairs.last_look();
            last_look.next = Some(now + SHORTEST_INTERVAL.max(start.elapsed() * 10));
            last_look.ended = Some(now);
            drop(last_look);
            repairs.is_listing.store(false, Ordering::Release);
        });
    }

    async fn look(&self) -> Result<(), ReadError> {
        let as_of = Some(rfc3339(SystemTime::now()));
        let archive = self.open().await?;
        let mark = archive.mark();
        if self.last_look().mark == Some(mark) {
            self.listing.send_modify(|listing| {
                listing.as_of = as_of;
                listing.error = None;
            });
            return Ok(());
        }
        let selection = Selection::all(Integration::Named(self.integration.clone()));
        let (mut scan, has_more) = archive.scan_newest(&selection, MAX_SCANNED);
        let mut newest = VecDeque::new();
        let (mut total, mut by_reason) = (0, BTreeMap::<String, u64>::new());
        while let Some(entry) = scan.next().await? {
            total += 1;
            *by_reason.entry(entry.letter.reason.to_string()).or_default() += 1;
            if newest.len() == MAX_LISTED {
                newest.pop_back();
            }
            newest.push_front(Letter::new(archive.id(entry.sequence), &entry));
        }
        self.last_look().mark = Some(mark);
        self.listing.send_modify(|listing| {
            *listing = Listing {
                place: std::mem::take(&mut listing.place),
                as_of,
                total,
                has_more,
                by_reason,
                letters: newest.into(),
                error: None,
            };
        });
        Ok(())
    }

    /// What was known stays on the list, if it may still be true.
    fn not_listed(&self, error: &ReadError) {
        match error {
            // There never was one, which is what everybody hopes for.
            ReadError::Nothing(_) | ReadError::OnlyLogged | ReadError::NoJetStream(_) => {
                let as_of = Some(rfc3339(SystemTime::now()));
                self.listing.send_modify(|listing| {
                    let place = std::mem::take(&mut listing.place);
                    *listing = Listing {
                        place,
                        as_of,
                        ..Listing::default()
                    };
                });
            }
            ReadError::Nats { .. } | ReadError::File { .. } => self.note_error(error.to_string()),
        }
    }

    fn note_error(&self, error: String) {
        self.listing.send_modify(|listing| listing.error = Some(error));
    }

    pub(super) fn last_look(&self) -> MutexGuard<'_, LastLook> {
        self.last_look.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Letter {
    fn new(id: String, entry: &Entry) -> Self {
        let letter = &entry.letter;
        let text = |text: &str| one_line(text, 512);
        let optional = |name: &Option<String>| name.as_deref().map(text);
        Self {
            id,
            stored: rfc3339(entry.stored),
            reason: letter.reason.to_string(),
            status: letter.status,
            error: text(&letter.error),
            attempts: letter.attempts,
            first_attempt: letter.first_attempt.map(rfc3339),
            last_attempt: letter.last_attempt.map(rfc3339),
            event_id: text(&letter.event_id),
            event_type: text(&letter.event_type),
            keptn_context: text(&letter.keptn_context),
            subject: text(&letter.subject),
            subscription_id: optional(&letter.subscription_id),
            plugin: optional(&letter.plugin),
            generation: letter.generation,
            bytes: entry.bytes,
            is_child: letter.is_child,
        }
    }
}
