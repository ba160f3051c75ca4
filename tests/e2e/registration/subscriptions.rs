//! Subscriptions of the control plane: added, changed and deleted there while events come.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use test_support::{Delivery, Fault, KeptnEvent, Reply, Route, Verdict, eventually};
use tokio::time::Instant;

use super::{IN_TIME, Rig, subscribed, subscribed_in};
use crate::harness::{TASK_TRIGGERED, event, ids_and_subscriptions, lines_with};

const OTHER: &str = "sh.keptn.event.other.triggered";

#[tokio::test]
async fn changes_take_effect_at_the_next_heartbeat_and_neither_lose_nor_double_an_event() {
    let rig = Rig::start().await;
    let (_process, integration) = rig.registered(&[]).await;
    let always = subscribed("always", TASK_TRIGGERED);
    rig.change(&integration, json!([always])).await;
    let publishers = [
        rig.publisher("x", TASK_TRIGGERED, 500.0),
        rig.publisher("y", OTHER, 500.0),
    ];
    let n_others = || others(&rig.recipient.deliveries()).len();
    let wait_for_others = async |more: usize| {
        let wanted = n_others() + more;
        let arrived = eventually(IN_TIME, async || n_others() >= wanted).await;
        arrived.expect("events of the other subscription arrive");
    };

    let added = Instant::now();
    rig.control_plane
        .set_subscriptions(&integration.id, json!([always, subscribed("other", OTHER)]))
        .unwrap();
    wait_for_others(1).await;
    let took = added.elapsed();
    wait_for_others(500).await;
    rig.change(
        &integration,
        json!([always, subscribed_in("other", OTHER, &["nowhere"])]),
    )
    .await;
    let n_filtered = n_others();
    publishers[1]
        .wait_until_published(publishers[1].n_published() + 300, IN_TIME)
        .await
        .unwrap();
    rig.change(&integration, json!([always, subscribed("other", OTHER)]))
        .await;
    wait_for_others(500).await;
    rig.change(&integration, json!([always])).await;
    let n_deleted = n_others();
    publishers[1]
        .wait_until_published(publishers[1].n_published() + 500, IN_TIME)
        .await
        .unwrap();
    let [always, other] = publishers;
    let (always, other) = (always.stop().await, other.stop().await);

    let verdict = rig.verdict(&always).await;
    assert!(verdict.lost.is_empty() && verdict.inversions.is_empty(), "{verdict}");
    let deliveries: Vec<_> = rig.recipient.deliveries();
    let (mine, others): (Vec<_>, Vec<_>) = deliveries
        .into_iter()
        .partition(|delivery| delivery.id.starts_with('x'));
    let verdict = Verdict::of(&always, &mine);
    assert!(verdict.is_perfect(), "{verdict}");
    let verdict = Verdict::of(&other, &others);
    assert_eq!(
        (verdict.n_duplicates, verdict.inversions.len(), verdict.unexpected.len()),
        (0, 0, 0),
        "{verdict}"
    );
    for (key, runs) in runs_by_key(&others) {
        assert!(
            runs <= 2,
            "the events of {key} came in {runs} pieces: some between were lost"
        );
    }
    assert!(
        took < Duration::from_secs(3),
        "it took {took:?} until the new subscription got something"
    );
    // What was under way when the change was made.
    assert!(
        others.len() - n_deleted <= 256,
        "{} came after the deletion",
        others.len() - n_deleted
    );
    println!(
        "{} events, {} of them of a subscription that came, changed and went: {verdict}; the first after {took:?}; \
         {n_filtered} before its filter changed",
        always.len() + other.len(),
        others.len()
    );
}

/// Into how many pieces without a gap the events of each key fall.
fn runs_by_key(deliveries: &[Delivery]) -> BTreeMap<String, usize> {
    let mut numbers: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for delivery in deliveries {
        let (key, number) = delivery.id.rsplit_once('-').unwrap();
        numbers.entry(key.to_owned()).or_default().push(number.parse().unwrap());
    }
    let runs = |numbers: &[u64]| 1 + numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    numbers
        .iter()
        .map(|(key, numbers)| (key.clone(), runs(numbers)))
        .collect()
}

fn others(deliveries: &[Delivery]) -> Vec<&Delivery> {
    deliveries
        .iter()
        .filter(|delivery| delivery.id.starts_with('y'))
        .collect()
}

#[tokio::test]
async fn an_emptied_list_delivers_nothing_more() {
    let rig = Rig::start().await;
    let (_process, integration) = rig.registered(&[]).await;
    rig.publish(&event("before")).await;
    rig.recipient.wait_for(1, IN_TIME).await.unwrap();

    for emptied in [json!([]), json!(null)] {
        rig.change(&integration, emptied).await;
        rig.publish(&event("unwanted")).await;
        rig.settled().await;
    }
    rig.change(&integration, json!([subscribed("again", TASK_TRIGGERED)]))
        .await;
    rig.publish(&event("after")).await;

    let delivered = rig.recipient.wait_for(2, IN_TIME).await.unwrap();
    let ids: Vec<_> = ids_and_subscriptions(&delivered)
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert_eq!(ids, ["before", "after"]);
}

#[tokio::test]
async fn an_event_is_delivered_once_for_each_subscription_in_order_with_its_id() {
    let rig = Rig::start().await;
    let (_process, integration) = rig.registered(&[]).await;
    let list = json!([
        subscribed("id1", TASK_TRIGGERED),
        subscribed_in("id2", TASK_TRIGGERED, &["stage0", "stage1"]),
        subscribed_in("id3", "sh.keptn.event.*.triggered", &["stage0"]),
        subscribed("", "sh.keptn.>"),
        subscribed_in("nowhere", "sh.keptn.>", &["stage2"]),
    ]);
    rig.change(&integration, list).await;
    for (id, stage) in [("e0", "stage0"), ("e1", "stage1"), ("e3", "stage3")] {
        let event = KeptnEvent {
            stage: stage.to_owned(),
            ..event(id)
        };
        rig.publish(&event).await;
    }
    let delivered = rig.recipient.wait_for(9, IN_TIME).await.unwrap();
    let expected = [
        ("e0", "id1"),
        ("e0", "id2"),
        ("e0", "id3"),
        ("e0", ""),
        ("e1", "id1"),
        ("e1", "id2"),
        ("e1", ""),
        ("e3", "id1"),
        ("e3", ""),
    ];
    let expected = expected.map(|(event, subscription)| (event.to_owned(), subscription.to_owned()));
    assert_eq!(ids_and_subscriptions(&delivered), expected);
    rig.settled().await;
    assert_eq!(rig.recipient.n_received(), 9);
}

#[tokio::test]
async fn a_subscription_that_no_event_can_match_is_left_out_and_said_once() {
    let rig = Rig::start().await;
    let (process, integration) = rig.registered(&[]).await;
    rig.change(
        &integration,
        json!([subscribed("bad", "no subject"), subscribed("id1", TASK_TRIGGERED)]),
    )
    .await;
    rig.change(
        &integration,
        json!([subscribed("bad", "no subject"), subscribed("id2", TASK_TRIGGERED)]),
    )
    .await;
    rig.publish(&event("e1")).await;
    let delivered = rig.recipient.wait_for(1, IN_TIME).await.unwrap();
    assert_eq!(ids_and_subscriptions(&delivered), [("e1".to_owned(), "id2".to_owned())]);
    let said = lines_with(&process, "a subscription is left out");
    assert_eq!(said.len(), 1, "{said:?}");
}

#[tokio::test]
async fn subscriptions_survive_a_restart_of_nats() {
    let mut rig = Rig::start().await;
    let (_process, integration) = rig.registered(&[]).await;
    rig.change(
        &integration,
        json!([subscribed("id1", TASK_TRIGGERED), subscribed("id2", OTHER)]),
    )
    .await;
    rig.publish(&event("before")).await;
    rig.recipient.wait_for(1, IN_TIME).await.unwrap();
    rig.nats.restart().await.unwrap();
    rig.jetstream = rig.nats.jetstream().await.unwrap();
    let after = KeptnEvent {
        id: "after".to_owned(),
        ..KeptnEvent::of_type(OTHER)
    };
    rig.publish(&after).await;
    let delivered = rig.recipient.wait_for(2, IN_TIME).await.unwrap();
    let delivered = ids_and_subscriptions(&delivered);
    assert_eq!(
        delivered.last(),
        Some(&("after".to_owned(), "id2".to_owned())),
        "{delivered:?}"
    );
}

#[tokio::test]
async fn a_service_that_fails_is_tried_again_for_the_subscription_that_failed() {
    let rig = Rig::start().await;
    let (_process, integration) = rig.registered(&[("DELIVERY_BACKOFF_DELAY", "10ms")]).await;
    let both = json!([subscribed("id1", TASK_TRIGGERED), subscribed("id2", TASK_TRIGGERED)]);
    rig.change(&integration, both).await;
    rig.recipient
        .respond_with(|_, nth| Reply::status(if nth == 1 { 500 } else { 200 }));
    rig.publish(&event("e1")).await;
    let delivered = rig.recipient.wait_for(3, IN_TIME).await.unwrap();
    let subscriptions: Vec<_> = ids_and_subscriptions(&delivered)
        .into_iter()
        .map(|(_, id)| id)
        .collect();
    assert_eq!(subscriptions, ["id1", "id2", "id2"]);
    rig.settled().await;
    assert_eq!(rig.recipient.n_received(), 3);
}

#[tokio::test]
async fn events_of_subscriptions_that_the_environment_does_not_name_wait_over_a_restart() {
    let rig = Rig::start().await;
    let (mut process, integration) = rig.registered(&[]).await;
    let both = json!([subscribed("id1", TASK_TRIGGERED), subscribed("id2", OTHER)]);
    rig.change(&integration, both).await;
    let other = |id: &str| KeptnEvent {
        id: id.to_owned(),
        ..KeptnEvent::of_type(OTHER)
    };
    rig.publish(&other("before")).await;
    rig.recipient.wait_for(1, IN_TIME).await.unwrap();
    process.terminate().unwrap();
    process.wait_exit(IN_TIME).await.unwrap();
    rig.publish(&other("without")).await;
    rig.control_plane.fail(Route::Register, Fault::Status(500));
    let _process = rig.keeping(&[]).await;
    rig.publish(&other("unregistered")).await;
    rig.control_plane.heal(Route::Register);

    let delivered = rig.recipient.wait_for(3, IN_TIME).await.unwrap();
    let delivered: Vec<_> = ids_and_subscriptions(&delivered);
    let expected = ["before", "without", "unregistered"].map(|id| (id.to_owned(), "id2".to_owned()));
    assert_eq!(delivered, expected);
}
