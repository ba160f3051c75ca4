//! Real traffic of a remote execution plane: what the control plane listed, what the service got, what was sent back.

use serde_json::{Value, json};

use test_support::Route;

use super::{Remote, answer};
use crate::harness::{json as parsed, subscriptions};

const TYPE: &str = "sh.keptn.event.build.triggered";

/// As Keptn 1.4 listed it.
const LISTED: &str = r#"{"data":{"project":"rigproj","service":"svc-a","stage":"dev"},"id":"bfb08767-bc1b-4fcb-a4ad-278cac5b81b4","shkeptncontext":"26debaa1-3f8b-4f43-b404-614495ecbfcf","shkeptnspecversion":"0.2.4","source":"shipyard-controller","specversion":"1.0","time":"2026-11-22T14:50:02.371344627Z","gitcommitid":"0275568cbc11124fff2cfe47f0fa91428de9fb4d","type":"sh.keptn.event.build.triggered"}"#;

/// What the service got of it from the original, and so gets from this.
const DELIVERED: &str = r#"{"specversion":"1.0","id":"bfb08767-bc1b-4fcb-a4ad-278cac5b81b4","source":"shipyard-controller","type":"sh.keptn.event.build.triggered","datacontenttype":"application/json","time":"2026-11-22T14:50:02.371344627Z","data":{"project":"rigproj","service":"svc-a","stage":"dev","temporaryData":{"distributor":{"subscriptionID":"17d46b9c-6a47-4d6c-af21-99b0cdb21da0"}}},"shkeptncontext":"26debaa1-3f8b-4f43-b404-614495ecbfcf","triggeredid":"","gitcommitid":"0275568cbc11124fff2cfe47f0fa91428de9fb4d","shkeptnspecversion":"0.2.4"}"#;

/// What the service answered, and what the original made of it for the API.
const ANSWERED: &str = r#"{"specversion":"1.0","id":"a0a75181-41a2-4493-87fc-d90c32a8a1cc","source":"rig-recipient","type":"sh.keptn.event.build.started","datacontenttype":"application/json","time":"2026-11-22T14:50:02.984334Z","shkeptncontext":"26debaa1-3f8b-4f43-b404-614495ecbfcf","triggeredid":"bfb08767-bc1b-4fcb-a4ad-278cac5b81b4","shkeptnspecversion":"0.2.4","data":{"project":"rigproj","stage":"dev","service":"svc-a","status":"succeeded"},"gitcommitid":"0275568cbc11124fff2cfe47f0fa91428de9fb4d"}"#;
const SENT: &str = r#"{"contenttype":"application/json","data":{"project":"rigproj","service":"svc-a","stage":"dev","status":"succeeded"},"id":"a0a75181-41a2-4493-87fc-d90c32a8a1cc","shkeptncontext":"26debaa1-3f8b-4f43-b404-614495ecbfcf","shkeptnspecversion":"0.2.4","source":"rig-recipient","specversion":"1.0","time":"2026-11-22T14:50:02.984334Z","triggeredid":"bfb08767-bc1b-4fcb-a4ad-278cac5b81b4","gitcommitid":"0275568cbc11124fff2cfe47f0fa91428de9fb4d","type":"sh.keptn.event.build.started"}"#;

#[tokio::test]
async fn the_service_gets_what_it_got_from_the_original() {
    let remote = Remote::start().await;
    let page = format!(r#"{{"events":[{LISTED}],"nextPageKey":"0","totalCount":1}}"#);
    remote.control_plane.fail(Route::OpenEvents, answer(200, &page));
    let interest = subscriptions(&[("17d46b9c-6a47-4d6c-af21-99b0cdb21da0", TYPE)]);
    let app = remote.app_interested_in(interest, &[]).await;

    let delivered = &remote.delivered(1).await[0];
    assert_eq!(parsed(&delivered.body), parsed(DELIVERED.as_bytes()));
    assert_eq!((delivered.method.as_str(), delivered.path.as_str()), ("POST", "/"));
    assert_eq!(delivered.header("content-type"), Some("application/cloudevents+json"));
    app.shut_down().await.unwrap();
}

#[tokio::test]
async fn the_api_gets_what_it_got_from_the_original() {
    let remote = Remote::start().await;
    let app = remote.app_interested_in(subscriptions(&[]), &[]).await;
    let answer = app.post(ANSWERED).await;
    assert_eq!((answer.status, answer.body.len()), (200, 0));

    let request = &remote.control_plane.requests_to(Route::SendEvent)[0].received;
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("POST", "/api/v1/event")
    );
    assert_eq!(request.header("x-token"), Some("api-token"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(parsed(&request.body), parsed(SENT.as_bytes()));
    app.shut_down().await.unwrap();
}

#[tokio::test]
async fn what_the_original_lost_or_rounded_arrives_as_it_was_listed() {
    let remote = Remote::start().await;
    let odd = LISTED.replace(
        r#""data":{"#,
        r#""traceparent":"00-1","extensions":{"team":"a"},"data":{"big":12345678901234567890123,"one":1.0,"#,
    );
    let page = format!(r#"{{"events":[{odd}],"nextPageKey":"0","totalCount":1}}"#);
    remote.control_plane.fail(Route::OpenEvents, answer(200, &page));
    let app = remote.app_interested_in(subscriptions(&[("sub-1", TYPE)]), &[]).await;

    let body = &remote.delivered(1).await[0].body;
    let text = std::str::from_utf8(body).unwrap();
    assert!(text.contains(r#""big":12345678901234567890123,"one":1.0,"#), "{text}");
    let event: Value = parsed(body);
    assert_eq!((&event["traceparent"], &event["team"]), (&json!("00-1"), &json!("a")));
    app.shut_down().await.unwrap();
}
