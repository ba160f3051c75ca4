//! Logs, counters and the start banner. It knows no business rules: others say what happened.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{ApiEndpoint, Config, report};

/// Starts logging to standard error. The level was checked with the configuration.
pub fn init(log_level: &str) {
    let mut targets: Targets = log_level.parse().unwrap_or_default();
    if !log_level.contains("async_nats") {
        // It logs every attempt to connect; `nats` says what an operator needs, once.
        targets = targets.with_target("async_nats", tracing::level_filters::LevelFilter::OFF);
    }
    let format = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false);
    // A second call, in tests that run several distributors in one process, keeps the first one's settings.
    let _ = tracing_subscriber::registry().with(targets).with(format).try_init();
}

macro_rules! counters {
    ($($(#[doc = $meaning:literal])* $name:ident)*) => {
        /// What happened since the start.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $meaning])* pub $name: Counter,)*
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
    received
    /// Requests for open events.
    polls
    /// Polls of the control plane that were not finished because of it.
    poll_failures
    /// Events for which there was no room; core NATS sends them to nobody else.
    lost
    /// Messages that are no `CloudEvent`.
    malformed
    /// Events that no topic or subscription matched.
    unmatched
    /// Events that a plugin dropped.
    dropped
    /// Events that a plugin failed on.
    plugin_failures
    /// Deliveries that the service answered with 2xx.
    delivered
    /// Attempts that failed and are followed by another.
    retried
    /// Deliveries that count as delivered although the service did not answer in time.
    unconfirmed
    /// Deliveries that were given up and are in the dead letters.
    dead_lettered
    /// Attempts to store a dead letter that failed and are followed by another.
    dead_letter_failures
    /// Deliveries that were given up and are lost, because no place for dead letters is configured or available.
    undelivered
    /// Events that a stream sent again although they were delivered or being delivered.
    received_again
    /// Events that came over core NATS and from a stream, and were taken from one of them.
    duplicates
    /// Events that went back to the stream, to come again later.
    given_back
    /// Times that receiving from a stream had to be started anew.
    pulls_restarted
    /// Events whose `temporaryData` is not an object, so that no subscription id could be put into it.
    unmarked
    /// Events of the service that were sent to NATS.
    forwarded
    /// Events that plugins sent to the control plane.
    published
    /// Attempts to do so that failed and are followed by another.
    publish_failures
    /// Errors that were copied to the log of the control plane.
    reported
    /// Errors that were not, because the log took none for too long.
    unreported
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

/// What the original prints at its start, line by line: label, dots up to column 40, value.
pub fn banner(config: &Config, start_time: &str) -> String {
    let servers: Vec<_> = config
        .nats
        .servers
        .iter()
        .map(|server| report::without_password(server.clone().into_inner().as_str()))
        .collect();
    let endpoint = match &config.api.endpoint {
        ApiEndpoint::InCluster => String::new(),
        ApiEndpoint::Remote(url) => report::without_password(url.as_str()),
    };
    let workload = &config.workload;
    let lines = [
        (
            "Git commit",
            option_env!("DISTRIBUTOR_GIT_COMMIT").unwrap_or_default().to_owned(),
        ),
        (
            "Build time",
            option_env!("DISTRIBUTOR_BUILD_TIME").unwrap_or_default().to_owned(),
        ),
        ("Start time", start_time.to_owned()),
        (
            "Remote execution plane",
            matches!(config.api.endpoint, ApiEndpoint::Remote(_)).to_string(),
        ),
        ("Oauth enabled", config.api.oauth.is_some().to_string()),
        ("Keptn API endpoint", endpoint),
        ("Api proxy path", config.server.proxy_path.clone()),
        ("Api proxy port", config.server.port.to_string()),
        ("PubSub URL", servers.join(",")),
        ("PubSub group", config.nats.group.clone().unwrap_or_default()),
        ("K8S node name", workload.node.clone()),
        ("K8S namespace", workload.namespace.clone()),
        ("K8S deployment name", workload.deployment.clone()),
        ("K8S pod name", workload.pod.clone()),
    ];
    let mut banner = String::new();
    for (label, value) in lines {
        let value = if value.is_empty() { "unknown" } else { &value };
        writeln!(banner, "{label:.<40}{value}").expect("writing to a String cannot fail");
    }
    banner
}
