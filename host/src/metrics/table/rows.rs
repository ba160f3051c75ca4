//! The rows of the table, in the order in which they are documented.

use std::time::SystemTime;

use super::{Kind, Row, Sample, Value, by_label, labelled, maybe, one};
use crate::observe::{
    ConnectionReport, ConsumerReport, FlowReport, NatsReport, RegistrationPhase, RegistrationReport, Snapshot,
};
use crate::plugins::{Metric, PluginReport};
use crate::source::{MemoryReport, StreamReport};

/// Everything that Prometheus gets.
pub const TABLE: &[Row] = &[
    Row {
        name: "distributor_build",
        kind: Kind::Info,
        unit: "",
        labels: &["version", "commit"],
        help: "Version of the distributor, and the commit it was built of.",
        samples: |s| vec![labelled([s.build.version.into(), s.build.commit.into()], 1_u64)],
    },
    Row {
        name: "distributor_ready",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "1 while `/readyz` says so.",
        samples: |s| one(s.is_ready()),
    },
    Row {
        name: "distributor_draining",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "1 during the shutdown.",
        samples: |s| one(s.is_draining),
    },
    Row {
        name: "distributor_paused",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "1 while an operator wants no events to be taken from their sources.",
        samples: |s| one(s.receiving.is_paused),
    },
    Row {
        name: "distributor_events_received",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Events received from NATS, or found open at the control plane; an event that was given back and comes again counts again.",
        samples: |s| one(s.flow.received),
    },
    Row {
        name: "distributor_events_received_again",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Events of a stream that came again although they were delivered or being delivered.",
        samples: |s| one(s.flow.received_again),
    },
    Row {
        name: "distributor_events_duplicate",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Events that came over core NATS and from a stream, and were taken from one of them.",
        samples: |s| one(s.flow.duplicates),
    },
    Row {
        name: "distributor_events_unmatched",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Events that no topic or subscription matched.",
        samples: |s| one(s.flow.unmatched),
    },
    Row {
        name: "distributor_events_filtered",
        kind: Kind::Counter,
        unit: "",
        labels: &["direction"],
        help: "Events that plugins dropped on purpose, on their way to the service (`incoming`, once for each subscription) or from it (`outgoing`).",
        samples: |s| {
            let FlowReport {
                filtered,
                filtered_outgoing,
                ..
            } = s.flow;
            vec![
                labelled(["incoming".into()], filtered),
                labelled(["outgoing".into()], filtered_outgoing),
            ]
        },
    },
    Row {
        name: "distributor_events_fanned_out",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Further deliveries of events that several subscriptions want.",
        samples: |s| one(s.flow.fanned_out),
    },
    Row {
        name: "distributor_events_made_by_plugins",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Further events that plugins made of one received event.",
        samples: |s| one(s.flow.made),
    },
    Row {
        name: "distributor_events_given_back",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Events that went back to their stream, to come again later.",
        samples: |s| one(s.flow.given_back),
    },
    Row {
        name: "distributor_events_lost",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Events for which memory had no room and of which nobody has a copy; possible on core NATS only.",
        samples: |s| one(s.flow.lost),
    },
    Row {
        name: "distributor_events_held",
        kind: Kind::Gauge,
        unit: "",
        labels: &["source"],
        help: "Events in memory that are not settled yet.",
        samples: |s| memory(s, |memory| memory.events),
    },
    Row {
        name: "distributor_events_held_limit",
        kind: Kind::Gauge,
        unit: "",
        labels: &["source"],
        help: "Events that fit into memory.",
        samples: |s| memory(s, |memory| memory.max_events),
    },
    Row {
        name: "distributor_events_held_bytes",
        kind: Kind::Gauge,
        unit: "bytes",
        labels: &["source"],
        help: "Bytes of the events in memory.",
        samples: |s| memory(s, |memory| memory.bytes),
    },
    Row {
        name: "distributor_events_held_limit_bytes",
        kind: Kind::Gauge,
        unit: "bytes",
        labels: &["source"],
        help: "Bytes of events that fit into memory.",
        samples: |s| memory(s, |memory| memory.max_bytes),
    },
    Row {
        name: "distributor_deliveries_in_flight",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "Events that are being tried.",
        samples: |s| one(s.deliveries.in_flight),
    },
    Row {
        name: "distributor_deliveries_queued",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "Events that wait until it is their turn.",
        samples: |s| one(s.deliveries.queued),
    },
    Row {
        name: "distributor_deliveries_waiting",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "Events that wait for their next attempt.",
        samples: |s| one(s.deliveries.waiting),
    },
    Row {
        name: "distributor_oldest_event_age_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: &[],
        help: "Time since the oldest event came that is neither delivered nor given up; 0 if there is none.",
        samples: |s| one(s.deliveries.oldest_seconds.unwrap_or(0.0)),
    },
    Row {
        name: "distributor_deliveries",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Deliveries that the service took: one event for one subscription each.",
        samples: |s| one(s.flow.delivered),
    },
    Row {
        name: "distributor_deliveries_unconfirmed",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Those of them that the service did not answer in time, and that count as taken (DELIVERY_ON_TIMEOUT).",
        samples: |s| one(s.flow.unconfirmed),
    },
    Row {
        name: "distributor_delivery_attempts",
        kind: Kind::Counter,
        unit: "",
        labels: &["result"],
        help: "Attempts to deliver, by class of the answer's status, or `timeout`, `broken` (connection) or `refused` (no connection).",
        samples: |s| by_label(&s.flow.attempts),
    },
    Row {
        name: "distributor_delivery_attempt_duration_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        labels: &[],
        help: "How long attempts to deliver took.",
        samples: |s| one(&s.times.attempt),
    },
    Row {
        name: "distributor_delivery_latency_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        labels: &[],
        help: "Time from an event's arrival at the distributor until the service took it, waiting and further attempts included.",
        samples: |s| one(&s.times.latency),
    },
    Row {
        name: "distributor_delivery_retries",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Attempts that failed and are followed by another.",
        samples: |s| one(s.flow.retried),
    },
    Row {
        name: "distributor_recipient_gate_open",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "0 while the service takes no events, so that they wait.",
        samples: |s| one(s.deliveries.is_gate_open),
    },
    Row {
        name: "distributor_dead_letters",
        kind: Kind::Counter,
        unit: "",
        labels: &["reason"],
        help: "Deliveries that were given up and are in the dead letters.",
        samples: |s| by_label(&s.flow.dead_letters),
    },
    Row {
        name: "distributor_undelivered",
        kind: Kind::Counter,
        unit: "",
        labels: &["reason"],
        help: "Deliveries that were given up and are lost, because there is no place for dead letters.",
        samples: |s| by_label(&s.flow.undelivered),
    },
    Row {
        name: "distributor_dead_letter_store_failures",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Attempts to store a dead letter that failed; the event is held back until it is stored.",
        samples: |s| one(s.flow.dead_letter_failures),
    },
    Row {
        name: "distributor_subscriptions",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "Subscriptions of the integration at the control plane.",
        samples: |s| one(s.receiving.n_subscriptions),
    },
    Row {
        name: "distributor_core_subscriptions",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "Subjects that are received over core NATS.",
        samples: |s| one(s.receiving.core_subjects.len()),
    },
    Row {
        name: "distributor_nats_connected",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "1 while the connection to NATS stands; missing where NATS is not used.",
        samples: |s| maybe(nats(s).map(|nats| nats.is_connected)),
    },
    Row {
        name: "distributor_nats_connects",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Connections to NATS that were made.",
        samples: |s| maybe(nats(s).map(|nats| nats.connects)),
    },
    Row {
        name: "distributor_nats_disconnects",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Connections to NATS that were lost.",
        samples: |s| maybe(nats(s).map(|nats| nats.disconnects)),
    },
    Row {
        name: "distributor_jetstream_receiving",
        kind: Kind::Gauge,
        unit: "",
        labels: &["stream", "consumer"],
        help: "1 while there is a durable consumer to receive from.",
        samples: |s| {
            let streams = s.receiving.streams.iter();
            let labels = |stream: &StreamReport| [stream.stream.clone().into(), stream.durable.clone().into()];
            streams
                .map(|stream| labelled(labels(stream), stream.is_received))
                .collect()
        },
    },
    Row {
        name: "distributor_jetstream_pending",
        kind: Kind::Gauge,
        unit: "",
        labels: &["stream", "consumer"],
        help: "Events in the stream that were not handed out yet, as the server said a moment ago.",
        samples: |s| consumers(s, |consumer| consumer.pending),
    },
    Row {
        name: "distributor_jetstream_ack_pending",
        kind: Kind::Gauge,
        unit: "",
        labels: &["stream", "consumer"],
        help: "Events that were handed out to any replica and are not settled, as the server said a moment ago.",
        samples: |s| consumers(s, |consumer| consumer.ack_pending),
    },
    Row {
        name: "distributor_jetstream_redelivered",
        kind: Kind::Gauge,
        unit: "",
        labels: &["stream", "consumer"],
        help: "Events among those that were handed out more than once, as the server said a moment ago.",
        samples: |s| consumers(s, |consumer| consumer.redelivered),
    },
    Row {
        name: "distributor_jetstream_pull_restarts",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Times that receiving from a stream had to be started anew, because the server had fallen silent.",
        samples: |s| one(s.flow.pulls_restarted),
    },
    Row {
        name: "distributor_polls",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Requests for open events, on a remote execution plane.",
        samples: |s| one(s.flow.polls),
    },
    Row {
        name: "distributor_poll_failures",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Polls that were not finished because of the control plane.",
        samples: |s| one(s.flow.poll_failures),
    },
    Row {
        name: "distributor_publish_requests",
        kind: Kind::Counter,
        unit: "",
        labels: &["result"],
        help: "Requests with events of the service: `accepted`, `refused` (the request is at fault) or `unavailable` (to be sent again).",
        samples: |s| by_label(&s.flow.publish_requests),
    },
    Row {
        name: "distributor_events_forwarded",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Events of the service that were sent to the control plane.",
        samples: |s| one(s.flow.forwarded),
    },
    Row {
        name: "distributor_events_published_by_plugins",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Events that plugins sent to the control plane.",
        samples: |s| one(s.flow.published),
    },
    Row {
        name: "distributor_plugin_publish_failures",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Attempts to do so that failed and are followed by another.",
        samples: |s| one(s.flow.publish_failures),
    },
    Row {
        name: "distributor_proxy_requests",
        kind: Kind::Counter,
        unit: "",
        labels: &["status"],
        help: "Requests of the service to the API proxy, by class of the status that it got.",
        samples: |s| by_label(&s.flow.proxied),
    },
    Row {
        name: "distributor_proxy_request_duration_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        labels: &[],
        help: "Time from such a request to the beginning of its answer.",
        samples: |s| one(&s.times.proxied),
    },
    Row {
        name: "distributor_registration_state",
        kind: Kind::Gauge,
        unit: "",
        labels: &["state"],
        help: "1 for the state of the registration: `off`, `registering`, `registered` or `degraded` (the last heartbeat was not answered).",
        samples: registration_states,
    },
    Row {
        name: "distributor_registrations",
        kind: Kind::Counter,
        unit: "",
        labels: &["result"],
        help: "Attempts to register the integration.",
        samples: |s| {
            results(s, |report| {
                (report.totals.registrations, report.totals.failed_registrations)
            })
        },
    },
    Row {
        name: "distributor_heartbeats",
        kind: Kind::Counter,
        unit: "",
        labels: &["result"],
        help: "Heartbeats of the integration.",
        samples: |s| results(s, |report| (report.totals.heartbeats, report.totals.failed_heartbeats)),
    },
    Row {
        name: "distributor_oauth_tokens",
        kind: Kind::Counter,
        unit: "",
        labels: &["result"],
        help: "Requests for OAuth tokens.",
        samples: |s| {
            let report = s.oauth.as_ref();
            report.map_or_else(Vec::new, |report| good_and_bad(report.tokens, report.failures))
        },
    },
    Row {
        name: "distributor_oauth_token_expires_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: &[],
        help: "Time until the OAuth token in use ends; missing where it does not say.",
        samples: |s| maybe(s.oauth.as_ref().and_then(|report| report.expires_in_seconds)),
    },
    Row {
        name: "distributor_error_log_queued",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "Errors that wait to be copied to the log of the control plane.",
        samples: |s| maybe(s.error_log.as_ref().map(|log| log.queued)),
    },
    Row {
        name: "distributor_error_log_sent",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Errors that were copied.",
        samples: |s| maybe(s.error_log.as_ref().map(|log| log.reported)),
    },
    Row {
        name: "distributor_error_log_dropped",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Errors that were not, because the log took none for too long.",
        samples: |s| maybe(s.error_log.as_ref().map(|log| log.unreported)),
    },
    Row {
        name: "distributor_plugins_generation",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "Generation of the plugins in force: counts the chains of this process.",
        samples: |s| one(s.plugins.generation),
    },
    Row {
        name: "distributor_plugins_reloads",
        kind: Kind::Counter,
        unit: "",
        labels: &["result"],
        help: "Times that plugins were loaded, the start included: `replaced`, `unchanged` or `refused`.",
        samples: |s| by_label(&s.plugins.reloads.results),
    },
    Row {
        name: "distributor_plugins_last_reload_timestamp_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: &[],
        help: "When the last of them was, in seconds since 1970.",
        samples: |s| one(s.plugins.reloads.last),
    },
    Row {
        name: "distributor_plugins_refused",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "1 while what PLUGINS_DIR holds is refused, and the last plugins that worked stay in force.",
        samples: |s| one(s.plugins.reloads.refused.is_some()),
    },
    Row {
        name: "distributor_plugins_compilations",
        kind: Kind::Counter,
        unit: "",
        labels: &[],
        help: "Components that were compiled, and not found in the cache.",
        samples: |s| one(s.plugins.compilations),
    },
    Row {
        name: "distributor_plugins_compilation_seconds",
        kind: Kind::Counter,
        unit: "seconds",
        labels: &[],
        help: "Time that took.",
        samples: |s| one(s.plugins.compilation_seconds),
    },
    Row {
        name: "distributor_plugin",
        kind: Kind::Info,
        unit: "",
        labels: &["plugin", "version", "digest", "mode"],
        help: "The plugins in force, with their own version and the SHA-256 of the component.",
        samples: plugin_infos,
    },
    Row {
        name: "distributor_plugin_call_duration_seconds",
        kind: Kind::Histogram,
        unit: "seconds",
        labels: &["plugin"],
        help: "How long calls of the plugin's hooks took.",
        samples: |s| plugins(s, |plugin| &plugin.calls),
    },
    Row {
        name: "distributor_plugin_events_dropped",
        kind: Kind::Counter,
        unit: "",
        labels: &["plugin"],
        help: "Events that the plugin dropped on purpose.",
        samples: |s| plugins(s, |plugin| plugin.dropped),
    },
    Row {
        name: "distributor_plugin_failures",
        kind: Kind::Counter,
        unit: "",
        labels: &["plugin", "cause"],
        help: "Calls that failed: `trap`, `time`, `memory`, `limit` (another one), `start`, `transient` or `permanent` (what the plugin answered).",
        samples: plugin_failures,
    },
    Row {
        name: "distributor_plugin_events_passed_over",
        kind: Kind::Counter,
        unit: "",
        labels: &["plugin"],
        help: "Events that went on as if the plugin were not there, because it failed or was not called (`on_failure = \"pass\"`); counted since this version was loaded.",
        samples: |s| plugins(s, |plugin| plugin.health.passed_over),
    },
    Row {
        name: "distributor_plugin_events_dropped_on_failure",
        kind: Kind::Counter,
        unit: "",
        labels: &["plugin"],
        help: "Events that ended for the same reason (`on_failure = \"drop\"`); counted since this version was loaded.",
        samples: |s| plugins(s, |plugin| plugin.health.dropped_on_failure),
    },
    Row {
        name: "distributor_plugin_breaker_state",
        kind: Kind::Gauge,
        unit: "",
        labels: &["plugin"],
        help: "0 while the plugin is called; 2 while it is not, because it failed too often; 1 while one call finds out whether it works again.",
        samples: |s| plugins(s, |plugin| plugin.health.breaker.number()),
    },
    Row {
        name: "distributor_plugin_idle_instances",
        kind: Kind::Gauge,
        unit: "",
        labels: &["plugin"],
        help: "Instances that wait for a call.",
        samples: |s| plugins(s, |plugin| plugin.idle_instances),
    },
    Row {
        name: "distributor_plugin_idle_memory_bytes",
        kind: Kind::Gauge,
        unit: "bytes",
        labels: &["plugin"],
        help: "Linear memory of those instances.",
        samples: |s| plugins(s, |plugin| plugin.idle_memory_bytes),
    },
    Row {
        name: "distributor_plugin_trial_events",
        kind: Kind::Counter,
        unit: "",
        labels: &["plugin", "result"],
        help: "Events that a plugin in the mode `shadow` or `canary` was tried out on, since the chain was put together: `enforced` (it counted), `agreed`, `disagreed`, `failed` or `skipped`.",
        samples: trials,
    },
    Row {
        name: "distributor_plugin_metric",
        kind: Kind::Counter,
        unit: "",
        labels: &["plugin", "metric"],
        help: "What the plugin counts itself.",
        samples: |s| own_metrics(s, |metric| matches!(metric, Metric::Counter(_))),
    },
    Row {
        name: "distributor_plugin_metric_value",
        kind: Kind::Gauge,
        unit: "",
        labels: &["plugin", "metric"],
        help: "What the plugin measures itself.",
        samples: |s| own_metrics(s, |metric| matches!(metric, Metric::Gauge(_))),
    },
    Row {
        name: "process_cpu_seconds",
        kind: Kind::Counter,
        unit: "seconds",
        labels: &[],
        help: "Processor time of the process.",
        samples: |s| one(s.process.cpu_seconds),
    },
    Row {
        name: "process_resident_memory_bytes",
        kind: Kind::Gauge,
        unit: "bytes",
        labels: &[],
        help: "Resident memory of the process.",
        samples: |s| one(s.process.resident_bytes),
    },
    Row {
        name: "process_open_fds",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "Open file descriptors.",
        samples: |s| one(s.process.open_files),
    },
    Row {
        name: "process_max_fds",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "How many there may be; missing where that is any number.",
        samples: |s| maybe(s.process.max_open_files),
    },
    Row {
        name: "process_threads",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "Threads of the process.",
        samples: |s| one(s.process.threads),
    },
    Row {
        name: "process_start_time_seconds",
        kind: Kind::Gauge,
        unit: "seconds",
        labels: &[],
        help: "When the process started, in seconds since 1970.",
        samples: |s| {
            let since = s.started.duration_since(SystemTime::UNIX_EPOCH);
            one(since.unwrap_or_default().as_secs_f64())
        },
    },
];

fn nats(snapshot: &Snapshot) -> Option<&NatsReport> {
    match &snapshot.connection {
        ConnectionReport::Nats(nats) => Some(nats),
        ConnectionReport::Api => None,
    }
}

fn memory(snapshot: &Snapshot, value: impl Fn(&MemoryReport) -> usize) -> Vec<Sample> {
    let reports = snapshot.receiving.memory.iter();
    let samples = reports.map(|memory| labelled([memory.source.name().into()], value(memory)));
    samples.collect()
}

fn consumers(snapshot: &Snapshot, value: impl Fn(&ConsumerReport) -> u64) -> Vec<Sample> {
    let consumers = nats(snapshot).into_iter().flat_map(|nats| &nats.consumers);
    let labels = |consumer: &ConsumerReport| [consumer.stream.clone().into(), consumer.durable.clone().into()];
    let samples = consumers.map(|consumer| labelled(labels(consumer), value(consumer)));
    samples.collect()
}

fn good_and_bad(good: u64, bad: u64) -> Vec<Sample> {
    vec![labelled(["success".into()], good), labelled(["failure".into()], bad)]
}

fn results(snapshot: &Snapshot, values: impl Fn(&RegistrationReport) -> (u64, u64)) -> Vec<Sample> {
    let values = snapshot.registration.as_ref().map(values);
    values.map_or_else(Vec::new, |(good, bad)| good_and_bad(good, bad))
}

fn registration_states(snapshot: &Snapshot) -> Vec<Sample> {
    let phase = snapshot.registration.as_ref().map(|report| report.phase);
    let off = labelled(["off".into()], phase.is_none());
    let others = RegistrationPhase::ALL.iter();
    let others = others.map(|other| labelled([other.name().into()], phase == Some(*other)));
    std::iter::once(off).chain(others).collect()
}

fn plugins<'a, V: Into<Value>>(snapshot: &'a Snapshot, value: impl Fn(&'a PluginReport) -> V) -> Vec<Sample> {
    let plugins = snapshot.plugins.plugins.iter();
    let samples = plugins.map(|plugin| labelled([plugin.name.clone().into()], value(plugin)));
    samples.collect()
}

fn plugin_infos(snapshot: &Snapshot) -> Vec<Sample> {
    let plugins = snapshot.plugins.plugins.iter();
    let samples = plugins.map(|plugin| {
        let labels = [
            plugin.name.clone().into(),
            plugin.version.clone().into(),
            plugin.digest.clone().into(),
            plugin.mode.into(),
        ];
        labelled(labels, 1_u64)
    });
    samples.collect()
}

fn plugin_failures(snapshot: &Snapshot) -> Vec<Sample> {
    let plugins = snapshot.plugins.plugins.iter();
    let samples = plugins.flat_map(|plugin| {
        let failures = plugin.failures.iter();
        failures.map(|(cause, n)| labelled([plugin.name.clone().into(), (*cause).into()], *n))
    });
    samples.collect()
}

fn trials(snapshot: &Snapshot) -> Vec<Sample> {
    let samples = snapshot.plugins.trials.iter().flat_map(|trial| {
        let results = [
            ("enforced", trial.enforced),
            ("agreed", trial.agreed),
            ("disagreed", trial.disagreed),
            ("failed", trial.failed),
            ("skipped", trial.skipped),
        ];
        results.map(|(result, n)| labelled([trial.plugin.clone().into(), result.into()], n))
    });
    samples.collect()
}

fn own_metrics(snapshot: &Snapshot, is_wanted: impl Fn(&Metric) -> bool) -> Vec<Sample> {
    let mut samples = Vec::new();
    for plugin in &snapshot.plugins.plugins {
        for (name, metric) in plugin.metrics.iter().filter(|(_, metric)| is_wanted(metric)) {
            let value = match metric {
                Metric::Counter(value) => Value::Whole(*value),
                Metric::Gauge(value) => Value::Real(*value),
            };
            samples.push(labelled([plugin.name.clone().into(), name.clone().into()], value));
        }
    }
    samples
}
