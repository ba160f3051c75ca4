//! Polls by hand: lists that repeat, change and lack events.

use super::*;

const A: SubscriptionKey = SubscriptionKey(1);
const B: SubscriptionKey = SubscriptionKey(2);

/// Of a context.
const C: Key = Key::of(3);
const D: Key = Key::of(4);

fn topic() -> Arc<str> {
    "t".into()
}

fn key(id: &str) -> EventKey {
    EventKey::of(id.as_bytes())
}

/// Takes everything that is owed of a complete list.
fn poll(open: &OpenEvents, ids: &[&str], wanted_by: &[SubscriptionKey]) -> Vec<String> {
    let owed = ids.iter().filter(|id| open.is_owed(&topic(), key(id), wanted_by));
    let taken = owed.filter(|id| open.take(&topic(), key(id), wanted_by).is_some());
    let taken = taken.map(|&id| id.to_owned()).collect();
    open.end_round(&topic());
    taken
}

#[tokio::test(start_paused = true)]
async fn an_event_is_taken_once_while_it_stays_listed() {
    let open = OpenEvents::default();
    assert_eq!(poll(&open, &["1", "2"], &[A]), ["1", "2"]);
    assert!(poll(&open, &["1", "2"], &[A]).is_empty(), "being delivered");
    open.settle(&topic(), key("1"), &[A]);
    open.settle(&topic(), key("1"), &[A]);
    assert!(poll(&open, &["1", "2"], &[A]).is_empty());
    assert_eq!(open.n_held(), 1);
    assert_eq!(
        open.settled()[&topic()],
        [(key("1"), SubscriptionKeys::from_elem(A, 1))]
    );
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_given_back_is_taken_again_when_it_is_due() {
    let open = OpenEvents::default();
    poll(&open, &["1", "2"], &[A]);
    open.give_back(&topic(), key("1"), None, Duration::ZERO, Vec::new());
    open.give_back(&topic(), key("2"), None, Duration::from_secs(5), Vec::new());
    assert_eq!(poll(&open, &["1", "2"], &[A]), ["1"]);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(poll(&open, &["1", "2"], &[A]), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_known_of_its_parts_comes_back_with_an_event() {
    let open = OpenEvents::default();
    poll(&open, &["1"], &[A]);
    let progress = vec![PartProgress {
        part: 7,
        is_unprepared: false,
        is_settled: true,
        attempts: 2,
        first_attempt: None,
        due: None,
        given_up: None,
    }];
    open.give_back(&topic(), key("1"), None, Duration::ZERO, progress.clone());
    assert_eq!(poll(&open, &["1"], &[A]), ["1"]);
    assert_eq!(open.admit(&topic(), key("1"), C), Some(progress));
    assert_eq!(open.admit(&topic(), key("1"), C), Some(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_newer_event_of_a_key_waits_for_one_that_was_given_back() {
    let open = OpenEvents::default();
    let admitted = |id: &str, of: Key| open.admit(&topic(), key(id), of).is_some();
    let pause = Duration::from_secs(5);
    poll(&open, &["1"], &[A]);
    assert!(admitted("1", C));
    open.give_back(&topic(), key("1"), Some(C), pause, Vec::new());

    assert_eq!(poll(&open, &["1", "2", "other"], &[A]), ["2", "other"]);
    assert!(!admitted("2", C), "given back as well");
    assert!(admitted("other", D));
    assert!(poll(&open, &["1", "2", "other"], &[A]).is_empty());
    tokio::time::advance(pause).await;
    assert_eq!(poll(&open, &["1", "2", "other"], &[A]), ["1", "2"]);
    assert!(admitted("1", C) && admitted("2", C));
    assert_eq!(open.n_held(), 3);
}

#[tokio::test(start_paused = true)]
async fn no_event_waits_for_ever_for_one_that_does_not_come_again() {
    let open = OpenEvents::default();
    let admitted = |id: &str| open.admit(&topic(), key(id), C).is_some();
    let pause = Duration::from_secs(5);
    poll(&open, &["1"], &[A]);
    open.give_back(&topic(), key("1"), Some(C), pause, Vec::new());
    for _ in 1..KEPT_ROUNDS {
        tokio::time::advance(pause).await;
        assert_eq!(poll(&open, &["2"], &[A]), ["2"]);
        assert!(!admitted("2"));
    }
    tokio::time::advance(pause).await;
    assert_eq!(poll(&open, &["2"], &[A]), ["2"]);
    assert!(admitted("2"), "1 is closed");

    // One whose topic is not polled any more.
    open.give_back(&topic(), key("2"), Some(C), pause, Vec::new());
    tokio::time::advance(pause + AWAITED).await;
    assert_eq!(poll(&open, &["3"], &[A]), ["3"]);
    assert!(admitted("3"));
}

#[tokio::test(start_paused = true)]
async fn each_subscription_gets_an_event_once() {
    let open = OpenEvents::default();
    let take = |wanted_by: &[SubscriptionKey]| open.take(&topic(), key("1"), wanted_by);
    assert_eq!(take(&[A]).unwrap().as_slice(), [A]);
    assert!(take(&[A, B]).is_none(), "one copy at a time");
    open.settle(&topic(), key("1"), &[A]);
    assert_eq!(take(&[A, B]).unwrap().as_slice(), [B]);
    open.settle(&topic(), key("1"), &[B]);
    assert!(take(&[A, B]).is_none());
}

#[tokio::test(start_paused = true)]
async fn what_is_closed_is_forgotten_and_what_a_list_skips_is_not() {
    let open = OpenEvents::default();
    poll(&open, &["1", "2"], &[A]);
    open.settle(&topic(), key("1"), &[A]);
    for _ in 1..KEPT_ROUNDS {
        assert!(poll(&open, &[], &[A]).is_empty());
    }
    assert!(poll(&open, &["1"], &[A]).is_empty(), "it was only skipped");
    for _ in 0..KEPT_ROUNDS {
        poll(&open, &[], &[A]);
    }
    assert_eq!(poll(&open, &["1"], &[A]), ["1"]);
    assert_eq!(open.n_held(), 2, "what is being delivered is not forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_not_complete_closes_nothing() {
    let open = OpenEvents::default();
    poll(&open, &["1"], &[A]);
    open.settle(&topic(), key("1"), &[A]);
    for _ in 0..=KEPT_ROUNDS {
        assert!(open.is_owed(&topic(), key("another"), &[A]));
    }
    assert!(poll(&open, &["1"], &[A]).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_remembered_for_a_while_when_it_is_not_wanted_any_more() {
    let open = OpenEvents::default();
    poll(&open, &["1"], &[A]);
    open.settle(&topic(), key("1"), &[A]);
    tokio::time::advance(TOPIC_KEPT / 2).await;
    open.keep_topics([].iter());
    assert!(poll(&open, &["1"], &[A]).is_empty());
    tokio::time::advance(TOPIC_KEPT).await;
    open.keep_topics([].iter());
    assert_eq!(poll(&open, &["1"], &[A]), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_remembered_is_not_taken() {
    let open = OpenEvents::default();
    for number in 0..MAX_EVENTS {
        assert!(open.take(&topic(), EventKey(number as u128), &[A]).is_some());
    }
    assert!(open.is_full());
    assert!(open.take(&topic(), EventKey(u128::MAX), &[A]).is_none());
    open.give_back(&topic(), EventKey(0), None, Duration::ZERO, Vec::new());
    assert!(open.take(&topic(), EventKey(u128::MAX), &[A]).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_with_what_was_settled() {
    let before = OpenEvents::default();
    poll(&before, &["1", "2"], &[A]);
    before.settle(&topic(), key("1"), &[A]);
    let after = OpenEvents::default();
    after.restore(before.settled());
    assert_eq!(poll(&after, &["1", "2"], &[A]), ["2"]);
}
