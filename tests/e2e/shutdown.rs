//! The end: what was received is delivered, within limits.

use std::cell::Cell;
use std::time::Duration;

use test_support::{Reply, eventually, http_request};
use tokio::time::Instant;

use crate::harness::*;

const STOPPING: &str = "shutting down";

#[tokio::test]
async fn a_distributor_with_nothing_to_do_ends_at_once_with_exit_code_0() {
    let peers = Peers::start().await;
    let mut process = peers.process(&[ALL_TOPICS]).await;
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    assert!(!lines_with(&process, "stopped: received=0").is_empty());
}

#[tokio::test]
async fn what_nats_has_sent_before_the_end_is_delivered() {
    let peers = Peers::start().await;
    peers
        .recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_millis(20)));
    let mut process = peers.process(&[ALL_TOPICS]).await;

    peers.publish_all(events("e", 20)).await;
    peers.everything_is_sent().await;
    process.terminate().unwrap();

    assert_eq!(exit_code(&mut process).await, 0);
    assert_same(&peers.delivered_ids(20).await, &numbered_ids("e", 20));
    assert_eq!(lines_with(&process, "stopped: received=20").len(), 1);
    assert_eq!(lines_with(&process, "delivered=20").len(), 1);
    assert!(lines_with(&process, "ERROR").is_empty());
}

#[tokio::test]
async fn events_that_come_after_the_signal_are_left_to_others() {
    let peers = Peers::start().await;
    peers
        .recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_millis(200)));
    let mut process = peers.process(&[ALL_TOPICS]).await;
    peers.publish(&event("e1")).await;
    peers.delivered(1).await;

    process.terminate().unwrap();
    peers.wait_for_listening("sh.keptn.>", 0).await;
    peers.publish(&event("late")).await;

    assert_eq!(exit_code(&mut process).await, 0);
    assert_eq!(peers.delivered_ids(1).await, ["e1"]);
}

#[tokio::test]
async fn a_failing_delivery_is_tried_again_during_the_end() {
    let peers = Peers::start().await;
    peers
        .recipient
        .respond_with(|_, nth| Reply::status(if nth < 2 { 500 } else { 200 }));
    let mut process = peers.process(&[ALL_TOPICS]).await;

    peers.publish(&event("e1")).await;
    peers.delivered(1).await;
    process.terminate().unwrap();

    assert_eq!(exit_code(&mut process).await, 0);
    assert_eq!(peers.delivered_ids(3).await, ["e1", "e1", "e1"]);
}

#[tokio::test]
async fn what_is_not_delivered_in_time_is_counted_in_the_log() {
    let peers = Peers::start().await;
    peers.recipient.respond_with(|_, _| Reply::Hang);
    let mut process = peers.process(&[ALL_TOPICS, ("SHUTDOWN_DRAIN_TIMEOUT", "200ms")]).await;

    peers.publish_all(events("e", 3)).await;
    peers.everything_is_sent().await;
    peers.delivered(1).await;
    process.terminate().unwrap();

    assert_eq!(exit_code(&mut process).await, 0);
    let lost = lines_with(&process, "these events are lost");
    assert_eq!(lost.len(), 1);
    assert!(lost[0].contains("ERROR") && lost[0].contains("lost=3"), "{lost:?}");
}

#[tokio::test]
async fn the_second_signal_ends_it_at_once() {
    let peers = Peers::start().await;
    peers.recipient.respond_with(|_, _| Reply::Hang);
    let mut process = peers.process(&[ALL_TOPICS, ("SHUTDOWN_DRAIN_TIMEOUT", "10m")]).await;
    peers.publish(&event("e1")).await;
    peers.delivered(1).await;

    process.terminate().unwrap();
    process.wait_for_log(STOPPING, SOON).await.unwrap();
    process.terminate().unwrap();

    assert_eq!(exit_code(&mut process).await, 1);
    assert_eq!(lines_with(&process, "second signal").len(), 1);
}

#[tokio::test]
async fn the_service_can_send_its_last_events_during_the_end() {
    let peers = Peers::start().await;
    peers
        .recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_millis(500)));
    let mut process = peers.process(&[ALL_TOPICS]).await;
    let mut control_plane = peers.listen("com.example.answer").await;
    peers.publish(&event("e1")).await;
    peers.delivered(1).await;

    process.terminate().unwrap();
    process.wait_for_log(STOPPING, SOON).await.unwrap();
    let answer = String::from_utf8_lossy(&event("answer").to_bytes()).replace(TASK_TRIGGERED, "com.example.answer");
    assert_eq!(post(process.proxy_address(), answer).await.status, 200);

    assert_eq!(control_plane.next_ids(1).await, ["answer"]);
    assert_eq!(exit_code(&mut process).await, 0);
    assert!(
        http_request(process.proxy_address(), "GET", "/health", &[], "")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn nats_being_away_does_not_delay_the_end() {
    let mut peers = Peers::start().await;
    let app = peers.app(&[ALL_TOPICS]).await;
    let mut process = peers.process(&[ALL_TOPICS]).await;
    peers.nats.stop().await.unwrap();
    process.wait_for_log("lost the connection to NATS", SOON).await.unwrap();

    let start = Instant::now();
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    app.shut_down().await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_member_of_a_group_leaves_without_losing_an_event() {
    let (peers, other) = (Peers::start().await, Peers::start().await);
    let other_port = other.recipient.port().to_string();
    let group = ("PUBSUB_GROUP", "my-svc");
    let mut leaving = peers.process(&[ALL_TOPICS, group]).await;
    let _staying = peers
        .process(&[ALL_TOPICS, group, ("PUBSUB_RECIPIENT_PORT", &other_port)])
        .await;

    // Bursts of events come before, while and after it leaves, no faster than they are delivered.
    let n_published = Cell::new(0);
    let n_delivered = || peers.recipient.n_received() + other.recipient.n_received();
    let publish_burst = async || {
        for _ in 0..200 {
            peers.publish(&event(&format!("e-{}", n_published.get()))).await;
            n_published.set(n_published.get() + 1);
        }
        let keeps_pace = async || n_delivered() + 400 >= n_published.get();
        eventually(SOON, keeps_pace).await.unwrap();
    };
    publish_burst().await;
    leaving.terminate().unwrap();
    tokio::select! {
        code = exit_code(&mut leaving) => assert_eq!(code, 0),
        () = async { loop { publish_burst().await } } => {}
    }

    let _ = eventually(SOON, async || n_delivered() >= n_published.get()).await;
    let mut ids: Vec<_> = [peers.recipient.journal(), other.recipient.journal()]
        .concat()
        .iter()
        .map(event_id)
        .collect();
    ids.sort_by_key(|id| id[2..].parse::<usize>().unwrap());
    assert_same(&ids, &numbered_ids("e", n_published.get()));
}
