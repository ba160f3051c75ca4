//! The remote execution plane: a control plane that is polled over HTTP, and no NATS.

mod captured;
mod dead_letters;
mod faults;
mod forwarding;
mod paging;
mod polling;
mod publishing;
mod registered;
mod restarts;
mod scale;
mod tokens;

use std::collections::HashMap;

use distributor::config::{self, Config};
use distributor::subscription::Interest;
use test_support::{
    ApiRequest, ControlPlane, DistributorProcess, Fault, KeptnEvent, ReceivedRequest, Recipient, Route,
};

use crate::harness::{App, SOON, TASK_TRIGGERED, event_id, event_in, start_process};

/// A control plane elsewhere, and a service here.
struct Remote {
    control_plane: ControlPlane,
    recipient: Recipient,
}

impl Remote {
    async fn start() -> Self {
        Self {
            control_plane: ControlPlane::start().await.expect("the control plane starts"),
            recipient: Recipient::start().await.expect("the recipient starts"),
        }
    }

    /// A distributor in this process whose control plane has told it what to listen for.
    async fn app_interested_in(&self, interest: Interest, variables: &[(&str, &str)]) -> App {
        App::start(self.config(variables), interest).await
    }

    /// A distributor that is not registered, as a process that listens to [`TASK_TRIGGERED`].
    async fn process(&self, variables: &[(&str, &str)]) -> DistributorProcess {
        let own = self.variables();
        let own = own.iter().map(|(name, value)| (*name, value.as_str()));
        let environment: Vec<_> = own.chain(variables.iter().copied()).collect();
        let mut process = start_process(&environment);
        process.wait_until_ready(SOON).await.expect("it listens");
        process
    }

    /// Lists events as open.
    fn open(&self, events: impl IntoIterator<Item = KeptnEvent>) {
        self.control_plane.open_events(events);
    }

    /// Requests for the list of open events.
    fn polls(&self) -> Vec<ApiRequest> {
        self.control_plane.requests_to(Route::OpenEvents)
    }

    /// Waits until the list was asked for `n` times more than now: what was done before has had its effect by then.
    async fn polled(&self, n: usize) {
        let n = self.polls().len() + n;
        let polled = self.control_plane.wait_for_requests(Route::OpenEvents, n, SOON).await;
        polled.expect("the distributor polls");
    }

    /// Waits for `n` deliveries and returns their event ids, in the order of arrival.
    async fn delivered_ids(&self, n: usize) -> Vec<String> {
        self.delivered(n).await.iter().map(event_id).collect()
    }

    async fn delivered(&self, n: usize) -> Vec<ReceivedRequest> {
        let delivered = self.recipient.wait_for(n, SOON).await;
        delivered.expect("the deliveries arrive")
    }

    fn config(&self, variables: &[(&str, &str)]) -> Config {
        let mut environment: HashMap<_, _> = self.variables().into_iter().collect();
        environment.insert("API_PROXY_PORT", "0".to_owned());
        for (name, value) in variables {
            environment.insert(name, (*value).to_owned());
        }
        config::from_env(&|name| environment.get(name).cloned()).expect("the configuration is valid")
    }

    fn variables(&self) -> [(&'static str, String); 5] {
        [
            ("KEPTN_API_ENDPOINT", self.control_plane.endpoint() + "/"),
            ("KEPTN_API_TOKEN", "api-token".to_owned()),
            ("HTTP_POLLING_INTERVAL", "1".to_owned()),
            ("PUBSUB_TOPIC", TASK_TRIGGERED.to_owned()),
            ("PUBSUB_RECIPIENT_PORT", self.recipient.port().to_string()),
        ]
    }
}

/// Triggered events with the ids `<name>-0`, `<name>-1` and so on, each of its own Keptn context.
fn events(name: &str, n: usize) -> impl Iterator<Item = KeptnEvent> {
    (0..n).map(move |number| {
        let id = format!("{name}-{number}");
        event_in(&id, &id)
    })
}

/// An event of this type and project.
fn event_of(ty: &str, project: &str, id: &str) -> KeptnEvent {
    KeptnEvent {
        ty: ty.to_owned(),
        project: project.to_owned(),
        ..event_in(id, id)
    }
}

/// An answer with this body, and without headers that matter.
fn answer(status: u16, body: &str) -> Fault {
    Fault::Answer(status, Vec::new(), body.to_owned())
}

/// The same list in an order that says nothing.
fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}
