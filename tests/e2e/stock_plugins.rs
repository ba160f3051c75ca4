//! The plugins that come with the distributor and stand in a chain on request: `cel-filter` and `jq-transform`.

use serde_json::{Value, json as value};

use crate::harness::*;

const MIB: u64 = 1 << 20;

/// An entry of `plugins.toml` for one of them, named like it.
fn entry(plugin: &str, keys: &str, config: &str) -> String {
    format!("[[plugin]]\nname = \"{plugin}\"\ncomponent = \"builtin:{plugin}\"\n{keys}\n[plugin.config]\n{config}\n")
}

fn cel(expression: &str) -> String {
    entry("cel-filter", "", &format!("expression = '''{expression}'''"))
}

fn jq(program: &str) -> String {
    entry("jq-transform", "", &format!("program = '''{program}'''"))
}

fn folder(entries: &[String]) -> PluginFolder {
    PluginFolder::new().file("plugins.toml", entries.concat())
}

/// An event with other data.
fn event_with(id: &str, data: &Value) -> Vec<u8> {
    let mut event = json(&event(id).to_bytes());
    event["data"] = data.clone();
    event.to_string().into_bytes()
}

/// What the service gets of these events, with a last one behind them.
async fn delivered(entries: &[String], events: &[(&str, Value)], n: usize) -> Vec<Value> {
    let peers = Peers::start().await;
    let folder = folder(entries);
    let _app = peers.app(&[ALL_TOPICS, folder.variable()]).await;
    for (id, data) in events {
        peers.publish_bytes(TASK_TRIGGERED, event_with(id, data)).await;
    }
    let journal = peers.delivered(n).await;
    journal.iter().map(|request| request.json().unwrap()).collect()
}

fn ids(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_expression_over_labels_decides_what_the_service_gets() {
    let expression = r#"data.project == "shop" && data.labels.team in ["a", "b"]"#;
    let events = [
        ("other-team", value!({"project": "shop", "labels": {"team": "c"}})),
        ("team-a", value!({"project": "shop", "labels": {"team": "a"}})),
        ("no-labels", value!({"project": "shop"})),
        ("other-project", value!({"project": "bank", "labels": {"team": "a"}})),
        ("no-object", value!([1, 2])),
        ("team-b", value!({"project": "shop", "labels": {"team": "b"}})),
    ];
    assert_eq!(
        ids(&delivered(&[cel(expression)], &events, 2).await),
        ["team-a", "team-b"]
    );
}

#[tokio::test]
async fn a_filter_and_a_program_work_on_one_event_after_the_other() {
    let entries = [
        cel(r#"event.type.endsWith(".triggered") && context.stage == "dev" && has(data.keep)"#),
        entry(
            "jq-transform",
            "",
            "program = 'del(.password) | .owner = ($owners[.service] // \"nobody\") | .of = $event.id'\n\
             arguments = { owners = { carts = \"team-a\" } }",
        ),
    ];
    let events = [
        ("dropped", value!({"stage": "dev", "service": "carts"})),
        (
            "e1",
            value!({"keep": 1, "stage": "dev", "service": "carts", "password": "x", "n": 1.50}),
        ),
        ("e2", value!({"keep": 1, "stage": "dev", "service": "orders"})),
    ];
    let delivered = delivered(&entries, &events, 2).await;
    assert_eq!(ids(&delivered), ["e1", "e2"]);
    assert_eq!(
        delivered[0]["data"],
        value!({"keep": 1, "stage": "dev", "service": "carts", "n": 1.50, "owner": "team-a", "of": "e1"})
    );
    assert_eq!(delivered[1]["data"]["owner"], "nobody");
    // What the program does not return stays with the event.
    let before = json(&event("e1").to_bytes());
    for attribute in ["source", "type", "time", "shkeptncontext", "datacontenttype"] {
        assert_eq!(delivered[0][attribute], before[attribute], "{attribute}");
    }
}

#[tokio::test]
async fn each_output_of_a_program_is_an_event_and_none_ends_it() {
    let events = [
        ("none", value!({"items": []})),
        ("two", value!({"items": ["a", "b"], "project": "shop"})),
        ("one", value!({"items": ["c"]})),
    ];
    let delivered = delivered(&[jq(".items[] as $item | .items = $item")], &events, 3).await;
    assert_eq!(ids(&delivered), ["two-1", "two-2", "one"]);
    assert_eq!(delivered[0]["data"], value!({"items": "a", "project": "shop"}));
}

#[tokio::test]
async fn a_program_on_the_whole_event_changes_its_attributes() {
    let program = "input = \"event\"\nprogram = '.subject = .data.service | .data |= {service}'";
    let events = [("e1", value!({"service": "carts", "project": "shop"}))];
    let delivered = delivered(&[entry("jq-transform", "", program)], &events, 1).await;
    assert_eq!(delivered[0]["subject"], "carts");
    assert_eq!(delivered[0]["data"], value!({"service": "carts"}));
    assert_eq!(
        delivered[0]["shkeptncontext"],
        json(&event("e1").to_bytes())["shkeptncontext"]
    );
}

#[tokio::test]
async fn what_a_program_leaves_alone_keeps_its_bytes() {
    let peers = Peers::start().await;
    let folder = folder(&[jq("if .project == \"never\" then .n = 1 else . end")]);
    let _app = peers.app(&[ALL_TOPICS, folder.variable()]).await;
    let bytes = event_with("e1", &value!({"project": "shop", "n": 1.50}));
    let bytes = String::from_utf8(bytes)
        .unwrap()
        .replace("1.5", "12345678901234567890.50");

    peers.publish_bytes(TASK_TRIGGERED, bytes.clone()).await;

    assert_eq!(peers.delivered(1).await[0].body, bytes.as_bytes());
}

/// A configuration that is refused, with one line for all that is wrong with it.
async fn check_refused(entry: String, reasons: &[&str]) {
    let folder = folder(&[entry]);
    let (exit_code, _, stderr) = run_to_end(&["check"], &[folder.variable()]).await;
    assert_eq!(exit_code, 1, "{stderr}");
    for reason in reasons {
        assert!(stderr.contains(reason), "{reason} is missing: {stderr}");
    }
}

#[tokio::test]
async fn every_mistake_in_an_expression_is_named_with_its_place() {
    check_refused(
        cel("dta.project == \"shop\" &&\n  data.name.startWith(\"a\") &&\n  data.name.matches(\"(a\")"),
        &[
            "/expression: line 1, column 1, at `dta.project == \"shop\" &&`: there is no `dta`",
            "/expression: line 2, column ",
            "there is no function `startWith`; did you mean `startsWith`?",
            "/expression: line 3, column ",
            "not a pattern that `matches` can use",
        ],
    )
    .await;
    check_refused(
        cel("data.project = \"shop\""),
        &["/expression: line 1, column 14, at `= \"shop\"`", "`==` compares"],
    )
    .await;
}

#[tokio::test]
async fn every_mistake_in_a_program_is_named_with_its_place() {
    check_refused(
        jq(".a |\n  foo(1) | $nope"),
        &[
            "/program: line 2, column 3, at `foo(1) | $nope`: there is no filter `foo` with 1 arguments",
            "/program: line 2, column 12, at `$nope`: there is no variable `$nope`",
        ],
    )
    .await;
    check_refused(
        jq("if .a then 1"),
        &["/program: line 1, column 13 (at its end): expected"],
    )
    .await;
}

/// Each is stopped or fails, for one of the reasons behind it; a good event behind each shows that all is well.
async fn check_bounded(entry: String, cases: &[(&str, &[&str])]) {
    let peers = Peers::start().await;
    let folder = folder(&["default_filter = false\n".to_owned(), entry]);
    let mut process = peers.process(&[ALL_TOPICS, folder.variable()]).await;
    let memory_before = process.resident_memory().unwrap().now;

    let numbers: Vec<u32> = (0..1000).collect();
    let mut good = Vec::new();
    for (id, _) in cases {
        good.push(format!("good-{id}"));
        for id in [*id, good.last().unwrap()] {
            let bytes = event_with(id, &value!({"numbers": numbers}));
            peers.publish_bytes(TASK_TRIGGERED, bytes).await;
        }
        // One at a time: what waits behind a plugin for long is not what this is about.
        assert_eq!(peers.delivered_ids(good.len()).await, good);
    }

    let cost = process.peak_resident_memory().unwrap().saturating_sub(memory_before);
    assert!(cost < 64 * MIB, "{} MiB", cost / MIB);
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    for (id, reasons) in cases {
        let lines = lines_with(&process, &format!("{id:?}"));
        let errors: Vec<_> = lines.iter().filter(|line| line.contains("ERROR")).collect();
        assert!(!errors.is_empty(), "{id} has no error line");
        let is_explained = |line: &&String| reasons.iter().any(|reason| line.contains(reason));
        assert!(errors.iter().any(is_explained), "{id}: {errors:#?}");
    }
}

const LIMITS: &str = "timeout = \"1s\"\non_failure = \"dead-letter\"";

#[tokio::test]
async fn programs_that_never_end_or_grow_without_end_are_stopped() {
    let cases: [(&str, &str, &[&str]); 9] = [
        ("loop", "def f: f; f", &["used up its 1s", "recursion"]),
        ("deep", "def f: 1 + f; f", &["recursion", "of memory", "used up its 1s"]),
        ("repeat", "last(repeat(.))", &["used up its 1s"]),
        ("many", "repeat(1)", &["more than 1000 outputs"]),
        ("range", "[range(1e18)]", &["of memory", "used up its 1s"]),
        ("large", "[range(1000000)]", &["of memory", "panicked"]),
        (
            "text",
            "reduce range(100) as $i (\"x\"; . + .)",
            &["of memory", "panicked"],
        ),
        ("halt", "halt", &["`halt`"]),
        ("error", "error(\"no owner\")", &["no owner"]),
    ];
    // `if … then … elif … then … else . end`
    let branches = cases.map(|(id, program, _)| format!("if $event.id == \"{id}\" then ({program}) el"));
    let config = format!("program = '''{}se . end'''", branches.concat());
    let expected = cases.map(|(id, _, reasons)| (id, reasons));
    check_bounded(entry("jq-transform", LIMITS, &config), &expected).await;
}

#[tokio::test]
async fn expressions_that_take_for_ever_are_stopped() {
    let all = "data.numbers.all(a, data.numbers.all(b, data.numbers.all(c, a + b + c >= 0)))";
    let grown = "size(data.numbers.map(a, data.numbers.map(b, data.numbers.map(c, \"a text\")))) > 0";
    let expression = format!(
        "event.id == \"long\" ? {all} : event.id == \"large\" ? {grown} : event.id == \"type\" ? data.numbers > 1 : true"
    );
    let config = format!("expression = '''{expression}'''");
    check_bounded(
        entry("cel-filter", LIMITS, &config),
        &[
            ("long", &["used up its 1s"]),
            ("large", &["of memory", "used up its 1s"]),
            ("type", &["no matching overload"]),
        ],
    )
    .await;
}
