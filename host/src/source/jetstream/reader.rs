//! Reads one durable consumer: gets it, [`pull`]s from it, and finds out what happened to it when that is interrupted.
//!
//! Asks for messages itself instead of through the client's own stream of messages, which reads ahead without regard to
//! bytes or to what is being delivered.

mod pull;

use std::sync::Arc;
use std::time::Duration;

use async_nats::Message;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Settings;
use super::consumer::{Consumer, ConsumerError, Definition, Filter, Stream};
use super::continuity::Continuity;
use super::gap::Gap;
use super::inbox::Inbox;
use super::ledger::Ledger;
use super::place::{Place, Places};
use super::recovery::recover;
use crate::budget::Budget;
use crate::dispatch::Workspace;
use crate::jetstream_api::ApiError;
use crate::nats;
use crate::source::SourceKind;

/// Pauses between attempts to get a consumer.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Time that the server gets to stop sending.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// What an event is thought to have before the first has come.
const FIRST_LIKELY_BYTES: usize = 4 << 10;

/// The task that reads one stream.
pub(super) struct Reader {
    settings: Settings,
    ledger: Arc<Ledger>,
    filter: watch::Receiver<Filter>,
    /// What the consumer gives.
    keeps: watch::Sender<Option<Filter>>,
    budget: Arc<Budget>,
    /// Size of the largest of the last events: so many bytes each one may have that is asked for.
    likely_bytes: usize,
    /// Bytes that the last request had room for.
    offered_bytes: usize,
    stream: Option<Stream>,
    /// Messages that the server was asked for and has not sent.
    n_requested: usize,
    /// When the server last said anything.
    last_sign: Instant,
    continuity: Continuity,
    places: Places,
    /// What comes again, until all of it is there.
    gap: Option<Gap<Message>>,
    /// The connection over which the server was asked last: the server, and its number of it.
    connection: (String, u64),
    /// Whether something may have been lost between the server and us.
    is_in_doubt: bool,
    is_full: bool,
    workspace: Workspace,
}

/// Why pulling was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interruption {
    Shutdown,
    /// Something else is wanted of the consumer.
    OtherFilter,
    /// There may be no consumer any more, or something may be lost.
    LookAgain,
    /// An operator wants nothing.
    Paused,
}

impl Reader {
    pub(super) fn new(
        settings: Settings,
        ledger: Arc<Ledger>,
        filter: watch::Receiver<Filter>,
        keeps: watch::Sender<Option<Filter>>,
    ) -> Self {
        let (max_events, max_bytes) = (settings.config.max_events, settings.config.max_bytes);
        let max_events = if settings.is_strict { 1 } else { max_events };
        let places = Places::new(ledger.stream(), ledger.durable());
        let budget = Budget::new(max_events, max_bytes);
        let overview = &settings.dispatcher.overview;
        overview.add_budget(SourceKind::Jetstream, &budget);
        Self {
            settings,
            ledger,
            filter,
            keeps,
            budget,
            likely_bytes: FIRST_LIKELY_BYTES,
            offered_bytes: 0,
            stream: None,
            n_requested: 0,
            last_sign: Instant::now(),
            continuity: Continuity::default(),
            places,
            gap: None,
            connection: (String::new(), 0),
            is_in_doubt: false,
            is_full: false,
            workspace: Workspace::default(),
        }
    }

    /// Reads until the shutdown, or until there is no stream.
    pub(super) async fn run(mut self) {
        let Ok(mut inbox) = Inbox::new(self.settings.client.clone()).await else {
            return;
        };
        while self.get_consumer(&mut inbox).await {
            let interrupted = match self.until_known().await {
                Some(interruption) => interruption,
                None => self.pull(&mut inbox).await,
            };
            match interrupted {
                Interruption::Shutdown => break,
                Interruption::OtherFilter => {}
                Interruption::LookAgain => self.is_in_doubt = true,
                Interruption::Paused => {
                    if !self.rest(&mut inbox).await {
                        break;
                    }
                }
            }
        }
        self.stop(inbox).await;
        self.ledger.end();
        let (in_memory, given_back) = self.ledger.unsettled();
        tracing::debug!(in_memory, given_back, "reading has ended");
    }

    /// Waits until it is known what is wanted: whatever is pulled before would be dropped. The consumer keeps it.
    async fn until_known(&mut self) -> Option<Interruption> {
        let mut interest = self.settings.dispatcher.interest.clone();
        tokio::select! {
            Ok(_) = interest.wait_for(|interest| interest.is_known()) => None,
            () = self.settings.shutdown.cancelled() => Some(Interruption::Shutdown),
            _ = self.filter.changed() => Some(Interruption::OtherFilter),
            _ = self.settings.connections.changed() => Some(Interruption::LookAgain),
        }
    }

    /// Takes nothing until an operator wants it again, or something else is wanted of the consumer. What was asked for is
    /// asked for no more; what the server had sent by then is processed. False at the shutdown.
    async fn rest(&mut self, inbox: &mut Inbox) -> bool {
        let stream = self.ledger.stream().to_owned();
        self.n_requested = 0;
        let is_void = inbox.renew().await.is_ok();
        // What is on its way is here after this.
        let is_here = is_void && nats::round_trip(&self.settings.client, ANSWER_TIMEOUT).await.is_ok();
        self.is_in_doubt |= !is_here;
        while let Some(message) = inbox.earlier() {
            if message.status.is_none() && self.take(message).await.is_some() {
                self.is_in_doubt = true;
            }
        }
        tracing::info!(stream, "paused: the stream keeps what comes");
        let pause = Arc::clone(self.settings.dispatcher.deliveries.pause());
        tokio::select! {
            biased;
            () = self.settings.shutdown.cancelled() => false,
            _ = self.filter.changed() => true,
            () = pause.until_resumed() => true,
        }
    }

    /// Tries until there is a consumer for what is wanted. False if there never will be.
    async fn get_consumer(&mut self, inbox: &mut Inbox) -> bool {
        let shutdown = self.settings.shutdown.clone();
        let mut pause = FIRST_PAUSE;
        let mut last_error = String::new();
        loop {
            self.settings.connections.mark_unchanged();
            let filter = self.filter.borrow_and_update().clone();
            // Without a subject the consumer would give everything: the first filter has not come yet.
            let is_known = !filter.subjects.is_empty();
            if is_known && nats::is_connected(&self.settings.client) {
                let mut connections = self.settings.connections.clone();
                let tried = tokio::select! {
                    tried = self.try_consumer(&filter, inbox) => tried,
                    () = shutdown.cancelled() => return false,
                    // No answer comes over the one before.
                    Ok(()) = connections.changed() => continue,
                };
                match tried {
                    Ok(()) => {
                        self.keeps.send_replace(Some(filter));
                        return true;
                    }
                    Err(ConsumerError::NoStream) => {
                        tracing::warn!(stream = self.ledger.stream(), "the stream is gone");
                        return false;
                    }
                    Err(error) if error.to_string() == last_error => {}
                    Err(error) => {
                        last_error = error.to_string();
                        let (stream, durable) = (self.ledger.stream(), self.ledger.durable());
                        tracing::warn!(stream, durable, %error, "cannot get the durable consumer; trying again");
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return false,
                _ = self.settings.connections.changed() => pause = FIRST_PAUSE,
                _ = self.filter.changed() => pause = FIRST_PAUSE,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }

    async fn try_consumer(&mut self, filter: &Filter, inbox: &mut Inbox) -> Result<(), ConsumerError> {
        let connection = self.current_connection();
        self.is_in_doubt |= connection != self.connection;
        if self.is_in_doubt {
            // Otherwise new events could come for an old request before those that are asked for again.
            inbox
                .renew()
                .await
                .map_err(|error| ApiError::Failed(error.to_string()))?;
            self.n_requested = 0;
        }
        let definition = Definition {
            client: &self.settings.client,
            stream: self.ledger.stream(),
            config: &self.settings.config,
            is_strict: self.settings.is_strict,
        };
        let stream = definition.stream().await?;
        let known = self.stream.as_ref().map(|known| known.created == stream.created);
        let start = match known {
            // Never seen: what came before is not for us.
            None => None,
            Some(true) => Some(self.ledger.lowest_unsettled()),
            // Another stream of the same name: everything in it came after the one that we read.
            Some(false) => Some(1),
        };
        let Consumer { progress, is_new } = definition.ensure(&stream, filter, start).await?;
        if known != Some(true) {
            self.ledger.restart(progress.delivered.stream_seq);
        }
        if known != Some(true) || is_new {
            self.continuity.restart(progress.delivered);
            self.gap = None;
            self.n_requested = 0;
            while inbox.earlier().is_some() {}
        } else if self.is_in_doubt {
            self.gap = None;
            let n_missing = self.continuity.n_missing(progress.delivered);
            let client = &self.settings.client;
            let missing = recover(client, &self.ledger, &mut self.continuity, &self.places, progress).await?;
            self.gap = missing.and_then(|missing| Gap::new(missing, n_missing));
        }
        self.is_in_doubt = false;
        self.connection = connection;
        self.last_sign = Instant::now();
        if is_new || known.is_none() {
            let (stream, durable) = (self.ledger.stream(), self.ledger.durable());
            let subjects: Vec<_> = filter.subjects.iter().map(ToString::to_string).collect();
            let subjects = subjects.join(", ");
            if is_new {
                tracing::info!(stream, durable, subjects, start, "created the durable consumer");
            } else {
                tracing::info!(stream, durable, subjects, "goes on with the durable consumer");
            }
        }
        self.stream = Some(stream);
        while let Some(message) = inbox.earlier() {
            if message.status.is_none() {
                self.take(message).await;
            }
        }
        Ok(())
    }

    /// Asks the server to send nothing more, and gives back at once what it had sent already: others need not wait for
    /// it until the acknowledgement time-out.
    async fn stop(&mut self, mut inbox: Inbox) {
        if !nats::is_connected(&self.settings.client) || inbox.end().await.is_err() {
            return;
        }
        let _ = nats::round_trip(&self.settings.client, ANSWER_TIMEOUT).await;
        let mut kept = self.gap.take().into_iter().flat_map(Gap::closed);
        let mut next = || {
            kept.next().or_else(|| {
                let mut message = inbox.earlier().or_else(|| inbox.ready())?;
                Some((message.reply.take().unwrap_or_else(|| message.subject.clone()), message))
            })
        };
        while let Some((reply, message)) = next() {
            if let Some(place) = Place::of(&reply) {
                drop(self.received(message, reply, place));
            }
        }
    }
}
