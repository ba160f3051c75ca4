//! `plugin test`.

use super::*;

const CASES: &str = "\
config: &drop {behaviour: drop}
cases:
- name: drops
  event: fixtures/event.json
  expect: drop
- name: says why
  event: {type: sh.keptn.event.task.triggered}
  expect: {reason: not wanted}
- name: renames
  event: fixtures/event.json
  with: {data: {project: other}}
  config: {behaviour: rename}
  expect:
    forwarded:
    - id: e1
      data: {renamed: true, project: null}
- name: fails
  event: fixtures/event.json
  config: {behaviour: trap}
  expect: {error: told to trap}
- name: logs
  event: fixtures/event.json
  config: {behaviour: print, count: 1}
  expect: {verdict: keep, log: [told to print 0]}
- name: counts
  grants: [state]
  config: {behaviour: state-count}
  events: [fixtures/event.json, fixtures/event.json]
  expect: [{reason: event 1}, {reason: event 2}]
- name: answers
  grants: [publish]
  config: {behaviour: answer}
  event: fixtures/event.json
  expect: {forwarded: 1, published: [{type: sh.keptn.event.task.finished, triggeredid: e1}]}
- name: is refused
  config: {behaviour: nonsense}
  expect: {refused: means nothing here}
";

fn desk_with(cases: &str) -> Desk {
    let desk = Desk::new();
    desk.write("fixtures/event.json", text_of(&event("e1")));
    desk.write("tests/first.yaml", cases);
    desk
}

#[tokio::test]
async fn cases_that_hold_pass() {
    let desk = desk_with(CASES);
    let said = said(&["test", &desk.component()]).await;
    assert_eq!(said.exit_code, 0, "{said:?}");
    assert_eq!(
        said.stdout.lines().last(),
        Some("8 passed, 0 failed"),
        "{}",
        said.stdout
    );
}

#[tokio::test]
async fn cases_that_do_not_hold_fail_with_the_difference() {
    let wrong = CASES
        .replace("expect: drop", "expect: pass")
        .replace("renamed: true", "renamed: false")
        .replace("event 2", "event 3")
        .replace("means nothing here", "something else");
    let desk = desk_with(&wrong);
    let report = desk.path("report.xml");
    let said = said(&["test", &desk.component(), "--junit", report.to_str().unwrap()]).await;
    assert_eq!(said.exit_code, 1, "{said:?}");
    for expected in [
        "FAILED",
        "- (all): \"pass\"",
        "+ (all): \"drop: not wanted (event e1)\"",
        "- /data/renamed: false",
        "+ /data/renamed: true",
        "event 2: reason",
        "4 passed, 4 failed",
    ] {
        assert!(said.stdout.contains(expected), "{expected} is missing: {}", said.stdout);
    }
    let report = std::fs::read_to_string(report).unwrap();
    assert!(report.contains("tests=\"8\" failures=\"4\""), "{report}");
    assert!(
        report.contains("<testcase name=\"says why\"") && report.contains("- /data/renamed: false"),
        "{report}"
    );
}

#[tokio::test]
async fn cases_are_chosen_by_name_and_mistakes_are_named() {
    let desk = desk_with(CASES);
    let chosen = said(&["test", &desk.component(), "--filter", "says", "--json"]).await;
    assert_eq!(
        (chosen.exit_code, &chosen.json()["passed"]),
        (0, &1.into()),
        "{chosen:?}"
    );
    let nothing = said(&["test", &desk.component(), "--filter", "nothing like this"]).await;
    assert_eq!(nothing.exit_code, 1, "a run without cases is no success: {nothing:?}");
    desk.write("tests/second.yaml", "- name: x\n  event: {type: t}\n  expct: pass\n");
    let wrong = said(&["test", &desk.component()]).await;
    assert_eq!(wrong.exit_code, 64, "{wrong:?}");
    assert!(
        wrong.stderr.contains("second.yaml: \"x\": unknown field `expct`"),
        "{}",
        wrong.stderr
    );
}
