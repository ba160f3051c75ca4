//! Every alert of `deploy/` fires where what it is for has really happened, and none does otherwise.
//!
//! How long a condition has to last is left out here, and an event is old after a second rather than a quarter of an
//! hour: that is tested by `promtool`, which has a clock of its own.

use async_nats::jetstream::Context;
use test_support::{
    ControlPlane, DistributorProcess, Fault, NatsServer, Recipient, Reply, Route, create_keptn_stream, eventually,
    free_port,
};

use super::prometheus::{Prometheus, all_alerts};
use crate::harness::*;

#[test]
fn every_alert_is_in_one_of_these_tests() {
    let tests = include_str!("alerts.rs");
    let untested = |alert: &String| !tests.contains(&format!("\"{alert}\""));
    let untested: Vec<_> = all_alerts().into_iter().filter(untested).collect();
    assert_eq!(untested, [""; 0]);
    assert!(all_alerts().len() > 10);
}

#[tokio::test]
async fn nothing_fires_while_all_is_well_and_then_it_is_gone() {
    let mut site = Site::start(&[]).await;
    site.publish("e", 100).await;
    let delivered = async || {
        site.prometheus
            .values("distributor_deliveries_total == 100")
            .await
            .len()
            == 1
    };
    eventually(SOON, delivered).await.expect("the deliveries are seen");
    assert_eq!(site.prometheus.firing().await, [""; 0]);

    site.process.kill().await.unwrap();
    site.prometheus.wait_for_alert("DistributorDown").await;
}

#[tokio::test]
async fn a_service_that_is_away() {
    let mut site = Site::start(&[]).await;
    site.recipient.stop().await;
    site.publish("e", 1_500).await;
    for alert in [
        "DistributorServiceUnavailable",
        "DistributorEventsStuck",
        "DistributorFallingBehind",
    ] {
        site.prometheus.wait_for_alert(alert).await;
    }
}

#[tokio::test]
async fn a_service_that_refuses() {
    let site = Site::start(&[]).await;
    site.recipient.respond_with(|_, _| Reply::status(400));
    site.publish("e", 10).await;
    for alert in ["DistributorDeadLetters", "DistributorServiceFailing"] {
        site.prometheus.wait_for_alert(alert).await;
    }
}

#[tokio::test]
async fn dead_letters_that_have_no_place() {
    let site = Site::start(&[("DEAD_LETTER", "nats"), ("DEAD_LETTER_CREATE_STREAM", "false")]).await;
    site.recipient.respond_with(|_, _| Reply::status(400));
    site.publish("e", 1).await;
    site.prometheus.wait_for_alert("DistributorDeadLettersNotStored").await;
}

#[tokio::test]
async fn events_that_nobody_keeps() {
    let site = Site::start(&[("DELIVERY_MODE", "core"), ("DEAD_LETTER", "log")]).await;
    site.recipient.respond_with(|_, _| Reply::status(400));
    site.publish("e", 1).await;
    for alert in ["DistributorAtMostOnce", "DistributorEventsLost"] {
        site.prometheus.wait_for_alert(alert).await;
    }
}

#[tokio::test]
async fn a_plugin_that_fails_and_one_that_is_refused() {
    let folder = PluginFolder::behaving("trap");
    let site = Site::start(&[folder.variable()]).await;
    site.publish("bad", 20).await;
    for alert in ["DistributorPluginFailing", "DistributorPluginSuspended"] {
        site.prometheus.wait_for_alert(alert).await;
    }
    let _folder = folder.file("plugins.toml", "[[plugin");
    site.prometheus.wait_for_alert("DistributorPluginsRefused").await;
}

#[tokio::test]
async fn nats_that_is_away_from_the_start() {
    let url = format!("nats://127.0.0.1:{}", free_port().unwrap());
    let process = start_process(&[
        ("PUBSUB_URL", &url),
        ALL_TOPICS,
        ("DISABLE_REGISTRATION", "true"),
        ("ADMIN_BIND", "127.0.0.1:0"),
    ]);
    let prometheus = Prometheus::start(process.admin_address(SOON).await.unwrap()).await;
    for alert in ["DistributorNatsDisconnected", "DistributorNotReceiving"] {
        prometheus.wait_for_alert(alert).await;
    }
}

#[tokio::test]
async fn a_control_plane_that_stops_to_answer() {
    let control_plane = ControlPlane::start().await.unwrap();
    let process = start_process(&[
        ("KEPTN_API_ENDPOINT", &control_plane.endpoint()),
        ("HTTP_POLLING_INTERVAL", "1"),
        ("HEARTBEAT_INTERVAL", "1s"),
        ("K8S_NAMESPACE", "keptn"),
        ("K8S_DEPLOYMENT_NAME", "task-service"),
        ("PUBSUB_TOPIC", TASK_TRIGGERED),
        ("ADMIN_BIND", "127.0.0.1:0"),
    ]);
    let polled = control_plane.wait_for_requests(Route::OpenEvents, 1, SOON).await;
    polled.expect("it is registered and polls");
    let prometheus = Prometheus::start(process.admin_address(SOON).await.unwrap()).await;
    for route in [Route::Ping, Route::OpenEvents] {
        control_plane.fail(route, Fault::Status(500));
    }
    for alert in ["DistributorNotRegistered", "DistributorPollsFailing"] {
        prometheus.wait_for_alert(alert).await;
    }
}

/// A distributor between NATS and a service, and a Prometheus that watches it.
struct Site {
    _nats: NatsServer,
    jetstream: Context,
    recipient: Recipient,
    process: DistributorProcess,
    prometheus: Prometheus,
}

impl Site {
    /// Returns when everything is scraped once.
    async fn start(variables: &[(&str, &str)]) -> Self {
        let nats = NatsServer::builder().jetstream(true).start().await.unwrap();
        let jetstream = nats.jetstream().await.unwrap();
        create_keptn_stream(&jetstream).await.unwrap();
        let recipient = Recipient::start().await.unwrap();
        let (url, port) = (nats.url(), recipient.port().to_string());
        let own = [
            ("PUBSUB_URL", url.as_str()),
            ("PUBSUB_RECIPIENT_PORT", port.as_str()),
            ("PUBSUB_GROUP", "group"),
            ("DISABLE_REGISTRATION", "true"),
            ("ADMIN_BIND", "127.0.0.1:0"),
            ALL_TOPICS,
        ];
        let process = start_process(&[&own, variables].concat());
        let prometheus = Prometheus::start(process.admin_address(SOON).await.unwrap()).await;
        let ready = async || !prometheus.values("distributor_ready == 1").await.is_empty();
        eventually(SOON, ready).await.expect("the distributor is ready");
        Self {
            _nats: nats,
            jetstream,
            recipient,
            process,
            prometheus,
        }
    }

    /// Publishes events, each in a Keptn context of its own, and waits until the stream has them.
    async fn publish(&self, name: &str, n: usize) {
        for event in events(name, n) {
            let event = event_in(&event.id, &event.id);
            let sent = self.jetstream.publish(event.ty.clone(), event.to_bytes()).await;
            sent.unwrap().await.unwrap();
        }
    }
}
