//! Events that plugins send to the control plane, in answer to what they get.

use crate::harness::*;

const TASK_FINISHED: &str = "sh.keptn.event.task.finished";
const GRANTED: &str = "grants = [\"publish\"]";

#[tokio::test]
async fn a_plugin_answers_an_event_that_goes_on() {
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving_with("answer", GRANTED, "");
    let app = peers.app(&[("PUBSUB_TOPIC", TASK_TRIGGERED), folder.variable()]).await;
    let mut control_plane = peers.listen(TASK_FINISHED).await;

    peers.publish(&event("bad")).await;

    let answer = json(&control_plane.next().await);
    assert_eq!(answer["type"], TASK_FINISHED);
    assert_eq!(answer["triggeredid"], "bad");
    assert_eq!(answer["shkeptncontext"], event("bad").keptn_context);
    assert_eq!(answer["distributorhops"], 1);
    let id = answer["id"].as_str().unwrap().to_owned();
    assert!(!id.is_empty() && id != "bad", "{answer}");
    assert_eq!(peers.delivered_ids(1).await, ["bad"]);

    // The same event once more has the same answer, and another one another.
    peers.publish_all([event("bad"), event("bad-2")]).await;
    let [again, other]: [String; 2] = control_plane.next_ids(2).await.try_into().unwrap();
    assert_eq!(again, id);
    assert_ne!(other, id);
    app.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_plugin_answers_once_for_each_subscription() {
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving_with("answer", GRANTED, "");
    let interest = subscriptions(&[("id1", TASK_TRIGGERED), ("id2", "sh.keptn.event.*.triggered")]);
    let _app = peers.app_interested_in(interest, &[folder.variable()]).await;
    let mut control_plane = peers.listen(TASK_FINISHED).await;

    peers.publish(&event("bad")).await;

    let [first, second]: [String; 2] = control_plane.next_ids(2).await.try_into().unwrap();
    assert_ne!(first, second);
    assert_eq!(peers.delivered_ids(2).await, ["bad", "bad"]);
}

#[tokio::test]
async fn a_plugin_adds_to_what_the_service_sends() {
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving_with("answer", &format!("on = [\"outgoing\"]\n{GRANTED}"), "");
    let app = peers.app(&[folder.variable()]).await;
    let mut control_plane = peers.listen("sh.keptn.>").await;

    assert_eq!(app.post(event("bad").to_bytes()).await.status, 200);

    assert_eq!(json(&control_plane.next().await), json(&event("bad").to_bytes()));
    let answer = json(&control_plane.next().await);
    assert_eq!(
        (&answer["type"], &answer["triggeredid"]),
        (&TASK_FINISHED.into(), &"bad".into())
    );
}

#[tokio::test]
async fn plugins_that_answer_themselves_are_stopped() {
    let peers = Peers::start().await;
    // What it publishes comes back to it, under an id that the host has given.
    let folder = PluginFolder::with_manifest(&format!(
        "[[plugin]]\nname = \"echo\"\ncomponent = \"guest.wasm\"\n{GRANTED}\n\
         [plugin.config]\nbehaviour = \"publish\"\n"
    ));
    let mut process = peers.process(&[ALL_TOPICS, folder.variable()]).await;
    let mut control_plane = peers.listen(TASK_TRIGGERED).await;

    peers.publish(&event("e")).await;

    let line = process
        .wait_for_log("a loop, which is stopped here", SOON)
        .await
        .unwrap();
    for word in ["ERROR", "reason=\"plugin\"", "plugin=\"echo\"", "distributorhops"] {
        assert!(line.contains(word), "{word} is missing: {line}");
    }
    assert_eq!(json(&control_plane.next().await)["id"], "e");
    for hops in 1..=8 {
        assert_eq!(json(&control_plane.next().await)["distributorhops"], hops);
    }
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    assert_eq!(lines_with(&process, " published=8").len(), 1);
}

#[tokio::test]
async fn an_answer_that_cannot_be_sent_ends_the_event_as_a_dead_letter() {
    let peers = Peers::start().await;
    let folder = PluginFolder::behaving_with("answer", GRANTED, "");
    let process = peers
        .process(&[("PUBSUB_TOPIC", "sh.keptn.>"), folder.variable()])
        .await;

    // What comes over the subject may say that it is of a type that no subject can be.
    let odd = String::from_utf8_lossy(&event("bad").to_bytes()).replace(TASK_TRIGGERED, "no subject.triggered");
    peers.publish_bytes(TASK_TRIGGERED, odd).await;

    let line = process.wait_for_log("which cannot be sent", SOON).await.unwrap();
    for word in ["event_id=\"bad\"", "plugin=\"suspect\"", "no subject.finished"] {
        assert!(line.contains(word), "{word} is missing: {line}");
    }
    assert_eq!(peers.delivered_ids(1).await, ["bad"], "the event itself goes on");
}
