//! What Prometheus gets of the real binary.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use distributor::metrics::{Kind, TABLE};
use serde_json::json;
use test_support::{Recipient, Reply, eventually, http_request};

use super::rig::*;
use crate::harness::*;
use crate::registration;

/// An entry of the chain file for the misbehaving guest.
fn entry(name: &str, lines: &str, behaviour: &str, only: &str) -> String {
    format!(
        "[[plugin]]\nname = \"{name}\"\ncomponent = \"guest.wasm\"\n{lines}\n\
         [plugin.config]\nbehaviour = \"{behaviour}\"\nonly = \"{only}\"\n"
    )
}

/// With everything that there may be: a stream and core NATS, an integration with OAuth, plugins that count and one that
/// is tried out, and traffic in both directions.
#[tokio::test]
async fn every_metric_of_the_table_is_there_after_traffic_and_no_other() {
    let rig = registration::Rig::start().await;
    let provider = Recipient::start().await.unwrap();
    provider.respond_with(|_, _| {
        let token = json!({"access_token": "t", "token_type": "bearer", "expires_in": 3600});
        Reply::json(200, &token)
    });
    let token_url = format!("http://{}/token", provider.address());
    let folder = PluginFolder::with_manifest(
        &[
            entry("counter", "grants = [\"state\"]", "state-count", "count"),
            entry(
                "candidate",
                "mode = \"shadow\"\nbeside = \"counter\"",
                "drop",
                "nothing",
            ),
        ]
        .concat(),
    );
    let oauth = [
        ("OAUTH_CLIENT_ID", "id"),
        ("OAUTH_CLIENT_SECRET", "secret"),
        ("OAUTH_SCOPES", "openid"),
        ("OAUTH_TOKEN_URL", token_url.as_str()),
    ];
    let variables = [&LISTENERS[..], &oauth, &[folder.variable()]].concat();
    let (process, _) = rig.registered(&variables).await;
    let admin = admin_of(&process).await;

    for id in ["e1", "e2", "count-1"] {
        rig.publish(&event_in(id, id)).await;
    }
    rig.recipient.wait_for(2, SOON).await.unwrap();
    assert_eq!(
        post(
            process.proxy_address(),
            test_support::KeptnEvent::of_type("sh.keptn.event.other.finished").to_bytes()
        )
        .await
        .status,
        200
    );
    let proxied = http_request(process.proxy_address(), "GET", "/nowhere", &[], "").await;
    assert_eq!(proxied.unwrap().status, 404);

    // What the server says of its consumers is known at the second look.
    let has_all = async || {
        let scrape = scrape(admin).await;
        TABLE.iter().all(|row| scrape.has(&row.full_name()))
    };
    let complete = eventually(SOON, has_all).await;
    let scrape = scrape(admin).await;
    let missing: Vec<_> = TABLE
        .iter()
        .map(distributor::metrics::Row::full_name)
        .filter(|name| !scrape.has(name))
        .collect();
    assert!(complete.is_ok(), "no value of {missing:?}");

    assert_is_documented(&scrape);
    assert_what_happened(&scrape);
}

/// Two events delivered, one dropped by a plugin, one sent by the service, and one request to the proxy.
fn assert_what_happened(scrape: &Scrape) {
    let value = |name: &str, labels: &[(&str, &str)]| scrape.value(name, labels);
    let whole = |name: &str, labels: &[(&str, &str)]| scrape.whole(name, labels);
    assert_eq!(
        whole("distributor_build_info", &[("version", env!("CARGO_PKG_VERSION"))]),
        1
    );
    assert_eq!(whole("distributor_events_received_total", &[]), 3);
    assert_eq!(
        whole("distributor_events_filtered_total", &[("direction", "incoming")]),
        1
    );
    assert_eq!(whole("distributor_deliveries_total", &[]), 2);
    assert_eq!(whole("distributor_delivery_attempts_total", &[("result", "2xx")]), 2);
    assert_eq!(whole("distributor_delivery_attempt_duration_seconds_count", &[]), 2);
    assert_eq!(whole("distributor_delivery_latency_seconds_count", &[]), 2);
    assert_eq!(
        whole("distributor_delivery_latency_seconds_bucket", &[("le", "+Inf")]),
        2
    );
    assert_eq!(whole("distributor_ready", &[]), 1);
    assert_eq!(whole("distributor_recipient_gate_open", &[]), 1);
    assert_eq!(whole("distributor_nats_connected", &[]), 1);
    assert_eq!(whole("distributor_subscriptions", &[]), 1);
    assert_eq!(whole("distributor_registration_state", &[("state", "registered")]), 1);
    assert_eq!(whole("distributor_registrations_total", &[("result", "success")]), 1);
    assert!(value("distributor_heartbeats_total", &[("result", "success")]) >= 1.0);
    assert_eq!(whole("distributor_oauth_tokens_total", &[("result", "success")]), 1);
    assert!(value("distributor_oauth_token_expires_seconds", &[]) > 3000.0);
    assert_eq!(whole("distributor_jetstream_receiving", &[("stream", "keptn")]), 1);
    assert_eq!(whole("distributor_jetstream_pending", &[("stream", "keptn")]), 0);
    assert_eq!(
        whole("distributor_publish_requests_total", &[("result", "accepted")]),
        1
    );
    assert_eq!(whole("distributor_proxy_requests_total", &[("status", "4xx")]), 1);
    assert_eq!(whole("distributor_plugins_generation", &[]), 1);
    // Incoming and outgoing, and every event once.
    assert!(
        value(
            "distributor_plugin_call_duration_seconds_count",
            &[("plugin", "counter")]
        ) >= 3.0
    );
    assert_eq!(
        whole("distributor_plugin_events_dropped_total", &[("plugin", "counter")]),
        1
    );
    assert_eq!(whole("distributor_plugin_metric_total", &[("plugin", "counter")]), 1);
    assert!(value("distributor_plugin_metric_value", &[("plugin", "counter")]) > 0.9);
    assert!(value("distributor_plugin_idle_memory_bytes", &[("plugin", "counter")]) >= 65536.0);
    assert!(value("process_resident_memory_bytes", &[]) > f64::from(1 << 20));
    assert!(value("process_cpu_seconds_total", &[]) > 0.0);
    assert!(!scrape.text.contains("secret") && !scrape.text.contains("count-1"));
}

/// Every series is in the table, with its kind and its labels.
fn assert_is_documented(scrape: &Scrape) {
    let documented: BTreeMap<_, _> = TABLE.iter().map(|row| (row.name.to_owned(), row)).collect();
    assert_eq!(
        scrape.kinds.keys().collect::<BTreeSet<_>>(),
        documented.keys().collect::<BTreeSet<_>>()
    );
    for (name, kind) in &scrape.kinds {
        let expected = match documented[name].kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        };
        assert_eq!(kind, expected, "{name}");
    }
    for sample in &scrape.samples {
        let family = scrape.family(&sample.name);
        let row = documented[family.unwrap_or_else(|| panic!("{} is of no family", sample.name))];
        let labels: Vec<_> = sample
            .labels
            .keys()
            .filter(|label| *label != "le")
            .map(String::as_str)
            .collect();
        let expected: BTreeSet<_> = row.labels.iter().copied().collect();
        assert_eq!(labels, Vec::from_iter(expected), "{}", sample.name);
        assert!(
            sample.number().is_finite() && sample.number() >= 0.0,
            "{} {}",
            sample.name,
            sample.number()
        );
    }
}

/// Received = delivered + filtered + unmatched + dead letters + held.
#[tokio::test]
async fn the_numbers_add_up_after_a_run_with_failures() {
    let peers = Peers::start().await;
    peers
        .recipient
        .respond_with(|request, _| match event_id(request).as_str() {
            id if id.starts_with("never") => Reply::Hang,
            id if id.starts_with("refused") => Reply::status(400),
            id if id.starts_with("failing") => Reply::status(500),
            _ => Reply::status(200),
        });
    let letters = PluginFolder::new();
    let dead_letter = format!("file:{}", letters.path());
    let folder = PluginFolder::with_manifest(&entry("dropper", "", "drop", "dropped"));
    let variables = [
        ALL_TOPICS,
        LISTENERS[0],
        folder.variable(),
        ("DEAD_LETTER", dead_letter.as_str()),
        ("DELIVERY_RETRY", "2"),
        ("DELIVERY_BACKOFF_DELAY", "10ms"),
    ];
    let process = peers.process(&variables).await;
    let admin = admin_of(&process).await;

    let groups = [
        ("fine", 40),
        ("refused", 7),
        ("failing", 5),
        ("dropped", 11),
        ("never", 3),
    ];
    for (name, n) in groups {
        for number in 0..n {
            let id = format!("{name}-{number}");
            peers.publish(&event_in(&id, &id)).await;
        }
    }
    for _ in 0..4 {
        peers.publish_bytes(TASK_TRIGGERED, "no event").await;
    }
    peers.everything_is_sent().await;

    let mut last = String::new();
    let settled = eventually(SOON, async || {
        let scrape = scrape(admin).await;
        let of = |name: &str| scrape.sum(&format!("distributor_{name}"));
        let found = (
            of("events_received_total"),
            of("deliveries_total"),
            of("events_filtered_total"),
            of("dead_letters_total"),
            of("events_held"),
            of("deliveries_in_flight"),
        );
        last = format!("{found:?}");
        found == (70, 40, 11, 16, 3, 3)
    });
    settled
        .await
        .unwrap_or_else(|_| panic!("received, delivered, filtered, dead, held, in flight: {last}"));
    let scrape = scrape(admin).await;
    let dead = |reason: &str| scrape.whole("distributor_dead_letters_total", &[("reason", reason)]);
    assert_eq!(dead("permanent_status"), 7);
    assert_eq!(dead("retries_exhausted"), 5);
    assert_eq!(dead("malformed"), 4);
    let attempts = |result: &str| scrape.whole("distributor_delivery_attempts_total", &[("result", result)]);
    assert_eq!((attempts("2xx"), attempts("4xx"), attempts("5xx")), (40, 7, 15));
    assert_eq!(scrape.sum("distributor_delivery_retries_total"), 10);
    assert_eq!(scrape.sum("distributor_events_lost_total"), 0);
    assert_eq!(scrape.sum("distributor_undelivered_total"), 0);
    assert!(scrape.value("distributor_oldest_event_age_seconds", &[]) > 0.0);
    let balance = [
        "deliveries_total",
        "events_filtered_total",
        "events_unmatched_total",
        "dead_letters_total",
        "events_held",
    ];
    let balance: u64 = balance
        .iter()
        .map(|name| scrape.sum(&format!("distributor_{name}")))
        .sum();
    assert_eq!(scrape.sum("distributor_events_received_total"), balance);
}

#[tokio::test]
async fn a_scrape_with_many_subscriptions_and_plugins_stays_small() {
    let rig = registration::Rig::start().await;
    let cache = PluginFolder::new();
    let entries: Vec<_> = (0..100)
        .map(|number| format!("[[plugin]]\nname = \"filter-{number}\"\ncomponent = \"builtin:keptn-filter\"\n"))
        .collect();
    let folder = PluginFolder::new().file("plugins.toml", entries.concat());
    let variables = [
        &LISTENERS[..],
        &[folder.variable(), ("PLUGINS_CACHE_DIR", cache.path())],
    ]
    .concat();
    let (process, integration) = rig.registered(&variables).await;
    let subscriptions = (0..1000).map(|number| registration::subscribed(&format!("id-{number}"), TASK_TRIGGERED));
    rig.change(&integration, subscriptions.collect()).await;
    let admin = admin_of(&process).await;

    let known = eventually(SOON, async || {
        scrape(admin).await.sum("distributor_subscriptions") >= 1000
    });
    known.await.unwrap();
    let scrape = scrape(admin).await;
    assert_eq!(
        scrape
            .samples
            .iter()
            .filter(|sample| sample.name == "distributor_plugin_info")
            .count(),
        101
    );
    let n_bytes = scrape.text.len();
    println!("{n_bytes} bytes in {} samples", scrape.samples.len());
    assert!(n_bytes < 320 << 10, "{n_bytes}");
    let begun = tokio::time::Instant::now();
    for _ in 0..20 {
        super::rig::scrape(admin).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}
