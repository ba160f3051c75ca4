//! What the control plane asks for, injected in its place: several subscriptions, their lists, and changes at run time.

use std::time::Duration;

use distributor::subscription::{Interest, Subscription};
use test_support::{KeptnEvent, ProxyMode, Reply, TcpProxy, eventually};
use tokio::time::interval;

use crate::harness::*;

const TASK_FINISHED: &str = "sh.keptn.event.task.finished";

#[tokio::test]
async fn each_event_is_delivered_with_the_subscription_it_matched() {
    let peers = Peers::start().await;
    let interest = subscriptions(&[("id1", TASK_TRIGGERED), ("id2", TASK_FINISHED)]);
    let _app = peers.app_interested_in(interest, &[]).await;

    peers.publish(&event("e1")).await;
    peers.publish_bytes(TASK_FINISHED, event("e2").to_bytes()).await;

    let delivered = ids_and_subscriptions(&peers.delivered(2).await);
    assert_eq!(delivered, [owned("e1", "id1"), owned("e2", "id2")]);
}

#[tokio::test]
async fn an_event_that_matches_twice_is_delivered_twice_in_list_order() {
    let peers = Peers::start().await;
    let interest = subscriptions(&[("id1", TASK_TRIGGERED), ("id2", TASK_TRIGGERED)]);
    let _app = peers.app_interested_in(interest, &[]).await;

    peers.publish_all([event("e1"), event("e2")]).await;

    let expected = [
        owned("e1", "id1"),
        owned("e1", "id2"),
        owned("e2", "id1"),
        owned("e2", "id2"),
    ];
    assert_eq!(ids_and_subscriptions(&peers.delivered(4).await), expected);
}

#[tokio::test]
async fn a_copy_is_delivered_only_if_the_first_was_not() {
    let peers = Peers::start().await;
    peers
        .recipient
        .respond_with(|_, nth| Reply::status(if nth == 0 { 400 } else { 200 }));
    let interest = subscriptions(&[("id1", TASK_TRIGGERED)]);
    let _app = peers.app_interested_in(interest, &[]).await;

    // When the second of a pair arrives, all is said about the first.
    for (id, marker, n_requests) in [("copied", "m1", 2), ("copied", "m2", 4), ("copied", "m3", 5)] {
        peers.publish_all([event(id), event(marker)]).await;
        peers.delivered(n_requests).await;
    }

    assert_eq!(peers.delivered_ids(5).await, ["copied", "m1", "copied", "m2", "m3"]);
}

#[tokio::test]
async fn many_event_types_are_received_over_one_subject_and_only_those_delivered() {
    let peers = Peers::start().await;
    let app = peers
        .app_interested_in(subscriptions(&[("id", TASK_TRIGGERED)]), &[])
        .await;
    let many = (0..300).map(|number| {
        let event = format!("sh.keptn.event.task{number}.triggered");
        subscription(&format!("id{number}"), &event)
    });

    app.change_interest(Interest::subscriptions(many));
    peers.wait_for_listening(TASK_TRIGGERED, 0).await;
    peers.wait_for_listening("sh.keptn.event.*.triggered", 1).await;
    for (id, task) in [("e1", "other"), ("e2", "task7"), ("e3", "task300"), ("e4", "task299")] {
        let ty = format!("sh.keptn.event.{task}.triggered");
        let event = KeptnEvent {
            ty: ty.clone(),
            ..event_in("key", id)
        };
        peers.publish_bytes(&ty, event.to_bytes()).await;
    }

    let delivered = ids_and_subscriptions(&peers.delivered(2).await);
    assert_eq!(delivered, [owned("e2", "id7"), owned("e4", "id299")]);
}

#[tokio::test]
async fn stages_of_a_subscription_decide_for_it_alone() {
    let in_stages = |id: &str, stages: &[&str]| Subscription {
        stages: stages.iter().map(|&stage| stage.to_owned()).collect(),
        ..subscription(id, TASK_TRIGGERED)
    };
    let peers = Peers::start().await;
    let interest = Interest::subscriptions(vec![
        in_stages("id1", &["stage0"]),
        in_stages("id2", &["stage0", "stage1"]),
    ]);
    // The lists of the environment do not count where a subscription has its own.
    let _app = peers
        .app_interested_in(interest, &[("STAGE_FILTER", "elsewhere")])
        .await;

    for (id, stage) in [("only-id2", "stage1"), ("nobody", "stage2"), ("both", "stage0")] {
        let mut event = event(id);
        event.stage = stage.to_owned();
        peers.publish(&event).await;
    }

    let expected = [owned("only-id2", "id2"), owned("both", "id1"), owned("both", "id2")];
    assert_eq!(ids_and_subscriptions(&peers.delivered(3).await), expected);
}

#[tokio::test]
async fn no_subscription_of_a_queue_group_starves_where_subjects_overlap() {
    let peers = Peers::start().await;
    let interest = subscriptions(&[
        ("sub-1", TASK_TRIGGERED),
        ("sub-2", TASK_TRIGGERED),
        ("sub-3", "sh.keptn.event.*.triggered"),
    ]);
    let _app = peers.app_interested_in(interest, &[("PUBSUB_GROUP", "my-svc")]).await;

    peers.publish_all(events("e", 20)).await;

    let delivered = ids_and_subscriptions(&peers.delivered(60).await);
    let expected: Vec<_> = numbered_ids("e", 20)
        .iter()
        .flat_map(|id| ["sub-1", "sub-2", "sub-3"].map(|subscription| owned(id, subscription)))
        .collect();
    assert_eq!(delivered, expected);
}

#[tokio::test]
async fn an_empty_list_delivers_nothing() {
    let peers = Peers::start().await;
    let app = peers
        .app_interested_in(subscriptions(&[("id1", TASK_TRIGGERED)]), &[])
        .await;
    peers.publish(&event("before")).await;
    peers.delivered(1).await;

    app.change_interest(subscriptions(&[]));
    peers.wait_for_listening(TASK_TRIGGERED, 0).await;
    peers.publish(&event("unwanted")).await;
    peers.everything_is_sent().await;
    app.change_interest(subscriptions(&[("id2", TASK_TRIGGERED)]));
    peers.wait_for_listening(TASK_TRIGGERED, 1).await;
    peers.publish(&event("after")).await;

    let delivered = ids_and_subscriptions(&peers.delivered(2).await);
    assert_eq!(delivered, [owned("before", "id1"), owned("after", "id2")]);
}

#[tokio::test]
async fn another_subject_takes_the_place_of_the_first() {
    let peers = Peers::start().await;
    let app = peers
        .app_interested_in(subscriptions(&[("id1", TASK_TRIGGERED)]), &[])
        .await;
    peers.publish(&event("e1")).await;
    peers.delivered(1).await;

    app.change_interest(subscriptions(&[("id2", TASK_FINISHED)]));
    peers.wait_for_listening(TASK_FINISHED, 1).await;
    peers.wait_for_listening(TASK_TRIGGERED, 0).await;
    peers.publish(&event("unwanted")).await;
    peers.publish_bytes(TASK_FINISHED, event("e2").to_bytes()).await;

    let delivered = ids_and_subscriptions(&peers.delivered(2).await);
    assert_eq!(delivered, [owned("e1", "id1"), owned("e2", "id2")]);
}

#[tokio::test]
async fn the_same_list_in_another_order_changes_nothing_on_nats() {
    let peers = Peers::start().await;
    let (a, b) = (("a", TASK_TRIGGERED), ("b", TASK_FINISHED));
    let app = peers.app_interested_in(subscriptions(&[a, b]), &[]).await;
    let before = peers.subscriptions_on_nats().await;

    app.change_interest(subscriptions(&[b, a]));
    // The third subject shows when the change has been made.
    app.change_interest(subscriptions(&[b, a, ("c", "sh.keptn.marker")]));
    peers.wait_for_listening("sh.keptn.marker", 1).await;

    let after = peers.subscriptions_on_nats().await;
    assert_eq!(after.len(), before.len() + 1);
    assert!(
        before.iter().all(|subscription| after.contains(subscription)),
        "{before:?} {after:?}"
    );
}

#[tokio::test]
async fn changes_under_load_neither_lose_nor_double_events_of_an_unchanged_subject() {
    let delivered = delivered_during_changes("sh.keptn.event.other.triggered", &[]).await;
    assert_same(&delivered, &numbered_ids("e", N_CHANGES * N_BETWEEN));
}

#[tokio::test]
async fn a_group_whose_subject_widens_and_narrows_gets_each_event_once() {
    let mut delivered = delivered_during_changes("sh.keptn.event.*.triggered", &[("PUBSUB_GROUP", "my-svc")]).await;
    // In the moment of a change the server spreads events over the old and the new subscription.
    sort_by_number(&mut delivered);
    assert_same(&delivered, &numbered_ids("e", N_CHANGES * N_BETWEEN));
}

#[tokio::test]
async fn no_event_is_lost_when_the_subject_widens_and_narrows() {
    let mut delivered = delivered_during_changes("sh.keptn.event.*.triggered", &[]).await;
    // In the moment of a change both subscriptions may bring an event; it is then delivered twice, rather than never.
    sort_by_number(&mut delivered);
    delivered.dedup();
    assert_same(&delivered, &numbered_ids("e", N_CHANGES * N_BETWEEN));
}

#[tokio::test]
async fn a_slow_network_loses_no_event_when_the_subject_widens() {
    const N_EVENTS: usize = 60;
    let peers = Peers::start().await;
    let network = TcpProxy::start(peers.nats.address()).await.unwrap();
    let url = format!("nats://{}", network.address());
    let both = [("wanted", TASK_TRIGGERED), ("beside", "sh.keptn.event.*.triggered")];
    let variables = [("PUBSUB_GROUP", "my-svc"), ("PUBSUB_URL", url.as_str())];
    let app = peers.app_interested_in(subscriptions(&both[..1]), &variables).await;

    network.switch_to(ProxyMode::Delay(Duration::from_millis(2500))).await;
    app.change_interest(subscriptions(&both));
    // All the time that the change takes.
    let mut pace = interval(Duration::from_millis(100));
    for event in events("e", N_EVENTS) {
        pace.tick().await;
        peers.publish(&event).await;
    }

    let delivered_to_wanted = || {
        let delivered = ids_and_subscriptions(&peers.recipient.journal()).into_iter();
        let wanted = delivered.filter(|(_, subscription)| subscription == "wanted");
        wanted.map(|(id, _)| id).collect::<Vec<_>>()
    };
    let _ = eventually(SOON, async || delivered_to_wanted().len() >= N_EVENTS).await;
    let mut delivered = delivered_to_wanted();
    sort_by_number(&mut delivered);
    assert_same(&delivered, &numbered_ids("e", N_EVENTS));
}

const N_CHANGES: usize = 20;
/// Events for each change.
const N_BETWEEN: usize = 50;

/// While events are published, a subscription beside the one that wants them comes and goes. Returns what is delivered
/// to the one that stays.
async fn delivered_during_changes(beside: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let peers = Peers::start().await;
    let wanted = ("wanted", TASK_TRIGGERED);
    let app = peers.app_interested_in(subscriptions(&[wanted]), variables).await;

    let control_plane = peers.control_plane.clone();
    let publishing = tokio::spawn(async move {
        for event in events("e", N_CHANGES * N_BETWEEN) {
            control_plane.publish(TASK_TRIGGERED, event.to_bytes()).await.unwrap();
            control_plane.flush().await.unwrap();
        }
    });
    for n_changes in 1..=N_CHANGES {
        peers.delivered(n_changes * N_BETWEEN / 2).await;
        let both = [wanted, ("beside", beside)];
        app.change_interest(subscriptions(if n_changes % 2 == 0 { &both[..1] } else { &both }));
    }
    publishing.await.unwrap();
    peers.everything_is_sent().await;

    // The end delivers all that has been received.
    app.shut_down().await.unwrap();
    let mut delivered = ids_and_subscriptions(&peers.recipient.journal());
    delivered.retain(|(_, subscription)| subscription == "wanted");
    delivered.into_iter().map(|(id, _)| id).collect()
}

fn sort_by_number(ids: &mut [String]) {
    ids.sort_by_key(|id| id.rsplit('-').next().and_then(|number| number.parse::<usize>().ok()));
}

fn owned(event_id: &str, subscription_id: &str) -> (String, String) {
    (event_id.to_owned(), subscription_id.to_owned())
}
