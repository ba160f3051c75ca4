//! Control planes and services that are away, overloaded or wrong.

use std::time::Duration;

use test_support::{Fault, Reply, Route, eventually};

use super::{Remote, answer, events, sorted};
use crate::harness::{SOON, TASK_TRIGGERED, event_id, exit_code, lines_with, numbered_ids, subscriptions};

#[tokio::test]
async fn nothing_is_lost_while_the_service_is_away() {
    let mut remote = Remote::start().await;
    remote.recipient.stop().await;
    remote.open(events("before", 20));
    let process = remote.process(&[]).await;
    process.wait_for_log("the service is not ready", SOON).await.unwrap();
    remote.open(events("meanwhile", 20));

    remote.recipient.start_again().await.unwrap();
    remote.recipient.wait_until_accepted(40, SOON).await.unwrap();
    remote.polled(2).await;
    let mut expected = numbered_ids("before", 20);
    expected.extend(numbered_ids("meanwhile", 20));
    let delivered = remote.recipient.journal().iter().map(event_id).collect();
    assert_eq!(sorted(delivered), sorted(expected), "each once");
}

#[tokio::test]
async fn a_wrong_token_is_said_once_and_a_right_one_is_enough_to_go_on() {
    let remote = Remote::start().await;
    remote.open(events("a", 3));
    remote.control_plane.require_token("another");
    let process = remote.process(&[]).await;
    remote.polled(3).await;
    let said = lines_with(&process, "cannot poll the control plane");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("401") && said[0].contains("invalid credentials"),
        "{said:?}"
    );

    remote.control_plane.require_token("api-token");
    assert_eq!(sorted(remote.delivered_ids(3).await), numbered_ids("a", 3));
    process.wait_for_log("polling goes on", SOON).await.unwrap();
}

#[tokio::test]
async fn a_control_plane_that_wants_to_be_left_alone_is() {
    let remote = Remote::start().await;
    remote.open(events("a", 1));
    let headers = vec![("retry-after".to_owned(), "4".to_owned())];
    let too_many = Fault::Answer(429, headers, r#"{"code":429,"message":"too many requests"}"#.to_owned());
    remote.control_plane.fail_times(Route::OpenEvents, 2, too_many);
    let interest = subscriptions(&[("sub-1", TASK_TRIGGERED), ("sub-2", "sh.keptn.event.other.triggered")]);
    let app = remote.app_interested_in(interest, &[]).await;
    remote.delivered(1).await;
    let polls = remote.polls();
    let pause = polls
        .windows(2)
        .map(|polls| polls[1].received.arrived - polls[0].received.arrived)
        .max();
    assert!(pause >= Some(Duration::from_secs(4)), "{pause:?}");
    app.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_control_plane_in_trouble_costs_neither_events_nor_the_process() {
    let remote = Remote::start().await;
    remote.open(events("a", 5));
    remote.control_plane.fail_with(Route::OpenEvents, |nth| match nth {
        0 => Some(Fault::Status(500)),
        2 => Some(Fault::Html(200)),
        4 => Some(Fault::WrongJson),
        5 => Some(answer(200, "{}")),
        7 => Some(answer(404, "")),
        8 => Some(Fault::Empty),
        10 => Some(Fault::Hang),
        12 => Some(answer(302, "")),
        13 => Some(Fault::LoseAnswer),
        _ => None,
    });
    let process = remote.process(&[("API_PROXY_HTTP_TIMEOUT", "1")]).await;
    let mut expected = numbered_ids("a", 5);
    for number in 1..16 {
        let name = format!("after-{number}");
        remote.open(events(&name, 1));
        expected.extend(numbered_ids(&name, 1));
        let polled = eventually(SOON * 2, async || remote.polls().len() > number).await;
        polled.expect("it goes on polling");
    }
    remote.delivered(expected.len()).await;
    remote.polled(2).await;
    let delivered = remote.recipient.journal().iter().map(event_id).collect();
    assert_eq!(sorted(delivered), sorted(expected), "each once");
    assert!(lines_with(&process, " WARN ").len() <= 10);
}

#[tokio::test]
async fn what_the_service_refuses_is_one_dead_letter_while_it_stays_open() {
    let remote = Remote::start().await;
    let folder = tempfile::tempdir().unwrap();
    let place = format!("file:{}", folder.path().display());
    remote
        .recipient
        .respond_with(|request, _| Reply::status(if event_id(request) == "a-1" { 422 } else { 200 }));
    remote.open(events("a", 3));
    let process = remote.process(&[("DEAD_LETTER", &place)]).await;
    process
        .wait_for_log("the event is in the dead letters", SOON)
        .await
        .unwrap();
    remote.delivered(3).await;
    remote.polled(5).await;
    assert_eq!(remote.recipient.n_received(), 3);
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(lines_with(&process, "DEAD_LETTER").is_empty());
}

#[tokio::test]
async fn a_failing_delivery_is_tried_again_and_nothing_else_waits_for_it() {
    let remote = Remote::start().await;
    remote.recipient.respond_with(|request, nth| {
        Reply::status(if event_id(request) == "a-0" && nth < 20 {
            500
        } else {
            200
        })
    });
    remote.open(events("a", 20));
    let variables = [("DELIVERY_BACKOFF_MAX", "100ms"), ("DELIVERY_RETRY", "1000")];
    let app = remote
        .app_interested_in(subscriptions(&[("sub-1", TASK_TRIGGERED)]), &variables)
        .await;
    remote.recipient.wait_until_accepted(20, SOON).await.unwrap();
    remote.polled(2).await;
    let accepted = remote
        .recipient
        .deliveries()
        .into_iter()
        .filter(test_support::Delivery::is_accepted);
    let accepted = accepted.map(|delivery| delivery.id.to_string()).collect();
    assert_eq!(sorted(accepted), sorted(numbered_ids("a", 20)));
    app.shut_down().await.unwrap();
}

#[tokio::test]
async fn events_that_fill_the_memory_without_getting_on_make_room_for_others() {
    let remote = Remote::start().await;
    remote
        .recipient
        .respond_with(|request, _| Reply::status(if event_id(request).starts_with("bad") { 503 } else { 200 }));
    remote.open(events("good", 1));
    let app = remote
        .app_interested_in(
            subscriptions(&[("sub-1", TASK_TRIGGERED)]),
            &[
                ("DELIVERY_MAX_INFLIGHT", "4"),
                ("DELIVERY_BACKOFF_DELAY", "30s"),
                ("DELIVERY_BACKOFF_MAX", "30s"),
            ],
        )
        .await;
    remote.recipient.wait_until_accepted(1, SOON).await.unwrap();
    remote.open(events("bad", 8));
    remote.open(events("late", 8));
    remote.recipient.wait_until_accepted(9, SOON).await.unwrap();
    app.shut_down().await.unwrap();
}

#[tokio::test]
async fn the_end_waits_for_what_is_being_delivered_and_leaves_the_rest() {
    let remote = Remote::start().await;
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("settled.json");
    let variables = [
        ("DEDUPE_STATE_FILE", state.to_str().unwrap()),
        ("DELIVERY_CONCURRENCY", "4"),
    ];
    remote
        .recipient
        .respond_with(|_, _| Reply::status(200).after(Duration::from_millis(100)));
    remote.open(events("a", 400));
    let mut first = remote.process(&variables).await;
    remote.recipient.wait_until_accepted(20, SOON).await.unwrap();
    first.terminate().unwrap();
    assert_eq!(exit_code(&mut first).await, 0);
    let n_before = remote.recipient.n_received();
    assert_eq!(n_before, remote.recipient.n_accepted(), "what had begun was ended");
    assert!(n_before < 300, "the rest was left");

    remote.recipient.respond_with(|_, _| Reply::status(200));
    let _second = remote.process(&variables).await;
    remote.recipient.wait_until_accepted(400, SOON).await.unwrap();
    remote.polled(2).await;
    assert_eq!(remote.recipient.n_received(), 400, "each once over both processes");
}
