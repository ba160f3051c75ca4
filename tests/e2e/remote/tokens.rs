//! OAuth tokens that end while the control plane is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use test_support::{ControlPlane, ReceivedRequest, Recipient, Reply, Route};

use super::paging::page;
use super::{Remote, events, sorted};
use crate::harness::{SOON, TASK_TRIGGERED, event_id, lines_with, numbered_ids, start_process};

const CLIENT: [(&str, &str); 3] = [
    ("OAUTH_CLIENT_ID", "id"),
    ("OAUTH_CLIENT_SECRET", "secret"),
    ("OAUTH_SCOPES", "a"),
];

#[tokio::test]
async fn a_token_that_ends_between_two_pages_costs_one_refusal() {
    let (api, recipient) = (Recipient::start().await.unwrap(), Recipient::start().await.unwrap());
    let (n_tokens, has_ended) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
    let ended = Arc::clone(&has_ended);
    api.respond_with(move |request, _| {
        if request.path == "/token" {
            let token = format!("token-{}", n_tokens.fetch_add(1, Ordering::Relaxed));
            return Reply::json(200, &json!({ "access_token": token, "expires_in": 3600 }));
        }
        let valid = format!("Bearer token-{}", u8::from(ended.load(Ordering::Relaxed)));
        if request.header("authorization") != Some(&valid) {
            return Reply::json(401, &json!({ "code": 401, "message": "expired" }));
        }
        let page = if request.path.contains("nextPageKey=50") {
            page(50..80, "0")
        } else {
            ended.store(true, Ordering::Relaxed);
            page(0..50, "50")
        };
        Reply::Body(200, "application/json".to_owned(), Bytes::from(page))
    });
    let (endpoint, port) = (format!("http://{}/api", api.address()), recipient.port().to_string());
    let token_url = format!("http://{}/token", api.address());
    let variables = [
        ("KEPTN_API_ENDPOINT", endpoint.as_str()),
        ("OAUTH_TOKEN_URL", &token_url),
        ("HTTP_POLLING_INTERVAL", "1"),
        ("PUBSUB_TOPIC", TASK_TRIGGERED),
        ("PUBSUB_RECIPIENT_PORT", &port),
    ];
    let process = start_process(&[&CLIENT[..], &variables].concat());

    recipient.wait_until_accepted(80, SOON).await.unwrap();
    // Two further polls.
    let seen = api.n_received();
    api.wait_until_received(seen + 5, SOON).await.unwrap();
    let delivered: Vec<_> = recipient.journal().iter().map(event_id).collect();
    assert_eq!(sorted(delivered), sorted(numbered_ids("a", 80)), "each once");
    let is = |request: &&ReceivedRequest, token: &str| request.header("authorization") == Some(token);
    let journal = api.journal();
    let with_old: Vec<_> = journal.iter().filter(|request| is(request, "Bearer token-0")).collect();
    assert_eq!(with_old.len(), 2, "one page, and one refusal");
    let n_tokens = journal.iter().filter(|request| request.path == "/token").count();
    assert_eq!(n_tokens, 2);
    assert_eq!(lines_with(&process, "cannot poll"), [""; 0]);
}

#[tokio::test]
async fn tokens_of_a_short_life_are_no_reason_to_miss_a_poll() {
    let remote = Remote::start().await;
    remote
        .control_plane
        .require_oauth("id", "secret", Duration::from_secs(4));
    let discovery = remote.control_plane.discovery_url();
    remote.open(events("a", 3));
    let process = remote
        .process(&[&CLIENT[..], &[("OAUTH_DISCOVERY", discovery.as_str())]].concat())
        .await;
    remote.delivered(3).await;
    let given = remote.control_plane.wait_for_answers(Route::Token, 200, 3, SOON).await;
    given.unwrap();
    let refused = remote.polls().into_iter().filter(|poll| poll.status == Some(401));
    assert_eq!(refused.count(), 0, "renewed in time");

    // One of a long life is taken back: one refusal, and nothing is said.
    let n_given = remote.control_plane.requests_to(Route::Token).len();
    remote
        .control_plane
        .require_oauth("id", "secret", Duration::from_hours(1));
    let given = remote
        .control_plane
        .wait_for_answers(Route::Token, 200, n_given + 1, SOON)
        .await;
    given.unwrap();
    remote.polled(2).await;
    remote.control_plane.revoke_tokens();
    remote.polled(3).await;
    let refused = |control_plane: &ControlPlane| {
        let polls = control_plane.requests_to(Route::OpenEvents);
        polls.into_iter().filter(|poll| poll.status == Some(401)).count()
    };
    assert_eq!(refused(&remote.control_plane), 1);
    assert_eq!(lines_with(&process, "cannot poll"), [""; 0]);
    assert_eq!(remote.recipient.n_received(), 3);
}
