//! Plugins that misbehave: the event they fail on is given up, everything else goes on, and the log says why.

use crate::harness::*;

/// Sends an event that the plugin misbehaves on and then one that it leaves alone, and looks at the log.
async fn check_contained(behaviour: &str, config: &str, hook: &str, causes: &[&str]) {
    let peers = Peers::start().await;
    // Long where time is not what stops it: the machine may be slow.
    let timeout = if matches!(behaviour, "loop" | "sleep") {
        "200ms"
    } else {
        "5s"
    };
    let folder = PluginFolder::behaving_with(behaviour, &format!("timeout = \"{timeout}\""), config);
    let mut process = peers.process(&[ALL_TOPICS, folder.variable()]).await;

    peers.publish_all([event("bad-1"), event("good-1")]).await;
    assert_eq!(peers.delivered_ids(1).await, ["good-1"]);
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);

    let errors = lines_with(&process, "ERROR");
    assert_eq!(errors.len(), 1, "{errors:#?}");
    for word in [
        "dead letter; ",
        "reason=\"plugin\"",
        "plugin=\"suspect\"",
        hook,
        "bad-1",
        TASK_TRIGGERED,
    ] {
        assert!(errors[0].contains(word), "{word} is missing: {}", errors[0]);
    }
    assert!(causes.iter().any(|cause| errors[0].contains(cause)), "{}", errors[0]);
    assert!(
        peers
            .recipient
            .journal()
            .iter()
            .all(|request| event_id(request) != "bad-1")
    );
    for counter in ["plugin_failures=1", "undelivered=1", "delivered=1", "retried=0"] {
        assert_eq!(lines_with(&process, &format!(" {counter}")).len(), 1, "{counter}");
    }
}

#[tokio::test]
async fn a_filter_that_loops_is_stopped() {
    check_contained("loop", "", "(filter)", &["used up its 200ms"]).await;
}

#[tokio::test]
async fn a_filter_that_sleeps_is_stopped() {
    check_contained("sleep", "", "(filter)", &["used up its 200ms"]).await;
}

#[tokio::test]
async fn a_filter_that_hoards_memory_is_stopped() {
    check_contained("hog", "", "(filter)", &["bytes of memory, its limit is 16777216"]).await;
}

#[tokio::test]
async fn a_filter_that_panics_is_explained_by_what_it_printed() {
    check_contained("trap", "", "(filter)", &["panicked or aborted; it printed: "]).await;
}

#[tokio::test]
async fn a_filter_that_recurses_is_stopped() {
    check_contained("recurse", "", "(filter)", &["recursion"]).await;
}

#[tokio::test]
async fn a_filter_that_exits_ends_itself_alone() {
    check_contained("exit", "", "(filter)", &["ended itself with exit code"]).await;
}

#[tokio::test]
async fn a_filter_that_never_stops_logging_is_stopped() {
    check_contained(
        "chatty",
        "",
        "(filter)",
        &["called host functions more than 10000 times"],
    )
    .await;
}

#[tokio::test]
async fn a_reason_of_megabytes_is_refused() {
    check_contained(
        "huge-reason",
        "",
        "(filter)",
        &["handed more than 2097152 bytes", "of memory"],
    )
    .await;
}

#[tokio::test]
async fn a_filter_may_say_that_it_failed() {
    check_contained("transient", "", "(filter)", &["failed for now: told to fail for now"]).await;
    check_contained("permanent", "", "(filter)", &["failed: told to fail for good"]).await;
}

#[tokio::test]
async fn too_many_events_are_refused() {
    check_contained(
        "many-events",
        "count = 65",
        "(transform)",
        &["returned 65 events, its limit is 64"],
    )
    .await;
    check_contained("many-events", "", "(transform)", &["of memory", "bytes to the host"]).await;
}

#[tokio::test]
async fn an_event_of_megabytes_is_refused() {
    check_contained("huge-event", "", "(transform)", &["of memory", "bytes to the host"]).await;
}

#[tokio::test]
async fn data_that_is_not_json_is_refused() {
    check_contained("bad-json", "", "(transform)", &["`data` is not well-formed JSON"]).await;
}

#[tokio::test]
async fn an_event_without_an_id_is_refused() {
    check_contained("bad-event", "", "(transform)", &["returned an event that is none"]).await;
}

#[tokio::test]
async fn publishing_needs_a_grant() {
    check_contained("publish", "", "(transform)", &["needs the `publish` grant"]).await;
}

#[tokio::test]
async fn a_plugin_that_fails_again_and_again_is_started_again_and_again() {
    const N_EVENTS: usize = 50;
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving("trap");
    let app = peers.app(&[ALL_TOPICS, folder.variable()]).await;

    for number in 0..N_EVENTS {
        peers
            .publish_all([event("bad"), event(&format!("good-{number}"))])
            .await;
    }

    assert_same(&peers.delivered_ids(N_EVENTS).await, &numbered_ids("good", N_EVENTS));
    app.shut_down().await.unwrap();
}
