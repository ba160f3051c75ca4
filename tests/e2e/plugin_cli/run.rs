//! `plugin run`.

use super::*;

#[tokio::test]
async fn an_event_is_answered_with_its_cost_and_its_log() {
    let desk = Desk::new();
    let file = desk.write("event.json", text_of(&event("e1")));
    let config = r#"{"behaviour":"print","count":150}"#;
    let said = said(&["run", &desk.component(), "--config", config, "--event", &file, "--json"]).await;
    assert_eq!(said.exit_code, 0, "{said:?}");
    let [line] = said.lines().try_into().unwrap();
    assert_eq!((&line["verdict"], &line["event_id"]), (&"keep".into(), &"e1".into()));
    assert!(
        line["micros"].as_f64().unwrap() > 0.0 && line["memory_bytes"].as_u64().unwrap() > 1000,
        "{line}"
    );
    // As many lines as the sidecar lets a call write.
    let log = line["log"].as_array().unwrap();
    assert_eq!((log.len(), &log[0]["text"]), (100, &"told to print 0".into()), "{line}");
}

#[tokio::test]
async fn a_changed_event_is_shown_as_a_difference() {
    let desk = Desk::new();
    let file = desk.write("event.json", text_of(&event("e1")));
    let said = desk.about("run", "rename", &["--event", &file]).await;
    assert_eq!(said.exit_code, 0, "{said:?}");
    assert!(said.stdout.contains("replace: 1 forwarded"), "{}", said.stdout);
    assert!(said.stdout.contains("    + /data/renamed: true"), "{}", said.stdout);
    assert!(said.stdout.contains("    - /data/project: "), "{}", said.stdout);
}

#[tokio::test]
async fn many_events_are_taken_and_those_that_fail_are_told() {
    let desk = Desk::new();
    let lines: String = ["bad-1", "good", "bad-2"].map(|id| text_of(&event(id)) + "\n").concat();
    let file = desk.write("events.ndjson", lines);
    let config = desk.write("config.toml", "behaviour = \"trap\"\nonly = \"bad\"\n");
    let arguments = [
        "run",
        &desk.component(),
        "--config",
        &config,
        "--event",
        &file,
        "--json",
    ];
    let said = said(&arguments).await;
    assert_eq!(said.exit_code, 1, "{said:?}");
    let verdicts: Vec<_> = said.lines().iter().map(|line| line["verdict"].clone()).collect();
    assert_eq!(verdicts, ["error", "keep", "error"]);
    let printed = said.lines()[0]["printed"].to_string();
    assert!(printed.contains("told to trap at event bad-1"), "{printed}");
}

#[tokio::test]
async fn an_entry_beside_the_component_says_how_it_is_run() {
    let desk = Desk::new();
    let file = desk.write("event.json", text_of(&event("e1")));
    desk.write(
        "plugins.toml",
        "[[plugin]]\nname = \"a\"\ncomponent = \"plugin.wasm\"\ngrants = [\"state\"]\n[plugin.config]\nbehaviour = \"state\"\n",
    );
    let verdict = async |arguments: &[&str]| {
        let said = said(arguments).await;
        assert_eq!(said.exit_code, 0, "{said:?}");
        said.lines()[0]["reason"].clone()
    };
    assert_eq!(
        verdict(&["run", &desk.component(), "-e", &file, "--json"]).await,
        "absent"
    );
    let folder = desk.path("").to_str().unwrap().to_owned();
    assert_eq!(
        verdict(&["run", "--chain", &folder, "--entry", "a", "-e", &file, "--json"]).await,
        "absent"
    );
    assert_eq!(
        verdict(&["run", "--chain", &folder, "-e", &file, "--json"]).await,
        "absent"
    );
    // What stands on the command line counts.
    assert_eq!(
        desk.about("run", "drop", &["-e", &file, "--json"]).await.lines()[0]["reason"],
        "not wanted"
    );
}

#[tokio::test]
async fn the_limits_of_the_sidecar_are_in_force() {
    let desk = Desk::new();
    let file = desk.write("event.json", text_of(&event("e1")));
    let check = async |behaviour: &str, more: &[&str], expected: &str| {
        let mut arguments = vec!["--event", &file, "--json"];
        arguments.extend(more);
        let said = desk.about("run", behaviour, &arguments).await;
        assert_eq!(said.exit_code, 1, "{said:?}");
        let error = said.lines()[0]["error"].to_string();
        assert!(error.contains(expected), "{expected} is missing: {error}");
    };
    check("loop", &["--timeout", "100ms"], "used up its 100ms").await;
    check("hog", &["--memory", "4MiB"], "its limit is 4194304").await;
    check("publish", &[], "needs the `publish` grant").await;
}
