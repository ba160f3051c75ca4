//! Identity providers that are down, broken, or not what they seem.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use test_support::{Recipient, Reply, eventually};

use super::rig::{Rig, SECRET, call};
use crate::harness::SOON;

#[tokio::test]
async fn every_failure_of_a_provider_is_an_error_that_says_what_it_was() {
    let check = async |reply: Reply, expected: &str| {
        let rig = Rig::start().await;
        rig.provider.respond_with(move |_, _| reply.clone());
        let api = rig.client(&[("API_PROXY_HTTP_TIMEOUT", "1")]);
        let error = call(&api).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(error.contains("/token") && error.contains("OAuth"), "{error}");
        assert_eq!(rig.api.n_received(), 0, "{expected}");
        assert_eq!(rig.provider.n_received(), 2, "both styles are tried: {expected}");
    };
    let html = || Reply::Body(200, "text/html".into(), "<html>Log in</html>".into());
    let huge = format!("{{\"access_token\":\"{}\"}}", "x".repeat(1 << 20));
    let huge = Reply::Body(200, "application/json".into(), huge.into());
    check(Reply::status(500), "answered 500").await;
    check(Reply::Hang, "no answer in time").await;
    check(Reply::Reset, "gave no answer").await;
    check(html(), "neither JSON nor a form (text/html)").await;
    check(huge, "more than 1048576 bytes").await;
    check(Reply::json(200, &json!({"error": "invalid_scope"})), "invalid_scope").await;
    check(
        Reply::json(
            400,
            &json!({"error": "invalid_client", "error_description": "unknown client"}),
        ),
        "answered 400 Bad Request: invalid_client: unknown client",
    )
    .await;
    check(Reply::json(200, &json!({"token_type": "bearer"})), "no access_token").await;
    check(
        Reply::Body(200, "application/json".into(), Bytes::new()),
        "neither JSON",
    )
    .await;
}

#[tokio::test]
async fn a_redirect_gives_the_credentials_to_nobody() {
    let rig = Rig::start().await;
    let other = Recipient::start().await.unwrap();
    let elsewhere = format!("http://{}/", other.address());
    rig.provider
        .respond_with(move |_, _| Reply::Status(307, vec![("location".to_owned(), elsewhere.clone())]));
    let error = call(&rig.client(&[])).await.unwrap_err().to_string();
    assert!(error.contains("answered 307"), "{error}");
    assert_eq!(other.n_received(), 0);
}

#[tokio::test]
async fn a_provider_that_repeats_the_request_does_not_put_the_secret_into_the_error() {
    let rig = Rig::start().await;
    rig.provider.respond_with(|request, _| {
        let header = request.header("authorization").unwrap_or_default();
        let said = format!("{header} {}", String::from_utf8_lossy(&request.body));
        Reply::json(401, &json!({"error": "invalid_client", "error_description": said}))
    });
    let error = call(&rig.client(&[])).await.unwrap_err();
    let error = format!("{error} {error:?}");
    assert!(error.contains("is not shown"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_provider_that_is_down_is_asked_now_and_then_and_callers_do_not_wait() {
    let mut rig = Rig::start().await;
    rig.provider.stop().await;
    let api = rig.client(&[]);
    for _ in 0..200 {
        let error = call(&api).await.unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
    }
    rig.provider.start_again().await.unwrap();
    let back = eventually(SOON, async || call(&api).await.is_ok());
    back.await.unwrap();
    assert_eq!(rig.provider.n_received(), 1);
}

#[tokio::test]
async fn failures_are_not_followed_by_a_request_for_each_call() {
    let rig = Rig::start().await;
    rig.provider.respond_with(|_, _| Reply::status(503));
    let api = rig.client(&[]);
    for _ in 0..200 {
        call(&api).await.unwrap_err();
    }
    // Two styles each; the second pair only where 200 calls took longer than the pause.
    assert!(rig.provider.n_received() <= 4, "{}", rig.provider.n_received());
}

#[tokio::test]
async fn a_valid_token_stays_in_use_while_the_provider_is_down() {
    let rig = Rig::start().await;
    rig.give_tokens(&json!({"expires_in": 3}));
    let api = rig.client(&[]);
    call(&api).await.unwrap();
    rig.provider.respond_with(|_, _| Reply::status(500));
    let asked = eventually(SOON, async || {
        call(&api).await.unwrap();
        rig.provider.n_received() > 1
    });
    asked.await.unwrap();
    call(&api).await.unwrap();

    // Until it is no longer valid.
    let expired = eventually(SOON, async || call(&api).await.is_err());
    expired.await.unwrap();
    rig.give_tokens(&json!({}));
    let back = eventually(SOON, async || call(&api).await.is_ok());
    back.await.unwrap();
}

#[tokio::test]
async fn an_api_that_refuses_every_token_does_not_cause_a_request_for_one_with_each_call() {
    let rig = Rig::start().await;
    rig.accept_only("none of ours");
    let api = rig.client(&[]);
    for _ in 0..100 {
        let error = call(&api).await.unwrap_err().to_string();
        assert!(error.contains("401") && error.contains("who are you?"), "{error}");
    }
    assert!(rig.provider.n_received() <= 4, "{}", rig.provider.n_received());
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_take_the_token_with_it() {
    let rig = Rig::start().await;
    rig.provider
        .respond_with(|_, _| Reply::json(200, &json!({"access_token": "token"})).after(Duration::from_millis(200)));
    let api = rig.client(&[]);
    let gone = tokio::time::timeout(Duration::from_millis(50), call(&api)).await;
    gone.unwrap_err();
    call(&api).await.unwrap();
    assert_eq!(rig.provider.n_received(), 1);
}

#[tokio::test]
async fn a_discovery_document_that_does_not_work_is_an_error_at_start() {
    let check = async |reply: Reply, expected: &str| {
        let rig = Rig::start().await;
        rig.provider.respond_with(move |_, _| reply.clone());
        let discovery = rig.discovery_url();
        let api = rig.client(&[("OAUTH_TOKEN_URL", ""), ("OAUTH_DISCOVERY", &discovery)]);
        let error = api.access().discover().await.unwrap_err().to_string();
        assert!(error.starts_with("OAUTH_DISCOVERY: http://"), "{error}");
        assert!(error.contains(expected), "{expected}: {error}");
        assert_eq!(rig.provider.n_received(), 1, "{expected}");
    };
    check(Reply::status(500), "answered 500").await;
    check(
        Reply::json(204, &json!({"token_endpoint": "http://a"})),
        "instead of 200",
    )
    .await;
    check(Reply::Reset, "gave no answer").await;
    check(Reply::json(200, &json!({"issuer": "a"})), "has no token_endpoint").await;
    check(
        Reply::json(200, &json!({"token_endpoint": "/token"})),
        "no http or https URL",
    )
    .await;
    check(
        Reply::Body(200, "text/html".into(), "<html>".into()),
        "is no discovery document",
    )
    .await;
}

#[tokio::test]
async fn a_secret_that_was_replaced_is_used_for_the_next_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, format!("{SECRET}\n")).unwrap();
    let rig = Rig::start().await;
    rig.provider.respond_with(|request, _| {
        // base64 of `id%3A1:changed-secret`
        let is_new = request.header("authorization") == Some("Basic aWQlM0ExOmNoYW5nZWQtc2VjcmV0");
        let token = json!({"access_token": "token"});
        Reply::json(
            if is_new { 200 } else { 401 },
            if is_new { &token } else { &serde_json::Value::Null },
        )
    });
    let api = rig.client(&[
        ("OAUTH_CLIENT_SECRET", ""),
        ("OAUTH_CLIENT_SECRET_FILE", path.to_str().unwrap()),
    ]);
    call(&api).await.unwrap_err();
    std::fs::write(&path, "changed-secret\n").unwrap();
    let back = eventually(SOON, async || call(&api).await.is_ok());
    back.await.unwrap();
}
