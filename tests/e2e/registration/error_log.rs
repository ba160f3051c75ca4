//! Copies of errors in the log of the control plane.

use std::time::Duration;

use serde_json::{Value, json};
use test_support::{
    ConfigMapVolume, DistributorProcess, Fault, HttpResponse, KeptnEvent, Reply, Route, eventually, http_request,
};
use tokio::time::Instant;

use super::{IN_TIME, NAME, Rig};
use crate::harness::{PluginFolder, TASK_TRIGGERED, event, guest, lines_with, post, problem};

fn errored(message: &str) -> String {
    finished(&json!({ "status": "errored", "message": message }))
}

fn finished(data: &Value) -> String {
    service_event("sh.keptn.event.deployment.finished", data)
}

fn error(message: &str) -> String {
    service_event("sh.keptn.log.error", &json!({ "message": message, "task": "test" }))
}

fn service_event(ty: &str, data: &Value) -> String {
    let event = json!({
        "specversion": "1.0", "id": format!("of {data}"), "source": NAME, "type": ty,
        "shkeptncontext": "c1", "triggeredid": "t1", "data": data,
    });
    event.to_string()
}

fn messages(logs: &[Value]) -> Vec<&str> {
    logs.iter()
        .map(|log| log["message"].as_str().unwrap_or_default())
        .collect()
}

async fn posted(process: &DistributorProcess, body: String) -> HttpResponse {
    post(process.proxy_address(), body).await
}

#[tokio::test]
async fn an_errored_end_is_copied_and_forwarded_and_an_error_is_only_copied() {
    let rig = Rig::start().await;
    let (process, integration) = rig.registered(&[]).await;
    let mut forwarded = rig.nats.client().await.unwrap().subscribe("sh.keptn.>").await.unwrap();
    let before = std::time::SystemTime::now();

    let other = json!({ "message": "of another", "task": "test", "integrationid": "other" });
    for body in [
        finished(&json!({ "status": "succeeded", "result": "fail", "message": "no" })),
        errored("boom"),
        error("told"),
        service_event("sh.keptn.log.error", &other),
        service_event("sh.keptn.log.error", &json!("text")),
        finished(&json!({ "status": "succeeded" })),
    ] {
        assert_eq!(posted(&process, body).await.status, 200);
    }

    let logs = rig.control_plane.wait_for_logs(3, IN_TIME).await.unwrap();
    assert_eq!(messages(&logs), ["boom", "told", "of another"]);
    let with = |index: usize, id: &str, task: &str| {
        let log = &logs[index];
        assert_eq!(log["integrationid"], id);
        assert_eq!(
            (&log["task"], &log["shkeptncontext"], &log["triggeredid"]),
            (&json!(task), &json!("c1"), &json!("t1"))
        );
        let time = humantime::parse_rfc3339(log["time"].as_str().unwrap()).unwrap();
        assert!(time + Duration::from_secs(1) >= before && time <= std::time::SystemTime::now());
    };
    with(0, &integration.id, "deployment");
    with(1, &integration.id, "test");
    with(2, "other", "test");
    for _ in 0..3 {
        let message = futures_util::StreamExt::next(&mut forwarded).await.unwrap();
        assert_eq!(message.subject.as_str(), "sh.keptn.event.deployment.finished");
    }
    assert_eq!(lines_with(&process, "cannot be copied to the control plane").len(), 1);
}

#[tokio::test]
async fn errors_wait_for_the_log_and_its_outage_delays_no_event() {
    let rig = Rig::start().await;
    let (process, _) = rig.registered(&[]).await;
    rig.control_plane.fail(Route::Log, Fault::Status(503));
    let start = Instant::now();
    for number in 0..50 {
        assert_eq!(posted(&process, errored(&number.to_string())).await.status, 200);
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let failed = rig.control_plane.wait_for_answers(Route::Log, 503, 2, IN_TIME).await;
    failed.unwrap();

    rig.control_plane.heal(Route::Log);

    let logs = rig.control_plane.wait_for_logs(50, IN_TIME).await.unwrap();
    let expected: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(messages(&logs), expected);
    let n_requests = rig.control_plane.requests_to(Route::Log).len();
    assert!(n_requests <= 8, "{n_requests} requests for 50 errors");
}

#[tokio::test]
async fn errors_are_sent_before_the_end() {
    let rig = Rig::start().await;
    let (mut process, _) = rig.registered(&[]).await;
    // The first goes at once; the others would wait for its second to be over.
    for message in ["first", "second", "third"] {
        assert_eq!(posted(&process, error(message)).await.status, 200);
    }
    process.terminate().unwrap();
    assert_eq!(process.wait_exit(IN_TIME).await.unwrap().code(), Some(0));
    assert_eq!(messages(&rig.control_plane.logs()), ["first", "second", "third"]);
}

#[tokio::test]
async fn a_log_that_is_away_holds_up_the_end_for_a_moment_only() {
    let rig = Rig::start().await;
    let (mut process, _) = rig.registered(&[]).await;
    rig.control_plane.fail(Route::Log, Fault::Status(503));
    assert_eq!(posted(&process, error("lost")).await.status, 200);
    let start = Instant::now();
    process.terminate().unwrap();
    assert_eq!(process.wait_exit(IN_TIME).await.unwrap().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(lines_with(&process, "errors were not copied").len(), 1);
}

#[tokio::test]
async fn an_error_that_cannot_be_kept_is_not_taken_while_events_are() {
    let rig = Rig::start().await;
    let (process, _) = rig.registered(&[]).await;
    rig.control_plane.fail(Route::Log, Fault::Status(503));
    let batch = |n: usize| {
        let errors: Vec<_> = (0..n).map(|number| error(&number.to_string())).collect();
        format!("[{}]", errors.join(","))
    };
    let post_batch = async |n: usize| {
        let headers = [("content-type", "application/cloudevents-batch+json")];
        let answer = http_request(process.proxy_address(), "POST", "/event", &headers, batch(n)).await;
        answer.unwrap()
    };
    for _ in 0..10 {
        assert_eq!(post_batch(100).await.status, 200);
    }
    let answer = post_batch(1).await;
    assert_eq!(problem(&answer).0, 503);
    assert!(answer.headers.contains_key("retry-after"));
    // The event is what counts; the oldest error makes room for its copy.
    assert_eq!(posted(&process, errored("an event")).await.status, 200);

    rig.control_plane.heal(Route::Log);
    let logs = rig.control_plane.wait_for_logs(1000, IN_TIME).await.unwrap();
    assert_eq!(logs.len(), 1000);
    assert_eq!(messages(&logs).last(), Some(&"an event"));
    assert_eq!(messages(&logs)[0], "1", "the oldest one was dropped");
    assert_eq!(posted(&process, error("again")).await.status, 200);
}

#[tokio::test]
async fn a_refused_error_does_not_hold_back_the_others() {
    let rig = Rig::start().await;
    let (process, _) = rig.registered(&[]).await;
    // The two that come while the first is refused are refused together, and then one of them alone.
    rig.control_plane.fail_with(Route::Log, |nth| match nth {
        0 => Some(Fault::Status(503)),
        1 | 2 => Some(Fault::Status(400)),
        _ => None,
    });
    for message in ["refused", "second", "third"] {
        assert_eq!(posted(&process, error(message)).await.status, 200);
    }
    let logs = rig.control_plane.wait_for_logs(2, IN_TIME).await.unwrap();
    assert_eq!(messages(&logs), ["second", "third"]);
    assert_eq!(lines_with(&process, "refuses an error").len(), 1);
}

#[tokio::test]
async fn an_event_that_is_given_up_is_in_the_log() {
    let rig = Rig::start().await;
    let (_process, integration) = rig.registered(&[]).await;
    rig.recipient.respond_with(|request, _| {
        let is_bad = request.body.windows(3).any(|window| window == b"bad");
        Reply::status(if is_bad { 400 } else { 200 })
    });
    rig.publish(&event("good")).await;
    rig.recipient.wait_for(1, IN_TIME).await.unwrap();
    rig.publish(&KeptnEvent {
        keptn_context: "c9".to_owned(),
        ..event("bad")
    })
    .await;

    let logs = rig.control_plane.wait_for_logs(1, IN_TIME).await.unwrap();
    let message = messages(&logs)[0];
    assert!(
        message.contains("event bad of type sh.keptn.event.task.triggered") && message.contains("400"),
        "{message}"
    );
    assert_eq!(logs[0]["integrationid"], integration.id.as_str());
    assert_eq!(
        (&logs[0]["task"], &logs[0]["triggeredid"]),
        (&json!("task"), &json!("bad"))
    );
    assert_eq!(logs[0]["shkeptncontext"], "c9");
}

#[tokio::test]
async fn a_plugin_that_fails_is_in_the_log_both_ways() {
    let rig = Rig::start().await;
    let plugins = PluginFolder::behaving_with("trap", "on = [\"incoming\", \"outgoing\"]", "");
    let (process, _) = rig.registered(&[plugins.variable()]).await;
    rig.publish(&event("bad-incoming")).await;
    let logs = rig.control_plane.wait_for_logs(1, IN_TIME).await.unwrap();
    assert!(messages(&logs)[0].contains("bad-incoming"), "{logs:?}");

    let outgoing = KeptnEvent {
        id: "bad-outgoing".to_owned(),
        ..KeptnEvent::of_type(TASK_TRIGGERED)
    };
    for _ in 0..3 {
        let answer = post(process.proxy_address(), outgoing.to_bytes()).await;
        assert_eq!(answer.status, 422);
    }
    let logs = rig.control_plane.wait_for_logs(2, IN_TIME).await.unwrap();
    assert!(messages(&logs)[1].contains("suspect"), "{logs:?}");
    // Repeated, it is the same error.
    assert_eq!(posted(&process, error("last")).await.status, 200);
    let logs = rig.control_plane.wait_for_logs(3, IN_TIME).await.unwrap();
    assert_eq!(messages(&logs)[2], "last");
}

#[tokio::test]
async fn without_an_integration_nothing_is_copied() {
    let rig = Rig::start().await;
    let process = rig.process(&[("DISABLE_REGISTRATION", "true")]);
    let is_taken = async || {
        let answer = http_request(process.proxy_address(), "POST", "/event", &[], errored("m")).await;
        answer.is_ok_and(|answer| answer.status == 200)
    };
    eventually(IN_TIME, is_taken).await.unwrap();
    assert_eq!(posted(&process, error("m")).await.status, 200);
    assert_eq!(rig.n_requests(), 0);
}

#[tokio::test]
async fn plugins_that_were_refused_are_copied() {
    let mut volume = ConfigMapVolume::new().unwrap();
    let manifest = "[[plugin]]\nname = \"suspect\"\ncomponent = \"guest.wasm\"\n";
    volume
        .write(&[
            ("plugins.toml", manifest.as_bytes()),
            ("guest.wasm", &guest("guest_misbehaving.wasm")),
        ])
        .unwrap();
    let rig = Rig::start().await;
    let (process, integration) = rig.registered(&[("PLUGINS_DIR", volume.text())]).await;

    volume
        .write(&[("plugins.toml", manifest), ("guest.wasm", "plugins are welcome here")])
        .unwrap();
    let logs = rig.control_plane.wait_for_logs(1, IN_TIME).await.unwrap();
    let message = logs[0]["message"].as_str().unwrap();
    for word in [
        "new plugins were refused",
        "\"suspect\"",
        "guest.wasm",
        "not WebAssembly",
    ] {
        assert!(message.contains(word), "{word} is missing: {message}");
    }
    assert_eq!(logs[0]["integrationid"], integration.id.as_str());
    assert_eq!(lines_with(&process, "plugins not replaced").len(), 1);
}
