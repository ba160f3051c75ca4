//! The token of the Keptn API, as a value and in a file.

use serde_json::Value;
use test_support::Reply;

use super::rig::{Rig, call};

#[tokio::test]
async fn a_token_that_was_replaced_on_disk_is_used_when_the_old_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "old-token\n").unwrap();
    let rig = Rig::start().await;
    let api = rig.client(&[
        ("OAUTH_CLIENT_ID", ""),
        ("KEPTN_API_TOKEN_FILE", path.to_str().unwrap()),
    ]);
    call(&api).await.unwrap();
    std::fs::write(&path, "new-token\n").unwrap();
    rig.api.respond_with(|request, _| {
        let is_in = request.header("x-token") == Some("new-token");
        Reply::status(if is_in { 200 } else { 401 })
    });
    // The file is read at most once a second, and at once after a 401.
    call(&api).await.unwrap();
    let last = rig.api.journal().pop().unwrap();
    assert_eq!(last.header("x-token"), Some("new-token"));
}

#[tokio::test]
async fn a_wrong_token_is_the_captured_answer_and_is_not_tried_twice() {
    let captured = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/captures/remote-wrong-token.json"
    ));
    let captured: Value = serde_json::from_slice(&captured.unwrap()).unwrap();
    let body = captured[0]["resp_body"].as_str().unwrap().to_owned();
    let rig = Rig::start().await;
    rig.api
        .respond_with(move |_, _| Reply::Body(401, "text/plain".to_owned(), body.clone().into()));
    let api = rig.client(&[("OAUTH_CLIENT_ID", ""), ("KEPTN_API_TOKEN", "wrong")]);
    let error = call(&api).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "answered 401 Unauthorized: unauthenticated or invalid credentials"
    );
    let requests = rig.api.journal();
    assert_eq!((requests.len(), requests[0].header("x-token")), (1, Some("wrong")));
}
