//! The dead letters of a running distributor: looks at them, delivers them again, and deletes them.
//!
//! Used by [`crate::control`]. One job at a time goes through the archive, and a letter is only deleted when the service
//! has taken it, a plugin has dropped it, or an operator who was shown it has said so. The list is looked at again in the
//! background while somebody wants it, so that nobody waits for a NATS that is away.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_nats::Client;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::redrive::{Failure, Options, Progress, Redrive};
use super::{Archive, Entry, Integration, ReadError, Selection, one_line, rfc3339};
use crate::config::{Config, DeadLetterSink, DeliveryConfig};
use crate::metrics::Counter;
use crate::plugins::Plugins;

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
/// Attempts after the first, when the service answers that a later one may succeed.
const RETRIES: u32 = 2;
/// How long the service may not be ready before a redrive gives up. What it did not reach is left.
const PATIENCE: Duration = Duration::from_secs(30);
const MAX_FAILURES: usize = 20;

/// What an operator can do with the dead letters of this integration.
#[derive(Debug)]
pub struct Repairs {
    client: Option<Client>,
    sink: DeadLetterSink,
    integration: String,
    delivery: DeliveryConfig,
    plugins: Arc<Plugins>,
    listing: watch::Sender<Listing>,
    is_listing: AtomicBool,
    /// What the list was made of, and when.
    last_look: Mutex<LastLook>,
    job: Mutex<Option<Job>>,
    tasks: Mutex<JoinSet<()>>,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct LastLook {
    mark: Option<(u64, u64)>,
    next: Option<Instant>,
    ended: Option<Instant>,
}

/// Which dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// These, as the list names them.
    #[serde(default)]
    pub ids: BTreeSet<String>,
    /// All of this integration.
    #[serde(default)]
    pub all: bool,
    /// Of all, only those up to this one: what came later nobody has seen.
    pub through: Option<String>,
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
struct Job {
    kind: JobKind,
    started: SystemTime,
    ended: Option<SystemTime>,
    selected: u64,
    progress: Arc<Progress>,
    deleted: Arc<Counter>,
    error: Option<String>,
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

/// Why nothing is done.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// Nothing was chosen, or too much was said.
    #[error("which dead letters? Give either `ids`, as the list has them, or `all`")]
    NoChoice,
    /// One job after the other.
    #[error("another redrive or purge is under way; it has to end first")]
    Busy,
    /// What was chosen is not there (any more).
    #[error("there are no such dead letters (any more)")]
    NothingFound,
    /// The distributor is shutting down.
    #[error("the distributor is shutting down")]
    Ending,
    /// The place.
    #[error("{0}")]
    Read(#[from] ReadError),
}

impl Repairs {
    /// Looks at nothing before somebody wants to see it.
    pub fn new(client: Option<Client>, config: &Config, plugins: Arc<Plugins>, stop: CancellationToken) -> Self {
        let place = match &config.dead_letter.sink {
            DeadLetterSink::Auto | DeadLetterSink::Nats if client.is_some() => format!("the stream {}", super::STREAM),
            DeadLetterSink::Directory(directory) => directory.display().to_string(),
            _ => "the log of this process, which keeps no events".to_owned(),
        };
        Self {
            client,
            sink: config.dead_letter.sink.clone(),
            integration: config.jetstream.durable.clone(),
            delivery: config.delivery.clone(),
            plugins,
            listing: watch::Sender::new(Listing {
                place,
                ..Listing::default()
            }),
            is_listing: AtomicBool::new(false),
            last_look: Mutex::default(),
            job: Mutex::default(),
            tasks: Mutex::default(),
            stop,
        }
    }

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

    /// The job that runs, or the last one.
    pub fn job(&self) -> Option<JobReport> {
        self.current_job().as_ref().map(Job::report)
    }

    /// Delivers dead letters to the service again, through the plugins in force.
    ///
    /// # Errors
    /// Why nothing is done.
    pub async fn redrive(self: &Arc<Self>, choice: &Choice) -> Result<JobReport, RepairError> {
        self.start(JobKind::Redrive, choice).await
    }

    /// Deletes dead letters.
    ///
    /// # Errors
    /// Why nothing is done.
    pub async fn purge(self: &Arc<Self>, choice: &Choice) -> Result<JobReport, RepairError> {
        self.start(JobKind::Purge, choice).await
    }

    /// Waits until nothing is done any more, after `stop`.
    pub async fn ended(&self) {
        loop {
            let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
            if tasks.is_empty() {
                return;
            }
            while tasks.join_next().await.is_some() {}
        }
    }

    async fn start(self: &Arc<Self>, kind: JobKind, choice: &Choice) -> Result<JobReport, RepairError> {
        if choice.all != choice.ids.is_empty() || (choice.through.is_some() && !choice.all) {
            return Err(RepairError::NoChoice);
        }
        let archive = self.open().await?;
        let mut selection = Selection::all(Integration::Named(self.integration.clone()));
        selection.sequences = choice.ids.iter().filter_map(|id| archive.sequence(id)).collect();
        if !choice.all && selection.sequences.is_empty() {
            return Err(RepairError::NothingFound);
        }
        if let Some(through) = &choice.through {
            selection.through = Some(archive.sequence(through).ok_or(RepairError::NothingFound)?);
        }
        let mut n_selected = 0;
        let mut scan = archive.scan(&selection);
        while scan.next().await?.is_some() {
            n_selected += 1;
        }
        if n_selected == 0 {
            return Err(RepairError::NothingFound);
        }
        let (progress, deleted) = (Arc::<Progress>::default(), Arc::<Counter>::default());
        self.take_place(kind, n_selected, &progress, &deleted)?;
        tracing::warn!(?kind, n_selected, "an operator works on dead letters");
        let (repairs, report) = (Arc::clone(self), self.job());
        let work = async move {
            let end = EndOfJob(&repairs);
            let error = match kind {
                JobKind::Redrive => repairs.redrive_all(archive, selection, n_selected, progress).await,
                JobKind::Purge => {
                    repairs
                        .purge_all(&archive, &selection, n_selected, &progress, &deleted)
                        .await
                }
            };
            if let Some(job) = &mut *repairs.current_job() {
                job.error = error;
            }
            drop(end);
            tracing::warn!(report = ?repairs.job(), "done with dead letters");
        };
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(work);
        report.ok_or(RepairError::Ending)
    }

    fn take_place(
        &self,
        kind: JobKind,
        selected: u64,
        progress: &Arc<Progress>,
        deleted: &Arc<Counter>,
    ) -> Result<(), RepairError> {
        if self.stop.is_cancelled() {
            return Err(RepairError::Ending);
        }
        let mut current = self.current_job();
        if current.as_ref().is_some_and(|job| job.ended.is_none()) {
            return Err(RepairError::Busy);
        }
        *current = Some(Job {
            kind,
            started: SystemTime::now(),
            ended: None,
            selected,
            progress: Arc::clone(progress),
            deleted: Arc::clone(deleted),
            error: None,
        });
        Ok(())
    }

    async fn redrive_all(
        &self,
        archive: Archive,
        selection: Selection,
        n_selected: u64,
        progress: Arc<Progress>,
    ) -> Option<String> {
        let options = Options {
            concurrency: self.delivery.concurrency,
            retries: RETRIES,
            rate: None,
            patience: PATIENCE,
        };
        let stop = self.stop.child_token();
        let redrive = Redrive::new(
            archive,
            Arc::clone(&self.plugins),
            &self.delivery,
            options,
            progress,
            stop,
        );
        Arc::new(redrive).run(&selection, None, n_selected).await.error
    }

    async fn purge_all(
        &self,
        archive: &Archive,
        selection: &Selection,
        n_selected: u64,
        progress: &Progress,
        deleted: &Counter,
    ) -> Option<String> {
        let mut scan = archive.scan(selection);
        for _ in 0..n_selected {
            if self.stop.is_cancelled() {
                return Some(RepairError::Ending.to_string());
            }
            let entry = match scan.next().await {
                Ok(Some(entry)) => entry,
                Ok(None) => break,
                Err(error) => return Some(error.to_string()),
            };
            match archive.delete(entry.sequence).await {
                Ok(true) => deleted.increment(),
                Ok(false) => progress.gone.increment(),
                Err(error) => return Some(error.to_string()),
            }
        }
        None
    }

    async fn open(&self) -> Result<Archive, ReadError> {
        match (&self.sink, &self.client) {
            (DeadLetterSink::Directory(directory), _) => Archive::in_directory(directory).await,
            (DeadLetterSink::Auto | DeadLetterSink::Nats, Some(client)) => Archive::in_stream(client.clone()).await,
            _ => Err(ReadError::OnlyLogged),
        }
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

    fn last_look(&self) -> MutexGuard<'_, LastLook> {
        self.last_look.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current_job(&self) -> MutexGuard<'_, Option<Job>> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the job, however that comes, and has the list made anew.
struct EndOfJob<'a>(&'a Repairs);

impl Drop for EndOfJob<'_> {
    fn drop(&mut self) {
        if let Some(job) = &mut *self.0.current_job() {
            job.ended = Some(SystemTime::now());
        }
        *self.0.last_look() = LastLook::default();
    }
}

impl Job {
    fn report(&self) -> JobReport {
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
