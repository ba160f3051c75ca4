//! The control plane that all tests use answers as a real one: every request that was seen on the wire of a real one is
//! made again, and the answers must be of the same shape.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use test_support::{ControlPlane, HttpResponse, http_request};

use super::shape::differences;
use crate::harness::{Peers, SOON};

/// One request and its answer, as they were seen.
#[derive(Debug, Deserialize)]
struct Exchange {
    method: String,
    path: String,
    req_headers: Vec<(String, String)>,
    req_body: String,
    status: u16,
    resp_headers: Vec<(String, String)>,
    resp_body: String,
}

/// Headers of a request that are made anew from the request.
const MADE_ANEW: [&str; 3] = ["Content-Length", "Transfer-Encoding", "Host"];
/// Headers of an answer that are compared. Others are a date and a length.
const COMPARED: [&str; 3] = ["Content-Type", "Server", "Connection"];

/// The files that tests in here replay.
const REPLAYED: [&str; 20] = [
    "log",
    "nats-forwarded",
    "nats-odd",
    "nats-triggered",
    "oauth-0",
    "oauth-1",
    "ping",
    "ping-404",
    "proxy-datastore",
    "proxy-resource",
    "recipient-sent",
    "register",
    "register-again",
    "remote-forward",
    "remote-log",
    "remote-ping",
    "remote-poll",
    "remote-poll-empty",
    "remote-register",
    "remote-wrong-token",
];
/// What the control plane has no part in, or shows in another way.
const COMPARED_WITH: [&str; 3] = ["recipient-triggered", "remote-recipient-triggered", "sequence-state"];

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/captures"))
}

pub(crate) fn capture<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    let text = std::fs::read(directory().join(format!("{name}.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// A text in a file, at this place (RFC 6901).
pub(crate) fn captured(name: &str, place: &str) -> String {
    let file: Value = capture(name);
    file.pointer(place).and_then(Value::as_str).unwrap().to_owned()
}

/// A control plane that knows what the one that was watched knew: the token of the gateway.
async fn control_plane() -> ControlPlane {
    let control_plane = ControlPlane::start().await.unwrap();
    control_plane.require_token("rig-token-0123456789");
    control_plane
}

/// Makes all requests of a file again, in their order.
async fn replay(control_plane: &ControlPlane, name: &str) {
    let exchanges: Vec<Exchange> = capture(name);
    assert!(!exchanges.is_empty(), "{name}");
    for exchange in exchanges {
        let what = format!("{name}: {} {}", exchange.method, exchange.path);
        check(&what, &exchange, &send(control_plane, &exchange).await);
    }
}

/// Services in the cluster are reached through a proxy, as in the tests of the distributor: by a full URL.
async fn send(control_plane: &ControlPlane, exchange: &Exchange) -> HttpResponse {
    let header = |wanted: &str| exchange.req_headers.iter().find(|(name, _)| name == wanted);
    let host = header("Host").map(|(_, host)| host.as_str()).unwrap();
    let path = match host {
        "api-gateway-nginx:8080" => exchange.path.clone(),
        host => format!("http://{host}{}", exchange.path),
    };
    let headers: Vec<_> = exchange
        .req_headers
        .iter()
        .filter(|(name, _)| !MADE_ANEW.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let body = exchange.req_body.clone();
    let answer = http_request(control_plane.address(), &exchange.method, &path, &headers, body).await;
    answer.unwrap()
}

fn check(what: &str, exchange: &Exchange, answer: &HttpResponse) {
    let body = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, exchange.status, "{what}: {body}");
    for name in COMPARED {
        let expected = exchange.resp_headers.iter().find(|(other, _)| other == name);
        let found = answer.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(found, expected.map(|(_, value)| value.as_str()), "{what}: {name}");
    }
    assert_eq!(
        body.ends_with('\n'),
        exchange.resp_body.ends_with('\n'),
        "{what}: line end"
    );
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let differences = differences(&parsed(&exchange.resp_body), &parsed(&body));
    assert!(differences.is_empty(), "{what}: {differences:#?} in {body}");
}

#[test]
fn no_capture_is_left_out() {
    let mut found: Vec<_> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    let mut known = [&REPLAYED[..], &COMPARED_WITH[..]].concat();
    known.sort_unstable();
    assert_eq!(found, known);
}

#[tokio::test]
async fn registers_and_beats_in_the_cluster() {
    let control_plane = control_plane().await;
    replay(&control_plane, "ping-404").await;
    replay(&control_plane, "register").await;
    // The id is a rule, not a new one each time.
    let registered = control_plane.integrations();
    assert_eq!(registered[0].id, "8fc5b7e5dd6ff6af76802efcbba68e23186ffa22");
    replay(&control_plane, "ping").await;

    // Another replica is the same integration, and was there first.
    let mut replica: Vec<Exchange> = capture("register-again");
    let mut replica = replica.pop().unwrap();
    replica.req_body = replica.req_body.replace("rig-queue-2-abc12", "rig-queue-1-abc12");
    assert_eq!(send(&control_plane, &replica).await.status, 201);
    replay(&control_plane, "register-again").await;
    assert_eq!(control_plane.integrations().len(), 2);
}

#[tokio::test]
async fn registers_and_beats_from_elsewhere() {
    let control_plane = control_plane().await;
    replay(&control_plane, "remote-wrong-token").await;
    assert!(control_plane.integrations().is_empty());
    replay(&control_plane, "remote-register").await;
    assert_eq!(
        control_plane.integrations()[0].id,
        "f132c8d1cfa1436033d1206eddfea8be333b5ab4"
    );
    replay(&control_plane, "remote-ping").await;
}

/// A request of which the answer was not kept.
#[derive(Debug, Deserialize)]
struct Asked {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

#[tokio::test]
async fn gives_tokens() {
    let control_plane = ControlPlane::start().await.unwrap();
    control_plane.require_oauth("rig-id", "rig-secret", Duration::from_mins(1));
    for name in ["oauth-0", "oauth-1"] {
        let asked = capture::<Vec<Asked>>(name).remove(0);
        let exchange = Exchange {
            method: asked.method,
            path: asked.path,
            req_headers: asked.headers,
            req_body: asked.body,
            status: 200,
            resp_headers: Vec::new(),
            resp_body: String::new(),
        };
        let answer = send(&control_plane, &exchange).await;
        assert_eq!(answer.status, 200, "{name}");
        let token: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(token["scope"], "scope1 scope2", "{name}");

        // The token opens what is closed without it.
        let mut register = capture::<Vec<Exchange>>("remote-register").remove(0);
        assert_eq!(send(&control_plane, &register).await.status, 401, "{name}");
        let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
        register.req_headers.push(("Authorization".to_owned(), bearer));
        assert!(send(&control_plane, &register).await.status < 300, "{name}");
    }
}

#[tokio::test]
async fn lists_open_events_and_takes_answers() {
    let control_plane = control_plane().await;
    replay(&control_plane, "remote-poll-empty").await;
    for exchange in capture::<Vec<Exchange>>("remote-poll") {
        let page: Value = serde_json::from_str(&exchange.resp_body).unwrap();
        control_plane.open_event_as_it_is(&page["events"][0]);
        let answer = send(&control_plane, &exchange).await;
        check("remote-poll", &exchange, &answer);
        assert_eq!(
            answer.body, exchange.resp_body,
            "these ids and times are given, so nothing may differ"
        );
    }
    replay(&control_plane, "remote-forward").await;
    let sent = control_plane.sent_events();
    for (exchange, event) in capture::<Vec<Exchange>>("remote-forward").iter().zip(&sent) {
        let body: Value = serde_json::from_str(&exchange.req_body).unwrap();
        for kept in [
            "type",
            "source",
            "data",
            "shkeptncontext",
            "triggeredid",
            "gitcommitid",
            "shkeptnspecversion",
        ] {
            assert_eq!(event[kept], body[kept], "{kept}");
        }
        assert_ne!(event["id"], body["id"]);
    }
    assert_eq!(sent.len(), 2);
}

#[tokio::test]
async fn keeps_error_logs() {
    let control_plane = control_plane().await;
    replay(&control_plane, "log").await;
    replay(&control_plane, "remote-log").await;
    let messages: Vec<_> = control_plane
        .logs()
        .iter()
        .map(|entry| entry["message"].clone())
        .collect();
    assert_eq!(
        messages,
        ["rig says: errored", "rig says: log.error", "remote log.error"]
    );
}

#[tokio::test]
async fn keeps_files() {
    let control_plane = control_plane().await;
    let exchanges: Vec<Exchange> = capture("proxy-resource");
    let shipyard: Value = serde_json::from_str(&exchanges[0].resp_body).unwrap();
    let content = shipyard["resourceContent"].as_str().unwrap();
    control_plane.put_resource("/v1/project/rigproj", "shipyard.yaml", content);
    replay(&control_plane, "proxy-resource").await;
}

#[tokio::test]
async fn keeps_events() {
    let control_plane = control_plane().await;
    let captured: Vec<Exchange> = capture("proxy-datastore");
    let page: Value = serde_json::from_str(&captured[0].resp_body).unwrap();
    let shown = page["events"].as_array().unwrap();
    let n_stored = usize::try_from(page["totalCount"].as_u64().unwrap()).unwrap();
    let post: Vec<Exchange> = capture("remote-forward");
    // Newest first, so the ones that are shown are sent last.
    let older = post.iter().map(|exchange| exchange.req_body.clone()).cycle();
    let newest = shown.iter().rev().map(Value::to_string);
    for req_body in older.take(n_stored - shown.len()).chain(newest) {
        let sent = Exchange {
            req_body,
            ..capture::<Vec<Exchange>>("remote-forward").remove(0)
        };
        assert_eq!(send(&control_plane, &sent).await.status, 200);
    }
    replay(&control_plane, "proxy-datastore").await;
}

/// What a service sent, event by event.
#[derive(Debug, Deserialize)]
struct Sent {
    event: Value,
}

/// The first captured answer of a kind to a task, as an answer to this one.
fn answer(sent: &[Sent], triggered: &Value, kind: &str) -> Value {
    let ty = triggered["type"].as_str().unwrap().replace("triggered", kind);
    let mut event = sent
        .iter()
        .find(|sent| sent.event["type"] == *ty)
        .unwrap()
        .event
        .clone();
    event["triggeredid"] = triggered["id"].clone();
    event["shkeptncontext"] = triggered["shkeptncontext"].clone();
    event
}

#[tokio::test]
async fn runs_a_sequence_over_nats() {
    let peers = Peers::start().await;
    let mut control_plane = control_plane().await;
    control_plane.join_nats(&peers.control_plane).await.unwrap();
    let mut service = peers.listen("sh.keptn.event.*.triggered").await;

    peers
        .publish_bytes("sh.keptn.event.odd.started", captured("nats-odd", "/data"))
        .await;
    let (stages, tasks) = (["dev", "prod"], ["build", "verify"]);
    let context = control_plane
        .trigger_sequence("rigproj", &stages, &tasks, "svc-a")
        .await;
    let sent: Vec<Sent> = capture("recipient-sent");
    let forwarded: Value = serde_json::from_str(&captured("nats-forwarded", "/0/data")).unwrap();
    assert_eq!(forwarded, sent[0].event, "what the service sends is what travels");
    for task in tasks.iter().cycle().take(stages.len() * tasks.len()) {
        let triggered: Value = serde_json::from_slice(&service.next().await).unwrap();
        if triggered["data"].get("result").is_none() {
            let mut expected: Value = serde_json::from_str(&captured("nats-triggered", "/0/data")).unwrap();
            // Labels come from whoever triggers a sequence.
            expected["data"].as_object_mut().unwrap().remove("labels");
            assert_eq!(differences(&expected, &triggered), [""; 0]);
        }
        assert_eq!(triggered["type"], format!("sh.keptn.event.{task}.triggered"));
        for kind in ["started", "finished"] {
            let event = answer(&sent, &triggered, kind);
            peers
                .publish_bytes(event["type"].as_str().unwrap(), event.to_string())
                .await;
        }
    }
    let state = control_plane.wait_for_state(&context, "finished", SOON).await.unwrap();
    assert_eq!(differences(&capture("sequence-state"), &state), [""; 0]);
    assert_eq!(state["shkeptncontext"], context);
    assert_eq!(control_plane.n_open_events(), 0);
}
