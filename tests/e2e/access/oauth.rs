//! What goes over the wire when everything works, as it was captured from the original.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use serde_json::json;
use test_support::{Recipient, Reply, eventually};

use super::rig::{Rig, call};
use crate::harness::SOON;

/// A captured request for a token: host and client of the original stand for ours.
const CAPTURED: &[(&str, &str)] = &[
    ("authorization", "Basic cmlnLWlkOnJpZy1zZWNyZXQ="),
    ("content-type", "application/x-www-form-urlencoded"),
    ("content-length", "49"),
];

#[tokio::test]
async fn the_first_request_is_the_captured_one() {
    let rig = Rig::start().await;
    let api = rig.client(&[
        ("OAUTH_CLIENT_ID", "rig-id"),
        ("OAUTH_CLIENT_SECRET", "rig-secret"),
        ("OAUTH_SCOPES", "scope1,scope2"),
    ]);
    assert_eq!(rig.provider.n_received(), 0, "nobody is asked before the first call");
    call(&api).await.unwrap();

    let requests = rig.provider.journal();
    assert_eq!(requests.len(), 1);
    assert_eq!(
        (requests[0].method.as_str(), requests[0].path.as_str()),
        ("POST", "/token")
    );
    for (name, value) in CAPTURED {
        assert_eq!(requests[0].header(name), Some(*value), "{name}");
    }
    assert_eq!(requests[0].body, "grant_type=client_credentials&scope=scope1+scope2");
    assert_eq!(rig.shown(), ["Bearer token-0"]);
}

#[tokio::test]
async fn credentials_are_escaped_and_go_into_the_body_when_the_header_does_not_work() {
    let rig = Rig::start().await;
    rig.provider.respond_with(|request, _| {
        if request.header("authorization").is_some() {
            Reply::json(401, &json!({"error": "invalid_client"}))
        } else {
            Reply::json(200, &json!({"access_token": "token", "expires_in": "1"}))
        }
    });
    let api = rig.client(&[("OAUTH_CLIENT_SECRET", "s/e c")]);
    call(&api).await.unwrap();

    let requests = rig.provider.journal();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].header("authorization"), Some("Basic aWQlM0ExOnMlMkZlK2M="));
    assert_eq!(requests[0].body, "grant_type=client_credentials&scope=a+b");
    assert_eq!(requests[1].header("authorization"), None);
    assert_eq!(
        requests[1].body,
        "client_id=id%3A1&client_secret=s%2Fe+c&grant_type=client_credentials&scope=a+b"
    );

    // The token lives for a second; what worked is remembered.
    let renewed = eventually(SOON, async || {
        call(&api).await.unwrap();
        rig.provider.n_received() > 2
    });
    renewed.await.unwrap();
    assert_eq!(rig.provider.journal()[2].header("authorization"), None);
}

#[tokio::test]
async fn a_discovery_document_says_where_tokens_come_from() {
    let rig = Rig::start().await;
    let token_endpoint = format!("http://{}/elsewhere/token?x=1", rig.provider.address());
    rig.provider.respond_with(move |request, _| {
        if request.method == "GET" {
            Reply::json(
                200,
                &json!({"issuer": 7, "token_endpoint": token_endpoint, "scopes_supported": null}),
            )
        } else {
            Reply::json(200, &json!({"access_token": "token"}))
        }
    });
    let discovery = rig.discovery_url();
    let api = rig.client(&[("OAUTH_TOKEN_URL", ""), ("OAUTH_DISCOVERY", &discovery)]);
    api.access().discover().await.unwrap();
    for _ in 0..3 {
        call(&api).await.unwrap();
    }
    let paths: Vec<_> = rig.provider.journal().into_iter().map(|request| request.path).collect();
    assert_eq!(paths, ["/.well-known/openid-configuration", "/elsewhere/token?x=1"]);
}

#[tokio::test]
async fn a_token_url_wins_over_discovery() {
    let rig = Rig::start().await;
    let api = rig.client(&[("OAUTH_DISCOVERY", "http://127.0.0.1:1/nobody-there")]);
    api.access().discover().await.unwrap();
    call(&api).await.unwrap();
    assert_eq!(rig.provider.n_received(), 1);
}

#[tokio::test]
async fn the_api_token_is_sent_beside_the_bearer_token() {
    let rig = Rig::start().await;
    let api = rig.client(&[("KEPTN_API_TOKEN", "x-secret")]);
    call(&api).await.unwrap();
    let request = &rig.api.journal()[0];
    assert_eq!(request.header("x-token"), Some("x-secret"));
    assert_eq!(request.header("authorization"), Some("Bearer token-0"));
    assert_eq!(rig.provider.journal()[0].header("x-token"), None);
}

#[tokio::test]
async fn callers_at_the_same_time_share_one_request_and_one_token() {
    let rig = Rig::start().await;
    rig.provider.respond_with(|_, nth| {
        let token = json!({"access_token": format!("token-{nth}")});
        Reply::json(200, &token).after(Duration::from_millis(50))
    });
    let api = rig.client(&[]);
    for called in join_all((0..50).map(|_| call(&api))).await {
        called.unwrap();
    }
    assert_eq!(rig.provider.n_received(), 1);
    assert!(rig.shown().iter().all(|shown| shown == "Bearer token-0"));
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_for_all_callers() {
    let rig = Rig::start().await;
    let api = rig.client(&[]);
    call(&api).await.unwrap();
    rig.accept_only("token-1");

    for called in join_all((0..50).map(|_| call(&api))).await {
        called.unwrap();
    }
    assert_eq!(rig.provider.n_received(), 2);
    let n_refused = rig.shown()[1..]
        .iter()
        .filter(|shown| *shown == "Bearer token-0")
        .count();
    let n_taken = rig.shown().iter().filter(|shown| *shown == "Bearer token-1").count();
    assert!(n_refused <= 50, "{n_refused}");
    assert_eq!(n_taken, 50);
}

#[tokio::test]
async fn a_token_is_renewed_before_it_expires_and_nobody_waits_for_that() {
    let rig = Rig::start().await;
    rig.give_tokens(&json!({"expires_in": 4}));
    let api = rig.client(&[]);
    call(&api).await.unwrap();
    // The next one comes late, and the calls do not.
    rig.provider.respond_with(|_, _| {
        Reply::json(200, &json!({"access_token": "late", "expires_in": 60})).after(Duration::from_secs(1))
    });
    let renewing = eventually(SOON, async || {
        call(&api).await.unwrap();
        rig.provider.n_received() == 2
    });
    renewing.await.unwrap();
    call(&api).await.unwrap();
    assert_eq!(rig.shown().last().unwrap(), "Bearer token-0");
    let renewed = eventually(SOON, async || {
        call(&api).await.unwrap();
        rig.shown().last().unwrap() == "Bearer late"
    });
    renewed.await.unwrap();
    assert_eq!(rig.provider.n_received(), 2);
}

/// A JWT without a signature, of a provider whose clock is off by so many seconds.
fn jwt_of_another_time(offset: i64, life: i64) -> String {
    let now = i64::try_from(UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap() + offset;
    let encoded = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({"iat": now, "nbf": now, "exp": now + life});
    format!("{}.{}.", encoded(json!({"alg": "none"})), encoded(claims))
}

#[tokio::test]
async fn the_life_of_a_token_counts_and_not_what_time_its_provider_has() {
    const HOUR: i64 = 3600;
    for offset in [-2 * HOUR, -HOUR, HOUR, 2 * HOUR] {
        let rig = Rig::start().await;
        rig.provider.respond_with(move |_, _| {
            Reply::json(
                200,
                &json!({"access_token": jwt_of_another_time(offset, HOUR), "expires_in": HOUR}),
            )
        });
        let api = rig.client(&[]);
        for _ in 0..20 {
            call(&api).await.unwrap();
        }
        assert_eq!(rig.provider.n_received(), 1, "{offset}");

        // A short life ends soon, whatever the token says.
        rig.provider.respond_with(move |_, _| {
            Reply::json(
                200,
                &json!({"access_token": jwt_of_another_time(offset, 3), "expires_in": 3}),
            )
        });
        let api = rig.client(&[]);
        let renewed = eventually(SOON, async || {
            call(&api).await.unwrap();
            rig.provider.n_received() == 3
        });
        renewed.await.unwrap();
    }
}

#[tokio::test]
async fn without_oauth_nothing_is_asked_for() {
    let rig = Rig::start().await;
    for missing in [
        "OAUTH_CLIENT_ID",
        "OAUTH_CLIENT_SECRET",
        "OAUTH_SCOPES",
        "OAUTH_TOKEN_URL",
    ] {
        let api = rig.client(&[(missing, "")]);
        api.access().discover().await.unwrap();
        call(&api).await.unwrap();
    }
    assert_eq!(rig.provider.n_received(), 0);
    assert_eq!(rig.shown(), [""; 4]);
}

#[tokio::test]
async fn tokens_go_to_the_api_and_to_nobody_else() {
    let rig = Rig::start().await;
    let other = Recipient::start().await.unwrap();
    let elsewhere = format!("http://{}/", other.address());
    rig.api
        .respond_with(move |_, _| Reply::Status(307, vec![("location".to_owned(), elsewhere.clone())]));
    let api = rig.client(&[("KEPTN_API_TOKEN", "x-secret")]);
    let error = call(&api).await.unwrap_err();
    assert!(error.to_string().contains("307"), "{error}");
    assert_eq!(other.n_received(), 0);
}
