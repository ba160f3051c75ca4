//! Plugins that mean harm: whatever they do is bounded in time, memory and log lines, and the next event is delivered.

use test_support::{DistributorProcess, KeptnEvent, Stream};

use crate::harness::*;

const MIB: u64 = 1 << 20;
/// Memory that a hostile plugin may cost: what its instance may have, one more like it that is started in its place, and
/// what it handed over.
const MEMORY_COST: u64 = 48 * MIB;
/// Log lines of all kinds, with those of start and end.
const LOG_BYTES: usize = 100 << 10;
const LINE_BYTES: usize = 8 << 10;

/// Sends an event that the plugin does harm on, and then one that it leaves alone; returns the log.
async fn contained(behaviour: &str, entry: &str, config: &str) -> Vec<String> {
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving_with(behaviour, entry, config);
    let mut process = peers
        .process(&[
            ALL_TOPICS,
            folder.variable(),
            ("LOG_LEVEL", "info,distributor::dispatch=debug"),
        ])
        .await;
    let memory_before = process.resident_memory().unwrap().now;

    peers.publish_all([event("bad-1"), event("good-1")]).await;
    let ids: Vec<_> = eventually_delivered(&peers, "good-1").await;
    assert!(ids.iter().all(|id| id == "good-1" || id == "bad-1"), "{ids:?}");

    let cost = process.peak_resident_memory().unwrap().saturating_sub(memory_before);
    assert!(cost < MEMORY_COST, "{} MiB", cost / MIB);
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    bounded_log(&process)
}

async fn eventually_delivered(peers: &Peers, last: &str) -> Vec<String> {
    let ids = || -> Vec<String> { peers.recipient.journal().iter().map(event_id).collect() };
    let arrived = test_support::eventually(SOON, async || ids().iter().any(|id| id == last)).await;
    arrived.unwrap_or_else(|_| panic!("{last} was to be delivered: {:?}", ids()));
    ids()
}

fn bounded_log(process: &DistributorProcess) -> Vec<String> {
    let log = process.output().text(Stream::Stderr);
    check_log(&log);
    log.lines().map(str::to_owned).collect()
}

fn check_log(log: &str) {
    assert!(log.len() < LOG_BYTES, "{} bytes", log.len());
    for line in log.lines() {
        let start: String = line.chars().take(200).collect();
        assert!(line.len() < LINE_BYTES, "{} bytes: {start}", line.len());
        assert!(!line.starts_with("INFO"), "forged: {start}");
        assert!(!line.contains('\u{1b}'), "escape codes: {start}");
    }
}

/// The one line with this in it.
fn line_with<'a>(lines: &'a [String], wanted: &str) -> &'a str {
    let found: Vec<_> = lines.iter().filter(|line| line.contains(wanted)).collect();
    let [line] = found.as_slice() else {
        panic!("one line with {wanted:?} is expected: {lines:#?}")
    };
    line
}

/// It is stopped for this reason.
async fn check_stopped(behaviour: &str, entry: &str, reason: &str) {
    let lines = contained(behaviour, entry, "").await;
    let line = line_with(&lines, reason);
    for word in ["ERROR", "suspect", "bad-1"] {
        assert!(line.contains(word), "{word} is missing: {line}");
    }
}

/// It drops the event with this reason.
async fn check_dropped(behaviour: &str, entry: &str, reason: &str) {
    let lines = contained(behaviour, entry, "").await;
    let line = line_with(&lines, "dropped by a plugin");
    assert!(line.contains(reason), "{reason} is missing: {line}");
}

#[tokio::test]
async fn what_is_stopped_has_cost_little_memory_and_few_lines() {
    for (behaviour, reason) in [
        ("hog", "bytes of memory, its limit is 16777216"),
        ("recurse", "recursion"),
        ("huge-reason", "of memory"),
        ("huge-event", "of memory"),
        ("many-events", "of memory"),
        ("trap", "panicked or aborted; it printed: thread"),
        ("exit", "ended itself with exit code"),
    ] {
        check_stopped(behaviour, "timeout = \"20s\"", reason).await;
    }
}

#[tokio::test]
async fn a_loop_of_host_calls_is_stopped() {
    check_stopped("spin-on-clock", "timeout = \"200ms\"", "used up its 200ms").await;
}

#[tokio::test]
async fn what_is_no_text_is_stopped() {
    check_stopped("bad-utf8", "", "utf-8").await;
}

#[tokio::test]
async fn timers_without_end_are_stopped() {
    check_stopped("handles", "", "held more than 1000 streams, timers or other resources").await;
}

#[tokio::test]
async fn random_bytes_without_measure_are_refused() {
    check_stopped(
        "random",
        "memory = \"256MiB\"",
        "asked for more than 65536 random bytes at once",
    )
    .await;
}

#[tokio::test]
async fn adding_to_a_text_is_stopped_and_explained() {
    check_stopped(
        "state-text",
        "grants = [\"state\"]",
        "called `state.increment` on \\\"text\\\", which holds something other than a decimal number",
    )
    .await;
}

#[tokio::test]
async fn a_name_with_control_characters_is_refused_and_not_repeated_at_length() {
    check_stopped("bad-names", "memory = \"64MiB\"", "returned an event that is none").await;
}

#[tokio::test]
async fn a_reason_with_control_characters_forges_no_line() {
    check_dropped("odd-reason", "", "first INFO forged [31m").await;
}

#[tokio::test]
async fn a_million_log_lines_are_cut_to_a_few() {
    // Beyond the calls of host functions that are allowed, and below.
    let lines = contained("chatty", "timeout = \"5s\"", "").await;
    line_with(&lines, "called host functions more than 10000 times");
    let lines = contained("chatty", "timeout = \"5s\"", "count = 9000").await;
    let n_lines = lines.iter().filter(|line| line.contains("plugin says")).count();
    assert_eq!((n_lines, left_out(&lines)), (100, 8900));
}

#[tokio::test]
async fn a_huge_log_line_is_cut() {
    let lines = contained("huge-log", "memory = \"64MiB\"", "").await;
    let line = line_with(&lines, "plugin says");
    assert!(line.contains("text=\"line INFO forged [31m"), "{line}");
    assert!(line.contains("fields=\"name=value name=value"), "{line}");
}

#[tokio::test]
async fn printed_lines_are_cut_to_a_few() {
    let lines = contained("print", "timeout = \"20s\"", "count = 100000").await;
    let printed: Vec<_> = lines.iter().filter(|line| line.contains("plugin printed")).collect();
    assert_eq!((printed.len(), left_out(&lines)), (100, 99_900));
    assert!(printed[0].contains("told to print 0"), "{}", printed[0]);
    for word in [
        "plugin=suspect",
        "event_id=\"bad-1\"",
        "direction=\"incoming\"",
        "digest=",
    ] {
        assert!(printed[0].contains(word), "{word} is missing: {}", printed[0]);
    }
}

#[tokio::test]
async fn a_plugin_that_logs_with_each_event_is_cut_to_a_rate() {
    const N_EVENTS: usize = 1000;
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving_with("chatty", "", "count = 10");
    let mut process = peers.process(&[ALL_TOPICS, folder.variable()]).await;

    let started = tokio::time::Instant::now();
    peers.publish_all(events("bad", N_EVENTS)).await;
    assert_same(&peers.delivered_ids(N_EVENTS).await, &numbered_ids("bad", N_EVENTS));
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);

    let n_lines = lines_with(&process, "plugin says").len();
    assert!(n_lines <= 200 + 100 * seconds, "{n_lines} lines in {seconds} s");
    let n_left_out = left_out(&lines_with(&process, "lines of a plugin are left out"));
    assert_eq!(n_lines as u64 + n_left_out, 10 * N_EVENTS as u64);
}

#[tokio::test]
async fn printed_bytes_that_are_no_text_are_shown_as_such() {
    let lines = contained("print-bytes", "", "").await;
    line_with(&lines, "line=\"odd \u{fffd}\u{fffd}  [31m bytes\"");
    line_with(&lines, "line=\"unfinished\"");
}

#[tokio::test]
async fn a_flood_of_metrics_is_cut_and_said_once() {
    let lines = contained("metric-flood", "", "").await;
    let counted = lines.iter().filter(|line| line.contains("plugin counted")).count();
    assert_eq!(counted, 50);
    for reason in [
        "a plugin may use 50 names",
        "its name does not read",
        "`set` is for gauges",
        "not a finite number",
    ] {
        line_with(&lines, reason);
    }
}

#[tokio::test]
async fn a_flood_of_state_ends_at_the_quota() {
    // Each key takes 10 bytes, its value 5, the entry 128.
    check_dropped("state-flood", "grants = [\"state\"]", "room for 7332 keys").await;
}

#[tokio::test]
async fn a_value_larger_than_the_quota_is_refused() {
    check_dropped("state-huge", "grants = [\"state\"]", "refused: Error::QuotaExceeded").await;
}

#[tokio::test]
async fn nothing_of_the_host_is_there_for_a_plugin() {
    check_dropped("snoop", "", "variables 0, arguments 0, files 0, written 0, sockets 0").await;
}

#[tokio::test]
async fn plugins_that_multiply_events_are_stopped_together() {
    let entry = |name: &str| {
        format!(
            "[[plugin]]\nname = \"{name}\"\ncomponent = \"guest.wasm\"\n\
             [plugin.config]\nbehaviour = \"many-events\"\ncount = 64\nonly = \"bad\"\n"
        )
    };
    let peers = Peers::start().await;
    let folder = PluginFolder::with_manifest(&["one", "two", "three", "four"].map(entry).concat());
    let mut process = peers.process(&[ALL_TOPICS, folder.variable()]).await;

    peers.publish_all([event("bad-1"), event("good-1")]).await;
    assert_eq!(peers.delivered_ids(1).await, ["good-1"]);
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    let lines = bounded_log(&process);
    let line = line_with(&lines, "ERROR");
    let reason = "made more than 256 events of one, with the plugins before it";
    assert!(line.contains("plugin=\"two\"") && line.contains(reason), "{line}");
}

#[tokio::test]
async fn data_that_the_host_puts_back_is_not_multiplied_without_end() {
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving("blind-split");
    let mut process = peers.process(&[ALL_TOPICS, folder.variable()]).await;
    let memory_before = process.resident_memory().unwrap().now;

    let large = KeptnEvent {
        size_bytes: 900 << 10,
        ..event("bad-1")
    };
    peers.publish_all([large, event("good-1")]).await;
    assert_eq!(peers.delivered_ids(1).await, ["good-1"]);
    let cost = process.peak_resident_memory().unwrap().saturating_sub(memory_before);
    assert!(cost < MEMORY_COST, "{} MiB", cost / MIB);
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    let lines = bounded_log(&process);
    assert!(line_with(&lines, "ERROR").contains("made more than 8388608 bytes of one event"));
}

/// Starts with a plugin that does harm while it is loaded: exit code 1, and a short log that says why.
async fn check_refused(behaviour: &str, entry: &str, reason: &str) {
    let folder = PluginFolder::behaving_with(behaviour, entry, "");
    let (exit_code, _, stderr) = run_to_end(&["run"], &[folder.variable()]).await;
    assert_eq!(exit_code, 1, "{stderr}");
    check_log(&stderr);
    let is_named = |line: &str| line.contains("suspect") && line.contains(reason);
    assert!(stderr.lines().any(is_named), "{reason} is missing: {stderr}");
}

#[tokio::test]
async fn a_description_that_never_ends_is_stopped() {
    check_refused("loop-in-describe", "", "failed in `describe`: used up its 5s").await;
}

#[tokio::test]
async fn a_description_that_panics_is_explained() {
    check_refused("trap-in-describe", "", "told to trap in describe").await;
}

#[tokio::test]
async fn a_huge_description_is_refused() {
    check_refused(
        "huge-description",
        "memory = \"64MiB\"",
        "`description` has 1048576 bytes, its limit is 10000",
    )
    .await;
    check_refused(
        "many-event-types",
        "",
        "`event-types` has 20000 items, its limit is 1000",
    )
    .await;
    check_refused("forged-version", "", "`version` has control characters in it").await;
}

#[tokio::test]
async fn a_huge_schema_is_refused() {
    check_refused("huge-schema", "", "bytes of memory, its limit is 16777216").await;
    check_refused(
        "huge-schema",
        "memory = \"64MiB\"",
        "handed more than 2097152 bytes to the host",
    )
    .await;
}

#[tokio::test]
async fn thousands_of_configuration_problems_are_cut_to_some() {
    check_refused("many-problems", "", "/only: told to reject").await;
    check_refused("many-problems", "", "and 4950 more").await;
}

#[tokio::test]
async fn a_plugin_that_needs_more_memory_than_it_may_have_is_not_started() {
    check_refused(
        "keep",
        "memory = \"1MiB\"",
        "bytes of memory, its limit is 1048576; raise `memory`",
    )
    .await;
}
