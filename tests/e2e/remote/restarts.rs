//! What a restart knows.

use super::{Remote, events};
use crate::harness::{SOON, exit_code, lines_with};

#[tokio::test]
async fn without_a_state_file_a_restart_delivers_events_again() {
    let remote = Remote::start().await;
    remote.open(events("a", 3));
    for n_delivered in [3, 6] {
        let mut process = remote.process(&[]).await;
        remote.delivered(n_delivered).await;
        process.terminate().unwrap();
        assert_eq!(exit_code(&mut process).await, 0);
    }
}

#[tokio::test]
async fn with_a_state_file_it_delivers_what_is_new() {
    let remote = Remote::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settled.json");
    let variables = [("DEDUPE_STATE_FILE", path.to_str().unwrap())];
    remote.open(events("a", 3));
    let mut process = remote.process(&variables).await;
    remote.delivered(3).await;
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);

    remote.open(events("b", 1));
    let mut process = remote.process(&variables).await;
    remote.delivered(4).await;
    remote.polled(2).await;
    assert_eq!(remote.recipient.n_received(), 4);

    // The file is also there when nobody was asked to end: some seconds later at most.
    let is_written = async || std::fs::read_to_string(&path).is_ok_and(|text| text.matches(":[").count() == 4);
    test_support::eventually(SOON, is_written).await.unwrap();
    process.kill().await.unwrap();
    let _process = remote.process(&variables).await;
    remote.polled(2).await;
    assert_eq!(remote.recipient.n_received(), 4);
}

#[tokio::test]
async fn a_state_file_that_cannot_be_used_costs_a_warning() {
    let remote = Remote::start().await;
    let folder = tempfile::tempdir().unwrap();
    let corrupt = folder.path().join("corrupt.json");
    std::fs::write(&corrupt, "not ours").unwrap();
    let missing = folder.path().join("missing/settled.json");
    for (n, path) in [(1, &corrupt), (2, &missing)] {
        remote.open(events(&format!("a{n}"), 1));
        let process = remote
            .process(&[("DEDUPE_STATE_FILE", path.to_str().unwrap()), ("PUBSUB_GROUP", "")])
            .await;
        let line = process.wait_for_log("DEDUPE_STATE_FILE", SOON).await.unwrap();
        assert!(line.contains(path.to_str().unwrap()), "{line}");
        remote.delivered(n * (n + 1) / 2).await;
        remote.polled(3).await;
        assert_eq!(lines_with(&process, "DEDUPE_STATE_FILE").len(), 1);
        assert_eq!(remote.recipient.n_received(), n * (n + 1) / 2);
    }
    assert_eq!(std::fs::read_to_string(&corrupt).unwrap(), "not ours");
}
