//! What [`crate::observe`] sees of sources and plugins, in the words of the status.

use serde_json::{Value, json};

use super::model::{StreamLag, Subscription};
use super::{CORE_NATS, NOT_RECEIVED, Parts};
use crate::metrics::HistogramReport;
use crate::observe::{ConnectionReport, Line, ReceivingReport, Snapshot};
use crate::plugins::{ChainReport, PluginControl};
use crate::subject::Subject;

/// What waits in the streams.
pub(super) fn streams(seen: &Snapshot) -> Vec<StreamLag> {
    let ConnectionReport::Nats(nats) = &seen.connection else {
        return Vec::new();
    };
    let streams = seen.receiving.streams.iter();
    streams
        .map(|stream| {
            let is_this = |other: &&crate::observe::ConsumerReport| {
                (&other.stream, &other.durable) == (&stream.stream, &stream.durable)
            };
            let consumer = nats.consumers.iter().find(is_this);
            StreamLag {
                stream: stream.stream.clone(),
                consumer: stream.durable.clone(),
                waiting: consumer.map(|consumer| consumer.pending),
                unsettled: consumer.map(|consumer| consumer.ack_pending),
            }
        })
        .collect()
}

/// What is delivered, and where it comes from.
pub(super) fn subscriptions(parts: &Parts, receiving: &ReceivingReport) -> Vec<Subscription> {
    let interest = parts.interest.borrow().clone();
    let from = |topic: &Subject| origin(&parts.line, receiving, topic);
    if interest.listed().is_empty() {
        let topics = interest.patterns().into_iter();
        return topics
            .map(|topic| Subscription {
                received_from: from(&topic),
                event: topic.to_string(),
                ..Subscription::default()
            })
            .collect();
    }
    let listed = interest.listed().iter();
    listed
        .map(|subscription| Subscription {
            id: Some(subscription.id.clone()),
            event: subscription.event.to_string(),
            projects: subscription.projects.clone(),
            stages: subscription.stages.clone(),
            services: subscription.services.clone(),
            received_from: from(&subscription.event),
        })
        .collect()
}

fn origin(line: &Line, receiving: &ReceivingReport, topic: &Subject) -> String {
    let is_in = |subjects: &[String]| {
        let mut subjects = subjects.iter().filter_map(|subject| Subject::pattern(subject).ok());
        subjects.any(|subject| subject.covers(topic))
    };
    let stream = receiving
        .streams
        .iter()
        .find(|stream| stream.is_received && is_in(&stream.subjects));
    match (line, stream) {
        _ if !receiving.is_known => NOT_RECEIVED.to_owned(),
        (Line::Api { .. }, _) => "polling".to_owned(),
        (Line::Nats { .. }, Some(stream)) => format!("the stream {}", stream.stream),
        (Line::Nats { .. }, None) if is_in(&receiving.core_subjects) => CORE_NATS.to_owned(),
        (Line::Nats { .. }, None) => NOT_RECEIVED.to_owned(),
    }
}

/// As `GET /plugins` answers, with the time that calls take.
pub(super) fn plugins(control: &PluginControl, seen: &ChainReport) -> Value {
    let mut status = control.status();
    for plugin in status["plugins"].as_array_mut().into_iter().flatten() {
        let is_this = |other: &&crate::plugins::PluginReport| plugin["name"] == *other.name;
        if let Some(report) = seen.plugins.iter().find(is_this) {
            plugin["latency"] = latency(&report.calls);
        }
    }
    status
}

/// Mean, and the bound under which 99 of 100 calls stay; none where that is beyond the last bound.
fn latency(calls: &HistogramReport) -> Value {
    if calls.count == 0 {
        return Value::Null;
    }
    let mut n_below = 0;
    let p99 = calls.buckets.iter().find(|(_, n)| {
        n_below += n;
        n_below * 100 >= calls.count * 99
    });
    #[expect(clippy::cast_precision_loss, reason = "it is shown with three digits")]
    let mean = calls.sum_seconds / calls.count as f64;
    json!({
        "calls": calls.count,
        "mean_micros": mean * 1e6,
        "p99_below_micros": p99.map(|(bound, _)| bound * 1e6),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_hundred_calls_one_may_be_slow() {
        let report = |buckets: &[(f64, u64)], count: u64| HistogramReport {
            count,
            sum_seconds: 0.01,
            buckets: buckets.to_vec(),
        };
        assert_eq!(latency(&report(&[(1e-5, 0)], 0)), Value::Null);
        let some = latency(&report(&[(1e-5, 99), (1e-3, 1)], 100));
        assert_eq!(
            (&some["mean_micros"], &some["p99_below_micros"]),
            (&json!(100.0), &json!(10.0)),
            "{some}"
        );
        let slow = latency(&report(&[(1e-5, 50), (1e-3, 10)], 100));
        assert_eq!(slow["p99_below_micros"], Value::Null);
    }
}
