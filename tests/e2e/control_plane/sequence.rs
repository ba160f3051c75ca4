//! A sequence of two tasks in each of two stages, from its trigger to its end: the control plane triggers a task, the
//! distributor hands it to the service, the service reports through the distributor, the control plane goes on.

use serde_json::Value;
use test_support::{ApiRequest, ControlPlane, DistributorProcess, Recipient, Route};

use super::captures::capture;
use super::shape::differences;
use crate::harness::{Peers, SOON, exit_code, json, post, start_process, subscription_id};

const STAGES: [&str; 2] = ["dev", "prod"];
const TASKS: [&str; 2] = ["build", "verify"];

/// The service's variables in Kubernetes. It asks for its tasks when it is registered.
const INTEGRATION: [(&str, &str); 5] = [
    ("HEARTBEAT_INTERVAL", "200ms"),
    ("K8S_DEPLOYMENT_NAME", "task-service"),
    ("K8S_NAMESPACE", "keptn"),
    ("K8S_NODE_NAME", "node"),
    (
        "PUBSUB_TOPIC",
        "sh.keptn.event.build.triggered,sh.keptn.event.verify.triggered",
    ),
];

/// The distributor asks for the second time only when it has made use of the first answer.
async fn knows_its_subscriptions(control_plane: &ControlPlane) {
    control_plane.wait_for_requests(Route::Ping, 2, SOON).await.unwrap();
}

/// What a service sends about a task.
fn report(triggered: &Value, kind: &str) -> Value {
    let ty = triggered["type"].as_str().unwrap();
    let task = ty.split('.').nth(3).unwrap();
    let mut event = triggered.clone();
    event["id"] = format!("{task}-{kind}-{}", triggered["id"]).into();
    event["type"] = ty.replace("triggered", kind).into();
    event["source"] = "task-service".into();
    event["triggeredid"] = triggered["id"].clone();
    event["data"]["status"] = "succeeded".into();
    event["data"]["result"] = "pass".into();
    event["data"][task] = serde_json::json!({ "done_in": triggered["data"]["stage"] });
    event
}

/// Runs the sequence and returns the tasks as the service got them. The distributor is registered already.
async fn run(control_plane: &ControlPlane, distributor: &DistributorProcess, service: &Recipient) -> Vec<Value> {
    let context = control_plane
        .trigger_sequence("sockshop", &STAGES, &TASKS, "carts")
        .await;
    let n_tasks = STAGES.len() * TASKS.len();
    for n in 1..=n_tasks {
        let delivered = service.wait_for(n, SOON).await.unwrap();
        let triggered = json(&delivered[n - 1].body);
        for kind in ["started", "finished"] {
            let answer = post(distributor.proxy_address(), report(&triggered, kind).to_string()).await;
            assert_eq!(answer.status, 200);
        }
    }
    let state = control_plane.wait_for_state(&context, "finished", SOON).await.unwrap();
    let mut expected: Value = capture("sequence-state");
    expected["project"] = "sockshop".into();
    expected["service"] = "carts".into();
    assert_eq!(differences(&expected, &state), [""; 0]);
    assert_eq!(control_plane.n_open_events(), 0);

    let delivered = service.journal();
    let integration = control_plane.integrations().remove(0);
    for (request, task) in delivered.iter().zip(TASKS.iter().cycle()) {
        let subscriptions = integration.subscriptions.as_array().unwrap();
        let subscription = subscriptions
            .iter()
            .find(|subscription| subscription["event"] == format!("sh.keptn.event.{task}.triggered"));
        assert_eq!(subscription_id(request), subscription.unwrap()["id"]);
    }
    let tasks: Vec<_> = delivered.iter().map(|request| json(&request.body)).collect();
    let order: Vec<_> = tasks.iter().map(stage_and_type).collect();
    let expected: Vec<_> = STAGES
        .iter()
        .flat_map(|stage| TASKS.map(|task| format!("{stage} sh.keptn.event.{task}.triggered")))
        .collect();
    assert_eq!(order, expected, "each task once, in order");
    // What a task has left behind is there for the ones after it, in the next stage too.
    assert_eq!(tasks[3]["data"]["build"]["done_in"], "prod");
    assert_eq!(tasks[2]["data"]["verify"]["done_in"], "dev");
    tasks
}

fn stage_and_type(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    format!("{} {}", text(&event["data"]["stage"]), text(&event["type"]))
}

#[tokio::test]
async fn runs_to_its_end_over_nats() {
    let peers = Peers::start().await;
    let mut control_plane = ControlPlane::start().await.unwrap();
    control_plane.join_nats(&peers.control_plane).await.unwrap();
    let proxy = control_plane.url();
    let variables = [&INTEGRATION[..], &[("HTTP_PROXY", proxy.as_str())]].concat();
    let mut distributor = peers.process(&variables).await;
    knows_its_subscriptions(&control_plane).await;

    let tasks = run(&control_plane, &distributor, &peers.recipient).await;
    assert_eq!(tasks.len(), 4);
    assert!(control_plane.sent_events().is_empty(), "events go over NATS");
    distributor.terminate().unwrap();
    assert_eq!(exit_code(&mut distributor).await, 0);
}

#[tokio::test]
async fn runs_to_its_end_over_the_api() {
    let control_plane = ControlPlane::start().await.unwrap();
    control_plane.require_token("tok");
    let service = Recipient::start().await.unwrap();
    let (endpoint, port) = (control_plane.endpoint(), service.port().to_string());
    let remote = [
        ("KEPTN_API_ENDPOINT", endpoint.as_str()),
        ("KEPTN_API_TOKEN", "tok"),
        ("HTTP_POLLING_INTERVAL", "1"),
        ("PUBSUB_RECIPIENT_PORT", port.as_str()),
    ];
    let mut distributor = start_process(&[&INTEGRATION[..], &remote].concat());
    distributor.wait_until_ready(SOON).await.unwrap();
    knows_its_subscriptions(&control_plane).await;

    let tasks = run(&control_plane, &distributor, &service).await;
    let captured: Value = capture("remote-recipient-triggered");
    let mut expected: Value = serde_json::from_str(captured["body"].as_str().unwrap()).unwrap();
    expected["data"]["project"] = "sockshop".into();
    expected["data"]["service"] = "carts".into();
    assert_eq!(differences(&expected, &tasks[0]), [""; 0]);
    assert_eq!(control_plane.sent_events().len(), 8, "each answer was sent once");
    let refused = |request: &ApiRequest| request.status != Some(200) && request.status != Some(201);
    let requests = control_plane.requests();
    assert!(!requests.iter().any(refused), "{requests:?}");
    distributor.terminate().unwrap();
    assert_eq!(exit_code(&mut distributor).await, 0);
}
