//! Delivers dead letters again: straight to the service, and never onto the bus, where others would get them too.
//!
//! Called by `distributor dead-letter redrive`, and by `super::repair` in a running distributor. A dead letter is deleted after the service has taken it, so that one that
//! is being redriven when the process ends is delivered again by the next redrive, and none is lost. Several redrives at
//! the same time do no harm: who comes second finds nothing, or delivers once more.

mod options;
mod progress;
mod readiness;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::options::Limiter;
pub use self::options::{Options, Rate};
pub use self::progress::{Failure, Progress, Summary};
use self::readiness::Readiness;
use super::{Archive, DeadLetter, ReadError, Selection};
use crate::config::DeliveryConfig;
use crate::delivery::{AttemptError, Outgoing, Policy, Recipient, Verdict};
use crate::event::{Event, Malformed};
use crate::plugins::{Context, Direction, Fate, Passage, PluginError, Plugins, Published};
use crate::subject::Subject;
use crate::subscription::Subscription;
use crate::trace::TraceContext;

/// Dead letters that wait for one worker. Few, because what waits behind a slow delivery does not get faster by it.
const QUEUE: usize = 8;
/// A service may ask for a longer pause, but not for any length.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);
/// How long one dead letter finds out whether a service that answers 404 or 503 is getting ready. After that the next one
/// does: the answer may be about this event alone.
const PROBE_LIMIT: Duration = Duration::from_secs(5);
const MAX_DELETIONS: u32 = 3;
const DELETION_PAUSE: Duration = Duration::from_secs(1);

/// Everything that a redrive needs.
#[derive(Debug)]
pub struct Redrive {
    archive: Archive,
    plugins: Arc<Plugins>,
    recipient: Recipient,
    policy: Policy,
    /// Longest pause after the first failed attempt, and of all.
    pauses: (Duration, Duration),
    options: Options,
    limiter: Limiter,
    readiness: Readiness,
    progress: Arc<Progress>,
    stop: CancellationToken,
}

/// How it ended for one dead letter.
enum Outcome {
    Delivered,
    Dropped,
    Gone,
    Left(String),
    /// The service has it, and it is still stored.
    NotDeleted(ReadError),
}

/// Why an attempt failed.
struct Failed {
    error: String,
    /// The pause that the service asked for; none when trying again makes no sense.
    again_after: Option<Duration>,
}

impl Redrive {
    /// Delivers nothing before [`Self::run`]. When `stop` is cancelled, attempts under way come to their end and no other
    /// is made.
    pub fn new(
        archive: Archive,
        plugins: Arc<Plugins>,
        config: &DeliveryConfig,
        options: Options,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            archive,
            plugins,
            recipient: Recipient::new(config),
            policy: Policy::new(config),
            pauses: (config.first_pause, config.longest_pause),
            limiter: Limiter::new(options.rate),
            readiness: Readiness::default(),
            options,
            progress,
            stop,
        }
    }

    /// Delivers what is selected, in order of sequence, those of one Keptn context one after the other. `n_selected` is
    /// how many there were a moment ago.
    pub async fn run(self: Arc<Self>, selection: &Selection, limit: Option<u64>, n_selected: u64) -> Summary {
        let mut workers = JoinSet::new();
        let mut queues = Vec::new();
        for _ in 0..self.options.concurrency.max(1) {
            let (sender, receiver) = mpsc::channel(QUEUE);
            queues.push(sender);
            workers.spawn(Arc::clone(&self).work(receiver));
        }
        let mut n_handed_out = 0;
        let ended = self.hand_out(selection, limit, &queues, &mut n_handed_out).await;
        drop(queues);
        while workers.join_next().await.is_some() {}
        let is_complete = ended.is_ok() && !self.stop.is_cancelled();
        Summary::new(
            &self.progress,
            n_selected,
            is_complete.then_some(n_handed_out),
            ended.err(),
        )
    }

    async fn hand_out(
        &self,
        selection: &Selection,
        limit: Option<u64>,
        queues: &[mpsc::Sender<u64>],
        number: &mut u64,
    ) -> Result<(), ReadError> {
        let mut scan = self.archive.scan(selection);
        while limit.is_none_or(|limit| *number < limit) {
            let next = tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                next = scan.next() => next?,
            };
            let Some(entry) = next else { return Ok(()) };
            let key = match entry.letter.keptn_context.as_str() {
                "" => *number,
                context => hash(context),
            };
            *number += 1;
            let n_queues = queues.len() as u64;
            let queue = usize::try_from(key % n_queues).unwrap_or_default();
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                // A worker ends before its queue only when it has panicked; what it would do is left then.
                _ = queues[queue].send(entry.sequence) => {}
            }
        }
        Ok(())
    }

    async fn work(self: Arc<Self>, mut queue: mpsc::Receiver<u64>) {
        while let Some(sequence) = queue.recv().await {
            if self.stop.is_cancelled() {
                return;
            }
            let entry = match self.archive.load(sequence).await {
                Ok(Some(entry)) => entry,
                Ok(None) => {
                    self.progress.gone.increment();
                    continue;
                }
                Err(error) => {
                    self.progress.fail(Failure::new(sequence, "", &error.to_string()));
                    continue;
                }
            };
            let progress = &self.progress;
            match self.redrive(sequence, &entry.letter).await {
                Outcome::Delivered => progress.delivered.increment(),
                Outcome::Dropped => progress.dropped.increment(),
                Outcome::Gone => progress.gone.increment(),
                Outcome::Left(error) => progress.fail(Failure::new(sequence, &entry.letter.event_id, &error)),
                Outcome::NotDeleted(error) => {
                    progress.not_deleted.increment();
                    let error = format!("delivered, but still stored, so that the next redrive repeats it: {error}");
                    progress.note(Failure::new(sequence, &entry.letter.event_id, &error));
                }
            }
        }
    }

    async fn redrive(&self, sequence: u64, letter: &DeadLetter) -> Outcome {
        let events = match self.events(letter).await {
            Ok(events) => events,
            Err(error) => return Outcome::Left(error),
        };
        let is_dropped = events.is_empty();
        for event in &events {
            if let Err(error) = self.deliver(event, letter).await {
                return Outcome::Left(error);
            }
        }
        match self.delete(sequence).await {
            Err(error) => Outcome::NotDeleted(error),
            Ok(false) if is_dropped => Outcome::Gone,
            Ok(_) if is_dropped => Outcome::Dropped,
            Ok(_) => Outcome::Delivered,
        }
    }

    /// What goes to the service: a child as it is, an original as the plugins of today leave it. None: they drop it.
    async fn events(&self, letter: &DeadLetter) -> Result<Vec<Event>, String> {
        let event = parse(letter).map_err(|error| error.to_string())?;
        if letter.is_child {
            return Ok(vec![event]);
        }
        let received_on = if letter.subject.is_empty() {
            event.ty().into_owned()
        } else {
            letter.subject.clone()
        };
        // Its lists are not known any more, and the event has passed them once.
        let subscription = letter.subscription_id.as_ref().map(|id| Subscription {
            id: id.clone(),
            event: Subject::literal(&received_on).unwrap_or_else(|_| everything()),
            projects: Vec::new(),
            stages: Vec::new(),
            services: Vec::new(),
        });
        let context = Context {
            direction: Direction::Incoming,
            subscription: subscription.as_ref(),
            received_on: &received_on,
            receipt: 1,
            span: None,
        };
        let passage = self.run_chain(&event, &context).await;
        let Passage { fate, published } = passage.map_err(|error| format!("plugin {}: {error}", error.plugin))?;
        if let Some(Published { by, .. }) = published.first() {
            // To go on without would settle the event as if it had been answered.
            return Err(format!(
                "plugin {by:?} answers this event with one for the control plane, to which a redrive sends nothing; \
                 redrive it with a chain without that plugin, or purge it"
            ));
        }
        match fate {
            Fate::Unchanged => Ok(vec![event]),
            Fate::Replaced(events) => Ok(events),
            Fate::Dropped { by, reason } => {
                tracing::info!(event_id = &*event.id(), plugin = %by, reason, "dropped by a plugin");
                Ok(Vec::new())
            }
        }
    }

    /// Tries again where that may help, as for deliveries; in the end the dead letter stays where it is.
    async fn run_chain(&self, event: &Event, context: &Context<'_>) -> Result<Passage, Box<PluginError>> {
        for failed_attempts in 0.. {
            // The one of this moment: in a running distributor it may be replaced meanwhile.
            let chain = arc_swap::Guard::into_inner(self.plugins.current());
            let error = match chain.run(event, context).await {
                Err(error) if error.may_help_to_retry() && failed_attempts < self.options.retries => error,
                ended => return ended,
            };
            let rest = error.rests_until().map(|until| until - tokio::time::Instant::now());
            tokio::select! {
                () = self.stop.cancelled() => return Err(error),
                () = tokio::time::sleep(rest.unwrap_or_else(|| self.pause_after(failed_attempts))) => {}
            }
        }
        unreachable!("there are more numbers than attempts")
    }

    async fn deliver(&self, event: &Event, letter: &DeadLetter) -> Result<(), String> {
        let (trace, event) = (TraceContext::of_event(event), Outgoing::new(event));
        for failed_attempts in 0.. {
            let attempt = letter.attempts.saturating_add(failed_attempts).saturating_add(1);
            let subscription_id = letter.subscription_id.as_deref();
            let Err(failed) = self.attempt(&event, subscription_id, attempt, trace.as_ref()).await else {
                return Ok(());
            };
            let wanted = failed.again_after.filter(|_| failed_attempts < self.options.retries);
            let Some(wanted) = wanted else {
                return Err(failed.error);
            };
            let pause = self.pause_after(failed_attempts).max(wanted.min(LONGEST_RETRY_AFTER));
            tokio::select! {
                () = self.stop.cancelled() => return Err(failed.error),
                () = tokio::time::sleep(pause) => {}
            }
        }
        unreachable!("there are more numbers than attempts")
    }

    /// One attempt that the service answers: as long as it is not ready, one dead letter finds out when it is, and the
    /// others wait.
    async fn attempt(
        &self,
        event: &Outgoing,
        subscription_id: Option<&str>,
        attempt: u32,
        trace: Option<&TraceContext>,
    ) -> Result<(), Failed> {
        let start = tokio::time::Instant::now();
        let mut turn = tokio::select! {
            () = self.stop.cancelled() => return Err(Failed::stopped()),
            turn = self.readiness.turn() => turn,
        };
        for failed_probes in 0.. {
            let pause = if failed_probes == 0 {
                Duration::ZERO
            } else {
                readiness::pause(failed_probes)
            };
            tokio::select! {
                () = self.stop.cancelled() => return Err(Failed::stopped()),
                () = async {
                    tokio::time::sleep(pause).await;
                    self.limiter.wait().await;
                } => {}
            }
            let Err(error) = self.recipient.deliver(event, subscription_id, attempt, trace).await else {
                self.readiness.delivered();
                return Ok(());
            };
            let verdict = self.policy.judge(&error, self.readiness.was_ready(), || false);
            if verdict != Verdict::NotReady {
                self.readiness.answered();
                return failed(&error, verdict);
            }
            let waiting = self.readiness.refused(&error);
            if waiting > self.options.patience {
                // For nothing else than this the others would wait as long again.
                self.stop.cancel();
                return Err(Failed::given_up(&error, waiting));
            }
            if error.status().is_some() && start.elapsed() > PROBE_LIMIT {
                let verdict = self.policy.judge(&error, true, || false);
                return failed(&error, verdict).map_err(Failed::finally);
            }
            if turn.is_none() {
                turn = tokio::select! {
                    () = self.stop.cancelled() => return Err(Failed::stopped()),
                    turn = self.readiness.turn() => turn,
                };
            }
        }
        unreachable!("there are more numbers than probes")
    }

    /// The service has it: worth more than one try, because what stays is delivered again by the next redrive.
    async fn delete(&self, sequence: u64) -> Result<bool, ReadError> {
        for _ in 1..MAX_DELETIONS {
            if let Ok(is_deleted) = self.archive.delete(sequence).await {
                return Ok(is_deleted);
            }
            tokio::time::sleep(DELETION_PAUSE).await;
        }
        self.archive.delete(sequence).await
    }

    /// Exponential with full jitter, as for deliveries.
    fn pause_after(&self, failed_attempts: u32) -> Duration {
        let (first, longest) = self.pauses;
        let ceiling = first.saturating_mul(1 << failed_attempts.min(16)).min(longest);
        ceiling.mul_f64(fastrand::f64())
    }
}

impl Failed {
    fn stopped() -> Self {
        Self {
            error: "stopped before it was delivered".to_owned(),
            again_after: None,
        }
    }

    fn given_up(error: &AttemptError, waiting: Duration) -> Self {
        let waiting = humantime::format_duration(Duration::from_secs(waiting.as_secs()));
        Self {
            error: format!("the service was not ready for {waiting}: {error}"),
            again_after: None,
        }
    }

    fn finally(mut self) -> Self {
        self.again_after = None;
        self
    }
}

fn failed(error: &AttemptError, verdict: Verdict) -> Result<(), Failed> {
    match verdict {
        Verdict::Delivered => Ok(()),
        Verdict::TryAgain | Verdict::NotReady => Err(Failed {
            again_after: Some(error.retry_after().unwrap_or_default()),
            error: error.to_string(),
        }),
        Verdict::GiveUp(_) => Err(Failed {
            again_after: None,
            error: error.to_string(),
        }),
    }
}

/// As when it was received: without an id it has the one that it was given then.
fn parse(letter: &DeadLetter) -> Result<Event, Malformed> {
    match Event::parse(letter.payload.clone()) {
        Err(Malformed::Missing("id")) => {
            let id = match letter.event_id.as_str() {
                "" => Uuid::new_v5(&Uuid::NAMESPACE_OID, &letter.payload).to_string(),
                id => id.to_owned(),
            };
            Event::parse_with_id(&letter.payload, &id)
        }
        result => result,
    }
}

fn everything() -> Subject {
    Subject::pattern(">").expect("this is the widest pattern")
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
