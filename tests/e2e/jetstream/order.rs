//! A key that is held up holds up nothing else, and goes on in order.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use test_support::{Delivery, Reply};
use tokio::time::Instant;

use super::rig::{IN_TIME, Rig, extent, key_in, numbered, peak_mebibytes};
use crate::harness::event_id;

/// Attempts come quickly and never end, so that a key stays held up until it heals.
const PATIENT: [(&str, &str); 2] = [("DELIVERY_RETRY", "100000"), ("DELIVERY_BACKOFF_MAX", "1s")];

/// The service fails for these keys until it is healed.
fn poison(rig: &Rig, is_poisoned: impl Fn(&str) -> bool + Send + Sync + 'static) -> Arc<AtomicBool> {
    let is_healed = Arc::new(AtomicBool::new(false));
    let healed = Arc::clone(&is_healed);
    rig.recipient.respond_with(move |request, _| {
        let fails = !healed.load(Ordering::Acquire) && is_poisoned(key_in(&request.body));
        Reply::status(if fails { 500 } else { 200 })
    });
    is_healed
}

#[tokio::test]
async fn a_poisoned_key_slows_nothing_else_and_goes_on_in_order_when_it_heals() {
    let rig = Rig::start().await;
    let process = rig.process(&PATIENT).await;
    let n_healthy = extent(1000, 10_000);
    let rate = extent(500.0, 1000.0);

    let without = latencies(&rig, "before", rate, n_healthy).await;
    let is_healed = poison(&rig, |key| key.starts_with("poisoned"));
    let poisoned = rig.published("poisoned", 1, 1000).await;
    let with = latencies(&rig, "during", rate, n_healthy).await;
    println!("p99 of healthy keys: {without:?} without, {with:?} with a poisoned key");
    // The goal is 20 %; tests that run side by side on a small machine move more than that.
    let limit = extent(
        without * 3 + Duration::from_millis(50),
        without.mul_f64(1.2) + Duration::from_millis(1),
    );
    assert!(with <= limit, "{with:?} instead of {without:?}");

    is_healed.store(true, Ordering::Release);
    let healed = Instant::now();
    let n_accepted = rig.recipient.n_accepted() + poisoned.len();
    rig.recipient.wait_until_accepted(n_accepted, IN_TIME).await.unwrap();
    println!(
        "1,000 events followed within {:?}, peak {} MiB",
        healed.elapsed(),
        peak_mebibytes(&process)
    );
    let mut deliveries = rig.recipient.deliveries();
    deliveries.retain(|delivery| delivery.key.starts_with("poisoned"));
    let verdict = test_support::Verdict::of(&poisoned, &deliveries);
    assert!(verdict.is_perfect(), "{verdict}");
    rig.acknowledged().await;
}

/// The p99 of the time from publishing to arrival.
pub(super) async fn latencies(rig: &Rig, name: &str, per_second: f64, n: usize) -> Duration {
    let n_before = rig.recipient.n_accepted();
    let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second));
    let mut sent = HashMap::new();
    for (published, event) in numbered(name, 100).take(n) {
        pace.tick().await;
        sent.insert(published.id, Instant::now());
        let publishing = rig.jetstream.publish(event.ty.clone(), event.to_bytes()).await;
        publishing.expect("the event goes out");
    }
    rig.recipient.wait_until_accepted(n_before + n, IN_TIME).await.unwrap();
    let time_of = |delivery: &Delivery| {
        let sent = sent.get(&*delivery.id)?;
        Some(delivery.arrived.saturating_duration_since(*sent))
    };
    let mut times: Vec<_> = rig.recipient.deliveries().iter().filter_map(time_of).collect();
    times.sort();
    times[times.len() * 99 / 100]
}

#[tokio::test]
async fn more_poisoned_keys_than_fit_into_memory_stop_nothing_else() {
    let rig = Rig::start().await;
    let _process = rig
        .process(&[("DELIVERY_RETRY", "100000"), ("DELIVERY_BACKOFF_DELAY", "2s")])
        .await;
    let is_healed = poison(&rig, |key| key.starts_with("poisoned"));
    let poisoned = rig.published("poisoned", 400, 400).await;
    let sound = rig.published("sound", 50, 500).await;
    rig.recipient.wait_until_accepted(sound.len(), IN_TIME).await.unwrap();
    is_healed.store(true, Ordering::Release);
    let all: Vec<_> = poisoned.into_iter().chain(sound).collect();
    let verdict = rig.everything_settled(&all).await;
    assert!(verdict.is_perfect(), "{verdict}");
}

#[tokio::test]
async fn without_an_order_an_event_that_fails_holds_back_no_other() {
    let rig = Rig::start().await;
    let variables = [("DELIVERY_ORDERING", "none"), PATIENT[0], PATIENT[1]];
    let _process = rig.process(&variables).await;
    let is_healed = Arc::new(AtomicBool::new(false));
    let healed = Arc::clone(&is_healed);
    rig.recipient.respond_with(move |request, _| {
        let is_bad = !healed.load(Ordering::Acquire) && event_id(request).ends_with("-0");
        Reply::status(if is_bad { 500 } else { 200 })
    });
    // More of one key than are in memory at a time.
    let published = rig.published("e", 2, 1000).await;
    rig.recipient
        .wait_until_accepted(published.len() - 2, IN_TIME)
        .await
        .unwrap();
    is_healed.store(true, Ordering::Release);
    rig.recipient
        .wait_until_accepted(published.len(), IN_TIME)
        .await
        .unwrap();
    rig.acknowledged().await;
    let verdict = rig.verdict(&published);
    assert_eq!((verdict.lost.len(), verdict.n_duplicates), (0, 0), "{verdict}");
    assert_eq!(rig.dead_letters().await.len(), 0);
}

#[tokio::test]
async fn strict_order_is_kept_over_all_events_and_replicas() {
    let rig = Rig::start().await;
    let variables = [("DELIVERY_ORDERING", "strict"), ("DELIVERY_BACKOFF_DELAY", "5ms")];
    let _first = rig.process(&variables).await;
    let _second = rig.process(&variables).await;
    rig.recipient
        .respond_with(|_, nth| Reply::status(if nth % 7 == 3 { 500 } else { 200 }));
    let published = rig.published("e", 1, 100).await;
    let verdict = rig.everything_settled(&published).await;
    assert!(verdict.is_perfect(), "{verdict}");
    assert_eq!(rig.consumer().await.config.max_ack_pending, 1);
}
