//! What an operator can do with dead letters where there is no NATS.

use test_support::{Reply, eventually};

use super::{Remote, events};
use crate::harness::{SOON, event_id, run_to_end};

#[tokio::test]
async fn where_they_are_only_logged_the_commands_say_how_to_keep_them() {
    let endpoint = ("KEPTN_API_ENDPOINT", "http://127.0.0.1:1/api");
    for arguments in [
        &["list"][..],
        &["show", "1"],
        &["redrive", "--all"],
        &["purge", "--all", "--yes"],
    ] {
        let arguments = [&["dead-letter"], arguments].concat();
        let (exit_code, stdout, stderr) = run_to_end(&arguments, &[endpoint]).await;
        assert_eq!((exit_code, stdout.as_str()), (1, ""), "{arguments:?}");
        assert!(stderr.contains("DEAD_LETTER") && stderr.contains("file:"), "{stderr}");
    }
    let (exit_code, _, stderr) = run_to_end(&["dead-letter", "list"], &[endpoint, ("DEAD_LETTER", "nats")]).await;
    assert_eq!(exit_code, 64);
    assert!(stderr.contains("needs NATS"), "{stderr}");
}

#[tokio::test]
async fn kept_in_files_they_are_listed_and_delivered_once_more() {
    let remote = Remote::start().await;
    let folder = tempfile::tempdir().unwrap();
    let place = format!("file:{}", folder.path().display());
    remote
        .recipient
        .respond_with(|request, _| Reply::status(if event_id(request) == "a-1" { 422 } else { 200 }));
    remote.open(events("a", 3));
    let process = remote.process(&[("DEAD_LETTER", &place)]).await;
    let kept = process.wait_for_log("the event is in the dead letters", SOON).await;
    kept.unwrap();
    remote.delivered(3).await;

    let own = remote.variables();
    let own = own.iter().map(|(name, value)| (*name, value.as_str()));
    let variables: Vec<_> = own.chain([("DEAD_LETTER", place.as_str())]).collect();
    let (exit_code, stdout, _) = run_to_end(&["dead-letter", "list", "--json"], &variables).await;
    assert_eq!((exit_code, stdout.lines().count()), (0, 1), "{stdout}");
    assert!(stdout.contains("\"a-1\"") && stdout.contains("422"), "{stdout}");

    remote.recipient.respond_with(|_, _| Reply::status(200));
    let (exit_code, _, stderr) = run_to_end(&["dead-letter", "redrive", "--all"], &variables).await;
    assert_eq!(exit_code, 0, "{stderr}");
    let delivered = remote.delivered(4).await;
    assert_eq!(event_id(&delivered[3]), "a-1");
    let is_empty = async || {
        run_to_end(&["dead-letter", "list", "--json"], &variables)
            .await
            .1
            .is_empty()
    };
    eventually(SOON, is_empty).await.unwrap();
    // It is still open at the control plane, and counts as delivered.
    remote.polled(2).await;
    assert_eq!(remote.recipient.n_received(), 4);
}
