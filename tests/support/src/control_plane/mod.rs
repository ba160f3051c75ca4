//! A Keptn control plane: what the distributor, its service and users of the API see of one, by the server's rules.
//!
//! Called by tests and the demo. It must not know the distributor. What it answers is held against traffic of a real control
//! plane by `tests/e2e/control_plane`, file by file.
//!
//! It listens once and takes both kinds of request: through the API gateway (`/api/controlPlane/v1/…`, behind any prefix),
//! and those that services in the cluster make by name (`http://shipyard-controller:8080/v1/…`), for which a client is
//! given it as `HTTP_PROXY`. Only the gateway asks for credentials.
//!
//! - `gateway`: takes requests. `target`: where one goes. `journal`: what was asked. `faults`: what goes wrong.
//! - `store`: what is known, in `uniform` (who has registered), `events` (open and past ones), `sequence` (runs), `resources`.
//! - `answer`: the forms of answers. `ids`: ids and times.

mod answer;
mod events;
mod faults;
mod gateway;
mod ids;
mod journal;
mod resources;
mod sequence;
mod store;
mod target;
mod uniform;
mod validation;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::gateway::Shared;
use self::ids::now;
use self::sequence::Sequence;
use self::store::Store;
use crate::KeptnEvent;
use crate::http_server::HttpServer;

pub use self::faults::Fault;
pub use self::journal::ApiRequest;
pub use self::target::Route;
pub use self::uniform::{Integration, KubernetesMetadata, Metadata};

/// A listening control plane. Dropping it closes its listener and its connections.
pub struct ControlPlane {
    server: HttpServer<Shared>,
    /// The task that follows events on NATS.
    following: JoinSet<()>,
}

impl ControlPlane {
    /// Listens on a free port of 127.0.0.1, knows nobody, and lets everybody in.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_on(0).await
    }

    /// Listens on this port of 127.0.0.1: for a control plane that comes up after the distributor.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub async fn start_on(port: u16) -> anyhow::Result<Self> {
        let server = HttpServer::start_on(port, Arc::default()).await;
        Ok(Self {
            server: server.context("the control plane")?,
            following: JoinSet::new(),
        })
    }

    /// Where it listens, or did before it was stopped.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The port of [`address`](Self::address).
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// Its URL without a path: also the value of `HTTP_PROXY` for clients in the cluster.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The value of `KEPTN_API_ENDPOINT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}/api", self.url())
    }

    /// Closes the listener and all connections. What it knows it keeps.
    pub async fn stop(&mut self) {
        self.server.stop().await;
    }

    /// Listens again on the same port after [`stop`](Self::stop).
    ///
    /// # Errors
    ///
    /// When another program has taken the port meanwhile.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.server.start_again().await
    }

    /// From now on the gateway lets nobody in without this `x-token`.
    pub fn require_token(&self, token: &str) {
        self.shared().access().token = Some(token.to_owned());
    }

    /// From now on the gateway lets nobody in without one of these as `Authorization: Bearer …`. To change what is
    /// accepted, call it again.
    pub fn require_bearer(&self, tokens: &[&str]) {
        let tokens = tokens.iter().map(|token| (*token).to_owned()).collect();
        self.shared().access().bearer_tokens = Some(tokens);
    }

    /// From now on `POST /v1/event` is validated, as where the API's event validation is switched on.
    pub fn validate_events(&self) {
        self.store().validates = true;
    }

    /// From now on calls of this kind go wrong as `script` says, which is given the number of the call, counted from 0 over
    /// all calls of its kind; where it gives nothing, the call goes right.
    pub fn fail_with(&self, route: Route, script: impl Fn(usize) -> Option<Fault> + Send + Sync + 'static) {
        self.shared().faults.set(route, Box::new(script));
    }

    /// From now on all calls of this kind go wrong.
    pub fn fail(&self, route: Route, fault: Fault) {
        self.fail_with(route, move |_| Some(fault.clone()));
    }

    /// The next `n` calls of this kind go wrong.
    pub fn fail_times(&self, route: Route, n: usize, fault: Fault) {
        let first = self.requests_to(route).len();
        self.fail_with(route, move |nth| (nth < first + n).then(|| fault.clone()));
    }

    /// Calls of this kind go right again.
    pub fn heal(&self, route: Route) {
        self.shared().faults.clear(route);
    }

    /// All requests so far, in the order of their arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<ApiRequest> {
        self.shared().journal.requests(|_| true)
    }

    /// The requests of one kind so far.
    #[must_use]
    pub fn requests_to(&self, route: Route) -> Vec<ApiRequest> {
        self.shared().journal.requests(|request| request.route == route)
    }

    /// Waits until at least `n` requests of a kind have arrived and returns all there are. They need not be answered yet.
    ///
    /// # Errors
    ///
    /// When fewer have arrived after `within`.
    pub async fn wait_for_requests(&self, route: Route, n: usize, within: Duration) -> anyhow::Result<Vec<ApiRequest>> {
        self.wait_for(n, within, |request| request.route == route).await
    }

    /// Waits until at least `n` requests of a kind have been answered with `status` and returns those.
    ///
    /// # Errors
    ///
    /// When there were fewer after `within`.
    pub async fn wait_for_answers(
        &self,
        route: Route,
        status: u16,
        n: usize,
        within: Duration,
    ) -> anyhow::Result<Vec<ApiRequest>> {
        let wanted = |request: &ApiRequest| request.route == route && request.status == Some(status);
        self.wait_for(n, within, wanted).await
    }

    /// Waits for the first request that is `wanted`, arrived already or later.
    ///
    /// # Errors
    ///
    /// When there is none after `within`.
    pub async fn wait_for_request(
        &self,
        within: Duration,
        wanted: impl Fn(&ApiRequest) -> bool,
    ) -> anyhow::Result<ApiRequest> {
        let first = self.wait_for(1, within, wanted).await?.into_iter().next();
        first.context("a request that was waited for is there")
    }

    async fn wait_for(
        &self,
        n: usize,
        within: Duration,
        wanted: impl Fn(&ApiRequest) -> bool,
    ) -> anyhow::Result<Vec<ApiRequest>> {
        self.shared().journal.wait_for(n, within, wanted).await
    }

    /// Everybody who is registered.
    #[must_use]
    pub fn integrations(&self) -> Vec<Integration> {
        self.store().uniform.0.values().cloned().collect()
    }

    /// Waits until somebody is registered under this name.
    ///
    /// # Errors
    ///
    /// When nobody is after `within`.
    pub async fn wait_for_integration(&self, name: &str, within: Duration) -> anyhow::Result<Integration> {
        let find = |store: &Store| store.uniform.0.values().find(|known| known.name == name).cloned();
        self.wait_until(within, &format!("{name} to be registered"), find).await
    }

    /// Changes what an integration wants: a list of `{"id","event","filter"}`, or whatever a test wants to be served. It
    /// learns that with its next ping.
    ///
    /// # Errors
    ///
    /// When there is no such integration.
    pub fn set_subscriptions(&self, id: &str, subscriptions: Value) -> anyhow::Result<()> {
        let mut store = self.store();
        let integration = store.uniform.0.get_mut(id);
        integration
            .with_context(|| format!("nobody is registered as {id:?}"))?
            .subscriptions = subscriptions;
        Ok(())
    }

    /// Forgets an integration, as one that was not heard of for too long: its next ping is answered with 404.
    pub fn forget(&self, id: &str) {
        self.store().uniform.0.remove(id);
    }

    /// Lists an event as open, with the time of this moment.
    pub fn open_event(&self, event: &KeptnEvent) {
        self.open_events([event.clone()]);
    }

    /// Lists many events as open, each with the time of its moment.
    pub fn open_events(&self, events: impl IntoIterator<Item = KeptnEvent>) {
        let mut store = self.store();
        for event in events {
            let mut event: Value = serde_json::from_slice(&event.to_bytes()).unwrap_or_default();
            event["time"] = now().into();
            store.events.open(&event);
        }
    }

    /// Lists an event as open that may be anything, also what the server would not have.
    pub fn open_event_as_it_is(&self, event: &Value) {
        self.store().events.open(event);
    }

    /// Lists an event no longer, as if everybody who started on it had finished.
    pub fn close_event(&self, id: &str) {
        self.store().events.close(id);
    }

    /// Waits until an event that is `wanted` is listed as open and returns it, in the API's form.
    ///
    /// # Errors
    ///
    /// When there is none after `within`.
    pub async fn wait_for_open_event(
        &self,
        within: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let find = |store: &Store| store.events.open_events().find(&wanted);
        self.wait_until(within, "an open event", find).await
    }

    /// How many events are open.
    #[must_use]
    pub fn n_open_events(&self) -> usize {
        self.store().events.n_open()
    }

    /// The events that were taken through `POST /v1/event`, in the API's form, with the ids that they were given.
    #[must_use]
    pub fn sent_events(&self) -> Vec<Value> {
        self.store().events.sent()
    }

    /// The entries of the error log.
    #[must_use]
    pub fn logs(&self) -> Vec<Value> {
        self.store().logs.clone()
    }

    /// Waits until the error log has at least `n` entries.
    ///
    /// # Errors
    ///
    /// When it has fewer after `within`.
    pub async fn wait_for_logs(&self, n: usize, within: Duration) -> anyhow::Result<Vec<Value>> {
        let find = |store: &Store| (store.logs.len() >= n).then(|| store.logs.clone());
        self.wait_until(within, &format!("{n} entries of the error log"), find)
            .await
    }

    /// Puts a file into the resource service; `owner` is like `/v1/project/sockshop/stage/dev`.
    pub fn put_resource(&self, owner: &str, uri: &str, content_in_base64: &str) {
        self.store().resources.put(owner, uri, content_in_base64);
    }

    /// From now on events also travel over NATS: the control plane publishes its own there, and those it gets through the
    /// API, and takes notice of those of services.
    ///
    /// # Errors
    ///
    /// When the connection is lost, or it is on NATS already.
    pub async fn join_nats(&mut self, client: &async_nats::Client) -> anyhow::Result<()> {
        let mut subscriber = client.subscribe("sh.keptn.event.>").await?;
        // The server handles what comes over one connection in order: its answer shows that it has the subscription.
        let _no_responders = client.request(client.new_inbox(), bytes::Bytes::new()).await;
        let shared = Arc::clone(self.shared());
        if shared.nats.set(client.clone()).is_err() {
            bail!("the control plane is on NATS already");
        }
        self.following.spawn(async move {
            while let Some(message) = subscriber.next().await {
                let event: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
                // Its own were written down before they were published.
                if event["source"] != "shipyard-controller" {
                    let effects = shared.store().saw(&event);
                    shared.publish(effects).await;
                }
            }
        });
        Ok(())
    }

    /// Starts a sequence: these tasks in every one of these stages. Returns its context.
    pub async fn trigger_sequence(&self, project: &str, stages: &[&str], tasks: &[&str], service: &str) -> String {
        let (sequence, next) = Sequence::start(project, stages, tasks, service);
        let context = sequence.context().to_owned();
        let effects = self.store().start(sequence, next);
        self.shared().publish(effects).await;
        context
    }

    /// The state of a sequence, as the control plane shows it.
    #[must_use]
    pub fn state(&self, context: &str) -> Option<Value> {
        state(&self.store(), context)
    }

    /// Waits until a sequence is in this state (`finished`) and returns all of it.
    ///
    /// # Errors
    ///
    /// When it is in another one after `within`.
    pub async fn wait_for_state(&self, context: &str, wanted: &str, within: Duration) -> anyhow::Result<Value> {
        let find = |store: &Store| state(store, context).filter(|state| state["state"] == wanted);
        let found = self
            .wait_until(within, &format!("a sequence to be {wanted}"), find)
            .await;
        found.with_context(|| format!("its state is {:?}", self.state(context)))
    }

    async fn wait_until<T>(
        &self,
        within: Duration,
        what: &str,
        find: impl Fn(&Store) -> Option<T>,
    ) -> anyhow::Result<T> {
        let mut changes = self.shared().changes.subscribe();
        let found = async {
            loop {
                changes.mark_unchanged();
                let found = find(&self.store());
                match found {
                    Some(found) => return Some(found),
                    None => changes.changed().await.ok()?,
                }
            }
        };
        let found = timeout(within, found).await.ok().flatten();
        found.with_context(|| format!("the control plane waited {within:?} for {what}"))
    }

    fn shared(&self) -> &Arc<Shared> {
        self.server.handler()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.shared().store()
    }
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ControlPlane")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

fn state(store: &Store, context: &str) -> Option<Value> {
    let sequence = store.sequences.iter().find(|sequence| sequence.context() == context);
    sequence.map(Sequence::state)
}

#[cfg(test)]
mod tests;
