//! The first registration, and what comes of it when it fails.

use std::time::Duration;

use test_support::{Fault, Route, eventually};
use tokio::time::{Instant, timeout};

use super::{IN_TIME, NAME, Rig};
use crate::harness::{TASK_TRIGGERED, event, health, ids_and_subscriptions, json, lines_with};

#[tokio::test]
async fn the_integration_is_registered_with_the_topics_and_filters_of_the_environment() {
    let rig = Rig::start().await;
    let variables = [
        ("PUBSUB_TOPIC", "sh.keptn.event.a.triggered,sh.keptn.event.b.triggered"),
        ("PROJECT_FILTER", "p1,p2"),
        ("SERVICE_FILTER", "s"),
        ("K8S_POD_NAME", "pod"),
        ("VERSION", "1.2.3"),
        ("DISTRIBUTOR_VERSION", "0.9.0"),
    ];
    let (_process, integration) = rig.registered(&variables).await;

    let registered = rig.control_plane.requests_to(Route::Register);
    let filter = serde_json::json!({ "projects": ["p1", "p2"], "stages": [], "services": ["s"] });
    let expected = serde_json::json!({
        "id": "", "name": NAME,
        "metadata": {
            "hostname": "node", "integrationversion": "1.2.3", "distributorversion": "0.9.0",
            "location": "control-plane",
            "kubernetesmetadata": { "namespace": "keptn", "podname": "pod", "deploymentname": NAME },
            "lastseen": "0001-01-01T00:00:00Z",
        },
        "subscriptions": [
            { "id": "", "event": "sh.keptn.event.a.triggered", "filter": filter },
            { "id": "", "event": "sh.keptn.event.b.triggered", "filter": filter },
        ],
    });
    assert_eq!(registered.len(), 1);
    assert_eq!(json(&registered[0].received.body), expected);
    let beats = rig.control_plane.requests_to(Route::Ping);
    assert_eq!(
        beats[0].path,
        format!("/v1/uniform/registration/{}/ping", integration.id)
    );
    assert_eq!(beats[0].received.header("content-length"), Some("0"));
    assert_eq!(beats[0].received.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn attempts_are_repeated_while_the_service_is_served_and_then_the_process_ends_with_1() {
    let rig = Rig::start().await;
    rig.control_plane.fail(Route::Register, Fault::Status(500));
    let mut process = rig.process(&[("MAX_REGISTRATION_RETRIES", "3")]);

    let first = rig
        .control_plane
        .wait_for_answers(Route::Register, 500, 1, IN_TIME)
        .await;
    first.unwrap();
    assert_eq!(health(process.proxy_address()).await, 200);

    let status = process.wait_exit(IN_TIME).await.unwrap();
    assert_eq!(status.code(), Some(1));
    assert_eq!(rig.control_plane.requests_to(Route::Register).len(), 3);
    let attempts = lines_with(&process, "cannot be registered");
    assert_eq!(attempts.len(), 3, "{attempts:?}");
    for (number, line) in (1..).zip(&attempts) {
        assert!(
            line.contains(&format!("attempt=\"{number}/3\"")) && line.contains("told to fail"),
            "{line}"
        );
    }
    assert_eq!(
        lines_with(&process, "could not be registered in 3 attempts").len(),
        1,
        "{:?}",
        process.output().lines()
    );
}

#[tokio::test]
async fn a_later_attempt_is_as_good_as_the_first() {
    let rig = Rig::start().await;
    let not_an_id = |nth: usize| {
        let faults = [
            Fault::Answer(200, Vec::new(), "{}".to_owned()),
            Fault::Html(200),
            Fault::Empty,
        ];
        faults.get(nth).cloned()
    };
    rig.control_plane.fail_with(Route::Register, not_an_id);
    let (process, _) = rig.registered(&[]).await;

    assert_eq!(rig.control_plane.requests_to(Route::Register).len(), 4);
    assert_eq!(lines_with(&process, "it has no id for the integration").len(), 1);
    rig.publish(&event("e1")).await;
    rig.recipient.wait_for(1, IN_TIME).await.unwrap();
}

#[tokio::test]
async fn sigterm_ends_a_registration_at_once() {
    for fault in [Fault::Hang, Fault::Status(503)] {
        let rig = Rig::start().await;
        rig.control_plane.fail(Route::Register, fault.clone());
        let mut process = rig.process(&[("REGISTRATION_INTERVAL", "1m")]);
        let asked = rig.control_plane.wait_for_requests(Route::Register, 1, IN_TIME).await;
        asked.unwrap();
        let start = Instant::now();
        process.terminate().unwrap();
        let status = timeout(Duration::from_secs(10), process.wait_exit(IN_TIME)).await;
        assert_eq!(status.unwrap().unwrap().code(), Some(0), "{fault:?}");
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        assert!(rig.control_plane.requests_to(Route::Ping).is_empty());
    }
}

#[tokio::test]
async fn what_is_no_integration_is_not_registered_and_gets_the_topics_of_the_environment() {
    let names = [
        "statistics-service",
        "api-service",
        "mongodb-datastore",
        "resource-service",
        "secret-service",
        "shipyard-controller",
    ];
    let services = names.map(|name| ("K8S_DEPLOYMENT_NAME", name));
    let others = [
        ("K8S_DEPLOYMENT_NAME", ""),
        ("K8S_NAMESPACE", ""),
        ("DISABLE_REGISTRATION", "true"),
    ];
    for variable in services.into_iter().chain(others) {
        let rig = Rig::start().await;
        let process = rig.keeping(&[variable]).await;
        rig.publish(&event("e1")).await;
        let delivered = rig.recipient.wait_for(1, IN_TIME).await.unwrap();
        assert_eq!(
            ids_and_subscriptions(&delivered),
            [("e1".to_owned(), String::new())],
            "{variable:?}"
        );
        assert_eq!(rig.n_requests(), 0, "{variable:?}");
        assert_eq!(lines_with(&process, "no integration is registered").len(), 1);
    }
}

#[tokio::test]
async fn events_are_kept_from_the_moment_nats_answers() {
    let rig = Rig::start().await;
    rig.control_plane.fail(Route::Register, Fault::Status(500));
    let _process = rig.keeping(&[("PUBSUB_TOPIC", "sh.keptn.>")]).await;
    rig.publish(&event("early")).await;
    let failed = rig.control_plane.requests_to(Route::Register).len();
    let more = rig
        .control_plane
        .wait_for_requests(Route::Register, failed + 2, IN_TIME)
        .await;
    more.unwrap();
    assert_eq!(rig.recipient.n_received(), 0, "it is not known what is wanted");

    rig.control_plane.heal(Route::Register);

    let delivered = rig.recipient.wait_for(1, IN_TIME).await.unwrap();
    let (id, subscription) = ids_and_subscriptions(&delivered).remove(0);
    assert_eq!(id, "early");
    let integration = rig.control_plane.wait_for_integration(NAME, IN_TIME).await.unwrap();
    assert_eq!(integration.subscriptions[0]["id"], subscription.as_str());
}

#[tokio::test]
async fn without_a_stream_nothing_is_received_before_the_first_heartbeat() {
    let rig = Rig::start().await;
    rig.control_plane.fail_with(Route::Ping, |nth| {
        (nth == 0).then_some(Fault::Delay(Duration::from_secs(3)))
    });
    let _process = rig.process(&[("DELIVERY_MODE", "core")]);
    let n_subscriptions = async || {
        let clients = rig.nats.clients().await.unwrap_or_default();
        let ours = clients.into_iter().filter(|client| client.name == "distributor");
        let subjects = ours.flat_map(|client| client.subscriptions);
        subjects.filter(|(subject, _)| subject == TASK_TRIGGERED).count()
    };
    // Looked at all the time until the heartbeat is answered.
    let is_listening = async || {
        let n = n_subscriptions().await;
        let beats = rig.control_plane.requests_to(Route::Ping);
        let is_answered = beats.first().is_some_and(|beat| beat.status.is_some());
        assert!(n == 0 || is_answered, "subscribed before it is known what is wanted");
        n == 1
    };
    eventually(IN_TIME, is_listening).await.unwrap();
}
