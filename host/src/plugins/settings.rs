//! How one plugin of the chain is to be run: what its entry in `plugins.toml` says.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::context::Direction;
use super::limits::Limits;

/// How one plugin is to be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Unique in its chain.
    pub name: Arc<str>,
    /// Which events it sees, by the way they travel.
    pub directions: Vec<Direction>,
    /// Which events it sees, by type; `*` stands for any text. Empty: all. The plugin may want fewer by itself.
    pub event_types: Vec<String>,
    /// What becomes of an event that it fails on.
    pub on_failure: OnFailure,
    /// Whether what it says counts.
    pub mode: Mode,
    /// The plugin that a candidate is compared with. None: the one that calls itself the same.
    pub beside: Option<Arc<str>>,
    /// What it may do beyond looking at events.
    pub grants: Grants,
    /// How long an instance lives.
    pub isolation: Isolation,
    /// What it may use.
    pub limits: Limits,
    /// Handed to `configure` as JSON.
    pub config: Value,
}

/// What becomes of an event that a plugin fails on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// It is tried again like a failed delivery, and becomes a dead letter when that does not help. A failure that the
    /// plugin itself calls permanent is not tried again.
    #[default]
    RetryThenDeadLetter,
    /// It becomes a dead letter at once.
    DeadLetter,
    /// It goes on as if the plugin were not there.
    Pass,
    /// It ends here.
    Drop,
}

/// Whether what a plugin says counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It does.
    #[default]
    Enforce,
    /// It does not: the plugin runs beside the chain, and where it disagrees is counted.
    Shadow,
    /// It does for this share of the keys, in the place of the plugin that it is compared with; for the others it runs as
    /// a shadow.
    Canary {
        /// Of 100.
        percent: u8,
    },
}

/// What a plugin may do beyond looking at events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grants {
    /// Send events of its own.
    pub publish: bool,
    /// Keep state.
    pub state: bool,
}

/// How long an instance lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// For many calls, until it is worn.
    #[default]
    Warm,
    /// For one call: nothing of one event can reach another.
    PerEvent,
}

impl Settings {
    /// Those of a plugin about which nothing is said but its name.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            directions: vec![Direction::Incoming],
            event_types: Vec::new(),
            on_failure: OnFailure::default(),
            mode: Mode::default(),
            beside: None,
            grants: Grants::default(),
            isolation: Isolation::default(),
            limits: Limits::default(),
            config: Value::Object(serde_json::Map::new()),
        }
    }
}
