use std::collections::BTreeMap;
use std::time::SystemTime;

use super::*;
use crate::delivery::DeliveryReport;
use crate::metrics::HistogramReport;
use crate::plugins::{ChainReport, Refusal, ReloadReport};
use crate::registration::RegistrationTotals;

/// One that has nothing to complain of.
fn healthy() -> Snapshot {
    let none = || HistogramReport {
        count: 0,
        sum_seconds: 0.0,
        buckets: Vec::new(),
    };
    Snapshot {
        build: Build::default(),
        started: SystemTime::UNIX_EPOCH,
        is_draining: false,
        has_received: true,
        receiving: ReceivingReport {
            is_known: true,
            n_wanted: 1,
            n_subscriptions: 1,
            is_paused: false,
            core_subjects: vec!["a".to_owned()],
            streams: Vec::new(),
            n_polled: 0,
            memory: Vec::new(),
        },
        connection: ConnectionReport::Nats(NatsReport {
            is_connected: true,
            servers: String::new(),
            connects: 1,
            disconnects: 0,
            last_error: None,
            consumers: Vec::new(),
        }),
        flow: FlowReport::of(&Counters::default()),
        times: TimesReport {
            attempt: none(),
            latency: none(),
            proxied: none(),
        },
        deliveries: DeliveryReport {
            pending: 0,
            in_flight: 0,
            queued: 0,
            waiting: 0,
            is_gate_open: true,
            was_ready: true,
            oldest_seconds: None,
        },
        plugins: ChainReport {
            generation: 1,
            plugins: Vec::new(),
            trials: Vec::new(),
            reloads: ReloadReport {
                results: BTreeMap::new(),
                last: 0.0,
                refused: None,
            },
            compilations: 0,
            compilation_seconds: 0.0,
        },
        registration: Some(RegistrationReport {
            phase: RegistrationPhase::Registered,
            failed_in_row: 0,
            totals: RegistrationTotals::default(),
        }),
        oauth: None,
        error_log: None,
        process: ProcessReport::now(),
    }
}

/// What is not good after `change`, and whether that costs readiness.
fn complaints(change: impl FnOnce(&mut Snapshot)) -> (Vec<(&'static str, String)>, bool) {
    let mut snapshot = healthy();
    change(&mut snapshot);
    let checks = snapshot.checks();
    let complaints = checks.into_iter().filter(|check| check.condition != Condition::Good);
    let complaints = complaints.map(|check| (check.name, check.reason));
    (complaints.collect(), snapshot.is_ready())
}

fn nats_goes(snapshot: &mut Snapshot) {
    if let ConnectionReport::Nats(nats) = &mut snapshot.connection {
        nats.is_connected = false;
    }
}

#[track_caller]
fn check(change: impl FnOnce(&mut Snapshot), expected: &[(&str, &str)], is_ready: bool) {
    let (complaints, was_ready) = complaints(change);
    assert_eq!(was_ready, is_ready, "{complaints:?}");
    assert_eq!(complaints.len(), expected.len(), "{complaints:?}");
    for ((name, reason), (expected_name, part)) in complaints.iter().zip(expected) {
        assert_eq!(name, expected_name);
        assert!(reason.contains(part), "{reason}");
    }
}

#[test]
fn whoever_has_received_stays_ready_through_outages_of_others() {
    check(|_| {}, &[], true);
    let nats = [("receiving", "interrupted"), ("nats", "not connected")];
    check(nats_goes, &nats, true);
    let closed = |snapshot: &mut Snapshot| snapshot.deliveries.is_gate_open = false;
    check(closed, &[("recipient", "takes no events")], true);
    let beats = |snapshot: &mut Snapshot| {
        let registration = snapshot.registration.as_mut().unwrap();
        (registration.phase, registration.failed_in_row) = (RegistrationPhase::Degraded, 3);
    };
    check(beats, &[("registration", "last 3 heartbeats")], true);
    let refused = |snapshot: &mut Snapshot| {
        snapshot.plugins.reloads.refused = Some(Refusal {
            at: "then".to_owned(),
            problems: vec!["secret".to_owned()],
        });
    };
    check(refused, &[("plugins", "refused at then")], true);
    let paused = |snapshot: &mut Snapshot| snapshot.receiving.is_paused = true;
    check(paused, &[("receiving", "paused")], true);
}

#[test]
fn nobody_is_ready_before_the_first_event_could_come() {
    let never = |snapshot: &mut Snapshot| snapshot.has_received = false;
    check(never, &[("receiving", "nothing is subscribed")], false);
    let unknown = |snapshot: &mut Snapshot| {
        snapshot.has_received = false;
        snapshot.receiving.is_known = false;
    };
    check(unknown, &[("receiving", "has not said yet")], false);
    let away = |snapshot: &mut Snapshot| {
        snapshot.has_received = false;
        nats_goes(snapshot);
    };
    let expected = [("receiving", "no connection to NATS yet"), ("nats", "not connected")];
    check(away, &expected, false);
    let remote = |snapshot: &mut Snapshot| {
        snapshot.has_received = false;
        snapshot.connection = ConnectionReport::Api;
    };
    check(remote, &[("receiving", "has not answered a poll")], false);
}

#[test]
fn whoever_shuts_down_is_not_ready() {
    let draining = |snapshot: &mut Snapshot| {
        snapshot.is_draining = true;
        snapshot.deliveries.pending = 7;
    };
    check(draining, &[("shutdown", "7 events")], false);
}

#[test]
fn before_there_is_anything_to_see_it_lives_and_has_not_started() {
    let fails = |probe: Probe| {
        let checks = probe.checks(None);
        checks.iter().any(|check| check.condition == Condition::Failing)
    };
    assert!(!fails(Probe::Live));
    assert!(fails(Probe::Startup) && fails(Probe::Ready));
    let snapshot = healthy();
    let checks = Probe::Startup.checks(Some(&snapshot));
    assert!(checks.iter().all(|check| check.condition == Condition::Good));
}

#[test]
fn what_is_wanted_counts_as_received_when_anything_gives_it() {
    let snapshot = healthy();
    let active = |change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = snapshot.clone();
        change(&mut snapshot);
        snapshot.receiving.is_active(&snapshot.connection)
    };
    assert!(active(&|_| {}));
    assert!(!active(&nats_goes));
    assert!(!active(&|snapshot| snapshot.receiving.is_known = false));
    assert!(!active(&|snapshot| snapshot.receiving.core_subjects.clear()));
    assert!(active(&|snapshot| {
        snapshot.receiving.core_subjects.clear();
        snapshot.receiving.n_wanted = 0;
    }));
    let polled = |n_polled| {
        move |snapshot: &mut Snapshot| {
            snapshot.connection = ConnectionReport::Api;
            snapshot.receiving.n_polled = n_polled;
        }
    };
    assert!(!active(&polled(0)) && active(&polled(1)));
}
