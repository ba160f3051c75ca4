//! What is in force and how it came about, for `GET /plugins`.
//!
//! Written by [`super::reload`], read by the control listener.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::{Value, json};

use super::chain::Chain;
use super::imports::metrics::Metric;
use super::plugin::Plugin;
use super::settings::Mode;
use crate::metrics::{Family, Label, label};

/// Reloads that are remembered.
const MAX_HISTORY: usize = 10;

/// Why the plugins were looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    Start,
    /// The directory changed.
    Directory,
    /// `POST /plugins/reload`
    Request,
    /// SIGHUP
    Signal,
    /// `POST /plugins/rollback`
    Rollback,
}

impl Trigger {
    /// As in the JSON.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Directory => "directory",
            Self::Request => "request",
            Self::Signal => "signal",
            Self::Rollback => "rollback",
        }
    }
}

/// Where the plugins in force come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub(super) enum Origin {
    /// There is no directory.
    BuiltIn,
    Directory,
    /// The directory was broken at the start.
    Snapshot {
        taken: String,
    },
    /// They are those of an earlier generation, and the directory holds others.
    Rollback {
        to: u64,
    },
}

label! {
    /// What came of a reload.
    pub(super) Outcome {
        /// Other plugins are in force.
        Replaced "replaced"
        /// The same are.
        Unchanged "unchanged"
        /// What there is does not work.
        Refused "refused"
    }
}

impl Serialize for Outcome {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// What came of reloads.
#[derive(Debug, Clone, Serialize)]
pub struct ReloadReport {
    /// How many there were, the start included, by result.
    pub results: BTreeMap<&'static str, u64>,
    /// When the last one was, in seconds since 1970.
    pub last: f64,
    /// Why what the directory holds is not in force; none: it is.
    pub refused: Option<Refusal>,
}

/// A reload that was refused.
#[derive(Debug, Clone, Serialize)]
pub struct Refusal {
    /// When, in RFC 3339.
    pub at: String,
    /// What is wrong, one line each.
    pub problems: Vec<String>,
}

/// One reload.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Reload {
    at: String,
    trigger: &'static str,
    result: Outcome,
    /// The one in force afterwards.
    generation: u64,
    elapsed_ms: u128,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
}

/// What is known beside the chain itself.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) origin: Origin,
    since: SystemTime,
    pub(super) previous: Option<Arc<Chain>>,
    /// The candidate that was refused, until the directory holds something that is not.
    refused: Option<Reload>,
    history: VecDeque<Reload>,
    results: Family<Outcome>,
    last: SystemTime,
    directory: Option<String>,
    /// What keeps changes from arriving.
    pub(super) obstacles: Vec<String>,
    /// Whether the kernel tells of changes, so that they are not only found by looking.
    pub(super) is_notified: bool,
}

impl Status {
    pub(super) fn new(origin: Origin, directory: Option<&Path>) -> Self {
        Self {
            origin,
            since: SystemTime::now(),
            previous: None,
            refused: None,
            history: VecDeque::new(),
            results: Family::default(),
            last: SystemTime::now(),
            directory: directory.map(|path| path.display().to_string()),
            obstacles: Vec::new(),
            is_notified: false,
        }
    }

    /// Writes a reload down.
    pub(super) fn record(
        &mut self,
        trigger: Trigger,
        result: Outcome,
        generation: u64,
        elapsed: Duration,
        problems: &[String],
    ) {
        let at = SystemTime::now();
        self.last = at;
        self.results.increment(result);
        let reload = Reload {
            at: time(at),
            trigger: trigger.name(),
            result,
            generation,
            elapsed_ms: elapsed.as_millis(),
            problems: problems.to_vec(),
        };
        if result == Outcome::Replaced {
            self.since = at;
        }
        // Going back says nothing of what the directory holds.
        if trigger != Trigger::Rollback {
            self.refused = (result == Outcome::Refused).then(|| reload.clone());
        }
        self.history.push_front(reload);
        self.history.truncate(MAX_HISTORY);
    }

    /// What came of reloads.
    pub(super) fn report(&self) -> ReloadReport {
        let last = self.last.duration_since(SystemTime::UNIX_EPOCH);
        ReloadReport {
            results: self.results.values(),
            last: last.unwrap_or_default().as_secs_f64(),
            refused: self.refused.as_ref().map(|reload| Refusal {
                at: reload.at.clone(),
                problems: reload.problems.clone(),
            }),
        }
    }

    /// What is wrong with what the directory holds.
    pub(super) fn problems(&self) -> &[String] {
        self.refused.as_ref().map_or(&[], |refused| &refused.problems)
    }

    pub(super) fn to_json(&self, current: &Chain) -> Value {
        let previous = self.previous.as_ref().map(|chain| {
            let plugins: Vec<_> = chain.plugins.iter().map(|plugin| in_short(plugin)).collect();
            json!({"generation": chain.generation, "plugins": plugins})
        });
        json!({
            "generation": current.generation,
            "since": time(self.since),
            "origin": self.origin,
            "degraded": self.refused.is_some(),
            "plugins": current.plugins.iter().map(|plugin| in_full(plugin)).collect::<Vec<_>>(),
            "trials": current.trials(),
            "refused": self.refused,
            "previous": previous,
            "directory": self.directory,
            "notifications": self.directory.as_ref().map(|_| self.is_notified),
            "obstacles": self.obstacles,
            "history": self.history,
        })
    }
}

fn in_short(plugin: &Plugin) -> Value {
    json!({"name": &**plugin.name(), "version": plugin.version(), "digest": plugin.digest()})
}

fn in_full(plugin: &Plugin) -> Value {
    let directions = plugin.directions().iter();
    let directions: Vec<_> = directions
        .map(|direction| format!("{direction:?}").to_lowercase())
        .collect();
    let mut value = in_short(plugin);
    value["hooks"] = json!(plugin.hooks());
    value["directions"] = json!(directions);
    match plugin.settings().mode {
        Mode::Enforce => value["mode"] = json!("enforce"),
        Mode::Shadow => value["mode"] = json!("shadow"),
        Mode::Canary { percent } => {
            value["mode"] = json!("canary");
            value["percent"] = json!(percent);
        }
    }
    value["health"] = json!(plugin.health_report());
    let metrics = plugin.metrics().into_iter().map(|(name, metric)| {
        let metric = match metric {
            Metric::Counter(value) => json!(value),
            Metric::Gauge(value) => json!(value),
        };
        (name, metric)
    });
    value["metrics"] = Value::Object(metrics.collect());
    value
}

pub(super) fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
