//! What the service says and when: every status, pauses it asks for, and answers that are about one event alone.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use test_support::{DistributorProcess, Rate, Reply, Verdict, eventually};

use super::rig::{IN_TIME, Rig, header_of, peak_mebibytes};
use crate::harness::{event_in, json, lines_with, post};

/// So many events are in memory at most.
const MAX_IN_MEMORY: usize = 256;

/// A number in a line of the log.
fn number_in(line: &str, field: &str) -> u64 {
    let start = format!("{field}=");
    let value = line.split_whitespace().find_map(|word| word.strip_prefix(&start));
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("{field} in {line}"))
}

fn id_in(event: &[u8]) -> String {
    json(event)["id"].as_str().unwrap_or_default().to_owned()
}

/// The attempts that an event came with, with the answers.
fn attempts_of(rig: &Rig, id: &str) -> Vec<(u32, u16)> {
    let deliveries = rig.recipient.deliveries();
    let own = deliveries.iter().filter(|delivery| &*delivery.id == id);
    own.map(|delivery| (delivery.attempt.unwrap_or(0), delivery.status.unwrap_or(0)))
        .collect()
}

async fn publish(rig: &Rig, key: &str, id: &str) {
    let event = event_in(key, id);
    rig.publish_bytes(&event.ty, event.to_bytes()).await;
}

#[tokio::test]
async fn what_a_service_that_is_down_cannot_take_stays_in_the_stream() {
    let mut rig = Rig::start().await;
    let process = rig.process(&[]).await;
    let mut published = rig.published("before", 50, 50).await;
    rig.everything_settled(&published).await;
    rig.recipient.stop().await;
    let n_late = 4 * MAX_IN_MEMORY;
    published.extend(rig.published("late", 100, n_late).await);
    process.wait_for_log("the service is not ready", IN_TIME).await.unwrap();
    // What the server was asked for before is sent, and nothing is asked for after that.
    let is_silent = async || rig.consumer().await.num_waiting == 0;
    eventually(IN_TIME, is_silent).await.unwrap();
    let n_in_memory = rig.consumer().await.num_ack_pending;
    assert!(n_in_memory <= MAX_IN_MEMORY, "{n_in_memory}");
    published.extend(rig.published("later", 100, 100).await);
    let info = rig.consumer().await;
    assert_eq!(info.num_ack_pending, n_in_memory);
    assert_eq!(usize::try_from(info.num_pending).unwrap(), n_late + 100 - n_in_memory);

    rig.recipient.start_again().await.unwrap();
    let verdict = rig.everything_settled(&published).await;
    assert!(verdict.is_perfect(), "{verdict}");
    assert_eq!(verdict.n_attempts, published.len(), "{verdict}");
    let deliveries = rig.recipient.deliveries();
    assert!(deliveries.iter().all(|delivery| delivery.attempt == Some(1)));
    println!("{verdict}, peak {} MiB", peak_mebibytes(&process));
}

#[tokio::test]
async fn a_service_that_recovers_sees_the_number_of_each_attempt() {
    const N_FAILURES: u32 = 5;
    const FIRST_MS: u64 = 20;
    const LONGEST_MS: u64 = 100;
    let rig = Rig::start().await;
    let variables = [("DELIVERY_BACKOFF_DELAY", "20ms"), ("DELIVERY_BACKOFF_MAX", "100ms")];
    let process = rig.process(&variables).await;
    rig.recipient.respond_with(|request, _| {
        let attempt: u32 = request.header("distributor-attempt").unwrap().parse().unwrap();
        Reply::status(if attempt <= N_FAILURES { 500 } else { 200 })
    });
    // No more lines than are written in a second.
    let published = rig.published("e", 10, 20).await;
    let verdict = rig.everything_settled(&published).await;
    assert!(verdict.is_perfect(), "{verdict}");
    let failed = (1..=N_FAILURES).map(|attempt| (attempt, 500));
    let expected: Vec<_> = failed.chain([(N_FAILURES + 1, 200)]).collect();
    for event in &published {
        assert_eq!(attempts_of(&rig, &event.id), expected, "{}", event.id);
    }

    let mut arrivals: HashMap<_, Vec<_>> = HashMap::new();
    for delivery in rig.recipient.deliveries() {
        arrivals
            .entry(delivery.id.to_string())
            .or_default()
            .push(delivery.arrived);
    }
    let lines = lines_with(&process, "trying again");
    assert_eq!(lines.len(), published.len() * N_FAILURES as usize);
    for line in lines {
        let attempt = number_in(&line, "attempt");
        let pause = number_in(&line, "next_attempt_ms");
        let longest = (FIRST_MS << (attempt - 1)).min(LONGEST_MS);
        assert!(pause <= longest, "{line}");
        let id = line.split("event_id=\"").nth(1).unwrap().split('"').next().unwrap();
        let attempt = usize::try_from(attempt).unwrap();
        let waited = arrivals[id][attempt] - arrivals[id][attempt - 1];
        assert!(waited >= Duration::from_millis(pause), "{waited:?}: {line}");
    }
}

#[tokio::test]
async fn every_status_means_what_the_documentation_says() {
    let rig = Rig::start().await;
    let process = rig.process(&[("DELIVERY_BACKOFF_DELAY", "20ms")]).await;
    publish(&rig, "ready", "ready").await;
    rig.acknowledged().await;
    // The id of an event is what its first attempt is answered with.
    rig.recipient.respond_with(|request, _| {
        let is_first = request.header("distributor-attempt") == Some("1");
        let status = id_in(&request.body).parse().unwrap();
        Reply::status(if is_first { status } else { 200 })
    });
    for status in 200..600 {
        publish(&rig, &status.to_string(), &status.to_string()).await;
    }
    rig.acknowledged().await;

    let mut letters: HashMap<_, Vec<_>> = HashMap::new();
    for letter in rig.dead_letters().await {
        let id = header_of(&letter, "Distributor-Event-Id").to_owned();
        letters.entry(id).or_default().push(letter);
    }
    for status in 200..600_u16 {
        let id = status.to_string();
        let attempts = attempts_of(&rig, &id);
        let given_up = letters.remove(&id).unwrap_or_default();
        let reasons: Vec<_> = given_up
            .iter()
            .map(|letter| header_of(letter, "Distributor-Reason"))
            .collect();
        match status {
            200..300 => assert_eq!((attempts.as_slice(), reasons.as_slice()), (&[(1, status)][..], &[][..])),
            404 | 408 | 409 | 425 | 429 | 500 | 502..600 => {
                let both = [(1, status), (2, 200)];
                assert_eq!((attempts.as_slice(), reasons.as_slice()), (&both[..], &[][..]));
            }
            _ => {
                let reason = if status == 413 { "too_large" } else { "permanent_status" };
                assert_eq!(
                    (attempts.as_slice(), reasons.as_slice()),
                    (&[(1, status)][..], &[reason][..])
                );
                assert_eq!(header_of(&given_up[0], "Distributor-Status"), id);
                assert_eq!(header_of(&given_up[0], "Distributor-Attempts"), "1");
                assert_eq!(given_up[0].payload, event_in(&id, &id).to_bytes(), "{id}");
            }
        }
    }
    assert!(letters.is_empty(), "{letters:?}");
    peak_mebibytes(&process);
}

#[tokio::test]
async fn a_pause_that_the_service_asks_for_is_kept_up_to_a_limit() {
    let rig = Rig::start().await;
    let process = rig.process(&[("DELIVERY_BACKOFF_DELAY", "20ms")]).await;
    let in_three_seconds = SystemTime::now() + Duration::from_secs(3);
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let limit = 300_000..=300_000;
    // Id, status, header, and the pause in milliseconds.
    let cases = [
        ("one-second", 429, "1".to_owned(), 1000..=1000),
        ("one-second-of-500", 500, "1".to_owned(), 1000..=1000),
        ("date", 503, httpdate::fmt_http_date(in_three_seconds), 500..=3000),
        ("past", 429, httpdate::fmt_http_date(long_ago), 0..=20),
        ("nothing", 429, String::new(), 0..=20),
        ("words", 503, "in a while".to_owned(), 0..=20),
        ("negative", 429, "-5".to_owned(), 0..=20),
        ("fraction", 429, "1.5".to_owned(), 0..=20),
        ("one-year", 503, "31536000".to_owned(), limit.clone()),
        ("no-number-holds-it", 429, "9".repeat(100), limit.clone()),
        ("far-date", 429, "Fri, 31 Dec 9999 23:59:59 GMT".to_owned(), limit),
    ];
    publish(&rig, "ready", "ready").await;
    rig.acknowledged().await;
    let headers: HashMap<_, _> = cases
        .iter()
        .map(|(id, status, text, _)| (*id, (*status, text.clone())))
        .collect();
    rig.recipient.respond_with(move |request, _| {
        let is_first = request.header("distributor-attempt") == Some("1");
        let (status, text) = headers[id_in(&request.body).as_str()].clone();
        if is_first {
            Reply::Status(status, vec![("Retry-After".to_owned(), text)])
        } else {
            Reply::status(200)
        }
    });
    for (id, ..) in &cases {
        publish(&rig, id, id).await;
    }
    let n_soon = cases.iter().filter(|(.., pause)| *pause.end() < 10_000).count();
    rig.recipient.wait_until_accepted(n_soon + 1, IN_TIME).await.unwrap();
    let lines = lines_with(&process, "trying again");
    for (id, _, text, expected) in cases {
        let own = lines.iter().find(|line| line.contains(&format!("event_id=\"{id}\"")));
        let pause = number_in(own.unwrap(), "next_attempt_ms");
        assert!(expected.contains(&pause), "{text:?}: {pause} ms");
        let deliveries = rig.recipient.deliveries();
        let arrivals: Vec<_> = deliveries.iter().filter(|delivery| &*delivery.id == id).collect();
        if let [first, second] = arrivals.as_slice() {
            assert!(second.arrived - first.arrived >= Duration::from_millis(pause), "{id}");
        }
    }
}

#[tokio::test]
async fn a_service_that_answers_late_and_has_started_gets_the_event_once_unless_told_otherwise() {
    for (mode, n_expected) in [("auto", 1), ("retry", 2)] {
        let rig = Rig::start().await;
        let variables = [
            ("DELIVERY_TIMEOUT", "1s"),
            ("DELIVERY_BACKOFF_DELAY", "10ms"),
            ("DELIVERY_ON_TIMEOUT", mode),
            ("PUBSUB_TOPIC", "sh.keptn.event.task.triggered"),
        ];
        let mut process = rig.starting_process(&variables);
        process.wait_until_ready(IN_TIME).await.unwrap();
        process.wait_for_log("durable consumer", IN_TIME).await.unwrap();
        rig.recipient.respond_with(|_, nth| {
            let late = Duration::from_millis(if nth == 0 { 1500 } else { 0 });
            Reply::status(200).after(late)
        });
        publish(&rig, "task", "task").await;
        rig.recipient.wait_until_received(1, IN_TIME).await.unwrap();
        let started = r#"{"specversion":"1.0","id":"s","source":"service","type":"sh.keptn.event.task.started","triggeredid":"task"}"#;
        assert_eq!(post(process.proxy_address(), started).await.status, 200);
        rig.acknowledged().await;
        assert_eq!(rig.recipient.n_received(), n_expected, "{mode}");
        assert_eq!(rig.dead_letters().await.len(), 0);
    }
}

#[tokio::test]
async fn what_is_not_delivered_goes_back_at_once_and_in_order_when_the_process_ends() {
    let rig = Rig::start().await;
    let variables = [
        ("DELIVERY_BACKOFF_DELAY", "10m"),
        ("DELIVERY_BACKOFF_MAX", "10m"),
        // Nothing but giving it back makes an event come again in time.
        ("JETSTREAM_ACK_WAIT", "10m"),
    ];
    let mut process: DistributorProcess = rig.process(&variables).await;
    rig.recipient
        .respond_with(|_, _| Reply::Status(500, vec![("Retry-After".to_owned(), "300".to_owned())]));
    let n_keys = 10;
    let published = rig.published("e", n_keys, 2 * MAX_IN_MEMORY).await;
    let all_wait = async || lines_with(&process, "trying again").len() == n_keys;
    eventually(IN_TIME, all_wait).await.unwrap();
    process.terminate().unwrap();
    assert_eq!(process.wait_exit(IN_TIME).await.unwrap().code(), Some(0));
    assert_eq!(rig.recipient.n_received(), n_keys);
    rig.recipient.respond_with(|_, _| Reply::status(200));
    let _process = rig.process(&variables).await;
    rig.everything_settled(&published).await;
    let verdict = Verdict::of(&published, &rig.recipient.deliveries()[n_keys..]);
    assert!(verdict.is_perfect(), "{verdict}");
    assert_eq!(rig.dead_letters().await.len(), 0);
}

/// Before the service has taken anything, 404 and 503 may mean that it is not there yet.
#[tokio::test]
async fn an_answer_that_is_about_one_event_does_not_make_the_others_wait() {
    for status in [404, 503] {
        let mut rig = Rig::start().await;
        let variables = [("DELIVERY_RETRY", "1"), ("DELIVERY_BACKOFF_DELAY", "20ms")];
        let process = rig.process(&variables).await;
        rig.answer_keys(|key| key == "bad", status);
        publish(&rig, "bad", "bad").await;
        process.wait_for_log("the service is not ready", IN_TIME).await.unwrap();
        // The server forgets what it was asked for before.
        rig.nats.restart().await.unwrap();
        let publisher = rig.publish("good", 5, Rate::Unlimited, Some(5));
        publisher.finish(IN_TIME).await.unwrap();
        rig.recipient.wait_until_accepted(5, IN_TIME).await.unwrap();
        rig.acknowledged().await;
        let letters = rig.dead_letters().await;
        assert_eq!(letters.len(), 1);
        assert_eq!(header_of(&letters[0], "Distributor-Event-Id"), "bad");
        assert_eq!(header_of(&letters[0], "Distributor-Attempts"), "2");
    }
}
