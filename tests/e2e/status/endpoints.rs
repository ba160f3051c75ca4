//! `GET /status`, `/subscriptions` and `/events`.

use test_support::Reply;

use super::{Site, headline};
use crate::harness::*;

#[tokio::test]
async fn what_flows_is_counted() {
    let site = Site::start(&[]).await;
    let status = site.get("/status").await;
    assert!(
        headline(&status).starts_with("Ready: no event has come yet"),
        "{status:#}"
    );
    assert_eq!(status["findings"][0]["level"], "ok");

    site.peers.publish_all(events("e", 5)).await;
    let status = site
        .wait_for("/status", |status| status["flow"]["delivered"]["total"] == 5)
        .await;
    assert_eq!(status["flow"]["received"]["total"], 5);
    let status = site.wait_for("/status", |status| {
        status["flow"]["delivered"]["per_second"].as_f64() > Some(0.0)
    });
    assert_eq!(status.await["plugins"]["plugins"][0]["name"], "keptn-filter");
    let subscriptions = site.get("/subscriptions").await;
    assert_eq!(subscriptions["subscriptions"][0]["event"], "sh.keptn.>");
    assert_eq!(subscriptions["subscriptions"][0]["received_from"], "the stream keptn");
}

#[tokio::test]
async fn a_service_that_is_away_is_said_with_what_waits() {
    let mut site = Site::start(&[("DELIVERY_MAX_INFLIGHT", "4")]).await;
    site.peers.recipient.stop().await;
    site.peers.publish_all(events("e", 100)).await;
    let is_held_back = |status: &serde_json::Value| {
        headline(status).starts_with("Held back: the service at http://127.0.0.1:")
            && headline(status).contains("events wait in NATS")
    };
    let status = site.wait_for("/status", is_held_back).await;
    assert_eq!(status["findings"][0]["level"], "stuck");
    assert!(
        status["held_back"]["error"]
            .as_str()
            .unwrap()
            .contains("cannot connect"),
        "{status:#}"
    );

    site.peers.recipient.start_again().await.unwrap();
    let status = site
        .wait_for("/status", |status| status["flow"]["delivered"]["total"] == 100)
        .await;
    assert_eq!(status["held_back"], serde_json::Value::Null);
}

#[tokio::test]
async fn an_event_that_is_tried_again_is_shown_with_its_error_and_its_path() {
    let site = Site::start(&[("DELIVERY_BACKOFF_DELAY", "1h"), ("DELIVERY_BACKOFF_MAX", "1h")]).await;
    site.peers
        .recipient
        .respond_with(|request, _| match event_id(request).as_str() {
            "stuck" => Reply::json(500, &serde_json::json!("the database is away")),
            _ => Reply::status(200),
        });
    site.peers.publish(&event("stuck")).await;
    site.peers.publish(&event("behind")).await;
    let is_behind = |status: &serde_json::Value| status["retrying"][0]["n_behind"] == 1;
    let status = site.wait_for("/status", is_behind).await;
    let retrying = &status["retrying"][0];
    assert_eq!((&retrying["id"], &retrying["attempts"]), (&"stuck".into(), &1.into()));
    assert!(
        retrying["error"].as_str().unwrap().contains("the database is away"),
        "{retrying:#}"
    );
    assert!(headline(&status).contains("the database is away"), "{status:#}");

    let events = site.get("/events").await;
    let event = &events["events"][0];
    assert_eq!(
        (&event["id"], &event["type"]),
        (&"stuck".into(), &TASK_TRIGGERED.into())
    );
    assert_eq!(event["path"][0]["step"], "attempt-failed");
    assert!(event.get("data").is_none());
}

#[tokio::test]
async fn what_is_filtered_and_delivered_is_shown_while_somebody_looks() {
    let site = Site::start(&[("PROJECT_FILTER", "mine")]).await;
    site.get("/events").await;
    let in_project = |id: &str, project: &str| test_support::KeptnEvent {
        project: project.to_owned(),
        ..event(id)
    };
    site.peers.publish(&in_project("theirs", "theirs")).await;
    site.peers.publish(&in_project("mine", "mine")).await;
    site.peers.delivered(1).await;
    let events = site
        .wait_for("/events", |events| events["events"][1]["id"] == "theirs")
        .await;
    let [delivered, filtered] = [0, 1].map(|number| &events["events"][number]);
    assert_eq!(
        (&delivered["id"], &delivered["path"][0]["step"]),
        (&"mine".into(), &"delivered".into())
    );
    assert_eq!(filtered["path"][0]["step"], "dropped");
    let why = filtered["path"][0]["text"].as_str().unwrap();
    assert!(why.contains("keptn-filter"), "{why}");
}

#[tokio::test]
async fn an_outage_of_nats_is_said_and_over_when_it_is() {
    let mut site = Site::start(&[]).await;
    site.peers.nats.stop().await.unwrap();
    let is_away =
        |status: &serde_json::Value| headline(status).starts_with("No events come: there is no connection to NATS");
    let status = site.wait_for("/status", is_away).await;
    assert_eq!(status["connections"][0]["is_up"], false);
    site.peers.nats.restart().await.unwrap();
    site.wait_for("/status", |status| headline(status).starts_with("Ready"))
        .await;
}

#[tokio::test]
async fn what_the_service_sends_is_shown_while_somebody_looks() {
    let site = Site::start(&[]).await;
    site.get("/events").await;
    let sent = post(site.process.proxy_address(), event("answer").to_bytes()).await;
    assert_eq!(sent.status, 200);
    let is_there = |events: &serde_json::Value| {
        let mut events = events["events"].as_array().unwrap().iter();
        events.any(|event| event["id"] == "answer" && event["path"][0]["step"] == "forwarded")
    };
    site.wait_for("/events", is_there).await;
    let status = site.get("/status").await;
    assert_eq!(status["flow"]["forwarded"]["total"], 1);
}
