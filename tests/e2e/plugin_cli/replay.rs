//! `plugin replay` and `plugin diff`, on what a running distributor has captured.

use test_support::http_request;

use super::*;

/// What a distributor captures of three events that pass two plugins, of which the first splits `bad`, and the second
/// drops `bad-2`.
async fn capture() -> String {
    let entry = |name: &str, behaviour: &str, only: &str| {
        format!(
            "[[plugin]]\nname = \"{name}\"\ncomponent = \"guest.wasm\"\n\
             [plugin.config]\nbehaviour = \"{behaviour}\"\nonly = \"{only}\"\n"
        )
    };
    let manifest = format!(
        "default_filter = false\n{}{}",
        entry("one", "split", "bad"),
        entry("two", "drop", "bad-2")
    );
    let folder = PluginFolder::with_manifest(&manifest);
    let peers = Peers::start().await;
    let process = peers
        .process(&[ALL_TOPICS, folder.variable(), ("CONTROL_BIND", "127.0.0.1:0")])
        .await;
    let control = process.control_address(SOON).await.unwrap();
    let by_operator = [("distributor-control", "1")];
    let started = http_request(control, "POST", "/capture", &by_operator, "{}")
        .await
        .unwrap();
    assert_eq!(started.status, 200, "{started:?}");
    peers.publish_all(["good-1", "bad", "good-2"].map(event)).await;
    peers.delivered(4).await;
    let captured = http_request(control, "GET", "/capture", &by_operator, "")
        .await
        .unwrap();
    String::from_utf8(captured.body.to_vec()).unwrap()
}

#[tokio::test]
async fn captured_events_are_answered_as_captured_or_the_difference_is_shown() {
    let desk = Desk::new();
    let file = desk.write("capture.ndjson", capture().await);
    let replayed = async |name: &str, config: &str| {
        let component = desk.component();
        let arguments = [
            "replay", &component, "--events", &file, "--name", name, "--config", config, "--json",
        ];
        let said = said(&arguments).await;
        (said.exit_code, said.json())
    };
    let (exit_code, one) = replayed("one", r#"{"behaviour":"split","only":"bad"}"#).await;
    assert_eq!(
        (exit_code, &one["events"], &one["same"]),
        (0, &3.into(), &3.into()),
        "{one}"
    );
    // The second gets the parts that the first made.
    let (exit_code, two) = replayed("two", r#"{"behaviour":"drop","only":"bad-2"}"#).await;
    assert_eq!(
        (exit_code, &two["events"], &two["same"]),
        (0, &5.into(), &5.into()),
        "{two}"
    );
    let (exit_code, other) = replayed("two", r#"{"behaviour":"drop","only":"bad-3"}"#).await;
    assert_eq!((exit_code, &other["same"]), (1, &3.into()), "{other}");
    let different = other["different"].as_array().unwrap();
    let told = |index: usize| ["event_id", "before", "after"].map(|key| different[index][key].as_str().unwrap());
    assert_eq!(told(0), ["bad-2", "drop: not wanted", "keep"]);
    assert_eq!(told(1), ["bad-3", "keep", "drop: not wanted"]);

    let unknown = said(&["replay", &desk.component(), "--events", &file]).await;
    assert_eq!(unknown.exit_code, 64);
    assert!(
        unknown.stderr.contains("choose one with --name: one, two"),
        "{}",
        unknown.stderr
    );
}

#[tokio::test]
async fn two_components_are_shown_the_same_events() {
    let desk = Desk::new();
    let lines: String = ["a", "b"].map(|id| text_of(&event(id)) + "\n").concat();
    let file = desk.write("events.ndjson", lines);
    let other = desk.write("tagging.wasm", guest("guest_tagging.wasm"));
    let same = said(&["diff", &desk.component(), &desk.component(), "--events", &file]).await;
    assert_eq!(
        (same.exit_code, same.stdout.as_str()),
        (0, "2 events: 2 answered alike, 0 differently\n"),
        "{same:?}"
    );
    let different = said(&["diff", &desk.component(), &other, "--events", &file, "--json"]).await;
    assert_eq!(
        (different.exit_code, &different.json()["same"]),
        (1, &0.into()),
        "{different:?}"
    );
}
