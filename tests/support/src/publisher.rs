//! Publishes numbered events at a steady rate into a stream, through whatever happens to the server.
//!
//! Called by tests. It must not know who consumes. An event counts as published only when the stream has confirmed it; it
//! is sent again with the same `Nats-Msg-Id` until then, and no later event of its key is sent before. So the stream has
//! each event once and each key in order, and what is wrong afterwards is not the publisher's fault.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::bail;
use async_nats::jetstream;
use async_nats::{HeaderMap, header};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::keptn_event::KeptnEvent;
use crate::numbered_events::{NumberedEvents, PublishedEvent};

/// How many events wait for their confirmation at most.
const MAX_WORKERS: usize = 64;

/// How long a confirmation is waited for. It comes within a millisecond, or the server is away.
const CONFIRMATION_LIMIT: Duration = Duration::from_secs(1);

/// Between two attempts, so that a server that refuses is not flooded.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(20);

/// How fast events are published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// So many a second. What could not be sent in time, because the server was away, is sent as fast as it goes.
    PerSecond(f64),
    /// As fast as the stream confirms.
    Unlimited,
}

/// A running publisher. It ends at once when this is dropped.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<Shared>,
    workers: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    jetstream: jetstream::Context,
    events: NumberedEvents,
    rate: Rate,
    start: Instant,
    max: usize,
    published: watch::Sender<Vec<PublishedEvent>>,
    stopping: watch::Sender<bool>,
    n_failed_attempts: AtomicUsize,
}

impl Publisher {
    /// Publishes the first `max` events, or with none goes on until it is stopped. The subject is the event's type.
    #[must_use]
    pub fn start(jetstream: jetstream::Context, events: NumberedEvents, rate: Rate, max: Option<usize>) -> Self {
        let shared = Arc::new(Shared {
            jetstream,
            events,
            rate,
            start: Instant::now(),
            max: max.unwrap_or(usize::MAX),
            published: watch::Sender::default(),
            stopping: watch::Sender::new(false),
            n_failed_attempts: AtomicUsize::new(0),
        });
        let n_workers = shared.events.n_keys().min(MAX_WORKERS);
        let mut workers = JoinSet::new();
        for worker in 0..n_workers {
            workers.spawn(publish_keys(Arc::clone(&shared), worker, n_workers));
        }
        Self { shared, workers }
    }

    /// How many events the stream has confirmed so far.
    #[must_use]
    pub fn n_published(&self) -> usize {
        self.shared.published.borrow().len()
    }

    /// How many attempts were not confirmed so far.
    #[must_use]
    pub fn n_failed_attempts(&self) -> usize {
        self.shared.n_failed_attempts.load(Ordering::Relaxed)
    }

    /// Waits until at least `n` events are confirmed.
    ///
    /// # Errors
    ///
    /// When there were fewer after `within`.
    pub async fn wait_until_published(&self, n: usize, within: Duration) -> anyhow::Result<()> {
        let mut published = self.shared.published.subscribe();
        if timeout(within, published.wait_for(|published| published.len() >= n))
            .await
            .is_err()
        {
            bail!("{} of {n} events were published within {within:?}", self.n_published());
        }
        Ok(())
    }

    /// Waits until all `max` events are confirmed, and returns them in the order of their confirmation.
    ///
    /// # Errors
    ///
    /// When they are not within `within`.
    pub async fn finish(mut self, within: Duration) -> anyhow::Result<Vec<PublishedEvent>> {
        let ended = timeout(within, async { while self.workers.join_next().await.is_some() {} });
        if ended.await.is_err() {
            bail!(
                "{} of {} events were published within {within:?}",
                self.n_published(),
                self.shared.max
            );
        }
        Ok(self.shared.published.send_replace(Vec::new()))
    }

    /// Begins no further event, waits for the confirmations of those that are on their way, and returns what is confirmed.
    /// An event that fails now is not tried again: the stream may have it all the same, and a [`Verdict`](crate::Verdict)
    /// calls it unexpected.
    pub async fn stop(mut self) -> Vec<PublishedEvent> {
        self.shared.stopping.send_replace(true);
        while self.workers.join_next().await.is_some() {}
        self.shared.published.send_replace(Vec::new())
    }
}

/// Publishes every event of the keys that are this worker's, one after the other.
async fn publish_keys(shared: Arc<Shared>, worker: usize, n_workers: usize) {
    let n_keys = shared.events.n_keys();
    for round in 0.. {
        for key in (worker..n_keys).step_by(n_workers) {
            let index = round * n_keys + key;
            if index >= shared.max || !shared.is_due(index).await {
                return;
            }
            let (published, event) = shared.events.get(index);
            if !shared.publish(&event).await {
                return;
            }
            shared.published.send_modify(|all| all.push(published));
        }
    }
}

impl Shared {
    /// Waits until it is this event's turn. False when the publisher is stopped.
    async fn is_due(&self, index: usize) -> bool {
        let mut stopping = self.stopping.subscribe();
        if let Rate::PerSecond(rate) = self.rate {
            #[expect(clippy::cast_precision_loss, reason = "no test has 2^53 events")]
            let due = self.start + Duration::from_secs_f64(index as f64 / rate);
            tokio::select! {
                () = sleep_until(due) => {}
                _ = stopping.wait_for(|&stopping| stopping) => {}
            }
        }
        !*stopping.borrow()
    }

    /// Whether the stream has it in the end. False when the publisher is stopped before.
    async fn publish(&self, event: &KeptnEvent) -> bool {
        let payload = event.to_bytes();
        loop {
            let mut headers = HeaderMap::new();
            headers.insert(header::NATS_MESSAGE_ID, event.id.as_str());
            let sent = self
                .jetstream
                .publish_with_headers(event.ty.clone(), headers, payload.clone());
            let confirmed = timeout(CONFIRMATION_LIMIT, async { sent.await?.await }).await;
            if matches!(confirmed, Ok(Ok(_))) {
                return true;
            }
            self.n_failed_attempts.fetch_add(1, Ordering::Relaxed);
            if *self.stopping.borrow() {
                return false;
            }
            sleep(BETWEEN_ATTEMPTS).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NatsServer, ProxyMode, TcpProxy, create_keptn_stream};
    use std::collections::HashMap;

    const SOON: Duration = Duration::from_mins(1);

    fn events(n_keys: usize) -> NumberedEvents {
        NumberedEvents::new("run", n_keys, KeptnEvent::triggered("deployment"))
    }

    /// The ids in the stream, in its order.
    async fn stored(server: &NatsServer) -> Vec<String> {
        let stream = server.jetstream().await.unwrap().get_stream("keptn").await.unwrap();
        let mut ids = Vec::new();
        for sequence in 1..=stream.cached_info().state.last_sequence {
            let message = stream.get_raw_message(sequence).await.unwrap();
            let event: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
            ids.push(event["id"].as_str().unwrap().to_owned());
        }
        ids
    }

    fn assert_stored_once_and_in_order(confirmed: &[PublishedEvent], stored: &[String]) {
        let mut next_of_key: HashMap<&str, u64> = HashMap::new();
        for id in stored {
            let (key, number) = id.rsplit_once('-').unwrap();
            let next = next_of_key.entry(key).or_default();
            assert_eq!(number, next.to_string(), "of key {key}");
            *next += 1;
        }
        assert_eq!(confirmed.len(), stored.len());
    }

    #[tokio::test]
    async fn publishes_as_many_as_asked_for_at_the_rate_asked_for() {
        let server = NatsServer::builder().jetstream(true).start().await.unwrap();
        let jetstream = server.jetstream().await.unwrap();
        create_keptn_stream(&jetstream).await.unwrap();
        let start = Instant::now();
        let publisher = Publisher::start(jetstream, events(3), Rate::PerSecond(500.0), Some(201));
        publisher.wait_until_published(100, SOON).await.unwrap();
        let confirmed = publisher.finish(SOON).await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
        assert_eq!(confirmed.len(), 201);
        assert_stored_once_and_in_order(&confirmed, &stored(&server).await);
    }

    #[tokio::test]
    async fn a_stopped_publisher_knows_what_is_stored() {
        let server = NatsServer::builder().jetstream(true).start().await.unwrap();
        let jetstream = server.jetstream().await.unwrap();
        create_keptn_stream(&jetstream).await.unwrap();
        let publisher = Publisher::start(jetstream, events(100), Rate::Unlimited, None);
        publisher.wait_until_published(500, SOON).await.unwrap();
        let confirmed = publisher.stop().await;
        assert_stored_once_and_in_order(&confirmed, &stored(&server).await);
    }

    #[tokio::test]
    async fn a_killed_server_and_lost_confirmations_repeat_and_lose_nothing() {
        let mut server = NatsServer::builder().jetstream(true).start().await.unwrap();
        create_keptn_stream(&server.jetstream().await.unwrap()).await.unwrap();
        let proxy = TcpProxy::start(server.address()).await.unwrap();
        let url = format!("nats://{}", proxy.address());
        let client = crate::nats_stream::connect_quickly(vec![url]).await.unwrap();
        let publisher = Publisher::start(jetstream::new(client), events(10), Rate::PerSecond(1000.0), Some(600));

        publisher.wait_until_published(100, SOON).await.unwrap();
        server.restart().await.unwrap();
        publisher.wait_until_published(200, SOON).await.unwrap();
        // The server stores what comes until it notices; the confirmations are cut.
        let direction = crate::Direction::ToClient;
        proxy
            .switch_to(ProxyMode::CutAfter {
                n_bytes: 700,
                direction,
            })
            .await;
        crate::eventually(SOON, async || proxy.n_connections_ever() >= 5)
            .await
            .unwrap();
        proxy.switch_to(ProxyMode::Pass).await;

        let confirmed = publisher.finish(SOON).await.unwrap();
        assert_stored_once_and_in_order(&confirmed, &stored(&server).await);
    }
}
