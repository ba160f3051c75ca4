//! Starting, pausing and ending a server, and what it tells about its clients.

use super::*;
use tokio::time::timeout;

#[tokio::test]
async fn a_restarted_server_has_the_same_port_and_store() {
    let mut server = NatsServer::builder().jetstream(true).start().await.unwrap();
    let url = server.url();
    let stream = async_nats::jetstream::stream::Config {
        name: "kept".into(),
        ..Default::default()
    };
    let jetstream = async_nats::jetstream::new(server.client().await.unwrap());
    jetstream.create_stream(stream).await.unwrap();

    server.restart().await.unwrap();

    assert_eq!(server.url(), url);
    let jetstream = async_nats::jetstream::new(server.client().await.unwrap());
    jetstream.get_stream("kept").await.unwrap();
}

#[tokio::test]
async fn the_server_tells_who_is_connected_and_subscribed() {
    let server = NatsServer::start().await.unwrap();
    let client = server.client().await.unwrap();
    let _first = client.subscribe("a.>").await.unwrap();
    let second = client.subscribe("a.>").await.unwrap();

    let subjects = async || {
        let [client] = server.clients().await.unwrap().try_into().unwrap();
        let subjects = client.subscriptions.into_iter().map(|(subject, _)| subject);
        subjects.collect::<Vec<_>>()
    };
    eventually(START_LIMIT, async || subjects().await == ["a.>", "a.>"])
        .await
        .unwrap();

    drop(second);
    eventually(START_LIMIT, async || subjects().await == ["a.>"])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let first = NatsServer::start().await.unwrap();
    let error = NatsServer::builder().port(first.port()).start().await.unwrap_err();
    assert!(format!("{error:#}").contains("address already in use"), "{error:#}");
}

#[tokio::test]
async fn a_terminated_server_is_gone_and_comes_back() {
    let mut server = NatsServer::start().await.unwrap();
    assert_eq!(server.url_as("a", "b"), format!("nats://a:b@{}", server.address()));
    let client = server.client().await.unwrap();
    client.flush().await.unwrap();

    server.terminate().await.unwrap();
    assert!(!server.is_running());
    server.client().await.unwrap_err();
    server.monitoring("/varz").await.unwrap_err();
    server.pause().await.unwrap_err();

    server.restart().await.unwrap();
    assert!(server.is_running());
    server.client().await.unwrap();
}

#[tokio::test]
async fn a_paused_server_keeps_connections_and_answers_later() {
    let server = NatsServer::start().await.unwrap();
    let client = server.client().await.unwrap();
    let inbox = client.new_inbox();
    let echo = async || {
        let request = async_nats::Request::new().inbox(inbox.clone()).timeout(None);
        client.send_request(inbox.clone(), request).await
    };
    echo().await.unwrap();
    let n_connections = server.n_connections_ever().await.unwrap();

    server.pause().await.unwrap();
    let mut answer = Box::pin(echo());
    timeout(Duration::from_millis(100), &mut answer).await.unwrap_err();
    server.resume().unwrap();
    timeout(START_LIMIT, answer).await.unwrap().unwrap();
    assert_eq!(server.n_connections_ever().await.unwrap(), n_connections);
}
