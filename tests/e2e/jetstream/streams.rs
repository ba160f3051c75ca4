//! Streams come, go, and are not all of the right kind.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, RetentionPolicy};
use test_support::{NatsServer, NatsVersion, ProxyMode, TcpProxy, create_keptn_stream, eventually, keptn_stream};

use super::rig::{IN_TIME, Rig, STREAM, numbered};
use crate::harness::lines_with;

const OVER_CORE: &str = "received over core NATS: at most once";
const FROM_STREAM: &str = "received from a stream: at least once";

#[tokio::test]
async fn a_deleted_stream_is_replaced_by_core_nats_until_there_is_one_again() {
    for version in NatsVersion::ALL {
        let rig = Rig::start_version(version).await;
        let process = rig.process(&[]).await;
        let mut published = rig.published("stored", 5, 50).await;
        rig.everything_settled(&published).await;

        rig.jetstream.delete_stream(STREAM).await.unwrap();
        process.wait_for_log("the stream is gone", IN_TIME).await.unwrap();
        let line = process.wait_for_log(OVER_CORE, IN_TIME).await.unwrap();
        assert!(line.contains("sh.keptn.>"), "{line}");
        listens_to(&rig, "sh.keptn.>", true).await;
        published.extend(core_published(&rig, "unstored", 5).await);
        rig.recipient.wait_until_accepted(55, IN_TIME).await.unwrap();

        create_keptn_stream(&rig.jetstream).await.unwrap();
        let is_back = async || lines_with(&process, "created the durable consumer").len() == 2;
        eventually(IN_TIME, is_back).await.unwrap();
        published.extend(rig.published("again", 5, 50).await);
        let verdict = rig.everything_settled(&published).await;
        assert!(verdict.is_perfect(), "{version:?}: {verdict}");
        listens_to(&rig, "sh.keptn.>", false).await;
    }
}

#[tokio::test]
async fn a_stream_that_was_made_anew_behind_our_back_is_read_from_its_start() {
    for version in NatsVersion::ALL {
        let rig = Rig::start_version(version).await;
        let proxy = TcpProxy::start(rig.nats.address()).await.unwrap();
        let url = format!("nats://{}", proxy.address());
        let process = rig.process(&[("PUBSUB_URL", &url)]).await;
        let mut published = rig.published("old", 5, 50).await;
        rig.everything_settled(&published).await;

        proxy.switch_to(ProxyMode::Hold).await;
        rig.jetstream.delete_stream(STREAM).await.unwrap();
        create_keptn_stream(&rig.jetstream).await.unwrap();
        // The same sequences as before, and fewer of them.
        published.extend(rig.published("new", 5, 30).await);
        proxy.switch_to(ProxyMode::Pass).await;
        let verdict = rig.everything_settled(&published).await;
        assert!(verdict.is_perfect(), "{version:?}: {verdict}");
        assert!(lines_with(&process, OVER_CORE).is_empty());
    }
}

#[tokio::test]
async fn jetstream_may_be_switched_off_and_on() {
    for version in NatsVersion::ALL {
        let mut rig = Rig::start_version(version).await;
        let mut process = rig.process(&[]).await;
        let mut published = rig.published("before", 5, 50).await;
        rig.everything_settled(&published).await;
        process.pause().await.unwrap();
        published.extend(rig.published("stored", 5, 50).await);
        rig.nats
            .restart_with(|settings| settings.jetstream(false))
            .await
            .unwrap();
        process.resume().unwrap();
        let line = process
            .wait_for_log("cannot get the durable consumer", IN_TIME)
            .await
            .unwrap();
        assert!(line.contains("JetStream"), "{line}");
        // An outage is no reason to receive on a way that keeps nothing.
        process.wait_exit(Duration::from_secs(2)).await.unwrap_err();
        assert!(lines_with(&process, OVER_CORE).is_empty());
        assert_eq!(lines_with(&process, "cannot get the durable consumer").len(), 1);

        rig.nats
            .restart_with(|settings| settings.jetstream(true))
            .await
            .unwrap();
        let verdict = rig.everything_settled(&published).await;
        assert!(verdict.is_perfect(), "{version:?}: {verdict}");
    }
}

#[tokio::test]
async fn a_server_without_jetstream_is_used_as_it_is() {
    for version in NatsVersion::ALL {
        let nats = NatsServer::builder().version(version).start().await.unwrap();
        let rig = Rig {
            jetstream: nats.jetstream().await.unwrap(),
            nats,
            recipient: test_support::Recipient::start_light_on(0).await.unwrap(),
        };
        let process = rig.starting_process(&[]);
        let line = process.wait_for_log(OVER_CORE, IN_TIME).await.unwrap();
        assert!(line.contains("nobody answers $JS.API"), "{line}");
        listens_to(&rig, "sh.keptn.>", true).await;
        let published = core_published(&rig, "e", 5).await;
        rig.recipient.wait_until_accepted(5, IN_TIME).await.unwrap();
        assert!(rig.verdict(&published).is_perfect());
    }
}

#[tokio::test]
async fn the_mode_jetstream_waits_for_a_stream_and_never_uses_core() {
    let rig = Rig::without_stream(NatsServer::builder()).await;
    let process = rig.starting_process(&[("DELIVERY_MODE", "jetstream")]);
    let line = process
        .wait_for_log("not received: waiting for a stream", IN_TIME)
        .await
        .unwrap();
    assert!(line.contains("sh.keptn.>"), "{line}");
    listens_to(&rig, "sh.keptn.>", false).await;
    create_keptn_stream(&rig.jetstream).await.unwrap();
    process
        .wait_for_log("created the durable consumer", IN_TIME)
        .await
        .unwrap();
    let published = rig.published("e", 5, 50).await;
    let verdict = rig.everything_settled(&published).await;
    assert!(verdict.is_perfect(), "{verdict}");
    assert_eq!(lines_with(&process, "not received").len(), 1);
    assert!(lines_with(&process, "subscribed").is_empty());
}

#[tokio::test]
async fn the_mode_core_never_uses_a_stream() {
    let rig = Rig::start().await;
    let process = rig.starting_process(&[("DELIVERY_MODE", "core")]);
    listens_to(&rig, "sh.keptn.>", true).await;
    let published = rig.published("e", 5, 50).await;
    rig.recipient.wait_until_accepted(50, IN_TIME).await.unwrap();
    assert!(rig.verdict(&published).is_perfect());
    assert_eq!(rig.consumers().await.len(), 0);
    assert!(lines_with(&process, FROM_STREAM).is_empty());
}

#[tokio::test]
async fn streams_that_delete_what_one_consumer_took_are_not_used() {
    for retention in [RetentionPolicy::WorkQueue, RetentionPolicy::Interest] {
        let rig = Rig::without_stream(NatsServer::builder()).await;
        let config = Config {
            retention,
            ..keptn_stream(STREAM, &["sh.keptn.>"], 1)
        };
        rig.jetstream.create_stream(config).await.unwrap();
        let process = rig.starting_process(&[]);
        process.wait_for_log(OVER_CORE, IN_TIME).await.unwrap();
        listens_to(&rig, "sh.keptn.>", true).await;
        let published = rig.published("e", 5, 10).await;
        rig.recipient.wait_until_accepted(10, IN_TIME).await.unwrap();
        assert!(rig.verdict(&published).is_perfect());
        assert_eq!(rig.consumers().await.len(), 0, "{retention:?}");
        assert!(lines_with(&process, FROM_STREAM).is_empty());
    }
}

/// Waits until a distributor listens to the subject over core NATS, or none does.
async fn listens_to(rig: &Rig, subject: &str, expected: bool) {
    let listens = async || {
        let clients = rig.nats.clients().await.unwrap_or_default();
        let mut distributors = clients.iter().filter(|client| client.name == "distributor");
        distributors.any(|client| client.subscriptions.iter().any(|(other, _)| other == subject)) == expected
    };
    eventually(IN_TIME, listens).await.unwrap();
}

/// Publishes without asking whether a stream has it, as the control plane does.
async fn core_published(rig: &Rig, name: &str, n: usize) -> Vec<test_support::PublishedEvent> {
    let client = rig.nats.client().await.unwrap();
    let mut all = Vec::new();
    for (published, event) in numbered(name, 2).take(n) {
        client.publish(event.ty.clone(), event.to_bytes()).await.unwrap();
        all.push(published);
    }
    client.flush().await.unwrap();
    all
}
