//! Components that were built for other texts of the contract: which run here, and how the others are refused.

use std::path::{Path, PathBuf};

use crate::harness::*;

fn museum() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/museum")
}

fn folder_with(version: &str) -> PluginFolder {
    let component = std::fs::read(museum().join(version).join("component.wasm")).unwrap();
    let manifest = "default_filter = false\n[[plugin]]\nname = \"old\"\ncomponent = \"old.wasm\"\n[plugin.config]\nonly = \"bad\"\n";
    PluginFolder::new()
        .file("plugins.toml", manifest)
        .file("old.wasm", component)
}

async fn check_runs(version: &str) {
    let peers = Peers::start().await;
    let folder = folder_with(version);
    let _app = peers.app(&[ALL_TOPICS, folder.variable()]).await;
    peers.publish_all([event("bad"), event("good")]).await;
    assert_eq!(peers.delivered_ids(1).await, ["good"], "built for {version}");
}

async fn check_refused(version: &str, reasons: &[&str]) {
    let (exit_code, _, stderr) = run_to_end(&["check"], &[folder_with(version).variable()]).await;
    assert_eq!(exit_code, 1, "{stderr}");
    let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let [line] = errors.as_slice() else {
        panic!("one line is expected: {stderr}")
    };
    for reason in reasons {
        assert!(line.contains(reason), "{reason} is missing: {line}");
    }
}

#[tokio::test]
async fn what_was_built_for_a_released_contract_runs() {
    let released = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/released");
    for entry in std::fs::read_dir(released).unwrap() {
        let version = entry.unwrap().file_name().into_string().unwrap();
        check_runs(&version).await;
    }
}

#[tokio::test]
async fn what_was_built_for_a_later_patch_runs() {
    check_runs("1.0.3").await;
}

#[tokio::test]
async fn what_was_built_for_a_later_minor_version_runs_while_it_calls_nothing_new() {
    check_runs("1.1.0").await;
    let reasons = [
        "`keptn:distributor/activity@1.1.0`",
        "`flush` of `keptn:distributor/logging@1.1.0`",
        "newer than this host, which speaks 1.0.0",
        "update the distributor",
    ];
    check_refused("1.1.0-in-use", &reasons).await;
}

#[tokio::test]
async fn what_was_built_for_another_major_version_is_refused_with_the_fix() {
    let reasons = [
        "plugin \"old\"",
        "old.wasm",
        "built for contract 2.0.0",
        "this host speaks 1.0.0",
        "wit/world.wit",
    ];
    check_refused("2.0.0", &reasons).await;
}
