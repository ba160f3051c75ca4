//! Events of the service: `POST /event` to NATS.

use futures_util::future::join_all;
use test_support::{KeptnEvent, http_request};

use crate::harness::*;

const TASK_FINISHED: &str = "sh.keptn.event.task.finished";

fn finished(id: &str) -> KeptnEvent {
    KeptnEvent {
        id: id.to_owned(),
        ..KeptnEvent::of_type(TASK_FINISHED)
    }
}

#[tokio::test]
async fn a_thousand_events_of_the_service_are_a_thousand_messages() {
    const N_CLIENTS: usize = 20;
    const N_EACH: usize = 50;
    let peers = Peers::start().await;
    let app = peers.app(&[]).await;
    let mut control_plane = peers.listen(TASK_FINISHED).await;

    join_all((0..N_CLIENTS).map(async |client| {
        for number in 0..N_EACH {
            let response = app
                .post(finished(&format!("{}", client * N_EACH + number)).to_bytes())
                .await;
            assert_eq!((response.status, response.body.as_ref()), (200, &b""[..]));
        }
    }))
    .await;

    let mut ids: Vec<usize> = Vec::new();
    for id in control_plane.next_ids(N_CLIENTS * N_EACH).await {
        ids.push(id.parse().unwrap());
    }
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..N_CLIENTS * N_EACH));
}

#[tokio::test]
async fn nats_gets_the_bytes_of_the_service() {
    let peers = Peers::start().await;
    let app = peers.app(&[]).await;
    let mut control_plane = peers.listen("sh.keptn.>").await;

    let event = " {\"type\":\"sh.keptn.event.task.finished\", \"x-unknown\":[1.0,12345678901234567890],\n\"specversion\":\"1.0\",\"id\":\"\\u0069\",\"source\":\"<a&b>\",\"data\" : {\"b\":1,\"a\":\"\\/\"}}\n";
    for content_type in ["application/cloudevents+json", "application/json", "text/plain"] {
        assert_eq!(
            app.post_with(&[("content-type", content_type)], event).await.status,
            200
        );
        assert_eq!(control_plane.next().await, event, "{content_type}");
    }
}

#[tokio::test]
async fn every_method_is_taken_and_success_has_an_empty_body() {
    let peers = Peers::start().await;
    let app = peers.app(&[]).await;
    let mut control_plane = peers.listen(TASK_FINISHED).await;

    for method in ["POST", "GET", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let response = http_request(app.address, method, "/event", &[], finished(method).to_bytes())
            .await
            .unwrap();
        assert_eq!((response.status, response.body.as_ref()), (200, &b""[..]), "{method}");
        assert_eq!(control_plane.next_ids(1).await, [method]);
    }
}

#[tokio::test]
async fn an_event_in_binary_mode_is_put_together() {
    let peers = Peers::start().await;
    let app = peers.app(&[]).await;
    let mut control_plane = peers.listen(TASK_FINISHED).await;

    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "b1"),
        ("ce-source", "my service"),
        ("ce-type", TASK_FINISHED),
        ("ce-subject", "caf%C3%A9"),
        ("ce-triggeredid", "t1"),
        ("content-type", "application/json"),
        ("x-other", "not an attribute"),
    ];
    assert_eq!(
        app.post_with(&headers, r#"{"n": 12345678901234567890}"#).await.status,
        200
    );

    let event = control_plane.next().await;
    assert!(event.ends_with(br#""data":{"n": 12345678901234567890}}"#), "{event:?}");
    let event = json(&event);
    let expected = [
        ("id", "b1"),
        ("source", "my service"),
        ("subject", "café"),
        ("triggeredid", "t1"),
    ];
    for (name, value) in expected {
        assert_eq!(event[name], value);
    }
    assert_eq!(event["datacontenttype"], "application/json");
    assert!(event.get("x-other").is_none());
}

#[tokio::test]
async fn a_batch_is_sent_event_by_event() {
    let peers = Peers::start().await;
    let app = peers.app(&[]).await;
    let mut control_plane = peers.listen("sh.keptn.>").await;

    let events = ["e1", "e2", "e3"].map(|id| String::from_utf8(finished(id).to_bytes().to_vec()).unwrap());
    let batch = format!("[ {} ]", events.join(" ,\n"));
    let headers = [("content-type", "application/cloudevents-batch+json; charset=utf-8")];
    assert_eq!(app.post_with(&headers, batch).await.status, 200);
    assert_eq!(app.post_with(&headers, "[]").await.status, 200);

    for event in events {
        assert_eq!(control_plane.next().await, event);
    }
}

#[tokio::test]
async fn a_batch_with_one_bad_event_sends_none() {
    let peers = Peers::start().await;
    let app = peers.app(&[]).await;
    let mut control_plane = peers.listen("sh.keptn.>").await;
    let headers = [("content-type", "application/cloudevents-batch+json")];
    let good = String::from_utf8(finished("good").to_bytes().to_vec()).unwrap();

    let without_id = format!(r#"[{good},{{"specversion":"1.0","source":"s","type":"sh.keptn.t"}}]"#);
    let (status, detail) = problem(&app.post_with(&headers, without_id).await);
    assert_eq!(status, 400);
    assert!(
        detail.contains("event 2 of the batch") && detail.contains("`id`"),
        "{detail}"
    );
    let wildcard = format!("[{good},{}]", good.replace(TASK_FINISHED, "sh.keptn.>"));
    assert_eq!(problem(&app.post_with(&headers, wildcard).await).0, 400);
    assert_eq!(problem(&app.post_with(&headers, "{}").await).0, 400);

    app.post(finished("marker").to_bytes()).await;
    assert_eq!(control_plane.next_ids(1).await, ["marker"]);
}

#[tokio::test]
async fn what_is_no_event_is_refused_with_the_reason() {
    let peers = Peers::start().await;
    let app = peers.app(&[]).await;
    let mut control_plane = peers.listen("sh.keptn.>").await;
    let check = async |body: &str, reason: &str| {
        let (status, detail) = problem(&app.post(body.to_owned()).await);
        assert_eq!(status, 400, "{body}: {detail}");
        assert!(detail.contains(reason), "{body}: {detail}");
    };

    check("", "not JSON").await;
    check("{\"specversion\":", "not JSON").await;
    check("[1]", "a JSON object is expected").await;
    check(
        r#"{"id":"i","source":"s","type":"sh.keptn.t"}"#,
        "`specversion` is missing",
    )
    .await;
    check(
        r#"{"specversion":"2.0","id":"i","source":"s","type":"sh.keptn.t"}"#,
        "neither 1.0 nor 0.3",
    )
    .await;
    check(
        r#"{"specversion":"1.0","source":"s","type":"sh.keptn.t"}"#,
        "`id` is missing",
    )
    .await;
    check(
        r#"{"specversion":"1.0","id":"","source":"s","type":"sh.keptn.t"}"#,
        "`id` is missing",
    )
    .await;
    check(
        r#"{"specversion":"1.0","id":"i","type":"sh.keptn.t"}"#,
        "`source` is missing",
    )
    .await;
    check(r#"{"specversion":"1.0","id":"i","source":"s"}"#, "`type` is missing").await;
    for (ty, reason) in [
        ("a b", "white space"),
        ("a.*", "wildcard"),
        ("a.>", "wildcard"),
        ("a..b", "empty part"),
    ] {
        check(
            &format!(r#"{{"specversion":"1.0","id":"i","source":"s","type":"{ty}"}}"#),
            reason,
        )
        .await;
    }

    app.post(finished("marker").to_bytes()).await;
    assert_eq!(control_plane.next_ids(1).await, ["marker"]);
}

#[tokio::test]
async fn a_body_may_be_as_large_as_the_limit() {
    const LIMIT: usize = 64 * 1024;
    let peers = Peers::start().await;
    let app = peers.app(&[]).await;
    let mut control_plane = peers.listen("sh.keptn.>").await;
    let of_size = |id: &str, size_bytes| {
        KeptnEvent {
            size_bytes,
            ..finished(id)
        }
        .to_bytes()
    };

    let (status, detail) = problem(&app.post(of_size("too-large", LIMIT + 1)).await);
    assert_eq!(status, 413);
    assert!(detail.contains("65536 bytes"), "{detail}");
    assert_eq!(app.post(of_size("as-large", LIMIT)).await.status, 200);

    assert_eq!(control_plane.next().await.len(), LIMIT);
}

#[tokio::test]
async fn the_limit_of_a_body_can_be_set_and_lifted() {
    let peers = Peers::start().await;
    let of_size = |size_bytes| {
        KeptnEvent {
            size_bytes,
            ..finished("e")
        }
        .to_bytes()
    };

    let small = peers.app(&[("API_PROXY_MAX_PAYLOAD_BYTES_KB", "1")]).await;
    assert_eq!(small.post(of_size(1024)).await.status, 200);
    assert_eq!(small.post(of_size(1025)).await.status, 413);

    let unlimited = peers.app(&[("API_PROXY_MAX_PAYLOAD_BYTES_KB", "0")]).await;
    assert_eq!(unlimited.post(of_size(1 << 20)).await.status, 200);
    let (status, detail) = problem(&unlimited.post(of_size((1 << 20) + 1)).await);
    assert_eq!(status, 413);
    assert!(detail.contains("NATS"), "the server's own limit is one, too: {detail}");
}

#[tokio::test]
async fn an_error_log_is_taken_and_not_published() {
    let peers = Peers::start().await;
    let app = peers.app(&[]).await;
    let mut control_plane = peers.listen("sh.keptn.>").await;

    let log = r#"{"specversion":"1.0","id":"log","source":"s","type":"sh.keptn.log.error","data":{"message":"m"}}"#;
    let response = app.post(log).await;
    assert_eq!((response.status, response.body.as_ref()), (200, &b""[..]));

    app.post(finished("marker").to_bytes()).await;
    assert_eq!(control_plane.next_ids(1).await, ["marker"]);
}

#[tokio::test]
async fn events_are_taken_at_the_configured_path_only() {
    let peers = Peers::start().await;
    let app = peers.app(&[("EVENT_FORWARDING_PATH", "/out")]).await;
    let ask = async |path: &str| {
        http_request(app.address, "POST", path, &[], finished("e").to_bytes())
            .await
            .unwrap()
    };

    assert_eq!(ask("/out").await.status, 200);
    for path in ["/event", "/out/", "/", "/healthy"] {
        let (status, detail) = problem(&ask(path).await);
        assert_eq!(status, 404);
        assert!(detail.contains(path), "{detail}");
    }
    let health = ask("/health").await;
    assert_eq!((health.status, health.body.as_ref()), (200, &b""[..]));
}

#[tokio::test]
async fn events_are_confirmed_although_somebody_listens_to_every_subject() {
    let peers = Peers::start().await;
    let _curious = peers.listen(">").await;
    let mut control_plane = peers.listen(TASK_FINISHED).await;
    let app = peers.app(&[]).await;

    assert_eq!(app.post(finished("e1").to_bytes()).await.status, 200);
    assert_eq!(control_plane.next_ids(1).await, ["e1"]);
}
