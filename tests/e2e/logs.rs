//! What the process writes about events: fields, formats, and how much of it.

use serde_json::Value;
use test_support::{DistributorProcess, Stream};

use crate::harness::{ALL_TOPICS, Peers, PluginFolder, SOON, event, events, exit_code, left_out, lines_with};

/// The lines of a process that logs in JSON.
fn objects(process: &DistributorProcess) -> Vec<Value> {
    let text = process.output().text(Stream::Stderr);
    let objects = text.lines().map(|line| {
        let parsed = serde_json::from_str(line);
        parsed.unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    objects.collect()
}

#[tokio::test]
async fn json_lines_have_the_fields_of_what_happened_with_their_types() {
    let peers = Peers::start().await;
    let mut process = peers.process(&[ALL_TOPICS, ("LOG_FORMAT", "json")]).await;
    peers.publish(&event("quoted \"id\"")).await;
    peers.delivered(1).await;
    process.wait_for_log("\"message\":\"delivered\"", SOON).await.unwrap();
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);

    let objects = objects(&process);
    let is_delivered = |object: &&Value| object["message"] == "delivered";
    let [line] = objects.iter().filter(is_delivered).collect::<Vec<_>>()[..] else {
        panic!("one line for one outcome: {objects:?}")
    };
    let time = line["timestamp"].as_str().unwrap();
    assert!(time.ends_with('Z') && time.contains('T'), "{time}");
    assert_eq!(
        (&line["level"], &line["target"], &line["event_id"], &line["event_type"]),
        (
            &"info".into(),
            &"distributor::delivery::attempt".into(),
            &"quoted \"id\"".into(),
            &"sh.keptn.event.task.triggered".into()
        )
    );
    assert_eq!((&line["status"], &line["attempt"]), (&200.into(), &1.into()));
    assert!(line["elapsed_ms"].is_u64() && line["generation"].is_u64(), "{line}");
}

#[tokio::test]
async fn a_plugin_that_fails_on_each_event_does_not_flood_the_log() {
    const N_EVENTS: usize = 3000;
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving("trap");
    let mut process = peers
        .process(&[ALL_TOPICS, folder.variable(), ("DEAD_LETTER", "log")])
        .await;

    let started = tokio::time::Instant::now();
    peers.publish_all(events("bad", N_EVENTS)).await;
    peers.everything_is_sent().await;
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap() + 2;

    let summaries = lines_with(&process, "like=\"dead letter; the event is kept nowhere\"");
    let n_lines = lines_with(&process, "dead letter; the event is kept nowhere").len() - summaries.len();
    let n_left_out = left_out(&summaries);
    assert!(n_lines <= 100 * seconds, "{n_lines} lines in {seconds} s");
    assert_eq!(n_lines as u64 + n_left_out, N_EVENTS as u64, "none is forgotten");
    let undelivered = format!("undelivered={N_EVENTS}");
    assert_eq!(lines_with(&process, &undelivered).len(), 1, "and all are counted");
}
