//! The integration at the control plane: registration, heartbeats, subscriptions, and the error log.
//!
//! The binary stands between a real NATS server with the control plane's stream, a service that keeps a journal, and a
//! control plane by the server's rules that tests can make fail.

mod error_log;
mod heartbeats;
mod registering;
mod subscriptions;

use std::time::Duration;

use async_nats::jetstream::Context;
use futures_util::TryStreamExt;
use serde_json::{Value, json};
use test_support::{
    ControlPlane, DistributorProcess, Integration, KeptnEvent, NatsServer, NumberedEvents, PublishedEvent, Publisher,
    Rate, Recipient, Route, Verdict, create_keptn_stream, eventually,
};

use crate::harness::{TASK_TRIGGERED, start_process};

/// Whatever is waited for comes within this, or the test fails.
const IN_TIME: Duration = Duration::from_mins(1);
/// The name of the integration.
const NAME: &str = "task-service";

pub(crate) struct Rig {
    nats: NatsServer,
    jetstream: Context,
    pub(crate) recipient: Recipient,
    control_plane: ControlPlane,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        let nats = NatsServer::builder().jetstream(true).start().await;
        let nats = nats.expect("nats-server starts");
        let jetstream = nats.jetstream().await.expect("nats-server takes clients");
        create_keptn_stream(&jetstream).await.expect("the stream can be made");
        Self {
            nats,
            jetstream,
            recipient: Recipient::start().await.expect("the recipient starts"),
            control_plane: ControlPlane::start().await.expect("the control plane starts"),
        }
    }

    /// The binary as it is run in a cluster, with quick heartbeats. Nothing is known of it but that it was started.
    fn process(&self, variables: &[(&str, &str)]) -> DistributorProcess {
        let (nats, recipient) = (self.nats.url(), self.recipient.port().to_string());
        let services = self.control_plane.url();
        let own = [
            ("PUBSUB_URL", nats.as_str()),
            ("PUBSUB_RECIPIENT_PORT", recipient.as_str()),
            ("PUBSUB_GROUP", "group"),
            ("PUBSUB_TOPIC", TASK_TRIGGERED),
            ("HTTP_PROXY", services.as_str()),
            ("K8S_NAMESPACE", "keptn"),
            ("K8S_DEPLOYMENT_NAME", NAME),
            ("K8S_NODE_NAME", "node"),
            ("HEARTBEAT_INTERVAL", "1s"),
            ("REGISTRATION_INTERVAL", "1s"),
        ];
        start_process(&[&own, variables].concat())
    }

    /// The same when the stream keeps events for it.
    async fn keeping(&self, variables: &[(&str, &str)]) -> DistributorProcess {
        let process = self.process(variables);
        let keeping = process.wait_for_log("durable consumer", IN_TIME).await;
        keeping.expect("the distributor gets its consumer");
        process
    }

    /// The same, registered, and with its first heartbeat behind it.
    pub(crate) async fn registered(&self, variables: &[(&str, &str)]) -> (DistributorProcess, Integration) {
        let process = self.keeping(variables).await;
        self.beaten(1).await;
        let integration = self.control_plane.wait_for_integration(NAME, IN_TIME).await;
        (process, integration.expect("the integration is there"))
    }

    /// Waits until so many heartbeats were answered.
    async fn beaten(&self, n: usize) {
        let answered = self.control_plane.wait_for_answers(Route::Ping, 200, n, IN_TIME).await;
        answered.expect("there are heartbeats");
    }

    /// Waits for a heartbeat that comes after everything so far, so that what has changed is known.
    async fn told(&self) {
        let so_far = self.control_plane.requests_to(Route::Ping);
        let n_answered = so_far.iter().filter(|request| request.status == Some(200)).count();
        // One may be on its way with what was before.
        self.beaten(n_answered + 2).await;
    }

    /// Changes what the integration wants, and waits until it knows.
    pub(crate) async fn change(&self, integration: &Integration, subscriptions: Value) {
        let set = self.control_plane.set_subscriptions(&integration.id, subscriptions);
        set.expect("the integration is there");
        self.told().await;
    }

    pub(crate) async fn publish(&self, event: &KeptnEvent) {
        let sent = self.jetstream.publish(event.ty.clone(), event.to_bytes()).await;
        sent.expect("NATS is there").await.expect("the stream has the event");
    }

    fn publisher(&self, name: &str, ty: &str, rate: f64) -> Publisher {
        let events = NumberedEvents::new(name, 8, KeptnEvent::of_type(ty));
        Publisher::start(self.jetstream.clone(), events, Rate::PerSecond(rate), None)
    }

    /// Waits until nothing in the stream is owed to the service.
    pub(crate) async fn settled(&self) {
        let is_settled = async || {
            let Ok(stream) = self.jetstream.get_stream("keptn").await else {
                return false;
            };
            let consumers: Vec<_> = stream.consumers().try_collect().await.unwrap_or_default();
            let is_done =
                |info: &async_nats::jetstream::consumer::Info| info.num_pending + info.num_ack_pending as u64 == 0;
            !consumers.is_empty() && consumers.iter().all(is_done)
        };
        eventually(IN_TIME, is_settled).await.expect("everything is settled");
    }

    /// Waits until everything is settled, and compares.
    async fn verdict(&self, published: &[PublishedEvent]) -> Verdict {
        self.settled().await;
        Verdict::of(published, &self.recipient.deliveries())
    }

    fn n_requests(&self) -> usize {
        self.control_plane.requests().len()
    }
}

/// A subscription without filters.
pub(crate) fn subscribed(id: &str, event: &str) -> Value {
    subscribed_in(id, event, &[])
}

/// A subscription to events of these stages.
fn subscribed_in(id: &str, event: &str, stages: &[&str]) -> Value {
    json!({ "id": id, "event": event, "filter": { "projects": [], "stages": stages, "services": null } })
}
