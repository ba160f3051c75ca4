//! The bytes of an event: what arrives at the service is what was published, but for what has to be put in.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::control_plane::captures::captured;
use crate::harness::*;

/// Nothing has to be put into it, and everything a parser might touch is there.
const UNUSUAL: &str = concat!(
    " \t{ \"zz-unknown\" : 12345678901234567890,\n  \"type\": \"sh.keptn.event.task.triggered\",\"b\":1.0,\"a\":1e+2,",
    r#""source":"https:\/\/example.com\/\u00e4","shkeptncontext":"c","gitcommitid":"","triggeredid":"","#,
    r#""shkeptnspecversion":"0.2.4","extensionobject":{"x":[null,true,{}]},"id":"\u0075nusual","#,
    r#""data":{"z":-0.0,"big":12345678901234567890,"deep":[[[[]]]],"text":"\u003c\"\\\/\ud83d\ude00 ü",   "a":[ ]},"#,
    "\r\n \"specversion\":\"1.0\" }\n"
);

#[tokio::test]
async fn an_event_that_lacks_nothing_arrives_byte_for_byte() {
    let peers = Peers::start().await;
    let _app = peers.app(&[ALL_TOPICS]).await;

    let started = captured("nats-forwarded", "/0/data");
    let not_of_keptn = captured("nats-odd", "/data").replace("sh.keptn.event.odd.started", "com.example.odd");
    for payload in [UNUSUAL, &started, &not_of_keptn] {
        let n_before = peers.recipient.journal().len();
        peers.publish_bytes(TASK_TRIGGERED, payload.to_owned()).await;
        let delivered = peers.delivered(n_before + 1).await;
        assert_eq!(as_text(&delivered[n_before].body), payload);
    }
}

#[tokio::test]
async fn extensions_that_keptn_services_expect_are_put_in_front_and_nothing_else_changes() {
    let peers = Peers::start().await;
    let _app = peers.app(&[ALL_TOPICS]).await;

    let odd = captured("nats-odd", "/data");
    peers.publish_bytes("sh.keptn.event.odd.started", odd.clone()).await;
    let before = r#"{"shkeptncontext":"","triggeredid":"","gitcommitid":"","shkeptnspecversion":"","#;
    let body = &peers.delivered(1).await[0].body;
    assert_eq!(as_text(body), odd.replacen('{', before, 1));
}

#[tokio::test]
async fn a_captured_event_is_delivered_as_the_original_delivered_it() {
    let peers = Peers::start().await;
    let expected = json(captured("recipient-triggered", "/body").as_bytes());
    let subscription_id = expected["data"]["temporaryData"]["distributor"]["subscriptionID"]
        .as_str()
        .unwrap();
    let interest = subscriptions(&[(subscription_id, "sh.keptn.event.build.triggered")]);
    let _app = peers.app_interested_in(interest, &[]).await;

    let triggered = captured("nats-triggered", "/0/data");
    peers.publish_bytes("sh.keptn.event.build.triggered", triggered).await;

    assert_eq!(json(&peers.delivered(1).await[0].body), expected);
}

#[tokio::test]
async fn the_subscription_is_put_into_the_data_and_every_other_byte_stays() {
    let peers = Peers::start().await;
    let _app = peers
        .app_interested_in(subscriptions(&[("s1", "sh.keptn.>")]), &[])
        .await;

    peers.publish_bytes(TASK_TRIGGERED, UNUSUAL).await;

    let with_subscription = r#""data":{"temporaryData":{"distributor":{"subscriptionID":"s1"}},"z":-0.0"#;
    let body = &peers.delivered(1).await[0].body;
    assert_eq!(
        as_text(body),
        UNUSUAL.replacen(r#""data":{"z":-0.0"#, with_subscription, 1)
    );
}

#[test]
fn any_event_arrives_byte_for_byte_around_what_is_put_in() {
    const N_CASES: u32 = 16;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (peers, _app) = runtime.block_on(async {
        let peers = Peers::start().await;
        let app = peers
            .app_interested_in(subscriptions(&[("s1", "sh.keptn.>")]), &[])
            .await;
        (peers, app)
    });
    let mut runner = TestRunner::new(Config {
        cases: N_CASES,
        failure_persistence: None,
        ..Config::default()
    });
    let batches = prop::collection::vec(sent_and_delivered(), 1..12);
    let ran = runner.run(&batches, |batch| {
        let (sent, expected): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let arrived = runtime.block_on(async {
            let n_before = peers.recipient.journal().len();
            for payload in &sent {
                peers.publish_bytes(TASK_TRIGGERED, payload.clone()).await;
            }
            peers.delivered(n_before + sent.len()).await.split_off(n_before)
        });
        let arrived: Vec<_> = arrived
            .iter()
            .map(|request| as_text(&request.body).to_owned())
            .collect();
        prop_assert_eq!(arrived, expected);
        Ok(())
    });
    ran.unwrap();
}

/// An event with odd but valid JSON everywhere, and the same with the subscription `s1` in its data.
fn sent_and_delivered() -> impl Strategy<Value = (String, String)> {
    let unknown = prop::collection::vec(("x[a-z]{0,5}", json_text()), 0..3);
    // An id of its own: a second event with the id of another would be taken for a copy.
    let parts = (any::<u64>(), unknown, json_members(), space(), any::<bool>());
    parts.prop_map(|(id, unknown, data, space, data_first)| {
        let unknown = unknown.iter().map(|(name, value)| format!("{space}\"{name}\":{value},"));
        let unknown = unknown.collect::<Vec<_>>().concat();
        let with_data = |data: &str| {
            let data = format!("\"data\"{space}:{space}{data},");
            let (before, after) = if data_first { (data.as_str(), "") } else { ("", data.as_str()) };
            format!(
                r#"{space}{{{before}{unknown}"id":"{id}","source"{space}:"s","type":"{TASK_TRIGGERED}",{after}"shkeptncontext":"c","triggeredid":"t","gitcommitid":"","shkeptnspecversion":"", "specversion":"1.0"{space}}}{space}"#
            )
        };
        let comma = if data.trim().is_empty() { "" } else { "," };
        let subscription = r#""temporaryData":{"distributor":{"subscriptionID":"s1"}}"#;
        (with_data(&format!("{{{data}}}")), with_data(&format!("{{{subscription}{comma}{data}}}")))
    })
}

/// Members of an object, without its braces.
fn json_members() -> impl Strategy<Value = String> {
    let member =
        (json_string(), json_text(), space()).prop_map(|(name, value, space)| format!("{name}{space}:{value}"));
    (prop::collection::vec(member, 0..4), space()).prop_map(|(members, space)| members.join(",") + space)
}

fn json_text() -> impl Strategy<Value = String> {
    let number = prop::sample::select(vec!["0", "-0.0", "1e5", "1.50", "12345678901234567890", "-1E-7"]);
    let leaf = prop_oneof![
        number.prop_map(str::to_owned),
        json_string(),
        prop::sample::select(vec!["null", "true", "{}", "[ ]"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (prop::collection::vec(inner.clone(), 0..3), space())
                .prop_map(|(items, space)| format!("[{space}{}]", items.join(&format!("{space},")))),
            (json_string(), inner, space()).prop_map(|(name, value, space)| format!("{{{name}:{space}{value}}}")),
        ]
    })
}

/// A JSON string, with and without escapes, of characters of every length.
fn json_string() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "ü",
        "€",
        "😀",
        r"\u00e4",
        r"\ud83d\ude00",
        r"\/",
        r#"\""#,
        r"\\",
        "}",
        "]",
        "<",
    ]);
    prop::collection::vec(piece, 0..5).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn space() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "", " ", "\t", "\r\n  "])
}

fn as_text(body: &[u8]) -> &str {
    std::str::from_utf8(body).unwrap()
}
