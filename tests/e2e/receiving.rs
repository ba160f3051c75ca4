//! From NATS to the service: how a delivery looks, and who gets which event.

use async_nats::HeaderMap;
use futures_util::future::join_all;
use test_support::eventually;

use crate::harness::*;

#[tokio::test]
async fn an_event_of_a_topic_is_delivered_once_and_without_a_subscription() {
    let peers = Peers::start().await;
    let _app = peers.app(&[("PUBSUB_TOPIC", TASK_TRIGGERED)]).await;

    peers.publish_all([event("e1"), event("e2")]).await;

    let journal = peers.delivered(2).await;
    assert_eq!(peers.delivered_ids(2).await, ["e1", "e2"]);
    assert!(json(&journal[0].body)["data"].get("temporaryData").is_none());
}

#[tokio::test]
async fn a_delivery_is_a_post_in_structured_mode_with_the_extensions_of_keptn() {
    let peers = Peers::start().await;
    let _app = peers.app(&[ALL_TOPICS, ("PUBSUB_RECIPIENT_PATH", "/events")]).await;

    let bare = r#"{"specversion":"1.0","id":"bare","source":"s","type":"sh.keptn.event.task.triggered"}"#;
    peers.publish_bytes(TASK_TRIGGERED, bare).await;

    let request = &peers.delivered(1).await[0];
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/events"));
    assert_eq!(request.header("content-type"), Some("application/cloudevents+json"));
    assert!(!request.headers.keys().any(|name| name.as_str().starts_with("ce-")));
    let body = request.json().unwrap();
    for extension in ["shkeptncontext", "triggeredid", "gitcommitid", "shkeptnspecversion"] {
        assert_eq!(body[extension], "", "{extension}");
    }
}

#[tokio::test]
async fn deliveries_share_a_connection() {
    let peers = Peers::start().await;
    let _app = peers.app(&[ALL_TOPICS]).await;

    peers.publish_all(events("e", 100)).await;

    let connections = peers
        .delivered(100)
        .await
        .iter()
        .map(|request| request.connection)
        .max();
    assert_eq!(connections, Some(0), "one event after the other needs one connection");
}

#[tokio::test]
async fn overlapping_topics_deliver_once() {
    let topics = "sh.keptn.event.*.triggered, sh.keptn.event.task.triggered, sh.keptn.event.task.*";
    let peers = Peers::start().await;
    let _app = peers.app(&[("PUBSUB_TOPIC", topics)]).await;

    peers.publish_all(events("e", 20)).await;
    peers.publish(&event("marker")).await;

    let mut expected = numbered_ids("e", 20);
    expected.push("marker".to_owned());
    assert_eq!(peers.delivered_ids(21).await, expected);
}

#[tokio::test]
async fn what_a_topic_covers_only_by_accident_is_not_delivered() {
    // The two overlap in part, so that the one subscription to NATS is wider than both.
    let peers = Peers::start().await;
    let _app = peers.app(&[("PUBSUB_TOPIC", "a.*,*.b")]).await;

    for (subject, id) in [("c.d", "unwanted"), ("a.x", "first"), ("x.b", "second")] {
        peers.publish_bytes(subject, event(id).to_bytes()).await;
    }

    assert_eq!(peers.delivered_ids(2).await, ["first", "second"]);
}

#[tokio::test]
async fn each_event_reaches_one_member_of_a_queue_group() {
    let (peers, other) = (Peers::start().await, Peers::start().await);
    let group = [ALL_TOPICS, ("PUBSUB_GROUP", "my-service")];
    let _first = peers.app(&group).await;
    let other_port = other.recipient.port().to_string();
    let _second = peers
        .app(&[group[0], group[1], ("PUBSUB_RECIPIENT_PORT", &other_port)])
        .await;

    peers.publish_all(events("e", 200)).await;

    let journals = || [peers.recipient.journal(), other.recipient.journal()];
    eventually(SOON, async || journals().concat().len() >= 200)
        .await
        .unwrap();
    let [first, second] = journals();
    assert!(!first.is_empty() && !second.is_empty());
    let mut ids: Vec<_> = first.iter().chain(&second).map(event_id).collect();
    ids.sort_by_key(|id| id[2..].parse::<usize>().unwrap());
    assert_same(&ids, &numbered_ids("e", 200));
}

#[tokio::test]
async fn without_a_group_every_distributor_gets_every_event() {
    let (peers, other) = (Peers::start().await, Peers::start().await);
    let other_port = other.recipient.port().to_string();
    let _first = peers.app(&[ALL_TOPICS]).await;
    let _second = peers.app(&[ALL_TOPICS, ("PUBSUB_RECIPIENT_PORT", &other_port)]).await;

    peers.publish_all(events("e", 20)).await;

    let delivered = join_all([peers.delivered_ids(20), other.delivered_ids(20)]).await;
    assert_eq!(delivered, [numbered_ids("e", 20), numbered_ids("e", 20)]);
}

#[tokio::test]
async fn a_message_in_binary_mode_is_delivered_in_structured_mode() {
    let peers = Peers::start().await;
    let _app = peers.app(&[ALL_TOPICS]).await;

    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "b1"),
        ("ce-source", "test"),
        ("ce-type", TASK_TRIGGERED),
        ("ce-shkeptncontext", "c1"),
        ("content-type", "application/json"),
    ] {
        headers.insert(name, value);
    }
    let published = peers.control_plane.publish_with_headers(
        TASK_TRIGGERED,
        headers,
        r#"{"project": 12345678901234567890}"#.into(),
    );
    published.await.unwrap();

    let request = &peers.delivered(1).await[0];
    assert_eq!(request.header("content-type"), Some("application/cloudevents+json"));
    let body = request.json().unwrap();
    assert_eq!((&body["id"], &body["shkeptncontext"]), (&"b1".into(), &"c1".into()));
    assert_eq!(body["datacontenttype"], "application/json");
    assert!(
        request.body.ends_with(br#""data":{"project": 12345678901234567890}}"#),
        "{body}"
    );
}

#[tokio::test]
async fn what_is_no_event_is_given_up_and_the_next_one_delivered() {
    let peers = Peers::start().await;
    let mut process = peers.process(&[ALL_TOPICS]).await;

    let malformed: [&[u8]; 6] = [
        b"",
        b"not JSON",
        b"[]",
        br#"{"specversion":"2.0","id":"i","source":"s","type":"t"}"#,
        br#"{"specversion":"1.0","id":"i","type":"t"}"#,
        b"\xff\xfe",
    ];
    for payload in malformed {
        peers.publish_bytes(TASK_TRIGGERED, payload.to_vec()).await;
    }
    peers.publish_bytes(TASK_TRIGGERED, "[".repeat(100_000)).await;
    peers.publish(&event("sound")).await;

    assert_eq!(peers.delivered_ids(1).await, ["sound"]);
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    let errors = lines_with(&process, "ERROR");
    assert_eq!(errors.len(), 7, "{errors:#?}");
    for line in errors {
        for word in [
            "dead letter; ",
            "reason=\"malformed\"",
            "attempt=0",
            &format!("subject=\"{TASK_TRIGGERED}\""),
        ] {
            assert!(line.contains(word), "{word} is missing: {line}");
        }
        assert!(!line.contains("error=\"\""), "the cause is missing: {line}");
    }
    for counter in ["malformed=7", "undelivered=7", "delivered=1"] {
        assert_eq!(lines_with(&process, &format!(" {counter}")).len(), 1, "{counter}");
    }
}

#[tokio::test]
async fn an_event_without_an_id_gets_one_that_stays_the_same() {
    let peers = Peers::start().await;
    let _app = peers.app(&[ALL_TOPICS]).await;
    let without_id = |source: &str| {
        format!(r#"{{"specversion":"1.0","source":"{source}","type":"{TASK_TRIGGERED}","shkeptncontext":"c"}}"#)
    };

    for source in ["a", "b", "a"] {
        peers.publish_bytes(TASK_TRIGGERED, without_id(source)).await;
    }

    let ids = peers.delivered_ids(3).await;
    assert!(!ids[0].is_empty());
    assert_eq!(ids[0], ids[2]);
    assert_ne!(ids[0], ids[1]);
}
