//! Looks at all parts of the distributor at one moment, and says what it sees.
//!
//! [`crate::app`] makes the [`Observer`] when the parts are there. [`crate::admin`] shows what it sees as probes and
//! metrics, [`crate::control`] to people. It changes nothing, and nothing in the [`Snapshot`] comes from the data of
//! events.

mod checks;
mod consumers;
mod process;
mod snapshot;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::Url;

pub use self::checks::{Check, Condition, Probe};
pub use self::consumers::ConsumerReport;
use self::consumers::Consumers;
pub use self::process::ProcessReport;
pub use self::snapshot::{
    Build, ConnectionReport, ErrorLogReport, FlowReport, NatsReport, ReceivingReport, RegistrationPhase,
    RegistrationReport, Snapshot, TimesReport,
};
use crate::connection::Connection;
use crate::delivery::Deliveries;
use crate::error_log::ErrorLog;
use crate::keptn_api::Access;
use crate::metrics::Counters;
use crate::nats::ConnectionLog;
use crate::plugins::PluginControl;
use crate::registration::RegistrationState;
use crate::source::Overview;
use crate::source::remote::Trouble;
use crate::subscription::Interest;

/// Everything that can be looked at.
#[derive(Debug)]
pub struct Observer {
    /// When the process started.
    pub started: SystemTime,
    /// What was counted.
    pub counters: Arc<Counters>,
    /// What is being delivered.
    pub deliveries: Arc<Deliveries>,
    /// The plugins in force.
    pub plugins: PluginControl,
    /// The way to the control plane.
    pub line: Line,
    /// What the sources do.
    pub overview: Arc<Overview>,
    /// What is wanted.
    pub interest: watch::Receiver<Arc<Interest>>,
    /// The integration, if it is to be registered.
    pub registration: Option<watch::Receiver<RegistrationState>>,
    /// Errors for the control plane, if there is an integration.
    pub error_log: Option<Arc<ErrorLog>>,
    /// Tokens of the Keptn API.
    pub access: Access,
    /// Whether the distributor is about to end.
    pub shutdown: CancellationToken,
    /// Whether it has ever received.
    pub has_received: AtomicBool,
}

/// The way to the control plane, as it is looked at.
#[derive(Debug)]
pub enum Line {
    /// NATS.
    Nats {
        /// The connection.
        client: async_nats::Client,
        /// Counts the connections that were made.
        made: watch::Receiver<u64>,
        /// What is said about it.
        log: Arc<ConnectionLog>,
        /// What the server says about consumers.
        consumers: Arc<Consumers>,
    },
    /// The Keptn API.
    Api {
        /// Where it is.
        endpoint: Url,
        /// Why polls fail, while they do.
        trouble: watch::Receiver<Option<Trouble>>,
    },
}

impl Line {
    /// Looks at this connection.
    pub fn of(connection: &Connection) -> Self {
        match connection {
            Connection::Nats { nats, .. } => Self::Nats {
                client: nats.client.clone(),
                made: nats.made.clone(),
                log: Arc::clone(&nats.log),
                consumers: Arc::default(),
            },
            Connection::Api { endpoint, trouble, .. } => Self::Api {
                endpoint: endpoint.clone(),
                trouble: trouble.subscribe(),
            },
        }
    }
}

impl Observer {
    /// What is to be seen now.
    pub fn snapshot(&self) -> Snapshot {
        let interest = Arc::clone(&self.interest.borrow());
        let receiving = ReceivingReport {
            is_known: interest.is_known(),
            n_wanted: interest.n_wanted(),
            n_subscriptions: interest.n_subscriptions(),
            is_paused: self.deliveries.pause().is_paused(),
            core_subjects: self.overview.core_subjects(),
            streams: self.overview.streams(),
            n_polled: self.overview.n_polled(),
            memory: self.overview.memory(),
        };
        let connection = self.connection(&receiving);
        if receiving.is_active(&connection) {
            self.has_received.store(true, Ordering::Relaxed);
        }
        Snapshot {
            build: Build::default(),
            started: self.started,
            is_draining: self.shutdown.is_cancelled(),
            has_received: self.has_received.load(Ordering::Relaxed),
            receiving,
            connection,
            flow: FlowReport::of(&self.counters),
            times: TimesReport::of(&self.counters.times),
            deliveries: self.deliveries.report(),
            plugins: self.plugins.report(),
            registration: self
                .registration
                .as_ref()
                .map(|state| RegistrationReport::of(&state.borrow())),
            oauth: self.access.oauth_report(),
            error_log: self.error_log.as_ref().map(|error_log| ErrorLogReport {
                queued: error_log.n_queued(),
                reported: self.counters.reported.value(),
                unreported: self.counters.unreported.value(),
            }),
            process: ProcessReport::now(),
        }
    }

    fn connection(&self, receiving: &ReceivingReport) -> ConnectionReport {
        let Line::Nats {
            client,
            made,
            log,
            consumers,
        } = &self.line
        else {
            return ConnectionReport::Api;
        };
        let streams = receiving.streams.iter();
        let durables = streams.map(|stream| (stream.stream.clone(), stream.durable.clone()));
        let report = log.report(client);
        ConnectionReport::Nats(NatsReport {
            is_connected: report.is_connected,
            servers: report.servers,
            connects: *made.borrow(),
            disconnects: self.counters.disconnects.value(),
            last_error: report.last_error,
            consumers: consumers.known(client, durables.collect()),
        })
    }
}

#[cfg(test)]
mod tests;
