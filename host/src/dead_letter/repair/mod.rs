//! The dead letters of a running distributor: looks at them, delivers them again, and deletes them.
//!
//! Used by [`crate::control`]. One job at a time goes through the archive, and a letter is only deleted when the service
//! has taken it, a plugin has dropped it, or an operator who was shown it has said so. The list is looked at again in the
//! background while somebody wants it, so that nobody waits for a NATS that is away.

mod job;
mod listing;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_nats::Client;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::job::{EndOfJob, Job};
pub use self::job::{JobKind, JobReport};
use self::listing::LastLook;
pub use self::listing::{Letter, Listing};
use super::redrive::{Options, Progress, Redrive};
use super::{Archive, Integration, ReadError, Selection};
use crate::config::{Config, DeadLetterSink, DeliveryConfig};
use crate::metrics::Counter;
use crate::plugins::Plugins;

/// Attempts after the first, when the service answers that a later one may succeed.
const RETRIES: u32 = 2;
/// How long the service may not be ready before a redrive gives up. What it did not reach is left.
const PATIENCE: Duration = Duration::from_secs(30);

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

    fn current_job(&self) -> MutexGuard<'_, Option<Job>> {
        self.job.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
