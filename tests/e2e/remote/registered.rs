//! The integration of a remote execution plane: heartbeats say what is polled.

use serde_json::{Value, json};
use test_support::{DistributorProcess, Integration, Route, http_request};

use super::{Remote, event_of, events};
use crate::harness::{
    SOON, TASK_TRIGGERED, exit_code, ids_and_subscriptions, json as parsed, lines_with, start_process,
};

const NAME: &str = "remote-service";
const OTHER: &str = "sh.keptn.event.other.triggered";

impl Remote {
    /// The binary as it is run outside of the cluster, with quick heartbeats. The gateway asks for its token.
    fn integration(&self, variables: &[(&str, &str)]) -> DistributorProcess {
        self.control_plane.require_token("api-token");
        let own = self.variables();
        let own = own.iter().map(|(name, value)| (*name, value.as_str()));
        let registered = [
            ("K8S_NAMESPACE", "keptn"),
            ("K8S_DEPLOYMENT_NAME", NAME),
            ("K8S_NODE_NAME", "node"),
            ("HEARTBEAT_INTERVAL", "1s"),
        ];
        let environment: Vec<_> = own.chain(registered).chain(variables.iter().copied()).collect();
        start_process(&environment)
    }

    async fn registered(&self) -> Integration {
        let integration = self.control_plane.wait_for_integration(NAME, SOON).await;
        integration.expect("the integration is there")
    }

    /// Waits until what was changed at the control plane is known here.
    async fn told(&self) {
        let n = self.control_plane.requests_to(Route::Ping).len();
        // One may be on its way with what was before.
        let beaten = self.control_plane.wait_for_answers(Route::Ping, 200, n + 2, SOON).await;
        beaten.expect("there are heartbeats");
    }
}

fn wanted(id: &str, event: &str) -> Value {
    json!({ "id": id, "event": event, "filter": null })
}

#[tokio::test]
async fn heartbeats_and_polls_go_on_side_by_side_and_changes_count_at_once() {
    let remote = Remote::start().await;
    let mut process = remote.integration(&[]);
    let integration = remote.registered().await;
    let request = parsed(&remote.control_plane.requests_to(Route::Register)[0].received.body);
    assert_eq!(request["metadata"]["location"], "remote-execution-plane");
    remote.open(events("first", 1));
    let delivered = ids_and_subscriptions(&remote.delivered(1).await);
    let first_id = integration.subscriptions[0]["id"].as_str().unwrap();
    assert_eq!(delivered, [("first-0".to_owned(), first_id.to_owned())]);

    // Added: what is open already comes as well, and what is known does not come again.
    remote.open([event_of(OTHER, "p", "other")]);
    let both = json!([wanted(first_id, TASK_TRIGGERED), wanted("added", OTHER)]);
    remote.control_plane.set_subscriptions(&integration.id, both).unwrap();
    let delivered = ids_and_subscriptions(&remote.delivered(2).await);
    assert_eq!(delivered[1], ("other".to_owned(), "added".to_owned()));

    // Forgotten: registered again, with what it had, while polling goes on.
    remote.control_plane.forget(&integration.id);
    let again = remote.control_plane.wait_for_requests(Route::Register, 2, SOON).await;
    let again = parsed(&again.unwrap()[1].received.body);
    assert_eq!(again["subscriptions"][1]["event"], OTHER);
    remote.told().await;
    let n_before = remote.recipient.n_received();
    remote.open([event_of(OTHER, "p", "after")]);
    let delivered = ids_and_subscriptions(&remote.delivered(n_before + 1).await);
    let known = remote.registered().await;
    assert_eq!(delivered[n_before].0, "after");
    assert_eq!(known.subscriptions[1]["id"], delivered[n_before].1.as_str());

    // Taken away: nothing is asked for any more.
    remote.control_plane.set_subscriptions(&known.id, json!([])).unwrap();
    remote.told().await;
    let (n_polls, n_received) = (remote.polls().len(), remote.recipient.n_received());
    remote.open(events("late", 1));
    remote.told().await;
    assert_eq!(
        (remote.polls().len(), remote.recipient.n_received()),
        (n_polls, n_received)
    );

    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    assert!(remote.control_plane.requests_to(Route::Unregister).is_empty());
}

#[tokio::test]
async fn topics_that_are_only_asked_for_are_not_complained_about() {
    let remote = Remote::start().await;
    let known = json!({
        "name": NAME,
        "metadata": { "hostname": "node", "kubernetesmetadata": { "namespace": "keptn" } },
        "subscriptions": [{ "event": TASK_TRIGGERED }],
    });
    let path = "/api/controlPlane/v1/uniform/registration";
    let registered = http_request(remote.control_plane.address(), "POST", path, &[], known.to_string()).await;
    assert_eq!(registered.unwrap().status, 201);
    remote.open(events("a", 1));
    // What the control plane has counts, and that has no wildcard.
    let process = remote.integration(&[("PUBSUB_TOPIC", "sh.keptn.>")]);
    remote.delivered(1).await;
    assert_eq!(lines_with(&process, "cannot be polled"), [""; 0]);
}
