//! What is counted while events flow.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

use super::label::label;
use super::{Family, Histogram};
use crate::dead_letter::Reason;

/// From half a millisecond, which a service on this machine takes at least, to the longest time it usually gets.
const ATTEMPT_BOUNDS: &[u64] = &[
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
];
/// Up to the age at which events are given up.
const LATENCY_BOUNDS: &[u64] = &[
    1_000_000,
    5_000_000,
    10_000_000,
    50_000_000,
    100_000_000,
    500_000_000,
    1_000_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
    300_000_000_000,
    900_000_000_000,
    3_600_000_000_000,
];

label! {
    /// How an attempt to deliver ended.
    pub AttemptResult {
        /// A status from 200 to 299.
        Success "2xx"
        /// A status from 300 to 399, or below 200.
        Redirect "3xx"
        /// A status from 400 to 499.
        ClientError "4xx"
        /// A status from 500.
        ServerError "5xx"
        /// No answer in time.
        Timeout "timeout"
        /// The connection broke.
        Broken "broken"
        /// There was no connection.
        Refused "refused"
    }
}

label! {
    /// The first digit of a status.
    pub StatusClass {
        /// Below 200.
        Informational "1xx"
        /// 200 to 299.
        Success "2xx"
        /// 300 to 399.
        Redirect "3xx"
        /// 400 to 499.
        ClientError "4xx"
        /// From 500.
        ServerError "5xx"
    }
}

label! {
    /// What the service was told about its events.
    pub PublishResult {
        /// They are sent.
        Accepted "accepted"
        /// They cannot be sent as they are.
        Refused "refused"
        /// They cannot be sent now.
        Unavailable "unavailable"
    }
}

impl AttemptResult {
    /// Of an answer.
    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() / 100 {
            2 => Self::Success,
            4 => Self::ClientError,
            0..=3 => Self::Redirect,
            _ => Self::ServerError,
        }
    }
}

impl StatusClass {
    /// Of an answer.
    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() / 100 {
            0 | 1 => Self::Informational,
            2 => Self::Success,
            3 => Self::Redirect,
            4 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

impl PublishResult {
    /// Of an answer.
    pub fn of(status: StatusCode) -> Self {
        if status.is_success() {
            Self::Accepted
        } else if status.is_client_error() {
            Self::Refused
        } else {
            Self::Unavailable
        }
    }
}

macro_rules! counters {
    ($($(#[doc = $meaning:literal])* $name:ident: $type:ty)*) => {
        /// What happened since the start.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $meaning])* pub $name: $type,)*
            /// How long things took.
            pub times: Times,
        }

        impl Counters {
            /// Name and value of everything that was counted.
            pub fn values(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.value())),*]
            }
        }
    };
}

counters! {
    /// Events received from NATS, or found open at the control plane.
    received: Counter
    /// Requests for open events.
    polls: Counter
    /// Polls of the control plane that were not finished because of it.
    poll_failures: Counter
    /// Events for which there was no room; core NATS sends them to nobody else.
    lost: Counter
    /// Messages that are no `CloudEvent`.
    malformed: Counter
    /// Events that no topic or subscription matched.
    unmatched: Counter
    /// Received events that a plugin dropped.
    dropped: Counter
    /// Events of the service that a plugin dropped.
    dropped_outgoing: Counter
    /// Further deliveries of received events that several subscriptions want.
    fanned_out: Counter
    /// Further events that plugins made of one received event.
    made: Counter
    /// Events that a plugin failed on.
    plugin_failures: Counter
    /// Deliveries that the service answered with 2xx.
    delivered: Counter
    /// Attempts that failed and are followed by another.
    retried: Counter
    /// Deliveries that count as delivered although the service did not answer in time.
    unconfirmed: Counter
    /// Deliveries that were given up and are in the dead letters.
    dead_lettered: Family<Reason>
    /// Attempts to store a dead letter that failed and are followed by another.
    dead_letter_failures: Counter
    /// Deliveries that were given up and are lost, because no place for dead letters is configured or available.
    undelivered: Family<Reason>
    /// Events that a stream sent again although they were delivered or being delivered.
    received_again: Counter
    /// Events that came over core NATS and from a stream, and were taken from one of them.
    duplicates: Counter
    /// Events that went back to the stream, to come again later.
    given_back: Counter
    /// Times that receiving from a stream had to be started anew.
    pulls_restarted: Counter
    /// Events whose `temporaryData` is not an object, so that no subscription id could be put into it.
    unmarked: Counter
    /// Events of the service that were sent to NATS.
    forwarded: Counter
    /// Events that plugins sent to the control plane.
    published: Counter
    /// Attempts to do so that failed and are followed by another.
    publish_failures: Counter
    /// Errors that were copied to the log of the control plane.
    reported: Counter
    /// Errors that were not, because the log took none for too long.
    unreported: Counter
    /// Connections to NATS that were lost.
    disconnects: Counter
    /// Requests with events of the service.
    publish_requests: Family<PublishResult>
    /// Attempts to deliver.
    attempts: Family<AttemptResult>
    /// Requests of the service to the API proxy.
    proxied: Family<StatusClass>
}

/// How long things took.
#[derive(Debug)]
pub struct Times {
    /// One attempt to deliver.
    pub attempt: Histogram,
    /// An event's stay here, until it was delivered.
    pub latency: Histogram,
    /// A request of the service to the API proxy, until its answer begins.
    pub proxied: Histogram,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            attempt: Histogram::new(ATTEMPT_BOUNDS),
            latency: Histogram::new(LATENCY_BOUNDS),
            proxied: Histogram::new(ATTEMPT_BOUNDS),
        }
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `number`.
    pub fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    /// The number.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
