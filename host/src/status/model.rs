//! What can be seen of a distributor: the JSON of `GET /status`, and what the status page and `distributor status` are
//! made of. Times are RFC 3339, and nothing in here comes from an event but its attributes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::dead_letter::JobReport;
use crate::recent_events::EventNames;

/// Everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// What an operator has to know, the most serious first. There is always one.
    pub findings: Vec<Finding>,
    /// Of the distributor.
    pub version: String,
    /// What connects it with the control plane: `nats` or `keptn-api`.
    pub mode: String,
    /// The service's name among consumers and dead letters.
    pub integration: String,
    /// The service.
    pub service: String,
    /// Now.
    pub time: String,
    /// When it was started.
    pub started: String,
    /// Since then.
    pub uptime_seconds: u64,
    /// Whether it is shutting down.
    pub is_ending: bool,
    /// Whether an operator wants nothing to be received.
    pub is_paused: bool,
    /// What happened to events.
    pub flow: Flow,
    /// What is in memory.
    pub in_flight: InFlight,
    /// Why deliveries wait for the service, if they do.
    pub held_back: Option<HeldBack>,
    /// What is tried again next, and no more than some of it.
    pub retrying: Vec<Retrying>,
    /// To NATS, the control plane, and the service.
    pub connections: Vec<Connection>,
    /// What waits in streams.
    pub streams: Vec<StreamLag>,
    /// What is delivered.
    pub subscriptions: Vec<Subscription>,
    /// The dead letters in short.
    pub dead_letters: DeadLetters,
    /// As `GET /plugins` answers.
    pub plugins: Value,
}

/// One thing that an operator has to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How serious it is.
    pub level: Level,
    /// What there is, in a sentence.
    pub title: String,
    /// What to do about it.
    pub advice: String,
}

/// How serious something is, from the least to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Good to know.
    Note,
    /// As it should be.
    Ok,
    /// Events flow, and somebody should look.
    Attention,
    /// Events do not flow.
    Stuck,
}

/// A number that grows, and how fast.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figure {
    /// Since the start.
    pub total: u64,
    /// Of the last seconds.
    pub per_second: f64,
}

/// What happened to events.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flow {
    /// Received.
    pub received: Figure,
    /// Matched no subscription.
    pub unmatched: Figure,
    /// Dropped by plugins.
    pub filtered: Figure,
    /// Taken by the service.
    pub delivered: Figure,
    /// Attempts that failed and are followed by another.
    pub retried: Figure,
    /// Given up, and kept as dead letters.
    pub dead_lettered: Figure,
    /// Given up or not taken in, and kept nowhere.
    pub lost: Figure,
    /// Of the service, sent to the control plane.
    pub forwarded: Figure,
    /// Received in each of the last seconds, the oldest first.
    pub received_history: Vec<u64>,
    /// Delivered in each of them.
    pub delivered_history: Vec<u64>,
    /// Everything that is counted, by its name.
    pub counters: BTreeMap<String, u64>,
}

/// What is in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InFlight {
    /// All of it.
    pub total: usize,
    /// Being delivered, or held back because the service is not ready.
    pub delivering: usize,
    /// Waiting for their turn.
    pub queued: usize,
    /// Tried again later.
    pub retrying: usize,
    /// Age of the oldest, since it came.
    pub oldest_seconds: Option<f64>,
}

/// Why deliveries wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBack {
    /// Since when.
    pub since: String,
    /// How the service answers.
    pub error: String,
}

/// An event that is tried again later.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retrying {
    /// Which one.
    #[serde(flatten)]
    pub names: EventNames,
    /// Attempts so far.
    pub attempts: u32,
    /// When the first one was made.
    pub first_attempt: Option<String>,
    /// When the next one is made.
    pub next_attempt: String,
    /// Until then.
    pub next_attempt_in_seconds: f64,
    /// What went wrong the last time.
    pub error: String,
    /// Whether it is given up, and cannot be stored as a dead letter.
    pub is_given_up: bool,
    /// Events of the same key that wait for it.
    pub n_behind: usize,
}

/// A connection to somebody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Connection {
    /// To whom.
    pub name: String,
    /// Where that is.
    pub address: String,
    /// Whether it works.
    pub is_up: bool,
    /// Since when that has been so.
    pub since: Option<String>,
    /// What there is to say about it.
    pub detail: String,
}

/// What waits in a stream for this integration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamLag {
    /// The stream.
    pub stream: String,
    /// The durable consumer.
    pub consumer: String,
    /// Events that nobody has been given yet; none: not known.
    pub waiting: Option<u64>,
    /// Events that were given to replicas and are not settled.
    pub unsettled: Option<u64>,
}

/// One reason to deliver an event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Subscription {
    /// As the control plane gave it; none without registration.
    pub id: Option<String>,
    /// Event type, or a pattern over them.
    pub event: String,
    /// Accepted projects; empty accepts all.
    pub projects: Vec<String>,
    /// Accepted stages.
    pub stages: Vec<String>,
    /// Accepted services.
    pub services: Vec<String>,
    /// Where its events come from.
    pub received_from: String,
}

/// The dead letters in short.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeadLetters {
    /// Where they are.
    pub place: String,
    /// How many there are; none: not known.
    pub total: Option<u64>,
    /// Whether there may be more.
    pub has_more: bool,
    /// How many for which reason.
    pub by_reason: BTreeMap<String, u64>,
    /// Why that is not known.
    pub error: Option<String>,
    /// The redrive or purge that is under way, or the last one.
    pub job: Option<JobReport>,
}
