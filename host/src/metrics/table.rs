//! The one list of everything that Prometheus gets: its name, its meaning, and where in a snapshot it is.
//!
//! Behind `/metrics` and the table in `deploy/operating.md`; a test compares the two.

mod rows;

use std::borrow::Cow;
use std::collections::BTreeMap;

pub use self::rows::TABLE;
use super::HistogramReport;
use crate::observe::Snapshot;

/// Kinds of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until the process starts anew.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How many durations are how long.
    Histogram,
    /// Always 1: the labels are what matters.
    Info,
}

/// One metric.
#[derive(Debug)]
pub struct Row {
    /// Without the suffix that its kind has.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it is counted in; empty: things.
    pub unit: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it means, in one sentence.
    pub help: &'static str,
    /// Its values.
    pub(super) samples: fn(&Snapshot) -> Vec<Sample>,
}

/// One value, with those of the labels.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) labels: Vec<Cow<'static, str>>,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Whole(u64),
    Real(f64),
    Histogram(HistogramReport),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Whole(value as u64)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Whole(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<&HistogramReport> for Value {
    fn from(report: &HistogramReport) -> Self {
        Self::Histogram(report.clone())
    }
}

impl Row {
    /// As it stands in `/metrics` and in queries.
    pub fn full_name(&self) -> String {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        format!("{}{suffix}", self.name)
    }
}

/// The only value of a metric without labels.
fn one(value: impl Into<Value>) -> Vec<Sample> {
    vec![labelled([], value)]
}

/// The only value, if there is one.
fn maybe(value: Option<impl Into<Value>>) -> Vec<Sample> {
    value.into_iter().flat_map(one).collect()
}

fn labelled<const N: usize>(labels: [Cow<'static, str>; N], value: impl Into<Value>) -> Sample {
    Sample {
        labels: labels.into(),
        value: value.into(),
    }
}

/// One value for each value of a label.
fn by_label(values: &BTreeMap<&'static str, u64>) -> Vec<Sample> {
    let values = values.iter();
    values
        .map(|(label, value)| labelled([(*label).into()], *value))
        .collect()
}

/// The table in Markdown.
pub fn markdown_table() -> String {
    let rows = TABLE.iter().map(|row| {
        let kind = match row.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        };
        let labels: Vec<_> = row.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, unit, labels, help) = (row.full_name(), row.unit, labels.join(", "), row.help);
        format!("| `{name}` | {kind} | {unit} | {labels} | {help} |\n")
    });
    format!(
        "| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n{}",
        rows.collect::<Vec<_>>().concat()
    )
}
