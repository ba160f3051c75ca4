//! Where paths lead.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use test_support::{DistributorProcess, eventually, free_port, http_request};

use super::rig::{Answer, Rig};
use crate::harness::{BINARY, SOON};

#[tokio::test]
async fn path_and_query_arrive_as_they_were_sent() {
    let rig = Rig::start(|_| Answer::ok("")).await;
    let check = async |path: &str, expected: &str| {
        let answer = rig.get(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        let request = rig.upstream.journal().requests.pop().unwrap();
        assert_eq!(request.start, format!("GET http://{expected} HTTP/1.1"));
    };

    check("/controlPlane", "shipyard-controller:8080/").await;
    check("/controlPlane/", "shipyard-controller:8080/").await;
    check(
        "/controlPlane/v1/project?x=1&y=a%20b",
        "shipyard-controller:8080/v1/project?x=1&y=a%20b",
    )
    .await;
    check("/controlPlane//v1/./a/../b", "shipyard-controller:8080//v1/./a/../b").await;
    check("/resource-service", "resource-service:8080/").await;
    check(
        "/mongodb-datastore/event/type/sh.keptn.event.evaluation.finished",
        "mongodb-datastore:8080/event/type/sh.keptn.event.evaluation.finished",
    )
    .await;
    check("/mongodb-datastore/a%2F..%2Fb", "mongodb-datastore:8080/a%2F..%2Fb").await;
    check(
        "/mongodb-datastore/event?project=a&x",
        "mongodb-datastore:8080/event?project=a&x",
    )
    .await;
    check(
        "/mongodb-datastore/event?&&q=%zz+%2b'(a|b)?/../#f",
        "mongodb-datastore:8080/event?&&q=%zz+%2b'(a|b)?/../",
    )
    .await;
    check(
        "/resource-service/v1/project/p/resource/helm%2fmy%20chart.tgz",
        "resource-service:8080/v1/project/p/resource/helm%2fmy%20chart.tgz",
    )
    .await;
}

#[tokio::test]
async fn a_path_of_no_service_is_not_found() {
    let rig = Rig::start(|_| Answer::ok("")).await;
    for path in [
        "/",
        "/controlPlaneXYZ/v1/a",
        "/secrets/v1",
        "/health/",
        "/event/",
        "/api/controlPlane/v1",
    ] {
        let answer = rig.get(path).await;
        assert_eq!(answer.status(), 404);
        assert!(answer.problem().contains(path), "{}", answer.problem());
    }
    let health = rig.get("/health").await;
    assert_eq!((health.status(), health.body.len()), (200, 0));
    assert!(health.header("content-type").is_empty());
    assert!(rig.upstream.journal().requests.is_empty());
}

#[tokio::test]
async fn the_prefix_of_the_proxy_is_taken_off() {
    let rig = Rig::start_with(&[("API_PROXY_PATH", "/keptn/")], |_| Answer::ok("")).await;
    assert_eq!(rig.get("/keptn/controlPlane/v1").await.status(), 200);
    let request = rig.upstream.journal().requests.remove(0);
    assert_eq!(request.start, "GET http://shipyard-controller:8080/v1 HTTP/1.1");
    assert_eq!(rig.get("/controlPlane/v1").await.status(), 404);
}

#[tokio::test]
async fn the_listener_can_have_another_address() {
    let port = free_port().unwrap();
    let variables = [
        ("PROXY_BIND", "127.0.0.2"),
        ("API_PROXY_PORT", &port.to_string()),
        ("PUBSUB_URL", "nats://127.0.0.1:1"),
    ];
    let _distributor = DistributorProcess::start(Path::new(BINARY), &variables).unwrap();
    let address = |host: [u8; 4]| SocketAddr::from((Ipv4Addr::from(host), port));
    let answers = async |address: SocketAddr| {
        let health = http_request(address, "GET", "/health", &[], "").await;
        health.is_ok_and(|health| health.status == 200)
    };
    eventually(SOON, async || answers(address([127, 0, 0, 2])).await)
        .await
        .unwrap();
    assert!(!answers(address([127, 0, 0, 1])).await);
}
