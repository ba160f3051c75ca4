//! `metrics`: what a plugin counts and measures.
//!
//! A name that a plugin may not use is ignored, and said once: hooks have no answer for it, and it is no reason to stop.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use super::State;
use crate::plugins::bindings::keptn::distributor::metrics;
use crate::plugins::error::one_line;

/// Names that one plugin may use.
const MAX_NAMES: usize = 50;
const MAX_NAME_BYTES: usize = 100;

/// A value that a plugin reports.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub enum Metric {
    /// It only grows.
    Counter(u64),
    /// It was set last.
    Gauge(f64),
}

impl fmt::Display for Metric {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counter(value) => value.fmt(formatter),
            Self::Gauge(value) => value.fmt(formatter),
        }
    }
}

/// The metrics of one plugin.
#[derive(Debug)]
pub(in crate::plugins) struct Metrics {
    plugin: Arc<str>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    values: BTreeMap<String, Metric>,
    /// Reasons that were given already.
    refusals: Vec<Refusal>,
}

/// Why a value is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("its name does not read [a-zA-Z_:][a-zA-Z0-9_:]*, or is longer than {MAX_NAME_BYTES} bytes")]
    Name,
    #[error("a plugin may use {MAX_NAMES} names")]
    TooManyNames,
    #[error("its name belongs to a gauge; `add` is for counters")]
    IsGauge,
    #[error("its name belongs to a counter; `set` is for gauges")]
    IsCounter,
    #[error("its value is not a finite number")]
    Value,
}

impl Metrics {
    pub(super) fn new(plugin: Arc<str>) -> Self {
        Self {
            plugin,
            table: Mutex::default(),
        }
    }

    /// All values, by name.
    pub(in crate::plugins) fn values(&self) -> BTreeMap<String, Metric> {
        self.table().values.clone()
    }

    /// Adds to a counter.
    pub(super) fn add(&self, name: &str, delta: u64) {
        self.change(name, Metric::Counter(0), |metric| match metric {
            Metric::Counter(value) => {
                *value = value.saturating_add(delta);
                Ok(())
            }
            Metric::Gauge(_) => Err(Refusal::IsGauge),
        });
    }

    /// Sets a gauge.
    pub(super) fn set(&self, name: &str, to: f64) {
        if !to.is_finite() {
            return self.refuse(&mut self.table(), name, Refusal::Value);
        }
        self.change(name, Metric::Gauge(0.0), |metric| match metric {
            Metric::Gauge(value) => {
                *value = to;
                Ok(())
            }
            Metric::Counter(_) => Err(Refusal::IsCounter),
        });
    }

    fn change(&self, name: &str, new: Metric, change: impl FnOnce(&mut Metric) -> Result<(), Refusal>) {
        let mut table = self.table();
        if let Err(refusal) = table.make(name, new).and_then(change) {
            self.refuse(&mut table, name, refusal);
        }
    }

    fn refuse(&self, table: &mut Table, name: &str, refusal: Refusal) {
        if !table.refusals.contains(&refusal) {
            table.refusals.push(refusal);
            let metric = one_line(name);
            tracing::warn!(plugin = %self.plugin, metric, "a metric of a plugin is ignored: {refusal}; said once");
        }
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The metric of this name, made when there is none.
    fn make(&mut self, name: &str, new: Metric) -> Result<&mut Metric, Refusal> {
        if !self.values.contains_key(name) {
            if !is_name(name) {
                return Err(Refusal::Name);
            }
            if self.values.len() >= MAX_NAMES {
                return Err(Refusal::TooManyNames);
            }
            self.values.insert(name.to_owned(), new);
        }
        Ok(self.values.get_mut(name).expect("it is there, or was just put there"))
    }
}

/// Whether Prometheus takes it.
fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':');
    name.len() <= MAX_NAME_BYTES
        && name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

impl metrics::Host for State {
    fn add(&mut self, name: String, delta: u64) -> wasmtime::Result<()> {
        self.count_call()?;
        self.shared.kept.metrics.add(&name, delta);
        Ok(())
    }

    fn set(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        self.count_call()?;
        self.shared.kept.metrics.set(&name, value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> Metrics {
        Metrics::new("p".into())
    }

    #[test]
    fn counters_grow_and_gauges_are_set() {
        let metrics = metrics();
        metrics.add("events", 2);
        metrics.add("events", 3);
        metrics.set("queue", 7.5);
        metrics.set("queue", -1.25);
        metrics.add("events", u64::MAX);
        let expected = [
            ("events".to_owned(), Metric::Counter(u64::MAX)),
            ("queue".to_owned(), Metric::Gauge(-1.25)),
        ];
        assert_eq!(metrics.values(), BTreeMap::from(expected));
    }

    #[test]
    fn a_name_is_of_one_kind() {
        let metrics = metrics();
        metrics.add("n", 1);
        metrics.set("n", 5.0);
        metrics.set("g", 5.0);
        metrics.add("g", 1);
        assert_eq!(metrics.values()["n"], Metric::Counter(1));
        assert_eq!(metrics.values()["g"], Metric::Gauge(5.0));
        assert_eq!(metrics.table().refusals, [Refusal::IsCounter, Refusal::IsGauge]);
    }

    #[test]
    fn what_is_no_number_is_ignored() {
        let metrics = metrics();
        metrics.set("g", 1.0);
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            metrics.set("g", value);
            metrics.set("new", value);
        }
        assert_eq!(metrics.values(), BTreeMap::from([("g".to_owned(), Metric::Gauge(1.0))]));
    }

    #[test]
    fn names_are_those_that_prometheus_takes() {
        let check = |name: &str, expected: bool| assert_eq!(is_name(name), expected, "{name:?}");
        check("events_total", true);
        check("_:aZ9", true);
        check("9lives", false);
        check("", false);
        check("with-dash", false);
        check("line\nbreak", false);
        check("ümlaut", false);
        check(&"n".repeat(100), true);
        check(&"n".repeat(101), false);
    }

    #[test]
    fn a_flood_of_names_is_cut_and_each_reason_is_given_once() {
        let metrics = metrics();
        for number in 0..100_000 {
            metrics.add(&format!("name_{number}"), 1);
            metrics.add(&format!("bad name {number}"), 1);
        }
        metrics.add("name_0", 1);
        assert_eq!(metrics.values().len(), MAX_NAMES);
        assert_eq!(metrics.values()["name_0"], Metric::Counter(2));
        assert_eq!(metrics.table().refusals, [Refusal::Name, Refusal::TooManyNames]);
    }
}
