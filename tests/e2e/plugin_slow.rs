//! Plugins that take long: the events behind them go on, in the order of their keys, and so do probes and shutdown.

use std::time::Duration;

use test_support::{ReceivedRequest, eventually};
use tokio::time::{Instant, sleep_until};

use crate::harness::*;

/// Time from when an event was to be published until it was delivered, which 99 of 100 events of the name kept.
fn p99(journal: &[ReceivedRequest], name: &str, planned: impl Fn(usize) -> Instant) -> Duration {
    let of_name = journal.iter().filter_map(|request| {
        let id = event_id(request);
        let number: usize = id.strip_prefix(name)?.strip_prefix('-')?.parse().ok()?;
        Some(request.arrived.saturating_duration_since(planned(number)))
    });
    let mut times: Vec<_> = of_name.collect();
    times.sort();
    times[times.len() * 99 / 100]
}

#[tokio::test]
async fn a_looping_key_holds_up_no_other_key_and_no_probe() {
    const PER_SECOND: usize = 500;
    const N_STEADY: usize = 1_000;
    const N_BESIDE_LOOP: usize = 2_000;
    let peers = Peers::start().await;
    let entry = "timeout = \"1s\"\non_failure = \"retry-then-dead-letter\"";
    let folder = PluginFolder::behaving_with("loop", entry, "");
    let process = peers.process(&[ALL_TOPICS, folder.variable()]).await;
    let publish = async |name: &str, n: usize, with_loop: bool| {
        let start = Instant::now();
        let planned = move |number: usize| start + Duration::from_secs(1) * u32::try_from(number).unwrap() / 500;
        for number in 0..n {
            sleep_until(planned(number)).await;
            if with_loop && number % (PER_SECOND / 5) == 0 {
                peers.publish(&event_in("looping", &format!("bad-{number}"))).await;
            }
            let key = format!("key-{}", number % 50);
            peers.publish(&event_in(&key, &format!("{name}-{number}"))).await;
        }
        peers.everything_is_sent().await;
        planned
    };
    let planned = publish("steady", N_STEADY, false).await;
    let steady = p99(&peers.delivered(N_STEADY).await, "steady", planned);

    let probing = async {
        let mut slowest = Duration::ZERO;
        loop {
            let start = Instant::now();
            assert_eq!(health(process.proxy_address()).await, 200);
            slowest = slowest.max(start.elapsed());
            sleep_until(start + Duration::from_millis(50)).await;
            if peers.recipient.n_received() >= N_STEADY + N_BESIDE_LOOP {
                return slowest;
            }
        }
    };
    let (planned, slowest_probe) = tokio::join!(publish("beside", N_BESIDE_LOOP, true), probing);
    let journal = peers.delivered(N_STEADY + N_BESIDE_LOOP).await;
    let beside = p99(&journal, "beside", planned);
    assert!(!journal.iter().any(|request| event_id(request).starts_with("bad")));
    eprintln!("p99 {steady:?}, beside a loop {beside:?}; slowest probe {slowest_probe:?}");
    // Generous: other tests run at the same time. Held up, events would wait for a second.
    assert!(
        beside < steady * 2 + Duration::from_millis(500),
        "{steady:?} {beside:?}"
    );
    assert!(slowest_probe < Duration::from_millis(500), "{slowest_probe:?}");
}

#[tokio::test]
async fn events_of_the_key_wait_for_the_slow_one_in_order() {
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving_with("loop", "timeout = \"300ms\"\non_failure = \"pass\"", "");
    let process = peers.process(&[ALL_TOPICS, folder.variable()]).await;
    for round in 0..3 {
        for name in ["good", "bad", "next"] {
            peers.publish(&event_in("slow", &format!("{name}-{round}"))).await;
        }
        peers.publish(&event_in("quick", &format!("quick-{round}"))).await;
    }
    let delivered = peers.delivered_ids(12).await;
    let of_key = |is_wanted: &dyn Fn(&str) -> bool| -> Vec<String> {
        delivered.iter().filter(|id| is_wanted(id)).cloned().collect()
    };
    let slow: Vec<String> = (0..3)
        .flat_map(|round| ["good", "bad", "next"].map(|name| format!("{name}-{round}")))
        .collect();
    assert_eq!(of_key(&|id| !id.starts_with("quick")), slow);
    assert_eq!(of_key(&|id| id.starts_with("quick")), numbered_ids("quick", 3));
    let last_quick = delivered.iter().rposition(|id| id.starts_with("quick")).unwrap();
    assert!(last_quick < 7, "the other key did not wait: {delivered:?}");
    assert_eq!(lines_with(&process, "the event goes on without the plugin").len(), 1);
}

#[tokio::test]
async fn a_sleeping_plugin_holds_up_no_other_key() {
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving_with("sleep", "timeout = \"60s\"", "");
    let _process = peers.process(&[ALL_TOPICS, folder.variable()]).await;
    peers.publish(&event_in("slow", "bad-1")).await;
    peers.publish(&event_in("slow", "good-1")).await;
    peers.publish(&event_in("quick", "good-2")).await;
    assert_eq!(peers.delivered_ids(1).await, ["good-2"]);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_looping_plugin_longer_than_for_a_delivery() {
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving_with("loop", "timeout = \"60s\"", "");
    let variables = [ALL_TOPICS, folder.variable(), ("SHUTDOWN_DRAIN_TIMEOUT", "1s")];
    let mut process = peers.process(&variables).await;
    peers.publish(&event_in("slow", "bad-1")).await;
    peers.publish(&event_in("quick", "good-1")).await;
    assert_eq!(peers.delivered_ids(1).await, ["good-1"]);
    let cpu_before = process.cpu_seconds().unwrap();
    let is_looping = async || process.cpu_seconds().unwrap() > cpu_before + 0.1;
    eventually(SOON, is_looping).await.unwrap();

    let start = Instant::now();
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    // Core NATS keeps no copy, and that is said.
    assert_eq!(lines_with(&process, "lost=1").len(), 1);
}
