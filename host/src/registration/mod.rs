//! Registers the integration at the control plane, keeps it alive with heartbeats, and publishes what it listens for.
//!
//! Run by `app` as one task. It writes the interest that the sources and [`crate::dispatch`] follow, and the id under
//! which [`crate::error_log`] reports. It must not know how events arrive or where they go.

mod messages;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::messages::{Integration, Listed, Record};
use crate::config::{ApiService, Config, RegistrationConfig, Workload};
use crate::keptn_api::{Answer, Call, CallError, KeptnApi, ListError, ListReader};
use crate::subscription::Interest;

/// Where integrations are, at the service that has them.
const PATH: &str = "v1/uniform/registration";
/// Time for a call where the configuration sets no limit: a control plane that hangs must not end the heartbeats.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Intervals are as long as this at least: a configured 0 would be a busy loop.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// Longest pause after the registration has been given up, unless heartbeats have a longer one.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// A reason that stays the same is said again after this.
const REMINDER: Duration = Duration::from_mins(5);
/// What needs no escape in a segment of a path.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The integration and its place at the control plane.
#[derive(Debug)]
pub struct Registration {
    api: KeptnApi,
    call_timeout: Duration,
    workload: Workload,
    config: RegistrationConfig,
    /// What the configuration asks for.
    initial: Vec<Record>,
    interest: watch::Sender<Arc<Interest>>,
    /// The id that the control plane gave.
    id: watch::Sender<Option<Arc<str>>>,
    /// What no event can match of what the control plane said last.
    left_out: Vec<Record>,
    /// Events of subscriptions that can never come, and of which that was said.
    reported: BTreeSet<String>,
    trouble: Option<Trouble>,
    state: watch::Sender<RegistrationState>,
}

/// How the registration is, for whoever looks at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistrationState {
    /// When the control plane last answered a heartbeat with subscriptions.
    pub last_heartbeat: Option<SystemTime>,
    /// Attempts to register, or heartbeats, that failed since.
    pub n_failed: u32,
    /// Since when they fail.
    pub failing_since: Option<SystemTime>,
    /// Why the last one failed.
    pub error: Option<String>,
    /// Whether the control plane has taken it at least once.
    pub is_registered: bool,
    /// Since the start.
    pub totals: RegistrationTotals,
}

/// What the control plane was asked, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct RegistrationTotals {
    /// Registrations that it took.
    pub registrations: u64,
    /// Those that it did not.
    pub failed_registrations: u64,
    /// Heartbeats that it answered, with the subscriptions.
    pub heartbeats: u64,
    /// Those that it did not.
    pub failed_heartbeats: u64,
}

/// What goes wrong, and was said.
#[derive(Debug)]
struct Trouble {
    error: String,
    said: Instant,
}

/// Why there is no registration, for good.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// All attempts were used up.
    #[error(
        "the integration could not be registered in {attempts} attempts (MAX_REGISTRATION_RETRIES); the last one: \
         {error}; DISABLE_REGISTRATION=true runs without"
    )]
    Exhausted {
        /// How many there were.
        attempts: i64,
        /// Why the last one failed.
        error: CallError,
    },
    /// None was allowed.
    #[error("MAX_REGISTRATION_RETRIES=0 allows no attempt to register; DISABLE_REGISTRATION=true runs without")]
    NoAttempt,
}

impl RegistrationState {
    /// A heartbeat was answered.
    fn answered(&mut self) {
        self.last_heartbeat = Some(SystemTime::now());
        self.n_failed = 0;
        self.failing_since = None;
        self.error = None;
        self.totals.heartbeats += 1;
    }
}

impl Registration {
    /// Nothing is sent before [`Registration::run`].
    pub fn new(
        api: KeptnApi,
        config: &Config,
        registration: RegistrationConfig,
        interest: watch::Sender<Arc<Interest>>,
    ) -> Self {
        let topics = config.nats.topics.iter();
        Self {
            api,
            call_timeout: config.api.timeout.unwrap_or(CALL_TIMEOUT),
            workload: config.workload.clone(),
            config: registration,
            initial: topics.map(|topic| Record::wanted(topic, &config.filter)).collect(),
            interest,
            id: watch::Sender::default(),
            left_out: Vec::new(),
            reported: BTreeSet::new(),
            trouble: None,
            state: watch::Sender::default(),
        }
    }

    /// How it is.
    pub fn state(&self) -> watch::Receiver<RegistrationState> {
        self.state.subscribe()
    }

    /// The id of the integration, as soon as it has one.
    pub fn id(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.id.subscribe()
    }

    /// Registers, and keeps the registration alive until `shutdown`.
    ///
    /// # Errors
    /// When the first registration fails for good. Nothing that happens later ends it.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), RegistrationError> {
        let registered = async {
            self.register_first().await?;
            self.keep_alive().await;
            Ok(())
        };
        shutdown.run_until_cancelled(registered).await.unwrap_or(Ok(()))
    }

    async fn register_first(&self) -> Result<(), RegistrationError> {
        let max = self.config.max_attempts;
        let mut attempt = 0;
        if self.workload.node.is_empty() {
            tracing::warn!(
                hostname = messages::UNKNOWN_NODE,
                "K8S_NODE_NAME is empty: this one is registered"
            );
        }
        while max < 0 || attempt < max {
            attempt += 1;
            let Err(error) = self.register(&self.initial).await else {
                return Ok(());
            };
            self.failed(&error);
            let of = if max < 0 { "∞".to_owned() } else { max.to_string() };
            let attempt_of = format!("{attempt}/{of}");
            tracing::warn!(%error, attempt = attempt_of, "the integration cannot be registered");
            if attempt == max {
                return Err(RegistrationError::Exhausted { attempts: max, error });
            }
            tokio::time::sleep(jittered(self.config.interval, fastrand::f64())).await;
        }
        Err(RegistrationError::NoAttempt)
    }

    /// Heartbeats, the first one at once: nothing is received before it is known what is wanted.
    async fn keep_alive(&mut self) {
        let max_failures = u32::try_from(self.config.max_failed_heartbeats.max(1)).unwrap_or(u32::MAX);
        let mut n_failed: u32 = 0;
        loop {
            let beaten = if n_failed >= max_failures {
                self.register_again().await
            } else {
                self.beat().await
            };
            match beaten {
                Ok(listed) => {
                    n_failed = 0;
                    self.state.send_modify(RegistrationState::answered);
                    self.learn(listed);
                    if self.trouble.take().is_some() {
                        tracing::info!("the control plane answers heartbeats again");
                    }
                }
                Err(error) => {
                    n_failed = n_failed.saturating_add(1);
                    self.failed(&error);
                    self.state.send_modify(|state| state.totals.failed_heartbeats += 1);
                    self.report(&error, n_failed);
                    if n_failed == max_failures {
                        tracing::error!(
                            n_failed,
                            "the registration is given up after so many failed heartbeats (MAX_HEARTBEAT_RETRIES); \
                             events are delivered to the last known subscriptions while it is tried anew"
                        );
                    }
                    if !self.interest.borrow().is_known() {
                        let mut listed = Listed::default();
                        self.initial.iter().cloned().for_each(|record| listed.add(record, None));
                        self.publish(listed);
                    }
                }
            }
            let pause = pause_after(self.config.heartbeat_interval, n_failed.checked_sub(max_failures));
            tokio::time::sleep(jittered(pause, fastrand::f64())).await;
        }
    }

    /// One heartbeat. An integration that the control plane does not know any more is registered again.
    async fn beat(&self) -> Result<Listed, CallError> {
        match self.ping().await {
            Err(CallError::Status { status, message, .. }) if status == StatusCode::NOT_FOUND => {
                tracing::warn!(
                    message,
                    "the control plane does not know the integration any more; it is registered again"
                );
                self.register_again().await
            }
            beaten => beaten,
        }
    }

    /// Registers with the last known subscriptions, so that those made in the Bridge are not lost, and asks for their
    /// new ids.
    async fn register_again(&self) -> Result<Listed, CallError> {
        let wanted: Vec<_> = match self.interest.borrow().subscribed() {
            Some(subscriptions) => {
                let again = subscriptions.iter().map(|subscription| Record::again(subscription));
                again
                    .chain(self.left_out.iter().cloned().map(Record::without_id))
                    .collect()
            }
            None => self.initial.clone(),
        };
        self.register(&wanted).await?;
        self.ping().await
    }

    async fn register(&self, subscriptions: &[Record]) -> Result<(), CallError> {
        let registered = self.ask_to_register(subscriptions).await;
        self.state.send_modify(|state| match &registered {
            Ok(_) => {
                state.is_registered = true;
                state.totals.registrations += 1;
            }
            Err(_) => state.totals.failed_registrations += 1,
        });
        registered.map(drop)
    }

    async fn ask_to_register(&self, subscriptions: &[Record]) -> Result<Arc<str>, CallError> {
        let body = Integration::new(&self.workload, &self.config, subscriptions).to_json();
        let answer = self.call(Method::POST, PATH, body).await?;
        let id = messages::registered_id(&answer).map_err(CallError::Answer)?;
        tracing::info!(integration_id = id, "the integration is registered");
        let id: Arc<str> = id.into();
        self.id.send_replace(Some(Arc::clone(&id)));
        Ok(id)
    }

    async fn ping(&self) -> Result<Listed, CallError> {
        let id = self.id.borrow().clone().unwrap_or_default();
        let id = utf8_percent_encode(&id, IN_PATH);
        let call = self.request(Method::PUT, &format!("{PATH}/{id}/ping"), Vec::new());
        self.in_time(async { self.subscriptions(self.api.open(call).await?).await })
            .await
    }

    /// The subscriptions in the answer to a heartbeat.
    async fn subscriptions(&self, mut answer: Answer) -> Result<Listed, CallError> {
        let interest = Arc::clone(&self.interest.borrow());
        let unreadable = |error: ListError| CallError::Answer(error.to_string());
        let mut list = ListReader::of("subscriptions");
        let mut listed = Listed::default();
        loop {
            let piece = answer.chunk().await?;
            let is_end = piece.is_none();
            match piece {
                Some(piece) => list.add(piece),
                None => list.end(),
            }
            while let Some(item) = list.item().map_err(unreadable)? {
                let record =
                    serde_json::from_slice(item.bytes).map_err(|error| CallError::Answer(error.to_string()))?;
                listed.add(record, interest.subscribed());
            }
            if is_end {
                list.finish().map_err(unreadable)?;
                return Ok(listed);
            }
        }
    }

    async fn call(&self, method: Method, path: &str, body: Vec<u8>) -> Result<bytes::Bytes, CallError> {
        self.in_time(self.api.call(self.request(method, path, body))).await
    }

    fn request(&self, method: Method, path: &str, body: Vec<u8>) -> Call {
        Call {
            method,
            url: self.api.url(ApiService::ControlPlane, path),
            // An empty one as well, so that its length is sent: gateways ask for it.
            body: Some(body.into()),
        }
    }

    async fn in_time<T>(&self, answered: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
        let answered = tokio::time::timeout(self.call_timeout, answered).await;
        answered.unwrap_or_else(|_| Err(CallError::Unreachable("no answer in time".to_owned())))
    }

    /// Takes over what the control plane says.
    fn learn(&mut self, listed: Listed) {
        let left_out = listed.left_out.iter().map(|(record, _)| record);
        let is_same =
            left_out.eq(&self.left_out) && self.interest.borrow().subscribed() == Some(listed.subscriptions.as_slice());
        if !is_same {
            self.publish(listed);
        }
    }

    /// All of them at once. A subscription that no event can match is left out.
    fn publish(&mut self, listed: Listed) {
        let Listed {
            subscriptions,
            left_out,
        } = listed;
        let reported = std::mem::take(&mut self.reported);
        for (record, error) in &left_out {
            let event = &record.event;
            if self.reported.insert(event.clone()) && !reported.contains(event) {
                tracing::warn!(event, %error, "a subscription is left out: no event can match it");
            }
        }
        self.left_out = left_out.into_iter().map(|(record, _)| record).collect();
        tracing::info!(n_subscriptions = subscriptions.len(), "subscriptions have changed");
        self.interest
            .send_replace(Arc::new(Interest::subscriptions(subscriptions)));
    }

    /// Keeps what went wrong, for whoever looks.
    fn failed(&self, error: &CallError) {
        self.state.send_modify(|state| {
            state.n_failed = state.n_failed.saturating_add(1);
            state.failing_since.get_or_insert_with(SystemTime::now);
            state.error = Some(error.to_string());
        });
    }

    /// Says what goes wrong when that is something else than before.
    fn report(&mut self, error: &CallError, n_failed: u32) {
        let error = error.to_string();
        let was_said = |trouble: &Trouble| trouble.error == error && trouble.said.elapsed() < REMINDER;
        if self.trouble.as_ref().is_some_and(was_said) {
            return;
        }
        tracing::warn!(error, n_failed, "a heartbeat failed; the last known subscriptions stay");
        self.trouble = Some(Trouble {
            error,
            said: Instant::now(),
        });
    }
}

/// The pause after a heartbeat. After the registration was given up, and so many more attempts have failed, it is longer.
fn pause_after(interval: Duration, n_failed_since: Option<u32>) -> Duration {
    let interval = interval.max(SHORTEST_INTERVAL);
    match n_failed_since {
        None => interval,
        Some(n) => interval.saturating_mul(1 << n.min(16)).min(LONGEST_PAUSE.max(interval)),
    }
}

/// Not exactly: many distributors that start together must not call together for ever. `random` is from 0 to 1.
fn jittered(interval: Duration, random: f64) -> Duration {
    interval.max(SHORTEST_INTERVAL).mul_f64(0.9 + 0.2 * random)
}

#[cfg(test)]
mod tests;
