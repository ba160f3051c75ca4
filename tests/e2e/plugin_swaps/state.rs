//! What plugins remember over a swap.

use test_support::ConfigMapVolume;

use super::rig::Rig;
use crate::harness::*;

/// The files of a plugin of this name that counts events in its state, and says how many.
fn counting(name: &str, release: u32) -> Vec<(&'static str, Vec<u8>)> {
    let manifest = format!(
        "[[plugin]]\nname = \"{name}\"\ncomponent = \"guest.wasm\"\ngrants = [\"state\"]\n\
         [plugin.config]\nbehaviour = \"state-count\"\nonly = \"bad\"\ncount = {release}\n"
    );
    vec![
        ("plugins.toml", manifest.into_bytes()),
        ("guest.wasm", guest("guest_misbehaving.wasm")),
    ]
}

/// Sends an event and returns what the plugin says of it.
async fn count(rig: &Rig, number: usize) -> String {
    rig.peers.publish(&event(&format!("bad-{number}"))).await;
    let wanted = format!("event_id=\"bad-{number}\"");
    let is_dropped = |line: &String| line.contains("dropped by a plugin") && line.contains(&wanted);
    let find = || lines_with(&rig.process, &wanted).into_iter().find(is_dropped);
    let dropped = test_support::eventually(SOON, async || find().is_some()).await;
    dropped.unwrap_or_else(|_| panic!("{wanted} is not dropped"));
    find().unwrap()
}

#[tokio::test]
async fn state_and_metrics_survive_a_swap_and_belong_to_a_name() {
    let mut volume = ConfigMapVolume::new().unwrap();
    volume.write(&counting("counter", 1)).unwrap();
    let mut rig = Rig::with(volume, &[("LOG_LEVEL", "debug")]).await;
    assert!(count(&rig, 1).await.contains("event 1\""));

    for release in 2..5_u32 {
        rig.volume.write(&counting("counter", release)).unwrap();
        rig.wait_for_generation(release.into()).await;
        let line = count(&rig, release as usize).await;
        assert!(line.contains(&format!("event {release}\"")), "{line}");
    }

    rig.volume.write(&counting("another", 1)).unwrap();
    rig.wait_for_generation(5).await;
    let line = count(&rig, 5).await;
    assert!(line.contains("event 1\""), "another name has none of it: {line}");

    // The chain before is kept for a rollback, and its state with it.
    assert_eq!(rig.post("/plugins/rollback").await.status, 200);
    let line = count(&rig, 6).await;
    assert!(line.contains("event 5\""), "{line}");

    rig.process.terminate().unwrap();
    assert_eq!(exit_code(&mut rig.process).await, 0);
    assert_eq!(lines_with(&rig.process, "metric=\"events_total\" value=5").len(), 1);
}
