//! What the consumer is asked to give, and what becomes of the rest.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::HeaderMap;
use serde_json::Value;
use test_support::{KeptnEvent, NatsServer, NatsVersion, Reply, eventually, keptn_stream};

use super::rig::{IN_TIME, Rig, STREAM, is_soak};
use crate::harness::{event, json};

const A: &str = "sh.keptn.event.a.triggered";
const B: &str = "sh.keptn.event.b.triggered";
const C: &str = "sh.keptn.event.c.triggered";

/// What the consumer gives. (The client knows only one subject.)
async fn filter(rig: &Rig) -> BTreeSet<String> {
    let api = format!("$JS.API.CONSUMER.INFO.{STREAM}.{}", rig.consumer().await.name);
    let client = rig.nats.client().await.unwrap();
    let info = json(&client.request(api, "".into()).await.unwrap().payload);
    let config = &info["config"];
    let several = config["filter_subjects"].as_array().into_iter().flatten();
    let all = several.chain([&config["filter_subject"]]).filter_map(Value::as_str);
    all.map(str::to_owned).collect()
}

fn set(subjects: &[&str]) -> BTreeSet<String> {
    subjects.iter().map(|&subject| subject.to_owned()).collect()
}

/// Publishes an event on each subject.
async fn publish(rig: &Rig, name: &str, subjects: &[&str]) {
    for subject in subjects {
        let event = KeptnEvent {
            ty: (*subject).to_owned(),
            ..event(&format!("{name} {subject}"))
        };
        rig.publish_bytes(subject, event.to_bytes()).await;
    }
}

fn delivered(rig: &Rig) -> Vec<String> {
    rig.recipient
        .deliveries()
        .iter()
        .map(|delivery| delivery.id.to_string())
        .collect()
}

#[tokio::test]
async fn several_topics_are_filtered_by_the_server_where_it_can() {
    for (version, expected) in [
        (NatsVersion::Newest, set(&[A, B])),
        (NatsVersion::V2_9, set(&["sh.keptn.event.*.triggered"])),
    ] {
        let rig = Rig::start_version(version).await;
        let topics = format!("{A},{B}");
        let _process = rig.process(&[("PUBSUB_TOPIC", &topics)]).await;
        assert_eq!(filter(&rig).await, expected);
        publish(&rig, "1", &[A, C, B, "sh.keptn.log", C, A]).await;
        rig.recipient.wait_until_accepted(2, IN_TIME).await.unwrap();
        rig.acknowledged().await;
        let expected = [format!("1 {A}"), format!("1 {B}"), format!("1 {A}")];
        assert_eq!(
            delivered(&rig),
            expected,
            "{version:?}: the others are acknowledged and dropped"
        );
    }
}

#[tokio::test]
async fn topics_that_changed_between_two_runs_are_added_at_once_and_taken_away_later() {
    for version in NatsVersion::ALL {
        let rig = Rig::start_version(version).await;
        let mut first = rig.process(&[("PUBSUB_TOPIC", A)]).await;
        assert_eq!(filter(&rig).await, set(&[A]));
        first.terminate().unwrap();
        first.wait_exit(IN_TIME).await.unwrap();
        publish(&rig, "while-away", &[A, B]).await;

        let _second = rig.process(&[("PUBSUB_TOPIC", B)]).await;
        let wide = match version {
            NatsVersion::Newest => set(&[A, B]),
            NatsVersion::V2_9 => set(&["sh.keptn.event.*.triggered"]),
        };
        // A replica of before may still want the first.
        assert_eq!(filter(&rig).await, wide, "{version:?}");
        publish(&rig, "again", &[A, B]).await;
        let has = async |id: &str| delivered(&rig).iter().any(|other| other == id);
        eventually(IN_TIME, async || has(&format!("again {B}")).await)
            .await
            .unwrap();
        rig.acknowledged().await;
        assert!(
            !delivered(&rig).iter().any(|id| id.ends_with(A)),
            "{:?}",
            delivered(&rig)
        );
        if is_soak() {
            let is_narrow = async || filter(&rig).await == set(&[B]);
            eventually(Duration::from_secs(40), is_narrow).await.unwrap();
            publish(&rig, "narrow", &[A, B]).await;
            eventually(IN_TIME, async || has(&format!("narrow {B}")).await)
                .await
                .unwrap();
            rig.acknowledged().await;
        }
    }
}

#[tokio::test]
async fn the_subject_decides_and_not_the_type_of_the_event() {
    let rig = Rig::start().await;
    let _process = rig.process(&[("PUBSUB_TOPIC", A)]).await;
    let of_another_type = KeptnEvent {
        ty: "com.example.order".to_owned(),
        ..event("another type")
    };
    rig.publish_bytes(A, of_another_type.to_bytes()).await;
    let on_another_subject = KeptnEvent {
        ty: A.to_owned(),
        ..event("another subject")
    };
    rig.publish_bytes(B, on_another_subject.to_bytes()).await;
    publish(&rig, "last", &[A]).await;
    rig.recipient.wait_until_accepted(2, IN_TIME).await.unwrap();
    rig.acknowledged().await;
    assert_eq!(delivered(&rig), ["another type".to_owned(), format!("last {A}")]);
}

#[tokio::test]
async fn streams_that_have_nothing_to_do_with_keptn_work_as_well() {
    let rig = Rig::without_stream(NatsServer::builder()).await;
    let config = keptn_stream(STREAM, &["orders.*", "bills.>"], 1);
    rig.jetstream.create_stream(config).await.unwrap();
    let bodies = bodies(&rig);
    let _process = rig.process(&[("PUBSUB_TOPIC", "orders.new,bills.>")]).await;
    let order =
        r#"{"specversion":"1.0","id":"1","source":"shop","type":"order","datacontenttype":"text/plain","data":"two"}"#;
    rig.publish_bytes("orders.new", order).await;
    // They have no key: none waits for another by itself.
    rig.recipient.wait_until_accepted(1, IN_TIME).await.unwrap();
    rig.publish_bytes("orders.old", order.replace("\"1\"", "\"2\"")).await;
    rig.publish_bytes("bills.2024.may", order.replace("\"1\"", "\"3\""))
        .await;
    rig.recipient.wait_until_accepted(2, IN_TIME).await.unwrap();
    rig.acknowledged().await;
    let bodies: Vec<_> = bodies.lock().unwrap().iter().map(|body| json(body)).collect();
    let expected = [json(order.as_bytes()), json(order.replace("\"1\"", "\"3\"").as_bytes())];
    assert_eq!(bodies, expected, "nothing is added, and the other subject is left out");
}

#[tokio::test]
async fn an_event_in_binary_mode_is_delivered_as_a_whole() {
    let rig = Rig::start().await;
    let bodies = bodies(&rig);
    let _process = rig.process(&[("PUBSUB_TOPIC", A)]).await;
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", "binary"),
        ("ce-source", "shop"),
        ("ce-type", A),
        ("ce-shkeptncontext", "context"),
        ("content-type", "application/json"),
    ] {
        headers.insert(name, value);
    }
    let sent = rig.jetstream.publish_with_headers(A, headers, r#"{"n":1}"#.into());
    sent.await.unwrap().await.unwrap();
    rig.recipient.wait_until_accepted(1, IN_TIME).await.unwrap();
    rig.acknowledged().await;
    let body = json(&bodies.lock().unwrap()[0]);
    let attributes =
        ["id", "source", "type", "shkeptncontext", "datacontenttype"].map(|name| body[name].as_str().unwrap());
    assert_eq!(attributes, ["binary", "shop", A, "context", "application/json"]);
    assert_eq!(body["data"], serde_json::json!({"n": 1}));
}

/// What the service gets from now on.
fn bodies(rig: &Rig) -> Arc<Mutex<Vec<bytes::Bytes>>> {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&bodies);
    rig.recipient.respond_with(move |request, _| {
        kept.lock().unwrap().push(request.body.clone());
        Reply::status(200)
    });
    bodies
}
