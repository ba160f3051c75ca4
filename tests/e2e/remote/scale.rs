//! Many open events.

use std::collections::HashSet;
use std::time::Duration;

use test_support::{ControlPlane, KeptnEvent, Recipient};

use super::{Remote, events};

const N_EVENTS: usize = 10_000;
/// The processor time of one poll that finds nothing new. A build for tests is some times slower than a release.
const MAX_CPU_SECONDS: f64 = 0.5;
const MAX_REQUESTS: usize = 20;
/// What an idle process takes depends on the build. The list alone has ten.
const MAX_GROWTH_MIB: u64 = 16;
const N_CYCLES: usize = 5;

#[tokio::test]
async fn ten_thousand_events_are_delivered_once_and_then_cost_little() {
    let remote = Remote {
        control_plane: ControlPlane::start().await.unwrap(),
        recipient: Recipient::start_light_on(0).await.unwrap(),
    };
    let process = remote.process(&[]).await;
    remote.polled(2).await;
    let idle = process.peak_resident_memory().unwrap() >> 20;
    remote.open(events("event", N_EVENTS).map(|event| KeptnEvent {
        size_bytes: 1024,
        ..event
    }));
    remote
        .recipient
        .wait_until_accepted(N_EVENTS, Duration::from_mins(2))
        .await
        .unwrap();
    remote.polled(2).await;

    let (cpu_before, polls_before) = (process.cpu_seconds().unwrap(), remote.polls().len());
    remote.polled(N_CYCLES).await;
    let cpu_seconds = process.cpu_seconds().unwrap() - cpu_before;
    let polls = remote.polls().split_off(polls_before);
    let n_cycles = polls
        .iter()
        .filter(|poll| !poll.query.as_deref().unwrap_or_default().contains("nextPageKey"))
        .count();
    let requests = polls.len().div_ceil(n_cycles);
    #[expect(clippy::cast_precision_loss, reason = "there are few")]
    let cpu_seconds = cpu_seconds / n_cycles as f64;
    let peak = process.peak_resident_memory().unwrap() >> 20;
    println!("{N_EVENTS} open events: {requests} requests and {cpu_seconds:.3} CPU s per poll, {idle} to {peak} MiB");

    assert!(requests <= MAX_REQUESTS, "{requests} requests");
    assert!(cpu_seconds < MAX_CPU_SECONDS, "{cpu_seconds} s");
    assert!(peak - idle <= MAX_GROWTH_MIB, "{idle} to {peak} MiB");
    let deliveries = remote.recipient.deliveries();
    let different: HashSet<_> = deliveries.iter().map(|delivery| &delivery.id).collect();
    assert_eq!((deliveries.len(), different.len()), (N_EVENTS, N_EVENTS), "each once");
}
