//! Asks a server, again and again, whether it has handled what was sent to it.
//!
//! Called by [`crate::sink`] for each event that no stream confirms. It does not know events.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::{Client, SubscribeError};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

/// Messages to ourselves, all over one subscription: what [`super::round_trip`] does with one for each.
#[derive(Debug)]
pub struct Echo {
    client: Client,
    inbox: String,
    waiting: Arc<Waiting>,
    last_number: AtomicU64,
    _reading: AbortOnDropHandle<()>,
}

/// Who waits for which message.
#[derive(Debug, Default)]
struct Waiting(Mutex<HashMap<u64, oneshot::Sender<()>>>);

impl Echo {
    /// Subscribes. The client does so again on each new connection.
    ///
    /// # Errors
    /// When the client has ended.
    pub async fn start(client: Client) -> Result<Self, SubscribeError> {
        let inbox = client.new_inbox();
        let mut subscriber = client.subscribe(inbox.clone()).await?;
        let waiting = Arc::<Waiting>::default();
        let reading = tokio::spawn({
            let waiting = Arc::clone(&waiting);
            async move {
                while let Some(message) = subscriber.next().await {
                    if let Ok(number) = message.payload.as_ref().try_into() {
                        waiting.answer(u64::from_be_bytes(number));
                    }
                }
            }
        });
        Ok(Self {
            client,
            inbox,
            waiting,
            last_number: AtomicU64::new(0),
            _reading: AbortOnDropHandle::new(reading),
        })
    }

    /// Waits until the server has handled everything that this connection sent before. A message that is lost with its
    /// connection is waited for without end.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub async fn round_trip(&self) -> Result<(), String> {
        let number = self.last_number.fetch_add(1, Ordering::Relaxed);
        let asked = Asked {
            waiting: &self.waiting,
            number,
        };
        let answer = self.waiting.ask(number);
        let message = Bytes::copy_from_slice(&number.to_be_bytes());
        let sent = self.client.publish(self.inbox.clone(), message).await;
        sent.map_err(|error| error.to_string())?;
        let answered = answer.await;
        drop(asked);
        answered.map_err(|_| "the client has ended".to_owned())
    }
}

impl Waiting {
    fn ask(&self, number: u64) -> oneshot::Receiver<()> {
        let (sender, answer) = oneshot::channel();
        self.all().insert(number, sender);
        answer
    }

    fn answer(&self, number: u64) {
        if let Some(sender) = self.all().remove(&number) {
            // Who gave up does not wait.
            let _ = sender.send(());
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the message when nobody waits for it any more.
struct Asked<'a> {
    waiting: &'a Waiting,
    number: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.waiting.all().remove(&self.number);
    }
}
