//! Core NATS: keeps the subscriptions equal to what is wanted, and hands each message on.
//!
//! Run by [`super`], for the topics that no stream stores. It does not know plugins or HTTP.
//!
//! Two kinds of tasks: a reader for each subject takes messages off the client at once and decides whether there is
//! room for them; one task runs them through [`Dispatcher`] in order. So a slow plugin fills our memory, which is
//! bounded by events and bytes and where losses are counted, and not the client's, which is neither.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, unconstrained};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::dispatch::{Dispatcher, Received, Workspace};
use crate::metrics::Counters;
use crate::nats;
use crate::receipt::Receipt;
use crate::source::{SERVER_ENDS_NOW, SourceKind, structured};
use crate::subject::Subject;
use crate::trace::TraceContext;

/// Events that may wait in memory. A burst of 20,000 events of 1 KB fits.
const MAX_EVENTS: usize = 65_536;
/// Bytes of them.
const MAX_BYTES: usize = 24 << 20;
/// Time that the server gets to say that it knows of a change. A connection that is dead has been given up by then.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(15);
/// The same at the end; before, it is asked again after this.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Losses are logged at most this often.
const LOSS_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Receives until `shutdown`, and then what was already on its way.
///
/// # Errors
/// When the client has ended, which nothing but the end of the process does.
pub(super) async fn run(
    client: Client,
    group: Option<String>,
    mut subjects: watch::Receiver<BTreeSet<Subject>>,
    dispatcher: Arc<Dispatcher>,
    shutdown: CancellationToken,
) -> Result<(), async_nats::SubscribeError> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let counters = Arc::clone(&dispatcher.counters);
    let overview = Arc::clone(&dispatcher.overview);
    let budget = Budget::new(MAX_EVENTS, MAX_BYTES);
    overview.add_budget(SourceKind::Core, &budget);
    let intake = Intake {
        client: client.clone(),
        sender,
        budget,
        counters,
        shutdown: shutdown.clone(),
    };
    let dispatching = tokio::spawn(dispatch_all(receiver, dispatcher));
    let mut readers: BTreeMap<Subject, Reader> = BTreeMap::new();
    loop {
        let wanted = subjects.borrow_and_update().clone();
        let changes = plan(readers.keys(), &wanted);
        // New before old: where a wider subject replaces a narrower one, nothing falls into a gap.
        let mut added = Vec::with_capacity(changes.added.len());
        for subject in changes.added {
            let subscriber = match &group {
                Some(group) => client.queue_subscribe(subject.to_string(), group.clone()).await?,
                None => client.subscribe(subject.to_string()).await?,
            };
            tracing::info!(%subject, group, "subscribed");
            added.push((subject, subscriber));
        }
        // An event that the server hands on in the moment in which both lists change would find neither.
        if !added.is_empty()
            && !changes.removed.is_empty()
            && nats::is_connected(&client)
            && !is_confirmed(&client, &shutdown).await
        {
            tracing::warn!("the NATS server did not confirm new subscriptions before old ones end");
        }
        let removed = changes.removed.iter().filter_map(|subject| readers.remove(subject));
        end(removed.collect()).await;
        for subject in changes.removed {
            tracing::info!(%subject, "unsubscribed");
        }
        // What the old ones brought came before what has been waiting in the new ones.
        for (subject, subscriber) in added {
            let unsubscribe = CancellationToken::new();
            let task = tokio::spawn(intake.clone().read(subscriber, unsubscribe.clone()));
            readers.insert(subject, Reader { unsubscribe, task });
        }
        overview.listens_to(wanted);
        tokio::select! {
            () = shutdown.cancelled() => break,
            result = subjects.changed() => if result.is_err() {
                // Nobody will want anything else any more; go on with this.
                shutdown.cancelled().await;
                break;
            },
        }
    }
    overview.listens_to(BTreeSet::new());
    end(readers.into_values().collect()).await;
    // The readers were the last to hold a sender besides this one: now the dispatching task comes to its end.
    drop(intake);
    let _ = dispatching.await;
    Ok(())
}

/// A task that reads one subscription.
struct Reader {
    unsubscribe: CancellationToken,
    task: JoinHandle<()>,
}

/// Ends readers, and waits until they have read everything.
async fn end(readers: Vec<Reader>) {
    for reader in &readers {
        reader.unsubscribe.cancel();
    }
    for reader in readers {
        let _ = reader.task.await;
    }
}

/// Waits until the server has handled everything that was sent to it, and what it had sent before that is here. What is
/// on its way on a slow network, or in a server that stalls, would otherwise come to a subscription that has ended.
async fn is_confirmed(client: &Client, shutdown: &CancellationToken) -> bool {
    let start = Instant::now();
    let mut answers = FuturesUnordered::new();
    loop {
        // Again and again, because a question is lost together with its connection.
        answers.push(nats::round_trip(client, CHANGE_TIMEOUT));
        tokio::select! {
            Some(Ok(())) = answers.next() => return true,
            () = tokio::time::sleep(ANSWER_TIMEOUT) => {}
        }
        if shutdown.is_cancelled() || !nats::is_connected(client) || start.elapsed() >= CHANGE_TIMEOUT {
            return false;
        }
    }
}

/// What has to change so that `current` becomes `wanted`. What is in both stays untouched.
fn plan<'a>(current: impl Iterator<Item = &'a Subject>, wanted: &BTreeSet<Subject>) -> Changes {
    let current: BTreeSet<_> = current.cloned().collect();
    Changes {
        added: wanted.difference(&current).cloned().collect(),
        removed: current.difference(wanted).cloned().collect(),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Changes {
    added: Vec<Subject>,
    removed: Vec<Subject>,
}

/// Takes messages over from the client.
#[derive(Clone)]
struct Intake {
    client: Client,
    sender: mpsc::UnboundedSender<Received>,
    budget: Arc<Budget>,
    counters: Arc<Counters>,
    shutdown: CancellationToken,
}

impl Intake {
    /// Reads one subscription to its end. After `unsubscribe` that is when everything the server had already sent is
    /// read.
    async fn read(self, mut subscriber: Subscriber, unsubscribe: CancellationToken) {
        let mut last_loss_log = None;
        loop {
            let message = tokio::select! {
                biased;
                message = subscriber.next() => message,
                () = unsubscribe.cancelled() => break,
            };
            let Some(message) = message else { return };
            self.take(&message, &mut last_loss_log);
        }
        // Without a connection nothing is on its way.
        if !nats::is_connected(&self.client) || subscriber.unsubscribe_after(SERVER_ENDS_NOW).await.is_err() {
            return;
        }
        // The client's own `drain` forgets the subscription before the server has: what is on its way would be lost.
        if !is_confirmed(&self.client, &self.shutdown).await {
            tracing::warn!("the NATS server did not confirm the end of a subscription");
        }
        // Unconstrained: only an empty queue may look empty.
        while let Some(Some(message)) = unconstrained(subscriber.next()).now_or_never() {
            self.take(&message, &mut last_loss_log);
        }
    }

    fn take(&self, message: &Message, last_loss_log: &mut Option<Instant>) {
        // Inboxes carry answers, never events; a topic like `>` matches our own.
        if message.subject.starts_with("_INBOX.") {
            return;
        }
        self.counters.received.increment();
        let Some(held) = self.budget.hold(message.payload.len()) else {
            self.counters.lost.increment();
            if last_loss_log.is_none_or(|last| last.elapsed() >= LOSS_LOG_INTERVAL) {
                *last_loss_log = Some(Instant::now());
                let lost = self.counters.lost.value();
                tracing::error!(
                    lost,
                    "events come faster than they are delivered, and memory is full: events are lost"
                );
            }
            return;
        };
        let received = Received {
            subject: message.subject.clone(),
            payload: structured(message),
            trace: TraceContext::of_message(message).map(Box::new),
            receipt: Receipt::core(held),
        };
        // The receiver lives until the last sender is gone.
        let _ = self.sender.send(received);
    }
}

async fn dispatch_all(mut receiver: mpsc::UnboundedReceiver<Received>, dispatcher: Arc<Dispatcher>) {
    let mut workspace = Workspace::default();
    let pause = Arc::clone(dispatcher.deliveries.pause());
    while let Some(received) = receiver.recv().await {
        if pause.is_paused() {
            pause.until_resumed().await;
        }
        dispatcher.dispatch(received, &mut workspace).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(texts: &[&str]) -> BTreeSet<Subject> {
        texts.iter().map(|text| Subject::pattern(text).unwrap()).collect()
    }

    #[test]
    fn only_what_differs_is_changed_and_order_does_not_matter() {
        let check = |current: &[&str], wanted: &[&str], added: &[&str], removed: &[&str]| {
            let changes = plan(subjects(current).iter(), &subjects(wanted));
            assert_eq!(changes.added, Vec::from_iter(subjects(added)));
            assert_eq!(changes.removed, Vec::from_iter(subjects(removed)));
        };
        check(&[], &["a", "b"], &["a", "b"], &[]);
        check(&["a", "b"], &["b", "a"], &[], &[]);
        check(&["a", "b"], &["b", "c"], &["c"], &["a"]);
        check(&["a"], &[], &[], &["a"]);
    }
}
