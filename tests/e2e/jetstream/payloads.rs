//! Every form of an event that a stream may hold arrives at the service, large and small, and keeps its name.

use async_nats::HeaderMap;
use test_support::{KeptnEvent, Recipient, Reply, eventually};

use super::rig::{IN_TIME, Rig, peak_mebibytes};
use crate::harness::{TASK_TRIGGERED, event_id, json, lines_with};

/// What NATS servers take if nothing else is configured.
const MAX_PAYLOAD: usize = 1 << 20;

/// A service that keeps whole requests, and the variable that leads to it.
async fn service() -> (Recipient, String) {
    let service = Recipient::start().await.unwrap();
    let port = service.port().to_string();
    (service, port)
}

#[tokio::test]
async fn events_of_any_size_arrive_byte_for_byte() {
    let rig = Rig::start().await;
    let (service, port) = service().await;
    let process = rig.process(&[("PUBSUB_RECIPIENT_PORT", &port)]).await;
    let smallest = r#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#.to_owned();
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let deep = smallest.replace('}', &format!(r#","data":{deep}}}"#));
    let repeated = r#"{"id":"no","specversion":"1.0","id":"1","source":"s","type":"t","type":"t"}"#.to_owned();
    let numbers = smallest.replace('}', &format!(r#","data":[1e999999,-0.0,{}]}}"#, "9".repeat(10_000)));
    let old = smallest.replace("1.0", "0.3");
    let of_size = |size_bytes| {
        let event = KeptnEvent {
            size_bytes,
            ..KeptnEvent::of_type(TASK_TRIGGERED)
        };
        String::from_utf8(event.to_bytes().to_vec()).unwrap()
    };
    let sizes = [64 << 10, 256 << 10, MAX_PAYLOAD].map(of_size);
    let events = [smallest, deep, repeated, numbers, old].into_iter().chain(sizes);
    for (nth, event) in events.enumerate() {
        rig.publish_bytes(TASK_TRIGGERED, event.clone()).await;
        let journal = service.wait_for(nth + 1, IN_TIME).await.unwrap();
        assert!(
            journal[nth].body == event,
            "{} bytes, {}",
            event.len(),
            &event[..event.len().min(100)]
        );
    }
    rig.acknowledged().await;
    assert_eq!(rig.dead_letters().await.len(), 0);
    println!("peak {} MiB", peak_mebibytes(&process));
}

#[tokio::test]
async fn events_in_binary_mode_are_delivered_in_structured_mode() {
    let rig = Rig::start().await;
    let (service, port) = service().await;
    let _process = rig.process(&[("PUBSUB_RECIPIENT_PORT", &port)]).await;
    let cases = [
        ("json", "application/json", r#"{"n": 12345678901234567890}"#.as_bytes()),
        ("text", "text/plain", b"some \"text\""),
        ("bytes", "application/octet-stream", b"\xff\x00"),
        ("nothing", "application/json", b""),
    ];
    for (nth, (id, content_type, data)) in cases.into_iter().enumerate() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", id),
            ("ce-source", "test"),
            ("ce-type", TASK_TRIGGERED),
            ("ce-shkeptncontext", "c"),
            ("content-type", content_type),
        ] {
            headers.insert(name, value);
        }
        let sent = rig.jetstream.publish_with_headers(TASK_TRIGGERED, headers, data.into());
        sent.await.unwrap().await.unwrap();
        let journal = service.wait_for(nth + 1, IN_TIME).await.unwrap();
        let request = &journal[nth];
        assert_eq!(request.header("content-type"), Some("application/cloudevents+json"));
        let event = json(&request.body);
        assert_eq!((&event["id"], &event["shkeptncontext"]), (&id.into(), &"c".into()));
        match id {
            "json" => assert!(String::from_utf8_lossy(&request.body).contains(r#""data":{"n": 12345678901234567890}"#)),
            "text" => assert_eq!(event["data"], "some \"text\""),
            "bytes" => assert_eq!(event["data_base64"], "/wA="),
            _ => assert!(
                event.get("data").is_none() && event.get("data_base64").is_none(),
                "{event}"
            ),
        }
    }
    rig.acknowledged().await;
    assert_eq!(rig.dead_letters().await.len(), 0);
}

#[tokio::test]
async fn an_event_without_an_id_has_the_same_one_whenever_it_comes() {
    let rig = Rig::start().await;
    let (service, port) = service().await;
    let variables = [
        ("PUBSUB_RECIPIENT_PORT", port.as_str()),
        ("DELIVERY_BACKOFF_DELAY", "10m"),
        ("DELIVERY_BACKOFF_MAX", "10m"),
    ];
    let mut process = rig.process(&variables).await;
    service.respond_with(|_, _| Reply::Status(500, vec![("Retry-After".to_owned(), "300".to_owned())]));
    let without_id = format!(r#"{{"specversion":"1.0","source":"s","type":"{TASK_TRIGGERED}"}}"#);
    for _ in 0..2 {
        rig.publish_bytes(TASK_TRIGGERED, without_id.clone()).await;
    }
    let both_wait = async || lines_with(&process, "trying again").len() == 2;
    eventually(IN_TIME, both_wait).await.unwrap();
    process.terminate().unwrap();
    process.wait_exit(IN_TIME).await.unwrap();
    service.respond_with(|_, _| Reply::status(200));
    let _process = rig.process(&variables).await;
    rig.acknowledged().await;

    let mut ids: Vec<_> = service.journal().iter().map(event_id).collect();
    assert_eq!(ids.len(), 4);
    ids.sort();
    assert_eq!((&ids[0], &ids[2]), (&ids[1], &ids[3]), "the same event");
    assert_ne!(ids[0], ids[2], "two events that are alike are two");
    assert!(!ids[0].is_empty());
}
