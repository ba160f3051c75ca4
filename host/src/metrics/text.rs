//! Writes the metrics of a snapshot in the text format of `OpenMetrics`.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::table::{Kind, Row, Sample, TABLE, Value};
use crate::observe::Snapshot;

/// Of [`text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of [`TABLE`].
///
/// # Panics
/// Never: writing to a text cannot fail.
pub fn text(snapshot: &Snapshot) -> String {
    let samples = TABLE.iter().map(|row| (row, (row.samples)(snapshot))).collect();
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Seen(samples)));
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a String cannot fail");
    text
}

/// What is written once.
#[derive(Debug)]
struct Seen(Vec<(&'static Row, Vec<Sample>)>);

impl Collector for Seen {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (row, samples) in &self.0 {
            let unit = Some(row.unit).filter(|unit| !unit.is_empty());
            let unit = unit.map(|unit| Unit::Other(unit.to_owned()));
            let name = match row.unit {
                "" => row.name,
                unit => row
                    .name
                    .strip_suffix(unit)
                    .map_or(row.name, |name| name.trim_end_matches('_')),
            };
            let kind = match row.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
                Kind::Info => MetricType::Info,
            };
            let mut metric = encoder.encode_descriptor(name, row.help, unit.as_ref(), kind)?;
            for sample in samples {
                let values = sample.labels.iter().map(|value| &**value);
                let labels: Vec<(&str, &str)> = row.labels.iter().copied().zip(values).collect();
                if row.kind == Kind::Info {
                    metric.encode_info(&labels)?;
                } else if labels.is_empty() {
                    write(&mut metric, row.kind, &sample.value)?;
                } else {
                    write(&mut metric.encode_family(&labels)?, row.kind, &sample.value)?;
                }
            }
        }
        Ok(())
    }
}

fn write(metric: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> fmt::Result {
    match (kind, value) {
        (_, Value::Histogram(report)) => {
            let counted: u64 = report.buckets.iter().map(|(_, count)| count).sum();
            let mut buckets = report.buckets.clone();
            buckets.push((f64::INFINITY, report.count - counted));
            metric.encode_histogram::<NoLabelSet>(report.sum_seconds, report.count, &buckets, None)
        }
        (Kind::Counter, Value::Whole(value)) => metric.encode_counter::<NoLabelSet, u64, f64>(value, None),
        (Kind::Counter, Value::Real(value)) => metric.encode_counter::<NoLabelSet, f64, f64>(value, None),
        (_, Value::Whole(value)) => metric.encode_gauge(value),
        (_, Value::Real(value)) => metric.encode_gauge(value),
    }
}
