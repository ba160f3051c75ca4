//! Core NATS: keeps the subscriptions equal to what is wanted, and hands each message on.
//!
//! Run by [`super`], for the topics that no stream stores. It does not know plugins or HTTP.
//!
//! A reader for each subject takes messages off the client at once and decides whether there is room for them. So a slow
//! plugin fills our memory, which is bounded by events and bytes and where losses are counted, and not the client's,
//! which is neither. Whoever finds the [`Queue`] idle takes it through [`Dispatcher`], in order: an event that comes alone
//! wakes no other task.

use std::collections::{BTreeMap, BTreeSet, LinkedList};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{Notify, watch};
use tokio::task::coop::consume_budget;
use tokio::task::{JoinHandle, unconstrained};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::dispatch::{Dispatcher, Received, Workspace};
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
    let overview = Arc::clone(&dispatcher.overview);
    let budget = Budget::new(MAX_EVENTS, MAX_BYTES);
    overview.add_budget(SourceKind::Core, &budget);
    let queue = Arc::<Queue>::default();
    let dispatching = tokio::spawn(dispatch_all(Arc::clone(&queue), Arc::clone(&dispatcher)));
    let intake = Intake {
        client: client.clone(),
        queue: Arc::clone(&queue),
        dispatcher,
        budget,
        shutdown: shutdown.clone(),
    };
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
    queue.close();
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

/// Events in the order they came, and who takes them through: one at a time.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<QueueState>,
    /// Wakes the task that does it where no reader can.
    handed_over: Notify,
}

#[expect(
    clippy::linkedlist,
    reason = "an event that is taken gives its place back, which its delivery needs: a burst peaks lower"
)]
#[derive(Debug, Default)]
struct QueueState {
    events: LinkedList<Received>,
    /// Somebody does.
    is_served: bool,
    /// There will be no more.
    is_closed: bool,
}

impl Queue {
    /// Adds an event. True: nobody serves, and the caller has to, or to hand it over.
    fn push(&self, received: Received) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.events.push_back(received);
        !std::mem::replace(&mut state.is_served, true)
    }

    /// The next event for whoever serves; with none, that is over.
    fn next(&self) -> Option<Received> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let next = state.events.pop_front();
        if next.is_none() {
            state.is_served = false;
        }
        next
    }

    /// Lets the task do the rest.
    fn hand_over(&self) {
        self.handed_over.notify_one();
    }

    fn close(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.handed_over.notify_one();
    }

    fn is_closed(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_closed
    }
}

/// Takes messages over from the client.
#[derive(Clone)]
struct Intake {
    client: Client,
    queue: Arc<Queue>,
    dispatcher: Arc<Dispatcher>,
    budget: Arc<Budget>,
    shutdown: CancellationToken,
}

/// What one reader has.
struct Reading {
    subscriber: Subscriber,
    unsubscribe: CancellationToken,
    last_loss_log: Option<Instant>,
}

impl Intake {
    /// Reads one subscription to its end. After `unsubscribe` that is when everything the server had already sent is
    /// read.
    async fn read(self, subscriber: Subscriber, unsubscribe: CancellationToken) {
        let mut workspace = Workspace::default();
        let mut reading = Reading {
            subscriber,
            unsubscribe,
            last_loss_log: None,
        };
        loop {
            let message = tokio::select! {
                biased;
                message = reading.subscriber.next() => message,
                () = reading.unsubscribe.cancelled() => break,
            };
            let Some(message) = message else { return };
            if self.take(&message, &mut reading.last_loss_log) {
                self.serve(&mut reading, &mut workspace).await;
            }
        }
        // Without a connection nothing is on its way.
        let Reading { mut subscriber, .. } = reading;
        if !nats::is_connected(&self.client) || subscriber.unsubscribe_after(SERVER_ENDS_NOW).await.is_err() {
            return;
        }
        // The client's own `drain` forgets the subscription before the server has: what is on its way would be lost.
        if !is_confirmed(&self.client, &self.shutdown).await {
            tracing::warn!("the NATS server did not confirm the end of a subscription");
        }
        // Unconstrained: only an empty queue may look empty.
        while let Some(Some(message)) = unconstrained(subscriber.next()).now_or_never() {
            if self.take(&message, &mut reading.last_loss_log) {
                self.queue.hand_over();
            }
        }
    }

    /// Takes what waits through, and what comes meanwhile off the client.
    async fn serve(&self, reading: &mut Reading, workspace: &mut Workspace) {
        loop {
            if self.dispatcher.deliveries.pause().is_paused() || reading.unsubscribe.is_cancelled() {
                return self.queue.hand_over();
            }
            let Some(received) = self.queue.next() else { return };
            self.dispatcher.dispatch(received, workspace).await;
            while let Some(Some(message)) = reading.subscriber.next().now_or_never() {
                self.take(&message, &mut reading.last_loss_log);
            }
            consume_budget().await;
        }
    }

    /// Queues a message if it is an event and there is room. True: nobody serves the queue, and the caller has to.
    fn take(&self, message: &Message, last_loss_log: &mut Option<Instant>) -> bool {
        // Inboxes carry answers, never events; a topic like `>` matches our own.
        if message.subject.starts_with("_INBOX.") {
            return false;
        }
        let counters = &self.dispatcher.counters;
        counters.received.increment();
        let Some(held) = self.budget.hold(message.payload.len()) else {
            counters.lost.increment();
            if last_loss_log.is_none_or(|last| last.elapsed() >= LOSS_LOG_INTERVAL) {
                *last_loss_log = Some(Instant::now());
                let lost = counters.lost.value();
                tracing::error!(
                    lost,
                    "events come faster than they are delivered, and memory is full: events are lost"
                );
            }
            return false;
        };
        self.queue.push(Received {
            subject: message.subject.clone(),
            payload: structured(message),
            trace: TraceContext::of_message(message).map(Box::new),
            receipt: Receipt::core(held),
        })
    }
}

/// Takes through what no reader does: while an operator wants none to be taken, and at the end of a subscription.
async fn dispatch_all(queue: Arc<Queue>, dispatcher: Arc<Dispatcher>) {
    let mut workspace = Workspace::default();
    let pause = Arc::clone(dispatcher.deliveries.pause());
    loop {
        queue.handed_over.notified().await;
        loop {
            pause.until_resumed().await;
            let Some(received) = queue.next() else { break };
            dispatcher.dispatch(received, &mut workspace).await;
            consume_budget().await;
        }
        if queue.is_closed() {
            return;
        }
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
