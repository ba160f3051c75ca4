//! Events of the service on their way to the API.

use bytes::Bytes;
use test_support::{Fault, Route};

use super::{Remote, answer};
use crate::harness::{event, json, lines_with, post, problem, subscriptions};

#[tokio::test]
async fn every_event_is_one_request() {
    let remote = Remote::start().await;
    let app = remote.app_interested_in(subscriptions(&[]), &[]).await;
    for id in ["1", "2"] {
        assert_eq!(app.post(event(id).to_bytes()).await.status, 200);
    }
    let bodies = sent(&remote);
    let ids: Vec<_> = bodies.iter().map(|body| json(body)["id"].clone()).collect();
    assert_eq!(ids, ["1", "2"]);
    app.shut_down().await.unwrap();
}

#[tokio::test]
async fn an_event_may_have_as_many_bytes_as_configured_and_not_one_more() {
    let remote = Remote::start().await;
    let largest = test_support::KeptnEvent {
        size_bytes: 2048,
        ..event("1")
    };
    let larger = test_support::KeptnEvent {
        size_bytes: 2049,
        ..event("2")
    };
    let app = remote
        .app_interested_in(subscriptions(&[]), &[("API_PROXY_MAX_PAYLOAD_BYTES_KB", "2")])
        .await;
    assert_eq!(app.post(largest.to_bytes()).await.status, 200);
    assert_eq!(app.post(larger.to_bytes()).await.status, 413);
    assert_eq!(sent(&remote).len(), 1);
    app.shut_down().await.unwrap();
}

#[tokio::test]
async fn the_service_is_told_what_the_api_says() {
    let remote = Remote::start().await;
    let app = remote.app_interested_in(subscriptions(&[]), &[]).await;
    let check = async |answered: u16, body: &str, expected: u16, retry_after: Option<&str>| {
        let headers = vec![("retry-after".to_owned(), "17".to_owned())];
        let fault = Fault::Answer(answered, headers, body.to_owned());
        remote.control_plane.fail(Route::SendEvent, fault);
        let answer = app.post(event("1").to_bytes()).await;
        assert_eq!(answer.status, expected, "{answered}");
        let header = answer.headers.get("retry-after").map(|value| value.to_str().unwrap());
        assert_eq!(header, retry_after, "{answered}");
        answer
    };
    check(200, "OK", 200, None).await;
    check(202, r#"{"keptnContext":"c"}"#, 200, None).await;
    check(204, "", 200, None).await;
    let refused = check(400, r#"{"code":400,"message":"no stage"}"#, 400, None).await;
    assert!(problem(&refused).1.contains("no stage"), "{refused:?}");
    check(413, "<html>", 413, None).await;
    check(401, "", 503, Some("17")).await;
    check(429, "", 503, Some("17")).await;
    check(500, "", 503, Some("17")).await;
    check(206, "", 503, Some("17")).await;
    app.shut_down().await.unwrap();
}

#[tokio::test]
async fn an_api_that_cannot_be_reached_is_no_success() {
    let mut remote = Remote::start().await;
    remote.control_plane.stop().await;
    let app = remote.app_interested_in(subscriptions(&[]), &[]).await;
    let answer = app.post(event("1").to_bytes()).await;
    assert_eq!(
        (answer.status, &answer.headers["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    app.shut_down().await.unwrap();
}

#[tokio::test]
async fn what_the_api_has_no_place_for_is_named_once() {
    let remote = Remote::start().await;
    let process = remote.process(&[("PUBSUB_TOPIC", "")]).await;
    let event = |id: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"t","subject":"x","team":"a","data":{{"n":12345678901234567890123}}}}"#
        )
    };
    for id in ["1", "2"] {
        assert_eq!(post(process.proxy_address(), event(id)).await.status, 200);
    }
    assert_eq!(lines_with(&process, r#"attribute="subject""#).len(), 1);
    assert_eq!(lines_with(&process, r#"attribute="team""#).len(), 1);
    let body = sent(&remote)[1].clone();
    let text = std::str::from_utf8(&body).unwrap();
    assert!(text.contains(r#""data":{"n":12345678901234567890123}"#), "{text}");
    // The API's form always has a time.
    assert!(json(&body)["time"].as_str().unwrap().starts_with("20"), "{text}");
    let binary = r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"AA=="}"#;
    assert_eq!(post(process.proxy_address(), binary).await.status, 400);
}

#[tokio::test]
async fn a_batch_is_taken_only_as_a_whole() {
    let remote = Remote::start().await;
    let app = remote.app_interested_in(subscriptions(&[]), &[]).await;
    let batch = [event("1").to_bytes(), event("2").to_bytes()].map(|event| String::from_utf8(event.to_vec()).unwrap());
    let batch = format!("[{}]", batch.join(","));
    let headers = [("content-type", "application/cloudevents-batch+json")];
    remote
        .control_plane
        .fail_with(Route::SendEvent, |nth| (nth == 1).then(|| answer(500, "")));
    assert_eq!(app.post_with(&headers, batch.clone()).await.status, 503);
    assert_eq!(app.post_with(&headers, batch).await.status, 200);
    assert_eq!(sent(&remote).len(), 4);
    app.shut_down().await.unwrap();
}

/// What was sent to the API.
fn sent(remote: &Remote) -> Vec<Bytes> {
    let requests = remote.control_plane.requests_to(Route::SendEvent);
    requests.into_iter().map(|request| request.received.body).collect()
}
