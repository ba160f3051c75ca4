//! Probes of the real binary, through its life.

use std::time::Duration;

use test_support::{NatsServer, Reply, free_port, http_request};
use tokio::net::TcpListener;

use super::rig::*;
use crate::harness::*;

#[tokio::test]
async fn a_distributor_that_has_received_stays_ready_while_nats_is_away() {
    let mut peers = Peers::start().await;
    let variables = [ALL_TOPICS, LISTENERS[0]];
    let process = peers.process(&variables).await;
    let admin = admin_of(&process).await;

    for probe in ["/livez", "/startupz", "/readyz"] {
        wait_for_probe(admin, probe, 200, "ok\n").await;
        assert_eq!(text(&get(admin, probe).await), "ok\n");
    }
    let checks = wait_for_probe(admin, "/readyz", 200, "[+] nats: connected").await;
    assert!(checks.contains("[+] receiving: 1 topics"), "{checks}");

    peers.nats.stop().await.unwrap();
    let checks = wait_for_probe(admin, "/readyz", 200, "[~] nats: not connected").await;
    assert!(checks.contains("[~] receiving: interrupted"), "{checks}");
    assert_eq!(get(admin, "/livez").await.status, 200);

    peers.nats.restart().await.unwrap();
    let checks = wait_for_probe(admin, "/readyz", 200, "[+] nats: connected; 1 connections were lost").await;
    assert!(checks.contains("[+] receiving"), "{checks}");
}

#[tokio::test]
async fn a_distributor_that_never_had_nats_lives_and_is_not_ready() {
    let url = format!("nats://127.0.0.1:{}", free_port().unwrap());
    let variables = [("PUBSUB_URL", url.as_str()), ALL_TOPICS, LISTENERS[0]];
    let process = start_process(&variables);
    let admin = admin_of(&process).await;

    wait_for_probe(admin, "/startupz", 200, "plugins of generation 1 are loaded").await;
    let checks = wait_for_probe(admin, "/readyz", 503, "failing: receiving").await;
    assert!(
        checks.contains("[-] receiving: there has been no connection to NATS yet"),
        "{checks}"
    );
    assert_eq!(get(admin, "/livez").await.status, 200);

    let port = url.rsplit(':').next().unwrap().parse().unwrap();
    let _nats = NatsServer::builder().port(port).start().await.unwrap();
    wait_for_probe(admin, "/readyz", 200, "[+] receiving").await;
}

#[tokio::test]
async fn a_distributor_that_shuts_down_lives_and_is_not_ready() {
    let peers = Peers::start().await;
    peers
        .recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_millis(1500)));
    let mut process = peers.process(&[ALL_TOPICS, LISTENERS[0]]).await;
    let admin = admin_of(&process).await;
    wait_for_probe(admin, "/readyz", 200, "ok\n").await;
    peers.publish(&event("e1")).await;
    peers.delivered(1).await;

    process.terminate().unwrap();
    let checks = wait_for_probe(admin, "/readyz", 503, "failing: shutdown").await;
    assert!(
        checks.contains("[-] shutdown: shutting down; 1 events are pending"),
        "{checks}"
    );
    assert_eq!(get(admin, "/livez").await.status, 200);
    assert_eq!(exit_code(&mut process).await, 0);
}

#[tokio::test]
async fn a_service_that_takes_nothing_is_told_and_costs_no_readiness() {
    let peers = Peers::start().await;
    let port = free_port().unwrap().to_string();
    let variables = [ALL_TOPICS, LISTENERS[0], ("PUBSUB_RECIPIENT_PORT", port.as_str())];
    let process = peers.process(&variables).await;
    let admin = admin_of(&process).await;
    wait_for_probe(admin, "/readyz", 200, "[+] recipient: the service has got no event yet").await;
    peers.publish(&event("e1")).await;
    wait_for_probe(
        admin,
        "/readyz",
        200,
        "[~] recipient: the service takes no events; 1 wait",
    )
    .await;
}

#[tokio::test]
async fn there_is_nothing_else_and_nothing_to_change() {
    let peers = Peers::start().await;
    let process = peers.process(&[LISTENERS[0]]).await;
    let admin = admin_of(&process).await;
    for path in ["/", "/status", "/plugins", "/livez/", "/metrics/x"] {
        assert_eq!(get(admin, path).await.status, 404, "{path}");
    }
    for path in ["/livez", "/readyz", "/startupz", "/metrics"] {
        for method in ["POST", "PUT", "DELETE"] {
            let response = http_request(admin, method, path, &[], "").await.unwrap();
            assert_eq!(response.status, 405, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_default_port_that_is_taken_is_a_warning_and_a_chosen_one_an_error() {
    let peers = Peers::start().await;
    // Where another test has it already, it is taken as well.
    let _default = TcpListener::bind("127.0.0.1:8091").await;
    let process = peers.process(&[ALL_TOPICS, ("ADMIN_BIND", "0.0.0.0:8091")]).await;
    let warning = process.wait_for_log("there is no admin listener", SOON).await.unwrap();
    assert!(warning.contains("WARN") && warning.contains("ADMIN_BIND"), "{warning}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let chosen = listener.local_addr().unwrap().to_string();
    let mut process = peers.starting_process(&[ALL_TOPICS, ("ADMIN_BIND", &chosen)]);
    assert_eq!(exit_code(&mut process).await, 1);
    assert_eq!(lines_with(&process, "(ADMIN_BIND)").len(), 1);
}
