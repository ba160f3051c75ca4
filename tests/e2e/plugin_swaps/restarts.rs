//! Restarts while the directory is broken.

use test_support::ConfigMapVolume;

use super::rig::{Rig, process, status, tagging};
use crate::harness::*;

#[tokio::test]
async fn a_restart_with_a_broken_directory_comes_up_with_the_last_plugins_that_worked() {
    let cache = tempfile::tempdir().unwrap();
    let variables = [("PLUGINS_CACHE_DIR", cache.path().to_str().unwrap())];
    let mut rig = Rig::tagging("one", &variables).await;
    rig.swap_to("two").await;
    rig.volume.write(&[("plugins.toml", "[[plugin]\n")]).unwrap();
    rig.wait_for_refusal().await;
    rig.process.kill().await.unwrap();
    rig.start_again(&variables).await;
    assert_eq!(rig.tag().await, "two");
    let lines = lines_with(&rig.process, "started with the last plugins that worked");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    for word in ["ERROR", rig.volume.text(), "plugins.toml", "line 1"] {
        assert!(lines[0].contains(word), "{word} is missing: {lines:?}");
    }
    let status = rig.status().await;
    assert_eq!(
        (&status["degraded"], &status["origin"]["kind"]),
        (&true.into(), &"snapshot".into())
    );

    rig.swap_to("three").await;
    assert_eq!(rig.tag().await, "three");
    assert_eq!(rig.status().await["degraded"], false);
}

#[tokio::test]
async fn a_restart_with_an_emptied_directory_is_no_start_without_plugins() {
    let cache = tempfile::tempdir().unwrap();
    let variables = [("PLUGINS_CACHE_DIR", cache.path().to_str().unwrap())];
    let mut rig = Rig::tagging("one", &variables).await;
    rig.process.kill().await.unwrap();
    rig.volume.write::<&str>(&[]).unwrap();
    rig.start_again(&variables).await;
    assert_eq!(rig.tag().await, "one");
}

#[tokio::test]
async fn without_a_place_for_a_copy_everything_else_works() {
    let peers = Peers::start().await;
    let mut volume = ConfigMapVolume::new().unwrap();
    volume.write(&tagging("one")).unwrap();
    // A file is no directory.
    let file = tempfile::NamedTempFile::new().unwrap();
    let variables = [("PLUGINS_CACHE_DIR", file.path().to_str().unwrap())];
    let process = process(&peers, volume.path(), &variables).await;
    let line = process
        .wait_for_log("no copy of the plugins is kept", SOON)
        .await
        .unwrap();
    assert!(line.contains("WARN"), "{line}");
    let control = process.control_address(SOON).await.unwrap();
    assert_eq!(status(control).await["generation"], 1);
}
