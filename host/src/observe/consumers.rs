//! What the server says about the durable consumers: what still waits in their streams.
//!
//! Asked for only while somebody looks, and not by whoever looks: those get what is known, and the answer is there when
//! they look again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Client;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::jetstream_api::ask;
use crate::nats;

/// What is known is good for so long.
const FRESH: Duration = Duration::from_secs(2);

/// What the server says about a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerReport {
    /// The stream.
    #[serde(rename = "stream_name")]
    pub stream: String,
    /// The durable consumer.
    #[serde(rename = "name")]
    pub durable: String,
    /// Events in the stream that it has not handed out.
    #[serde(rename = "num_pending", default)]
    pub pending: u64,
    /// Events that it has handed out, to any replica, and that are not settled.
    #[serde(rename = "num_ack_pending", default)]
    pub ack_pending: u64,
    /// Those of them that it has handed out more than once.
    #[serde(rename = "num_redelivered", default)]
    pub redelivered: u64,
}

/// What is known about all of them.
#[derive(Debug, Default)]
pub struct Consumers {
    known: Mutex<BTreeMap<(String, String), ConsumerReport>>,
    asked: Mutex<Option<Instant>>,
    is_asking: AtomicBool,
}

impl Consumers {
    /// What is known about these. Asks the server, in a task of its own, when that is not new.
    pub(super) fn known(self: &Arc<Self>, client: &Client, durables: Vec<(String, String)>) -> Vec<ConsumerReport> {
        let known = lock(&self.known);
        let found = durables.iter().filter_map(|durable| known.get(durable).cloned());
        let found = found.collect();
        drop(known);
        let is_fresh = lock(&self.asked).is_some_and(|asked| asked.elapsed() < FRESH);
        if !durables.is_empty()
            && !is_fresh
            && nats::is_connected(client)
            && !self.is_asking.swap(true, Ordering::AcqRel)
        {
            tokio::spawn(Arc::clone(self).ask(client.clone(), durables));
        }
        found
    }

    async fn ask(self: Arc<Self>, client: Client, durables: Vec<(String, String)>) {
        let mut known = BTreeMap::new();
        for (stream, durable) in durables {
            let api = format!("CONSUMER.INFO.{stream}.{durable}");
            // What cannot be asked is not known.
            if let Ok(report) = ask::<ConsumerReport>(&client, &api, String::new()).await {
                known.insert((stream, durable), report);
            }
        }
        *lock(&self.known) = known;
        *lock(&self.asked) = Some(Instant::now());
        self.is_asking.store(false, Ordering::Release);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
