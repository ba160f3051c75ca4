use serde_json::json;

use super::super::model::{Connection, DeadLetters, HeldBack, InFlight, Retrying, StreamLag, Subscription};
use super::*;

fn quiet() -> Status {
    Status {
        time: "2026-11-23T02:20:00.000Z".to_owned(),
        service: "http://127.0.0.1:8080/".to_owned(),
        subscriptions: vec![Subscription {
            event: "a".to_owned(),
            received_from: "the stream keptn".to_owned(),
            ..Subscription::default()
        }],
        ..Status::default()
    }
}

/// The most serious finding has this level and begins like this.
fn check(status: &Status, level: Level, start: &str) {
    let findings = findings(status);
    assert_eq!(findings[0].level, level, "{findings:#?}");
    assert!(findings[0].title.starts_with(start), "{findings:#?}");
    assert!(findings.iter().all(|finding| !finding.advice.is_empty()));
}

#[test]
fn where_nothing_is_wrong_it_says_so() {
    check(&quiet(), Level::Ok, "Ready: no event has come yet");
    let mut status = quiet();
    status.flow.received.total = 7;
    check(&status, Level::Ok, "Ready: everything is done");
    status.flow.received_history = vec![0, 3];
    check(
        &status,
        Level::Ok,
        "Delivering to http://127.0.0.1:8080/: 0.0 events a second",
    );
}

#[test]
fn a_service_that_is_not_ready_is_said_with_what_waits() {
    let mut status = quiet();
    status.held_back = Some(HeldBack {
        since: "2026-11-23T02:14:07.123Z".to_owned(),
        error: "answered 503 Service Unavailable".to_owned(),
    });
    status.streams = vec![StreamLag {
        waiting: Some(1204),
        ..StreamLag::default()
    }];
    check(
        &status,
        Level::Stuck,
        "Held back: the service at http://127.0.0.1:8080/ is not ready since 02:14:07 UTC (answered 503 Service \
         Unavailable); 1,204 events wait in NATS",
    );
    status.in_flight.total = 1;
    status.held_back.as_mut().unwrap().since = "2026-11-22T23:00:00.000Z".to_owned();
    check(
        &status,
        Level::Stuck,
        "Held back: the service at http://127.0.0.1:8080/ is not ready since 2026-11-22 23:00:00 UTC",
    );
    assert!(
        findings(&status)[0]
            .title
            .ends_with("; 1,204 events wait in NATS and 1 here")
    );
}

#[test]
fn the_most_serious_comes_first() {
    let mut status = quiet();
    status.dead_letters = DeadLetters {
        total: Some(2),
        by_reason: [("plugin".to_owned(), 2)].into(),
        ..DeadLetters::default()
    };
    check(
        &status,
        Level::Attention,
        "2 events could not be delivered and are kept as dead letters (2 failed in a plugin)",
    );
    status.retrying = vec![Retrying {
        attempts: 3,
        error: "answered 500".to_owned(),
        ..Retrying::default()
    }];
    check(
        &status,
        Level::Stuck,
        "Nothing gets through: 1 event is tried again; the last error: answered 500",
    );
    status.flow.delivered_history = vec![1];
    status.retrying[0].n_behind = 2;
    status.in_flight = InFlight {
        retrying: 3,
        ..InFlight::default()
    };
    check(
        &status,
        Level::Attention,
        "3 events are tried again, and 2 wait behind in order; the last error: answered 500",
    );
    status.connections = vec![Connection {
        name: "NATS".to_owned(),
        address: "keptn-nats:4222".to_owned(),
        ..Connection::default()
    }];
    check(
        &status,
        Level::Stuck,
        "No events come: there is no connection to NATS at keptn-nats:4222",
    );
}

#[test]
fn plugins_that_fail_or_are_refused_are_named() {
    let mut status = quiet();
    status.plugins = json!({
        "generation": 4, "degraded": true, "refused": {"problems": ["a.wasm: is no component"]}, "plugins": []
    });
    check(
        &status,
        Level::Attention,
        "The plugins in PLUGINS_DIR were refused, and generation 4 stays in force: a.wasm: is no component",
    );
    status.plugins["plugins"] = json!([{"name": "suspect", "health": {"breaker": "open", "failures_in_row": 5}}]);
    check(
        &status,
        Level::Stuck,
        "The plugin suspect is not called: it failed 5 times in a row",
    );
}
