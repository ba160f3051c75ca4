//! What is to be seen at one moment: plain values, put together by [`super::Observer`].

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use super::{ConsumerReport, ProcessReport};
use crate::delivery::DeliveryReport;
use crate::keptn_api::OauthReport;
use crate::metrics::{Counters, HistogramReport, Times};
use crate::plugins::ChainReport;
use crate::registration::{RegistrationState, RegistrationTotals};
use crate::source::{MemoryReport, StreamReport};

/// What is to be seen at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// Which distributor this is.
    pub build: Build,
    /// When the process started.
    #[serde(serialize_with = "rfc3339")]
    pub started: SystemTime,
    /// Whether it is about to end.
    pub is_draining: bool,
    /// Whether it has ever received.
    pub has_received: bool,
    /// What is received from where.
    pub receiving: ReceivingReport,
    /// The way to the control plane.
    pub connection: ConnectionReport,
    /// What became of events.
    pub flow: FlowReport,
    /// How long things took.
    pub times: TimesReport,
    /// What is being delivered.
    pub deliveries: DeliveryReport,
    /// The plugins in force.
    pub plugins: ChainReport,
    /// The integration; none: it is not to be registered.
    pub registration: Option<RegistrationReport>,
    /// Tokens of OAuth; none: there are to be none.
    pub oauth: Option<OauthReport>,
    /// Errors for the log of the control plane; none: there is no integration.
    pub error_log: Option<ErrorLogReport>,
    /// What the process takes of the machine.
    pub process: ProcessReport,
}

/// Which distributor this is.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Build {
    /// Its version.
    pub version: &'static str,
    /// The commit it was built of, where that is known.
    pub commit: &'static str,
}

/// What is received from where.
#[derive(Debug, Clone, Serialize)]
pub struct ReceivingReport {
    /// Whether it is known what is wanted.
    pub is_known: bool,
    /// Topics or subscriptions that there are.
    pub n_wanted: usize,
    /// Subscriptions of the control plane.
    pub n_subscriptions: usize,
    /// Whether an operator wants nothing to be received.
    pub is_paused: bool,
    /// What core NATS listens to.
    pub core_subjects: Vec<String>,
    /// The streams that are read.
    pub streams: Vec<StreamReport>,
    /// How often the control plane has answered what is open.
    pub n_polled: u64,
    /// What of that is in memory.
    pub memory: Vec<MemoryReport>,
}

/// The way to the control plane.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum ConnectionReport {
    /// NATS.
    Nats(NatsReport),
    /// The Keptn API.
    Api,
}

/// The connection to NATS.
#[derive(Debug, Clone, Serialize)]
pub struct NatsReport {
    /// Whether it stands.
    pub is_connected: bool,
    /// The servers of the configuration.
    pub servers: String,
    /// Connections that were made.
    pub connects: u64,
    /// Connections that were lost.
    pub disconnects: u64,
    /// Why there is no connection, or what the server refused last.
    pub last_error: Option<String>,
    /// What the server says about the consumers of the streams, as far as that is known.
    pub consumers: Vec<ConsumerReport>,
}

/// What became of events. A delivery is one event for one subscription.
#[derive(Debug, Clone, Serialize)]
pub struct FlowReport {
    /// Events received.
    pub received: u64,
    /// Events of a stream that came again although they were delivered or being delivered.
    pub received_again: u64,
    /// Events that came on two ways, and were taken from one of them.
    pub duplicates: u64,
    /// Events that nobody wants.
    pub unmatched: u64,
    /// Received events that plugins dropped, for one subscription each.
    pub filtered: u64,
    /// Events of the service that plugins dropped.
    pub filtered_outgoing: u64,
    /// Further deliveries of events that several subscriptions want.
    pub fanned_out: u64,
    /// Further events that plugins made of one.
    pub made: u64,
    /// Events that went back to where they came from, to come again.
    pub given_back: u64,
    /// Events for which there was no room, and of which nobody has a copy.
    pub lost: u64,
    /// Deliveries that the service took.
    pub delivered: u64,
    /// Those of them that it did not answer in time, and that count as taken.
    pub unconfirmed: u64,
    /// Attempts that failed and are followed by another.
    pub retried: u64,
    /// Attempts, by result.
    pub attempts: BTreeMap<&'static str, u64>,
    /// Dead letters, by reason.
    pub dead_letters: BTreeMap<&'static str, u64>,
    /// Deliveries given up for which there is no place for dead letters, by reason.
    pub undelivered: BTreeMap<&'static str, u64>,
    /// Attempts to store a dead letter that failed.
    pub dead_letter_failures: u64,
    /// Runs of the chain that failed.
    pub plugin_failures: u64,
    /// Requests with events of the service, by what it was told.
    pub publish_requests: BTreeMap<&'static str, u64>,
    /// Events of the service that were sent.
    pub forwarded: u64,
    /// Events of plugins that were sent.
    pub published: u64,
    /// Attempts to do so that failed.
    pub publish_failures: u64,
    /// Requests to the API proxy, by status.
    pub proxied: BTreeMap<&'static str, u64>,
    /// Requests for open events.
    pub polls: u64,
    /// Polls that were not finished.
    pub poll_failures: u64,
    /// Times that receiving from a stream had to be started anew.
    pub pulls_restarted: u64,
}

/// How long things took.
#[derive(Debug, Clone, Serialize)]
pub struct TimesReport {
    /// One attempt to deliver.
    pub attempt: HistogramReport,
    /// An event's stay here, until it was delivered.
    pub latency: HistogramReport,
    /// A request to the API proxy, until its answer begins.
    pub proxied: HistogramReport,
}

/// The integration at the control plane.
#[derive(Debug, Clone, Serialize)]
pub struct RegistrationReport {
    /// How it is.
    pub phase: RegistrationPhase,
    /// Attempts to register, or heartbeats, that failed since one did not.
    pub failed_in_row: u32,
    /// What was asked since the start.
    pub totals: RegistrationTotals,
}

/// Phases of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegistrationPhase {
    /// It has not been registered yet.
    Registering,
    /// It is registered, and the last heartbeat was answered.
    Registered,
    /// It is registered, and the last heartbeat was not answered. The last known subscriptions stay.
    Degraded,
}

/// Errors for the log of the control plane.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ErrorLogReport {
    /// Those that wait.
    pub queued: usize,
    /// Those that the log took.
    pub reported: u64,
    /// Those that it did not, and that are forgotten.
    pub unreported: u64,
}

impl Default for Build {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            commit: option_env!("DISTRIBUTOR_GIT_COMMIT").unwrap_or_default(),
        }
    }
}

impl ReceivingReport {
    /// Whether what is wanted is received, as far as there is anything.
    pub fn is_active(&self, connection: &ConnectionReport) -> bool {
        if !self.is_known {
            return false;
        }
        match connection {
            ConnectionReport::Api => self.n_wanted == 0 || self.n_polled > 0,
            ConnectionReport::Nats(nats) => {
                let from_streams = self.streams.iter().any(|stream| stream.is_received);
                let is_received = from_streams || !self.core_subjects.is_empty();
                nats.is_connected && (self.n_wanted == 0 || is_received)
            }
        }
    }
}

impl FlowReport {
    /// What was counted so far.
    pub(super) fn of(counters: &Counters) -> Self {
        Self {
            received: counters.received.value(),
            received_again: counters.received_again.value(),
            duplicates: counters.duplicates.value(),
            unmatched: counters.unmatched.value(),
            filtered: counters.dropped.value(),
            filtered_outgoing: counters.dropped_outgoing.value(),
            fanned_out: counters.fanned_out.value(),
            made: counters.made.value(),
            given_back: counters.given_back.value(),
            lost: counters.lost.value(),
            delivered: counters.delivered.value(),
            unconfirmed: counters.unconfirmed.value(),
            retried: counters.retried.value(),
            attempts: counters.attempts.values(),
            dead_letters: counters.dead_lettered.values(),
            undelivered: counters.undelivered.values(),
            dead_letter_failures: counters.dead_letter_failures.value(),
            plugin_failures: counters.plugin_failures.value(),
            publish_requests: counters.publish_requests.values(),
            forwarded: counters.forwarded.value(),
            published: counters.published.value(),
            publish_failures: counters.publish_failures.value(),
            proxied: counters.proxied.values(),
            polls: counters.polls.value(),
            poll_failures: counters.poll_failures.value(),
            pulls_restarted: counters.pulls_restarted.value(),
        }
    }
}

impl RegistrationReport {
    /// How it is now.
    pub(super) fn of(state: &RegistrationState) -> Self {
        Self {
            phase: match (state.is_registered, state.n_failed) {
                (false, _) => RegistrationPhase::Registering,
                (true, 0) => RegistrationPhase::Registered,
                (true, _) => RegistrationPhase::Degraded,
            },
            failed_in_row: state.n_failed,
            totals: state.totals,
        }
    }
}

impl RegistrationPhase {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Registering, Self::Registered, Self::Degraded];

    /// As in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Registering => "registering",
            Self::Registered => "registered",
            Self::Degraded => "degraded",
        }
    }
}

impl TimesReport {
    /// What was measured so far.
    pub(super) fn of(times: &Times) -> Self {
        Self {
            attempt: times.attempt.report(),
            latency: times.latency.report(),
            proxied: times.proxied.report(),
        }
    }
}

fn rfc3339<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_millis(*time))
}
