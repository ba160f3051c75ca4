//! What a service gets when the control plane gives no answer, and what the control plane sees of a service that goes.

use std::sync::atomic::{AtomicUsize, Ordering};

use test_support::free_port;

use super::rig::{Answer, Client, Rig};

const GET: &str = "GET /controlPlane/v1 HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test]
async fn who_goes_away_ends_the_request_at_the_other_side() {
    let rig = Rig::start(|_| Answer::Silence(Vec::new())).await;
    for (nth, request) in [
        GET,
        "POST /controlPlane/v1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = Client::connect(&rig.distributor).await;
        client.send(request).await;
        rig.upstream
            .wait_until("the request arrives", |journal| journal.requests.len() == nth + 1)
            .await;
        assert_eq!(rig.upstream.journal().n_closed, nth);
        drop(client);
        rig.upstream
            .wait_until("the request is given up", |journal| journal.n_closed == nth + 1)
            .await;
    }
}

#[tokio::test]
async fn who_goes_away_while_the_answer_comes_ends_it() {
    let start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nstart\r\n";
    let rig = Rig::start(|_| Answer::Silence(start.to_vec())).await;
    let mut client = Client::connect(&rig.distributor).await;
    client.send(GET).await;
    client.head().await;
    client.read(5).await;
    assert_eq!(rig.upstream.journal().n_closed, 0);
    drop(client);
    rig.upstream
        .wait_until("the answer is given up", |journal| journal.n_closed == 1)
        .await;
}

#[tokio::test]
async fn nobody_there_is_502_with_the_reason() {
    let nobody = format!("http://127.0.0.1:{}", free_port().unwrap());
    let rig = Rig::start_with(&[("HTTP_PROXY", &nobody)], |_| Answer::ok("")).await;
    let answer = rig.get("/mongodb-datastore/event").await;
    assert_eq!(answer.status(), 502);
    let problem = answer.problem();
    assert!(
        problem.starts_with("mongodb-datastore:8080 cannot be reached: ") && problem.contains("refused"),
        "{problem}"
    );
    assert_eq!(rig.get("/health").await.status(), 200);
}

#[tokio::test]
async fn what_is_no_answer_is_502() {
    for bytes in [
        "",
        "no HTTP at all\r\n\r\n",
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    ] {
        let rig = Rig::start(|_| Answer::Last(bytes.as_bytes().to_vec())).await;
        let answer = rig.get("/controlPlane/v1").await;
        assert_eq!(answer.status(), 502, "{bytes}");
        let problem = answer.problem();
        assert!(
            problem.starts_with("shipyard-controller:8080 gave no answer: "),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_complete() {
    for start in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nstart",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nstart\r\n",
    ] {
        let rig = Rig::start(|_| Answer::Last(start.as_bytes().to_vec())).await;
        let mut client = Client::connect(&rig.distributor).await;
        client.send(GET).await;
        // The end may come so soon that there is no answer at all.
        if let Some(mut answer) = client.head_if_any().await {
            assert_eq!(answer.status(), 200);
            assert!(client.body(&mut answer).await.is_err(), "{start}");
        }
    }
}

#[tokio::test]
async fn errors_of_the_control_plane_are_passed_on() {
    for status in [400, 401, 403, 404, 413, 429, 500, 503] {
        let body = format!(r#"{{"code":{status}, "message":"as it is"}}"#);
        let answer = format!(
            "HTTP/1.1 {status} X\r\nRetry-After: 7\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let rig = Rig::start(move |_| Answer::text(answer.clone())).await;
        let answer = rig.get("/controlPlane/v1").await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.body, body.as_bytes());
        assert_eq!(answer.header("retry-after"), ["7"]);
        assert_eq!(rig.upstream.journal().requests.len(), 1, "{status} is asked for once");
    }
}

#[tokio::test]
async fn a_connection_that_the_other_side_closes_when_it_is_used_again_fails_no_get() {
    let n_asked = AtomicUsize::new(0);
    let rig = Rig::start(move |_| match n_asked.fetch_add(1, Ordering::Relaxed) {
        1 => Answer::Last(Vec::new()),
        _ => Answer::ok(""),
    })
    .await;
    for _ in 0..2 {
        assert_eq!(rig.get("/controlPlane/v1").await.status(), 200);
    }
    assert_eq!(rig.upstream.journal().requests.len(), 3);
}

#[tokio::test]
async fn what_may_have_been_done_is_not_sent_twice() {
    let rig = Rig::start(|_| Answer::Last(Vec::new())).await;
    let answer = rig
        .ask("POST /controlPlane/v1 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!(answer.status(), 502);
    assert_eq!(rig.upstream.journal().requests.len(), 1);
}
