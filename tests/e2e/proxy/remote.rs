//! The control plane behind an endpoint somewhere else.

use std::collections::HashMap;

use distributor::config;
use distributor::subscription::Interest;
use test_support::{Authority, TlsFront, TunnelProxy, free_port};

use super::rig::{Answer, Client, Rig, Upstream, start_distributor};
use crate::harness::App;

const TOKEN: (&str, &str) = ("KEPTN_API_TOKEN", "t");

async fn app(endpoint: &str, variables: &[(&str, &str)]) -> App {
    let mut environment: HashMap<&str, &str> = variables.iter().copied().collect();
    environment.insert("KEPTN_API_ENDPOINT", endpoint);
    let config = config::from_env(&|name| environment.get(name).map(|value| (*value).to_owned()));
    App::start(config.unwrap(), Interest::topics(Vec::new())).await
}

#[tokio::test]
async fn paths_lead_below_the_endpoint_and_names_of_files_are_escaped_for_its_gateway() {
    let upstream = Upstream::start(|_| Answer::ok("")).await;
    let host = upstream.url().replace("http://", "");
    let app = app(&format!("{}/api/", upstream.url()), &[TOKEN]).await;
    let check = async |request: &str, expected: &str| {
        let mut client = Client::connect_to(app.address).await;
        let answer = client.ask(&format!("{request} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        assert_eq!(answer.status(), 200);
        let request = upstream.journal().requests.pop().unwrap();
        assert_eq!(request.start, format!("{expected} HTTP/1.1"));
        assert_eq!(request.header("host"), [host.as_str()]);
        assert_eq!(request.header("x-token"), ["t"]);
    };

    check("GET /controlPlane", "GET /api/controlPlane/").await;
    check("GET /resource-service", "GET /api/resource-service/").await;
    check(
        "GET /controlPlane/v1/project?x=1&y=a%20b",
        "GET /api/controlPlane/v1/project?x=1&y=a%20b",
    )
    .await;
    check(
        "GET /resource-service/v1/project/p/stage/s/service/c/resource/helm%2Fchart.tgz?gitCommitID=1",
        "GET /api/resource-service/v1/project/p/stage/s/service/c/resource/helm%252Fchart.tgz?gitCommitID=1",
    )
    .await;
    check(
        "GET /resource-service/v1/project/p/resource/helm/chart.tgz",
        "GET /api/resource-service/v1/project/p/resource/helm%2Fchart.tgz",
    )
    .await;
    check(
        "PUT /resource-service/v1/project/resource/x/resource/y/z",
        "PUT /api/resource-service/v1/project/resource/x/resource/y%2Fz",
    )
    .await;
    check(
        "GET /resource-service/v1/project/p/resource/a?x=/resource/b",
        "GET /api/resource-service/v1/project/p/resource/a?x=/resource/b",
    )
    .await;
    app.shut_down().await.unwrap();
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_named_without_its_password() {
    let port = free_port().unwrap();
    let app = app(&format!("http://user:hunter2@localhost:{port}/api"), &[]).await;
    let answer = Client::connect_to(app.address)
        .await
        .ask("GET /controlPlane/v1 HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
    assert_eq!(answer.status(), 502);
    let problem = answer.problem();
    assert!(
        problem.starts_with(&format!("localhost:{port} cannot be reached")) && !problem.contains("hunter2"),
        "{problem}"
    );
}

#[tokio::test]
async fn a_server_that_proves_nothing_does_not_get_the_token() {
    // It speaks no TLS at all: whatever it gets is not readable for it.
    let upstream = Upstream::start(|_| Answer::ok("")).await;
    let app = app(&upstream.url().replace("http:", "https:"), &[TOKEN]).await;
    let mut client = Client::connect_to(app.address).await;
    let answer = client.ask("GET /controlPlane/v1 HTTP/1.1\r\nHost: h\r\n\r\n");
    // The server waits for the end of a line that does not come.
    let closed = upstream.wait_until("somebody asks", |journal| journal.n_connections == 1);
    let (answer, journal) = tokio::join!(answer, closed);
    assert_eq!(answer.status(), 502);
    assert!(journal.requests.is_empty());
}

#[tokio::test]
async fn a_server_that_proves_who_it_is_is_asked_directly_or_through_a_tunnel() {
    let authority = Authority::new().unwrap();
    let certificate = authority.issue_for(&["localhost", "keptn.test"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.certificate).unwrap();

    let upstream = Upstream::start(|_| Answer::ok("taken")).await;
    let front = TlsFront::start(&certificate, upstream.address()).await.unwrap();
    let proxy = TunnelProxy::start(&[("keptn.test:443", front.address())])
        .await
        .unwrap();
    let mut rig = Rig {
        upstream,
        distributor: start_distributor(&[]).await,
    };
    for (endpoint, host) in [
        (
            format!("https://localhost:{}/my/prefix/api", front.port()),
            format!("localhost:{}", front.port()),
        ),
        ("https://keptn.test/my/prefix/api".to_owned(), "keptn.test".to_owned()),
    ] {
        rig.distributor = start_distributor(&[
            ("KEPTN_API_ENDPOINT", endpoint),
            ("KEPTN_API_TOKEN", "t".to_owned()),
            ("HTTPS_PROXY", proxy.url_as("user", "pass")),
            ("SSL_CERT_FILE", ca.display().to_string()),
        ])
        .await;
        let answer = rig.get("/resource-service/v1/project").await;
        assert_eq!(
            (answer.status(), answer.body.as_slice()),
            (200, &b"taken"[..]),
            "{host}"
        );
        let request = rig.upstream.journal().requests.pop().unwrap();
        assert_eq!(request.start, "GET /my/prefix/api/resource-service/v1/project HTTP/1.1");
        assert_eq!(request.header("host"), [host.as_str()]);
        assert_eq!(request.header("x-token"), ["t"]);
        assert!(request.header("proxy-authorization").is_empty());
    }
    let tunnels = proxy.requests();
    assert_eq!(tunnels.len(), 1, "this machine needs no proxy");
    assert_eq!(tunnels[0].target, "keptn.test:443");
    assert_eq!(tunnels[0].authorization.as_deref(), Some("Basic dXNlcjpwYXNz"));
}
