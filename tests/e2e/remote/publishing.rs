//! Answers of plugins on their way to the API.

use test_support::Route;

use super::{Remote, answer};
use crate::harness::{PluginFolder, TASK_TRIGGERED, event_in, json, subscriptions};

#[tokio::test]
async fn what_a_plugin_answers_is_sent_until_the_api_takes_it() {
    let remote = Remote::start().await;
    remote
        .control_plane
        .fail_with(Route::SendEvent, |nth| (nth == 0).then(|| answer(503, "")));
    let folder = PluginFolder::behaving_with("answer", "grants = [\"publish\"]", "");
    let app = remote
        .app_interested_in(subscriptions(&[("id1", TASK_TRIGGERED)]), &[folder.variable()])
        .await;

    remote.open([event_in("context", "bad")]);

    assert_eq!(remote.delivered_ids(1).await, ["bad"]);
    let sent = remote
        .control_plane
        .wait_for_requests(Route::SendEvent, 2, crate::harness::SOON)
        .await
        .unwrap();
    let [refused, taken] = [0, 1].map(|index: usize| json(&sent[index].received.body));
    assert_eq!(refused["id"], taken["id"]);
    assert_eq!(
        (&taken["type"], &taken["triggeredid"], &taken["shkeptncontext"]),
        (&"sh.keptn.event.task.finished".into(), &"bad".into(), &"context".into())
    );
    // The event has its answer: it neither comes again nor is it answered again.
    remote.polled(2).await;
    assert_eq!(remote.control_plane.requests_to(Route::SendEvent).len(), 2);
    assert_eq!(remote.recipient.journal().len(), 1);
    app.shut_down().await.unwrap();
}
