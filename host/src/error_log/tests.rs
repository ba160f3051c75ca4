//! Entries are compared with what the original made of the same events.

use std::time::UNIX_EPOCH;

use bytes::Bytes;
use serde_json::{Value, json};

use super::entry::to_json;
use super::*;
use crate::dead_letter::Reason;

/// 2026-11-22T14:48:38.250Z
const ACCEPTED: Duration = Duration::from_millis(1_795_358_918_250);

fn event(ty: &str, data: &str) -> Event {
    let text = format!(
        r#"{{"specversion":"1.0","id":"i","source":"s","type":"{ty}","shkeptncontext":"c1","triggeredid":"t1"{data}}}"#
    );
    Event::parse(Bytes::from(text)).unwrap()
}

fn entry_of(ty: &str, data: &str) -> Result<Option<Entry>, ErrorLogError> {
    Entry::of(&event(ty, data), UNIX_EPOCH + ACCEPTED)
}

/// The one entry of a request.
fn sent(entry: Entry) -> Value {
    let request: Value = serde_json::from_slice(&to_json(&[Arc::new(entry)], "own-id")).unwrap();
    request["logs"][0].clone()
}

fn error_log() -> ErrorLog {
    let (_, integration) = watch::channel(None);
    ErrorLog::new(integration, Arc::default())
}

fn entry(message: &str) -> Entry {
    let data = json!({ "message": message });
    let entry = entry_of(LOG_TYPE, &format!(r#","data":{data}"#)).unwrap();
    entry.unwrap()
}

fn queued(log: &ErrorLog) -> Vec<String> {
    let queue = log.queue();
    queue.entries.iter().map(|entry| entry.message().to_owned()).collect()
}

#[test]
fn a_request_is_as_the_original_sent_it_but_for_the_time() {
    let errored = r#","data":{"project":"p","status":"errored","result":"fail","message":"boom"}"#;
    let finished = entry_of("sh.keptn.event.task.finished", errored).unwrap().unwrap();
    let data = r#","data":{"message":"m","task":"deployment","integrationid":"other-int"}"#;
    let reported = entry_of(LOG_TYPE, data).unwrap().unwrap();
    let request = to_json(&[Arc::new(finished), Arc::new(reported)], "int-1");
    assert_eq!(
        String::from_utf8(request).unwrap(),
        r#"{"logs":[{"integrationid":"int-1","message":"boom","time":"2026-11-22T14:48:38.250Z","shkeptncontext":"c1","task":"task","triggeredid":"t1","gitcommitid":""},{"integrationid":"other-int","message":"m","time":"2026-11-22T14:48:38.250Z","shkeptncontext":"c1","task":"deployment","triggeredid":"t1","gitcommitid":""}]}"#
    );
}

#[test]
fn only_errors_are_entries() {
    let check = |ty: &str, data: &str, expected: Option<&str>| {
        let entry = entry_of(ty, data).unwrap_or_else(|error| panic!("{ty} {data}: {error}"));
        let message = entry.as_ref().map(Entry::message);
        assert_eq!(message, expected, "{ty} {data}");
    };
    let errored = r#","data":{"status":"errored","message":"m"}"#;
    check("sh.keptn.event.deployment.finished", errored, Some("m"));
    check("sh.keptn.event.dev.delivery.finished", errored, Some("m"));
    check("sh.keptn.event.deployment.started", errored, None);
    check("sh.keptn.event.deployment.triggered", errored, None);
    check("sh.keptn.event.deployment.unfinished", errored, None);
    let finished = "sh.keptn.event.deployment.finished";
    check(finished, r#","data":{"status":"errored"}"#, Some(""));
    check(finished, r#","data":{"status":"errored","message":null}"#, Some(""));
    check(finished, r#","data":{"status":"succeeded","message":"m"}"#, None);
    check(finished, r#","data":{"status":"succeeded","result":"fail"}"#, None);
    check(finished, r#","data":{"result":"fail"}"#, None);
    check(finished, "", None);
    check(LOG_TYPE, r#","data":{"message":"m"}"#, Some("m"));
    check(LOG_TYPE, r#","data":{"message":null,"odd":1}"#, Some(""));
}

#[test]
fn undecodable_data_is_an_error_and_no_entry() {
    let check = |ty: &str, data: &str| assert!(entry_of(ty, data).is_err(), "{ty} {data}");
    check("sh.keptn.event.deployment.finished", r#","data":"text""#);
    check("sh.keptn.event.deployment.finished", r#","data":{"status":1}"#);
    check("sh.keptn.event.deployment.finished", r#","data_base64":"AA==""#);
    check(LOG_TYPE, r#","data":[1]"#);
    check(LOG_TYPE, r#","data":{"message":{}}"#);
    check(LOG_TYPE, "");
}

#[test]
fn the_task_is_in_types_of_five_parts() {
    let check = |ty: &str, expected: &str| {
        let entry = entry_of(ty, r#","data":{"status":"errored"}"#).unwrap().unwrap();
        assert_eq!(sent(entry)["task"], expected, "{ty}");
    };
    check("sh.keptn.event.deployment.finished", "deployment");
    check("sh.keptn.event.dev.delivery.finished", "");
    check("task.finished", "");
    check("sh.keptn.event..finished", "");
}

#[test]
fn an_event_that_is_given_up_is_reported_for_the_task_it_triggered() {
    let letter = DeadLetter {
        payload: Bytes::new(),
        is_child: false,
        event_id: "e1".to_owned(),
        event_type: "sh.keptn.event.deployment.triggered".to_owned(),
        keptn_context: "c1".to_owned(),
        reason: Reason::RetriesExhausted,
        status: Some(500),
        error: "the service answered 500\nand more".to_owned(),
        attempts: 11,
        first_attempt: None,
        last_attempt: None,
        stream: None,
        sequence: None,
        subject: "sh.keptn.event.deployment.triggered".to_owned(),
        subscription_id: None,
        plugin: None,
        generation: 1,
        emission: 0,
        message_id: None,
    };
    let log = error_log();
    log.not_delivered(&letter, Stored::Nats);
    let entry = log.queue().entries[0].as_ref().clone();
    let sent = sent(entry);
    assert_eq!(
        sent["message"],
        "event e1 of type sh.keptn.event.deployment.triggered was not delivered to the service \
         (retries_exhausted, 11 attempts); the event is in the dead letters: the service answered 500 and more"
    );
    assert_eq!(sent["integrationid"], "own-id");
    assert_eq!(sent["task"], "deployment");
    assert_eq!(sent["triggeredid"], "e1");
    assert_eq!(sent["shkeptncontext"], "c1");
}

#[test]
fn the_oldest_entries_make_room_and_are_counted() {
    let log = error_log();
    for number in 0..MAX_ENTRIES {
        assert!(log.has_room_for(&[entry("")]));
        log.push(entry(&number.to_string()));
    }
    assert!(!log.has_room_for(&[entry("")]));
    log.push(entry("last"));
    let queued = queued(&log);
    assert_eq!((queued.len(), queued[0].as_str()), (MAX_ENTRIES, "1"));
    assert_eq!(queued.last().unwrap(), "last");
    assert_eq!(log.counters.unreported.value(), 1);
}

#[test]
fn bytes_are_bounded_as_well_and_long_messages_are_cut() {
    let log = error_log();
    let entry = entry(&"ä".repeat(MAX_BYTES / 8));
    for _ in 0..100 {
        log.push(entry.clone());
    }
    let more = vec![entry; 100];
    assert!(!log.has_room_for(&more[..1]) && error_log().has_room_for(&more));
    let bytes = log.queue().bytes;
    let n = log.n_queued();
    assert!(bytes <= MAX_BYTES && n > 10, "{n} entries of {bytes} bytes");
    assert_eq!(log.counters.unreported.value(), 100 - n as u64);
    let batch = log.queue().batch(MAX_BATCH);
    assert!(batch.entries.iter().map(|entry| entry.size()).sum::<usize>() <= MAX_BATCH_BYTES);
    assert!(!batch.entries.is_empty());
}

#[test]
fn what_was_dropped_while_it_was_being_sent_is_not_removed_twice() {
    let log = error_log();
    for number in 0..MAX_ENTRIES {
        log.push(entry(&number.to_string()));
    }
    let batch = log.queue().batch(2);
    log.push(entry("last"));
    log.queue().remove(&batch);
    assert_eq!(queued(&log)[0], "2");
    assert_eq!(log.n_queued(), MAX_ENTRIES - 1);
}
