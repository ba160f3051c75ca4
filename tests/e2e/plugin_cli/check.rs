//! `plugin check` finds each of the faults that plugins have, and names the fix.

use super::*;

/// What has failed of a part: text and fix.
fn failures(said: &Said, part: &str) -> Vec<String> {
    let report = said.json();
    let all = report["findings"].as_array().unwrap().iter();
    let found = all.filter(|finding| finding["part"] == part && finding["status"] == "failed");
    found
        .map(|finding| format!("{} | fix: {}", finding["text"], finding["fix"]))
        .collect()
}

fn assert_found(said: &Said, part: &str, expected: &[&str]) {
    assert_eq!(said.exit_code, 1, "{said:?}");
    let found = failures(said, part);
    let [text] = found.as_slice() else {
        panic!("one finding of {part} is expected: {said:?}")
    };
    for expected in expected {
        assert!(text.contains(expected), "{expected} is missing: {text}");
    }
}

async fn checked(component: &str) -> Said {
    said(&["check", component, "--json"]).await
}

#[tokio::test]
async fn the_stock_plugins_have_no_fault() {
    for builtin in ["keptn-filter", "cel-filter", "jq-transform"] {
        let said = checked(&format!("builtin:{builtin}")).await;
        assert_eq!(
            (said.exit_code, &said.json()["failed"]),
            (0, &0.into()),
            "{builtin}: {said:?}"
        );
    }
}

#[tokio::test]
async fn a_missing_export_is_found() {
    let desk = Desk::new();
    // The smallest component that there is.
    let empty = desk.write("empty.wasm", b"\0asm\x0d\0\x01\0");
    let said = checked(&empty).await;
    assert_found(
        &said,
        "contract",
        &[
            "does not export `keptn:distributor/lifecycle@1.0.0`",
            "it exports nothing",
            "`distributor plugin wit` prints it",
        ],
    );
}

#[tokio::test]
async fn another_version_of_the_contract_is_found() {
    let component = fixture("museum/2.0.0/component.wasm");
    let said = checked(component.to_str().unwrap()).await;
    assert_found(
        &said,
        "contract",
        &[
            "built for contract 2.0.0",
            "this host speaks 1.0.0",
            "distributor plugin wit --output wit",
        ],
    );
}

#[tokio::test]
async fn a_forbidden_import_is_found() {
    let desk = Desk::new();
    let component = desk.write("wrong.wasm", guest("guest_wrong_world.wasm"));
    let said = checked(&component).await;
    assert_found(
        &said,
        "imports",
        &["`other:thing/imp@1.0.0` is unknown", "build it without"],
    );
    assert_found(
        &said,
        "contract",
        &["does not export `keptn:distributor/lifecycle@1.0.0`"],
    );
}

#[tokio::test]
async fn answers_by_chance_are_found() {
    let said = Desk::new().about("check", "roll-dice", &["--json"]).await;
    assert_found(
        &said,
        "determinism",
        &[
            "answers differently to an ordinary event",
            "no clock, no random numbers",
        ],
    );
}

#[tokio::test]
async fn answers_that_depend_on_earlier_calls_are_found() {
    let desk = Desk::new();
    let config = r#"{"behaviour":"transient-at-first","count":2}"#;
    let said = said(&["check", &desk.component(), "--config", config, "--json"]).await;
    assert_found(&said, "determinism", &["after other events", "belongs into `state`"]);
}

#[tokio::test]
async fn a_kilobyte_that_each_call_keeps_is_found() {
    let said = Desk::new().about("check", "leak", &["--json"]).await;
    assert_found(
        &said,
        "leak",
        &["each call keeps about 1", "free what a call has allocated"],
    );
}

#[tokio::test]
async fn a_trap_on_an_event_without_data_is_found() {
    let said = Desk::new().about("check", "trap-on-empty", &["--json"]).await;
    assert_eq!(said.exit_code, 1, "{said:?}");
    let found = failures(&said, "odd events");
    let text = found.first().expect("something is found");
    for expected in ["no data: panicked", "told to trap without data", "`data` is an option"] {
        assert!(text.contains(expected), "{expected} is missing: {text}");
    }
}

#[tokio::test]
async fn a_schema_that_rejects_its_own_example_is_found() {
    let said = Desk::new().about("check", "bad-example", &["--json"]).await;
    assert_found(
        &said,
        "schema",
        &["rejects its own example", "needs `behaviour`", "correct the example"],
    );
}

#[tokio::test]
async fn a_call_of_three_seconds_is_found() {
    let desk = Desk::new();
    let config = r#"{"behaviour":"nap","count":3000}"#;
    let said = said(&["check", &desk.component(), "--config", config, "--json"]).await;
    assert_found(
        &said,
        "time",
        &["did not finish within 1.00 s", "do less for each event", "`timeout`"],
    );
}

#[tokio::test]
async fn a_plugin_that_does_not_start_is_no_riddle() {
    let desk = Desk::new();
    let check = async |behaviour: &str, part: &str, expected: &str| {
        assert_found(&desk.about("check", behaviour, &["--json"]).await, part, &[expected]);
    };
    check("trap-in-describe", "start", "told to trap in describe").await;
    check("reject-config", "configuration", "/behaviour: told to reject").await;
    let text = desk.write("text.wasm", "(component)");
    assert_found(
        &checked(&text).await,
        "component",
        &["not WebAssembly at all", "--target wasm32-wasip2"],
    );
}

#[tokio::test]
async fn people_read_a_line_for_each_part_and_a_verdict() {
    let said = said(&["check", "builtin:keptn-filter", "--calls", "100"]).await;
    assert_eq!(said.exit_code, 0, "{said:?}");
    for part in [
        "ok      imports        keptn:distributor/config",
        "ok      contract",
        "ok      odd events",
        "ok      determinism",
        "ok      fuel",
    ] {
        assert!(said.stdout.contains(part), "{part} is missing: {}", said.stdout);
    }
    assert!(
        said.stdout.lines().last().unwrap().starts_with("usable: 0 failed"),
        "{}",
        said.stdout
    );
    assert!(!said.stdout.contains('\u{1b}'), "no colours where nobody looks");
}
