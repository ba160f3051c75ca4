//! The demo is the first thing that people see, so it is run like everything else. It finds the distributor beside
//! itself, where `cargo test --workspace` has just built it.

use std::process::Command;

fn check(arguments: &[&str], all_expected: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_demo"))
        .args(arguments)
        .output()
        .expect("the demo starts");

    let shown = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}\n{complaints}");
    for expected in all_expected {
        assert!(shown.contains(expected), "{expected:?} in {shown}");
    }
}

#[test]
fn one_run_ends_with_numbers_that_add_up() {
    let all_expected = [
        "by generation 2",
        "not WebAssembly",
        "by generation 3",
        "30 of 30, in order, each at its first attempt",
        "now a dead letter (retries_exhausted)",
        "now a dead letter (permanent_status)",
        "of 2 dead letters 2 were delivered",
        "there are no dead letters",
        "It adds up",
    ];
    check(&["--once"], &all_expected);
}

#[test]
fn a_sequence_runs_outside_of_the_cluster() {
    let all_expected = [
        "location remote-execution-plane",
        "is finished: dev succeeded, production succeeded",
        "4 tasks triggered, 4 delivered to the service; 8 events of the service sent to the API",
        "It adds up",
    ];
    check(&["--remote", "--once"], &all_expected);
}
