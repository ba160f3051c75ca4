//! What plugins may do with an event, on its way in and on its way out.

use test_support::{ReceivedRequest, eventually};

use crate::harness::*;

const OUTGOING: &str = "on = [\"outgoing\"]";

/// Sends an event that the plugin does something with and then one that it leaves alone. Returns what arrives before
/// the second.
async fn delivered_through(behaviour: &str, n: usize) -> Vec<ReceivedRequest> {
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving(behaviour);
    let _app = peers.app(&[ALL_TOPICS, folder.variable()]).await;

    peers.publish_all([event("bad"), event("good")]).await;

    let mut journal = peers.delivered(n + 1).await;
    let last = journal.pop().unwrap();
    assert_eq!(
        (event_id(&last).as_str(), &last.body),
        ("good", &event("good").to_bytes())
    );
    journal
}

#[tokio::test]
async fn a_filter_drops_an_event() {
    assert!(delivered_through("drop", 0).await.is_empty());
}

#[tokio::test]
async fn a_transform_ends_an_event() {
    assert!(delivered_through("empty", 0).await.is_empty());
}

#[tokio::test]
async fn an_event_that_is_kept_keeps_its_bytes() {
    assert_eq!(delivered_through("keep", 1).await[0].body, event("bad").to_bytes());
}

#[tokio::test]
async fn a_transform_changes_the_data_and_the_attributes_stay() {
    let delivered = delivered_through("rename", 1).await[0].json().unwrap();
    let mut expected = json(&event("bad").to_bytes());
    expected["data"] = serde_json::json!({"renamed": true});
    assert_eq!(delivered, expected);
}

#[tokio::test]
async fn the_parts_of_a_split_event_get_ids_of_their_own_and_stay_in_order() {
    let ids: Vec<_> = delivered_through("split", 3).await.iter().map(event_id).collect();
    assert_eq!(ids, ["bad-1", "bad-2", "bad-3"]);
}

#[tokio::test]
async fn state_is_denied_without_a_grant() {
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving("state");
    let process = peers
        .process(&[ALL_TOPICS, folder.variable(), ("LOG_LEVEL", "debug")])
        .await;
    peers.publish(&event("bad")).await;
    let line = process.wait_for_log("dropped by a plugin", SOON).await.unwrap();
    assert!(line.contains("denied"), "{line}");
}

#[tokio::test]
async fn plugins_run_in_the_order_of_the_file_after_the_default_filter() {
    let peers = Peers::start().await;
    let entry = |name: &str, behaviour: &str, only: &str| {
        format!(
            "[[plugin]]\nname = \"{name}\"\ncomponent = \"guest.wasm\"\n\
             [plugin.config]\nbehaviour = \"{behaviour}\"\nonly = \"{only}\"\n"
        )
    };
    // The second sees the parts that the first makes, and what the default filter drops is seen by none.
    let manifest = [
        entry("first", "split", "e1"),
        entry("second", "drop", "e1-2"),
        entry("third", "trap", "e2"),
    ];
    let folder = PluginFolder::with_manifest(&manifest.concat());
    let _app = peers
        .app(&[ALL_TOPICS, folder.variable(), ("STAGE_FILTER", "dev")])
        .await;

    let mut elsewhere = event("e2");
    elsewhere.stage = "prod".to_owned();
    peers.publish_all([event("e1"), elsewhere, event("e3")]).await;

    assert_eq!(peers.delivered_ids(3).await, ["e1-1", "e1-3", "e3"]);
}

#[tokio::test]
async fn a_plugin_runs_once_for_each_subscription() {
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving("split");
    let interest = subscriptions(&[("id1", TASK_TRIGGERED), ("id2", "sh.keptn.>")]);
    let _app = peers.app_interested_in(interest, &[folder.variable()]).await;

    peers.publish(&event("bad")).await;

    let delivered = ids_and_subscriptions(&peers.delivered(6).await);
    let expected = ["id1", "id2"]
        .map(|subscription| ["bad-1", "bad-2", "bad-3"].map(|id| (id.to_owned(), subscription.to_owned())));
    assert_eq!(delivered, expected.concat());
}

#[tokio::test]
async fn what_a_plugin_drops_on_its_way_out_is_taken_and_not_published() {
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving_with("drop", OUTGOING, "");
    let app = peers.app(&[ALL_TOPICS, folder.variable()]).await;
    let mut control_plane = peers.listen(TASK_TRIGGERED).await;

    let response = app.post(event("bad").to_bytes()).await;
    assert_eq!((response.status, response.body.as_ref()), (200, &b""[..]));
    app.post(event("good").to_bytes()).await;
    assert_eq!(control_plane.next_ids(1).await, ["good"]);

    // The other way is not its business.
    peers.publish(&event("bad")).await;
    assert_eq!(peers.delivered_ids(2).await, ["good", "bad"]);
}

#[tokio::test]
async fn what_a_plugin_makes_of_an_outgoing_event_is_published() {
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving_with("split", OUTGOING, "");
    let app = peers.app(&[folder.variable()]).await;
    let mut control_plane = peers.listen(TASK_TRIGGERED).await;

    assert_eq!(app.post(event("bad").to_bytes()).await.status, 200);
    assert_eq!(control_plane.next_ids(3).await, ["bad-1", "bad-2", "bad-3"]);
}

#[tokio::test]
async fn an_outgoing_event_that_a_plugin_fails_on_is_refused_for_now() {
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving_with(
        "trap",
        &format!("{OUTGOING}\non_failure = \"retry-then-dead-letter\""),
        "",
    );
    let process = peers.process(&[folder.variable()]).await;
    let mut control_plane = peers.listen(TASK_TRIGGERED).await;

    let response = post(process.proxy_address(), event("bad").to_bytes()).await;
    let (status, detail) = problem(&response);
    assert_eq!((status, &response.headers["retry-after"]), (503, &"1".parse().unwrap()));
    assert!(detail.contains("suspect"), "{detail}");
    process
        .wait_for_log("a plugin failed; the service is told, and keeps the event", SOON)
        .await
        .unwrap();

    assert_eq!(
        post(process.proxy_address(), event("good").to_bytes()).await.status,
        200
    );
    assert_eq!(control_plane.next_ids(1).await, ["good"]);
}

#[tokio::test]
async fn a_looping_plugin_holds_up_neither_health_checks_nor_events_of_the_service() {
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving_with("loop", "timeout = \"60s\"", "");
    let process = peers.process(&[ALL_TOPICS, folder.variable()]).await;
    let mut control_plane = peers.listen("com.example.answer").await;

    let cpu_before = process.cpu_seconds().unwrap();
    peers.publish(&event("bad")).await;
    let is_looping = async || process.cpu_seconds().unwrap() > cpu_before + 0.1;
    eventually(SOON, is_looping).await.unwrap();

    for _ in 0..20 {
        assert_eq!(health(process.proxy_address()).await, 200);
        let answer = String::from_utf8_lossy(&event("e").to_bytes()).replace(TASK_TRIGGERED, "com.example.answer");
        assert_eq!(post(process.proxy_address(), answer).await.status, 200);
        assert_eq!(control_plane.next_ids(1).await, ["e"]);
    }
    assert!(
        lines_with(&process, "used up").is_empty(),
        "it was looping all the time"
    );
}

#[tokio::test]
async fn what_plugins_log_is_in_the_log_with_their_name_and_has_a_limit() {
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving_with("chatty", "", "count = 500");
    let process = peers.process(&[ALL_TOPICS, folder.variable()]).await;

    peers.publish_all([event("bad-1"), event("good")]).await;

    assert_eq!(peers.delivered_ids(2).await, ["bad-1", "good"]);
    process
        .wait_for_log("lines of a plugin are left out", SOON)
        .await
        .unwrap();
    let lines = lines_with(&process, "plugin says");
    assert_eq!(lines.len(), 100);
    for word in [
        "INFO",
        "suspect",
        "bad-1",
        "told to be chatty",
        "number=0",
        "direction=\"incoming\"",
        &format!("digest=\"{}\"", &digest(&guest("guest_misbehaving.wasm"))[..12]),
        &event("").keptn_context,
    ] {
        assert!(lines[0].contains(word), "{word} is missing: {}", lines[0]);
    }
}

#[tokio::test]
async fn plugins_are_named_with_their_digest_at_the_start() {
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving("keep");
    let process = peers.process(&[folder.variable()]).await;
    let line = process.wait_for_log("plugin loaded", SOON).await.unwrap();
    for word in [
        "plugin=suspect",
        "version=\"0.1.0\"",
        "generation=1",
        &digest(&guest("guest_misbehaving.wasm")),
    ] {
        assert!(line.contains(word), "{word} is missing: {line}");
    }
}
