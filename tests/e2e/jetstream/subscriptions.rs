//! What the control plane wants changes while events come from a stream.

use test_support::{NatsServer, Recipient, create_keptn_stream};

use crate::harness::{
    Peers, TASK_TRIGGERED, assert_same, event, events, ids_and_subscriptions, numbered_ids, subscriptions,
};

const N_CHANGES: usize = 30;
/// Events for each change.
const N_BETWEEN: usize = 30;

async fn peers() -> Peers {
    let nats = NatsServer::builder().jetstream(true).start().await.unwrap();
    create_keptn_stream(&nats.jetstream().await.unwrap()).await.unwrap();
    Peers {
        control_plane: nats.client().await.unwrap(),
        recipient: Recipient::start().await.unwrap(),
        nats,
    }
}

#[tokio::test]
async fn subscriptions_that_come_and_go_touch_no_other() {
    let peers = peers().await;
    let wanted = ("wanted", TASK_TRIGGERED);
    let config = peers.config(&[("PUBSUB_GROUP", "group")]);
    let app = crate::harness::App::start(config, subscriptions(&[wanted])).await;
    first_event(&peers).await;

    let control_plane = peers.control_plane.clone();
    let publishing = tokio::spawn(async move {
        for event in events("e", N_CHANGES * N_BETWEEN) {
            control_plane.publish(TASK_TRIGGERED, event.to_bytes()).await.unwrap();
            control_plane.flush().await.unwrap();
        }
    });
    let beside: Vec<_> = (0..200)
        .map(|number| (format!("s{number}"), format!("sh.keptn.event.t{number}.triggered")))
        .collect();
    let many: Vec<_> = beside
        .iter()
        .map(|(id, subject)| (id.as_str(), subject.as_str()))
        .chain([wanted])
        .collect();
    for n_changes in 1..=N_CHANGES {
        peers.delivered(n_changes * N_BETWEEN / 2).await;
        let list = [wanted, ("beside", "sh.keptn.event.*.finished")];
        app.change_interest(match n_changes % 3 {
            0 => subscriptions(&list[..1]),
            1 => subscriptions(&list),
            _ => subscriptions(&many),
        });
    }
    publishing.await.unwrap();
    peers.delivered(1 + N_CHANGES * N_BETWEEN).await;
    app.shut_down().await.unwrap();

    let delivered = ids_and_subscriptions(&peers.recipient.journal());
    let delivered: Vec<_> = delivered
        .into_iter()
        .map(|(id, _)| id)
        .filter(|id| id != "first")
        .collect();
    assert_same(&delivered, &numbered_ids("e", N_CHANGES * N_BETWEEN));
}

#[tokio::test]
async fn each_matching_subscription_gets_an_event_once_and_in_list_order() {
    let peers = peers().await;
    let list = [
        ("a", "sh.keptn.>"),
        ("b", TASK_TRIGGERED),
        ("c", "sh.keptn.event.*.finished"),
        ("d", TASK_TRIGGERED),
    ];
    let config = peers.config(&[("PUBSUB_GROUP", "group")]);
    let app = crate::harness::App::start(config, subscriptions(&list)).await;
    first_event(&peers).await;
    peers.delivered(3).await;

    peers.publish(&event("e1")).await;

    let delivered = ids_and_subscriptions(&peers.delivered(6).await);
    let expected = ["a", "b", "d"].map(|subscription| ("e1".to_owned(), subscription.to_owned()));
    assert_eq!(delivered[3..], expected);
    app.shut_down().await.unwrap();
}

/// Publishes one event until it comes: then the stream keeps everything for us.
async fn first_event(peers: &Peers) {
    let consumers = async || {
        let jetstream = peers.nats.jetstream().await.unwrap();
        let stream = jetstream.get_stream("keptn").await.unwrap();
        stream.cached_info().state.consumer_count == 1
    };
    test_support::eventually(crate::harness::SOON, consumers).await.unwrap();
    peers.publish(&event("first")).await;
    peers.delivered(1).await;
}
