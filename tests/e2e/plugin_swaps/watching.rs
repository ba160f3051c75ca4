//! What of a directory takes effect, and when.

use test_support::{ConfigMapVolume, Signal, eventually};

use super::rig::{Rig, process, status, tagging, tagging_itself};
use crate::harness::*;

#[tokio::test]
async fn a_changed_config_map_takes_effect_without_a_restart() {
    let mut rig = Rig::tagging("one", &[]).await;
    assert_eq!(rig.tag().await, "one");

    rig.swap_to("two").await;
    assert_eq!(rig.tag().await, "two");
    rig.volume.write(&tagging_itself("built-in-tag-0001")).unwrap();
    rig.wait_for_generation(3).await;
    assert_eq!(rig.tag().await, "built-in-tag-0001");

    let status = rig.status().await;
    let plugin = &status["plugins"][1];
    assert_eq!(plugin["name"], "tagging");
    assert_eq!(plugin["digest"], digest(&tagging_itself("built-in-tag-0001")[1].1));
    assert_eq!(plugin["hooks"], serde_json::json!(["transform"]));
    assert_eq!(plugin["directions"], serde_json::json!(["incoming"]));
    assert_eq!(plugin["mode"], "enforce");
    assert_eq!(status["previous"]["generation"], 2);
    assert_eq!(
        (&status["degraded"], &status["notifications"]),
        (&false.into(), &true.into())
    );
    let results: Vec<_> = status["history"].as_array().unwrap().iter().collect();
    assert_eq!(results.len(), 3, "{status:#}");
    assert!(results.iter().all(|reload| reload["result"] == "replaced"));
    assert_eq!(results[2]["trigger"], "start");

    let lines = lines_with(&rig.process, "plugins replaced");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[1].contains("generation=3 previous=2"), "{lines:#?}");
    // An event arrives before its line.
    let is_written = async || lines_with(&rig.process, " delivered ").len() >= 3;
    eventually(SOON, is_written).await.unwrap();
    let delivered = lines_with(&rig.process, " delivered ");
    let generations = delivered.iter().map(|line| line.rsplit('=').next().unwrap());
    assert_eq!(generations.collect::<Vec<_>>(), ["1", "2", "3"]);
}

#[tokio::test]
async fn the_same_content_is_no_new_generation() {
    let mut rig = Rig::tagging("one", &[("LOG_LEVEL", "debug")]).await;
    rig.volume.write(&tagging("one")).unwrap();
    let line = rig
        .process
        .wait_for_log("PLUGINS_DIR holds what it held before", SOON)
        .await;
    assert!(line.unwrap().contains("generation=1"));

    let answer = rig.post("/plugins/reload").await;
    let body = json(&answer.body);
    assert_eq!(
        (answer.status, &body["generation"], &body["replaced"]),
        (200, &1.into(), &false.into())
    );
    let note = body["note"].as_str().unwrap();
    assert!(note.contains("immutable: true") && note.contains("subPath"), "{note}");
    assert_eq!(rig.generation().await, 1);
}

#[tokio::test]
async fn a_config_map_that_is_created_later_takes_effect() {
    let mut rig = Rig::with(ConfigMapVolume::new().unwrap(), &[]).await;
    assert_eq!(rig.tag().await, "");
    rig.swap_to("one").await;
    assert_eq!(rig.tag().await, "one");
}

#[tokio::test]
async fn files_that_are_written_in_place_take_effect() {
    let peers = Peers::start().await;
    let folder = PluginFolder::new().file("tagging.wasm", &tagging("")[1].1);
    let process = process(&peers, folder.path().as_ref(), &[]).await;
    let control = process.control_address(SOON).await.unwrap();
    let folder = folder.file("tagging.wasm", &tagging_itself("built-in-tag-0001")[1].1);
    let is_new = async || status(control).await["generation"] == 2;
    eventually(SOON, is_new).await.unwrap();
    drop(folder);
}

#[tokio::test]
async fn whatever_comes_in_between_the_last_version_is_the_one_that_counts() {
    let mut rig = Rig::tagging("0", &[]).await;
    // Each takes away the files of the one before, whether they are being read or not.
    for number in 1..=64 {
        rig.volume.write(&tagging(&number.to_string())).unwrap();
    }
    eventually(SOON, async || rig.tag().await == "64").await.unwrap();
    assert_eq!(rig.refusals(), [""; 0]);
    // In steady state nothing is built any more.
    let generation = rig.generation().await;
    assert_eq!(json(&rig.post("/plugins/reload").await.body)["generation"], generation);
}

#[tokio::test]
async fn a_directory_that_is_deleted_changes_nothing_until_it_is_back() {
    let peers = Peers::start().await;
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("plugins");
    let put = |tag: &str| {
        std::fs::create_dir(&folder).unwrap();
        for (name, content) in tagging(tag) {
            std::fs::write(folder.join(name), content).unwrap();
        }
    };
    put("one");
    let process = process(&peers, &folder, &[("PLUGINS_POLL_INTERVAL", "50ms")]).await;
    let control = process.control_address(SOON).await.unwrap();

    std::fs::remove_dir_all(&folder).unwrap();
    // Emptied first, then gone.
    let is_gone = async || {
        status(control).await["refused"]["problems"][0]
            .to_string()
            .contains("cannot read")
    };
    eventually(SOON, is_gone).await.unwrap();
    assert_eq!(status(control).await["generation"], 1);
    peers.publish(&event("e")).await;
    assert_eq!(peers.delivered(1).await[0].json().unwrap()["tag"], "one");

    put("two");
    let is_back = async || status(control).await["generation"] == 2;
    eventually(SOON, is_back).await.unwrap();
    assert_eq!(status(control).await["degraded"], false);
}

#[tokio::test]
async fn a_config_map_that_is_emptied_is_taken_for_deleted() {
    let mut rig = Rig::tagging("one", &[]).await;
    rig.volume.write::<&str>(&[]).unwrap();
    let problems = rig.wait_for_refusal().await;
    assert!(
        problems[0].contains("is empty") && problems[0].contains("`plugins.toml` without"),
        "{problems:?}"
    );
    assert_eq!(rig.tag().await, "one");

    // This is how it is said on purpose.
    rig.volume.write(&[("plugins.toml", "")]).unwrap();
    rig.wait_for_generation(2).await;
    assert_eq!(rig.tag().await, "");
}

#[tokio::test]
async fn sighup_reads_again_what_nobody_can_watch() {
    let peers = Peers::start().await;
    let elsewhere = PluginFolder::new().file("tagging.wasm", &tagging("")[1].1);
    let manifest = format!(
        "[[plugin]]\nname = \"a\"\ncomponent = \"{}/tagging.wasm\"\n",
        elsewhere.path()
    );
    let folder = PluginFolder::new().file("plugins.toml", manifest);
    let process = process(&peers, folder.path().as_ref(), &[]).await;
    let elsewhere = elsewhere.file("tagging.wasm", &tagging_itself("built-in-tag-0001")[1].1);

    process.signal(Signal::HUP).unwrap();
    let line = process.wait_for_log("plugins replaced", SOON).await.unwrap();
    assert!(
        line.contains("generation=2") && line.contains("trigger=\"signal\""),
        "{line}"
    );
    process.signal(Signal::HUP).unwrap();
    process.wait_for_log("nothing is replaced", SOON).await.unwrap();
    drop(elsewhere);
}
