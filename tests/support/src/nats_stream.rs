//! Streams as the distributor's users have them.
//!
//! Called by tests and benchmarks. It must not know what is published or who consumes.

use std::time::Duration;

use anyhow::Context;
use async_nats::jetstream::{self, stream};

/// A file stream that keeps everything, as an operator would make it. Tests change what matters to them:
/// `stream::Config { max_bytes: 1000, ..keptn_stream("keptn", &["sh.keptn.>"], 1) }`.
#[must_use]
pub fn keptn_stream(name: &str, subjects: &[&str], n_replicas: usize) -> stream::Config {
    stream::Config {
        name: name.to_owned(),
        subjects: subjects.iter().map(|&subject| subject.to_owned()).collect(),
        retention: stream::RetentionPolicy::Limits,
        storage: stream::StorageType::File,
        num_replicas: n_replicas,
        ..stream::Config::default()
    }
}

/// Creates the stream `keptn` with the subject `sh.keptn.>` and one replica. Nothing happens when it is there already.
///
/// # Errors
///
/// When the server has no JetStream or does not answer.
pub async fn create_keptn_stream(jetstream: &jetstream::Context) -> anyhow::Result<stream::Stream> {
    let stream = jetstream.create_stream(keptn_stream("keptn", &["sh.keptn.>"], 1)).await;
    stream.context("cannot create the stream keptn")
}

/// A client that tries to connect again every 50 ms: what a test waits for is the program under test, not its own client.
pub(crate) async fn connect_quickly(urls: Vec<String>) -> anyhow::Result<async_nats::Client> {
    const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(50);
    let addresses: Result<Vec<async_nats::ServerAddr>, _> = urls.iter().map(|url| url.parse()).collect();
    async_nats::ConnectOptions::new()
        .reconnect_delay_callback(|_| BETWEEN_ATTEMPTS)
        .connect(addresses?)
        .await
        .with_context(|| format!("cannot connect to {urls:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NatsServer, NatsVersion};

    #[tokio::test]
    async fn what_a_stream_has_confirmed_outlives_a_kill() {
        for version in NatsVersion::ALL {
            let builder = NatsServer::builder().version(version).jetstream(true);
            let mut server = builder.start().await.unwrap();
            let jetstream = server.jetstream().await.unwrap();
            let mut stream = create_keptn_stream(&jetstream).await.unwrap();
            for round in 1..=5 {
                for _ in 0..100 {
                    let sent = jetstream.publish("sh.keptn.event.a.triggered", "event".into());
                    sent.await.unwrap().await.unwrap();
                }
                server.restart().await.unwrap();
                // The same client: it has to come back by itself.
                let restarted = async || stream.info().await.is_ok_and(|info| info.state.messages == round * 100);
                let result = crate::eventually(Duration::from_secs(20), restarted).await;
                result.unwrap_or_else(|error| panic!("{version:?}, round {round}: {error}"));
            }
        }
    }
}
