//! The machine gives less than is wanted.

use std::path::Path;
use std::time::Duration;

use test_support::{DistributorProcess, OutputTo, Rate, Reply};

use super::rig::{IN_TIME, Rig};
use crate::harness::BINARY;

#[tokio::test]
async fn too_few_file_descriptors_delay_events_and_lose_none() {
    let rig = Rig::start().await;
    // Enough to start with: plugin, NATS, listener; not enough for a connection for each of 64 deliveries.
    let limited = format!("ulimit -n 24; exec {BINARY} run");
    let (url, port) = (rig.nats.url(), rig.recipient.port().to_string());
    let environment = [
        ("PUBSUB_URL", url.as_str()),
        ("PUBSUB_RECIPIENT_PORT", &port),
        ("PUBSUB_TOPIC", "sh.keptn.>"),
        ("PUBSUB_GROUP", "group"),
        ("DELIVERY_CONCURRENCY", "64"),
    ];
    let process =
        DistributorProcess::start_with(Path::new("/bin/sh"), &["-c", &limited], &environment, OutputTo::Memory);
    let process = process.unwrap();
    process.wait_for_log("durable consumer", IN_TIME).await.unwrap();
    rig.recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_millis(20)));
    let publisher = rig.publish("e", 200, Rate::Unlimited, Some(600));
    let published = publisher.finish(IN_TIME).await.unwrap();
    let verdict = rig.everything_settled(&published).await;
    assert!(verdict.is_perfect(), "{verdict}");
    let n = process.n_file_descriptors().unwrap();
    assert!(n < 32, "the limit holds: {n} file descriptors");
}

#[tokio::test]
async fn large_events_are_bounded_by_their_bytes() {
    const N: usize = 100;
    let rig = Rig::start().await;
    let process = rig.process(&[("DELIVERY_MAX_INFLIGHT_BYTES", "4MiB")]).await;
    rig.recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_millis(20)));
    let filler = "x".repeat(900_000);
    for number in 0..N {
        let event = format!(
            r#"{{"specversion":"1.0","id":"large-{number}","source":"s","type":"sh.keptn.event.task.triggered","shkeptncontext":"c{number}","data":"{filler}"}}"#
        );
        rig.publish_bytes("sh.keptn.event.task.triggered", event).await;
    }
    rig.recipient.wait_until_accepted(N, IN_TIME).await.unwrap();
    rig.acknowledged().await;
    assert_eq!(rig.recipient.n_received(), N);
    let peak = process.peak_resident_memory().unwrap() >> 20;
    println!("{N} events of 900 KB, peak {peak} MiB");
    assert!(peak < 64, "{peak} MiB");
}

#[tokio::test]
async fn an_event_larger_than_all_the_room_is_delivered() {
    let rig = Rig::start().await;
    let _process = rig.process(&[("DELIVERY_MAX_INFLIGHT_BYTES", "10KiB")]).await;
    let large = format!(
        r#"{{"specversion":"1.0","id":"large","source":"s","type":"t","data":"{}"}}"#,
        "x".repeat(500_000)
    );
    let published = rig.published("e", 10, 50).await;
    rig.publish_bytes("sh.keptn.event.task.triggered", large).await;
    rig.published("f", 10, 50).await;
    rig.recipient
        .wait_until_accepted(published.len() + 51, IN_TIME)
        .await
        .unwrap();
    rig.acknowledged().await;
}
