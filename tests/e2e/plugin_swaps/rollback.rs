//! Back to the generation before.

use super::rig::Rig;
use crate::harness::*;

#[tokio::test]
async fn a_rollback_brings_the_plugins_before_back_until_the_directory_changes() {
    let mut rig = Rig::tagging("one", &[("PLUGINS_POLL_INTERVAL", "50ms"), ("LOG_LEVEL", "debug")]).await;
    let (status, detail) = problem(&rig.post("/plugins/rollback").await);
    assert_eq!(status, 409);
    assert!(detail.contains("no earlier generation"), "{detail}");

    rig.swap_to("two").await;
    let answer = rig.post("/plugins/rollback").await;
    let body = json(&answer.body);
    assert_eq!((answer.status, &body["generation"]), (200, &3.into()), "{body}");
    let note = body["note"].as_str().unwrap();
    assert!(
        note.contains("the plugins of generation 1") && note.contains("PLUGINS_DIR still holds others"),
        "{note}"
    );
    assert_eq!(rig.tag().await, "one");
    let status = rig.status().await;
    assert_eq!(status["origin"], serde_json::json!({"kind": "rollback", "to": 1}));
    assert_eq!(status["previous"]["generation"], 2);

    // Once more goes forth again.
    assert_eq!(rig.post("/plugins/rollback").await.status, 200);
    assert_eq!((rig.tag().await.as_str(), rig.generation().await), ("two", 4));
    rig.post("/plugins/rollback").await;

    // The content that was gone back from is not taken for new; a change is.
    rig.volume.write(&super::rig::tagging("two")).unwrap();
    rig.process
        .wait_for_log("PLUGINS_DIR holds what it held before", SOON)
        .await
        .unwrap();
    assert_eq!(rig.tag().await, "one");
    rig.swap_to("three").await;
    assert_eq!(rig.tag().await, "three");
    assert_eq!(rig.status().await["origin"]["kind"], "directory");
}

#[tokio::test]
async fn a_reload_on_demand_ends_a_rollback() {
    let mut rig = Rig::tagging("one", &[]).await;
    rig.swap_to("two").await;
    rig.post("/plugins/rollback").await;
    assert_eq!(rig.tag().await, "one");
    assert_eq!(rig.post("/plugins/reload").await.status, 200);
    assert_eq!((rig.tag().await.as_str(), rig.generation().await), ("two", 4));
}
