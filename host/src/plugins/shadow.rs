//! Runs a plugin on events beside the chain, and compares what it says with what the chain did.
//!
//! Made by [`super::trial`], fed by [`super::chain`]. Nothing waits for it: events that it has no room for are counted
//! and forgotten. It runs on a thread of its own, so that a plugin that loops takes no time from the event path.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::chain::Fate;
use super::context::{Context, Direction};
use super::convert::Lowered;
use super::error::{PluginError, one_line};
use super::plugin::{Outcome, Plugin, Verdict};
use super::publish::{Origin, Published};
use super::trial::{Sample, Trial};
use crate::event::Event;
use crate::metrics::Counter;
use crate::subscription::Subscription;

/// Events that wait for one candidate.
const MAX_WAITING: usize = 1024;
/// Bytes of them, though a single event may be larger.
const MAX_WAITING_BYTES: usize = 4 << 20;
/// Disagreements that are shown.
const MAX_SAMPLES: usize = 20;
/// Disagreements that are logged: those that follow are mostly of the same kind.
const MAX_LOGGED: u64 = 20;
/// When its chain ends, a candidate goes on with what waits for it as long as it gets on: a step takes no longer than
/// this,
const STEP: Duration = Duration::from_secs(1);
/// and all of it no longer than this.
const GRACE: Duration = Duration::from_secs(10);
/// After a failure a candidate rests for so many times as long as the failed call took: one that loops gets a tenth of
/// a processor.
const REST_PER_FAILURE: u32 = 9;

/// A candidate, its queue, and what came of it.
#[derive(Debug)]
pub(super) struct Shadow {
    plugin: Arc<Plugin>,
    beside: Option<Arc<Plugin>>,
    queue: mpsc::Sender<Job>,
    /// Until a thread takes it.
    jobs: Mutex<Option<mpsc::Receiver<Job>>>,
    waiting_bytes: AtomicUsize,
    enforced: Counter,
    agreed: Counter,
    disagreed: Counter,
    failed: Counter,
    skipped: Counter,
    findings: Mutex<Findings>,
}

#[derive(Debug, Default)]
struct Findings {
    samples: VecDeque<Sample>,
    last_failure: Option<String>,
}

/// The thread that runs the candidates of one chain.
#[derive(Debug)]
pub(super) struct Shadows {
    closed: CancellationToken,
    ended: CancellationToken,
}

/// What a plugin did with an event.
#[derive(Debug)]
pub(super) enum Did {
    Passed,
    Dropped(String),
    Made(Vec<Event>, Vec<Published>),
}

/// An event, and what the chain did with it.
#[derive(Debug)]
struct Job {
    root: Event,
    event: Event,
    position: usize,
    direction: Direction,
    subscription: Option<Subscription>,
    received_on: String,
    receipt: u32,
    active: Did,
}

impl Job {
    fn size(&self) -> usize {
        self.event.bytes().len()
    }
}

impl Did {
    /// What came of one plugin: what became of the event, and what was published.
    pub(super) fn of(fate: &Fate, published: &[Published]) -> Self {
        match fate {
            Fate::Unchanged => Self::Passed,
            Fate::Replaced(events) => Self::Made(events.clone(), published.to_vec()),
            Fate::Dropped { .. } if !published.is_empty() => Self::Made(Vec::new(), published.to_vec()),
            Fate::Dropped { reason, .. } => Self::Dropped(reason.clone()),
        }
    }

    /// For people. Not what events hold: that may be secret.
    fn summary(&self) -> String {
        match self {
            Self::Passed => "passes it".to_owned(),
            Self::Dropped(reason) => format!("drops it: {reason}"),
            Self::Made(forwarded, published) => {
                let types = |events: &mut dyn Iterator<Item = &Event>| {
                    let types: Vec<_> = events.map(|event| event.ty().into_owned()).collect();
                    one_line(&types.join(", "))
                };
                let forwarded = types(&mut forwarded.iter());
                if published.is_empty() {
                    return format!("forwards [{forwarded}]");
                }
                let published = types(&mut published.iter().map(|published| &published.event));
                format!("forwards [{forwarded}], publishes [{published}]")
            }
        }
    }

    /// Whether the other did the same; if not, the first difference between the events that both made.
    fn agrees_with(&self, other: &Self) -> Result<(), Option<String>> {
        match (self, other) {
            (Self::Passed, Self::Passed) | (Self::Dropped(_), Self::Dropped(_)) => Ok(()),
            (Self::Made(forwarded, published), Self::Made(other_forwarded, other_published)) => {
                if forwarded.len() != other_forwarded.len() || published.len() != other_published.len() {
                    return Err(None);
                }
                let forwarded = forwarded.iter().map(document).zip(other_forwarded.iter().map(document));
                let published = published.iter().map(published_document);
                let published = published.zip(other_published.iter().map(published_document));
                let mut differences = forwarded.chain(published).filter_map(|(a, b)| first_difference(&a, &b));
                differences.next().map_or(Ok(()), |place| Err(Some(place)))
            }
            _ => Err(None),
        }
    }
}

fn document(event: &Event) -> Value {
    serde_json::from_slice(event.bytes()).unwrap_or_default()
}

/// Without the id, if that was given by the host: it holds the name of the plugin.
fn published_document(published: &Published) -> Value {
    let mut document = document(&published.event);
    if published.event.id() == published.message_id.to_string()
        && let Some(members) = document.as_object_mut()
    {
        members.remove("id");
    }
    document
}

/// JSON Pointer to the first value that is not the same.
fn first_difference(a: &Value, b: &Value) -> Option<String> {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => a
            .keys()
            .find_map(|key| {
                let rest = first_difference(a.get(key)?, b.get(key)?);
                rest.map(|rest| format!("/{}{rest}", escaped(key)))
            })
            .or_else(|| {
                let only = a
                    .keys()
                    .find(|key| !b.contains_key(*key))
                    .or_else(|| b.keys().find(|key| !a.contains_key(*key)));
                only.map(|key| format!("/{}", escaped(key)))
            }),
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(index, (a, b))| first_difference(a, b).map(|rest| format!("/{index}{rest}")))
        }
        _ => (a != b).then(String::new),
    }
}

fn escaped(key: &str) -> Cow<'_, str> {
    if key.contains(['~', '/']) {
        Cow::Owned(key.replace('~', "~0").replace('/', "~1"))
    } else {
        Cow::Borrowed(key)
    }
}

impl Shadow {
    pub(super) fn new(plugin: Arc<Plugin>, beside: Option<Arc<Plugin>>) -> Self {
        let (queue, jobs) = mpsc::channel(MAX_WAITING);
        Self {
            plugin,
            beside,
            queue,
            jobs: Mutex::new(Some(jobs)),
            waiting_bytes: AtomicUsize::new(0),
            enforced: Counter::default(),
            agreed: Counter::default(),
            disagreed: Counter::default(),
            failed: Counter::default(),
            skipped: Counter::default(),
            findings: Mutex::default(),
        }
    }

    pub(super) fn count_enforced(&self) {
        self.enforced.increment();
    }

    /// Hands over an event that the chain is done with at this place. `active` is what it did; none if that failed.
    pub(super) fn look_at(
        &self,
        root: &Event,
        event: &Event,
        position: usize,
        context: &Context<'_>,
        active: Option<Did>,
    ) {
        let is_wanted = self.plugin.wants(event) || self.beside.as_ref().is_some_and(|beside| beside.wants(event));
        if !is_wanted {
            return;
        }
        let size = event.bytes().len();
        let waiting = self.waiting_bytes.load(Ordering::Relaxed);
        let Some(active) = active.filter(|_| waiting == 0 || waiting + size <= MAX_WAITING_BYTES) else {
            self.skipped.increment();
            return;
        };
        let job = Job {
            root: root.clone(),
            event: event.clone(),
            position,
            direction: context.direction,
            subscription: context.subscription.cloned(),
            received_on: context.received_on.to_owned(),
            receipt: context.receipt,
            active,
        };
        self.waiting_bytes.fetch_add(size, Ordering::Relaxed);
        if self.queue.try_send(job).is_err() {
            self.waiting_bytes.fetch_sub(size, Ordering::Relaxed);
            self.skipped.increment();
        }
    }

    pub(super) fn report(&self, percent: Option<u8>) -> Trial {
        let findings = self.findings();
        Trial {
            plugin: self.plugin.name().to_string(),
            mode: if percent.is_some() { "canary" } else { "shadow" },
            percent,
            beside: self.beside.as_ref().map(|beside| beside.name().to_string()),
            enforced: self.enforced.value(),
            agreed: self.agreed.value(),
            disagreed: self.disagreed.value(),
            failed: self.failed.value(),
            skipped: self.skipped.value(),
            last_failure: findings.last_failure.clone(),
            samples: findings.samples.iter().cloned().collect(),
        }
    }

    /// Looks at events until the chain ends, and then at those that wait, for a moment.
    async fn work(&self, closed: CancellationToken, generation: u64) {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut jobs) = jobs else { return };
        let last_moment = async {
            closed.cancelled().await;
            let end = Instant::now() + GRACE;
            let mut n_done = None;
            while n_done != Some(self.n_done()) && Instant::now() < end {
                n_done = Some(self.n_done());
                tokio::time::sleep(STEP).await;
            }
        };
        tokio::select! {
            () = self.work_on(&mut jobs, &closed) => {}
            () = last_moment => {}
        }
        jobs.close();
        while jobs.try_recv().is_ok() {
            self.skipped.increment();
        }
        self.say_what_came_of_it(generation);
    }

    fn n_done(&self) -> u64 {
        self.agreed.value() + self.disagreed.value() + self.failed.value()
    }

    fn say_what_came_of_it(&self, generation: u64) {
        if self.n_done() + self.skipped.value() + self.enforced.value() == 0 {
            return;
        }
        tracing::info!(
            plugin = %self.plugin.name(),
            beside = self.beside.as_ref().map(|beside| &**beside.name()),
            enforced = self.enforced.value(),
            agreed = self.agreed.value(),
            disagreed = self.disagreed.value(),
            failed = self.failed.value(),
            skipped = self.skipped.value(),
            generation,
            "candidate was tried out"
        );
    }

    async fn work_on(&self, jobs: &mut mpsc::Receiver<Job>, closed: &CancellationToken) {
        loop {
            let job = tokio::select! {
                biased;
                job = jobs.recv() => job,
                () = closed.cancelled() => None,
            };
            let Some(job) = job else { return };
            self.waiting_bytes.fetch_sub(job.size(), Ordering::Relaxed);
            let start = Instant::now();
            match self.run(&job).await {
                Ok(candidate) => self.compare(&job, &candidate),
                Err(error) => {
                    self.failed.increment();
                    let text = error.to_string();
                    tracing::debug!(plugin = %error.plugin, error = text, "candidate failed");
                    self.findings().last_failure = Some(text);
                    let rest = start.elapsed() * REST_PER_FAILURE;
                    tokio::select! {
                        () = tokio::time::sleep(rest) => {}
                        () = closed.cancelled() => {}
                    }
                }
            }
        }
    }

    async fn run(&self, job: &Job) -> Result<Did, PluginError> {
        let (plugin, event) = (&self.plugin, &job.event);
        if !plugin.wants(event) {
            return Ok(Did::Passed);
        }
        let context = Context {
            direction: job.direction,
            subscription: job.subscription.as_ref(),
            received_on: &job.received_on,
            receipt: job.receipt,
            span: None,
        };
        let mut lowered = Lowered::new(event);
        if plugin.has_filter()
            && let Verdict::Drop(reason) = plugin.evaluate(&mut lowered, &context).await?
        {
            return Ok(Did::Dropped(reason));
        }
        if !plugin.has_transform() {
            return Ok(Did::Passed);
        }
        let origin = Origin {
            root: &job.root,
            subscription: job.subscription.as_ref(),
            position: job.position,
        };
        Ok(match plugin.apply(&mut lowered, &context, &origin).await? {
            Outcome::Keep => Did::Passed,
            Outcome::Replace { forwarded, published } if forwarded.is_empty() && published.is_empty() => {
                Did::Dropped("answered with no event".to_owned())
            }
            Outcome::Replace { forwarded, published } => Did::Made(forwarded, published),
        })
    }

    fn compare(&self, job: &Job, candidate: &Did) {
        // Whoever returns what it got has kept it.
        let unless_kept = |did| if kept(did, &job.event) { &Did::Passed } else { did };
        let Err(difference) = unless_kept(candidate).agrees_with(unless_kept(&job.active)) else {
            self.agreed.increment();
            return;
        };
        let sample = Sample {
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            event_id: one_line(&job.event.id()),
            event_type: one_line(&job.event.ty()),
            active: job.active.summary(),
            candidate: candidate.summary(),
            difference: difference.map(|pointer| one_line(&pointer)),
        };
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    plugin = %self.plugin.name(), event_id = sample.event_id, event_type = sample.event_type,
                    active = sample.active, candidate = sample.candidate, difference = sample.difference,
                    "candidate disagrees"
                )
            };
        }
        if self.disagreed.value() < MAX_LOGGED {
            line!(info);
        } else {
            line!(debug);
        }
        let mut findings = self.findings();
        if findings.samples.len() == MAX_SAMPLES {
            findings.samples.pop_front();
        }
        findings.samples.push_back(sample);
        // With its sample, so that a report has both or neither.
        self.disagreed.increment();
    }

    fn findings(&self) -> MutexGuard<'_, Findings> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kept(did: &Did, event: &Event) -> bool {
    match did {
        Did::Passed => true,
        Did::Dropped(_) => false,
        Did::Made(forwarded, published) => {
            published.is_empty()
                && matches!(forwarded.as_slice(), [only] if first_difference(&document(only), &document(event)).is_none())
        }
    }
}

impl Shadows {
    /// Starts the thread.
    pub(super) fn start(shadows: Vec<Arc<Shadow>>, generation: u64) -> Self {
        let (closed, ended) = (CancellationToken::new(), CancellationToken::new());
        let (in_thread, at_end) = (closed.clone(), ended.clone().drop_guard());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let run = move |runtime: tokio::runtime::Runtime| {
            let _at_end = at_end;
            // The event path goes first. Where that may not be said, both have the same right.
            let _ = rustix::process::nice(10);
            runtime.block_on(async {
                let works = shadows.iter().map(|shadow| shadow.work(in_thread.clone(), generation));
                futures_util::future::join_all(works).await;
            });
        };
        let started = runtime.and_then(|runtime| {
            std::thread::Builder::new()
                .name("candidates".to_owned())
                .spawn(move || run(runtime))
        });
        if let Err(error) = started {
            tracing::warn!(%error, "cannot start a thread: candidates of the chain are not run where they do not count");
        }
        Self { closed, ended }
    }

    /// Lets it end, when it has looked at what waits.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    /// Waits until it has ended.
    pub(super) async fn ended(&self) {
        let _ = tokio::time::timeout(GRACE + STEP, self.ended.cancelled()).await;
    }
}

impl Drop for Shadows {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_difference_is_named_by_its_place() {
        let check = |a: Value, b: Value, expected: Option<&str>| {
            assert_eq!(first_difference(&a, &b).as_deref(), expected, "{a} {b}");
        };
        check(json!({"a": 1, "b": [1, 2]}), json!({"b": [1, 2], "a": 1}), None);
        check(json!({"a": {"b": [1, 2]}}), json!({"a": {"b": [1, 3]}}), Some("/a/b/1"));
        check(json!({"a": [1]}), json!({"a": [1, 2]}), Some("/a"));
        check(json!({"a": 1}), json!({"a": 1, "x/y": 2}), Some("/x~1y"));
        check(json!({"a": 1, "b": 2}), json!({"a": 1}), Some("/b"));
        check(json!(1), json!("1"), Some(""));
    }
}
