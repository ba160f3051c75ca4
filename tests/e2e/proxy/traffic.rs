//! Real traffic, and much of it.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::Value;

use super::rig::{Answer, Client, Rig};

const DATASTORE: &str = include_str!("../../fixtures/captures/proxy-datastore.json");
const RESOURCES: &str = include_str!("../../fixtures/captures/proxy-resource.json");

/// The values of a list of pairs, in their order.
fn pairs(pairs: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pairs = pairs.as_array().expect("there is a list").iter();
    pairs.map(|pair| (text(&pair[0]), text(&pair[1]))).collect()
}

/// A head with these lines before an empty one.
fn head(start: &str, headers: &[(String, String)]) -> String {
    let lines = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    format!("{start}\r\n{}\r\n", lines.collect::<String>())
}

#[tokio::test]
async fn what_a_service_and_keptn_said_to_each_other_goes_through() {
    for (segment, capture) in [("mongodb-datastore", DATASTORE), ("resource-service", RESOURCES)] {
        let exchanges: Arc<Vec<Value>> = Arc::new(serde_json::from_str(capture).unwrap());
        let captured = Arc::clone(&exchanges);
        let rig = Rig::start(move |request| {
            let is_captured = |exchange: &&Value| {
                let path = exchange["path"].as_str().unwrap_or_default();
                request.start.contains(&format!(" http://{segment}:8080{path} "))
            };
            let exchange = captured.iter().find(is_captured).expect("it was captured");
            let start = format!("HTTP/1.1 {} OK", exchange["status"]);
            let body = exchange["resp_body"].as_str().unwrap_or_default();
            Answer::text(head(&start, &pairs(&exchange["resp_headers"])) + body)
        })
        .await;

        for exchange in exchanges.iter() {
            let text = |name: &str| exchange[name].as_str().unwrap_or_default();
            let (method, path, body) = (text("method"), text("path"), text("req_body"));
            let headers = pairs(&exchange["req_headers"]);
            let is_chunked = headers.iter().any(|(name, _)| name == "Transfer-Encoding");
            let body_sent = if is_chunked {
                format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
            } else {
                body.to_owned()
            };
            let start = format!("{method} /{segment}{path} HTTP/1.1");
            let answer = rig.ask(&(head(&start, &headers) + &body_sent)).await;

            assert_eq!(answer.status(), exchange["status"]);
            assert_eq!(answer.body, text("resp_body").as_bytes());
            let request = rig.upstream.journal().requests.pop().unwrap();
            assert_eq!(request.body, body.as_bytes());
            let lower = |headers: Vec<(String, String)>| {
                let headers = headers.into_iter();
                let mut headers: Vec<_> = headers.map(|(name, value)| (name.to_lowercase(), value)).collect();
                headers.sort();
                headers
            };
            let mut expected = headers;
            expected.push(("x-token".to_owned(), "t".to_owned()));
            assert_eq!(lower(request.headers), lower(expected));
            assert_eq!(lower(answer.headers), lower(pairs(&exchange["resp_headers"])));
        }
    }
}

#[tokio::test]
async fn many_clients_get_their_own_answers_over_connections_that_stay() {
    const N_CLIENTS: usize = 64;
    const N_EACH: usize = 20;
    let rig = Rig::start(|request| {
        let path = request.start.split(' ').nth(1).unwrap_or_default();
        Answer::ok(path)
    })
    .await;

    join_all((0..N_CLIENTS).map(async |client| {
        let mut connection = Client::connect(&rig.distributor).await;
        for nth in 0..N_EACH {
            let body = format!("body {client} {nth}");
            let answer = connection
                .ask(&format!(
                    "POST /controlPlane/{client}/{nth} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ))
                .await;
            assert_eq!(answer.status(), 200);
            let expected = format!("http://shipyard-controller:8080/{client}/{nth}");
            assert_eq!(answer.body, expected.as_bytes());
        }
    }))
    .await;

    let journal = rig.upstream.journal();
    assert_eq!(journal.requests.len(), N_CLIENTS * N_EACH);
    for request in &journal.requests {
        let path = request.start.split(' ').nth(1).unwrap();
        let mut segments = path.rsplit('/');
        let (nth, client) = (segments.next().unwrap(), segments.next().unwrap());
        assert_eq!(request.body, format!("body {client} {nth}").as_bytes());
    }
    // A request that finds none idle opens one, and takes whichever is free first.
    let most = 2 * N_CLIENTS;
    assert!(journal.n_connections <= most, "{} connections", journal.n_connections);
}

#[tokio::test]
async fn one_client_needs_one_connection() {
    let rig = Rig::start(|_| Answer::ok("")).await;
    for _ in 0..20 {
        assert_eq!(rig.get("/controlPlane/v1").await.status(), 200);
    }
    assert_eq!(rig.upstream.journal().n_connections, 1);
}
