//! Tokens of an identity provider.

use serde_json::json;
use test_support::{Recipient, Reply};

use super::message::Message;
use super::rig::{Answer, Rig};

const GET: &str = "GET /controlPlane/v1 HTTP/1.1\r\nHost: h\r\nAuthorization: own\r\n\r\n";
const POST: &str = "POST /controlPlane/v1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}";

/// A provider whose tokens are `token-0`, `token-1` and so on.
async fn provider() -> Recipient {
    let provider = Recipient::start().await.unwrap();
    provider.respond_with(|_, nth| {
        let token = format!("token-{nth}");
        Reply::json(200, &json!({"access_token": token, "expires_in": 3600}))
    });
    provider
}

async fn rig(provider: &Recipient, script: impl Fn(&Message) -> Answer + Send + Sync + 'static) -> Rig {
    let token_url = format!("http://127.0.0.1:{}/token", provider.port());
    let variables = [
        ("OAUTH_CLIENT_ID", "id"),
        ("OAUTH_CLIENT_SECRET", "secret"),
        ("OAUTH_SCOPES", "scope"),
        ("OAUTH_TOKEN_URL", &token_url),
    ];
    Rig::start_with(&variables, script).await
}

/// Takes every token but the first.
fn refuse_the_first(request: &Message) -> Answer {
    if request.header("authorization") == ["Bearer token-0"] {
        Answer::text("HTTP/1.1 401 X\r\nContent-Length: 7\r\n\r\nrefused")
    } else {
        Answer::ok("taken")
    }
}

fn tokens(rig: &Rig) -> Vec<String> {
    let requests = rig.upstream.journal().requests;
    let tokens = requests.iter().map(|request| request.header("authorization").concat());
    tokens.collect()
}

#[tokio::test]
async fn a_request_without_a_body_is_sent_again_with_a_new_token() {
    let provider = provider().await;
    let rig = rig(&provider, refuse_the_first).await;
    for _ in 0..2 {
        let answer = rig.ask(GET).await;
        assert_eq!((answer.status(), answer.body.as_slice()), (200, &b"taken"[..]));
    }
    assert_eq!(tokens(&rig), ["Bearer token-0", "Bearer token-1", "Bearer token-1"]);
    assert_eq!(provider.n_received(), 2);
}

#[tokio::test]
async fn a_token_that_is_refused_is_dropped_and_the_answer_passed_on() {
    let provider = provider().await;
    let rig = rig(&provider, refuse_the_first).await;
    let answer = rig.ask(POST).await;
    assert_eq!((answer.status(), answer.body.as_slice()), (401, &b"refused"[..]));
    assert_eq!(rig.ask(POST).await.status(), 200);
    assert_eq!(tokens(&rig), ["Bearer token-0", "Bearer token-1"]);
}

#[tokio::test]
async fn a_new_token_that_is_refused_as_well_is_the_answer() {
    let provider = provider().await;
    let rig = rig(&provider, |_| {
        Answer::text("HTTP/1.1 401 X\r\nContent-Length: 0\r\n\r\n")
    })
    .await;
    assert_eq!(rig.ask(GET).await.status(), 401);
    assert_eq!(tokens(&rig), ["Bearer token-0", "Bearer token-1"]);
}

#[tokio::test]
async fn without_a_token_nothing_is_sent() {
    let provider = provider().await;
    provider.respond_with(|_, _| Reply::status(500));
    let rig = rig(&provider, |_| Answer::ok("")).await;
    let answer = rig.ask(POST).await;
    assert_eq!(answer.status(), 502);
    let problem = answer.problem();
    assert!(
        problem.starts_with("there is no token for the Keptn API: ") && problem.contains("500"),
        "{problem}"
    );
    assert_eq!(rig.upstream.journal().n_connections, 0);
}
