//! Every query of the dashboard in `deploy/` has data when the distributor has something to do.

use serde_json::Value;
use test_support::{ControlPlane, NatsServer, Recipient, Reply, create_keptn_stream, eventually, http_request};

use super::prometheus::Prometheus;
use crate::harness::*;

const DASHBOARD: &str = include_str!("../../../deploy/monitoring/dashboard.json");

#[tokio::test]
async fn every_query_of_the_dashboard_has_data() {
    let nats = NatsServer::builder().jetstream(true).start().await.unwrap();
    let jetstream = nats.jetstream().await.unwrap();
    create_keptn_stream(&jetstream).await.unwrap();
    let recipient = Recipient::start().await.unwrap();
    recipient.respond_with(|request, _| {
        let id = event_id(request);
        Reply::status(if id == "refused-0" { 400 } else { 200 })
    });
    let control_plane = ControlPlane::start().await.unwrap();
    let folder = PluginFolder::behaving("trap");
    let process = start_process(&[
        ("PUBSUB_URL", &nats.url()),
        ("PUBSUB_RECIPIENT_PORT", &recipient.port().to_string()),
        ("PUBSUB_GROUP", "group"),
        ("PUBSUB_TOPIC", "sh.keptn.event.task.>"),
        ("HTTP_PROXY", &control_plane.url()),
        ("K8S_NAMESPACE", "keptn"),
        ("K8S_DEPLOYMENT_NAME", "task-service"),
        ("HEARTBEAT_INTERVAL", "1s"),
        ("ADMIN_BIND", "127.0.0.1:0"),
        folder.variable(),
    ]);
    let prometheus = Prometheus::start(process.admin_address(SOON).await.unwrap()).await;
    let scraped = async || !prometheus.values("distributor_ready == 1").await.is_empty();
    eventually(SOON, scraped).await.expect("the distributor is ready");

    for name in ["e", "refused", "bad"] {
        for event in events(name, if name == "e" { 20 } else { 1 }) {
            let sent = jetstream.publish(event.ty.clone(), event.to_bytes()).await;
            sent.unwrap().await.unwrap();
        }
    }
    recipient.wait_until_accepted(20, SOON).await.unwrap();
    let answer = post(process.proxy_address(), event("sent").to_bytes()).await;
    assert_eq!(answer.status, 200);
    let path = "/controlPlane/v1/uniform/registration";
    let answer = http_request(process.proxy_address(), "GET", path, &[], "").await;
    assert_eq!(answer.unwrap().status, 200);
    let _folder = folder.file("plugins.toml", "default_filter = true\n");

    let mut queries = queries();
    assert!(queries.len() > 40, "{}", queries.len());
    let result = eventually(SOON, async || {
        let mut left = Vec::new();
        for query in std::mem::take(&mut queries) {
            let values = prometheus.values(&query).await;
            if !values.iter().any(|(_, value)| value.is_finite()) {
                left.push(query);
            }
        }
        queries = left;
        queries.is_empty()
    })
    .await;
    assert!(result.is_ok(), "these have no data: {queries:#?}");
}

/// All expressions, with what Grafana puts in the place of its variables.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let of_panels = list(&dashboard, "panels")
        .iter()
        .flat_map(|panel| list(panel, "targets"))
        .collect::<Vec<_>>();
    let of_annotations = list(&dashboard["annotations"], "list");
    let mut queries: Vec<_> = of_panels
        .iter()
        .chain(&of_annotations)
        .map(|target| target["expr"].as_str().expect("an expression").to_owned())
        .collect();
    for variable in list(&dashboard["templating"], "list") {
        if let Some(query) = variable["query"]["query"].as_str() {
            let (series, label) = query
                .trim_start_matches("label_values(")
                .trim_end_matches(')')
                .rsplit_once(", ")
                .unwrap();
            queries.push(format!("count by ({label}) ({series})"));
        }
    }
    let filled = |query: String| {
        query
            .replace("$__rate_interval", "1m")
            .replace("$namespace", ".*")
            .replace("$pod", ".*")
    };
    let queries: Vec<_> = queries.into_iter().map(filled).collect();
    assert!(queries.iter().all(|query| !query.contains('$')), "{queries:#?}");
    queries
}
