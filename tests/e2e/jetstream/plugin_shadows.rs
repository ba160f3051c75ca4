//! A plugin that is tried out beside the chain costs the others nothing.

use std::time::Duration;

use super::order::latencies;
use super::rig::{Rig, extent};
use crate::harness::{PluginFolder, exit_code, lines_with};

#[tokio::test]
async fn a_shadow_that_loops_leaves_the_time_of_deliveries_alone() {
    let rig = Rig::start().await;
    let (rate, n) = (extent(500.0, 1000.0), extent(1000, 10_000));
    let folder = PluginFolder::with_manifest(
        "[[plugin]]\nname = \"looping\"\ncomponent = \"guest.wasm\"\nmode = \"shadow\"\n\
         [plugin.config]\nbehaviour = \"loop\"\n",
    );

    let mut alone = rig.process(&[]).await;
    let without = latencies(&rig, "before", rate, n).await;
    alone.terminate().unwrap();
    assert_eq!(exit_code(&mut alone).await, 0);
    let mut beside = rig.process(&[folder.variable()]).await;
    let with = latencies(&rig, "during", rate, n).await;
    beside.terminate().unwrap();
    assert_eq!(exit_code(&mut beside).await, 0);

    println!("p99 of deliveries: {without:?} without, {with:?} with a shadow that loops");
    let outcome = lines_with(&beside, "candidate was tried out");
    assert!(
        outcome.len() == 1 && outcome[0].contains("agreed=0 disagreed=0") && !outcome[0].contains("failed=0"),
        "{outcome:?}"
    );
    // The goal is that nothing shows; tests that run side by side on a small machine move more than that.
    let limit = extent(
        without * 3 + Duration::from_millis(50),
        without.mul_f64(1.2) + Duration::from_millis(1),
    );
    assert!(with <= limit, "{with:?} instead of {without:?}");
}
