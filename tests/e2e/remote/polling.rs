//! What is asked for, and who gets what is listed.

use test_support::eventually;

use super::{Remote, event_of, events, sorted};
use crate::harness::{
    SOON, TASK_TRIGGERED, event_id, ids_and_subscriptions, lines_with, numbered_ids, subscription, subscription_id,
    subscriptions,
};

#[tokio::test]
async fn each_subscription_gets_the_events_of_its_type() {
    let remote = Remote::start().await;
    let types = [
        "sh.keptn.event.a.triggered",
        "sh.keptn.event.b.triggered",
        "sh.keptn.event.c.triggered",
    ];
    remote.open(types.map(|ty| event_of(ty, "p", &format!("id-of-{ty}"))));
    let interest = subscriptions(&[("sub-a", types[0]), ("sub-b", types[1]), ("sub-c", types[2])]);
    let app = remote.app_interested_in(interest, &[]).await;

    let mut delivered = ids_and_subscriptions(&remote.delivered(3).await);
    delivered.sort();
    let expected = types.map(|ty| (format!("id-of-{ty}"), format!("sub-{}", &ty[15..16])));
    assert_eq!(delivered, expected);
    app.shut_down().await.unwrap();
}

#[tokio::test]
async fn several_subscriptions_on_one_type_get_an_event_each_and_share_the_request() {
    let remote = Remote::start().await;
    remote.open([event_of(TASK_TRIGGERED, "p", "1")]);
    let interest = subscriptions(&[
        ("sub-1", TASK_TRIGGERED),
        ("sub-2", TASK_TRIGGERED),
        ("sub-3", TASK_TRIGGERED),
    ]);
    let app = remote.app_interested_in(interest, &[]).await;

    let delivered = ids_and_subscriptions(&remote.delivered(3).await);
    assert_eq!(
        delivered,
        ["sub-1", "sub-2", "sub-3"].map(|subscription| ("1".to_owned(), subscription.to_owned()))
    );
    assert_eq!(remote.polls().len(), 1);
    app.shut_down().await.unwrap();
}

#[tokio::test]
async fn an_event_is_delivered_once_while_it_stays_open() {
    let remote = Remote::start().await;
    remote.open(events("a", 3));
    let process = remote.process(&[]).await;
    assert_eq!(sorted(remote.delivered_ids(3).await), numbered_ids("a", 3));

    remote.polled(2).await;
    remote.open(events("b", 1));
    remote.delivered(4).await;
    remote.polled(2).await;
    assert_eq!(remote.recipient.n_received(), 4);
    assert!(
        lines_with(&process, " WARN ")
            .iter()
            .all(|line| line.contains("DEAD_LETTER"))
    );
}

#[tokio::test]
async fn a_subscription_that_is_added_gets_what_is_open_and_the_others_do_not_get_it_again() {
    let remote = Remote::start().await;
    remote.open([event_of(TASK_TRIGGERED, "p", "1")]);
    let app = remote
        .app_interested_in(subscriptions(&[("sub-1", TASK_TRIGGERED)]), &[])
        .await;
    remote.delivered(1).await;
    // Sent again with every heartbeat, it is no change.
    app.change_interest(subscriptions(&[("sub-1", TASK_TRIGGERED)]));
    app.change_interest(subscriptions(&[("sub-1", TASK_TRIGGERED), ("sub-2", TASK_TRIGGERED)]));
    remote.delivered(2).await;
    remote.polled(2).await;

    let delivered = remote.recipient.journal();
    assert_eq!(
        delivered.iter().map(subscription_id).collect::<Vec<_>>(),
        ["sub-1", "sub-2"]
    );
    app.shut_down().await.unwrap();
}

#[tokio::test]
async fn requests_are_those_of_the_original_and_ask_for_large_pages() {
    let remote = Remote::start().await;
    let mut narrow = subscription("sub-1", TASK_TRIGGERED);
    narrow.projects = vec!["my shop & co".to_owned()];
    narrow.stages = vec!["dev".to_owned(), "prod".to_owned()];
    narrow.services = vec!["carts".to_owned()];
    let interest = distributor::subscription::Interest::subscriptions(vec![narrow]);
    let app = remote.app_interested_in(interest, &[]).await;
    remote.polled(1).await;

    let request = &remote.polls()[0];
    let path = format!("/api/controlPlane/v1/event/triggered/{TASK_TRIGGERED}");
    let query = "pageSize=100000&project=my+shop+%26+co&service=carts";
    assert_eq!(request.received.path, format!("{path}?{query}"));
    assert_eq!(request.received.header("x-token"), Some("api-token"));
    assert_eq!(request.received.header("content-type"), Some("application/json"));
    app.shut_down().await.unwrap();
}

#[tokio::test]
async fn a_filter_with_one_value_narrows_the_request_and_any_other_does_not() {
    let cases = [
        (&[][..], &[][..], &[][..], ""),
        (&["p1", "p2"], &[], &[], ""),
        (&["p1"], &[], &[], "&project=p1"),
        (&["p1"], &["dev"], &[], "&project=p1&stage=dev"),
        (&["p1"], &["dev"], &["carts"], "&project=p1&service=carts&stage=dev"),
    ];
    let texts = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
    for (projects, stages, services, query) in cases {
        let remote = Remote::start().await;
        let mut narrowed = subscription("sub-1", TASK_TRIGGERED);
        narrowed.projects = texts(projects);
        narrowed.stages = texts(stages);
        narrowed.services = texts(services);
        let interest = distributor::subscription::Interest::subscriptions(vec![narrowed]);
        let app = remote.app_interested_in(interest, &[]).await;
        remote.polled(1).await;
        let asked = remote.polls()[0].query.clone().unwrap_or_default();
        assert_eq!(asked, format!("pageSize=100000{query}"));
        app.shut_down().await.unwrap();
    }
}

#[tokio::test]
async fn the_filter_of_a_subscription_applies_to_what_the_control_plane_does_not_filter() {
    let remote = Remote::start().await;
    let mut filtered = subscription("sub-1", TASK_TRIGGERED);
    filtered.projects = vec!["p1".to_owned(), "p2".to_owned()];
    let of_project = |project: &str| event_of(TASK_TRIGGERED, project, &format!("of-{project}"));
    remote.open(["p0", "p1", "p3", "p2"].map(of_project));
    let interest = distributor::subscription::Interest::subscriptions(vec![filtered]);
    let app = remote.app_interested_in(interest, &[]).await;

    assert_eq!(sorted(remote.delivered_ids(2).await), ["of-p1", "of-p2"]);
    remote.polled(2).await;
    assert_eq!(remote.recipient.n_received(), 2);
    app.shut_down().await.unwrap();
}

#[tokio::test]
async fn without_registration_topics_are_polled_and_the_filters_of_the_environment_apply() {
    let remote = Remote::start().await;
    let of_project = |project: &str| event_of(TASK_TRIGGERED, project, &format!("of-{project}"));
    remote.open(["p1", "p2"].map(of_project));
    remote.open([event_of("sh.keptn.event.other.triggered", "p2", "other")]);
    let topics = format!("{TASK_TRIGGERED}, sh.keptn.event.*.triggered");
    let process = remote
        .process(&[
            ("PUBSUB_TOPIC", &topics),
            ("PROJECT_FILTER", "p2"),
            ("SERVICE_FILTER", "carts,x"),
        ])
        .await;

    let delivered = remote.delivered(1).await;
    assert_eq!(event_id(&delivered[0]), "of-p2");
    assert!(subscription_id(&delivered[0]).is_null());
    remote.polled(2).await;
    assert_eq!(remote.recipient.n_received(), 1);
    let requests = remote.polls();
    assert!(
        requests
            .iter()
            .all(|request| request.query.as_deref() == Some("pageSize=100000&project=p2"))
    );
    // Said once, however often it is polled.
    assert_eq!(lines_with(&process, "sh.keptn.event.*.triggered").len(), 1);
    assert_eq!(lines_with(&process, "cannot be polled").len(), 1);
}

#[tokio::test]
async fn the_first_poll_does_not_wait_for_the_interval() {
    let remote = Remote::start().await;
    remote.open(events("a", 1));
    let app = remote
        .app_interested_in(subscriptions(&[]), &[("HTTP_POLLING_INTERVAL", "3600")])
        .await;
    app.change_interest(subscriptions(&[("sub-1", TASK_TRIGGERED)]));
    eventually(SOON, async || remote.recipient.n_received() == 1)
        .await
        .unwrap();
    app.shut_down().await.unwrap();
}
