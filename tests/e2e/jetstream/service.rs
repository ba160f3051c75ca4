//! The service is away, refuses, is slow, or says nothing: what it has not taken comes again, and nothing else does.

use std::time::Duration;

use test_support::{Rate, Reply};
use tokio::time::{Instant, sleep};

use super::rig::{IN_TIME, Rig, extent, peak_mebibytes};
use crate::harness::lines_with;

/// Events at this rate are held by the stream and not in memory while the service is away.
const RATE: f64 = 100.0;
/// Deliveries at the same time, unless configured otherwise.
const CONCURRENCY: f64 = 16.0;

#[tokio::test]
async fn what_comes_while_the_service_is_down_is_delivered_when_it_is_back() {
    let mut rig = Rig::start().await;
    let process = rig.process(&[]).await;
    let down_for = extent(Duration::from_secs(3), Duration::from_secs(12));
    let publisher = rig.publish("e", 50, Rate::PerSecond(RATE), None);
    rig.recipient.wait_until_accepted(20, IN_TIME).await.unwrap();
    rig.recipient.stop().await;
    // The outage itself is the load.
    sleep(down_for).await;
    assert!(
        rig.consumer().await.num_ack_pending <= 256 + 64,
        "no more than memory takes"
    );
    rig.recipient.start_again().await.unwrap();
    let n_published = publisher.n_published();
    rig.recipient.wait_until_accepted(n_published, IN_TIME).await.unwrap();
    let published = publisher.stop().await;
    let verdict = rig.everything_settled(&published).await;
    println!(
        "down for {down_for:?}: {verdict}, peak {} MiB",
        peak_mebibytes(&process)
    );
    assert!(verdict.is_perfect(), "{verdict}");
    let late = rig
        .recipient
        .deliveries()
        .into_iter()
        .find(|delivery| delivery.attempt > Some(1));
    assert!(late.is_none(), "waiting for the service uses no attempts: {late:?}");
    assert_eq!(lines_with(&process, "the service is not ready").len(), 1);
}

#[tokio::test]
async fn what_is_answered_with_503_for_a_while_arrives_in_order() {
    let rig = Rig::start().await;
    let process = rig
        .process(&[("DELIVERY_BACKOFF_MAX", "500ms"), ("DELIVERY_RETRY", "100")])
        .await;
    let lasts = extent(Duration::from_secs(2), Duration::from_secs(5));
    let publisher = rig.publish("e", 50, Rate::PerSecond(RATE), None);
    rig.recipient.wait_until_accepted(20, IN_TIME).await.unwrap();
    rig.recipient.respond_with(|_, _| Reply::status(503));
    sleep(lasts).await;
    rig.recipient.respond_with(|_, _| Reply::status(200));
    let published = publisher.stop().await;
    let verdict = rig.everything_settled(&published).await;
    println!("503 for {lasts:?}: {verdict}, peak {} MiB", peak_mebibytes(&process));
    assert!(verdict.is_perfect(), "{verdict}");
}

#[tokio::test]
async fn a_slow_service_is_driven_at_its_concurrency() {
    driven(Duration::from_millis(50), extent(900, 6000)).await;
}

#[tokio::test]
async fn a_very_slow_service_is_driven_at_its_concurrency() {
    driven(Duration::from_secs(1), extent(48, 640)).await;
}

/// With a backlog, a service that takes so long gets the first `n` events as fast as it can take them.
async fn driven(answer_time: Duration, n: usize) {
    let rig = Rig::start().await;
    let process = rig.process(&[]).await;
    rig.recipient
        .respond_with(move |_, _| Reply::status(200).after(answer_time));
    let published = rig.published("e", 1000, extent(2000, 50_000)).await;
    let n_before = rig.recipient.n_accepted();
    let start = Instant::now();
    rig.recipient.wait_until_accepted(n_before + n, IN_TIME).await.unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let per_second = n as f64 / start.elapsed().as_secs_f64();
    let possible = CONCURRENCY / answer_time.as_secs_f64();
    println!(
        "{answer_time:?} for each request: {per_second:.0} events/s of {possible:.0}, peak {} MiB",
        peak_mebibytes(&process)
    );
    assert!(per_second >= extent(0.75, 0.93) * possible, "{per_second:.0}/s");
    rig.recipient.respond_with(|_, _| Reply::status(200));
    let verdict = rig.everything_settled(&published).await;
    assert!(verdict.is_perfect(), "{verdict}");
    peak_mebibytes(&process);
}

#[tokio::test]
async fn a_service_that_takes_longer_than_the_stream_waits_gets_each_event_once() {
    let rig = Rig::start().await;
    let process = rig.process(&[("JETSTREAM_ACK_WAIT", "1s")]).await;
    rig.recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_secs(3)));
    let published = rig.published("e", 64, 64).await;
    let verdict = rig.everything_settled(&published).await;
    assert!(verdict.is_perfect(), "{verdict}");
    assert_eq!(verdict.n_attempts, 64);
    peak_mebibytes(&process);
}

#[tokio::test]
async fn a_service_that_hangs_without_a_sign_is_asked_again() {
    let rig = Rig::start().await;
    let variables = [("DELIVERY_TIMEOUT", "500ms"), ("DELIVERY_BACKOFF_DELAY", "10ms")];
    let _process = rig.process(&variables).await;
    rig.recipient
        .respond_with(|_, nth| if nth == 0 { Reply::Hang } else { Reply::status(200) });
    let published = rig.published("e", 1, 1).await;
    let verdict = rig.everything_settled(&published).await;
    assert_eq!(verdict.n_attempts, 2, "{verdict}");
}

#[tokio::test]
async fn no_answer_can_be_taken_for_an_answer() {
    let rig = Rig::start().await;
    let process = rig
        .process(&[("DELIVERY_TIMEOUT", "300ms"), ("DELIVERY_ON_TIMEOUT", "accept")])
        .await;
    rig.recipient.respond_with(|_, _| Reply::Hang);
    rig.published("e", 1, 1).await;
    process.wait_for_log("did not answer in time", IN_TIME).await.unwrap();
    rig.acknowledged().await;
    assert_eq!(rig.recipient.n_received(), 1);
}
