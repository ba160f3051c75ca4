//! Events of the service where a stream stores them: 200 is said when it has, and only then.

mod outages;
mod stored;

use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use futures_util::StreamExt;
use futures_util::future::join_all;
use sha2::{Digest, Sha256};
use test_support::{KeptnEvent, NatsServer, NatsVersion, Recipient, keptn_stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use self::stored::*;
use crate::harness::*;

#[tokio::test]
async fn an_event_is_in_the_stream_under_the_hash_of_its_bytes() {
    for version in NatsVersion::ALL {
        let keptn = keptn_stream("keptn", &["sh.keptn.>"], 1);
        let stored = Stored::start_with(NatsServer::builder().version(version), keptn).await;
        let app = stored.peers.app(&[]).await;

        let event = finished("e1");
        let response = app.post(event.clone()).await;
        assert_eq!(
            (response.status, response.body.as_ref()),
            (200, &b""[..]),
            "{version:?}"
        );

        let [message] = stored.messages().await.try_into().unwrap();
        assert_eq!((message.subject.as_str(), &message.payload), (TASK_FINISHED, &event));
        let id = message.headers.get("Nats-Msg-Id").unwrap().as_str();
        assert_eq!(id, &digest(&event)[..32]);
        assert_eq!(format!("{:x}", Sha256::digest(&event)), digest(&event));
        assert_eq!(message.headers.len(), 1);
    }
}

#[tokio::test]
async fn the_same_event_again_is_taken_and_stored_once() {
    for version in NatsVersion::ALL {
        let keptn = keptn_stream("keptn", &["sh.keptn.>"], 1);
        let stored = Stored::start_with(NatsServer::builder().version(version), keptn).await;
        let app = stored.peers.app(&[]).await;

        for id in ["e1", "e1", "e2", "e1"] {
            assert_eq!(app.post(finished(id)).await.status, 200);
        }
        // As is one that another replica takes.
        let replica = stored.peers.app(&[]).await;
        assert_eq!(replica.post(finished("e2")).await.status, 200);
        assert_eq!(post_batch(&app, &["e3", "e1", "e3"].map(finished)).await.status, 200);

        assert_eq!(stored.ids().await, ["e1", "e2", "e3"], "{version:?}");
    }
}

#[tokio::test]
async fn the_same_event_in_another_step_of_a_trace_is_stored_once() {
    let stored = Stored::start_with(NatsServer::builder(), keptn_stream("keptn", &["sh.keptn.>"], 1)).await;
    let app = stored.peers.app(&[]).await;
    for step in ["00000000000000aa", "00000000000000bb"] {
        let parent = format!("00-0af7651916cd43dd8448eb211c80319c-{step}-01");
        assert_eq!(
            app.post_with(&[("traceparent", &parent)], finished("e1")).await.status,
            200
        );
    }
    let [message] = stored.messages().await.try_into().unwrap();
    let text = String::from_utf8(message.payload.to_vec()).unwrap();
    assert!(text.contains("-00000000000000aa-"), "{text}");
}

#[tokio::test]
async fn a_long_batch_is_stored_in_its_order() {
    const N_EVENTS: usize = 1_000;
    let stored = Stored::start().await;
    let app = stored.peers.app(&[("API_PROXY_MAX_PAYLOAD_BYTES_KB", "0")]).await;
    let ids = numbered_ids("event", N_EVENTS);

    let events: Vec<_> = ids.iter().map(|id| finished(id)).collect();
    assert_eq!(post_batch(&app, &events).await.status, 200);

    assert_same(&stored.ids().await, &ids);
}

#[tokio::test]
async fn a_batch_is_taken_when_all_of_it_is_stored() {
    let limited = |max_messages| Config {
        max_messages,
        discard: DiscardPolicy::New,
        ..keptn_stream("keptn", &["sh.keptn.>"], 1)
    };
    for version in NatsVersion::ALL {
        let stored = Stored::start_with(NatsServer::builder().version(version), limited(2)).await;
        let app = stored.peers.app(&[]).await;
        let batch = ["e1", "e2", "e3"].map(finished);

        let reason = try_again(&post_batch(&app, &batch).await);
        assert!(reason.contains("maximum messages exceeded"), "{reason}, {version:?}");
        assert!(reason.contains("the stream refused"), "{reason}, {version:?}");
        assert_eq!(stored.ids().await, ["e1", "e2"]);

        stored.jetstream.update_stream(limited(3)).await.unwrap();
        assert_eq!(post_batch(&app, &batch).await.status, 200);
        assert_eq!(stored.ids().await, ["e1", "e2", "e3"], "{version:?}");
    }
}

#[tokio::test]
async fn an_event_that_is_too_large_for_the_stream_is_refused_with_its_reason() {
    let picky = Config {
        max_message_size: 1_000,
        ..keptn_stream("keptn", &["sh.keptn.>"], 1)
    };
    let stored = Stored::start_with(NatsServer::builder(), picky).await;
    let app = stored.peers.app(&[]).await;
    let large = KeptnEvent {
        size_bytes: 1_001,
        ..KeptnEvent::of_type(TASK_FINISHED)
    };

    let reason = try_again(&app.post(large.to_bytes()).await);
    assert!(reason.contains("message size exceeds maximum"), "{reason}");
    assert_eq!(app.post(finished("small")).await.status, 200);
    assert_eq!(stored.ids().await, ["small"]);
}

#[tokio::test]
async fn an_event_that_is_too_large_with_its_headers_is_refused_before_it_is_sent() {
    const LIMIT: usize = 1 << 20;
    let stored = Stored::start().await;
    let app = stored.peers.app(&[("API_PROXY_MAX_PAYLOAD_BYTES_KB", "0")]).await;
    let of_size = |ty: &str, size_bytes| {
        let event = KeptnEvent {
            size_bytes,
            ..KeptnEvent::of_type(ty)
        };
        event.to_bytes()
    };

    // The message id takes 59 bytes; what no stream stores has none.
    let batch = [finished("before"), of_size(TASK_FINISHED, LIMIT - 58)];
    let (status, reason) = problem(&post_batch(&app, &batch).await);
    assert_eq!(status, 413);
    assert!(reason.contains("1048577 bytes"), "{reason}");
    assert_eq!(stored.ids().await, [""; 0]);
    assert_eq!(app.post(of_size(TASK_FINISHED, LIMIT - 59)).await.status, 200);
    assert_eq!(app.post(of_size(UNCOVERED, LIMIT)).await.status, 200);
    assert_eq!(problem(&app.post(of_size(UNCOVERED, LIMIT + 1)).await).0, 413);
}

#[tokio::test]
async fn what_no_stream_stores_goes_to_those_who_listen_without_asking_for_an_answer() {
    let stored = Stored::start().await;
    let mut listener = stored.peers.control_plane.subscribe(">").await.unwrap();
    stored.peers.control_plane.flush().await.unwrap();
    let app = stored.peers.app(&[]).await;

    let batch = [of_type(UNCOVERED, "e1"), finished("e2"), of_type(UNCOVERED, "e3")];
    assert_eq!(post_batch(&app, &batch).await.status, 200);

    let mut events = Vec::new();
    while events.len() < 3 {
        let message = tokio::time::timeout(SOON, listener.next()).await.unwrap().unwrap();
        if batch.contains(&message.payload) {
            events.push((message.payload, message.reply.is_some(), message.headers.is_some()));
        }
    }
    let [e1, e2, e3] = batch;
    assert_eq!(events, [(e1, false, false), (e2, true, true), (e3, false, false)]);
    assert_eq!(stored.ids().await, ["e2"]);
}

#[tokio::test]
async fn a_stream_that_never_confirms_is_not_waited_for() {
    let silent = Config {
        no_ack: true,
        ..keptn_stream("keptn", &["sh.keptn.>"], 1)
    };
    let stored = Stored::start_with(NatsServer::builder(), silent).await;
    let app = stored.peers.app(&[]).await;

    assert_eq!(app.post(finished("e1")).await.status, 200);
    assert_eq!(stored.ids().await, ["e1"]);
}

#[tokio::test]
async fn a_thousand_services_at_once_need_one_lookup() {
    const N_CLIENTS: usize = 1_000;
    let stored = Stored::start_with(
        NatsServer::builder(),
        Config {
            storage: StorageType::Memory,
            ..keptn_stream("keptn", &["sh.keptn.>"], 1)
        },
    )
    .await;
    let app = stored.peers.app(&[]).await;
    let mut listener = stored.peers.listen(UNCOVERED).await;
    let before = stored.n_api_requests().await;

    let (ids, events): (Vec<_>, Vec<_>) = numbered_ids("event", N_CLIENTS)
        .into_iter()
        .enumerate()
        .map(|(number, id)| {
            let ty = if number % 2 == 0 { TASK_FINISHED } else { UNCOVERED };
            let event = of_type(ty, &id);
            ((number % 2 == 0, id), event)
        })
        .unzip();
    let responses = join_all(events.into_iter().map(|event| app.post(event))).await;
    assert!(responses.iter().all(|response| response.status == 200));

    // The names of the streams of both types, and what the one stream is; there may be others who ask.
    let n_requests = stored.n_api_requests().await - before;
    assert!((3..20).contains(&n_requests), "{n_requests}");
    let ids_where = |stored: bool| {
        let ids = ids.iter().filter(|(is_stored, _)| *is_stored == stored);
        let mut ids: Vec<_> = ids.map(|(_, id)| id.clone()).collect();
        ids.sort();
        ids
    };
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    assert_same(&sorted(stored.ids().await), &ids_where(true));
    assert_same(&sorted(listener.next_ids(N_CLIENTS / 2).await), &ids_where(false));
}

#[tokio::test]
async fn a_slow_service_holds_nobody_up() {
    let stored = Stored::start().await;
    let app = stored.peers.app(&[]).await;
    let event = finished("slow");
    let (first, rest) = event.split_at(event.len() / 2);
    let mut slow = TcpStream::connect(app.address).await.unwrap();
    let head = format!(
        "POST /event HTTP/1.1\r\nhost: d\r\ncontent-length: {}\r\n\r\n",
        event.len()
    );
    slow.write_all(&[head.as_bytes(), first].concat()).await.unwrap();

    assert_eq!(app.post(finished("quick")).await.status, 200);
    slow.write_all(rest).await.unwrap();
    let mut status = [0; 12];
    slow.read_exact(&mut status).await.unwrap();

    assert_eq!(&status, b"HTTP/1.1 200");
    assert_eq!(stored.ids().await, ["quick", "slow"]);
}

#[tokio::test]
async fn a_service_that_leaves_does_no_harm_to_others() {
    let stored = Stored::start().await;
    let app = stored.peers.app(&[]).await;
    let event = finished("left");
    let request = format!(
        "POST /event HTTP/1.1\r\nhost: d\r\ncontent-length: {}\r\n\r\n",
        event.len()
    );

    for _ in 0..20 {
        let mut leaving = TcpStream::connect(app.address).await.unwrap();
        leaving.write_all(&[request.as_bytes(), &event].concat()).await.unwrap();
    }

    assert_eq!(app.post(finished("stays")).await.status, 200);
    assert!(stored.ids().await.contains(&"stays".to_owned()));
}

#[tokio::test]
async fn an_account_without_jetstream_has_its_events_taken() {
    const ACCOUNTS: &str = "accounts { \
        with { jetstream: enabled, users: [{ user: with, password: p }] }, \
        without { users: [{ user: without, password: p }] } }";
    for version in NatsVersion::ALL {
        let builder = NatsServer::builder().version(version).jetstream(true);
        let nats = builder.config_lines(ACCOUNTS).start().await.unwrap();
        let control_plane = nats.client_as("without", "p").await.unwrap();
        let url = nats.url_as("without", "p");
        let recipient = Recipient::start().await.unwrap();
        let peers = Peers {
            nats,
            recipient,
            control_plane,
        };
        let app = peers.app(&[("PUBSUB_URL", &url)]).await;
        let mut listener = peers.listen(TASK_FINISHED).await;

        assert_eq!(app.post(finished("e1")).await.status, 200, "{version:?}");
        assert_eq!(listener.next_ids(1).await, ["e1"]);
    }
}

#[tokio::test]
async fn a_type_is_as_long_as_a_subject_may_be() {
    let stored = Stored::start().await;
    let app = stored.peers.app(&[]).await;
    let connections = stored.peers.nats.n_connections_ever().await.unwrap();
    let typed = |prefix: &str, length: usize| {
        let ty = format!("{prefix}{}", "x".repeat(length - prefix.len()));
        of_type(&ty, "e")
    };

    assert_eq!(app.post(typed("sh.keptn.", 2_048)).await.status, 200);
    assert_eq!(app.post(typed("other.", 2_048)).await.status, 200);
    for too_long in [2_049, 60_000] {
        let (status, reason) = problem(&app.post(typed("sh.keptn.", too_long)).await);
        assert_eq!(status, 400);
        assert!(reason.len() < 200 && reason.contains(&too_long.to_string()), "{reason}");
    }

    assert_eq!(app.post(finished("after")).await.status, 200);
    assert_eq!(stored.peers.nats.n_connections_ever().await.unwrap(), connections);
}
