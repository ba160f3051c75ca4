//! NATS goes away, comes back, is late, or cannot be reached.

use std::time::Duration;

use test_support::{
    DistributorProcess, NatsVersion, PublishedEvent, Publisher, Rate, Recipient, Reply, TcpProxy, eventually,
    recovery_time,
};
use test_support::{ProxyMode, Verdict};
use tokio::time::Instant;

use super::rig::{IN_TIME, Rig, extent, is_soak};
use crate::harness::lines_with;

/// How soon after NATS answers events flow again. A quarter of it is the rule; these tests run side by side.
const RECOVERED: Duration = Duration::from_secs(2);
/// How soon a connection is known to be dead that nobody has closed: three pings.
const FOUND_DEAD: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_distributor_that_is_there_before_nats_delivers_what_the_stream_kept() {
    let mut rig = Rig::start().await;
    let mut earlier = rig.process(&[]).await;
    earlier.terminate().unwrap();
    earlier.wait_exit(IN_TIME).await.unwrap();
    let published = rig.published("e", 20, 200).await;
    rig.nats.stop().await.unwrap();

    let mut process = rig.starting_process(&[]);
    let stays_up = extent(Duration::from_secs(3), Duration::from_mins(1));
    process.wait_exit(stays_up).await.unwrap_err();
    assert_eq!(
        lines_with(&process, "cannot connect to NATS").len(),
        1,
        "it says so, and once"
    );
    rig.nats.restart().await.unwrap();
    let answered = Instant::now();

    let verdict = rig.everything_settled(&published).await;
    assert!(verdict.is_perfect(), "{verdict}");
    let recovery = recovery_time(&rig.recipient.deliveries(), answered).unwrap();
    println!("NATS was late by {stays_up:?}; events came {recovery:?} after it answered");
    assert!(recovery < RECOVERED, "{recovery:?}");
}

#[tokio::test]
async fn nothing_is_lost_or_overtaken_when_nats_is_killed_again_and_again() {
    for version in NatsVersion::ALL {
        for n_keys in [5, 1000] {
            killed(version, extent(3, 20), n_keys).await;
        }
    }
}

/// Kills the server at random moments, and counts.
async fn killed(version: NatsVersion, n_kills: usize, n_keys: usize) {
    let mut rig = Rig::start_version(version).await;
    answer_after_a_moment(&rig.recipient);
    let process = rig.process(&[]).await;
    let publisher = rig.publish("e", n_keys, Rate::PerSecond(500.0), None);
    let mut recoveries = Vec::new();
    for _ in 0..n_kills {
        random_moment(&rig.recipient).await;
        rig.nats.restart().await.unwrap();
        recoveries.push(recovered(&rig.recipient).await);
    }
    let what = format!("{version:?}, {n_keys} keys, NATS killed {n_kills} times");
    undisturbed(&rig, publisher, &what, &recoveries).await;
    assert!(lines_with(&process, "lost the connection to NATS").len() <= 2 * n_kills);
    assert!(lines_with(&process, "cannot connect to NATS").len() <= 2 * n_kills);
}

#[tokio::test]
async fn nothing_is_lost_or_overtaken_when_connections_break_again_and_again() {
    for version in NatsVersion::ALL {
        for n_keys in [5, 1000] {
            reset(version, extent(10, 40), n_keys).await;
        }
    }
}

/// Breaks connections on which there is something on its way, and counts.
async fn reset(version: NatsVersion, n_resets: usize, n_keys: usize) {
    let rig = Rig::start_version(version).await;
    let (proxy, url) = proxy(&rig).await;
    proxy.switch_to(ProxyMode::Delay(Duration::from_millis(5))).await;
    answer_after_a_moment(&rig.recipient);
    let _process = rig.process(&[("PUBSUB_URL", &url)]).await;
    let publisher = rig.publish("e", n_keys, Rate::PerSecond(500.0), None);
    let mut recoveries = Vec::new();
    for _ in 0..n_resets {
        random_moment(&rig.recipient).await;
        proxy.reset_connections();
        recoveries.push(recovered(&rig.recipient).await);
    }
    let what = format!("{version:?}, {n_keys} keys, {n_resets} resets");
    undisturbed(&rig, publisher, &what, &recoveries).await;
}

#[tokio::test]
async fn what_a_dead_connection_swallowed_comes_again_at_once() {
    for version in NatsVersion::ALL {
        let rig = Rig::start_version(version).await;
        let (proxy, url) = proxy(&rig).await;
        let _process = rig.process(&[("PUBSUB_URL", &url)]).await;
        let mut published = rig.published("before", 10, 100).await;
        rig.everything_settled(&published).await;
        proxy.switch_to(ProxyMode::Blackhole).await;
        published.extend(rig.published("into-the-hole", 10, 100).await);
        let is_handed_out = async || rig.consumer().await.num_ack_pending == 100;
        eventually(IN_TIME, is_handed_out).await.unwrap();
        proxy.switch_to(ProxyMode::Pass).await;
        let mended = Instant::now();
        if !is_soak() {
            // Otherwise the pings find out.
            proxy.reset_connections();
        }
        published.extend(rig.published("after", 10, 100).await);
        let verdict = rig.everything_settled(&published).await;
        let recovery = mended.elapsed();
        println!("{version:?}, blackhole: {verdict}; all came and was acknowledged after {recovery:?}");
        assert!(verdict.is_perfect(), "{version:?}: {verdict}");
        assert!(recovery < extent(RECOVERED, FOUND_DEAD + RECOVERED), "{recovery:?}");
    }
}

#[tokio::test]
async fn a_network_that_stands_still_delays_and_loses_nothing() {
    let rig = Rig::start().await;
    let (proxy, url) = proxy(&rig).await;
    let mut process = rig.process(&[("PUBSUB_URL", &url)]).await;
    let publisher = rig.publish("e", 20, Rate::PerSecond(500.0), None);
    let mut recoveries = Vec::new();
    // Shorter than two pings, and longer than it takes until a request for events is taken for lost.
    for lasts in [
        Duration::from_secs(1),
        extent(Duration::from_secs(2), Duration::from_secs(15)),
    ] {
        random_moment(&rig.recipient).await;
        proxy.switch_to(ProxyMode::Hold).await;
        process.wait_exit(lasts).await.unwrap_err();
        proxy.switch_to(ProxyMode::Pass).await;
        recoveries.push(recovered(&rig.recipient).await);
    }
    undisturbed(&rig, publisher, "a network that stands still", &recoveries).await;
}

#[tokio::test]
async fn one_event_at_a_time_goes_on_after_a_break_without_waiting_for_the_time_out() {
    let rig = Rig::start().await;
    let (proxy, url) = proxy(&rig).await;
    proxy.switch_to(ProxyMode::Delay(Duration::from_millis(3))).await;
    let _process = rig
        .process(&[("PUBSUB_URL", &url), ("DELIVERY_ORDERING", "strict")])
        .await;
    let publisher = rig.publish("e", 3, Rate::PerSecond(50.0), None);
    let mut recoveries = Vec::new();
    for _ in 0..extent(10, 40) {
        rig.recipient
            .wait_until_accepted(rig.recipient.n_accepted() + 3, IN_TIME)
            .await
            .unwrap();
        proxy.reset_connections();
        recoveries.push(recovered(&rig.recipient).await);
    }
    undisturbed(&rig, publisher, "one at a time", &recoveries).await;
}

#[tokio::test]
async fn what_a_sibling_works_on_is_not_asked_for_when_a_connection_breaks() {
    let rig = Rig::start().await;
    let (proxy, url) = proxy(&rig).await;
    let _cut_off = rig.process(&[("PUBSUB_URL", &url)]).await;
    let sibling = rig.process(&[]).await;
    // Until both have got some, and know that they are not alone.
    let mut published = rig.published("short", 100, 400).await;
    rig.everything_settled(&published).await;
    assert!(!delivered_by(&sibling).is_empty());
    rig.recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_secs(2)));
    published.extend(rig.published("long", 12, 12).await);
    rig.recipient.wait_until_received(412, IN_TIME).await.unwrap();
    for _ in 0..3 {
        let n_connections = proxy.n_connections_ever();
        proxy.reset_connections();
        eventually(IN_TIME, async || proxy.n_connections_ever() > n_connections)
            .await
            .unwrap();
    }
    let verdict = rig.everything_settled(&published).await;
    // Across replicas events of a key are in no order.
    assert_eq!((verdict.lost.len(), verdict.n_duplicates), (0, 0), "{verdict}");
    assert_eq!(verdict.n_attempts, 412, "none is started twice");
    assert!(delivered_by(&sibling).iter().any(|line| line.contains("long")));
}

fn delivered_by(process: &DistributorProcess) -> Vec<String> {
    lines_with(process, " delivered ")
}

/// A network between the distributor and NATS, and the URL of it.
async fn proxy(rig: &Rig) -> (TcpProxy, String) {
    let proxy = TcpProxy::start(rig.nats.address()).await.unwrap();
    let url = format!("nats://{}", proxy.address());
    (proxy, url)
}

/// So that there is always something in memory.
fn answer_after_a_moment(recipient: &Recipient) {
    recipient.respond_with(|_, _| Reply::status(200).after(Duration::from_millis(fastrand::u64(..10))));
}

/// While events flow.
async fn random_moment(recipient: &Recipient) {
    let n_wanted = recipient.n_accepted() + 20 + fastrand::usize(..200);
    recipient.wait_until_accepted(n_wanted, IN_TIME).await.unwrap();
}

/// How long from now on until the next event.
async fn recovered(recipient: &Recipient) -> Duration {
    let since = Instant::now();
    let mut recovery = None;
    let is_back = async || {
        recovery = recovery_time(&recipient.deliveries(), since);
        recovery.is_some()
    };
    eventually(IN_TIME, is_back).await.unwrap();
    recovery.unwrap()
}

/// Every event came exactly once and in the order of its key, soon, and over one consumer.
async fn undisturbed(rig: &Rig, publisher: Publisher, what: &str, recoveries: &[Duration]) {
    let published: Vec<PublishedEvent> = publisher.stop().await;
    let stopped = Instant::now();
    let verdict: Verdict = rig.everything_settled(&published).await;
    let settled = stopped.elapsed();
    let slowest = recoveries.iter().max().unwrap();
    println!("{what}: {verdict}; recovered within {slowest:?}, all settled after {settled:?}");
    assert!(verdict.is_perfect(), "{what}: {verdict}");
    assert!(
        *slowest < RECOVERED && settled < RECOVERED,
        "{what}: {recoveries:?}, {settled:?}"
    );
    assert_eq!(rig.consumers().await.len(), 1);
}
