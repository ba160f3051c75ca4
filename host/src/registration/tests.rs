//! What is sent is compared byte by byte with what the original sent to a real control plane.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::messages::{Integration, Listed, Record, registered_id};
use super::{jittered, pause_after};
use crate::config;
use crate::keptn_api::ListReader;

/// As registered with this environment.
fn registered(variables: &[(&str, &str)]) -> String {
    let environment: HashMap<_, _> = variables.iter().copied().collect();
    let config = config::from_env(&|name| environment.get(name).map(|&value| value.to_owned())).unwrap();
    let wanted: Vec<_> = config
        .nats
        .topics
        .iter()
        .map(|topic| Record::wanted(topic, &config.filter))
        .collect();
    let registration = config.registration.as_ref().unwrap();
    let json = Integration::new(&config.workload, registration, &wanted).to_json();
    String::from_utf8(json).unwrap()
}

const TOPICS: &str = "sh.keptn.event.build.triggered,sh.keptn.event.verify.triggered";

#[test]
fn an_integration_in_the_cluster_is_registered_as_the_original_did() {
    let sent = registered(&[
        ("K8S_DEPLOYMENT_NAME", "rig-task-service"),
        ("K8S_NAMESPACE", "keptn"),
        ("K8S_POD_NAME", "rig-task-service-abc12"),
        ("K8S_NODE_NAME", "rig-node"),
        ("VERSION", "1.4.2"),
        ("DISTRIBUTOR_VERSION", "1.4.2"),
        ("PUBSUB_TOPIC", TOPICS),
    ]);
    let captured = r#"{"id":"","name":"rig-task-service","metadata":{"hostname":"rig-node","integrationversion":"1.4.2","distributorversion":"1.4.2","location":"control-plane","kubernetesmetadata":{"namespace":"keptn","podname":"rig-task-service-abc12","deploymentname":"rig-task-service"},"lastseen":"0001-01-01T00:00:00Z"},"subscriptions":[{"id":"","event":"sh.keptn.event.build.triggered","filter":{"projects":[],"stages":[],"services":[]}},{"id":"","event":"sh.keptn.event.verify.triggered","filter":{"projects":[],"stages":[],"services":[]}}]}"#;
    assert_eq!(sent, captured);
}

#[test]
fn an_integration_elsewhere_is_registered_as_the_original_did() {
    let sent = registered(&[
        ("KEPTN_API_ENDPOINT", "http://api-gateway-nginx:8080/api"),
        ("K8S_DEPLOYMENT_NAME", "rig-remote-service"),
        ("K8S_NAMESPACE", "keptn"),
        ("K8S_POD_NAME", "rig-remote-service-abc12"),
        ("K8S_NODE_NAME", "rig-node"),
        ("VERSION", "1.4.2"),
        ("DISTRIBUTOR_VERSION", "1.4.2"),
        ("PUBSUB_TOPIC", TOPICS),
    ]);
    let captured = r#"{"id":"","name":"rig-remote-service","metadata":{"hostname":"rig-node","integrationversion":"1.4.2","distributorversion":"1.4.2","location":"remote-execution-plane","kubernetesmetadata":{"namespace":"keptn","podname":"rig-remote-service-abc12","deploymentname":"rig-remote-service"},"lastseen":"0001-01-01T00:00:00Z"},"subscriptions":[{"id":"","event":"sh.keptn.event.build.triggered","filter":{"projects":[],"stages":[],"services":[]}},{"id":"","event":"sh.keptn.event.verify.triggered","filter":{"projects":[],"stages":[],"services":[]}}]}"#;
    assert_eq!(sent, captured);
}

#[test]
fn filters_go_into_every_subscription_and_no_node_has_a_name() {
    let sent = registered(&[
        ("KEPTN_API_ENDPOINT", "http://127.0.0.1/api"),
        ("K8S_DEPLOYMENT_NAME", "my-svc"),
        ("K8S_NAMESPACE", "ns"),
        ("DISTRIBUTOR_VERSION", "0.9.0"),
        ("PROJECT_FILTER", "p1,p2"),
        (
            "PUBSUB_TOPIC",
            "sh.keptn.event.task.triggered,sh.keptn.event.foo.triggered",
        ),
    ]);
    let captured = r#"{"id":"","name":"my-svc","metadata":{"hostname":"keptn-node","integrationversion":"","distributorversion":"0.9.0","location":"remote-execution-plane","kubernetesmetadata":{"namespace":"ns","podname":"","deploymentname":"my-svc"},"lastseen":"0001-01-01T00:00:00Z"},"subscriptions":[{"id":"","event":"sh.keptn.event.task.triggered","filter":{"projects":["p1","p2"],"stages":[],"services":[]}},{"id":"","event":"sh.keptn.event.foo.triggered","filter":{"projects":["p1","p2"],"stages":[],"services":[]}}]}"#;
    assert_eq!(sent, captured);
}

#[test]
fn without_topics_the_subscriptions_are_null() {
    let sent = registered(&[("K8S_DEPLOYMENT_NAME", "my-svc"), ("K8S_NAMESPACE", "ns")]);
    assert!(sent.ends_with(r#","subscriptions":null}"#), "{sent}");
    let own = concat!(r#""distributorversion":""#, env!("CARGO_PKG_VERSION"), "\"");
    assert!(sent.contains(own), "{sent}");
}

#[test]
fn an_answer_to_a_registration_has_an_id() {
    let check = |answer: &str, expected: Option<&str>| {
        assert_eq!(registered_id(answer.as_bytes()).ok().as_deref(), expected, "{answer}");
    };
    check(r#"{"id":"abcde"}"#, Some("abcde"));
    check(r#"{"id":"abcde","more":[1]}"#, Some("abcde"));
    check(r#"{"id":""}"#, None);
    check(r#"{"id":null}"#, None);
    check("{}", None);
    check("[]", None);
    check("<html>", None);
    check("", None);
}

fn listed(answer: &str) -> Result<Listed, String> {
    let mut reader = ListReader::of("subscriptions");
    reader.add(Bytes::copy_from_slice(answer.as_bytes()));
    reader.end();
    let mut listed = Listed::default();
    while let Some(item) = reader.item().map_err(|error| error.to_string())? {
        let record = serde_json::from_slice(item.bytes).map_err(|error| error.to_string())?;
        listed.add(record, None);
    }
    reader.finish().map_err(|error| error.to_string())?;
    Ok(listed)
}

#[test]
fn an_answer_to_a_heartbeat_is_taken_with_null_lists_empty_ids_and_unknown_members() {
    let answer = r#"{"id":"i","name":"my-svc","metadata":{"lastseen":"2023-12-21T10:00:00.123Z","odd":1},"new":{},
        "subscriptions":[
        {"id":"s1","event":"sh.keptn.event.deployment.triggered",
         "filter":{"projects":["sockshop"],"stages":["dev","staging"],"services":["carts"],"odd":[]}},
        {"id":"","event":"sh.keptn.event.*.finished","filter":{"projects":[],"stages":null}},
        {"event":"sh.keptn.>","filter":null},
        {"id":null,"event":"a b"}]}"#;
    let listed = listed(answer).unwrap();
    let [first, second, third] = listed.subscriptions.as_slice() else {
        panic!("{listed:?}");
    };
    assert_eq!(
        (first.id.as_str(), first.event.as_str()),
        ("s1", "sh.keptn.event.deployment.triggered")
    );
    assert_eq!(first.projects, ["sockshop"]);
    assert_eq!(first.stages, ["dev", "staging"]);
    assert_eq!(first.services, ["carts"]);
    assert_eq!(second.id, "");
    assert!(second.projects.is_empty() && second.stages.is_empty() && second.services.is_empty());
    assert_eq!(third.event.as_str(), "sh.keptn.>");
    let left_out: Vec<_> = listed.left_out.iter().map(|(record, _)| &record.event).collect();
    assert_eq!(left_out, ["a b"], "no event can have this type");
}

#[test]
fn only_what_has_subscriptions_is_an_answer_to_a_heartbeat() {
    let check = |answer: &str, expected: Option<usize>| {
        let n = listed(answer).ok().map(|listed| listed.subscriptions.len());
        assert_eq!(n, expected, "{answer}");
    };
    check(r#"{"id":"i","subscriptions":null}"#, Some(0));
    check(r#"{"id":"i","subscriptions":[]}"#, Some(0));
    check(r#"{"id":"i","subscriptions":[{"event":"a"}]}"#, Some(1));
    check(r#"{"id":"i"}"#, None);
    check("{}", None);
    check(r#"{"events":[],"totalCount":0}"#, None);
    check(r#"{"id":"i","subscriptions":{}}"#, None);
    check(r#"{"id":"i","subscriptions":[1]}"#, None);
    check("null", None);
    check("<html></html>", None);
    check("", None);
}

#[test]
fn a_subscription_that_stays_is_not_made_anew() {
    let answer = |id: &str| {
        format!(
            r#"{{"subscriptions":[{{"id":"1","event":"a.b"}},{{"id":"x","event":"a b"}},{{"id":"{id}","event":"a.c"}}]}}"#
        )
    };
    let before = listed(&answer("2")).unwrap();
    let again = |text: &str| {
        let mut again = Listed::default();
        for record in serde_json::from_str::<HashMap<String, Vec<Record>>>(text).unwrap()["subscriptions"].clone() {
            again.add(record, Some(&before.subscriptions));
        }
        let pairs = before.subscriptions.iter().zip(&again.subscriptions);
        pairs
            .map(|(before, again)| Arc::ptr_eq(before, again))
            .collect::<Vec<_>>()
    };
    assert_eq!(again(&answer("2")), [true, true]);
    assert_eq!(again(&answer("3")), [true, false]);
}

#[test]
fn what_is_asked_for_again_has_no_ids() {
    let answer = r#"{"subscriptions":[{"id":"s1","event":"a.b","filter":{"projects":["p"],"stages":null}},
        {"id":"s2","event":"a b"}]}"#;
    let Listed {
        subscriptions,
        left_out,
    } = listed(answer).unwrap();
    let again = subscriptions.iter().map(|subscription| Record::again(subscription));
    let left_out = left_out.into_iter().map(|(record, _)| record.without_id());
    assert_eq!(
        serde_json::to_string(&again.chain(left_out).collect::<Vec<_>>()).unwrap(),
        r#"[{"id":"","event":"a.b","filter":{"projects":["p"],"stages":[],"services":[]}},{"id":"","event":"a b","filter":{"projects":[],"stages":[],"services":[]}}]"#
    );
}

#[test]
fn pauses_grow_after_the_registration_was_given_up_and_never_vanish() {
    let check = |interval_ms: u64, n_failed_since: Option<u32>, expected_ms: u128| {
        let pause = pause_after(Duration::from_millis(interval_ms), n_failed_since);
        assert_eq!(pause.as_millis(), expected_ms, "{interval_ms} {n_failed_since:?}");
    };
    check(10_000, None, 10_000);
    check(0, None, 1_000);
    check(10_000, Some(0), 10_000);
    check(10_000, Some(1), 20_000);
    check(10_000, Some(2), 40_000);
    check(10_000, Some(3), 60_000);
    check(10_000, Some(u32::MAX), 60_000);
    check(300_000, Some(5), 300_000);
}

#[test]
fn intervals_vary_by_a_tenth() {
    let ten = Duration::from_secs(10);
    assert_eq!(jittered(ten, 0.0), Duration::from_secs(9));
    assert_eq!(jittered(ten, 0.5), ten);
    assert_eq!(jittered(ten, 1.0), Duration::from_secs(11));
    assert_eq!(jittered(Duration::ZERO, 0.0), Duration::from_millis(900));
}
