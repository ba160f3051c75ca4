//! Three nodes of NATS that share a replicated stream, and lose one of them.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::Context;
use futures_util::TryStreamExt;
use test_support::{
    DistributorProcess, NatsCluster, NatsServer, NatsVersion, OutputTo, Publisher, Rate, Recipient, Verdict,
    eventually, keptn_stream, recovery_time,
};
use tokio::time::Instant;

use super::rig::{IN_TIME, STREAM, extent, numbered};
use crate::harness::BINARY;

/// An election may take ten seconds, and a node that is killed tells nobody.
const RECOVERED: Duration = Duration::from_secs(30);

#[tokio::test]
async fn nothing_is_lost_when_nodes_are_killed() {
    killed(NatsVersion::Newest).await;
}

#[tokio::test]
async fn nothing_is_lost_when_nodes_of_2_9_are_killed() {
    killed(NatsVersion::V2_9).await;
}

/// Kills a node that follows and one that leads, in turn, and counts.
async fn killed(version: NatsVersion) {
    let mut cluster = NatsCluster::start_with(NatsServer::builder().version(version))
        .await
        .unwrap();
    let jetstream = cluster.jetstream().await.unwrap();
    let config = keptn_stream(STREAM, &["sh.keptn.>"], 3);
    jetstream.create_stream(config).await.unwrap();
    let recipient = Recipient::start_light_on(0).await.unwrap();
    let process = started(&cluster, &recipient);
    let created = process.wait_for_log("created the durable consumer", IN_TIME).await;
    created.unwrap();
    let publisher = Publisher::start(jetstream.clone(), numbered("e", 100), Rate::PerSecond(200.0), None);
    let mut pauses = Vec::new();
    let mut down = None;
    for round in 0..extent(2, 10) {
        if let Some(node) = down {
            cluster.restart_node(node).await.unwrap();
            cluster.wait_until_ready(IN_TIME).await.unwrap();
        }
        let n_wanted = recipient.n_accepted() + 200;
        recipient.wait_until_accepted(n_wanted, IN_TIME).await.unwrap();
        let leader = cluster.stream_leader(STREAM).await.unwrap();
        let node = if round % 2 == 0 { (leader + 1) % 3 } else { leader };
        cluster.kill_node(node).await.unwrap();
        let killed = Instant::now();
        let n_wanted = recipient.n_accepted() + 100;
        recipient.wait_until_accepted(n_wanted, IN_TIME).await.unwrap();
        pauses.push(longest_pause(&recipient, killed));
        down = Some(node);
    }
    let published = publisher.stop().await;
    let accepted = recipient.wait_until_accepted(published.len(), IN_TIME).await;
    let verdict = Verdict::of(&published, &recipient.deliveries());
    println!("{version:?}, nodes killed: {verdict}; longest pauses {pauses:?}");
    accepted.unwrap();
    assert!(verdict.is_perfect(), "{version:?}: {verdict}");
    assert!(pauses.iter().all(|&pause| pause < RECOVERED), "{pauses:?}");
    eventually(IN_TIME, async || is_acknowledged(&jetstream).await)
        .await
        .unwrap();
}

fn started(cluster: &NatsCluster, recipient: &Recipient) -> DistributorProcess {
    let (urls, port) = (cluster.urls().join(","), recipient.port().to_string());
    let environment = [
        ("PUBSUB_URL", urls.as_str()),
        ("PUBSUB_RECIPIENT_PORT", &port),
        ("PUBSUB_TOPIC", "sh.keptn.>"),
        ("PUBSUB_GROUP", "group"),
        ("DISABLE_REGISTRATION", "true"),
        ("API_PROXY_PORT", "0"),
    ];
    DistributorProcess::start_with(Path::new(BINARY), &["run"], &environment, OutputTo::Memory).unwrap()
}

/// The longest time without an event since then.
fn longest_pause(recipient: &Recipient, since: Instant) -> Duration {
    let deliveries = recipient.deliveries();
    let mut moments = vec![since];
    moments.extend(
        deliveries
            .iter()
            .map(|delivery| delivery.arrived)
            .filter(|&arrived| arrived > since),
    );
    assert!(recovery_time(&deliveries, since).is_some());
    moments
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .max()
        .unwrap_or_default()
}

async fn is_acknowledged(jetstream: &Context) -> bool {
    let Ok(stream) = jetstream.get_stream(STREAM).await else {
        return false;
    };
    let Ok(consumers) = stream.consumers().try_collect::<Vec<_>>().await else {
        return false;
    };
    assert!(consumers.len() <= 1, "{consumers:?}");
    consumers
        .iter()
        .any(|info| info.num_pending == 0 && info.num_ack_pending == 0)
}
