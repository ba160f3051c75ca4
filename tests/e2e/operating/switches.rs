//! Pause, drain and the log level, on the control listener of the real binary; and the exec probe.

use std::net::SocketAddr;
use std::time::Duration;

use test_support::{HttpResponse, Reply, eventually, http_request};

use super::rig::*;
use crate::harness::*;
use crate::registration;

async fn switch(control: SocketAddr, path: &str, body: &str) -> HttpResponse {
    let headers = [("distributor-control", "1")];
    let response = http_request(control, "POST", path, &headers, body.to_owned()).await;
    response.unwrap_or_else(|error| panic!("POST {path}: {error:#}"))
}

#[tokio::test]
async fn while_paused_the_stream_keeps_events_and_none_is_lost() {
    let rig = registration::Rig::start().await;
    let (process, _) = rig.registered(&LISTENERS).await;
    let (admin, control) = (admin_of(&process).await, process.control_address(SOON).await.unwrap());
    rig.publish(&event_in("a", "before")).await;
    rig.recipient.wait_for(1, SOON).await.unwrap();

    let paused = switch(control, "/pause", "").await;
    assert_eq!(
        (paused.status, json(&paused.body)["paused"].as_bool()),
        (200, Some(true))
    );
    let checks = wait_for_probe(admin, "/readyz", 200, "[~] receiving: paused by an operator").await;
    assert!(checks.ends_with("ok\n"), "{checks}");
    assert_eq!(scrape(admin).await.sum("distributor_paused"), 1);
    // The reader has given up what it had asked for.
    process
        .wait_for_log("paused: the stream keeps what comes", SOON)
        .await
        .unwrap();
    for number in 0..50 {
        rig.publish(&event_in(&format!("c{number}"), &format!("e-{number}")))
            .await;
    }
    let waiting = eventually(SOON, async || {
        scrape(admin).await.sum("distributor_jetstream_pending") == 50
    });
    waiting.await.unwrap();
    assert_eq!(rig.recipient.n_received(), 1);

    assert_eq!(switch(control, "/resume", "").await.status, 200);
    let journal = rig.recipient.wait_for(51, SOON).await.unwrap();
    let mut ids: Vec<_> = journal.iter().skip(1).map(event_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 50, "{ids:?}");
    rig.settled().await;
    let resumed = eventually(SOON, async || scrape(admin).await.sum("distributor_paused") == 0);
    resumed.await.unwrap();
}

#[tokio::test]
async fn while_paused_events_of_core_nats_are_kept_in_memory_and_the_end_delivers_them() {
    let peers = Peers::start().await;
    let variables = [ALL_TOPICS, LISTENERS[0], LISTENERS[1]];
    let mut process = peers.process(&variables).await;
    let (admin, control) = (admin_of(&process).await, process.control_address(SOON).await.unwrap());

    assert_eq!(switch(control, "/pause", "").await.status, 200);
    peers.publish_all(events("kept", 20)).await;
    let held = eventually(SOON, async || scrape(admin).await.sum("distributor_events_held") == 20);
    held.await.unwrap();
    assert_eq!(peers.recipient.n_received(), 0);

    assert_eq!(switch(control, "/resume", "").await.status, 200);
    assert_same(&peers.delivered_ids(20).await, &numbered_ids("kept", 20));

    assert_eq!(switch(control, "/pause", "").await.status, 200);
    peers.publish_all(events("last", 5)).await;
    let held = eventually(SOON, async || scrape(admin).await.sum("distributor_events_held") == 5);
    held.await.unwrap();
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    assert_eq!(peers.delivered_ids(25).await.len(), 25);
}

#[tokio::test]
async fn drain_does_what_sigterm_does() {
    let peers = Peers::start().await;
    peers
        .recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_millis(500)));
    let mut process = peers.process(&[ALL_TOPICS, LISTENERS[0], LISTENERS[1]]).await;
    let control = process.control_address(SOON).await.unwrap();
    peers.publish(&event("e1")).await;
    peers.delivered(1).await;

    let drained = switch(control, "/drain", "").await;
    assert_eq!(
        (drained.status, json(&drained.body)["pending"].as_u64()),
        (202, Some(1))
    );
    assert_eq!(exit_code(&mut process).await, 0);
    assert_eq!(lines_with(&process, "delivered=1").len(), 1);
}

#[tokio::test]
async fn the_log_level_changes_while_it_runs() {
    let peers = Peers::start().await;
    let process = peers.process(&[ALL_TOPICS, LISTENERS[1]]).await;
    let control = process.control_address(SOON).await.unwrap();

    let level = async || {
        let answer = get(control, "/log-level").await;
        json(&answer.body)["log_level"].as_str().unwrap().to_owned()
    };
    assert_eq!(level().await, "info");
    assert_eq!(switch(control, "/log-level", "debug").await.status, 200);
    assert_eq!(level().await, "debug");
    process.wait_for_log("the log level was changed", SOON).await.unwrap();
    peers.publish(&event("loud")).await;
    process.wait_for_log("DEBUG", SOON).await.unwrap();

    assert_eq!(switch(control, "/log-level", "error\n").await.status, 200);
    peers.publish(&event("silent")).await;
    peers.delivered(2).await;
    assert!(lines_with(&process, "event_id=\"silent\"").is_empty());

    for wrong in ["", "loud", "distributor=", "info,x"] {
        let (status, detail) = problem(&switch(control, "/log-level", wrong).await);
        assert_eq!(status, 400, "{wrong}");
        assert!(detail.contains("neither a level"), "{detail}");
    }
    assert_eq!(level().await, "error");
    let refused = http_request(control, "POST", "/log-level", &[], "debug").await.unwrap();
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn the_exec_probe_ends_with_0_1_or_64() {
    let peers = Peers::start().await;
    let process = peers.process(&[ALL_TOPICS, LISTENERS[0]]).await;
    let admin = admin_of(&process).await.to_string();
    wait_for_probe(admin.parse().unwrap(), "/readyz", 200, "ok\n").await;
    let probe = async |arguments: &[&str], bind: &str| {
        let arguments = [&["healthcheck"], arguments].concat();
        run_to_end(&arguments, &[("ADMIN_BIND", bind)]).await
    };
    for (argument, line) in [
        ("--live", "process"),
        ("--ready", "receiving"),
        ("--startup", "startup"),
    ] {
        let (exit_code, stdout, stderr) = probe(&[argument], &admin).await;
        assert_eq!((exit_code, stderr.as_str()), (0, ""), "{stdout}");
        assert!(stdout.contains(&format!("[+] {line}")), "{stdout}");
    }
    assert_eq!(probe(&[], &admin).await.0, 0);
    // Another listener than the one of probes.
    let (exit_code, _, stderr) = probe(&[], &process.proxy_address().to_string()).await;
    assert_eq!(exit_code, 1);
    assert!(stderr.contains("no probe"), "{stderr}");

    let url = format!("nats://127.0.0.1:{}", test_support::free_port().unwrap());
    let waiting = start_process(&[("PUBSUB_URL", url.as_str()), ALL_TOPICS, LISTENERS[0]]);
    let waiting = admin_of(&waiting).await.to_string();
    wait_for_probe(waiting.parse().unwrap(), "/startupz", 200, "ok\n").await;
    let (exit_code, stdout, _) = probe(&["--ready"], &waiting).await;
    assert_eq!(exit_code, 1);
    assert!(
        stdout.contains("[-] receiving") && stdout.contains("failing: receiving"),
        "{stdout}"
    );

    let nobody = format!("127.0.0.1:{}", test_support::free_port().unwrap());
    let (exit_code, _, stderr) = probe(&["--live", "--timeout", "200ms"], &nobody).await;
    assert_eq!(exit_code, 1);
    assert!(stderr.contains("no distributor answers"), "{stderr}");
    for (bind, arguments) in [
        ("off", vec![]),
        ("nonsense", vec![]),
        ("127.0.0.1:0", vec![]),
        (&admin, vec!["--live", "--ready"]),
    ] {
        assert_eq!(probe(&arguments, bind).await.0, 64, "{bind} {arguments:?}");
    }
}
