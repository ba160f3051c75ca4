//! Events of the service while the stream, JetStream or NATS is away, or does not say what it should.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use test_support::{NatsCluster, NatsServer, Recipient, create_keptn_stream, eventually, keptn_stream};
use tokio::time::Instant;

use super::stored::*;
use crate::harness::*;

#[tokio::test]
async fn while_nats_is_away_the_service_is_told_to_try_again_and_then_all_is_stored() {
    let mut stored = Stored::start().await;
    let app = stored.peers.app(&[]).await;
    assert_eq!(app.post(finished("before")).await.status, 200);

    stored.peers.nats.stop().await.unwrap();
    try_again(&app.post(finished("again")).await);
    try_again(&post_batch(&app, &["again", "too"].map(finished)).await);

    stored.peers.nats.restart().await.unwrap();
    let is_taken = async || post_batch(&app, &["again", "too"].map(finished)).await.status == 200;
    eventually(SOON, is_taken).await.unwrap();
    assert_eq!(stored.ids().await, ["before", "again", "too"]);
}

#[tokio::test]
async fn an_event_that_was_not_confirmed_in_time_may_be_sent_again() {
    let stored = Stored::start().await;
    let app = stored.peers.app(&[]).await;
    assert_eq!(app.post(finished("before")).await.status, 200);

    stored.peers.nats.pause().await.unwrap();
    let started = Instant::now();
    let reason = try_again(&app.post(finished("late")).await);
    assert!(reason.contains("did not confirm"), "{reason}");
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());

    stored.peers.nats.resume().unwrap();
    let is_taken = async || app.post(finished("late")).await.status == 200;
    eventually(SOON, is_taken).await.unwrap();
    assert_eq!(stored.ids().await, ["before", "late"]);
}

#[tokio::test]
async fn events_that_do_not_even_leave_are_refused_in_time() {
    // More than sockets and the client's queue hold.
    const N_EVENTS: usize = 30_000;
    let stored = Stored::start().await;
    let app = stored.peers.app(&[("API_PROXY_MAX_PAYLOAD_BYTES_KB", "0")]).await;
    for ty in [TASK_FINISHED, UNCOVERED] {
        assert_eq!(app.post(of_type(ty, "before")).await.status, 200);
    }

    stored.peers.nats.pause().await.unwrap();
    let ids = numbered_ids("event", N_EVENTS);
    let batch: Vec<_> = ids.iter().map(|id| of_type(UNCOVERED, id)).collect();
    let started = Instant::now();
    let (large, small) = tokio::join!(post_batch(&app, &batch), app.post(finished("small")));
    for response in [large, small] {
        try_again(&response);
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());

    stored.peers.nats.resume().unwrap();
    let is_taken = async || app.post(finished("small")).await.status == 200;
    eventually(SOON, is_taken).await.unwrap();
    assert_eq!(stored.ids().await, ["before", "small"]);
}

#[tokio::test]
async fn events_are_taken_although_their_stream_has_been_deleted() {
    let stored = Stored::start().await;
    let app = stored.peers.app(&[]).await;
    assert_eq!(app.post(finished("stored")).await.status, 200);
    stored.jetstream.delete_stream("keptn").await.unwrap();

    // Nobody at all takes it, which is known at once.
    assert_eq!(app.post(finished("to-nobody")).await.status, 200);

    let mut listener = stored.peers.listen(TASK_FINISHED).await;
    assert_eq!(app.post(finished("to-listener")).await.status, 200);
    assert_eq!(listener.next_ids(1).await, ["to-listener"]);
}

#[tokio::test]
async fn a_listener_in_the_place_of_a_deleted_stream_is_found_out() {
    let stored = Stored::start().await;
    let app = stored.peers.app(&[]).await;
    assert_eq!(app.post(finished("stored")).await.status, 200);
    stored.jetstream.delete_stream("keptn").await.unwrap();
    let mut listener = stored.peers.listen(TASK_FINISHED).await;

    // It takes the event and confirms nothing.
    try_again(&app.post(finished("e1")).await);
    assert_eq!(app.post(finished("e1")).await.status, 200);
    assert_eq!(listener.next_ids(2).await, ["e1", "e1"]);
}

#[tokio::test]
async fn a_stream_that_has_been_made_anew_is_used() {
    let stored = Stored::start().await;
    let app = stored.peers.app(&[]).await;
    assert_eq!(app.post(finished("e1")).await.status, 200);
    stored.jetstream.delete_stream("keptn").await.unwrap();
    create_keptn_stream(&stored.jetstream).await.unwrap();

    assert_eq!(app.post(finished("e2")).await.status, 200);
    assert_eq!(stored.ids().await, ["e2"]);
}

#[tokio::test]
async fn without_the_permission_to_look_up_streams_the_server_confirms() {
    const USERS: &str = "authorization { users: [ \
        { user: all, password: p }, \
        { user: publisher, password: p, permissions: { publish: ['sh.keptn.>', '_INBOX.>'], subscribe: ['>'] } } ] }";
    let nats = NatsServer::builder().jetstream(true).config_lines(USERS).start();
    let nats = nats.await.unwrap();
    let control_plane = nats.client_as("all", "p").await.unwrap();
    let url = nats.url_as("publisher", "p");
    let recipient = Recipient::start().await.unwrap();
    let peers = Peers {
        nats,
        recipient,
        control_plane,
    };
    let mut listener = peers.listen("sh.keptn.>").await;
    let app = App::start(peers.config(&[("PUBSUB_URL", &url)]), subscriptions(&[])).await;

    // The first question may be on its way to nobody, until the server's refusal has come.
    post_until_taken(app.address, &finished("e1")).await;

    assert_eq!(listener.next_ids(1).await, ["e1"]);
}

/// A node that leads the stream dies while events are sent: those that were answered with 200 are in the stream, once.
#[tokio::test]
async fn what_was_taken_outlives_the_leader_of_the_stream() {
    const N_CLIENTS: usize = 8;
    const N_EACH: usize = 50;
    let mut cluster = NatsCluster::start().await.unwrap();
    let jetstream = cluster.jetstream().await.unwrap();
    let keptn = keptn_stream("keptn", &["sh.keptn.>"], 3);
    jetstream.create_stream(keptn).await.unwrap();
    let leader = cluster.stream_leader("keptn").await.unwrap();
    let mut process = start_process(&[("PUBSUB_URL", &cluster.urls().join(","))]);
    process.wait_until_ready(SOON).await.unwrap();
    let distributor = process.proxy_address();
    post_until_taken(distributor, &finished("first")).await;

    let sending = join_all((0..N_CLIENTS).map(async |client| {
        for number in 0..N_EACH {
            post_until_taken(distributor, &finished(&format!("{client}-{number}"))).await;
        }
    }));
    let (_, killed) = tokio::join!(sending, cluster.kill_node(leader));
    killed.unwrap();

    let mut expected = vec!["first".to_owned()];
    for client in 0..N_CLIENTS {
        expected.extend(numbered_ids(&client.to_string(), N_EACH));
    }
    let mut ids = ids_in_stream(&jetstream).await;
    ids.sort();
    expected.sort();
    assert_same(&ids, &expected);
}

/// As a service does that obeys a 503.
async fn post_until_taken(distributor: SocketAddr, event: &Bytes) {
    let is_taken = async || {
        let response = post(distributor, event.clone()).await;
        response.status == 200 || try_again(&response).is_empty()
    };
    eventually(3 * SOON, is_taken).await.unwrap();
}
