//! Single steps of the event path: parsing, matching, and one call of the default filter, as a component and in native
//! code. Run with `make bench-micro`.

#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use distributor::config::FilterLists;
use distributor::event::Event;
use distributor::plugins::{
    BUILTINS, Chain, Compiler, Context, DEFAULT_FILTER_COMPONENT, Direction, Host, Settings, default_filter_settings,
    load,
};
use distributor::subject::Subject;
use distributor::subscription::{Interest, Subscription};
use keptn_filter::rules::{Fields, Lists, decide};
use serde_json::json;
use test_support::KeptnEvent;

const SUBJECT: &str = "sh.keptn.event.deployment.triggered";

fn event_bytes(size_bytes: usize) -> Bytes {
    let event = KeptnEvent {
        size_bytes,
        ..KeptnEvent::triggered("deployment")
    };
    event.to_bytes()
}

fn parsing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("parse");
    for size in [1 << 10, 32 << 10] {
        let bytes = event_bytes(size);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("event of {size} bytes"), |bencher| {
            bencher.iter(|| Event::parse(black_box(bytes.clone())).expect("it is an event"));
        });
        group.bench_function(
            format!("the same with serde_json, values thrown away, {size} bytes"),
            |bencher| {
                bencher.iter(|| {
                    serde_json::from_slice::<serde::de::IgnoredAny>(black_box(&bytes)).expect("it is JSON");
                });
            },
        );
    }
}

fn matching(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("match");
    for count in [1, 10_000] {
        let subscriptions = (0..count).map(|number| Subscription {
            id: number.to_string(),
            event: Subject::pattern(&format!("sh.keptn.event.task{number}.triggered")).expect("it is a subject"),
            projects: Vec::new(),
            stages: Vec::new(),
            services: Vec::new(),
        });
        let interest = Interest::subscriptions(subscriptions);
        let mut matches = Vec::new();
        group.bench_function(format!("one of {count} subscriptions"), |bencher| {
            bencher.iter(|| interest.matches(black_box("sh.keptn.event.task0.triggered"), &mut matches));
        });
    }
}

fn filtering(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("filter");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime can be started");
    let event = Event::parse(event_bytes(1 << 10)).expect("it is an event");
    let project = event.project().unwrap_or_default().into_owned();
    let lists = FilterLists {
        projects: vec!["another".to_owned(), project],
        ..FilterLists::default()
    };
    let chain = runtime.block_on(async {
        let host = Arc::new(Host::new(Compiler::in_process()).expect("the engine can be set up"));
        let filter = load(&host, DEFAULT_FILTER_COMPONENT, default_filter_settings(&lists)).await;
        Chain::new(1, vec![Arc::new(filter.expect("the default filter can be loaded"))])
    });
    let context = Context {
        direction: Direction::Incoming,
        subscription: None,
        received_on: SUBJECT,
        receipt: 1,
        span: None,
    };
    group.bench_function("component, warm", |bencher| {
        bencher
            .to_async(&runtime)
            .iter(|| chain.run(black_box(&event), &context));
    });
    let lists = Lists {
        projects: lists.projects,
        ..Lists::ACCEPT_ALL
    };
    group.bench_function("native, fields extracted", |bencher| {
        bencher.iter(|| {
            let (project, stage, service) = (event.project(), event.stage(), event.service());
            let fields = Fields {
                project: project.as_deref(),
                stage: stage.as_deref(),
                service: service.as_deref(),
            };
            decide(black_box(&lists), fields)
        });
    });
}

/// The plugins that are asked for by name, on the default chain's event.
fn stock_plugins(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stock plugins");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime can be started");
    let event = Event::parse(event_bytes(1 << 10)).expect("it is an event");
    let context = Context {
        direction: Direction::Incoming,
        subscription: None,
        received_on: SUBJECT,
        receipt: 1,
        span: None,
    };
    let cel = json!({"expression": "data.project == \"sockshop\" && data.stage in [\"dev\", \"prod\"]"});
    let jq = json!({"program": ".owner = $event.source | del(.labels)"});
    for (name, config) in [("cel-filter", cel), ("jq-transform", jq)] {
        let builtin = BUILTINS.iter().find(|builtin| builtin.name == name);
        let component = builtin.expect("it comes with the distributor").component();
        let settings = Settings {
            config,
            ..Settings::named(name)
        };
        let chain = runtime.block_on(async {
            let host = Arc::new(Host::new(Compiler::in_process()).expect("the engine can be set up"));
            let plugin = load(&host, &component, settings).await.expect("it can be loaded");
            Chain::new(1, vec![Arc::new(plugin)])
        });
        group.bench_function(format!("{name}, warm"), |bencher| {
            bencher
                .to_async(&runtime)
                .iter(|| chain.run(black_box(&event), &context));
        });
    }
}

criterion_group!(benches, parsing, matching, filtering, stock_plugins);
criterion_main!(benches);
