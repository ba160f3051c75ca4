//! Instances are replaced before what they leak stops them, and their memory goes back.

use test_support::{Stream, eventually};

use crate::harness::*;

/// Leaky events between two that are delivered.
const ROUND: usize = 500;

fn n_rounds() -> usize {
    #[expect(
        clippy::disallowed_methods,
        reason = "how long tests run is the test command's business, not configuration"
    )]
    let is_soak = std::env::var_os("SOAK").is_some();
    if is_soak { 2000 } else { 40 }
}

/// The guest loses 1 KiB with each event. In the short form that is ten times what its memory has room for, in the long
/// one a gigabyte.
#[tokio::test]
async fn a_plugin_that_leaks_never_comes_to_its_limit() {
    let peers = Peers::start().await;
    let entry = "memory = \"2MiB\"\ngrants = [\"state\"]";
    let folder = PluginFolder::behaving_with("leak", entry, "");
    let mut process = peers.process(&[ALL_TOPICS, folder.variable()]).await;

    let mut memory_at_first = 0;
    for round in 0..n_rounds() {
        // The plugin drops what it leaks on, so that only the last of a round is delivered.
        peers
            .publish_all(events(&format!("bad-{round}"), ROUND).chain([event(&format!("good-{round}"))]))
            .await;
        let is_through = async || peers.recipient.journal().len() > round;
        eventually(SOON, is_through).await.unwrap();
        if round == n_rounds() / 10 {
            memory_at_first = process.resident_memory().unwrap().now;
        }
    }
    let memory = process.resident_memory().unwrap().now;
    println!(
        "{} leaky events: {memory_at_first} bytes of memory after a tenth of them, {memory} at the end",
        n_rounds() * ROUND
    );
    assert!(
        memory < memory_at_first + (8 << 20),
        "{memory_at_first} bytes at first, {memory} at the end"
    );

    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    let log = process.output().text(Stream::Stderr);
    let n_events = n_rounds() * ROUND;
    for counter in ["plugin_failures=0", "undelivered=0", &format!("dropped={n_events}")] {
        assert!(log.contains(&format!(" {counter}")), "{counter} is missing: {log}");
    }
    // Each instance was configured, or it would not have leaked, and all of them had one state and one set of metrics.
    for metric in ["events", "events_total"] {
        let line = format!("metric=\"{metric}\" value={n_events}\n");
        assert!(log.contains(&line), "{line} is missing: {log}");
    }
}
