//! Plugins that fail or take long, on events of a stream: each event is delivered or one dead letter, once, and what is not
//! done at the end goes back.

use std::time::Duration;

use test_support::Rate;
use tokio::time::Instant;

use super::rig::{IN_TIME, Rig, header_of};
use crate::harness::{PluginFolder, TASK_TRIGGERED, event_in, exit_code};

const QUICK_RETRIES: [(&str, &str); 2] = [("DELIVERY_RETRY", "2"), ("DELIVERY_BACKOFF_DELAY", "10ms")];

fn folder(behaviour: &str, policy: &str) -> PluginFolder {
    let entry = format!("on_failure = \"{policy}\"\ntimeout = \"100ms\"");
    PluginFolder::behaving_with(behaviour, &entry, "")
}

fn delivered_ids(rig: &Rig) -> Vec<String> {
    let deliveries = rig.recipient.deliveries();
    deliveries.iter().map(|delivery| delivery.id.to_string()).collect()
}

/// What the service gets and what becomes a dead letter of an event that a plugin fails on, and the next one of its key.
async fn check(behaviour: &str, policy: &str, delivered: &[&str], n_attempts: Option<&str>) {
    let what = format!("{behaviour}, {policy}");
    let rig = Rig::start().await;
    let folder = folder(behaviour, policy);
    let [retry, pause] = QUICK_RETRIES;
    let _process = rig.process(&[folder.variable(), retry, pause]).await;
    for id in ["bad-1", "good-1"] {
        rig.publish_bytes(TASK_TRIGGERED, event_in("key", id).to_bytes()).await;
    }
    rig.recipient
        .wait_until_accepted(delivered.len(), IN_TIME)
        .await
        .unwrap();
    rig.acknowledged().await;
    assert_eq!(delivered_ids(&rig), delivered, "{what}");
    let letters = rig.dead_letters().await;
    let attempts: Vec<_> = letters
        .iter()
        .map(|letter| header_of(letter, "Distributor-Attempts"))
        .collect();
    assert_eq!(attempts, Vec::from_iter(n_attempts), "{what}");
    for letter in &letters {
        for (name, value) in [
            ("Distributor-Event-Id", "bad-1"),
            ("Distributor-Reason", "plugin"),
            ("Distributor-Plugin", "suspect"),
        ] {
            assert_eq!(header_of(letter, name), value, "{what}");
        }
        assert_eq!(letter.payload, event_in("key", "bad-1").to_bytes(), "{what}");
    }
}

#[tokio::test]
async fn a_policy_decides_what_becomes_of_an_event() {
    for behaviour in ["transient", "permanent", "trap", "loop"] {
        let n_attempts = if behaviour == "permanent" { "1" } else { "3" };
        check(behaviour, "retry-then-dead-letter", &["good-1"], Some(n_attempts)).await;
        check(behaviour, "dead-letter", &["good-1"], Some("1")).await;
        check(behaviour, "pass", &["bad-1", "good-1"], None).await;
        check(behaviour, "drop", &["good-1"], None).await;
    }
}

#[tokio::test]
async fn events_under_way_in_a_plugin_go_to_another_replica_at_the_end() {
    let rig = Rig::start().await;
    let looping = PluginFolder::behaving_with("loop", "timeout = \"60s\"", "");
    let mut process = rig.process(&[looping.variable()]).await;
    for id in ["bad-1", "good-1"] {
        rig.publish_bytes(TASK_TRIGGERED, event_in("slow", id).to_bytes()).await;
    }
    rig.publish_bytes(TASK_TRIGGERED, event_in("quick", "good-2").to_bytes())
        .await;
    rig.recipient.wait_until_accepted(1, IN_TIME).await.unwrap();
    let sound = PluginFolder::behaving("keep");
    let _other = rig.process(&[sound.variable()]).await;
    let start = Instant::now();
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());

    rig.recipient.wait_until_accepted(3, IN_TIME).await.unwrap();
    rig.acknowledged().await;
    assert_eq!(delivered_ids(&rig), ["good-2", "bad-1", "good-1"]);
    assert!(rig.dead_letters().await.is_empty());
}

#[tokio::test]
async fn an_event_that_is_long_in_a_plugin_is_not_sent_again() {
    let rig = Rig::start().await;
    let folder = PluginFolder::behaving_with("loop", "timeout = \"5s\"\non_failure = \"pass\"", "");
    let variables = [folder.variable(), ("JETSTREAM_ACK_WAIT", "1s")];
    let _process = rig.process(&variables).await;
    rig.publish_bytes(TASK_TRIGGERED, event_in("slow", "bad-1").to_bytes())
        .await;
    rig.recipient.wait_until_accepted(1, IN_TIME).await.unwrap();
    rig.acknowledged().await;
    assert_eq!(rig.consumer().await.delivered.consumer_sequence, 1);
}

#[tokio::test]
async fn a_looping_key_loses_and_reorders_nothing_of_the_others() {
    const N_EVENTS: usize = 2_000;
    let rig = Rig::start().await;
    let entry = "timeout = \"200ms\"\non_failure = \"dead-letter\"";
    let folder = PluginFolder::behaving_with("loop", entry, "");
    let _process = rig.process(&[folder.variable()]).await;
    let sound = rig.publish("sound", 50, Rate::PerSecond(1_000.0), Some(N_EVENTS));
    let bad = rig.publish("bad", 1, Rate::PerSecond(5.0), Some(10));
    let published = sound.finish(IN_TIME).await.unwrap();
    let poisoned = bad.finish(IN_TIME).await.unwrap();
    rig.recipient.wait_until_accepted(N_EVENTS, IN_TIME).await.unwrap();
    rig.acknowledged().await;
    let verdict = rig.verdict(&published);
    assert!(verdict.is_perfect(), "{verdict}");
    let letters = rig.dead_letters().await;
    let ids: Vec<_> = letters
        .iter()
        .map(|letter| header_of(letter, "Distributor-Event-Id"))
        .collect();
    let expected: Vec<_> = poisoned.iter().map(|event| &*event.id).collect();
    assert_eq!(ids, expected);
}
