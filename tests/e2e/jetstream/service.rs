//! The service is away, refuses, is slow, or says nothing: what it has not taken comes again, and nothing else does.

use std::time::{Duration, Instant};

use test_support::{Delivery, DistributorProcess, PublishedEvent, Rate, Reply};
use tokio::time::sleep;

use super::rig::{IN_TIME, Rig, extent, peak_mebibytes};
use crate::harness::{lines_with, post};

/// Events at this rate are held by the stream and not in memory while the service is away.
const RATE: f64 = 100.0;

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
    let rig = Rig::start().await;
    let process = rig.process(&[]).await;
    let answer_time = Duration::from_millis(50);
    rig.recipient
        .respond_with(move |_, _| Reply::status(200).after(answer_time));
    let published = rig.published("e", 1000, extent(2000, 50_000)).await;
    let start = Instant::now();
    let n = extent(900, 6000);
    rig.recipient.wait_until_accepted(n, IN_TIME).await.unwrap();
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let per_second = n as f64 / start.elapsed().as_secs_f64();
    println!("{per_second:.0} events/s, peak {} MiB", peak_mebibytes(&process));
    assert!(per_second >= extent(240.0, 300.0), "{per_second:.0}/s");
    rig.recipient.respond_with(|_, _| Reply::status(200));
    let verdict = rig.everything_settled(&published).await;
    assert!(verdict.is_perfect(), "{verdict}");
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
async fn a_service_that_has_started_to_work_is_not_asked_twice() {
    let rig = Rig::start().await;
    let mut process = rig.starting_process(&[("DELIVERY_TIMEOUT", "1s"), ("DELIVERY_BACKOFF_DELAY", "10ms")]);
    process.wait_until_ready(IN_TIME).await.unwrap();
    process.wait_for_log("durable consumer", IN_TIME).await.unwrap();
    rig.recipient
        .respond_with(|_, nth| if nth == 0 { Reply::Hang } else { Reply::status(200) });
    let published = rig.published("e", 1, 1).await;
    rig.recipient.wait_until_received(1, IN_TIME).await.unwrap();
    let started = format!(
        r#"{{"specversion":"1.0","id":"answer","source":"service","type":"sh.keptn.event.task.started","triggeredid":"{}"}}"#,
        published[0].id
    );
    let answer = post(process.proxy_address(), started).await;
    assert_eq!(answer.status, 200);
    let line = process.wait_for_log("did not answer in time", IN_TIME).await.unwrap();
    assert!(line.contains(&*published[0].id), "{line}");
    rig.acknowledged().await;
    assert_eq!(
        rig.recipient.n_received(),
        2,
        "the event, and its answer that came back from the stream"
    );
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

#[tokio::test]
async fn what_always_fails_is_one_dead_letter_after_all_attempts() {
    let rig = Rig::start().await;
    let variables = [("DELIVERY_RETRY", "2"), ("DELIVERY_BACKOFF_DELAY", "10ms")];
    let process = rig.process(&variables).await;
    rig.answer_keys(|key| key == "e.1", 500);
    let published = rig.published("e", 3, 30).await;
    let (poisoned, sound): (Vec<_>, Vec<_>) = published.into_iter().partition(|event| &*event.key == "e.1");
    rig.everything_settled(&sound).await;
    process.wait_for_log("in the dead letters", IN_TIME).await.unwrap();
    rig.acknowledged().await;
    let letters = rig.dead_letters().await;
    assert_eq!(letters.len(), poisoned.len());
    for (letter, event) in letters.iter().zip(&poisoned) {
        let header = |name: &str| letter.headers.as_ref().unwrap().get(name).unwrap().as_str();
        assert_eq!(header("Distributor-Event-Id"), &*event.id);
        assert_eq!(header("Distributor-Reason"), "retries_exhausted");
        assert_eq!(header("Distributor-Status"), "500");
        assert_eq!(header("Distributor-Attempts"), "3");
        assert!(String::from_utf8_lossy(&letter.payload).contains(&*event.id));
    }
    let attempts: Vec<_> = deliveries_of(&rig, &poisoned[0])
        .iter()
        .map(|delivery| delivery.attempt)
        .collect();
    assert_eq!(attempts, [Some(1), Some(2), Some(3)]);
}

fn deliveries_of(rig: &Rig, event: &PublishedEvent) -> Vec<Delivery> {
    let deliveries = rig.recipient.deliveries();
    deliveries
        .into_iter()
        .filter(|delivery| *delivery.id == *event.id)
        .collect()
}

#[tokio::test]
async fn a_final_answer_is_a_dead_letter_at_once() {
    let rig = Rig::start().await;
    let process = rig.process(&[]).await;
    rig.answer_keys(|key| key == "e.0", 422);
    let published = rig.published("e", 2, 2).await;
    process.wait_for_log("in the dead letters", IN_TIME).await.unwrap();
    rig.acknowledged().await;
    assert_eq!(rig.dead_letters().await.len(), 1);
    assert_eq!(deliveries_of(&rig, &published[0]).len(), 1);
}

#[tokio::test]
async fn what_is_no_event_is_a_dead_letter_as_it_came() {
    let rig = Rig::start().await;
    let _process = rig.process(&[]).await;
    let deep = "[".repeat(100_000);
    let malformed: [&[u8]; 7] = [
        b"not JSON",
        b"[]",
        br#"{"specversion":"1.0","id":"i","type":"t"}"#,
        br#"{"specversion":"1.0","id":"i","source":"s"}"#,
        b"\xff\xfe\x00",
        b"1",
        deep.as_bytes(),
    ];
    for payload in malformed {
        rig.publish_bytes("sh.keptn.event.task.triggered", payload.to_vec())
            .await;
    }
    let published = rig.published("e", 2, 10).await;
    let verdict = rig.everything_settled(&published).await;
    assert!(verdict.is_perfect(), "{verdict}");
    let mut letters: Vec<_> = rig
        .dead_letters()
        .await
        .into_iter()
        .map(|letter| letter.payload.to_vec())
        .collect();
    letters.sort();
    let mut expected = malformed.map(<[u8]>::to_vec);
    expected.sort();
    assert_eq!(letters, expected);
}

#[tokio::test]
async fn a_full_store_of_dead_letters_holds_events_back() {
    let rig = Rig::start().await;
    let variables = [("DELIVERY_RETRY", "0"), ("DEAD_LETTER_MAX_BYTES", "4KiB")];
    let process = rig.process(&variables).await;
    rig.answer_keys(|_| true, 400);
    rig.published("e", 10, 10).await;
    process
        .wait_for_log("cannot store a dead letter", IN_TIME)
        .await
        .unwrap();
    let n_stored = rig.dead_letters().await.len();
    let n_held = rig.consumer().await.num_ack_pending;
    assert!(
        n_stored < 10 && n_stored + n_held >= 10,
        "{n_stored} stored, {n_held} held back"
    );
    rig.jetstream
        .get_stream("DISTRIBUTOR_DLQ")
        .await
        .unwrap()
        .purge()
        .await
        .unwrap();
    process.wait_for_log("in the dead letters", IN_TIME).await.unwrap();
    let n_stored_later = async || n_stored + rig.dead_letters().await.len() > n_stored;
    test_support::eventually(IN_TIME, n_stored_later).await.unwrap();
}

#[tokio::test]
async fn an_event_that_waits_for_another_attempt_goes_back_at_the_end() {
    let rig = Rig::start().await;
    let variables = [("DELIVERY_BACKOFF_DELAY", "10m"), ("DELIVERY_BACKOFF_MAX", "10m")];
    let mut process: DistributorProcess = rig.process(&variables).await;
    rig.recipient
        .respond_with(|_, nth| Reply::status(if nth == 0 { 500 } else { 200 }));
    let published = rig.published("e", 1, 1).await;
    process.wait_for_log("trying again", IN_TIME).await.unwrap();
    process.terminate().unwrap();
    assert_eq!(process.wait_exit(IN_TIME).await.unwrap().code(), Some(0));
    let _process = rig.process(&variables).await;
    let verdict = rig.everything_settled(&published).await;
    assert!(verdict.is_perfect(), "{verdict}");
    assert_eq!(rig.dead_letters().await.len(), 0);
}
