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
//! - `identity`: who gives tokens. `answer`: the forms of answers. `ids`: ids and times.
//! - For tests: `script` says what is to happen, `watch` what was asked, `known` what is known.

mod answer;
mod events;
mod faults;
mod gateway;
mod identity;
mod ids;
mod journal;
mod known;
mod resources;
mod script;
mod sequence;
mod store;
mod target;
mod uniform;
mod validation;
mod watch;

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard};

use anyhow::{Context, bail};
use futures_util::StreamExt;
use serde_json::Value;
use tokio::task::JoinSet;

use self::gateway::Shared;
use self::sequence::Sequence;
use self::store::Store;
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

#[cfg(test)]
mod tests;
