//! What plugins remember: state and metrics outlive instances and chains, and belong to one plugin.

use std::sync::Arc;

use distributor::event::Event;
use distributor::plugins::{Chain, Compiler, Context, Direction, Fate, Grants, Host, Metric, Settings, load};
use serde_json::json;

use crate::harness::*;

/// A plugin that counts events in its state, a counter and a gauge, and says how many it counted.
async fn counting(host: &Arc<Host>, name: &str, grants: Grants) -> Chain {
    let settings = Settings {
        grants,
        config: json!({"behaviour": "state-count"}),
        ..Settings::named(name)
    };
    let plugin = load(host, &guest("guest_misbehaving.wasm"), settings).await.unwrap();
    Chain::new(1, vec![Arc::new(plugin)])
}

const WITH_STATE: Grants = Grants {
    publish: false,
    state: true,
};

fn host() -> Arc<Host> {
    Arc::new(Host::new(Compiler::in_process()).unwrap())
}

async fn answer(chain: &Chain) -> String {
    let context = Context {
        direction: Direction::Incoming,
        subscription: None,
        received_on: TASK_TRIGGERED,
        receipt: 1,
        span: None,
    };
    let event = Event::parse(event("e").to_bytes()).unwrap();
    match chain.run(&event, &context).await.unwrap().fate {
        Fate::Dropped { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn state_and_metrics_go_on_in_the_next_chain() {
    let host = host();
    let old = counting(&host, "counter", WITH_STATE).await;
    assert_eq!(answer(&old).await, "event 1");
    let new = counting(&host, "counter", WITH_STATE).await;
    assert_eq!(answer(&new).await, "event 2");
    // An event that is still on the old chain shares it.
    assert_eq!(answer(&old).await, "event 3");
    drop(old);
    assert_eq!(answer(&new).await, "event 4");
    let metrics = new.plugins[0].metrics();
    assert_eq!(metrics["events_total"], Metric::Counter(4));
    assert_eq!(metrics["events"], Metric::Gauge(4.0));
}

#[tokio::test]
async fn plugins_do_not_see_the_state_of_each_other() {
    let host = host();
    let (one, other) = (
        counting(&host, "one", WITH_STATE).await,
        counting(&host, "other", WITH_STATE).await,
    );
    assert_eq!(answer(&one).await, "event 1");
    assert_eq!(answer(&one).await, "event 2");
    assert_eq!(answer(&other).await, "event 1");
    let denied = counting(&host, "one", Grants::default()).await;
    assert_eq!(answer(&denied).await, "not counted");
    assert_eq!(
        answer(&one).await,
        "event 3",
        "the grant belongs to the entry, the state to the name"
    );
}

#[tokio::test]
async fn a_plugin_that_is_not_yet_in_the_chain_cannot_change_the_state() {
    let host = host();
    let running = counting(&host, "counter", WITH_STATE).await;
    assert_eq!(answer(&running).await, "event 1");
    let settings = Settings {
        grants: WITH_STATE,
        config: json!({"behaviour": "state-in-configure"}),
        ..Settings::named("counter")
    };
    let refused = load(&host, &guest("guest_misbehaving.wasm"), settings).await;
    assert!(refused.unwrap_err().to_string().contains("not counted"));
    assert_eq!(answer(&running).await, "event 2");
}

#[tokio::test]
async fn events_at_the_same_time_are_each_counted_once() {
    const N_EVENTS: usize = 500;
    let chain = Arc::new(counting(&host(), "counter", WITH_STATE).await);
    let mut answers = tokio::task::JoinSet::new();
    for _ in 0..N_EVENTS {
        let chain = Arc::clone(&chain);
        answers.spawn(async move { answer(&chain).await });
    }
    let mut answers = answers.join_all().await;
    answers.sort();
    let mut expected: Vec<_> = (1..=N_EVENTS).map(|number| format!("event {number}")).collect();
    expected.sort();
    assert_eq!(answers, expected);
}
