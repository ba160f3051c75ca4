//! The distributor itself ends, is killed, stands still, or has a sibling.

use std::time::Duration;

use test_support::{DistributorProcess, NatsVersion, Rate, Reply, eventually};

use super::rig::{IN_TIME, Rig, extent, peak_mebibytes};

/// Deliveries that may be under way when a process is killed: one for each worker.
const CONCURRENCY: usize = 16;

/// Ends a process with SIGTERM, and says how long that took.
async fn terminated(mut process: DistributorProcess) -> Duration {
    let start = tokio::time::Instant::now();
    process.terminate().unwrap();
    let status = process.wait_exit(IN_TIME).await.unwrap();
    assert_eq!(
        status.code(),
        Some(0),
        "{}",
        process.output().text(test_support::Stream::Stderr)
    );
    start.elapsed()
}

#[tokio::test]
async fn a_backlog_outlives_sigterm() {
    let rig = Rig::start().await;
    rig.recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_millis(50)));
    let process = rig.process(&[]).await;
    let published = rig.published("e", 1000, extent(3000, 50_000)).await;
    rig.recipient.wait_until_accepted(100, IN_TIME).await.unwrap();
    let peak = peak_mebibytes(&process);
    let ended_within = terminated(process).await;
    assert!(
        ended_within < Duration::from_secs(5),
        "only what was started is waited for"
    );
    let verdict = rig.verdict(&published);
    println!(
        "{} of {} left to the stream, ended within {ended_within:?}, peak {peak} MiB",
        verdict.lost.len(),
        published.len()
    );
    assert_eq!(verdict.n_duplicates, 0, "{verdict}");
    let info = rig.consumer().await;
    let n_left = usize::try_from(info.num_pending).unwrap() + info.num_ack_pending;
    assert_eq!(
        n_left,
        verdict.lost.len(),
        "the stream has exactly what was not delivered: {verdict}"
    );
    assert_eq!(
        rig.dead_letters().await.len(),
        0,
        "nothing is given up because of a shutdown"
    );
    rig.recipient.respond_with(|_, _| Reply::status(200));
    let _process = rig.process(&[]).await;
    let verdict = rig.everything_settled(&published).await;
    assert!(verdict.is_perfect(), "{verdict}");
}

#[tokio::test]
async fn an_event_under_way_is_ended_before_the_process() {
    let rig = Rig::start().await;
    rig.recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_secs(1)));
    let process = rig.process(&[]).await;
    let published = rig.published("e", 1, 1).await;
    rig.recipient.wait_until_received(1, IN_TIME).await.unwrap();
    terminated(process).await;
    let verdict = rig.verdict(&published);
    assert!(verdict.is_perfect(), "{verdict}");
    rig.acknowledged().await;
}

#[tokio::test]
async fn an_event_that_outlasts_the_drain_time_comes_again() {
    let rig = Rig::start().await;
    rig.recipient
        .respond_with(|_, nth| if nth == 0 { Reply::Hang } else { Reply::status(200) });
    let variables = [("SHUTDOWN_DRAIN_TIMEOUT", "500ms"), ("JETSTREAM_ACK_WAIT", "2s")];
    let process = rig.process(&variables).await;
    let published = rig.published("e", 1, 1).await;
    rig.recipient.wait_until_received(1, IN_TIME).await.unwrap();
    let took = terminated(process).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    let _process = rig.process(&variables).await;
    let verdict = rig.everything_settled(&published).await;
    assert!(verdict.is_perfect(), "{verdict}");
}

#[tokio::test]
async fn nothing_is_lost_when_the_process_is_killed_again_and_again() {
    for version in NatsVersion::ALL {
        killed(version, extent(5, 100)).await;
    }
}

/// Kills the process at random moments, and counts.
async fn killed(version: NatsVersion, n_kills: usize) {
    let rig = Rig::start_version(version).await;
    let variables = [("JETSTREAM_ACK_WAIT", "1s")];
    rig.recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_millis(2)));
    let mut process = rig.process(&variables).await;
    let publisher = rig.publish("e", 50, Rate::PerSecond(500.0), None);
    for number in 1..=n_kills {
        let n_wanted = rig.recipient.n_accepted() + 20 + fastrand::usize(..200);
        rig.recipient.wait_until_accepted(n_wanted, IN_TIME).await.unwrap();
        process.kill().await.unwrap();
        process = rig.process(&variables).await;
        assert!(number <= n_kills);
    }
    let published = publisher.stop().await;
    let verdict = rig.everything_settled(&published).await;
    assert_eq!(verdict.lost.len(), 0, "{version:?}: {verdict}");
    assert!(verdict.n_duplicates <= n_kills * 256, "{version:?}: {verdict}");
    let peak = peak_mebibytes(&process);
    println!("{version:?}, killed {n_kills} times: {verdict}, peak {peak} MiB");
    assert_eq!(rig.consumers().await.len(), 1);
}

#[tokio::test]
async fn a_process_that_stood_still_goes_on_where_it_was() {
    let rig = Rig::start().await;
    rig.recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_millis(20)));
    let process = rig.process(&[("JETSTREAM_ACK_WAIT", "1s")]).await;
    let publisher = rig.publish("e", 50, Rate::PerSecond(300.0), Some(1500));
    rig.recipient.wait_until_accepted(100, IN_TIME).await.unwrap();
    process.pause().await.unwrap();
    // Longer than the server waits: it gives everything that was in memory away.
    let is_given_away = async || rig.consumer().await.num_redelivered > 0 || rig.consumer().await.num_waiting == 0;
    let _ = eventually(Duration::from_secs(3), is_given_away).await;
    publisher.wait_until_published(1500, IN_TIME).await.unwrap();
    process.resume().unwrap();
    let published = publisher.finish(IN_TIME).await.unwrap();
    let verdict = rig.everything_settled(&published).await;
    assert!(verdict.is_perfect(), "{verdict}");
}

#[tokio::test]
async fn a_sibling_takes_over_what_a_killed_replica_had() {
    let rig = Rig::start().await;
    let variables = [("JETSTREAM_ACK_WAIT", "1s")];
    let mut killed = rig.process(&variables).await;
    let _survivor = rig.process(&variables).await;
    rig.recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_millis(5)));
    let publisher = rig.publish("e", 100, Rate::PerSecond(500.0), Some(2000));
    rig.recipient.wait_until_accepted(500, IN_TIME).await.unwrap();
    killed.kill().await.unwrap();
    let published = publisher.finish(IN_TIME).await.unwrap();
    let verdict = rig.everything_settled(&published).await;
    println!("one of two replicas killed: {verdict}");
    assert_eq!(verdict.lost.len(), 0, "{verdict}");
    assert!(verdict.n_duplicates <= CONCURRENCY, "{verdict}");
}

#[tokio::test]
async fn replicas_of_a_deployment_share_the_work() {
    let rig = Rig::start().await;
    let first = rig.process(&[]).await;
    let second = rig.process(&[]).await;
    rig.recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_millis(20)));
    let published = rig.published("e", 500, 1000).await;
    let verdict = rig.everything_settled(&published).await;
    assert_eq!((verdict.lost.len(), verdict.n_duplicates), (0, 0), "{verdict}");
    let delivered = |process: &DistributorProcess| crate::harness::lines_with(process, " delivered ").len();
    let (first, second) = (delivered(&first), delivered(&second));
    assert!(first > 100 && second > 100, "{first} and {second}");
}
