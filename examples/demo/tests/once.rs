//! The demo is the first thing that people see, so it is run like everything else. It finds the distributor beside
//! itself, where `cargo test --workspace` has just built it.

use std::process::Command;

#[test]
fn one_run_ends_with_numbers_that_add_up() {
    let output = Command::new(env!("CARGO_BIN_EXE_demo")).arg("--once").output().unwrap();

    let shown = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}\n{complaints}");
    for expected in [
        "30 of 30, in order, each at its first attempt",
        "now a dead letter (retries_exhausted)",
        "now a dead letter (permanent_status)",
        "of 2 dead letters 2 were delivered",
        "there are no dead letters",
        "It adds up",
    ] {
        assert!(shown.contains(expected), "{expected:?} in {shown}");
    }
}
