//! Events that are captured with what plugins said about them.

use std::net::SocketAddr;

use serde_json::Value;
use test_support::{HttpResponse, http_request};

use crate::harness::*;

async fn request(control: SocketAddr, method: &str, path: &str, body: &str) -> HttpResponse {
    let headers = [("distributor-control", "1")];
    let answer = http_request(control, method, path, &headers, body.to_owned()).await;
    answer.expect("the control listener answers")
}

async fn captured(control: SocketAddr) -> Vec<Value> {
    let answer = request(control, "GET", "/capture", "").await;
    assert_eq!(
        (answer.status, &answer.headers["content-type"]),
        (200, &"application/x-ndjson".parse().unwrap())
    );
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    text.lines().map(|line| json(line.as_bytes())).collect()
}

#[tokio::test]
async fn captured_events_tell_what_each_plugin_said() {
    let peers = Peers::start().await;
    let entry = |name: &str, on: &str, behaviour: &str, only: &str| {
        format!(
            "[[plugin]]\nname = \"{name}\"\ncomponent = \"guest.wasm\"\non = [\"{on}\"]\ngrants = [\"publish\"]\n\
             [plugin.config]\nbehaviour = \"{behaviour}\"\nonly = \"{only}\"\n"
        )
    };
    let folder = PluginFolder::with_manifest(
        &[
            entry("answering", "incoming", "answer", "a"),
            entry("splitting", "incoming", "split", "s"),
            entry("dropping", "incoming", "drop", "s-2"),
            entry("failing", "incoming", "permanent", "f"),
            entry("outgoing", "outgoing", "rename", ""),
        ]
        .concat(),
    );
    let topic = ("PUBSUB_TOPIC", TASK_TRIGGERED);
    let control = ("CONTROL_BIND", "127.0.0.1:0");
    let process = peers.process(&[topic, control, folder.variable()]).await;
    let control = process.control_address(SOON).await.unwrap();

    peers.publish(&event("before")).await;
    peers.delivered_ids(1).await;
    assert_eq!(problem(&request(control, "GET", "/capture", "").await).0, 404);
    let started = request(control, "POST", "/capture", r#"{"events": 4}"#).await;
    assert_eq!((started.status, &json(&started.body)["capturing"]), (200, &true.into()));

    peers
        .publish_all([event("one"), event("a"), event("s"), event("f"), event("last")])
        .await;
    // `last` stands behind the others, and all of them are of one key.
    let delivered = peers.delivered_ids(6).await;
    assert_eq!(delivered, ["before", "one", "a", "s-1", "s-3", "last"]);
    let lines = captured(control).await;
    let of = |pointer: &str| -> Vec<Value> {
        lines
            .iter()
            .map(|line| line.pointer(pointer).cloned().unwrap_or_default())
            .collect()
    };
    assert_eq!(of("/event/id"), ["a", "s", "f", "last"], "the oldest goes first");
    // An answer is forwarded as a copy, so the event that goes on is not the one that came.
    assert_eq!(of("/outcome"), ["replaced", "replaced", "failed", "unchanged"]);
    assert_eq!(lines[0]["event"], json(&event("a").to_bytes()));
    let verdicts = |line: &Value| -> Vec<String> {
        let steps = line["plugins"].as_array().unwrap().iter();
        steps
            .map(|step| {
                let text = |name: &str| step[name].as_str().unwrap().to_owned();
                format!("{} {} {}", text("plugin"), text("event_id"), text("verdict"))
            })
            .collect()
    };
    let answer = &lines[0]["plugins"][1]["published"][0];
    assert_eq!(
        (&answer["triggeredid"], &answer["distributorhops"]),
        (&"a".into(), &1.into())
    );
    assert_eq!(
        verdicts(&lines[1])[1..],
        [
            "answering s keep",
            "splitting s replace",
            "dropping s-1 keep",
            "dropping s-2 drop",
            "dropping s-3 keep",
            "failing s-1 keep",
            "failing s-3 keep",
        ]
    );
    assert_eq!(verdicts(&lines[2]).last().unwrap(), "failing f error");
    assert!(lines[2].to_string().contains("told to fail for good"));

    // Of another type, so that it does not come back.
    let answer = String::from_utf8_lossy(&event("o").to_bytes()).replace(TASK_TRIGGERED, "com.example.answer");
    assert_eq!(post(process.proxy_address(), answer).await.status, 200);
    let line = captured(control).await.pop().unwrap();
    assert_eq!(
        (&line["direction"], &line["event"]["id"]),
        (&"outgoing".into(), &"o".into())
    );
    assert_eq!(verdicts(&line), ["outgoing o replace"]);
    assert_eq!(line["plugins"][0]["forwarded"][0]["data"]["renamed"], true);

    let status = request(control, "GET", "/capture/status", "").await;
    assert_eq!(json(&status.body)["overwritten"], 2);
    let stopped = request(control, "DELETE", "/capture", "").await;
    assert_eq!(json(&stopped.body)["capturing"], false);
    assert_eq!(problem(&request(control, "GET", "/capture", "").await).0, 404);
}

#[tokio::test]
async fn what_a_capture_cannot_be_is_said() {
    let peers = Peers::start().await;
    let process = peers.process(&[("CONTROL_BIND", "127.0.0.1:0")]).await;
    let control = process.control_address(SOON).await.unwrap();
    let check = async |body: &str, expected: &str| {
        let (status, detail) = problem(&request(control, "POST", "/capture", body).await);
        assert_eq!(status, 400, "{body}");
        assert!(detail.contains(expected), "{detail}");
    };
    check(r#"{"events": 0}"#, "`events` is 0, it can be 1 to 100000").await;
    check(r#"{"evnets": 10}"#, "unknown field `evnets`").await;
    check("everything", "not the options of a capture").await;
}
