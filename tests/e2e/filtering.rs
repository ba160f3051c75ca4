//! The filters of the environment, as a user sets them: the built-in component decides.

use crate::harness::*;

/// Runs a distributor with these filters over events with this data, and returns the data of those delivered.
async fn delivered_with(filters: &[(&str, &str)], data: &[&str]) -> Vec<String> {
    // Every filter of these tests accepts it.
    let marker = r#"{"project":"p1","stage":"dev","service":"carts","marker":1}"#;
    let peers = Peers::start().await;
    let variables = [&[ALL_TOPICS], filters].concat();
    let _process = peers.process(&variables).await;
    for data in data.iter().chain([&marker]) {
        let event = format!(
            r#"{{"specversion":"1.0","id":"i","source":"s","type":"{TASK_TRIGGERED}","shkeptncontext":"c","triggeredid":"","gitcommitid":"","shkeptnspecversion":"","data":{data}}}"#
        );
        peers.publish_bytes(TASK_TRIGGERED, event).await;
    }
    let mut delivered = Vec::new();
    while delivered.last().is_none_or(|last| last != marker) {
        let journal = peers.delivered(delivered.len() + 1).await;
        let text = String::from_utf8_lossy(&journal[delivered.len()].body).into_owned();
        let (_, data) = text.split_once(r#""data":"#).unwrap();
        delivered.push(data.strip_suffix('}').unwrap().to_owned());
    }
    delivered.pop();
    delivered
}

const P1: &str = r#"{"project":"p1"}"#;
const P2: &str = r#"{"project":"p2"}"#;
const P3: &str = r#"{"project":"p3"}"#;
const MISSING: &str = "{}";
const NULL: &str = r#"{"project":null}"#;
const NUMBER: &str = r#"{"project":5}"#;
const LIST: &str = "[1,2]";
const TEXT: &str = "\"text\"";
const EVERYTHING: [&str; 8] = [P1, P2, P3, MISSING, NULL, NUMBER, LIST, TEXT];

#[tokio::test]
async fn without_a_filter_everything_passes_even_what_cannot_be_decoded() {
    assert_eq!(delivered_with(&[], &EVERYTHING).await, EVERYTHING);
    assert_eq!(
        delivered_with(&[("PROJECT_FILTER", " ")], &EVERYTHING).await,
        EVERYTHING
    );
}

#[tokio::test]
async fn a_list_accepts_its_items_trimmed_and_nothing_else() {
    let delivered = delivered_with(&[("PROJECT_FILTER", "p1, p2 ")], &EVERYTHING).await;
    assert_eq!(delivered, [P1, P2]);
    let close = [
        r#"{"project":"P1"}"#,
        r#"{"project":" p1"}"#,
        r#"{"project":"p1,p2"}"#,
        r#"{"Project":"p1"}"#,
    ];
    assert_eq!(delivered_with(&[("PROJECT_FILTER", "p1,p2")], &close).await, [""; 0]);
}

#[tokio::test]
async fn an_empty_item_accepts_a_missing_field() {
    let delivered = delivered_with(&[("PROJECT_FILTER", "p1,")], &EVERYTHING).await;
    assert_eq!(delivered, [P1, MISSING, NULL]);
}

#[tokio::test]
async fn stage_and_service_are_filtered_alike_and_all_filters_must_accept() {
    let filters = [
        ("PROJECT_FILTER", "p1"),
        ("STAGE_FILTER", "dev,prod"),
        ("SERVICE_FILTER", "carts"),
    ];
    let matching = r#"{"project":"p1","stage":"prod","service":"carts"}"#;
    let data = [
        r#"{"project":"p2","stage":"prod","service":"carts"}"#,
        r#"{"project":"p1","stage":"test","service":"carts"}"#,
        r#"{"project":"p1","stage":"prod","service":"orders"}"#,
        r#"{"project":"p1","stage":"prod"}"#,
        matching,
    ];
    assert_eq!(delivered_with(&filters, &data).await, [matching]);
}

#[tokio::test]
async fn a_dropped_event_is_explained_at_debug_level() {
    let peers = Peers::start().await;
    let variables = [ALL_TOPICS, ("PROJECT_FILTER", "p1,p2"), ("LOG_LEVEL", "debug")];
    let process = peers.process(&variables).await;

    peers.publish(&event("e1")).await;

    let line = process.wait_for_log("dropped by a plugin", SOON).await.unwrap();
    for word in ["DEBUG", "e1", TASK_TRIGGERED, "keptn-filter", "sockshop", "p1,p2"] {
        assert!(line.contains(word), "{word} is missing: {line}");
    }
}
