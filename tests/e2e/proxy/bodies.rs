//! Bodies go through as they come.

use super::rig::{Answer, Client, Rig};

const LARGE: usize = 50 << 20;
/// What a distributor may need for a body of any size: buffers of its two connections.
const MOST_MEMORY: u64 = 12 << 20;
const UNLIMITED: (&str, &str) = ("API_PROXY_MAX_PAYLOAD_BYTES_KB", "0");

#[tokio::test]
async fn a_large_body_needs_little_memory_on_either_way() {
    let rig = Rig::start_with(&[UNLIMITED], |request| {
        if request.start.starts_with("PUT") {
            Answer::ok("taken")
        } else {
            Answer::Large(LARGE)
        }
    })
    .await;
    rig.get("/health").await;
    let before = rig.distributor.peak_resident_memory().unwrap();

    let mut client = Client::connect(&rig.distributor).await;
    let head = format!("PUT /resource-service/v1 HTTP/1.1\r\nHost: h\r\nContent-Length: {LARGE}\r\n\r\n");
    client.send(head).await;
    client.send(vec![b'x'; LARGE]).await;
    assert_eq!(client.answer().await.body, b"taken");
    assert_eq!(rig.upstream.journal().requests[0].body.len(), LARGE);
    let answer = client.ask("GET /resource-service/v1 HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(answer.body.len(), LARGE);

    let grown = rig.distributor.peak_resident_memory().unwrap() - before;
    println!("50 MiB up and down: {} KiB more", grown >> 10);
    assert!(grown < MOST_MEMORY, "{grown} bytes more");
}

#[tokio::test]
async fn a_piece_is_passed_on_before_the_next_one_comes() {
    let rig = Rig::start(|_| Answer::Echo).await;
    let mut client = Client::connect(&rig.distributor).await;
    client
        .send("POST /controlPlane/v1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status(), 200);
    for piece in ["5\r\nfirst\r\n", "6\r\nsecond\r\n"] {
        client.send(piece).await;
        assert_eq!(client.read(piece.len()).await, piece.as_bytes());
    }
}

#[tokio::test]
async fn framing_is_kept() {
    let rig = Rig::start(|request| match request.start.split(' ').next() {
        Some("GET") => {
            Answer::text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
        }
        _ => Answer::ok(""),
    })
    .await;
    let sent = async |request: &str| {
        let answer = rig.ask(request).await;
        assert_eq!(answer.status(), 200);
        (rig.upstream.journal().requests.pop().unwrap(), answer)
    };

    let (request, answer) = sent("GET /controlPlane/v1 HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(request.header("content-length").is_empty() && request.header("transfer-encoding").is_empty());
    assert_eq!(answer.header("transfer-encoding"), ["chunked"]);
    assert_eq!(answer.body, b"abc");

    let (request, _) = sent("POST /controlPlane/v1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}").await;
    assert_eq!(
        (request.header("content-length"), request.body.as_slice()),
        (vec!["2"], &b"{}"[..])
    );
    let (request, _) = sent("POST /controlPlane/v1 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(request.header("content-length"), ["0"]);
    for method in ["POST", "GET", "DELETE"] {
        let chunked = format!(
            "{method} /controlPlane/v1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
        );
        let (request, _) = sent(&chunked).await;
        assert_eq!(request.header("transfer-encoding"), ["chunked"], "{method}");
        assert_eq!(request.body, b"{}", "{method}");
    }
}

#[tokio::test]
async fn an_answer_without_a_body_has_none() {
    let rig = Rig::start(|request| match request.start.split(' ').next() {
        Some("HEAD") => Answer::text("HTTP/1.1 200 OK\r\nContent-Length: 1701\r\nETag: \"a\"\r\n\r\n"),
        Some("GET") => Answer::text("HTTP/1.1 304 Not Modified\r\nETag: \"b\"\r\n\r\n"),
        _ => Answer::text("HTTP/1.1 204 No Content\r\n\r\n"),
    })
    .await;
    let mut client = Client::connect(&rig.distributor).await;
    // All over one connection: a body that nobody expects would be taken for the next answer.
    for _ in 0..2 {
        client.send("HEAD /controlPlane/v1 HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let head = client.head().await;
        assert_eq!(head.status(), 200);
        assert_eq!(
            (head.header("content-length"), head.header("etag")),
            (vec!["1701"], vec!["\"a\""])
        );
        let not_modified = client.ask("GET /controlPlane/v1 HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(
            (not_modified.status(), not_modified.header("etag")),
            (304, vec!["\"b\""])
        );
        let empty = client.ask("DELETE /controlPlane/v1 HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!((empty.status(), empty.body.len()), (204, 0));
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_passed_on() {
    let rig =
        Rig::start(|_| Answer::Last(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nall of it".to_vec())).await;
    let answer = rig.get("/controlPlane/v1").await;
    assert_eq!(answer.start, "HTTP/1.1 200 OK");
    assert_eq!(answer.body, b"all of it");
}

#[tokio::test]
async fn who_asks_before_it_sends_is_told_to_go_on_or_why_not() {
    let rig = Rig::start(|_| Answer::ok("taken")).await;
    let mut client = Client::connect(&rig.distributor).await;
    client
        .send("PUT /controlPlane/v1 HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        .await;
    assert_eq!(client.answer().await.status(), 100);
    client.send("{}").await;
    assert_eq!(client.answer().await.body, b"taken");
    assert_eq!(rig.upstream.journal().requests[0].body, b"{}");

    for (path, status) in [("/controlPlane/v1", 413), ("/secrets", 404)] {
        let mut client = Client::connect(&rig.distributor).await;
        client
            .send(format!(
                "PUT {path} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 65537\r\n\r\n"
            ))
            .await;
        assert_eq!(client.answer().await.status(), status);
    }
    assert_eq!(rig.upstream.journal().requests.len(), 1);
}
