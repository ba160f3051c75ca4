//! Whether the distributor is alive, has started, and is ready: the rules, and nothing else.
//!
//! A pod is ready when all its containers are, and only then the service in it gets requests of others. So readiness
//! must not be lost because of something that a restart, or keeping requests from the service, does not mend: an outage
//! of NATS or of the control plane, a service that does not take events, plugins that were refused. Those are told as
//! degraded. What costs readiness is what tells a rollout to wait: that nothing was ever received, or that the end is
//! near.

use super::snapshot::{ConnectionReport, RegistrationPhase, Snapshot};
use crate::plugins::BreakerState;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Whether a restart could help.
    Live,
    /// Whether to count on it.
    Ready,
    /// Whether it has started.
    Startup,
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// All is well.
    Good,
    /// It works, but not as it should. A probe does not fail because of this.
    Degraded,
    /// The probe fails.
    Failing,
}

/// One of the things that were looked at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// What was found.
    pub condition: Condition,
    /// Why, in words. Nothing that comes from outside is repeated: anybody may ask.
    pub reason: String,
}

impl Check {
    fn new(name: &'static str, condition: Condition, reason: impl Into<String>) -> Self {
        Self {
            name,
            condition,
            reason: reason.into(),
        }
    }
}

impl Probe {
    /// Everything that matters for this probe. Without a snapshot the distributor is still starting.
    pub fn checks(self, snapshot: Option<&Snapshot>) -> Vec<Check> {
        match (self, snapshot) {
            (Self::Live, _) => vec![Check::new("process", Condition::Good, "it answers")],
            (_, None) => vec![Check::new("startup", Condition::Failing, "plugins are being loaded")],
            (Self::Startup, Some(snapshot)) => {
                let reason = format!("plugins of generation {} are loaded", snapshot.plugins.generation);
                vec![Check::new("startup", Condition::Good, reason)]
            }
            (Self::Ready, Some(snapshot)) => snapshot.checks(),
        }
    }
}

impl Snapshot {
    /// Everything that matters for being ready.
    pub fn checks(&self) -> Vec<Check> {
        let mut checks = vec![self.shutdown(), self.receiving(), self.connection(), self.recipient()];
        checks.extend(self.registration());
        checks.push(self.plugins());
        checks
    }

    /// Whether it is to be counted on.
    pub fn is_ready(&self) -> bool {
        self.checks().iter().all(|check| check.condition != Condition::Failing)
    }

    fn shutdown(&self) -> Check {
        if self.is_draining {
            let reason = format!("shutting down; {} events are pending", self.deliveries.pending);
            Check::new("shutdown", Condition::Failing, reason)
        } else {
            Check::new("shutdown", Condition::Good, "not asked for")
        }
    }

    fn receiving(&self) -> Check {
        let receiving = &self.receiving;
        let name = "receiving";
        if !self.has_received {
            let reason = if !receiving.is_known {
                "the control plane has not said yet what the integration is subscribed to"
            } else if matches!(&self.connection, ConnectionReport::Nats(nats) if !nats.is_connected) {
                "there has been no connection to NATS yet"
            } else if matches!(self.connection, ConnectionReport::Api) {
                "the control plane has not answered a poll yet"
            } else {
                "nothing is subscribed to yet"
            };
            return Check::new(name, Condition::Failing, reason);
        }
        if receiving.is_paused {
            return Check::new(name, Condition::Degraded, "paused by an operator; POST /resume goes on");
        }
        if !receiving.is_active(&self.connection) {
            return Check::new(name, Condition::Degraded, "interrupted; it goes on by itself");
        }
        if receiving.n_wanted == 0 {
            return Check::new(name, Condition::Good, "there are no subscriptions");
        }
        let streams = receiving.streams.iter().filter(|stream| stream.is_received).count();
        let reason = match &self.connection {
            ConnectionReport::Api => format!("{} subscriptions are polled", receiving.n_wanted),
            ConnectionReport::Nats(_) => format!(
                "{} topics or subscriptions, from {streams} streams and {} subjects of core NATS",
                receiving.n_wanted,
                receiving.core_subjects.len()
            ),
        };
        Check::new(name, Condition::Good, reason)
    }

    fn connection(&self) -> Check {
        match &self.connection {
            ConnectionReport::Nats(nats) if nats.is_connected => {
                let reason = format!("connected; {} connections were lost so far", nats.disconnects);
                Check::new("nats", Condition::Good, reason)
            }
            ConnectionReport::Nats(_) => Check::new("nats", Condition::Degraded, "not connected; trying again"),
            ConnectionReport::Api => Check::new("nats", Condition::Good, "not used: events are polled"),
        }
    }

    fn recipient(&self) -> Check {
        let deliveries = &self.deliveries;
        let (condition, reason) = if !deliveries.is_gate_open {
            let reason = format!("the service takes no events; {} wait", deliveries.pending);
            (Condition::Degraded, reason)
        } else if deliveries.was_ready {
            (Condition::Good, "the service takes events".to_owned())
        } else {
            (Condition::Good, "the service has got no event yet".to_owned())
        };
        Check::new("recipient", condition, reason)
    }

    fn registration(&self) -> Option<Check> {
        let registration = self.registration.as_ref()?;
        let name = "registration";
        Some(match registration.phase {
            RegistrationPhase::Registering => {
                let reason = format!("{} attempts have failed", registration.failed_in_row);
                Check::new(name, Condition::Degraded, reason)
            }
            RegistrationPhase::Registered => Check::new(name, Condition::Good, "registered"),
            RegistrationPhase::Degraded => {
                let reason = format!(
                    "the last {} heartbeats were not answered; the last known subscriptions stay",
                    registration.failed_in_row
                );
                Check::new(name, Condition::Degraded, reason)
            }
        })
    }

    fn plugins(&self) -> Check {
        let plugins = &self.plugins;
        let generation = plugins.generation;
        if let Some(refused) = &plugins.reloads.refused {
            let reason = format!(
                "generation {generation} stays: what PLUGINS_DIR holds was refused at {}, see GET /plugins",
                refused.at
            );
            return Check::new("plugins", Condition::Degraded, reason);
        }
        let resting = plugins
            .plugins
            .iter()
            .filter(|plugin| plugin.health.breaker != BreakerState::Closed);
        let resting: Vec<_> = resting.map(|plugin| &*plugin.name).collect();
        if !resting.is_empty() {
            let reason = format!(
                "generation {generation}; not called because they fail: {}",
                resting.join(", ")
            );
            return Check::new("plugins", Condition::Degraded, reason);
        }
        Check::new("plugins", Condition::Good, format!("generation {generation}"))
    }
}
