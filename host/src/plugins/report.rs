//! How the plugins in force are doing, for whoever looks.
//!
//! Made by [`super::demands::PluginControl`] of what the parts know. It changes nothing.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use serde::Serialize;

use super::PluginControl;
use super::breaker::BreakerState;
use super::health::HealthReport;
use super::imports::metrics::Metric;
use super::plugin::Plugin;
use super::settings::Mode;
use super::status::ReloadReport;
use super::trial::Trial;
use crate::metrics::HistogramReport;

/// How the plugins in force are doing.
#[derive(Debug, Clone, Serialize)]
pub struct ChainReport {
    /// Counts the chains of this process.
    pub generation: u64,
    /// In order of execution.
    pub plugins: Vec<PluginReport>,
    /// What came of those that are tried out.
    pub trials: Vec<Trial>,
    /// What came of reloads.
    pub reloads: ReloadReport,
    /// Components that were compiled, and not taken from the cache.
    pub compilations: u64,
    /// Time that took.
    pub compilation_seconds: f64,
}

/// How one plugin is doing.
#[derive(Debug, Clone, Serialize)]
pub struct PluginReport {
    /// Its name in the chain.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// SHA-256 of the component.
    pub digest: String,
    /// `enforce`, `shadow` or `canary`.
    pub mode: &'static str,
    /// Whether it is called, and what failed since it was loaded.
    pub health: HealthReport,
    /// Calls of its hooks, under any version.
    pub calls: HistogramReport,
    /// Events that it dropped, under any version.
    pub dropped: u64,
    /// Calls that failed, under any version, by cause.
    pub failures: BTreeMap<&'static str, u64>,
    /// Instances that wait for a call.
    pub idle_instances: usize,
    /// Their linear memory.
    pub idle_memory_bytes: usize,
    /// What it counts and measures itself.
    pub metrics: BTreeMap<String, Metric>,
}

impl PluginControl {
    /// How the plugins in force are doing.
    pub fn report(&self) -> ChainReport {
        let chain = self.plugins.current_chain();
        let reloads = self.status.lock().unwrap_or_else(PoisonError::into_inner).report();
        let (compilations, time) = self.host.compiler.compilations();
        ChainReport {
            generation: chain.generation,
            plugins: chain.plugins.iter().map(|plugin| plugin.report()).collect(),
            trials: chain.trials(),
            reloads,
            compilations,
            compilation_seconds: time.as_secs_f64(),
        }
    }
}

impl Plugin {
    fn report(&self) -> PluginReport {
        let usage = self.usage();
        let (idle_instances, idle_memory_bytes) = self.idle_memory();
        PluginReport {
            name: self.name().to_string(),
            version: self.version().to_owned(),
            digest: self.digest().to_owned(),
            mode: match self.settings().mode {
                Mode::Enforce => "enforce",
                Mode::Shadow => "shadow",
                Mode::Canary { .. } => "canary",
            },
            health: self.health_report(),
            calls: usage.calls.report(),
            dropped: usage.dropped.value(),
            failures: usage.failures.values(),
            idle_instances,
            idle_memory_bytes,
            metrics: self.metrics(),
        }
    }
}

impl BreakerState {
    /// As a number: 0 while the plugin is called, 1 while one call finds out, 2 while it is not called.
    pub fn number(self) -> u32 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}
