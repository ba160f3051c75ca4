//! To the service: order, concurrency, and what happens when the service does not take an event.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use test_support::{Recipient, Reply, eventually, free_port};

use crate::harness::*;

#[tokio::test]
async fn a_failed_delivery_is_tried_again_until_it_succeeds() {
    let peers = Peers::start().await;
    peers
        .recipient
        .respond_with(|_, nth| Reply::status(if nth < 2 { 500 } else { 200 }));
    let process = peers.process(&[ALL_TOPICS]).await;

    peers.publish_all([event("e1"), event("e2")]).await;

    assert_eq!(peers.delivered_ids(4).await, ["e1", "e1", "e1", "e2"]);
    let line = process.wait_for_log(" delivered ", SOON).await.unwrap();
    for word in ["INFO", "e1", "status=200", "attempt=3"] {
        assert!(line.contains(word), "{word} is missing: {line}");
    }
    assert_eq!(lines_with(&process, "trying again").len(), 2);
}

#[tokio::test]
async fn every_status_but_2xx_is_tried_again_or_ends_as_a_dead_letter() {
    const FIRST: u16 = 200;
    let is_tried_again = |status: u16| matches!(status, 404 | 408 | 409 | 425 | 429 | 500 | 502..=599);
    let is_final = |status: u16| status >= 300 && !is_tried_again(status);
    let peers = Peers::start().await;
    let seen = Mutex::new(HashSet::new());
    // The id of each event is the status that its first attempt gets.
    peers.recipient.respond_with(move |request, _| {
        let status = event_id(request).parse().unwrap();
        let is_first = seen.lock().unwrap().insert(status);
        Reply::status(if is_first { status } else { 202 })
    });
    let mut process = peers.process(&[ALL_TOPICS]).await;
    let of_status = |status: u16| event_in(&status.to_string(), &status.to_string());

    // Before the first success some of them mean that the service is not ready.
    peers.publish(&of_status(FIRST)).await;
    process.wait_for_log(" delivered ", SOON).await.unwrap();
    let statuses = (201..207).chain(300..600);
    peers.publish_all(statuses.clone().map(of_status)).await;

    let requests = |status| if is_tried_again(status) { 2 } else { 1 };
    let all: Vec<_> = [FIRST].into_iter().chain(statuses).collect();
    let n_requests = all.iter().map(|status| requests(*status)).sum();
    peers.delivered(n_requests).await;
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);

    let mut counted: HashMap<u16, usize> = HashMap::new();
    for request in peers.recipient.journal() {
        *counted.entry(event_id(&request).parse().unwrap()).or_default() += 1;
    }
    // Of so many in a second some are only counted.
    let (errors, retries) = (
        lines_with(&process, "ERROR"),
        lines_with(&process, "delivery failed; trying again "),
    );
    let n_left_out = left_out(&lines_with(&process, "lines of one kind were left out"));
    let is_told = |status: &&u16| is_final(**status) || is_tried_again(**status);
    let n_told = all.iter().filter(is_told).count() as u64;
    assert_eq!((errors.len() + retries.len()) as u64 + n_left_out, n_told);
    for &status in &all {
        assert_eq!(counted[&status], requests(status), "requests with {status}");
        let of_event = format!("event_id=\"{status}\"");
        let about = |lines: &[String]| -> Vec<String> {
            lines.iter().filter(|line| line.contains(&of_event)).cloned().collect()
        };
        assert!(about(&retries).len() <= usize::from(is_tried_again(status)), "{status}");
        let letters = about(&errors);
        assert!(letters.len() <= usize::from(is_final(status)), "{status}: {letters:?}");
        let reason = if status == 413 { "too_large" } else { "permanent_status" };
        let reason = format!("reason=\"{reason}\"");
        for line in letters {
            for word in ["dead letter; ", &reason, &format!("status={status}"), "attempt=1"] {
                assert!(line.contains(word), "{word} is missing: {line}");
            }
        }
    }
}

#[tokio::test]
async fn user_and_password_of_the_recipients_url_are_sent_as_a_header() {
    let peers = Peers::start().await;
    let _process = peers
        .process(&[ALL_TOPICS, ("PUBSUB_RECIPIENT", "http://me:p%40ss%3Aword@127.0.0.1")])
        .await;
    peers.publish(&event("e")).await;
    let delivered = peers.delivered(1).await;
    assert_eq!(delivered[0].header("authorization"), Some("Basic bWU6cEBzczp3b3Jk"));
}

#[tokio::test]
async fn the_statuses_to_try_again_on_can_be_chosen() {
    let peers = Peers::start().await;
    let answers = [200, 404, 418, 200];
    peers
        .recipient
        .respond_with(move |_, nth| Reply::status(answers[nth.min(3)]));
    let process = peers.process(&[ALL_TOPICS, ("DELIVERY_RETRY_ON", "418")]).await;

    peers.publish_all([event("e1"), event("e2"), event("e3")]).await;

    assert_eq!(peers.delivered_ids(4).await, ["e1", "e2", "e3", "e3"]);
    let line = process.wait_for_log("dead letter; ", SOON).await.unwrap();
    assert!(line.contains("e2") && line.contains("status=404"), "{line}");
}

#[tokio::test]
async fn an_event_that_fails_for_too_long_is_given_up_with_attempts_left() {
    let peers = Peers::start().await;
    peers
        .recipient
        .respond_with(|request, _| Reply::status(if event_id(request) == "old" { 500 } else { 200 }));
    let variables = [
        ALL_TOPICS,
        ("DELIVERY_RETRY", "1000000"),
        ("DELIVERY_MAX_AGE", "300ms"),
        ("DELIVERY_BACKOFF_MAX", "20ms"),
        ("DELIVERY_BACKOFF_DELAY", "20ms"),
    ];
    let process = peers.process(&variables).await;

    peers.publish_all([event("old"), event("next")]).await;

    let line = process.wait_for_log("dead letter; ", SOON).await.unwrap();
    for word in ["ERROR", "old", "reason=\"expired\"", "status=500"] {
        assert!(line.contains(word), "{word} is missing: {line}");
    }
    let line = process.wait_for_log(" delivered ", SOON).await.unwrap();
    assert!(line.contains("next"), "{line}");
    let journal = peers.recipient.journal();
    let n_attempts = journal.iter().filter(|request| event_id(request) == "old").count();
    let lasted = journal[n_attempts - 1].arrived - journal[0].arrived;
    assert!(lasted >= Duration::from_millis(250), "{n_attempts} in {lasted:?}");
}

#[tokio::test]
async fn an_event_waits_for_a_service_that_does_not_listen_yet() {
    let peers = Peers::start().await;
    let port = free_port().unwrap();
    let process = peers
        .process(&[ALL_TOPICS, ("PUBSUB_RECIPIENT_PORT", &port.to_string())])
        .await;

    peers.publish(&event("e1")).await;
    process.wait_for_log("cannot connect", SOON).await.unwrap();
    let late = Recipient::start_on(port).await.unwrap();

    let journal = late.wait_for(1, SOON).await.unwrap();
    assert_eq!(event_id(&journal[0]), "e1");
}

#[tokio::test]
async fn a_service_that_is_away_costs_no_attempts_and_no_order() {
    let mut peers = Peers::start().await;
    let process = peers.process(&[ALL_TOPICS, ("DELIVERY_RETRY", "0")]).await;
    peers.publish(&event("before")).await;
    peers.delivered(1).await;

    peers.recipient.stop().await;
    peers
        .publish_all((0..100).map(|number| event(&number.to_string())))
        .await;
    process.wait_for_log("the service is not ready", SOON).await.unwrap();
    peers.recipient.start_again().await.unwrap();

    let expected: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(peers.delivered_ids(101).await[1..], expected);
    process.wait_for_log("the service is ready", SOON).await.unwrap();
    assert_eq!(lines_with(&process, "the service is not ready").len(), 1);
}

#[tokio::test]
async fn what_answers_404_or_503_before_it_ever_took_an_event_is_not_ready() {
    let peers = Peers::start().await;
    let answers = [404, 503, 200, 404];
    peers
        .recipient
        .respond_with(move |_, nth| Reply::status(answers[nth.min(3)]));
    let process = peers.process(&[ALL_TOPICS, ("DELIVERY_RETRY", "0")]).await;

    peers.publish_all([event("e1"), event("e2")]).await;

    assert_eq!(peers.delivered_ids(4).await, ["e1", "e1", "e1", "e2"]);
    let line = process.wait_for_log("dead letter; ", SOON).await.unwrap();
    for word in ["e2", "status=404", "attempt=1"] {
        assert!(line.contains(word), "{word} is missing: {line}");
    }
}

#[tokio::test]
async fn the_service_is_told_the_attempt_and_may_ask_for_a_pause() {
    let peers = Peers::start().await;
    peers.recipient.respond_with(|_, nth| match nth {
        0 => Reply::Status(429, vec![("Retry-After".to_owned(), "1".to_owned())]),
        _ => Reply::status(200),
    });
    let _app = peers.app(&[ALL_TOPICS]).await;

    peers.publish(&event("e1")).await;

    let requests = peers.delivered(2).await;
    let attempts: Vec<_> = requests
        .iter()
        .map(|request| request.header("distributor-attempt"))
        .collect();
    assert_eq!(attempts, [Some("1"), Some("2")]);
    let pause = requests[1].arrived - requests[0].arrived;
    assert!(pause >= Duration::from_secs(1), "{pause:?}");
}

#[tokio::test]
async fn a_failing_event_holds_back_its_own_context_only() {
    let peers = Peers::start().await;
    let others_are_there = AtomicBool::new(false);
    peers.recipient.respond_with(move |request, _| {
        let id = event_id(request);
        if id == "b2" {
            others_are_there.store(true, Ordering::SeqCst);
        }
        let fails = id == "a1" && !others_are_there.load(Ordering::SeqCst);
        Reply::status(if fails { 500 } else { 200 })
    });
    let _app = peers.app(&[ALL_TOPICS]).await;

    let events = [("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3"), ("b", "b2")];
    peers
        .publish_all(events.map(|(context, id)| event_in(context, id)))
        .await;

    let has_arrived = async |id: &str| peers.recipient.journal().iter().any(|request| event_id(request) == id);
    eventually(SOON, async || has_arrived("a3").await).await.unwrap();
    let mut ids: Vec<_> = peers.recipient.journal().iter().map(event_id).collect();
    ids.dedup();
    let of_a: Vec<_> = ids.iter().filter(|id| id.starts_with('a')).collect();
    assert_eq!(of_a[of_a.len() - 2..], ["a2", "a3"]);
    assert!(of_a[..of_a.len() - 2].iter().all(|id| *id == "a1"), "{ids:?}");
    assert_eq!(
        ids.iter().filter(|id| id.starts_with('b')).collect::<Vec<_>>(),
        ["b1", "b2"]
    );
}

#[tokio::test]
async fn events_of_one_context_stay_in_order_among_many() {
    const N_EVENTS: usize = 1000;
    const N_CONTEXTS: usize = 50;
    let peers = Peers::start().await;
    // Some answers take longer, so that contexts overtake each other.
    peers.recipient.respond_with(|_, nth| {
        let slow = Duration::from_millis(if nth % 7 == 0 { 3 } else { 0 });
        Reply::status(200).after(slow)
    });
    let _app = peers.app(&[ALL_TOPICS]).await;

    let numbered = |number: usize| event_in(&format!("c{}", number % N_CONTEXTS), &number.to_string());
    peers.publish_all((0..N_EVENTS).map(numbered)).await;

    let journal = peers.delivered(N_EVENTS).await;
    assert_eq!(journal.len(), N_EVENTS);
    let mut last: HashMap<usize, usize> = HashMap::new();
    for request in &journal {
        let number: usize = event_id(request).parse().unwrap();
        let before = last.insert(number % N_CONTEXTS, number);
        assert!(
            before.is_none_or(|before| before + N_CONTEXTS == number),
            "{number} after {before:?}"
        );
    }
}

#[tokio::test]
async fn contexts_are_delivered_side_by_side() {
    let peers = Peers::start().await;
    peers.recipient.respond_with(|_, _| Reply::Hang);
    let _app = peers.app(&[ALL_TOPICS]).await;

    peers
        .publish_all((0..16).map(|number| event_in(&format!("c{number}"), "e")))
        .await;

    let connections: HashSet<_> = peers
        .delivered(16)
        .await
        .iter()
        .map(|request| request.connection)
        .collect();
    assert_eq!(
        connections.len(),
        16,
        "none of them was answered before the last one came"
    );
}

#[tokio::test]
async fn without_an_order_events_of_one_context_go_side_by_side_too() {
    let peers = Peers::start().await;
    peers.recipient.respond_with(|_, _| Reply::Hang);
    let _app = peers.app(&[ALL_TOPICS, ("DELIVERY_ORDERING", "none")]).await;

    peers
        .publish_all((0..16).map(|number| event_in("c", &number.to_string())))
        .await;

    assert_eq!(peers.delivered(16).await.len(), 16);
}

#[tokio::test]
async fn in_strict_order_an_event_waits_for_those_of_other_contexts() {
    let peers = Peers::start().await;
    peers
        .recipient
        .respond_with(|_, nth| Reply::status(if nth == 0 { 500 } else { 200 }));
    let _app = peers.app(&[ALL_TOPICS, ("DELIVERY_ORDERING", "strict")]).await;

    peers
        .publish_all((0..4).map(|number| event_in(&format!("c{number}"), &number.to_string())))
        .await;

    assert_eq!(peers.delivered_ids(5).await, ["0", "0", "1", "2", "3"]);
}

#[tokio::test]
async fn no_more_deliveries_run_at_the_same_time_than_configured() {
    const N_AT_ONCE: usize = 2;
    const ANSWER_TIME: Duration = Duration::from_millis(10);
    let peers = Peers::start().await;
    peers
        .recipient
        .respond_with(|_, _| Reply::status(200).after(ANSWER_TIME));
    let _app = peers
        .app(&[ALL_TOPICS, ("DELIVERY_CONCURRENCY", &N_AT_ONCE.to_string())])
        .await;

    peers
        .publish_all((0..20).map(|number| event_in(&format!("c{number}"), "e")))
        .await;

    let journal = peers.delivered(20).await;
    for pair in journal.windows(N_AT_ONCE + 1) {
        let between = pair[N_AT_ONCE].arrived - pair[0].arrived;
        assert!(between >= ANSWER_TIME, "a third one came after {between:?}");
    }
}

#[tokio::test]
async fn a_service_that_hangs_is_asked_again_after_the_time_limit() {
    let peers = Peers::start().await;
    peers
        .recipient
        .respond_with(|_, nth| if nth == 0 { Reply::Hang } else { Reply::status(200) });
    let process = peers.process(&[ALL_TOPICS, ("DELIVERY_TIMEOUT", "200ms")]).await;

    peers.publish(&event("e1")).await;

    let journal = peers.delivered(2).await;
    assert_eq!((event_id(&journal[1]).as_str(), journal[1].connection), ("e1", 1));
    let line = process.wait_for_log("trying again", SOON).await.unwrap();
    assert!(line.contains("no answer within 200ms"), "{line}");
}

#[tokio::test]
async fn a_connection_that_breaks_is_no_delivery() {
    let peers = Peers::start().await;
    peers
        .recipient
        .respond_with(|_, nth| if nth % 2 == 1 { Reply::Reset } else { Reply::status(200) });
    let _app = peers.app(&[ALL_TOPICS]).await;

    peers.publish_all([event("e1"), event("e2")]).await;

    assert_eq!(peers.delivered_ids(3).await, ["e1", "e2", "e2"]);
}

#[tokio::test]
async fn giving_up_is_an_error_in_the_log_and_the_next_event_goes_on() {
    let peers = Peers::start().await;
    peers
        .recipient
        .respond_with(|_, nth| Reply::status(if nth == 0 { 500 } else { 200 }));
    let process = peers.process(&[ALL_TOPICS, ("DELIVERY_RETRY", "0")]).await;

    peers.publish_all([event("e1"), event("e2")]).await;

    assert_eq!(peers.delivered_ids(2).await, ["e1", "e2"]);
    let line = process.wait_for_log("dead letter; ", SOON).await.unwrap();
    let words = [
        "ERROR",
        "e1",
        TASK_TRIGGERED,
        "reason=\"retries_exhausted\"",
        "status=500",
        "attempt=1",
        "error=\"answered 500",
    ];
    for word in words {
        assert!(line.contains(word), "{word} is missing: {line}");
    }
    process.wait_for_log(" delivered ", SOON).await.unwrap();
    assert_eq!(lines_with(&process, "ERROR").len(), 1);
}
