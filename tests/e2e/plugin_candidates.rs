//! Plugins that are tried out beside the chain, or on a share of the events.

use std::collections::BTreeSet;

use test_support::{DistributorProcess, eventually, http_request};

use crate::harness::*;

/// An entry of the chain file for the misbehaving guest.
fn entry(name: &str, lines: &str, behaviour: &str, only: &str) -> String {
    format!(
        "[[plugin]]\nname = \"{name}\"\ncomponent = \"guest.wasm\"\n{lines}\n\
         [plugin.config]\nbehaviour = \"{behaviour}\"\nonly = \"{only}\"\n"
    )
}

fn folder(entries: &[String]) -> PluginFolder {
    PluginFolder::with_manifest(&entries.concat())
}

/// Ends the process, and returns what it says about its candidate.
async fn outcome(process: &mut DistributorProcess) -> String {
    process.terminate().unwrap();
    assert_eq!(exit_code(process).await, 0);
    let mut lines = lines_with(process, "candidate was tried out");
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

fn assert_says(line: &str, words: &[&str]) {
    for word in words {
        assert!(line.contains(word), "{word} is missing: {line}");
    }
}

#[tokio::test]
async fn a_shadow_that_disagrees_on_3_of_1000_events_reports_exactly_those() {
    let peers = Peers::start().await;
    let folder = folder(&[
        entry("active", "", "drop", "unwanted"),
        entry("candidate", "mode = \"shadow\"", "drop", "un"),
    ]);
    let control = ("CONTROL_BIND", "127.0.0.1:0");
    let mut process = peers.process(&[ALL_TOPICS, control, folder.variable()]).await;
    let control = process.control_address(SOON).await.unwrap();

    let ids: Vec<_> = (0..1000)
        .map(|number| match number {
            17 | 500 | 999 => format!("unclear-{number}"),
            number if number % 10 == 0 => format!("unwanted-{number}"),
            number => format!("wanted-{number}"),
        })
        .collect();
    peers.publish_all(ids.iter().map(|id| event(id))).await;

    let passed: Vec<_> = ids.iter().filter(|id| !id.starts_with("unwanted")).cloned().collect();
    assert_same(&peers.delivered_ids(passed.len()).await, &passed);
    let trial = async || {
        let answer = http_request(control, "GET", "/plugins", &[], "").await.unwrap();
        json(&answer.body)["trials"][0].take()
    };
    let has_seen_all = async || {
        let trial = trial().await;
        trial["agreed"].as_u64().unwrap() + trial["disagreed"].as_u64().unwrap() == 1000
    };
    eventually(SOON, has_seen_all).await.unwrap();
    let samples = trial().await["samples"].take();
    let samples: Vec<_> = samples
        .as_array()
        .unwrap()
        .iter()
        .map(|sample| &sample["event_id"])
        .collect();
    assert_eq!(samples, ["unclear-17", "unclear-500", "unclear-999"]);
    let line = outcome(&mut process).await;
    assert_says(
        &line,
        &[
            "plugin=candidate",
            "beside=\"active\"",
            "enforced=0",
            "agreed=997",
            "disagreed=3",
            "failed=0",
            "skipped=0",
        ],
    );
    let disagreements = lines_with(&process, "candidate disagrees");
    assert_eq!(disagreements.len(), 3, "{disagreements:?}");
    for (line, id) in disagreements.iter().zip(["unclear-17", "unclear-500", "unclear-999"]) {
        assert_says(
            line,
            &[
                &format!("event_id=\"{id}\""),
                "active=\"passes it\"",
                "candidate=\"drops it: not wanted\"",
            ],
        );
    }
}

#[tokio::test]
async fn a_shadow_without_a_counterpart_is_compared_with_letting_events_pass() {
    let peers = Peers::start().await;
    let folder = folder(&[entry("candidate", "mode = \"shadow\"", "rename", "bad")]);
    let mut process = peers.process(&[ALL_TOPICS, folder.variable()]).await;

    peers.publish_all([event("good"), event("bad")]).await;

    let delivered = peers.delivered(2).await;
    assert_eq!(delivered[1].body, event("bad").to_bytes(), "a shadow changes nothing");
    assert_says(&outcome(&mut process).await, &["agreed=1", "disagreed=1"]);
    assert!(lines_with(&process, "candidate disagrees")[0].contains("bad"));
}

#[tokio::test]
async fn a_shadow_is_compared_with_the_plugin_that_its_entry_names() {
    let peers = Peers::start().await;
    let folder = folder(&[
        entry("first", "", "drop", "bad"),
        entry("second", "", "rename", "ugly"),
        entry("candidate", "mode = \"shadow\"\nbeside = \"first\"", "drop", "bad"),
    ]);
    let mut process = peers.process(&[ALL_TOPICS, folder.variable()]).await;

    peers.publish_all(["bad", "ugly", "good"].map(event)).await;

    peers.delivered(2).await;
    let words = ["beside=\"first\"", "agreed=3", "disagreed=0"];
    assert_says(&outcome(&mut process).await, &words);
}

#[tokio::test]
async fn a_shadow_publishes_nothing() {
    let peers = Peers::start().await;
    let folder = folder(&[entry(
        "candidate",
        "mode = \"shadow\"\ngrants = [\"publish\"]",
        "publish",
        "bad",
    )]);
    let mut process = peers.process(&[ALL_TOPICS, folder.variable()]).await;
    let mut control_plane = peers.listen("sh.keptn.>").await;

    peers.publish_all([event("bad"), event("good")]).await;

    assert_eq!(peers.delivered_ids(2).await, ["bad", "good"]);
    assert_says(&outcome(&mut process).await, &["agreed=1", "disagreed=1"]);
    // What it would have published would be between or behind these.
    peers.publish(&event("last")).await;
    assert_eq!(control_plane.next_ids(3).await, ["bad", "good", "last"]);
}

#[tokio::test]
async fn a_shadow_that_loops_holds_nothing_up() {
    const N_EVENTS: usize = 2000;
    let peers = Peers::start().await;
    let folder = folder(&[entry("candidate", "mode = \"shadow\"\ntimeout = \"60s\"", "loop", "")]);
    let mut process = peers.process(&[ALL_TOPICS, folder.variable()]).await;

    peers.publish_all(events("e", N_EVENTS)).await;

    assert_same(&peers.delivered_ids(N_EVENTS).await, &numbered_ids("e", N_EVENTS));
    let line = outcome(&mut process).await;
    // It is still at the first event, and the others were skipped, those that waited as well.
    assert_says(&line, &["agreed=0", "disagreed=0", "failed=0", "skipped=1999"]);
}

#[tokio::test]
async fn a_shadow_that_traps_is_counted_and_explained() {
    let peers = Peers::start().await;
    let folder = folder(&[entry("candidate", "mode = \"shadow\"", "trap", "bad")]);
    let mut process = peers
        .process(&[ALL_TOPICS, folder.variable(), ("LOG_LEVEL", "debug")])
        .await;

    peers.publish_all([event("bad"), event("good")]).await;

    assert_eq!(peers.delivered_ids(2).await, ["bad", "good"]);
    assert_says(&outcome(&mut process).await, &["agreed=1", "failed=1"]);
    assert!(lines_with(&process, "candidate failed")[0].contains("told to trap at event bad"));
    assert_eq!(lines_with(&process, " plugin_failures=0").len(), 1);
}

/// Delivers an event of each of 200 Keptn contexts, and returns the contexts whose event the canary has changed.
async fn share(peers: &Peers, folder: &PluginFolder) -> BTreeSet<String> {
    let before = peers.recipient.journal().len();
    let mut process = peers.process(&[ALL_TOPICS, folder.variable()]).await;
    for number in 0..200 {
        let context = format!("context-{number}");
        peers
            .publish_all([event_in(&context, "first"), event_in(&context, "second")])
            .await;
    }
    let delivered = peers.delivered(before + 400).await;
    let line = outcome(&mut process).await;
    let (mut changed, mut unchanged) = (BTreeSet::new(), BTreeSet::new());
    for request in &delivered[before..] {
        let event = json(&request.body);
        let side = if event["data"]["renamed"] == true {
            &mut changed
        } else {
            &mut unchanged
        };
        side.insert(event["shkeptncontext"].as_str().unwrap().to_owned());
    }
    assert!(changed.is_disjoint(&unchanged), "a key is on one side");
    assert_says(
        &line,
        &[
            &format!("enforced={}", changed.len() * 2),
            &format!("disagreed={}", unchanged.len() * 2),
            "skipped=0",
        ],
    );
    changed
}

#[tokio::test]
async fn a_canary_counts_for_the_same_share_of_the_keys_after_a_restart() {
    let peers = Peers::start().await;
    let active = entry("active", "", "keep", "");
    let canary = |percent| {
        entry(
            "canary",
            &format!("mode = \"canary\"\npercent = {percent}"),
            "rename",
            "",
        )
    };
    let small = folder(&[active.clone(), canary(20)]);

    let first = share(&peers, &small).await;
    assert!((20..60).contains(&first.len()), "{} of 200 keys", first.len());
    assert_eq!(share(&peers, &small).await, first);
    let larger = share(&peers, &folder(&[active, canary(50)])).await;
    assert!(first.is_subset(&larger) && larger.len() > first.len());
}

#[tokio::test]
async fn a_canary_takes_the_place_of_the_other() {
    let peers = Peers::start().await;
    let folder = folder(&[
        entry("active", "", "split", ""),
        entry("canary", "mode = \"canary\"\npercent = 100", "split", ""),
        entry("later", "", "drop", "e-2"),
    ]);
    let _app = peers.app(&[ALL_TOPICS, folder.variable()]).await;

    peers.publish(&event("e")).await;

    // Run one after the other they would have made nine.
    assert_eq!(peers.delivered_ids(2).await, ["e-1", "e-3"]);
}

#[tokio::test]
async fn what_came_of_a_candidate_is_said_when_its_chain_is_replaced() {
    let peers = Peers::start().await;
    let folder = folder(&[entry("candidate", "mode = \"shadow\"", "drop", "bad")]);
    let control = ("CONTROL_BIND", "127.0.0.1:0");
    let process = peers.process(&[ALL_TOPICS, control, folder.variable()]).await;
    let control = process.control_address(SOON).await.unwrap();
    peers.publish_all([event("bad"), event("good")]).await;
    assert_eq!(peers.delivered_ids(2).await, ["bad", "good"]);

    let folder = folder.file("plugins.toml", entry("candidate", "", "drop", "bad"));
    let headers = [("distributor-control", "1")];
    let reloaded = http_request(control, "POST", "/plugins/reload", &headers, "").await;
    assert_eq!(reloaded.unwrap().status, 200);

    let line = process.wait_for_log("candidate was tried out", SOON).await.unwrap();
    assert_says(&line, &["agreed=1", "disagreed=1", "skipped=0", "generation=1"]);
    peers.publish_all([event("bad-now"), event("last")]).await;
    assert_eq!(peers.delivered_ids(3).await.pop().unwrap(), "last", "now it counts");
    drop(folder);
}
