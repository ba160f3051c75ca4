//! What heartbeats are for, and what happens when they fail.

use std::time::Duration;

use serde_json::json;
use test_support::{Fault, Route};
use tokio::time::Instant;

use super::{IN_TIME, NAME, Rig, subscribed};
use crate::harness::{TASK_TRIGGERED, event, health, ids_and_subscriptions, lines_with};

#[tokio::test]
async fn an_event_before_the_first_heartbeat_is_delivered_after_it_with_its_subscription() {
    let rig = Rig::start().await;
    rig.control_plane.fail_with(Route::Ping, |nth| {
        (nth == 0).then_some(Fault::Delay(Duration::from_secs(3)))
    });
    let process = rig.process(&[]);
    let asked = rig.control_plane.wait_for_requests(Route::Ping, 1, IN_TIME).await;
    asked.unwrap();
    process.wait_for_log("durable consumer", IN_TIME).await.unwrap();
    rig.publish(&event("early")).await;
    assert_eq!(rig.recipient.n_received(), 0);

    let delivered = rig.recipient.wait_for(1, IN_TIME).await.unwrap();
    assert_eq!(
        rig.control_plane.requests_to(Route::Ping)[0].status,
        Some(200),
        "delivered before anything was known"
    );
    let integration = rig.control_plane.wait_for_integration(NAME, IN_TIME).await.unwrap();
    let (id, subscription) = ids_and_subscriptions(&delivered).remove(0);
    assert_eq!(
        (id.as_str(), json!(subscription)),
        ("early", integration.subscriptions[0]["id"].clone())
    );
    assert!(!subscription.is_empty());
}

#[tokio::test]
async fn when_the_first_heartbeat_fails_the_subscriptions_of_the_registration_count() {
    let rig = Rig::start().await;
    rig.control_plane.fail(Route::Ping, Fault::Status(500));
    let process = rig.keeping(&[]).await;
    process.wait_for_log("a heartbeat failed", IN_TIME).await.unwrap();
    rig.publish(&event("e1")).await;

    let delivered = rig.recipient.wait_for(1, IN_TIME).await.unwrap();
    assert_eq!(ids_and_subscriptions(&delivered), [("e1".to_owned(), String::new())]);

    rig.control_plane.heal(Route::Ping);
    process.wait_for_log("answers heartbeats again", IN_TIME).await.unwrap();
    rig.publish(&event("e2")).await;
    let delivered = rig.recipient.wait_for(2, IN_TIME).await.unwrap();
    let (id, subscription) = ids_and_subscriptions(&delivered).remove(1);
    assert!(id == "e2" && !subscription.is_empty(), "{id} {subscription}");
}

#[tokio::test]
async fn a_forgotten_integration_is_registered_again_with_the_subscriptions_it_had() {
    let rig = Rig::start().await;
    let (process, integration) = rig.registered(&[]).await;
    let two = json!([
        subscribed("s1", TASK_TRIGGERED),
        subscribed("s2", "sh.keptn.event.from-the-bridge.triggered")
    ]);
    rig.change(&integration, two).await;
    let publisher = rig.publisher("e", TASK_TRIGGERED, 300.0);
    publisher.wait_until_published(300, IN_TIME).await.unwrap();

    rig.control_plane.forget(&integration.id);
    let forgotten = Instant::now();
    let again = rig.control_plane.wait_for_requests(Route::Register, 2, IN_TIME).await;
    let again = again.unwrap();
    let elapsed = again[1].received.arrived.duration_since(forgotten);
    assert!(elapsed < Duration::from_secs(3), "registered again after {elapsed:?}");
    let n_published = publisher.n_published();
    publisher
        .wait_until_published(n_published + 600, IN_TIME)
        .await
        .unwrap();
    let published = publisher.stop().await;

    let verdict = rig.verdict(&published).await;
    assert!(verdict.is_perfect(), "{verdict}");
    let body = crate::harness::json(&again[1].received.body);
    let events: Vec<_> = body["subscriptions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["event"].clone())
        .collect();
    assert_eq!(events, [TASK_TRIGGERED, "sh.keptn.event.from-the-bridge.triggered"]);
    assert_eq!(body["subscriptions"][0]["id"], "", "the control plane gives ids");
    assert_eq!(again.len(), 2);
    assert_eq!(lines_with(&process, "does not know the integration any more").len(), 1);
    // Its new ids are known without waiting for another heartbeat.
    rig.publish(&event("after")).await;
    let delivered = rig.recipient.wait_for(published.len() + 1, IN_TIME).await.unwrap();
    let (_, subscription) = ids_and_subscriptions(&delivered).pop().unwrap();
    let known = rig.control_plane.wait_for_integration(NAME, IN_TIME).await.unwrap();
    assert_eq!(known.subscriptions[0]["id"], subscription.as_str());
}

#[tokio::test]
async fn an_integration_that_stays_unknown_is_registered_once_for_each_heartbeat() {
    let rig = Rig::start().await;
    let (_process, _) = rig.registered(&[]).await;
    rig.control_plane.fail(Route::Ping, Fault::Status(404));
    let start = (Instant::now(), rig.n_requests());
    let more = rig.control_plane.wait_for_requests(Route::Register, 5, IN_TIME).await;
    more.unwrap();
    // Registration and two heartbeats a second, and what was under way.
    let elapsed = start.0.elapsed().as_secs_f64();
    let n = u32::try_from(rig.n_requests() - start.1).unwrap();
    assert!(f64::from(n) <= elapsed * 3.0 / 0.9 + 6.0, "{n} requests in {elapsed} s");
}

#[tokio::test]
async fn whatever_the_control_plane_answers_events_go_on_to_the_last_known_subscriptions() {
    let rig = Rig::start().await;
    let variables = [("API_PROXY_HTTP_TIMEOUT", "1"), ("MAX_HEARTBEAT_RETRIES", "100")];
    let (mut process, integration) = rig.registered(&variables).await;
    let publisher = rig.publisher("e", TASK_TRIGGERED, 200.0);
    let (start, n_before) = (Instant::now(), rig.n_requests());
    let faults = [
        Fault::Status(500),
        Fault::Hang,
        Fault::Html(200),
        Fault::Empty,
        Fault::WrongJson,
        Fault::Answer(200, Vec::new(), "{}".to_owned()),
        Fault::Close,
        Fault::Html(404),
        Fault::Status(503),
    ];
    let n_faults = faults.len();
    let first = rig.control_plane.requests_to(Route::Ping).len();
    rig.control_plane.fail(Route::Register, Fault::Html(502));
    rig.control_plane
        .fail_with(Route::Ping, move |nth| faults.get(nth.checked_sub(first)?).cloned());
    let all = rig
        .control_plane
        .wait_for_requests(Route::Ping, first + n_faults + 1, IN_TIME)
        .await;
    all.unwrap();
    let elapsed = start.elapsed().as_secs_f64();
    let n = u32::try_from(rig.n_requests() - n_before).unwrap();
    assert!(f64::from(n) <= elapsed * 1.2 + 3.0, "{n} requests in {elapsed} s");
    let published = publisher.stop().await;

    let verdict = rig.verdict(&published).await;
    assert!(verdict.is_perfect() && verdict.n_published > 500, "{verdict}");
    let known = integration.subscriptions[0]["id"].as_str().unwrap();
    let others = ids_and_subscriptions(&rig.recipient.journal())
        .into_iter()
        .filter(|(_, subscription)| subscription != known);
    assert_eq!(others.count(), 0);
    let failures = lines_with(&process, "a heartbeat failed");
    assert!(failures.len() <= n_faults, "{failures:?}");
    process.terminate().unwrap();
    assert_eq!(process.wait_exit(IN_TIME).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_registration_that_is_given_up_is_made_anew_with_growing_pauses() {
    let mut rig = Rig::start().await;
    let (mut process, integration) = rig.registered(&[("MAX_HEARTBEAT_RETRIES", "2")]).await;
    rig.control_plane.stop().await;
    process
        .wait_for_log("the registration is given up", IN_TIME)
        .await
        .unwrap();
    rig.publish(&event("meanwhile")).await;
    let delivered = rig.recipient.wait_for(1, IN_TIME).await.unwrap();
    let known = integration.subscriptions[0]["id"].as_str().unwrap();
    assert_eq!(
        ids_and_subscriptions(&delivered),
        [("meanwhile".to_owned(), known.to_owned())]
    );

    rig.control_plane.start_again().await.unwrap();
    rig.control_plane.fail(Route::Register, Fault::Status(500));
    let tried = rig.control_plane.wait_for_requests(Route::Register, 3, IN_TIME).await;
    let tried = tried.unwrap();
    let pause = tried[2].received.arrived.duration_since(tried[1].received.arrived);
    assert!(
        pause > Duration::from_millis(1500),
        "the pause has not grown: {pause:?}"
    );
    rig.control_plane.heal(Route::Register);
    process.wait_for_log("answers heartbeats again", IN_TIME).await.unwrap();
    // The original has ended by now, with 0.
    assert_eq!(health(process.proxy_address()).await, 200);
    process.terminate().unwrap();
    assert_eq!(process.wait_exit(IN_TIME).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn an_interval_of_zero_is_no_busy_loop() {
    let rig = Rig::start().await;
    let (_process, _) = rig.registered(&[("HEARTBEAT_INTERVAL", "0s")]).await;
    let start = (Instant::now(), rig.control_plane.requests_to(Route::Ping).len());
    rig.beaten(start.1 + 3).await;
    assert!(
        start.0.elapsed() > Duration::from_millis(1700),
        "{:?}",
        start.0.elapsed()
    );
}

#[tokio::test]
async fn after_sigterm_there_are_no_more_heartbeats_and_the_integration_stays() {
    let rig = Rig::start().await;
    let (mut process, integration) = rig.registered(&[]).await;
    process.terminate().unwrap();
    assert_eq!(process.wait_exit(IN_TIME).await.unwrap().code(), Some(0));
    let unregistered = rig.control_plane.requests_to(Route::Unregister);
    assert!(unregistered.is_empty(), "other replicas use the integration");
    assert_eq!(rig.control_plane.integrations()[0].id, integration.id);
}
