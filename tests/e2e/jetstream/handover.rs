//! A topic moves from core NATS to a stream, and instances share one consumer or do not.

use std::time::Duration;

use test_support::{
    NatsServer, NatsVersion, PublishedEvent, Recipient, Reply, Verdict, create_keptn_stream, eventually,
};
use tokio::time::{Instant, interval};

use super::rig::{IN_TIME, Rig, STREAM, numbered};
use crate::harness::lines_with;

#[tokio::test]
async fn each_event_comes_once_while_its_topic_moves_to_a_new_stream() {
    for version in NatsVersion::ALL {
        for n_keys in [5, 500] {
            moved(version, n_keys).await;
        }
    }
}

/// The stream is made while events flow that nobody asks a confirmation for.
async fn moved(version: NatsVersion, n_keys: usize) {
    let rig = Rig::without_stream(NatsServer::builder().version(version)).await;
    rig.recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_millis(3)));
    let process = rig.starting_process(&[]);
    let listens = async || {
        let clients = rig.nats.clients().await.unwrap_or_default();
        let mut subscriptions = clients.iter().flat_map(|client| &client.subscriptions);
        subscriptions.any(|(subject, _)| subject == "sh.keptn.>")
    };
    eventually(IN_TIME, listens).await.unwrap();

    let control_plane = rig.nats.client().await.unwrap();
    let mut published: Vec<PublishedEvent> = Vec::new();
    let mut pace = interval(Duration::from_millis(2));
    let mut until = None;
    for index in 0.. {
        if index == 300 {
            create_keptn_stream(&rig.jetstream).await.unwrap();
        }
        if until.is_none() && !lines_with(&process, "created the durable consumer").is_empty() {
            until = Some(Instant::now() + Duration::from_secs(1));
        }
        if until.is_some_and(|until| Instant::now() > until) {
            break;
        }
        let (event, message) = numbered("e", n_keys).get(index);
        control_plane
            .publish(message.ty.clone(), message.to_bytes())
            .await
            .unwrap();
        published.push(event);
        pace.tick().await;
    }
    control_plane.flush().await.unwrap();
    let verdict = rig.everything_settled(&published).await;
    println!("{version:?}, {n_keys} keys, from core NATS to a stream: {verdict}");
    assert!(verdict.is_perfect(), "{version:?}: {verdict}");
    let has_left = async || !listens().await;
    eventually(IN_TIME, has_left).await.unwrap();
}

#[tokio::test]
async fn without_a_group_every_instance_gets_every_event() {
    let rig = Rig::start().await;
    let pod = |name: &'static str| [("PUBSUB_GROUP", ""), ("K8S_POD_NAME", name)];
    let mut first = rig.process(&pod("pod-1")).await;
    let _second = rig.process(&pod("pod-2")).await;
    assert_eq!(rig.consumers().await.len(), 2);
    let published = rig.published("e", 5, 50).await;
    let is_done = async || rig.recipient.n_received() == 100;
    eventually(IN_TIME, is_done).await.unwrap();
    let verdict = rig.verdict(&published);
    assert_eq!((verdict.lost.len(), verdict.n_duplicates), (0, 50), "{verdict}");

    // An instance that comes back under its name goes on where it was.
    first.terminate().unwrap();
    first.wait_exit(IN_TIME).await.unwrap();
    rig.published("while-away", 5, 50).await;
    let _first = rig.process(&pod("pod-1")).await;
    assert_eq!(rig.consumers().await.len(), 2);
    let is_done = async || rig.recipient.n_received() == 200;
    eventually(IN_TIME, is_done).await.unwrap();
}

#[tokio::test]
async fn services_that_nothing_tells_apart_but_their_address_both_get_every_event() {
    let rig = Rig::start().await;
    let other = Recipient::start_light_on(0).await.unwrap();
    let unnamed = [("K8S_DEPLOYMENT_NAME", ""), ("PUBSUB_GROUP", "")];
    let port = other.port().to_string();
    let _first = rig.process(&unnamed).await;
    let _second = rig
        .process(&[unnamed[0], unnamed[1], ("PUBSUB_RECIPIENT_PORT", &port)])
        .await;
    assert_eq!(rig.consumers().await.len(), 2);
    let published = rig.published("e", 5, 50).await;
    other.wait_until_accepted(50, IN_TIME).await.unwrap();
    rig.recipient.wait_until_accepted(50, IN_TIME).await.unwrap();
    assert!(rig.verdict(&published).is_perfect());
    assert!(Verdict::of(&published, &other.deliveries()).is_perfect());
}

#[tokio::test]
async fn replicas_share_one_consumer_and_each_event_goes_to_one_of_them() {
    let rig = Rig::start().await;
    let pods = ["pod-1", "pod-2", "pod-3"];
    let mut processes = Vec::new();
    for pod in pods {
        processes.push(rig.process(&[("K8S_POD_NAME", pod)]).await);
    }
    rig.recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_millis(10)));
    let published = rig.published("e", 300, 900).await;
    let verdict = rig.everything_settled(&published).await;
    assert_eq!((verdict.lost.len(), verdict.n_duplicates), (0, 0), "{verdict}");
    let stream = rig.jetstream.get_stream(STREAM).await.unwrap();
    assert_eq!(stream.cached_info().state.consumer_count, 1);
    for process in &processes {
        assert!(!lines_with(process, " delivered ").is_empty());
    }
}
