//! What cannot be delivered: stored with its history, acknowledged only then, and delivered after all when an operator
//! wants it.

use std::collections::BTreeMap;
use std::path::Path;

use async_nats::Message;
use test_support::{Delivery, DistributorProcess, PublishedEvent, Reply, eventually};

use super::rig::{IN_TIME, Rig, STREAM, header_of};
use crate::harness::{TASK_TRIGGERED, json, lines_with};

/// The store of dead letters.
const DEAD_LETTERS: &str = "DISTRIBUTOR_DLQ";

async fn n_in_the_log(process: &DistributorProcess, wanted: &str, n: usize) {
    let is_there = async || lines_with(process, wanted).len() >= n;
    let result = eventually(IN_TIME, is_there).await;
    result.unwrap_or_else(|_| panic!("{n} times {wanted:?} in {:#?}", process.output().lines()));
}

#[tokio::test]
async fn an_event_that_always_fails_is_one_dead_letter_with_its_history() {
    let rig = Rig::start().await;
    let variables = [
        ("DELIVERY_RETRY", "2"),
        ("DELIVERY_BACKOFF_DELAY", "10ms"),
        ("JETSTREAM_DURABLE", "mine"),
    ];
    let process = rig.process(&variables).await;
    rig.recipient.respond_with(|request, _| {
        let is_poisoned = super::rig::key_in(&request.body) == "e.1";
        Reply::status(if is_poisoned { 500 } else { 200 })
    });
    let published = rig.published("e", 3, 30).await;
    let (poisoned, sound): (Vec<_>, Vec<_>) = published.into_iter().partition(|event| &*event.key == "e.1");
    rig.recipient.wait_until_accepted(sound.len(), IN_TIME).await.unwrap();
    rig.acknowledged().await;
    let verdict = rig.verdict(&sound);
    assert!(verdict.lost.is_empty() && verdict.inversions.is_empty(), "{verdict}");
    assert_eq!(verdict.n_attempts, sound.len() + 3 * poisoned.len(), "{verdict}");

    let letters = rig.dead_letters().await;
    assert_eq!(letters.len(), poisoned.len(), "{:#?}", lines_with(&process, "ERROR"));
    // One key, so in its order.
    for (letter, event) in letters.iter().zip(&poisoned) {
        let expected = [
            ("Distributor-Event-Id", &*event.id),
            ("Distributor-Event-Type", TASK_TRIGGERED),
            ("Distributor-Keptn-Context", "e.1"),
            ("Distributor-Reason", "retries_exhausted"),
            ("Distributor-Status", "500"),
            ("Distributor-Attempts", "3"),
            ("Distributor-Stream", STREAM),
            ("Distributor-Subject", TASK_TRIGGERED),
            ("Distributor-Error", "answered 500 Internal Server Error"),
        ];
        for (name, value) in expected {
            assert_eq!(header_of(letter, name), value, "{name}");
        }
        let time = |name: &str| humantime::parse_rfc3339(header_of(letter, name)).unwrap();
        assert!(time("Distributor-First-Attempt") < time("Distributor-Last-Attempt"));
        assert_eq!(
            letter.subject.as_str(),
            format!("distributor.dlq.mine.{TASK_TRIGGERED}")
        );
        let sequence = header_of(letter, "Distributor-Sequence");
        assert_eq!(header_of(letter, "Nats-Msg-Id"), format!("mine:{sequence}::0"));
        let stream = rig.jetstream.get_stream(STREAM).await.unwrap();
        let original = stream.get_raw_message(sequence.parse().unwrap()).await.unwrap();
        assert_eq!(letter.payload, original.payload, "byte for byte");
    }
}

#[tokio::test]
async fn a_head_that_is_given_up_frees_its_key() {
    let rig = Rig::start().await;
    let variables = [("DELIVERY_RETRY", "3"), ("DELIVERY_BACKOFF_DELAY", "20ms")];
    let _process = rig.process(&variables).await;
    let fails = |event: &PublishedEvent| event.number == 0 || event.number == 25;
    rig.recipient.respond_with(|request, _| {
        let event = json(&request.body);
        let id = event["id"].as_str().unwrap();
        let is_bad = id.ends_with("-0") || id.ends_with("-25");
        Reply::status(if is_bad { 500 } else { 200 })
    });
    // More than stay in memory while one is held up.
    let published = rig.published("e", 4, 400).await;
    let (bad, sound): (Vec<_>, Vec<_>) = published.into_iter().partition(fails);
    rig.recipient.wait_until_accepted(sound.len(), IN_TIME).await.unwrap();
    rig.acknowledged().await;
    let verdict = rig.verdict(&sound);
    assert!(verdict.is_perfect(), "{verdict}");
    assert_eq!(verdict.n_attempts, sound.len() + 4 * bad.len(), "{verdict}");
    assert_eq!(rig.dead_letters().await.len(), bad.len());
}

/// Takes all dead letters out of the store.
async fn taken_out(rig: &Rig) -> Vec<String> {
    let mut stream = rig.jetstream.get_stream(DEAD_LETTERS).await.unwrap();
    let state = stream.info().await.unwrap().state.clone();
    let mut ids = Vec::new();
    for sequence in state.first_sequence..=state.last_sequence {
        let Ok(message) = stream.get_raw_message(sequence).await else {
            continue;
        };
        ids.push(message.headers.get("Distributor-Event-Id").unwrap().to_string());
        stream.delete_message(sequence).await.unwrap();
    }
    ids
}

#[tokio::test]
async fn an_event_is_acknowledged_only_when_its_dead_letter_is_stored() {
    const N: usize = 6;
    let rig = Rig::start().await;
    let variables = [("DEAD_LETTER_MAX_BYTES", "5KiB"), ("JETSTREAM_ACK_WAIT", "1s")];
    let process = rig.process(&variables).await;
    rig.answer_keys(|key| key.starts_with('e'), 400);
    let published = rig.published("e", N, N).await;
    n_in_the_log(&process, "the event is held back", 1).await;
    let mut info = rig.consumer().await;
    let is_decided = async || {
        info = rig.consumer().await;
        info.num_ack_pending + rig.dead_letters().await.len() == N
    };
    eventually(IN_TIME, is_decided).await.unwrap();
    assert!((1..N).contains(&info.num_ack_pending), "{info:?}");
    let sound = rig.published("sound", 5, 50).await;
    rig.recipient.wait_until_accepted(sound.len(), IN_TIME).await.unwrap();

    let mut ids = Vec::new();
    let all_were_stored = async || {
        ids.extend(taken_out(&rig).await);
        ids.len() >= N
    };
    eventually(IN_TIME, all_were_stored).await.unwrap();
    rig.acknowledged().await;
    ids.extend(taken_out(&rig).await);
    ids.sort();
    let mut expected: Vec<_> = published.iter().map(|event| event.id.to_string()).collect();
    expected.sort();
    assert_eq!(ids, expected, "each once");
    assert_eq!(
        rig.recipient.n_received(),
        N + sound.len(),
        "what was decided is not tried again"
    );
}

#[tokio::test]
async fn dead_letters_of_a_stream_may_be_files() {
    let rig = Rig::start().await;
    let folder = tempfile::tempdir().unwrap();
    let blocker = folder.path().join("blocker");
    std::fs::write(&blocker, "a file where a directory should be").unwrap();
    let directory = blocker.join("letters");
    let place = format!("file:{}", directory.display());
    let variables = [("DEAD_LETTER", place.as_str()), ("JETSTREAM_DURABLE", "mine")];
    let process = rig.process(&variables).await;
    rig.answer_keys(|key| key == "e.0", 422);
    let published = rig.published("e", 2, 2).await;
    n_in_the_log(&process, "the event is held back", 1).await;
    assert_eq!(rig.consumer().await.num_ack_pending, 1);

    std::fs::remove_file(&blocker).unwrap();
    rig.acknowledged().await;
    assert_eq!(files_in(&directory), 1);
    assert_eq!(rig.dead_letters().await.len(), 0, "not there as well");
    let (_, stdout, stderr) = rig.dead_letter(&["list", "--json"], &variables).await;
    let listed = json(stdout.as_bytes());
    assert_eq!(listed["event_id"], *published[0].id, "{stderr}");
    assert_eq!((&listed["stream"], &listed["status"]), (&STREAM.into(), &422.into()));
    assert!(listed["stream_sequence"].is_u64(), "{listed}");

    rig.answer_keys(|_| true, 200);
    let (exit_code, stdout, stderr) = rig.dead_letter(&["redrive", "--all"], &variables).await;
    assert_eq!(exit_code, 0, "{stdout}{stderr}");
    assert_eq!(rig.verdict(&published).lost.len(), 0);
    assert_eq!(files_in(&directory), 0);
}

fn files_in(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let is_letter = |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|extension| extension == "json");
    entries.filter(is_letter).count()
}

#[tokio::test]
async fn what_a_sidecar_gave_up_is_delivered_by_a_redrive_while_it_runs() {
    let rig = Rig::start().await;
    let variables = [("DELIVERY_RETRY", "1"), ("DELIVERY_BACKOFF_DELAY", "10ms")];
    let _process = rig.process(&variables).await;
    rig.recipient.respond_with(|request, _| {
        let statuses: BTreeMap<_, _> = [("e.0", 500), ("e.1", 422), ("e.2", 413)].into();
        Reply::status(*statuses.get(super::rig::key_in(&request.body)).unwrap_or(&200))
    });
    let published = rig.published("e", 5, 50).await;
    rig.acknowledged().await;
    assert_eq!(rig.dead_letters().await.len(), 30);
    rig.answer_keys(|_| true, 200);

    let (exit_code, stdout, stderr) = rig.dead_letter(&["redrive", "--all", "--json"], &variables).await;
    assert_eq!(exit_code, 0, "{stdout}{stderr}");
    let summary = json(stdout.as_bytes());
    assert_eq!((&summary["delivered"], &summary["left"]), (&30.into(), &0.into()));
    let verdict = rig.verdict(&published);
    assert!(verdict.is_perfect(), "{verdict}");
    let attempts = rig.recipient.deliveries().into_iter().filter(Delivery::is_accepted);
    for delivery in attempts {
        let expected = match &*delivery.key {
            "e.0" => 3,
            "e.1" | "e.2" => 2,
            _ => 1,
        };
        assert_eq!(delivery.attempt, Some(expected), "it goes on counting: {delivery:?}");
    }
    assert_eq!(rig.dead_letters().await.len(), 0);
}

#[tokio::test]
async fn what_is_no_event_is_a_dead_letter_with_its_bytes_and_a_reason() {
    let rig = Rig::start().await;
    let process = rig.process(&[]).await;
    let deep = "{\"a\":[".repeat(50_000);
    let large = [b"\xff".as_slice(), "x".repeat(900_000).as_bytes()].concat();
    let malformed: [&[u8]; 14] = [
        b"",
        b"1",
        b"{",
        b"[]",
        b"null",
        b"no event",
        br#"{"specversion":"1.0","id":"i","source":"s","type":"t"} trailing"#,
        br#"{"specversion":"1.0","id":"i","type":"t"}"#,
        br#"{"specversion":"1.0","id":"i","source":"s"}"#,
        br#"{"specversion":"1.0","id":"i","source":"","type":"t"}"#,
        b"{\"specversion\":\"1.0\",\"id\":\"a\0b\",\"source\":\"s\",\"type\":\"t\"}",
        b"{\"specversion\":\"1.0\",\"id\":\"\xff\xfe\",\"source\":\"s\",\"type\":\"t\"}",
        deep.as_bytes(),
        &large,
    ];
    for (number, payload) in malformed.iter().enumerate() {
        rig.publish_bytes(TASK_TRIGGERED, payload.to_vec()).await;
        rig.published(&format!("after-{number}"), 1, 1).await;
    }
    rig.recipient
        .wait_until_accepted(malformed.len(), IN_TIME)
        .await
        .unwrap();
    rig.acknowledged().await;
    assert_eq!(rig.recipient.n_received(), malformed.len(), "none of them was sent");

    let mut letters = rig.dead_letters().await;
    let sequence = |letter: &Message| header_of(letter, "Distributor-Sequence").parse::<u64>().unwrap();
    letters.sort_by_key(sequence);
    assert_eq!(letters.len(), malformed.len());
    for (letter, payload) in letters.iter().zip(malformed) {
        let start = String::from_utf8_lossy(&payload[..payload.len().min(80)]).into_owned();
        assert_eq!(letter.payload, payload, "{start}");
        assert_eq!(header_of(letter, "Distributor-Reason"), "malformed", "{start}");
        assert_eq!(header_of(letter, "Distributor-Attempts"), "0", "{start}");
        assert_eq!(header_of(letter, "Distributor-Subject"), TASK_TRIGGERED, "{start}");
        assert!(header_of(letter, "Distributor-Error").len() > 10, "{start}");
    }
    let peak = process.peak_resident_memory().unwrap() >> 20;
    println!("peak {peak} MiB");
}
