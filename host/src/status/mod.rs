//! What can be seen of a running distributor, put together for whoever looks.
//!
//! Built by [`crate::app`] on what [`crate::observe`] sees, with what only people want to know; read by [`crate::control`].
//! Nothing is asked of NATS
//! while somebody waits for an answer: what only NATS knows is looked at in the background, while somebody looks.

mod findings;
mod model;
mod parts;
mod rates;
mod words;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior, interval};

pub use self::model::{
    Connection, DeadLetters, Figure, Finding, Flow, HeldBack, InFlight, Level, Retrying, Status, StreamLag,
    Subscription,
};
use self::parts::{plugins, streams, subscriptions};
use self::rates::Rates;
pub(crate) use self::words::{moment, number, reason_in_words, seconds};
use crate::config::{ApiService, Config, report};
use crate::dead_letter::{Listing, Repairs, rfc3339};
use crate::observe::{Line, Observer as Parts};
use crate::plugins::Plugins;
use crate::recent_events::RecentEvents;

/// Events that are listed of those that are tried again.
const MAX_RETRYING: usize = 50;
/// Somebody who has looked within this is taken to be still there.
const ATTENTION: Duration = Duration::from_mins(1);
/// The first list of dead letters is waited for so long.
const LIST_PATIENCE: Duration = Duration::from_millis(500);

/// Where events come from that no stream stores.
const CORE_NATS: &str = "core NATS";
/// Where they do not come from anywhere.
const NOT_RECEIVED: &str = "not received";

/// The one who looks.
#[derive(Debug)]
pub struct Observer {
    parts: Arc<Parts>,
    recent: Arc<RecentEvents>,
    repairs: Arc<Repairs>,
    integration: String,
    service: String,
    control_plane: String,
    start: Instant,
    /// Milliseconds from the start to the last look, and one; 0: nobody has looked.
    last_look: AtomicU64,
    rates: Rates<8>,
}

impl Observer {
    /// Sees numbers grow only while [`Self::run`] runs. `chain` is what dead letters pass again.
    pub fn new(parts: Arc<Parts>, recent: Arc<RecentEvents>, chain: Arc<Plugins>, config: &Config) -> Self {
        let client = match &parts.line {
            Line::Nats { client, .. } => Some(client.clone()),
            Line::Api { .. } => None,
        };
        let control_plane = config.api.endpoint.base(ApiService::ControlPlane);
        Self {
            repairs: Arc::new(Repairs::new(client, config, chain, parts.shutdown.clone())),
            recent,
            integration: config.jetstream.durable.clone(),
            service: report::without_password(&config.delivery.recipient.to_string()),
            control_plane: report::without_password(&control_plane),
            start: Instant::now(),
            last_look: AtomicU64::new(0),
            rates: Rates::default(),
            parts,
        }
    }

    /// Counts the seconds, until it is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut seconds = interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            seconds.tick().await;
            self.rates.sample(self.counted());
            self.recent.renew(self.is_looked_at());
        }
    }

    /// The dead letters.
    pub fn repairs(&self) -> &Arc<Repairs> {
        &self.repairs
    }

    /// What was seen of single events. Whoever asks is there for a while, so that more is written down.
    pub fn recent(&self) -> &RecentEvents {
        let now = self.start.elapsed().as_millis();
        let was_looked_at = self.is_looked_at();
        self.last_look.store(
            u64::try_from(now).unwrap_or(u64::MAX).saturating_add(1),
            Ordering::Relaxed,
        );
        if !was_looked_at {
            self.recent.renew(true);
        }
        &self.recent
    }

    /// The dead letters as they were a moment ago.
    pub async fn dead_letters(&self) -> Listing {
        self.repairs.list(LIST_PATIENCE).await
    }

    /// Everything as it is now.
    pub async fn status(&self) -> Status {
        let listing = self.dead_letters().await;
        let seen = self.parts.snapshot();
        let now = SystemTime::now();
        let mut status = Status {
            findings: Vec::new(),
            version: seen.build.version.to_owned(),
            mode: match self.parts.line {
                Line::Nats { .. } => "nats".to_owned(),
                Line::Api { .. } => "keptn-api".to_owned(),
            },
            integration: self.integration.clone(),
            service: self.service.clone(),
            time: rfc3339(now),
            started: rfc3339(seen.started),
            uptime_seconds: now.duration_since(seen.started).unwrap_or_default().as_secs(),
            is_ending: seen.is_draining,
            is_paused: seen.receiving.is_paused,
            flow: self.flow(),
            in_flight: InFlight {
                total: seen.deliveries.pending,
                delivering: seen.deliveries.in_flight,
                queued: seen.deliveries.queued,
                retrying: seen.deliveries.waiting,
                oldest_seconds: seen.deliveries.oldest_seconds,
            },
            held_back: self.parts.deliveries.held_back().map(|held_back| HeldBack {
                since: rfc3339(held_back.since),
                error: held_back.error,
            }),
            retrying: self.retrying(now),
            connections: self.connections(),
            streams: streams(&seen),
            subscriptions: subscriptions(&self.parts, &seen.receiving),
            dead_letters: DeadLetters {
                place: listing.place,
                total: listing.as_of.map(|_| listing.total),
                has_more: listing.has_more,
                by_reason: listing.by_reason,
                error: listing.error,
                job: self.repairs.job(),
            },
            plugins: plugins(&self.parts.plugins, &seen.plugins),
        };
        status.findings = findings::findings(&status);
        status
    }

    /// What is delivered, and where it comes from.
    pub fn subscriptions(&self) -> Vec<Subscription> {
        subscriptions(&self.parts, &self.parts.snapshot().receiving)
    }

    fn is_looked_at(&self) -> bool {
        let last_look = self.last_look.load(Ordering::Relaxed);
        let age = self.start.elapsed().saturating_sub(Duration::from_millis(last_look));
        last_look > 0 && age < ATTENTION
    }

    fn counted(&self) -> [u64; 8] {
        let counters = &self.parts.counters;
        [
            counters.received.value(),
            counters.unmatched.value(),
            counters.dropped.value(),
            counters.delivered.value(),
            counters.retried.value(),
            counters.dead_lettered.value(),
            counters.lost.value() + counters.undelivered.value(),
            counters.forwarded.value(),
        ]
    }

    fn flow(&self) -> Flow {
        let figures = self.rates.figures(self.counted());
        let [
            received,
            unmatched,
            filtered,
            delivered,
            retried,
            dead_lettered,
            lost,
            forwarded,
        ] = figures;
        let counters = self.parts.counters.values().into_iter();
        Flow {
            received,
            unmatched,
            filtered,
            delivered,
            retried,
            dead_lettered,
            lost,
            forwarded,
            received_history: self.rates.history(0),
            delivered_history: self.rates.history(3),
            counters: counters.map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }

    fn retrying(&self, now: SystemTime) -> Vec<Retrying> {
        let waiting = self.parts.deliveries.waiting(MAX_RETRYING).into_iter();
        waiting
            .map(|waiting| Retrying {
                names: waiting.names,
                attempts: waiting.attempts,
                first_attempt: waiting.first_attempt.map(rfc3339),
                next_attempt: rfc3339(now + waiting.next_attempt_in),
                next_attempt_in_seconds: waiting.next_attempt_in.as_secs_f64(),
                error: waiting.error,
                is_given_up: waiting.is_given_up,
                n_behind: waiting.n_behind,
            })
            .collect()
    }

    fn connections(&self) -> Vec<Connection> {
        let mut connections = Vec::new();
        match &self.parts.line {
            Line::Nats { client, log, .. } => {
                let report = log.report(client);
                connections.push(Connection {
                    name: "NATS".to_owned(),
                    address: report.servers,
                    is_up: report.is_connected,
                    since: Some(rfc3339(report.since)),
                    detail: report.last_error.unwrap_or_default(),
                });
            }
            Line::Api { endpoint, trouble } => {
                let trouble = trouble.borrow().clone();
                connections.push(Connection {
                    name: "Keptn API".to_owned(),
                    address: report::without_password(endpoint.as_str()),
                    is_up: trouble.is_none(),
                    since: trouble.as_ref().map(|trouble| rfc3339(trouble.since)),
                    detail: trouble.map(|trouble| trouble.error).unwrap_or_default(),
                });
            }
        }
        if let Some(registration) = &self.parts.registration {
            let state = registration.borrow().clone();
            let detail = match (&state.error, state.last_heartbeat) {
                (Some(error), _) => format!("{} failed in a row: {error}", state.n_failed),
                (None, Some(at)) => format!("last heartbeat answered at {}", moment(&rfc3339(at), "")),
                (None, None) => "not registered yet".to_owned(),
            };
            connections.push(Connection {
                name: "Control plane".to_owned(),
                address: self.control_plane.clone(),
                is_up: state.error.is_none(),
                since: state.failing_since.map(rfc3339),
                detail,
            });
        }
        let held_back = self.parts.deliveries.held_back();
        connections.push(Connection {
            name: "Service".to_owned(),
            address: self.service.clone(),
            is_up: held_back.is_none(),
            since: held_back.as_ref().map(|held_back| rfc3339(held_back.since)),
            detail: held_back.map(|held_back| held_back.error).unwrap_or_default(),
        });
        connections
    }
}
