//! What plugins make of an event of a stream: nothing of it is lost, and an answer is stored once.

use std::time::Duration;

use async_nats::jetstream::stream::{self, DiscardPolicy};
use test_support::{NatsServer, Reply, create_keptn_stream, eventually};

use super::rig::{IN_TIME, Rig};
use crate::harness::{PluginFolder, TASK_TRIGGERED, event};

const TASK_FINISHED: &str = "sh.keptn.event.task.finished";
const ANSWERS: &str = "answers";
const GRANTED: &str = "grants = [\"publish\"]";

/// A rig whose answers have a stream of their own, which takes so many.
async fn rig_with_answers(max_answers: i64) -> Rig {
    let rig = Rig::without_stream(NatsServer::builder()).await;
    for (name, subject, max_messages) in [
        (super::rig::STREAM, TASK_TRIGGERED, -1),
        (ANSWERS, TASK_FINISHED, max_answers),
    ] {
        let config = stream::Config {
            name: name.to_owned(),
            subjects: vec![subject.to_owned()],
            max_messages,
            discard: DiscardPolicy::New,
            ..stream::Config::default()
        };
        rig.jetstream
            .create_stream(config)
            .await
            .expect("the stream can be created");
    }
    rig
}

impl Rig {
    async fn n_answers(&self) -> u64 {
        let stream = self.jetstream.get_stream(ANSWERS).await;
        stream.expect("there is the stream").cached_info().state.messages
    }
}

#[tokio::test]
async fn an_event_is_not_settled_before_its_answer_is_stored() {
    let rig = rig_with_answers(1).await;
    rig.publish_bytes(TASK_FINISHED, "the stream is full now").await;
    let folder = PluginFolder::behaving_with("answer", GRANTED, "");
    let topic = ("PUBSUB_TOPIC", TASK_TRIGGERED);
    let process = rig.process(&[topic, folder.variable()]).await;

    rig.publish_bytes(TASK_TRIGGERED, event("bad").to_bytes()).await;

    // The service has the event, but the stream does not get it back as settled.
    rig.recipient.wait_until_accepted(1, IN_TIME).await.unwrap();
    process
        .wait_for_log("the event that it answers is held back", IN_TIME)
        .await
        .unwrap();
    assert_eq!(rig.consumer().await.num_ack_pending, 1);

    rig.jetstream.get_stream(ANSWERS).await.unwrap().purge().await.unwrap();
    rig.acknowledged().await;
    assert_eq!(rig.n_answers().await, 1);
    assert_eq!(rig.recipient.n_received(), 1, "only the answer was tried again");
}

#[tokio::test]
async fn an_answer_is_stored_once_although_the_event_comes_again() {
    let rig = rig_with_answers(-1).await;
    rig.recipient.respond_with(|_, _| Reply::Hang);
    let folder = PluginFolder::behaving_with("answer", GRANTED, "");
    let variables = [("PUBSUB_TOPIC", TASK_TRIGGERED), folder.variable()];
    let mut killed = rig.process(&variables).await;
    rig.publish_bytes(TASK_TRIGGERED, event("bad").to_bytes()).await;
    rig.recipient.wait_until_received(1, IN_TIME).await.unwrap();
    assert_eq!(rig.n_answers().await, 1, "the answer precedes the event");
    killed.kill().await.unwrap();

    rig.recipient.respond_with(|_, _| Reply::status(200));
    let process = rig.process(&variables).await;
    rig.recipient.wait_until_accepted(1, IN_TIME).await.unwrap();
    rig.acknowledged().await;

    let published = async || {
        process
            .output()
            .lines()
            .iter()
            .any(|line| line.text.contains("\"published\"") || line.text.contains(" published "))
    };
    eventually(Duration::from_secs(5), published).await.unwrap();
    assert_eq!(rig.n_answers().await, 1);
}

#[tokio::test]
async fn the_parts_of_a_split_event_survive_a_crash_between_them() {
    let rig = Rig::without_stream(NatsServer::builder()).await;
    create_keptn_stream(&rig.jetstream).await.unwrap();
    rig.recipient.respond_with(|request, _| {
        let is_second = String::from_utf8_lossy(&request.body).contains("\"bad-2\"");
        if is_second { Reply::Hang } else { Reply::status(200) }
    });
    let folder = PluginFolder::behaving("split");
    let mut killed = rig.process(&[folder.variable()]).await;
    rig.publish_bytes(TASK_TRIGGERED, event("bad").to_bytes()).await;
    rig.recipient.wait_until_received(2, IN_TIME).await.unwrap();
    killed.kill().await.unwrap();

    rig.recipient.respond_with(|_, _| Reply::status(200));
    let _process = rig.process(&[folder.variable()]).await;
    rig.recipient.wait_until_accepted(3, IN_TIME).await.unwrap();
    rig.acknowledged().await;

    let ids: Vec<_> = rig
        .recipient
        .deliveries()
        .iter()
        .map(|delivery| delivery.id.to_string())
        .collect();
    assert_eq!(
        ids,
        ["bad-1", "bad-2", "bad-1", "bad-2", "bad-3"],
        "the first comes once more, and none is lost"
    );
}
