//! Three `nats-server` nodes on loopback that share JetStream: replicated streams, and nodes that can be killed.
//!
//! Called by tests. It must not know what is stored. That a cluster is ready is asked of the nodes, never assumed after
//! some time: an election takes from some 100 ms to ten seconds.

use std::time::Duration;

use anyhow::{Context, ensure};
use async_nats::jetstream;
use tokio::time::timeout;

use crate::nats_server::NatsServer;
use crate::nats_server_builder::NatsServerBuilder;
use crate::nats_stream::connect_quickly;
use crate::{eventually, free_port};

const N_NODES: usize = 3;

/// Time for an election on a crowded machine.
const ELECTION_LIMIT: Duration = Duration::from_mins(1);

/// A cluster of three. Its nodes are killed when this is dropped.
#[derive(Debug)]
pub struct NatsCluster {
    nodes: Vec<NatsServer>,
}

impl NatsCluster {
    /// Starts three nodes of the newest version and waits until they are ready.
    ///
    /// # Errors
    ///
    /// When there is no `nats-server`, or the nodes do not become a cluster.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(NatsServer::builder()).await
    }

    /// The same with settings for each node. Its configuration lines are kept; a port must not be among the settings.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_with(settings: NatsServerBuilder) -> anyhow::Result<Self> {
        // Nodes must know each other's ports before any of them is there.
        let ports: Vec<u16> = (0..N_NODES).map(|_| free_port()).collect::<Result<_, _>>()?;
        let routes: Vec<String> = ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let routes = routes.join(", ");
        let node = async |node: usize| {
            let lines = format!(
                "{}\nserver_name: {}\ncluster {{ name: test, listen: '127.0.0.1:{}', routes: [{routes}] }}",
                settings.config_lines,
                name(node),
                ports[node],
            );
            let settings = settings.clone().jetstream(true).config_lines(&lines);
            settings.start().await.with_context(|| name(node))
        };
        // At the same time: alone, a node does not answer its clients.
        let (first, second, third) = tokio::try_join!(node(0), node(1), node(2))?;
        let nodes = vec![first, second, third];
        let cluster = Self { nodes };
        cluster.wait_until_ready(ELECTION_LIMIT).await?;
        Ok(cluster)
    }

    /// The URLs of all nodes, killed ones included, in the order of the nodes.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(NatsServer::url).collect()
    }

    /// A node, counted from 0.
    ///
    /// # Panics
    ///
    /// When there is no such node.
    #[must_use]
    pub fn node(&self, node: usize) -> &NatsServer {
        &self.nodes[node]
    }

    /// Ends a node at once (SIGKILL). Its store stays.
    ///
    /// # Errors
    ///
    /// When it cannot be killed.
    ///
    /// # Panics
    ///
    /// When there is no such node.
    pub async fn kill_node(&mut self, node: usize) -> anyhow::Result<()> {
        self.nodes[node].stop().await
    }

    /// Starts a node again on its port and with its store, killing it before if it runs. It answers after this;
    /// [`wait_until_ready`](Self::wait_until_ready) waits until it has caught up.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    ///
    /// # Panics
    ///
    /// When there is no such node.
    pub async fn restart_node(&mut self, node: usize) -> anyhow::Result<()> {
        self.nodes[node].restart().await
    }

    /// Waits until all running nodes agree on one of them as the leader and are healthy, their streams caught up.
    ///
    /// # Errors
    ///
    /// When they are not within `within`: two of the three must run.
    pub async fn wait_until_ready(&self, within: Duration) -> anyhow::Result<()> {
        let ready = eventually(within, async || self.is_ready().await.unwrap_or(false)).await;
        ready.context("the nodes are no cluster")
    }

    /// JetStream, seen by a client of its own that goes on with another node when its node is killed.
    ///
    /// # Errors
    ///
    /// When no node answers.
    pub async fn jetstream(&self) -> anyhow::Result<jetstream::Context> {
        Ok(jetstream::new(connect_quickly(self.urls()).await?))
    }

    /// The running node that leads this stream; waits for an election if there is one.
    ///
    /// # Errors
    ///
    /// When there is no such stream, or no leader is elected.
    pub async fn stream_leader(&self, stream: &str) -> anyhow::Result<usize> {
        let jetstream = self.jetstream().await?;
        let mut leader = None;
        let elected = eventually(ELECTION_LIMIT, async || {
            // Only the leader answers: a request that meets none would take its full time limit.
            const LIMIT: Duration = Duration::from_millis(500);
            leader = match timeout(LIMIT, jetstream.get_stream(stream)).await {
                Ok(Ok(stream)) => {
                    self.running_node(stream.cached_info().cluster.as_ref().and_then(|c| c.leader.as_deref()))
                }
                _ => None,
            };
            leader.is_some()
        });
        elected
            .await
            .with_context(|| format!("the stream {stream} has no leader"))?;
        leader.context("there is one once the wait is over")
    }

    async fn is_ready(&self) -> anyhow::Result<bool> {
        let mut leaders = Vec::with_capacity(N_NODES);
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            let (status, _) = node.monitoring("/healthz").await?;
            ensure!(status == 200, "not healthy");
            let (_, jetstream) = node.monitoring("/jsz").await?;
            leaders.push(self.running_node(jetstream["meta_cluster"]["leader"].as_str()));
        }
        leaders.dedup();
        Ok(matches!(leaders[..], [Some(_)]))
    }

    /// The node of this name, if it runs.
    fn running_node(&self, wanted: Option<&str>) -> Option<usize> {
        let node = (0..N_NODES).find(|&node| Some(name(node).as_str()) == wanted)?;
        self.nodes[node].is_running().then_some(node)
    }
}

fn name(node: usize) -> String {
    format!("node-{node}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NatsVersion, keptn_stream};

    #[tokio::test]
    async fn a_replicated_stream_survives_a_killed_leader() {
        survives_a_killed_leader(NatsVersion::Newest).await;
    }

    #[tokio::test]
    async fn a_replicated_stream_of_2_9_survives_a_killed_leader() {
        survives_a_killed_leader(NatsVersion::V2_9).await;
    }

    async fn survives_a_killed_leader(version: NatsVersion) {
        let mut cluster = NatsCluster::start_with(NatsServer::builder().version(version))
            .await
            .unwrap();
        let jetstream = cluster.jetstream().await.unwrap();
        let config = keptn_stream("keptn", &["sh.keptn.>"], 3);
        jetstream.create_stream(config).await.unwrap();
        let publish = async || {
            jetstream
                .publish("sh.keptn.event.a.triggered", "event".into())
                .await?
                .await
        };
        publish().await.unwrap();

        let first = cluster.stream_leader("keptn").await.unwrap();
        cluster.kill_node(first).await.unwrap();
        cluster.wait_until_ready(ELECTION_LIMIT).await.unwrap();
        let second = cluster.stream_leader("keptn").await.unwrap();
        assert_ne!(first, second);
        eventually(ELECTION_LIMIT, async || publish().await.is_ok())
            .await
            .unwrap();

        cluster.restart_node(first).await.unwrap();
        cluster.wait_until_ready(ELECTION_LIMIT).await.unwrap();
        cluster.kill_node(second).await.unwrap();
        cluster.wait_until_ready(ELECTION_LIMIT).await.unwrap();
        assert_ne!(cluster.stream_leader("keptn").await.unwrap(), second);
        let mut stream = jetstream.get_stream("keptn").await.unwrap();
        assert!(stream.info().await.unwrap().state.messages >= 2);
    }
}
