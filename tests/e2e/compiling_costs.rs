//! What compiling a large component costs the sidecar: nothing that stays.

use std::path::Path;

use test_support::padded_component;

use crate::harness::*;

/// A component of 1 MiB.
fn large_component() -> Vec<u8> {
    let component = guest("guest_misbehaving.wasm");
    let component = padded_component(&component, (1 << 20) - component.len());
    assert!(
        (1000 << 10..1048 << 10).contains(&component.len()),
        "{}",
        component.len()
    );
    component
}

/// Resident memory of a process that has loaded the component and delivered an event with it, in bytes.
async fn memory_with(folder: &PluginFolder, cache: &Path) -> u64 {
    let peers = Peers::start().await;
    let cache = cache.to_str().unwrap();
    let process = peers
        .process(&[ALL_TOPICS, folder.variable(), ("PLUGINS_CACHE_DIR", cache)])
        .await;
    peers.publish_all([event("bad"), event("good")]).await;
    assert_eq!(peers.delivered_ids(1).await, ["good"]);
    process.process().resident_memory().unwrap().now
}

#[tokio::test]
async fn compiling_a_large_component_leaves_no_memory_behind() {
    const TOLERANCE: u64 = 2 << 20;
    let cache = tempfile::tempdir().unwrap();
    let manifest = "[[plugin]]\nname = \"large\"\ncomponent = \"large.wasm\"\n\
                    [plugin.config]\nbehaviour = \"drop\"\nonly = \"bad\"\n";
    let folder = PluginFolder::new()
        .file("plugins.toml", manifest)
        .file("large.wasm", large_component());

    let compiled = memory_with(&folder, cache.path()).await;
    let entries = std::fs::read_dir(cache.path().join("native")).unwrap();
    let native = entries
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .max()
        .unwrap();
    assert!(native > 1 << 20, "only {native} bytes of code");
    let from_cache = memory_with(&folder, cache.path()).await;
    println!(
        "compiled {} KiB, from the cache {} KiB, native code {} KiB",
        compiled >> 10,
        from_cache >> 10,
        native >> 10
    );
    assert!(
        compiled < from_cache + TOLERANCE,
        "{compiled} bytes when it was compiled, {from_cache} when it was not"
    );
}
