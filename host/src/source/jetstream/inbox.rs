//! Where the server sends what a reader asks for.

use async_nats::{Client, Message, SubscribeError, Subscriber};
use futures_util::{FutureExt, StreamExt};
use tokio::task::unconstrained;

use crate::source::SERVER_ENDS_NOW;

/// A subject of our own, and what comes on it.
#[derive(Debug)]
pub(super) struct Inbox {
    client: Client,
    subject: String,
    subscriber: Subscriber,
    is_used: bool,
    /// What came on the subject before.
    earlier: Option<Subscriber>,
}

impl Inbox {
    pub(super) async fn new(client: Client) -> Result<Self, SubscribeError> {
        let subject = client.new_inbox();
        Ok(Self {
            subscriber: client.subscribe(subject.clone()).await?,
            client,
            subject,
            is_used: false,
            earlier: None,
        })
    }

    /// The subject to give in a request.
    pub(super) fn subject(&mut self) -> String {
        self.is_used = true;
        self.subject.clone()
    }

    /// Makes the requests so far void: a server that still knows them, after the connection broke or while it cannot be
    /// reached, sends nothing for them any more once it has got this. What it had sent can still be read.
    pub(super) async fn renew(&mut self) -> Result<(), SubscribeError> {
        if !self.is_used {
            return Ok(());
        }
        let fresh = Self::new(self.client.clone()).await?;
        let mut used = std::mem::replace(self, fresh).subscriber;
        // In vain without a connection, and then nothing is to be ended.
        let _ = used.unsubscribe_after(SERVER_ENDS_NOW).await;
        self.earlier = Some(used);
        Ok(())
    }

    /// The next message; none when the client has ended.
    pub(super) async fn next(&mut self) -> Option<Message> {
        self.subscriber.next().await
    }

    /// A message that has come already.
    pub(super) fn ready(&mut self) -> Option<Message> {
        ready(&mut self.subscriber)
    }

    /// A message that had come before the requests were made void.
    pub(super) fn earlier(&mut self) -> Option<Message> {
        let message = self.earlier.as_mut().and_then(ready);
        if message.is_none() {
            self.earlier = None;
        }
        message
    }

    /// Ends all requests.
    pub(super) async fn end(&mut self) -> Result<(), async_nats::UnsubscribeError> {
        self.subscriber.unsubscribe_after(SERVER_ENDS_NOW).await
    }
}

fn ready(subscriber: &mut Subscriber) -> Option<Message> {
    // Unconstrained: only an empty queue may look empty.
    unconstrained(subscriber.next()).now_or_never().flatten()
}
