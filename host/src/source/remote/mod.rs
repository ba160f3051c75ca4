//! The remote execution plane: asks the control plane again and again for the events that are open, and hands on those
//! that are not known yet.
//!
//! Run by [`crate::connection`]. The control plane keeps every event until its task is done, so whatever is not delivered
//! for any reason is found again by the next poll. It does not know plugins or the service.

mod intake;
mod open;
mod pace;
mod plan;
mod poll;
mod state_file;

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, stream};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::intake::Intake;
pub use self::open::OpenEvents;
pub(crate) use self::open::{EventKey, SubscriptionKey, SubscriptionKeys};
use self::pace::Pace;
use self::plan::Plan;
use self::poll::{List, PollError, Session};
use crate::budget::Budget;
use crate::config::FilterLists;
use crate::dispatch::Dispatcher;
use crate::keptn_api::KeptnApi;
use crate::source::SourceKind;
use crate::subscription::Interest;

/// Lists that are asked for at the same time.
const MAX_REQUESTS: usize = 4;
/// Time to write the last state.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(3);

/// What is needed to poll.
#[derive(Debug)]
pub struct RemoteSource {
    /// The control plane.
    pub api: KeptnApi,
    /// Pause between polls.
    pub interval: Duration,
    /// The lists of the environment: what has one value narrows what is asked for.
    pub filter: FilterLists,
    /// Where to remember settled events.
    pub state_file: Option<PathBuf>,
    /// Events in memory.
    pub max_events: usize,
    /// Bytes of them.
    pub max_bytes: usize,
    /// What is wanted.
    pub interest: watch::Receiver<Arc<Interest>>,
    /// Where events go.
    pub dispatcher: Arc<Dispatcher>,
    /// Tells whoever looks why polls fail, while they do.
    pub trouble: watch::Sender<Option<Trouble>>,
    /// Ends polling.
    pub shutdown: CancellationToken,
}

/// Why polls fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Since when.
    pub since: SystemTime,
    /// What the last one ended with.
    pub error: String,
}

/// The end of the source, as long as its events are not settled.
#[derive(Debug)]
pub struct Settling {
    open: Arc<OpenEvents>,
    /// Writes the state.
    keeping: Option<JoinHandle<()>>,
    finish: CancellationToken,
}

impl RemoteSource {
    /// Polls until `shutdown`. What was taken on still has to be settled.
    pub async fn run(self) -> Settling {
        let open = Arc::new(OpenEvents::default());
        let finish = CancellationToken::new();
        let keeping = self.state_file.clone().and_then(|path| {
            match state_file::read(&path) {
                Ok(settled) => open.restore(settled),
                Err(error) => {
                    tracing::warn!(
                        path = %path.display(), %error,
                        "DEDUPE_STATE_FILE is not used; a restart would deliver open events again"
                    );
                    return None;
                }
            }
            Some(tokio::spawn(state_file::keep(path, Arc::clone(&open), finish.clone())))
        });
        let settling = Settling {
            open: Arc::clone(&open),
            keeping,
            finish,
        };
        let budget = Budget::new(self.max_events, self.max_bytes);
        self.dispatcher.overview.add_budget(SourceKind::Remote, &budget);
        let intake = Intake::new(Arc::clone(&self.dispatcher), Arc::clone(&open), budget, self.interval);
        let poller = Poller {
            pace: Pace::new(self.interval),
            source: self,
            open,
            intake: Mutex::new(intake),
            plan: Plan::default(),
            lists: Vec::new(),
            reported_patterns: BTreeSet::new(),
            reported_error: None,
        };
        poller.run().await;
        settling
    }
}

impl Settling {
    /// Writes what is settled. Returns the number of events that are not: the control plane lists them again.
    pub async fn finish(self) -> usize {
        self.finish.cancel();
        if let Some(keeping) = self.keeping
            && tokio::time::timeout(LAST_WRITE_TIMEOUT, keeping).await.is_err()
        {
            tracing::warn!("DEDUPE_STATE_FILE is not written in time");
        }
        self.open.n_held()
    }
}

/// The task that polls.
struct Poller {
    source: RemoteSource,
    open: Arc<OpenEvents>,
    /// Pages are asked for side by side and taken on one after the other.
    intake: Mutex<Intake>,
    pace: Pace,
    plan: Plan,
    /// One for each query of the plan.
    lists: Vec<List>,
    reported_patterns: BTreeSet<String>,
    reported_error: Option<String>,
}

impl Poller {
    async fn run(mut self) {
        let shutdown = self.source.shutdown.clone();
        let dispatcher = Arc::clone(&self.source.dispatcher);
        while !shutdown.is_cancelled() {
            self.adopt_interest();
            let start = Instant::now();
            let results = tokio::select! {
                results = self.poll() => results,
                () = shutdown.cancelled() => return,
            };
            let pause = self.judge(&results, start.elapsed());
            let is_failing = self.reported_error.is_some();
            let next = Instant::now() + pause;
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep_until(next) => {}
                    () = super::changed(&mut self.source.interest) => {
                        // What is new is asked for at once, unless that was asked too much already.
                        if !self.adopt_interest() || is_failing {
                            continue;
                        }
                    }
                }
                break;
            }
            if !dispatcher.deliveries.is_accepting() {
                tokio::select! {
                    () = dispatcher.deliveries.until_accepting() => {}
                    () = shutdown.cancelled() => return,
                }
            }
        }
    }

    /// Looks at what is wanted. True if that is something else than before.
    fn adopt_interest(&mut self) -> bool {
        let interest = Arc::clone(&self.source.interest.borrow_and_update());
        // What is only expected matches nothing yet.
        let plan = if interest.is_known() {
            Plan::new(&interest, &self.source.filter)
        } else {
            Plan::default()
        };
        if plan == self.plan {
            return false;
        }
        for pattern in plan.patterns.difference(&self.reported_patterns) {
            tracing::warn!(
                subject = pattern,
                "a subscription with wildcards cannot be polled: it gets only events of types that another one names"
            );
        }
        self.reported_patterns.clone_from(&plan.patterns);
        let mut before = std::mem::take(&mut self.lists);
        let lists = plan.queries.iter().map(|query| {
            let known = before.iter().position(|list| list.query == *query);
            known.map_or_else(|| List::new(query.clone()), |place| before.swap_remove(place))
        });
        self.lists = lists.collect();
        let topics: BTreeSet<_> = plan.queries.iter().map(|query| &*query.topic).collect();
        tracing::info!(topics = Vec::from_iter(topics).join(", "), "polling the control plane");
        self.plan = plan;
        true
    }

    /// Asks for every list once.
    async fn poll(&mut self) -> Vec<Result<(), PollError>> {
        self.open
            .keep_topics(self.plan.queries.iter().map(|query| &query.topic));
        let session = Session {
            api: &self.source.api,
            open: &self.open,
            intake: &self.intake,
            counters: &self.source.dispatcher.counters,
            is_away: AtomicBool::new(false),
        };
        let polls: Vec<_> = self.lists.iter_mut().map(|list| session.poll(list)).collect();
        let polled: Vec<_> = stream::iter(polls).buffer_unordered(MAX_REQUESTS).collect().await;
        let incomplete: HashSet<_> = polled
            .iter()
            .filter(|(_, result)| result.is_err())
            .map(|(topic, _)| topic)
            .collect();
        let complete: BTreeSet<_> = polled.iter().map(|(topic, _)| topic).collect();
        for topic in complete.into_iter().filter(|topic| !incomplete.contains(topic)) {
            self.open.end_round(topic);
        }
        polled.into_iter().map(|(_, result)| result).collect()
    }

    /// Says what is new about the control plane, and how long to wait.
    fn judge(&mut self, results: &[Result<(), PollError>], took: Duration) -> Duration {
        let errors = || results.iter().filter_map(|result| result.as_ref().err());
        let failures = || errors().filter(|error| !matches!(error, PollError::Interrupted(_) | PollError::Skipped));
        let random = fastrand::f64();
        let Some(first) = failures().next() else {
            self.source.dispatcher.overview.polled();
            if self.reported_error.take().is_some() {
                self.source.trouble.send_replace(None);
                tracing::info!("the control plane answers again; polling goes on");
            }
            return if errors().next().is_none() {
                self.pace.after_poll(took, random)
            } else {
                self.pace.after_unfinished(random)
            };
        };
        self.source.dispatcher.counters.poll_failures.increment();
        let is_about_control_plane = failures().any(PollError::is_about_control_plane);
        let retry_after = failures().filter_map(PollError::retry_after).max();
        let pause = if is_about_control_plane {
            self.pace.after_failure(retry_after, random)
        } else {
            self.pace.after_refusal(random)
        };
        let error = first.to_string();
        if self.reported_error.as_ref() != Some(&error) {
            self.source.trouble.send_modify(|trouble| {
                let since = trouble.as_ref().map_or_else(SystemTime::now, |trouble| trouble.since);
                let error = error.clone();
                *trouble = Some(Trouble { since, error });
            });
            tracing::warn!(
                error,
                next_attempt_ms = pause.as_millis(),
                "cannot poll the control plane; trying again"
            );
            self.reported_error = Some(error);
        }
        pause
    }
}
