//! Lists that are longer than a page, and change while they are read.

use std::fmt::Write;

use test_support::Route;

use super::{Remote, answer, event_of, events, sorted};
use crate::harness::{TASK_TRIGGERED, event_id, numbered_ids, subscriptions};

/// A page with the events of these numbers.
pub(super) fn page(numbers: impl IntoIterator<Item = usize>, next: &str) -> String {
    let mut page = "{\"events\":[".to_owned();
    for (place, number) in numbers.into_iter().enumerate() {
        let comma = if place > 0 { "," } else { "" };
        let event = format!(r#"{{"id":"a-{number}","source":"s","type":"{TASK_TRIGGERED}","data":{{}}}}"#);
        write!(page, "{comma}{event}").unwrap();
    }
    page + &format!("],\"nextPageKey\":\"{next}\"}}")
}

#[tokio::test]
async fn a_list_that_is_longer_than_any_page_of_the_original_comes_whole() {
    let remote = Remote::start().await;
    remote.open(events("a", 250));
    let app = remote
        .app_interested_in(subscriptions(&[("sub-1", TASK_TRIGGERED)]), &[])
        .await;
    assert_eq!(sorted(remote.delivered_ids(250).await), sorted(numbered_ids("a", 250)));
    app.shut_down().await.unwrap();
}

#[tokio::test]
async fn nothing_is_lost_or_repeated_when_events_close_and_open_between_two_pages() {
    let remote = Remote::start().await;
    // A server that has its own idea of the size of a page. When the first 30 events are closed, the others move up, and
    // the next offset skips as many; when some are opened in front, they move down, and the offset repeats some.
    let pages = [
        page(0..100, "100"),
        page(130..230, "200"),
        page(210..250, "0"),
        page(30..130, "100"),
        page(110..250, "0"),
    ];
    let last = page(30..250, "0");
    remote.control_plane.fail_with(Route::OpenEvents, move |nth| {
        Some(answer(200, pages.get(nth).unwrap_or(&last)))
    });
    let app = remote
        .app_interested_in(subscriptions(&[("sub-1", TASK_TRIGGERED)]), &[])
        .await;
    remote.delivered(250).await;
    remote.polled(6).await;
    let delivered = remote.recipient.journal().iter().map(event_id).collect();
    assert_eq!(sorted(delivered), sorted(numbered_ids("a", 250)));
    let keys: Vec<_> = remote
        .polls()
        .into_iter()
        .take(3)
        .filter_map(|poll| poll.query)
        .collect();
    assert_eq!(
        keys,
        [
            "pageSize=100000",
            "nextPageKey=100&pageSize=100000",
            "nextPageKey=200&pageSize=100000"
        ]
    );
    app.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_list_that_skips_known_events_now_and_then_does_not_repeat_them() {
    let remote = Remote::start().await;
    remote.open(events("a", 5));
    remote.control_plane.fail_with(Route::OpenEvents, |nth| {
        (nth == 1 || nth == 2).then(|| answer(200, &page([], "0")))
    });
    let app = remote
        .app_interested_in(subscriptions(&[("sub-1", TASK_TRIGGERED)]), &[])
        .await;
    remote.delivered(5).await;
    remote.polled(5).await;
    assert_eq!(remote.recipient.n_received(), 5);
    app.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_server_that_refuses_large_pages_is_asked_for_those_its_documentation_allows() {
    let remote = Remote::start().await;
    remote.open(events("a", 30));
    let refusal = answer(400, r#"{"code":400,"message":"pageSize"}"#);
    remote.control_plane.fail_times(Route::OpenEvents, 1, refusal);
    let app = remote
        .app_interested_in(subscriptions(&[("sub-1", TASK_TRIGGERED)]), &[])
        .await;
    assert_eq!(sorted(remote.delivered_ids(30).await), sorted(numbered_ids("a", 30)));
    remote.polled(1).await;
    let queries: Vec<_> = remote
        .polls()
        .into_iter()
        .skip(1)
        .filter_map(|poll| poll.query)
        .collect();
    assert!(queries.iter().all(|query| query == "pageSize=50"), "{queries:?}");
    app.shut_down().await.unwrap();
}

#[tokio::test]
async fn what_is_behind_a_page_that_is_shown_again_and_again_is_missed_aloud() {
    let remote = Remote::start().await;
    remote.open(events("a", 60));
    // Now this server would have to be followed from page to page, which it cannot.
    remote.control_plane.fail_times(Route::OpenEvents, 1, answer(400, ""));
    let process = remote.process(&[]).await;
    process
        .wait_for_log(
            "every page of the list of open events has the same events",
            crate::harness::SOON,
        )
        .await
        .unwrap();
    remote.delivered(50).await;
    for number in 0..60 {
        remote.control_plane.close_event(&format!("a-{number}"));
    }
    remote.open([event_of(TASK_TRIGGERED, "p", "next")]);
    remote.delivered(51).await;
}
