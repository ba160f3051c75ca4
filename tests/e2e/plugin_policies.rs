//! What becomes of an event that a plugin fails on: as `on_failure` says, in the order of its key, and told once.

use test_support::DistributorProcess;

use crate::harness::*;

/// Every way to fail that a policy may have to tell apart. What is permanent is not tried again.
const FAILURES: [&str; 4] = ["transient", "permanent", "trap", "loop"];
const QUICK_RETRIES: [(&str, &str); 2] = [("DELIVERY_RETRY", "2"), ("DELIVERY_BACKOFF_DELAY", "10ms")];

fn folder(behaviour: &str, policy: &str) -> PluginFolder {
    let entry = format!("on_failure = \"{policy}\"\ntimeout = \"100ms\"\non = [\"incoming\", \"outgoing\"]");
    PluginFolder::behaving_with(behaviour, &entry, "")
}

/// Sends an event that the plugin fails on and another one of its key; returns what the service got, and the process
/// after its end.
async fn after_failure(behaviour: &str, policy: &str, n_delivered: usize) -> (Vec<String>, DistributorProcess) {
    let peers = Peers::start().await;
    let folder = folder(behaviour, policy);
    let [retry, pause] = QUICK_RETRIES;
    let mut process = peers.process(&[ALL_TOPICS, folder.variable(), retry, pause]).await;
    peers.publish_all([event("bad-1"), event("good-1")]).await;
    let delivered = peers.delivered_ids(n_delivered).await;
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    assert_eq!(peers.recipient.n_received(), n_delivered, "{behaviour}, {policy}");
    (delivered, process)
}

/// The event is given up after so many attempts, and the next one of its key is delivered after that.
async fn check_given_up(behaviour: &str, policy: &str, n_attempts: usize) {
    let (delivered, process) = after_failure(behaviour, policy, 1).await;
    assert_eq!(delivered, ["good-1"]);
    let errors = lines_with(&process, "ERROR");
    assert_eq!(errors.len(), 1, "{errors:#?}");
    for word in [
        "dead letter; ",
        "bad-1",
        "reason=\"plugin\"",
        "plugin=\"suspect\"",
        &format!("attempt={n_attempts}"),
    ] {
        assert!(errors[0].contains(word), "{behaviour}, {policy}: {word}: {}", errors[0]);
    }
    let n_retries = n_attempts - 1;
    for counter in [
        format!("plugin_failures={n_attempts}"),
        format!("retried={n_retries}"),
        "undelivered=1".to_owned(),
    ] {
        let found = lines_with(&process, &format!(" {counter} ")).len();
        assert_eq!(found, 1, "{behaviour}, {policy}: {counter}");
    }
    assert_eq!(lines_with(&process, "a plugin failed; trying again").len(), n_retries);
}

#[tokio::test]
async fn by_default_what_may_help_is_tried_again() {
    for behaviour in FAILURES {
        let n_attempts = if behaviour == "permanent" { 1 } else { 3 };
        check_given_up(behaviour, "retry-then-dead-letter", n_attempts).await;
    }
}

#[tokio::test]
async fn dead_letter_means_at_once() {
    for behaviour in FAILURES {
        check_given_up(behaviour, "dead-letter", 1).await;
    }
}

#[tokio::test]
async fn pass_means_as_if_the_plugin_were_not_there() {
    for behaviour in FAILURES {
        let (delivered, process) = after_failure(behaviour, "pass", 2).await;
        assert_eq!(delivered, ["bad-1", "good-1"], "{behaviour}");
        let lines = lines_with(&process, "WARN the event goes on without the plugin that failed");
        assert_eq!(lines.len(), 1, "{behaviour}: {lines:#?}");
        assert_eq!(
            lines_with(&process, "failures=1 passed_over=1 dropped_on_failure=0").len(),
            1
        );
    }
}

#[tokio::test]
async fn drop_means_that_the_event_ends_there() {
    for behaviour in FAILURES {
        let (delivered, process) = after_failure(behaviour, "drop", 1).await;
        assert_eq!(delivered, ["good-1"], "{behaviour}");
        let lines = lines_with(&process, "WARN the event is dropped because a plugin failed");
        assert_eq!(lines.len(), 1, "{behaviour}: {lines:#?}");
        assert_eq!(
            lines_with(&process, "failures=1 passed_over=0 dropped_on_failure=1").len(),
            1
        );
        assert_eq!(lines_with(&process, " dropped=1 ").len(), 1);
    }
}

#[tokio::test]
async fn many_failures_are_told_in_few_lines() {
    const N_EVENTS: usize = 200;
    let peers = Peers::start().await;
    let folder = folder("permanent", "pass");
    let mut process = peers.process(&[ALL_TOPICS, folder.variable()]).await;
    peers.publish_all(events("bad", N_EVENTS)).await;
    assert_same(&peers.delivered_ids(N_EVENTS).await, &numbered_ids("bad", N_EVENTS));
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    let n_lines = lines_with(&process, "WARN the event goes on").len();
    assert!((1..10).contains(&n_lines), "{n_lines}");
    assert_eq!(lines_with(&process, "passed_over=200").len(), 1);
}

/// A service is told what it can do about its own event: try again (503), or not (422).
#[tokio::test]
async fn an_event_of_the_service_is_refused_passed_or_dropped_as_the_policy_says() {
    for (policy, behaviour, status, is_published) in [
        ("retry-then-dead-letter", "transient", 503, false),
        ("retry-then-dead-letter", "loop", 503, false),
        ("retry-then-dead-letter", "permanent", 422, false),
        ("dead-letter", "trap", 422, false),
        ("pass", "trap", 200, true),
        ("drop", "trap", 200, false),
    ] {
        let peers = Peers::start().await;
        let folder = folder(behaviour, policy);
        let process = peers.process(&[folder.variable()]).await;
        let mut control_plane = peers.listen(TASK_TRIGGERED).await;
        let answer = post(process.proxy_address(), event("bad").to_bytes()).await;
        assert_eq!(answer.status, status, "{policy}, {behaviour}");
        assert_eq!(
            post(process.proxy_address(), event("good").to_bytes()).await.status,
            200
        );
        let expected: &[&str] = if is_published { &["bad", "good"] } else { &["good"] };
        assert_eq!(
            control_plane.next_ids(expected.len()).await,
            expected,
            "{policy}, {behaviour}"
        );
    }
}

#[tokio::test]
async fn a_plugin_that_works_after_a_while_gets_its_events_in_order() {
    let peers = Peers::start().await;
    let entry = "on_failure = \"retry-then-dead-letter\"";
    let folder = PluginFolder::behaving_with("transient-at-first", entry, "count = 4");
    let variables = [ALL_TOPICS, folder.variable(), ("DELIVERY_BACKOFF_DELAY", "10ms")];
    let process = peers.process(&variables).await;
    peers
        .publish_all([event("good-1"), event("bad-1"), event("good-2"), event("bad-2")])
        .await;
    assert_eq!(peers.delivered_ids(4).await, ["good-1", "bad-1", "good-2", "bad-2"]);
    let journal = peers.recipient.journal();
    // The service has seen none of the failures.
    assert!(
        journal
            .iter()
            .all(|request| request.header("distributor-attempt") == Some("1"))
    );
    assert_eq!(lines_with(&process, "a plugin failed; trying again").len(), 4);
}

#[tokio::test]
async fn an_instance_for_each_event_remembers_nothing() {
    let peers = Peers::start().await;
    let entry = "on_failure = \"retry-then-dead-letter\"\nisolation = \"per-event\"";
    let folder = PluginFolder::behaving_with("transient-at-first", entry, "count = 1");
    let [retry, pause] = QUICK_RETRIES;
    let process = peers.process(&[ALL_TOPICS, folder.variable(), retry, pause]).await;
    peers.publish_all([event("bad-1"), event("good-1")]).await;
    assert_eq!(peers.delivered_ids(1).await, ["good-1"]);
    assert_eq!(lines_with(&process, "a plugin failed; trying again").len(), 2);
}

#[tokio::test]
async fn an_error_names_component_and_function() {
    let (_, process) = after_failure("trap", "dead-letter", 1).await;
    let errors = lines_with(&process, "ERROR");
    let digest = digest(&guest("guest_misbehaving.wasm"));
    for word in [
        &digest[..12],
        "it printed: ",
        "told to trap at event bad-1",
        "; in keptn:distributor/filter@1.0.0#evaluate",
    ] {
        assert!(errors[0].contains(word), "{word} is missing: {}", errors[0]);
    }
}
