//! Updates that do not work: they change nothing, and say why.

use super::rig::{Rig, tagging, texts};
use crate::harness::*;

#[tokio::test]
async fn a_broken_update_changes_nothing_and_says_why_once() {
    let mut rig = Rig::tagging("one", &[("LOG_LEVEL", "debug")]).await;
    let mut broken = tagging("two");
    broken[1].1 = b"plugins are welcome here".to_vec();
    rig.volume.write(&broken).unwrap();

    let problems = rig.wait_for_refusal().await;
    assert_eq!(problems.len(), 1, "{problems:?}");
    let file = format!("{}/tagging.wasm", rig.volume.text());
    for word in ["\"tagging\"", &file, "not WebAssembly"] {
        assert!(problems[0].contains(word), "{word} is missing: {problems:?}");
    }
    assert_eq!((rig.tag().await.as_str(), rig.generation().await), ("one", 1));

    // The same content is not tried again.
    rig.volume.write(&broken).unwrap();
    rig.process
        .wait_for_log("PLUGINS_DIR holds what it held before", SOON)
        .await
        .unwrap();
    let lines = rig.refusals();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains("ERROR") && lines[0].contains(&file), "{lines:#?}");

    // Unless somebody asks for it.
    let answer = rig.post("/plugins/reload").await;
    let (status, detail) = problem(&answer);
    assert_eq!(status, 422);
    assert!(detail.contains("generation 1 stays in force"), "{detail}");
    assert_eq!(texts(&json(&answer.body)["problems"]), problems);

    rig.swap_to("three").await;
    assert_eq!(rig.tag().await, "three");
    assert_eq!(rig.status().await["degraded"], false);
}

#[tokio::test]
async fn a_chain_is_replaced_as_a_whole_or_not_at_all() {
    let mut rig = Rig::tagging("one", &[]).await;
    let mut half_broken = tagging("two");
    half_broken[0]
        .1
        .extend(b"[[plugin]]\nname = \"other\"\ncomponent = \"missing.wasm\"\n");
    rig.volume.write(&half_broken).unwrap();
    let problems = rig.wait_for_refusal().await;
    assert!(
        problems[0].contains("\"other\"") && problems[0].contains("missing.wasm"),
        "{problems:?}"
    );
    assert_eq!(rig.tag().await, "one");
}

#[tokio::test]
async fn an_update_that_is_taken_back_leaves_no_trace() {
    let mut rig = Rig::tagging("one", &[]).await;
    rig.volume.write(&[("plugins.toml", "[[plugin]\n")]).unwrap();
    let problems = rig.wait_for_refusal().await;
    assert!(problems[0].contains("line 1"), "{problems:?}");
    rig.volume.write(&tagging("one")).unwrap();
    rig.process.wait_for_log("nothing is replaced", SOON).await.unwrap();
    let status = rig.status().await;
    assert_eq!((&status["generation"], &status["degraded"]), (&1.into(), &false.into()));
}
