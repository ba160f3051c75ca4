//! Everything that passes over NATS on the subjects of Keptn, as a neutral third party sees it.
//!
//! Called by `main` and `path`. It must not know who has sent a message, nor what becomes of it.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// The subjects that are watched.
pub(crate) const SUBJECTS: &str = "sh.keptn.>";

/// One message that was seen.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Its subject.
    pub(crate) subject: String,
    /// Its bytes.
    pub(crate) payload: Bytes,
    /// The same as JSON; null when it is none.
    pub(crate) event: Value,
    /// When it was seen, or published where that is known.
    pub(crate) since: Instant,
}

impl Message {
    /// The event's id.
    pub(crate) fn id(&self) -> Option<&str> {
        self.event["id"].as_str()
    }
}

/// Watches until it is dropped. A message stays until it is taken.
#[derive(Debug)]
pub(crate) struct Watch {
    messages: watch::Sender<VecDeque<Message>>,
    /// The one task that reads; in a set, because a set ends its tasks when it is dropped.
    _reading: JoinSet<()>,
}

impl Watch {
    /// Returns when the server has the subscription.
    ///
    /// # Errors
    /// When the connection is lost.
    pub(crate) async fn start(client: &async_nats::Client) -> anyhow::Result<Self> {
        let mut subscriber = client.subscribe(SUBJECTS).await?;
        // The server handles what comes over one connection in order: its answer shows that it has the subscription.
        let _no_responders = client.request(client.new_inbox(), Bytes::new()).await;
        let messages = watch::Sender::default();
        let sender = messages.clone();
        let mut reading = JoinSet::new();
        reading.spawn(async move {
            while let Some(message) = subscriber.next().await {
                let message = Message {
                    subject: message.subject.to_string(),
                    event: serde_json::from_slice(&message.payload).unwrap_or_default(),
                    payload: message.payload,
                    since: Instant::now(),
                };
                sender.send_modify(|messages: &mut VecDeque<Message>| messages.push_back(message));
            }
        });
        Ok(Self {
            messages,
            _reading: reading,
        })
    }

    /// Takes the first message that is `wanted`, seen already or later.
    ///
    /// # Errors
    /// When none is seen within `within`.
    pub(crate) async fn take(
        &self,
        within: Duration,
        description: &str,
        wanted: impl Fn(&Message) -> bool,
    ) -> anyhow::Result<Message> {
        let mut messages = self.messages.subscribe();
        let is_there = messages.wait_for(|messages| messages.iter().any(&wanted));
        if timeout(within, is_there).await.is_err() {
            bail!("{description} was not seen on NATS within {within:?}");
        }
        let mut taken = None;
        self.messages.send_if_modified(|messages| {
            let index = messages.iter().position(&wanted);
            taken = index.and_then(|index| messages.remove(index));
            false
        });
        taken.ok_or_else(|| anyhow::anyhow!("{description} was taken by another task"))
    }

    /// Messages that were not taken.
    pub(crate) fn n_left(&self) -> usize {
        self.messages.borrow().len()
    }
}
