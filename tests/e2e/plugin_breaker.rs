//! A plugin that fails again and again is not called for a while: its events wait, or take the way that `on_failure`
//! names, without the failure's price.

use std::time::Duration;

use test_support::DistributorProcess;
use tokio::time::Instant;

use crate::harness::*;

const OPENED: &str = "the plugin failed 10 times in a row";

async fn logged(process: &DistributorProcess, text: &str) {
    process.wait_for_log(text, SOON).await.unwrap();
}

#[tokio::test]
async fn events_wait_while_it_is_open_and_none_is_given_up() {
    const N_KEYS: usize = 30;
    let peers = Peers::start().await;
    let entry = "on_failure = \"retry-then-dead-letter\"";
    // One more failure after the first pause.
    let folder = PluginFolder::behaving_with("transient-at-first", entry, "count = 11");
    let variables = [
        ALL_TOPICS,
        folder.variable(),
        ("DELIVERY_BACKOFF_DELAY", "1ms"),
        ("DELIVERY_RETRY", "11"),
    ];
    let mut process = peers.process(&variables).await;
    peers.publish(&event_in("poisoned", "bad-0")).await;
    logged(&process, OPENED).await;
    let opened = Instant::now();
    for key in 0..N_KEYS {
        peers
            .publish(&event_in(&format!("k{key}"), &format!("good-{key}")))
            .await;
        peers
            .publish(&event_in(&format!("k{key}"), &format!("last-{key}")))
            .await;
    }
    let delivered = peers.delivered(2 * N_KEYS + 1).await;
    let first = delivered.iter().map(|request| request.arrived).min().unwrap();
    assert!(first - opened > Duration::from_millis(500), "it rests for a second");
    logged(&process, "the plugin works again").await;

    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    for key in 0..N_KEYS {
        let of_key = delivered
            .iter()
            .map(event_id)
            .filter(|id| id.ends_with(&format!("-{key}")));
        let of_key: Vec<_> = of_key.filter(|id| id != "bad-0").collect();
        assert_eq!(of_key, [format!("good-{key}"), format!("last-{key}")]);
    }
    let n_of = |text: &str| lines_with(&process, text).len();
    assert_eq!((n_of(OPENED), n_of("the plugin works again")), (1, 1));
    assert_eq!((n_of(" undelivered=0 "), n_of(" dead_lettered=0 ")), (1, 1));
}

#[tokio::test]
async fn while_it_is_open_a_looping_plugin_costs_no_time() {
    const N_EVENTS: usize = 200;
    let peers = Peers::start().await;
    let entry = "on_failure = \"pass\"\ntimeout = \"200ms\"";
    let folder = PluginFolder::behaving_with("loop", entry, "");
    let mut process = peers.process(&[ALL_TOPICS, folder.variable()]).await;
    let start = Instant::now();
    peers.publish_all(events("bad", N_EVENTS)).await;
    assert_same(&peers.delivered_ids(N_EVENTS).await, &numbered_ids("bad", N_EVENTS));
    let elapsed = start.elapsed();
    // Ten time-outs before it opens, and a few for probes; without it there would be 200.
    assert!(elapsed < Duration::from_secs(15), "{elapsed:?}");
    logged(&process, OPENED).await;
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    assert_eq!(lines_with(&process, "breaker=Open").len(), 1);
}

#[tokio::test]
async fn events_that_do_not_need_it_go_on() {
    const N_EVENTS: usize = 20;
    let peers = Peers::start().await;
    let entry = format!("on_failure = \"retry-then-dead-letter\"\nevents = [\"{TASK_TRIGGERED}\"]");
    let folder = PluginFolder::behaving_with("transient", &entry, "");
    let variables = [ALL_TOPICS, folder.variable(), ("DELIVERY_BACKOFF_DELAY", "1ms")];
    let process = peers.process(&variables).await;
    peers.publish(&event("bad")).await;
    logged(&process, OPENED).await;
    // More than there are workers.
    for key in 0..40 {
        peers.publish(&event_in(&format!("waits-{key}"), "good")).await;
    }
    for other in events("other", N_EVENTS) {
        let other = test_support::KeptnEvent {
            ty: "sh.keptn.event.other.triggered".to_owned(),
            keptn_context: "other".to_owned(),
            ..other
        };
        peers.publish(&other).await;
    }
    assert_same(
        &peers.delivered_ids(N_EVENTS).await[..N_EVENTS],
        &numbered_ids("other", N_EVENTS),
    );
}
