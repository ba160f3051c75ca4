//! NATS goes away, comes back, or is late.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use test_support::{NatsServer, Recipient, Reply, eventually, free_port};

use crate::harness::*;

#[tokio::test]
async fn events_of_the_service_are_refused_while_nats_is_away_and_taken_when_it_is_back() {
    let mut peers = Peers::start().await;
    let app = peers.app(&[]).await;
    assert_eq!(app.post(event("before").to_bytes()).await.status, 200);

    peers.nats.stop().await.unwrap();
    let response = app.post(event("while-away").to_bytes()).await;
    assert_eq!(problem(&response).0, 503);
    assert_eq!(response.headers["retry-after"], "1");
    assert_eq!(health(app.address).await, 200);

    peers.nats.restart().await.unwrap();
    eventually(SOON, async || app.post(event("knock").to_bytes()).await.status == 200)
        .await
        .unwrap();
    peers.control_plane = peers.nats.client().await.unwrap();
    let mut control_plane = peers.listen(TASK_TRIGGERED).await;
    assert_eq!(app.post(event("after").to_bytes()).await.status, 200);
    assert_eq!(control_plane.next_ids(1).await, ["after"]);
}

#[tokio::test]
async fn events_are_received_again_after_nats_has_been_restarted() {
    let mut peers = Peers::start().await;
    let interest = subscriptions(&[("id1", TASK_TRIGGERED), ("id2", "sh.keptn.event.*.finished")]);
    let _app = peers.app_interested_in(interest, &[("PUBSUB_GROUP", "my-svc")]).await;
    peers.publish(&event("before")).await;
    peers.delivered(1).await;

    peers.nats.restart().await.unwrap();
    peers.wait_for_listening(TASK_TRIGGERED, 1).await;
    peers.wait_for_listening("sh.keptn.event.*.finished", 1).await;
    peers.control_plane = peers.nats.client().await.unwrap();
    peers.publish(&event("after")).await;

    let delivered = ids_and_subscriptions(&peers.delivered(2).await);
    assert_eq!(delivered[1], ("after".to_owned(), "id1".to_owned()));
}

#[tokio::test]
async fn an_event_in_delivery_survives_an_outage_of_nats() {
    let mut peers = Peers::start().await;
    let nats_is_gone = Arc::new(AtomicBool::new(false));
    let takes_events = Arc::clone(&nats_is_gone);
    peers
        .recipient
        .respond_with(move |_, _| Reply::status(if takes_events.load(Ordering::SeqCst) { 200 } else { 500 }));
    let _app = peers.app(&[ALL_TOPICS]).await;
    peers.publish_all([event("e1"), event("e2")]).await;
    peers.everything_is_sent().await;
    peers.delivered(1).await;

    peers.nats.stop().await.unwrap();
    nats_is_gone.store(true, Ordering::SeqCst);

    let last_is_there = async || {
        peers
            .recipient
            .journal()
            .iter()
            .any(|request| event_id(request) == "e2")
    };
    eventually(SOON, last_is_there).await.unwrap();
}

#[tokio::test]
async fn a_distributor_may_start_before_nats() {
    let port = free_port().unwrap();
    let recipient = Recipient::start().await.unwrap();
    let mut process = start_process(&[
        ALL_TOPICS,
        ("PUBSUB_URL", &format!("nats://127.0.0.1:{port}")),
        ("PUBSUB_RECIPIENT_PORT", &recipient.port().to_string()),
    ]);
    process.wait_until_ready(SOON).await.unwrap();
    let response = post(process.proxy_address(), event("early").to_bytes()).await;
    assert_eq!(problem(&response).0, 503);
    process.wait_for_log("cannot connect to NATS", SOON).await.unwrap();

    let nats = NatsServer::builder().port(port).start().await.unwrap();
    let peers = Peers {
        control_plane: nats.client().await.unwrap(),
        nats,
        recipient,
    };
    peers.wait_for_listening("sh.keptn.>", 1).await;
    peers.publish(&event("e1")).await;
    assert_eq!(peers.delivered_ids(1).await, ["e1"]);
    assert_eq!(post(process.proxy_address(), event("e2").to_bytes()).await.status, 200);
    process.wait_for_log("connected to NATS", SOON).await.unwrap();
    assert_eq!(lines_with(&process, "cannot connect to NATS").len(), 1);
}

#[tokio::test]
async fn credentials_in_the_url_open_the_server() {
    let nats = NatsServer::builder().user_and_password("user", "p@ss word");
    let nats = nats.start().await.unwrap();
    let url = format!("nats://user:p%40ss%20word@127.0.0.1:{}", nats.port());
    let process = start_process(&[ALL_TOPICS, ("PUBSUB_URL", &url)]);

    process.wait_for_log("connected to NATS", SOON).await.unwrap();
}

#[tokio::test]
async fn a_refused_password_is_told_once_and_not_repeated() {
    let nats = NatsServer::builder().user_and_password("user", "right");
    let nats = nats.start().await.unwrap();
    let url = format!("nats://user:wrong@127.0.0.1:{}", nats.port());
    let process = start_process(&[ALL_TOPICS, ("PUBSUB_URL", &url)]);

    let line = process.wait_for_log("cannot connect to NATS", SOON).await.unwrap();
    assert!(line.contains("authorization violation"), "{line}");
    let had = nats.n_connections_ever().await.unwrap();
    eventually(SOON, async || nats.n_connections_ever().await.unwrap() > had + 2)
        .await
        .unwrap();
    assert_eq!(lines_with(&process, "authorization violation").len(), 1);
    assert!(lines_with(&process, "wrong").is_empty());
}

#[tokio::test]
async fn what_is_wanted_may_change_while_nats_is_away() {
    let mut peers = Peers::start().await;
    let app = peers
        .app_interested_in(subscriptions(&[("id1", TASK_TRIGGERED)]), &[])
        .await;

    peers.nats.stop().await.unwrap();
    app.change_interest(subscriptions(&[("id2", "sh.keptn.event.task.*")]));
    peers.nats.restart().await.unwrap();
    peers.wait_for_listening("sh.keptn.event.task.*", 1).await;
    peers.wait_for_listening(TASK_TRIGGERED, 0).await;
    peers.control_plane = peers.nats.client().await.unwrap();
    peers.publish(&event("e1")).await;

    assert_eq!(
        ids_and_subscriptions(&peers.delivered(1).await),
        [("e1".to_owned(), "id2".to_owned())]
    );
}

#[tokio::test]
async fn another_server_of_the_list_takes_over() {
    let recipient = Recipient::start().await.unwrap();
    let mut servers = [NatsServer::start().await.unwrap(), NatsServer::start().await.unwrap()];
    let _process = start_process(&[
        ALL_TOPICS,
        ("PUBSUB_URL", &format!("{}, {}", servers[0].url(), servers[1].url())),
        ("PUBSUB_RECIPIENT_PORT", &recipient.port().to_string()),
    ]);
    let is_on = async |server: &NatsServer| {
        let clients = server.clients().await.unwrap_or_default();
        clients.iter().any(|client| !client.subscriptions.is_empty())
    };
    eventually(SOON, async || is_on(&servers[0]).await || is_on(&servers[1]).await)
        .await
        .unwrap();

    let first = usize::from(is_on(&servers[1]).await);
    servers[first].stop().await.unwrap();
    let other = &servers[1 - first];
    eventually(SOON, async || is_on(other).await).await.unwrap();

    let control_plane = other.client().await.unwrap();
    control_plane
        .publish(TASK_TRIGGERED, event("e1").to_bytes())
        .await
        .unwrap();
    assert_eq!(event_id(&recipient.wait_for(1, SOON).await.unwrap()[0]), "e1");
}
