//! The built-in filter as a component: it decides what the rules decide, and what the environment asked for.

use std::sync::Arc;

use bytes::Bytes;
use keptn_filter::rules::{Decision, Fields, Lists, decide};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::config::FilterLists;
use crate::event::Event;
use crate::subject::Subject;
use crate::subscription::Subscription;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
}

async fn chain(lists: FilterLists) -> Chain {
    let host = Arc::new(Host::new(Compiler::in_process()).unwrap());
    let filter = load(&host, DEFAULT_FILTER_COMPONENT, default_filter_settings(&lists))
        .await
        .unwrap();
    Chain::new(1, vec![Arc::new(filter)])
}

fn lists(projects: &[&str], stages: &[&str], services: &[&str]) -> FilterLists {
    let owned = |list: &[&str]| list.iter().map(|&item| item.to_owned()).collect();
    FilterLists {
        projects: owned(projects),
        stages: owned(stages),
        services: owned(services),
    }
}

fn event(data: &str) -> Event {
    let text =
        format!(r#"{{"specversion":"1.0","id":"i","source":"s","type":"sh.keptn.event.x.triggered","data":{data}}}"#);
    Event::parse(Bytes::from(text)).unwrap()
}

/// The reason why the event was dropped; none when it passed.
async fn drop_reason(chain: &Chain, event: &Event, subscription: Option<&Subscription>) -> Option<String> {
    let context = Context {
        direction: Direction::Incoming,
        subscription,
        received_on: "sh.keptn.event.x.triggered",
        receipt: 1,
        span: None,
    };
    match chain.run(event, &context).await.unwrap().fate {
        Fate::Unchanged => None,
        Fate::Dropped { by, reason } => {
            assert_eq!(&*by, DEFAULT_FILTER);
            Some(reason)
        }
        Fate::Replaced(_) => panic!("a filter cannot change an event"),
    }
}

#[test]
fn a_plugin_at_rest_holds_no_instance_and_runs_when_it_is_called() {
    runtime().block_on(async {
        let chain = chain(lists(&["p1"], &[], &[])).await;
        for _ in 0..2 {
            chain.plugins[0].rest();
            assert_eq!(chain.plugins[0].n_idle(), 0);
            let reason = drop_reason(&chain, &event(r#"{"project":"p2"}"#), None).await;
            assert!(reason.is_some());
            assert_eq!(chain.plugins[0].n_idle(), 1);
        }
    });
}

#[test]
fn lists_of_the_environment_decide_where_no_subscription_matched() {
    runtime().block_on(async {
        let check = async |lists: FilterLists, data: &str, expected: Option<&str>| {
            let reason = drop_reason(&chain(lists.clone()).await, &event(data), None).await;
            assert_eq!(reason.as_deref(), expected, "{lists:?} {data}");
        };
        check(lists(&[], &[], &[]), r#"{"project":"p3"}"#, None).await;
        check(lists(&[], &[], &[]), "[1,2]", None).await;
        check(lists(&["p1", "p2"], &[], &[]), r#"{"project":"p2"}"#, None).await;
        check(
            lists(&["p1", "p2"], &[], &[]),
            r#"{"project":"p3"}"#,
            Some("project \"p3\" is not one of p1,p2"),
        )
        .await;
        check(lists(&["a", ""], &[], &[]), "{}", None).await;
        check(
            lists(&["a"], &[], &[]),
            r#"{"project":5}"#,
            Some("data cannot be decoded"),
        )
        .await;
        check(lists(&[], &["dev"], &[]), r#"{"project":5,"stage":"dev"}"#, None).await;
    });
}

#[test]
fn the_lists_of_the_matched_subscription_replace_those_of_the_environment() {
    runtime().block_on(async {
        let chain = chain(lists(&["never"], &[], &[])).await;
        let subscription = Subscription {
            id: "sub-1".to_owned(),
            event: Subject::pattern("sh.keptn.>").unwrap(),
            projects: Vec::new(),
            stages: vec!["dev".to_owned(), "prod".to_owned()],
            services: vec![String::new()],
        };
        let check = async |data: &str, passes: bool| {
            let reason = drop_reason(&chain, &event(data), Some(&subscription)).await;
            assert_eq!(reason.is_none(), passes, "{data}: {reason:?}");
        };
        check(r#"{"project":"any","stage":"prod","service":"s"}"#, true).await;
        check(r#"{"project":"any","stage":"staging"}"#, false).await;
    });
}

/// An item with every oddity that the lists know: commas, blanks, nothing.
fn item() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "", " a", "a,b", "ü", "a\"b"]).prop_map(str::to_owned)
}

fn list() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(item(), 0..3)
}

#[test]
fn the_component_decides_as_the_native_rules_do() {
    let runtime = runtime();
    let chain = runtime.block_on(chain(FilterLists::default()));
    let cases = (
        list(),
        list(),
        list(),
        prop::option::of(item()),
        prop::option::of(item()),
        prop::option::of(item()),
    );
    let mut runner = proptest::test_runner::TestRunner::default();
    let ran = runner.run(&cases, |(projects, stages, services, project, stage, service)| {
        // A field that is none in the rules is one that cannot be decoded in the event.
        let value = |field: &Option<String>| field.as_ref().map_or_else(|| json!(7), |text| json!(text));
        let data = json!({"project": value(&project), "stage": value(&stage), "service": value(&service)});
        let subscription = Subscription {
            id: String::new(),
            event: Subject::pattern("x").unwrap(),
            projects: projects.clone(),
            stages: stages.clone(),
            services: services.clone(),
        };
        let fields = Fields {
            project: project.as_deref(),
            stage: stage.as_deref(),
            service: service.as_deref(),
        };
        let expected = match decide(
            &Lists {
                projects,
                stages,
                services,
            },
            fields,
        ) {
            Decision::Pass => None,
            Decision::Drop(reason) => Some(reason),
        };
        let reason = runtime.block_on(drop_reason(&chain, &event(&data.to_string()), Some(&subscription)));
        prop_assert_eq!(reason, expected);
        Ok(())
    });
    ran.unwrap();
}
