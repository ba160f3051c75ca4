use serde_json::json;

use super::*;
use crate::dead_letter::{JobKind, JobReport, Letter, Listing};
use crate::recent_events::{EventNames, RecentEvent, Step, StepKind};
use crate::status::{Connection, Finding, HeldBack, InFlight, Level, Retrying, Status, StreamLag, Subscription};

const HOSTILE: &str = "\"><script>alert(1)</script><img src=x onerror='alert(1)'>&amp;\u{202e}";

fn hostile() -> String {
    HOSTILE.to_owned()
}

fn names() -> EventNames {
    EventNames {
        id: hostile(),
        ty: hostile(),
        source: hostile(),
        keptn_context: hostile(),
        time: hostile(),
        subscription_id: Some(hostile()),
    }
}

fn listing() -> Listing {
    let letter = Letter {
        id: hostile(),
        stored: hostile(),
        reason: hostile(),
        error: hostile(),
        event_id: hostile(),
        event_type: hostile(),
        keptn_context: hostile(),
        subscription_id: Some(hostile()),
        plugin: Some(hostile()),
        ..Letter::default()
    };
    Listing {
        place: hostile(),
        as_of: Some(hostile()),
        total: 1,
        letters: vec![letter],
        error: Some(hostile()),
        ..Listing::default()
    }
}

fn status() -> Status {
    let mut status = Status {
        findings: [Level::Stuck, Level::Ok]
            .map(|level| Finding {
                level,
                title: hostile(),
                advice: hostile(),
            })
            .into(),
        version: hostile(),
        integration: hostile(),
        service: hostile(),
        time: hostile(),
        held_back: Some(HeldBack {
            since: hostile(),
            error: hostile(),
        }),
        in_flight: InFlight::default(),
        connections: vec![Connection {
            name: hostile(),
            address: hostile(),
            since: Some(hostile()),
            detail: hostile(),
            ..Connection::default()
        }],
        streams: vec![StreamLag {
            stream: hostile(),
            consumer: hostile(),
            ..StreamLag::default()
        }],
        subscriptions: vec![Subscription {
            id: Some(hostile()),
            event: hostile(),
            projects: vec![hostile()],
            stages: vec![hostile()],
            services: vec![hostile()],
            received_from: hostile(),
        }],
        retrying: vec![Retrying {
            names: names(),
            first_attempt: Some(hostile()),
            next_attempt: hostile(),
            error: hostile(),
            n_behind: 1,
            ..Retrying::default()
        }],
        plugins: json!({
            "generation": HOSTILE, "since": HOSTILE, "origin": {"kind": "rollback", "to": HOSTILE},
            "directory": HOSTILE, "obstacles": [HOSTILE], "previous": {"generation": 1},
            "plugins": [{
                "name": HOSTILE, "version": HOSTILE, "mode": HOSTILE, "hooks": [HOSTILE], "directions": [HOSTILE],
                "digest": HOSTILE, "health": {"breaker": HOSTILE}
            }],
            "history": [{"at": HOSTILE, "trigger": HOSTILE, "result": "refused", "problems": [HOSTILE], "generation": HOSTILE}],
        }),
        ..Status::default()
    };
    status.dead_letters.job = Some(JobReport {
        kind: JobKind::Redrive,
        started: hostile(),
        ended: Some(hostile()),
        selected: 1,
        delivered: 0,
        dropped: 0,
        deleted: 0,
        gone: 0,
        failed: 1,
        failures: Vec::new(),
        error: Some(hostile()),
    });
    status
}

#[test]
fn whatever_is_said_by_others_the_page_has_no_other_markup() {
    let recent = RecentEvent {
        names: names(),
        path: vec![Step {
            at: hostile(),
            step: StepKind::DeadLettered,
            text: hostile(),
        }],
    };
    let html = render(&status(), &listing(), &[recent]).into_string();
    assert!(html.matches("&lt;script&gt;").count() > 40, "{html}");
    for forbidden in ["<script", "<img", "onerror='", "\u{202e}", "&amp;amp;\u{202e}"] {
        assert!(!html.contains(forbidden), "{forbidden}: {html}");
    }
    // Whatever is between quotes stays there.
    assert_eq!(html.matches('"').count() % 2, 0);
}

#[test]
fn a_browser_runs_what_is_on_the_page_and_nothing_else() {
    let page = shell(None).into_string();
    let between = |start: &str, end: &str| {
        let (_, rest) = page.split_once(start).expect("it is there");
        rest.split_once(end).expect("it ends").0.to_owned()
    };
    let policy = policy();
    let policy = policy.to_str().unwrap();
    for (kind, text) in [
        ("style", between("<style>", "</style>")),
        ("script", between("<script>", "</script>")),
    ] {
        let hash = BASE64_STANDARD.encode(Sha256::digest(text));
        assert!(policy.contains(&format!("{kind}-src 'sha256-{hash}'")), "{policy}");
    }
    assert!(
        !policy.contains("unsafe") && policy.starts_with("default-src 'none';"),
        "{policy}"
    );
    for attribute in [" style=", " onclick=", " src="] {
        assert!(!page.contains(attribute), "{attribute}");
    }
}
