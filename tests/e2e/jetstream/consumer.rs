//! The durable consumer: it vanishes, belongs to somebody else, or is chosen by name.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull, push};
use test_support::{NatsVersion, Rate, Reply, eventually};

use super::rig::{IN_TIME, Rig, STREAM, extent};
use crate::harness::lines_with;

#[tokio::test]
async fn a_consumer_that_is_deleted_is_made_again_where_it_was() {
    for version in NatsVersion::ALL {
        let rig = Rig::start_version(version).await;
        rig.recipient
            .respond_with(|_, _| Reply::status(200).after(Duration::from_millis(10)));
        let process = rig.process(&[]).await;
        let publisher = rig.publish("e", 50, Rate::PerSecond(500.0), None);
        let stream = rig.jetstream.get_stream(STREAM).await.unwrap();
        let durable = rig.consumer().await.name;
        let n_deletions = extent(3, 20);
        for n in 1..=n_deletions {
            let n_wanted = rig.recipient.n_accepted() + 100;
            rig.recipient.wait_until_accepted(n_wanted, IN_TIME).await.unwrap();
            // An old server may fail to delete its files while it writes them, and forgets the consumer all the same.
            let _ = stream.delete_consumer(&durable).await;
            let is_back = async || lines_with(&process, "created the durable consumer").len() == n + 1;
            eventually(IN_TIME, is_back).await.unwrap();
        }
        let published = publisher.stop().await;
        let verdict = rig.everything_settled(&published).await;
        println!("{version:?}, consumer deleted {n_deletions} times: {verdict}");
        assert!(verdict.is_perfect(), "{version:?}: {verdict}");
        assert_eq!(rig.consumer().await.name, durable);
    }
}

#[tokio::test]
async fn a_consumer_that_vanishes_with_the_network_is_made_again_where_it_was() {
    let mut rig = Rig::start().await;
    let process = rig.process(&[]).await;
    let mut published = rig.published("before", 5, 50).await;
    rig.everything_settled(&published).await;
    let durable = rig.consumer().await.name;
    process.pause().await.unwrap();
    published.extend(rig.published("unseen", 5, 50).await);
    let stream = rig.jetstream.get_stream(STREAM).await.unwrap();
    stream.delete_consumer(&durable).await.unwrap();
    rig.nats.restart().await.unwrap();
    process.resume().unwrap();
    let verdict = rig.everything_settled(&published).await;
    assert!(verdict.is_perfect(), "{verdict}");
}

#[tokio::test]
async fn a_consumer_of_somebody_else_is_left_alone_and_the_topic_waits() {
    let rig = Rig::start().await;
    let stream = rig.jetstream.get_stream(STREAM).await.unwrap();
    let pushing = push::Config {
        durable_name: Some("pushing".to_owned()),
        deliver_subject: "somewhere".to_owned(),
        ack_policy: AckPolicy::Explicit,
        ..push::Config::default()
    };
    let careless = pull::Config {
        durable_name: Some("careless".to_owned()),
        ack_policy: AckPolicy::None,
        ..pull::Config::default()
    };
    stream.create_consumer(pushing).await.unwrap();
    stream.create_consumer(careless).await.unwrap();
    for (name, why) in [
        ("pushing", "it pushes its messages"),
        ("careless", "to be acknowledged"),
    ] {
        let process = rig.starting_process(&[("JETSTREAM_DURABLE", name)]);
        let line = process.wait_for_log("is not one of ours", IN_TIME).await.unwrap();
        assert!(
            line.contains(why) && line.contains("JETSTREAM_DURABLE chooses another name"),
            "{line}"
        );
        let published = rig.published(name, 1, 3).await;
        // The name is free: what was published meanwhile has no consumer that kept it, what comes now has.
        stream.delete_consumer(name).await.unwrap();
        process
            .wait_for_log("created the durable consumer", IN_TIME)
            .await
            .unwrap();
        let later = rig.published(&format!("{name}-later"), 1, 3).await;
        let n_before = rig.recipient.n_accepted();
        rig.recipient
            .wait_until_accepted(n_before.max(3), IN_TIME)
            .await
            .unwrap();
        assert_eq!(rig.verdict(&published).lost.len(), 3, "not over core NATS either");
        let is_there = async || rig.verdict(&later).lost.is_empty();
        eventually(IN_TIME, is_there).await.unwrap();
        assert_eq!(lines_with(&process, "is not one of ours").len(), 1, "no flood");
        stream.delete_consumer(name).await.unwrap();
    }
}

#[tokio::test]
async fn other_topics_change_while_a_consumer_cannot_be_had() {
    let rig = Rig::start().await;
    let stream = rig.jetstream.get_stream(STREAM).await.unwrap();
    let careless = pull::Config {
        durable_name: Some("taken".to_owned()),
        ack_policy: AckPolicy::None,
        ..pull::Config::default()
    };
    stream.create_consumer(careless).await.unwrap();
    let variables = [
        ("JETSTREAM_DURABLE", "taken"),
        ("PUBSUB_TOPIC", "sh.keptn.>,orders.new"),
    ];
    let process = rig.starting_process(&variables);
    process.wait_for_log("is not one of ours", IN_TIME).await.unwrap();
    process.wait_for_log("subscribed", IN_TIME).await.unwrap();
    // The second topic gets a stream: it moves there, although the first is stuck.
    let config = test_support::keptn_stream("orders", &["orders.>"], 1);
    rig.jetstream.create_stream(config).await.unwrap();
    let created = process
        .wait_for_log("created the durable consumer", IN_TIME)
        .await
        .unwrap();
    assert!(created.contains("stream=\"orders\""), "{created}");
}

#[tokio::test]
async fn a_stream_of_another_name_than_the_one_chosen_is_not_used() {
    let rig = Rig::start().await;
    let process = rig.starting_process(&[("JETSTREAM_STREAM", "other")]);
    process
        .wait_for_log("received over core NATS: at most once", IN_TIME)
        .await
        .unwrap();
    let chosen = rig
        .process(&[("JETSTREAM_STREAM", STREAM), ("PUBSUB_GROUP", "second")])
        .await;
    assert_eq!(rig.consumers().await.len(), 1);
    drop(chosen);
    assert!(lines_with(&process, "durable consumer").is_empty());
}
