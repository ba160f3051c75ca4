//! Where events come from: for each topic a stream, if one stores it, and otherwise core NATS. Without NATS, [`remote`]
//! asks the control plane's API.
//!
//! Run by [`crate::connection`]. This part decides who receives what, and moves topics without a gap when that changes;
//! `core` and [`jetstream`] receive. Both hand events to [`crate::dispatch`] in the order they got them.

pub(crate) mod core;
pub mod jetstream;
mod overview;
pub mod remote;
mod widening;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use async_nats::{Client, Message};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::jetstream::Settling;
use self::jetstream::{Filter, Settings, StreamSource};
pub use self::overview::{MemoryReport, Overview, SourceKind, StreamReport};
use self::widening::few;
use crate::config::{DeliveryMode, JetStreamConfig};
use crate::dispatch::Dispatcher;
use crate::event::{EventBuilder, Malformed};
use crate::nats;
use crate::streams::{LookupError, Streams};
use crate::subject::{Subject, cover};
use crate::subscription::Interest;

/// The count after which a subscription is to end. A server takes a number of more than nine digits for "now", while the
/// client goes on handing over what comes.
pub(crate) const SERVER_ENDS_NOW: u64 = 10_000_000_000;
/// Topics that no stream stores are looked up again after this, doubled up to [`LONGEST_RECHECK_PAUSE`].
const FIRST_RECHECK_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_RECHECK_PAUSE: Duration = Duration::from_secs(30);
/// Other replicas may learn of a change this much later: as long as two heartbeats take.
const NARROW_AFTER: Duration = Duration::from_secs(20);
/// A stream that does not keep its topics for us by then, because its consumer cannot be had, does not hold up the others.
const KEPT_TIMEOUT: Duration = Duration::from_secs(2);
/// After a topic has moved to a stream, what came over core NATS just before may come from there as well.
const OVERLAP: Duration = Duration::from_secs(5);

/// What is needed to receive.
#[derive(Debug)]
pub struct Sources {
    /// The connection.
    pub client: Client,
    /// Counts the connections that were made.
    pub connections: watch::Receiver<u64>,
    /// Finds the stream of a topic.
    pub streams: Streams,
    /// Queue group.
    pub group: Option<String>,
    /// How to receive from streams.
    pub config: JetStreamConfig,
    /// One event at a time, over all replicas.
    pub is_strict: bool,
    /// What is wanted.
    pub interest: watch::Receiver<Arc<Interest>>,
    /// Where events go.
    pub dispatcher: Arc<Dispatcher>,
    /// Ends receiving.
    pub shutdown: CancellationToken,
}

/// The event in JSON format: as it is in structured mode, put together from headers and payload in binary mode.
pub(crate) fn structured(message: &Message) -> Result<Bytes, Box<(Bytes, Malformed)>> {
    let Some(attributes) = message.headers.as_ref().and_then(nats::binary_attributes) else {
        return Ok(message.payload.clone());
    };
    EventBuilder::from_binary(&attributes, &message.payload).map_err(|error| Box::new((message.payload.clone(), error)))
}

impl Sources {
    /// Receives until `shutdown`, and then what was already on its way. The streams still have to be told what becomes of
    /// their events.
    ///
    /// # Errors
    /// When the client has ended, which nothing but the end of the process does.
    pub async fn run(self) -> Result<Vec<Settling>, async_nats::SubscribeError> {
        let (core_subjects, wanted) = watch::channel(BTreeSet::new());
        let core = core::run(
            self.client.clone(),
            self.group.clone(),
            wanted,
            Arc::clone(&self.dispatcher),
            self.shutdown.clone(),
        );
        let planner = Planner {
            streams: self.streams.clone(),
            running: BTreeMap::new(),
            settling: Vec::new(),
            core_subjects,
            unstored: BTreeSet::new(),
            recheck_pause: FIRST_RECHECK_PAUSE,
            overlap_ends: None,
            reported: Plan::default(),
            core: tokio::spawn(core),
            sources: self,
        };
        planner.run().await
    }
}

/// Decides which topic comes from where, and keeps it so.
struct Planner {
    sources: Sources,
    streams: Streams,
    /// By name of the stream.
    running: BTreeMap<String, Running>,
    /// What is left of streams that are gone.
    settling: Vec<Settling>,
    core: JoinHandle<Result<(), async_nats::SubscribeError>>,
    core_subjects: watch::Sender<BTreeSet<Subject>>,
    /// Topics that no stream stored when that was looked up last.
    unstored: BTreeSet<Subject>,
    recheck_pause: Duration,
    /// When nothing can come twice any more.
    overlap_ends: Option<Instant>,
    /// What was said last: the topics of each stream, and those of none.
    reported: Plan,
}

struct Running {
    source: StreamSource,
    /// What the stream stores.
    stores: Vec<Subject>,
    filter: BTreeSet<Subject>,
    /// Whether that is what is wanted, and not only what may be.
    is_known: bool,
    /// When the filter may be narrowed to what is wanted.
    narrows_at: Option<Instant>,
}

/// Who is to receive what.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Plan {
    streams: BTreeMap<String, BTreeSet<Subject>>,
    /// Topics that no stream stores.
    unstored: BTreeSet<Subject>,
    /// Why, if that is not known for certain.
    doubt: Option<String>,
}

impl Planner {
    async fn run(mut self) -> Result<Vec<Settling>, async_nats::SubscribeError> {
        let shutdown = self.sources.shutdown.clone();
        let never_asks = self.sources.config.mode == DeliveryMode::Core;
        while !shutdown.is_cancelled() {
            self.collect_ended().await;
            self.sources.connections.mark_unchanged();
            let interest = Arc::clone(&self.sources.interest.borrow_and_update());
            let (topics, is_known) = (interest.patterns(), interest.is_known());
            let mut is_complete = true;
            if never_asks || nats::is_connected(&self.sources.client) {
                let work = async {
                    let plan = self.judge(topics).await;
                    is_complete = plan.unstored.is_empty() || never_asks;
                    is_complete &= self.apply(plan, is_known).await;
                };
                tokio::select! {
                    () = work => {}
                    () = shutdown.cancelled() => break,
                }
            }
            self.wait(!is_complete).await;
        }
        for running in self.running.into_values() {
            self.settling.push(running.source.end().await);
        }
        match self.core.await {
            Ok(Err(error)) => Err(error),
            _ => Ok(self.settling),
        }
    }

    /// Forgets streams that are gone.
    async fn collect_ended(&mut self) {
        let ended = self.running.extract_if(.., |_, running| running.source.has_ended());
        for (_, running) in ended.collect::<Vec<_>>() {
            self.settling.push(running.source.end().await);
        }
    }

    /// Finds out which topic comes from where. Only what is not known yet is asked for.
    async fn judge(&mut self, topics: Vec<Subject>) -> Plan {
        let mut plan = Plan::default();
        let mut found: Vec<(String, Vec<Subject>)> = self
            .running
            .iter()
            .map(|(name, running)| (name.clone(), running.stores.clone()))
            .collect();
        let asks = self.sources.config.mode != DeliveryMode::Core;
        for topic in topics {
            let stores = |stored: &[Subject]| stored.iter().any(|stored| stored.covers(&topic));
            if asks
                && plan.doubt.is_none()
                && !self.unstored.contains(&topic)
                && !found.iter().any(|(_, stored)| stores(stored))
            {
                match self.stream_of(&topic).await {
                    Ok(Some(stream)) => found.push(stream),
                    Ok(None) => {}
                    // The next topics would get the same answer, perhaps after another time-out.
                    Err(reason) => plan.doubt = Some(reason),
                }
            }
            match found.iter().find(|(_, stored)| stores(stored)) {
                Some((name, _)) => {
                    plan.streams.entry(name.clone()).or_default().insert(topic);
                }
                None => {
                    plan.unstored.insert(topic);
                }
            }
        }
        for (name, stores) in found {
            if let Some(running) = self.running.get_mut(&name) {
                running.stores = stores;
            } else if plan.streams.contains_key(&name) {
                let running = Running {
                    source: StreamSource::start(self.settings(), &name, Filter::default()),
                    stores,
                    filter: BTreeSet::new(),
                    is_known: true,
                    narrows_at: None,
                };
                self.running.insert(name, running);
            }
        }
        plan
    }

    /// The stream to receive a topic from, and all that it stores.
    async fn stream_of(&self, topic: &Subject) -> Result<Option<(String, Vec<Subject>)>, String> {
        let only = self.sources.config.stream.as_ref();
        let storing = self.streams.storing_by_now(topic).await.map_err(|error| match error {
            LookupError::Unavailable(reason) => reason,
            failed @ LookupError::Failed { .. } => failed.to_string(),
        })?;
        let usable: Vec<_> = storing
            .into_iter()
            .filter(|stream| stream.has_limits_retention && only.is_none_or(|only| *only == stream.name))
            .collect();
        if let [first, second, ..] = usable.as_slice() {
            let (first, second) = (&first.name, &second.name);
            tracing::error!(subject = %topic, first, second, "two streams store this topic; JETSTREAM_STREAM chooses one");
            return Ok(None);
        }
        Ok(usable.into_iter().next().map(|stream| (stream.name, stream.subjects)))
    }

    fn settings(&self) -> Settings {
        Settings {
            client: self.sources.client.clone(),
            connections: self.sources.connections.clone(),
            config: self.sources.config.clone(),
            is_strict: self.sources.is_strict,
            dispatcher: Arc::clone(&self.sources.dispatcher),
            shutdown: self.sources.shutdown.clone(),
        }
    }

    /// Makes it so: what a stream takes over is received from both until the stream keeps it for us. False if that is to be
    /// tried again. As long as it is not known what is wanted, streams keep what may be, and nothing is received.
    async fn apply(&mut self, plan: Plan, is_known: bool) -> bool {
        if is_known {
            self.report(&plan);
        }
        self.unstored.clone_from(&plan.unstored);
        let waits = self.sources.config.mode == DeliveryMode::JetStream || !is_known;
        let core = if waits {
            BTreeSet::new()
        } else {
            few(cover(&plan.unstored), plan.streams.values().flatten())
        };
        let before = self.core_subjects.borrow().clone();
        let leaves_core = before.difference(&core).next().is_some() && !plan.streams.is_empty();
        if leaves_core {
            self.sources.dispatcher.comes_twice.store(true, Ordering::Release);
            self.overlap_ends = None;
        }
        if core.difference(&before).next().is_some() {
            self.listen_to(cover(before.iter().chain(&core)));
        }
        let now = Instant::now();
        for (name, topics) in &plan.streams {
            let Some(running) = self.running.get_mut(name) else {
                continue;
            };
            let wanted = cover(topics);
            if wanted != running.filter || is_known != running.is_known {
                running.narrows_at = is_known.then(|| now + NARROW_AFTER);
                running.filter.clone_from(&wanted);
                running.is_known = is_known;
            }
            let is_exact = is_known && running.narrows_at.is_none_or(|at| at <= now);
            if is_exact {
                running.narrows_at = None;
            }
            running.source.change(Filter {
                subjects: wanted,
                is_exact,
            });
        }
        let kept = async {
            for name in plan.streams.keys() {
                if let Some(running) = self.running.get_mut(name) {
                    running.source.is_kept().await;
                }
            }
        };
        if tokio::time::timeout(KEPT_TIMEOUT, kept).await.is_err() {
            return false;
        }
        self.listen_to(core);
        if leaves_core {
            self.overlap_ends = Some(Instant::now() + OVERLAP);
        }
        true
    }

    fn listen_to(&self, core: BTreeSet<Subject>) {
        self.core_subjects.send_if_modified(|current| {
            let is_other = *current != core;
            *current = core;
            is_other
        });
    }

    /// Says what changed.
    fn report(&mut self, plan: &Plan) {
        for (stream, topics) in &plan.streams {
            if self.reported.streams.get(stream) != Some(topics) {
                let subjects = listed(topics);
                tracing::info!(stream, subjects, "received from a stream: at least once");
            }
        }
        let said_before = self.reported.unstored == plan.unstored && self.reported.doubt == plan.doubt;
        if !plan.unstored.is_empty() && !said_before {
            let subjects = listed(&plan.unstored);
            let reason = plan.doubt.as_deref().unwrap_or("no stream stores them");
            match self.sources.config.mode {
                DeliveryMode::Core => tracing::info!(subjects, "received over core NATS: at most once"),
                DeliveryMode::Auto => tracing::warn!(subjects, reason, "received over core NATS: at most once"),
                DeliveryMode::JetStream => tracing::error!(subjects, reason, "not received: waiting for a stream"),
            }
        }
        self.reported.clone_from(plan);
    }

    /// Waits for anything that may call for another plan.
    async fn wait(&mut self, rechecks: bool) {
        let recheck = rechecks.then(|| Instant::now() + self.recheck_pause);
        let narrow = self.running.values().filter_map(|running| running.narrows_at).min();
        let has_ended = |running: &Running| running.source.has_ended();
        let sources = &mut self.sources;
        tokio::select! {
            () = sources.shutdown.cancelled() => {}
            () = ended(self.running.values_mut()) => {}
            _ = sources.connections.changed() => {
                self.recheck_pause = FIRST_RECHECK_PAUSE;
                self.unstored.clear();
            }
            () = changed(&mut sources.interest) => {}
            () = at(recheck) => {
                self.recheck_pause = (self.recheck_pause * 2).min(LONGEST_RECHECK_PAUSE);
                self.unstored.clear();
            }
            () = at(narrow) => {}
            () = at(self.overlap_ends) => {
                self.overlap_ends = None;
                sources.dispatcher.comes_twice.store(false, Ordering::Release);
            }
        }
        if self.running.values().any(has_ended) {
            // Its topics may be in another stream by now.
            self.unstored.clear();
            self.recheck_pause = FIRST_RECHECK_PAUSE;
        }
    }
}

/// Waits until something else is wanted; for ever, if nobody is left who could want it.
async fn changed(interest: &mut watch::Receiver<Arc<Interest>>) {
    if interest.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Waits until one of them has ended; for ever, if there are none.
async fn ended<'a>(running: impl Iterator<Item = &'a mut Running>) {
    let mut ends: Vec<_> = running.map(|running| Box::pin(running.source.ended())).collect();
    std::future::poll_fn(|context| {
        for end in &mut ends {
            if end.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    })
    .await;
}

/// Some of many, for a line of the log.
fn listed(subjects: &BTreeSet<Subject>) -> String {
    const MAX_LISTED: usize = 10;
    let listed: Vec<_> = subjects.iter().take(MAX_LISTED).map(Subject::as_str).collect();
    let others = subjects.len().saturating_sub(MAX_LISTED);
    let others = if others == 0 {
        String::new()
    } else {
        format!(", and {others} others")
    };
    listed.join(", ") + &others
}
