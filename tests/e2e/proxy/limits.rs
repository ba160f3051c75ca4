//! How much and how long the proxy takes.

use std::time::Duration;

use super::rig::{Answer, Client, Rig};

fn chunked(n_bytes: usize) -> String {
    let body = "x".repeat(n_bytes);
    format!(
        "POST /controlPlane/v1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{n_bytes:x}\r\n{body}\r\n0\r\n\r\n"
    )
}

fn of_length(n_bytes: usize) -> String {
    let body = "x".repeat(n_bytes);
    format!("POST /controlPlane/v1 HTTP/1.1\r\nHost: h\r\nContent-Length: {n_bytes}\r\n\r\n{body}")
}

#[tokio::test]
async fn a_body_may_be_as_large_as_the_limit() {
    const LIMIT: usize = 64 << 10;
    let rig = Rig::start(|_| Answer::ok("")).await;
    for request in [of_length(LIMIT), chunked(LIMIT)] {
        assert_eq!(rig.ask(&request).await.status(), 200);
        assert_eq!(rig.upstream.journal().requests.pop().unwrap().body.len(), LIMIT);
    }

    let answer = rig.ask(&of_length(LIMIT + 1)).await;
    assert_eq!(answer.status(), 413);
    assert!(
        answer
            .problem()
            .contains("65536 bytes (API_PROXY_MAX_PAYLOAD_BYTES_KB)")
    );
    assert!(rig.upstream.journal().broken.is_empty(), "nobody was asked");

    let answer = rig.ask(&chunked(LIMIT + 1)).await;
    assert_eq!(answer.status(), 413);
    assert!(
        answer
            .problem()
            .contains("65536 bytes (API_PROXY_MAX_PAYLOAD_BYTES_KB)")
    );
    let what = "the control plane sees that the request broke off";
    let journal = rig.upstream.wait_until(what, |journal| journal.n_closed > 0).await;
    assert_eq!(journal.requests.len(), 2);
}

#[tokio::test]
async fn who_sends_far_too_much_still_gets_the_answer() {
    const FAR_TOO_MUCH: usize = 20 << 20;
    let rig = Rig::start(|_| Answer::ok("")).await;
    for request in [of_length(FAR_TOO_MUCH), chunked(FAR_TOO_MUCH)] {
        assert_eq!(rig.ask(&request).await.status(), 413);
    }
    let elsewhere = of_length(FAR_TOO_MUCH).replace("controlPlane", "secrets");
    assert_eq!(rig.ask(&elsewhere).await.status(), 404);
}

#[tokio::test]
async fn no_answer_in_time_is_504() {
    let rig = Rig::start_with(&[("API_PROXY_HTTP_TIMEOUT", "1")], |_| Answer::Silence(Vec::new())).await;
    let answer = rig.get("/resource-service/v1").await;
    assert_eq!(answer.status(), 504);
    let expected = "resource-service:8080 gave no answer within 1s (API_PROXY_HTTP_TIMEOUT)";
    assert_eq!(answer.problem(), expected);
    rig.upstream
        .wait_until("the request is given up", |journal| journal.n_closed == 1)
        .await;
}

#[tokio::test]
async fn an_answer_that_does_not_go_on_is_broken_off() {
    let start = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nstart";
    let rig = Rig::start_with(&[("API_PROXY_HTTP_TIMEOUT", "1")], |_| Answer::Silence(start.to_vec())).await;
    let mut client = Client::connect(&rig.distributor).await;
    client
        .send("GET /resource-service/v1 HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
    let mut answer = client.head().await;
    assert_eq!(answer.status(), 200);
    assert_eq!(client.read(5).await, b"start");
    assert!(client.body(&mut answer).await.is_err());
    rig.upstream
        .wait_until("the request is given up", |journal| journal.n_closed == 1)
        .await;
}

#[tokio::test]
async fn a_client_that_does_not_go_on_is_given_up() {
    let rig = Rig::start_with(&[("API_PROXY_HTTP_TIMEOUT", "1")], |_| Answer::ok("")).await;
    let mut client = Client::connect(&rig.distributor).await;
    let answer = client
        .ask("POST /controlPlane/v1 HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nstart")
        .await;
    assert_eq!(answer.status(), 504);
    rig.upstream
        .wait_until("the request breaks off", |journal| {
            journal.broken.len() == 1 && journal.n_closed == 1
        })
        .await;
}

#[tokio::test]
async fn a_client_that_is_silent_for_half_a_minute_is_told_so() {
    let rig = Rig::start_with(&[("API_PROXY_HTTP_TIMEOUT", "0")], |_| Answer::ok("")).await;
    let mut client = Client::connect(&rig.distributor).await;
    client
        .send("POST /controlPlane/v1 HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nstart")
        .await;
    let is_given_up = async || rig.upstream.journal().broken.len() == 1;
    test_support::eventually(Duration::from_mins(1), is_given_up)
        .await
        .unwrap();
    let answer = client.answer().await;
    assert_eq!(answer.status(), 408);
    assert!(answer.problem().contains("30s"), "{}", answer.problem());
}
