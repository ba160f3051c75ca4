//! Distributed tracing: contexts that are passed on, and spans that reach a collector.

use async_nats::HeaderMap;
use serde_json::{Value, json};
use test_support::{CollectedSpan, Collector, Reply, free_port};

use crate::harness::*;

const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER_PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-00000000000000aa-01";
const STATE: &str = "vendor=opaque";
const FINISHED: &str = "sh.keptn.event.task.finished";

/// An event of this type with extensions.
fn with(id: &str, ty: &str, extensions: &[(&str, &str)]) -> Vec<u8> {
    let mut event = json!({ "specversion": "1.0", "id": id, "source": "publisher", "type": ty, "data": {} });
    for (name, value) in extensions {
        event[name] = (*value).into();
    }
    event.to_string().into_bytes()
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.insert(*name, *value);
    }
    headers
}

/// What of a trace goes on where nobody collects spans.
async fn check_passed_on(
    extensions: &[(&str, &str)],
    message: &[(&str, &str)],
    expected: (Option<&str>, Option<&str>),
) {
    let peers = Peers::start().await;
    let _app = peers.app(&[ALL_TOPICS]).await;
    let event = with("e", TASK_TRIGGERED, extensions);
    let published = peers
        .control_plane
        .publish_with_headers(TASK_TRIGGERED, headers(message), event.clone().into())
        .await;
    published.unwrap();
    let delivered = peers.delivered(1).await;
    let got = (delivered[0].header("traceparent"), delivered[0].header("tracestate"));
    assert_eq!(got, expected, "{extensions:?} {message:?}");
    let body: Value = delivered[0].json().unwrap();
    for (name, value) in extensions {
        assert_eq!(body[name], *value, "the event keeps what it says");
    }
}

#[tokio::test]
async fn without_a_collector_the_context_of_an_event_goes_on_to_the_service() {
    check_passed_on(
        &[("traceparent", PARENT), ("tracestate", STATE)],
        &[],
        (Some(PARENT), Some(STATE)),
    )
    .await;
    check_passed_on(&[("traceparent", PARENT)], &[], (Some(PARENT), None)).await;
    check_passed_on(
        &[],
        &[("Traceparent", PARENT), ("tracestate", STATE)],
        (Some(PARENT), Some(STATE)),
    )
    .await;
    // The message knows the last step, the event only the first.
    check_passed_on(
        &[("traceparent", PARENT)],
        &[("traceparent", OTHER_PARENT)],
        (Some(OTHER_PARENT), None),
    )
    .await;
    check_passed_on(
        &[("traceparent", PARENT)],
        &[("traceparent", "no context")],
        (Some(PARENT), None),
    )
    .await;
    check_passed_on(
        &[("traceparent", "no context"), ("tracestate", STATE)],
        &[],
        (None, None),
    )
    .await;
    check_passed_on(&[], &[], (None, None)).await;
}

#[tokio::test]
async fn a_retry_and_what_waits_for_a_plugin_go_on_with_the_same_context() {
    let peers = Peers::start().await;
    let _app = peers.app(&[ALL_TOPICS, ("DELIVERY_BACKOFF_DELAY", "1ms")]).await;
    peers
        .recipient
        .respond_with(|_, number| Reply::status(if number == 0 { 503 } else { 200 }));
    let event = with("e", TASK_TRIGGERED, &[("traceparent", PARENT)]);
    peers.publish_bytes(TASK_TRIGGERED, event).await;
    for request in peers.delivered(2).await {
        assert_eq!(request.header("traceparent"), Some(PARENT));
    }
}

#[tokio::test]
async fn what_the_service_answers_in_a_trace_goes_on_in_it() {
    let peers = Peers::start().await;
    let app = peers.app(&[]).await;
    let mut control_plane = peers.listen(FINISHED).await;
    let trace = [("traceparent", PARENT), ("tracestate", STATE)];

    let posted = app.post_with(&trace, with("e", FINISHED, &[])).await;
    assert_eq!(posted.status, 200);
    let event: Value = serde_json::from_slice(&control_plane.next().await).unwrap();
    assert_eq!(
        (&event["traceparent"], &event["tracestate"]),
        (&PARENT.into(), &STATE.into())
    );

    // An event says where it began, and goes on saying so.
    let own = with("e", FINISHED, &[("traceparent", OTHER_PARENT)]);
    assert_eq!(app.post_with(&trace, own.clone()).await.status, 200);
    assert_eq!(control_plane.next().await, own);

    // What is no context changes nothing.
    let plain = with("e", FINISHED, &[]);
    let posted = app.post_with(&[("traceparent", "00-nonsense")], plain.clone()).await;
    assert_eq!((posted.status, control_plane.next().await), (200, plain.into()));
}

/// The only span of this name.
fn only<'a>(spans: &'a [CollectedSpan], name: &str) -> &'a CollectedSpan {
    let [span] = spans.iter().filter(|span| span.name == name).collect::<Vec<_>>()[..] else {
        panic!("one span {name:?} is expected: {spans:#?}")
    };
    span
}

fn parent_of(header: &str) -> (&str, &str) {
    (&header[3..35], &header[36..52])
}

#[tokio::test]
async fn publisher_distributor_service_and_its_answer_are_one_trace() {
    let peers = Peers::start().await;
    let collector = Collector::start().await.unwrap();
    let endpoint = collector.endpoint();
    let mut process = peers
        .process(&[
            ("PUBSUB_TOPIC", TASK_TRIGGERED),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter2"),
            ("OTEL_SERVICE_NAME", "carts-distributor"),
            ("LOG_LEVEL", "trace"),
        ])
        .await;
    let mut control_plane = peers.listen(FINISHED).await;

    let trace = [("traceparent", PARENT), ("tracestate", STATE)];
    peers
        .publish_bytes(TASK_TRIGGERED, with("e", TASK_TRIGGERED, &trace))
        .await;
    let delivered = peers.delivered(1).await;
    let to_service = delivered[0].header("traceparent").unwrap().to_owned();
    // The service answers within the step that it got.
    let within = [("traceparent", to_service.as_str())];
    let answer = with("answer", FINISHED, &[]);
    let posted = test_support::http_request(process.proxy_address(), "POST", "/event", &within, answer).await;
    assert_eq!(posted.unwrap().status, 200);
    let answered: Value = serde_json::from_slice(&control_plane.next().await).unwrap();
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);

    let spans = collector.spans().unwrap();
    let of_trace: Vec<_> = spans.into_iter().filter(|span| span.trace_id == TRACE_ID).collect();
    let received = only(&of_trace, &format!("process {TASK_TRIGGERED}"));
    let attempt = only(&of_trace, "POST");
    let sent = only(&of_trace, &format!("publish {FINISHED}"));
    let kinds = [received, attempt, sent].map(|span| span.kind.as_str());
    assert_eq!(kinds, ["Consumer", "Client", "Producer"]);
    assert_eq!(received.parent_span_id, "b7ad6b7169203331");
    assert_eq!(attempt.parent_span_id, received.span_id);
    assert_eq!(parent_of(&to_service), (TRACE_ID, attempt.span_id.as_str()));
    assert_eq!(delivered[0].header("tracestate"), Some(STATE));
    assert_eq!(sent.parent_span_id, attempt.span_id);
    let passed_on = answered["traceparent"].as_str().unwrap();
    assert_eq!(parent_of(passed_on), (TRACE_ID, sent.span_id.as_str()));
    // The built-in filter looks at what comes, and at nothing that goes.
    let plugin = of_trace.iter().find(|span| span.kind == "Internal").unwrap();
    assert_eq!(
        (&plugin.parent_span_id, plugin.name.starts_with("plugin ")),
        (&received.span_id, true)
    );

    assert_eq!(received.attributes["messaging.message.id"], "e");
    assert_eq!(received.attributes["messaging.destination.name"], TASK_TRIGGERED);
    assert_eq!(attempt.attributes["http.response.status_code"], "200");
    assert_eq!(received.resource["service.name"], "carts-distributor");
    assert!(
        received.start <= attempt.start && attempt.end <= received.end,
        "{of_trace:#?}"
    );
    assert!(of_trace.iter().all(|span| span.error.is_none()), "{of_trace:#?}");

    assert_eq!(collector.requests()[0].header("authorization"), Some("Bearer hunter2"));
    let output = process.output();
    assert!(
        output.lines().iter().all(|line| !line.text.contains("hunter2")),
        "a secret is logged"
    );
}

#[tokio::test]
async fn each_attempt_is_a_span_and_what_fails_for_good_is_an_error() {
    let peers = Peers::start().await;
    let collector = Collector::start().await.unwrap();
    let endpoint = collector.endpoint();
    let _app = peers
        .app(&[
            ALL_TOPICS,
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("DELIVERY_BACKOFF_DELAY", "1ms"),
            ("DELIVERY_RETRY", "2"),
        ])
        .await;
    peers.recipient.respond_with(|_, _| Reply::status(500));
    peers
        .publish_bytes(TASK_TRIGGERED, with("e", TASK_TRIGGERED, &[]))
        .await;

    let is_of_event = |span: &&CollectedSpan| span.name == "POST" || span.name.starts_with("process");
    // It ends last.
    let received = format!("process {TASK_TRIGGERED}");
    let spans = collector.wait_for(&received, 1, SOON).await.unwrap();
    let spans: Vec<_> = spans.iter().filter(is_of_event).cloned().collect();
    let received = only(&spans, &received);
    assert_eq!(
        (received.parent_span_id.as_str(), &received.error),
        ("", &Some(String::new()))
    );
    let mut attempts: Vec<_> = spans.iter().filter(|span| span.name == "POST").collect();
    attempts.sort_by_key(|span| span.start);
    let numbers: Vec<_> = attempts
        .iter()
        .map(|span| span.attributes["attempt"].as_str())
        .collect();
    assert_eq!(numbers, ["1", "2", "3"]);
    let headers: Vec<_> = peers.delivered(3).await;
    for (attempt, request) in attempts.iter().zip(&headers) {
        assert_eq!(
            (&attempt.trace_id, &attempt.parent_span_id),
            (&received.trace_id, &received.span_id)
        );
        assert!(attempt.error.as_ref().unwrap().contains("500"), "{attempt:?}");
        let header = request.header("traceparent").unwrap();
        assert_eq!(parent_of(header), (attempt.trace_id.as_str(), attempt.span_id.as_str()));
    }
}

#[tokio::test]
async fn a_trace_that_its_publisher_does_not_record_is_not_recorded_but_goes_on() {
    let peers = Peers::start().await;
    let collector = Collector::start().await.unwrap();
    let endpoint = collector.endpoint();
    let app = peers
        .app(&[ALL_TOPICS, ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)])
        .await;
    let unsampled = PARENT.replace("-01", "-00");
    peers
        .publish_bytes(
            TASK_TRIGGERED,
            with("e", TASK_TRIGGERED, &[("traceparent", &unsampled)]),
        )
        .await;
    assert_eq!(
        peers.delivered(1).await[0].header("traceparent"),
        Some(unsampled.as_str())
    );
    app.shut_down().await.unwrap();
    let spans = collector.spans().unwrap();
    assert!(spans.iter().all(|span| span.trace_id != TRACE_ID), "{spans:#?}");
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_one_warning_and_no_event() {
    const N_EVENTS: usize = 3000;
    let peers = Peers::start().await;
    let endpoint = format!("http://127.0.0.1:{}", free_port().unwrap());
    let variables = [ALL_TOPICS, ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let mut process = peers.process(&variables).await;
    peers.publish_all(events("e", N_EVENTS)).await;
    assert_same(&peers.delivered_ids(N_EVENTS).await, &numbered_ids("e", N_EVENTS));
    process.wait_for_log("takes no spans", SOON).await.unwrap();
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    assert_eq!(lines_with(&process, "takes no spans").len(), 1);
    assert_eq!(lines_with(&process, &format!("delivered={N_EVENTS}")).len(), 1);
}
