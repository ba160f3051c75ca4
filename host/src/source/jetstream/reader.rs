//! Pulls events from one durable consumer: no more than there is room for, and none while the service is not ready.
//!
//! Asks for messages itself instead of through the client's own stream of messages, which reads ahead without regard to
//! bytes or to what is being delivered.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Message;
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Settings;
use super::consumer::{Consumer, ConsumerError, Definition, Filter, Position, Stream};
use super::continuity::{Continuity, Number};
use super::gap::{Gap, Turn};
use super::inbox::Inbox;
use super::ledger::{Arrival, Ledger};
use super::place::{Place, Places};
use super::recovery::recover;
use crate::budget::Budget;
use crate::dispatch::Received;
use crate::jetstream_api::ApiError;
use crate::nats;
use crate::receipt::Receipt;
use crate::source::structured;
use crate::subscription::Match;

/// How long the server keeps a request for messages.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// How often it shows that it still does.
const PULL_HEARTBEAT: Duration = Duration::from_secs(5);
/// Without a sign of life for this long, the request is taken for lost.
const PULL_STUCK: Duration = Duration::from_secs(12);
/// While memory is full, it is looked at this often whether something in it is stuck.
const STUCK_INTERVAL: Duration = Duration::from_millis(100);
/// Pauses between attempts to get a consumer.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Time that the server gets to stop sending.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Room for subject and headers of a message.
const ENVELOPE_BYTES: usize = 64 << 10;
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
    matches: Vec<Match>,
}

/// Why pulling was interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interruption {
    Shutdown,
    /// Something else is wanted of the consumer.
    OtherFilter,
    /// There may be no consumer any more, or something may be lost.
    LookAgain,
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
        Self {
            settings,
            ledger,
            filter,
            keeps,
            budget: Budget::new(max_events, max_bytes),
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
            matches: Vec::new(),
        }
    }

    /// Reads until the shutdown, or until there is no stream.
    pub(super) async fn run(mut self) {
        let Ok(mut inbox) = Inbox::new(self.settings.client.clone()).await else {
            return;
        };
        while self.get_consumer(&mut inbox).await {
            match self.pull(&mut inbox).await {
                Interruption::Shutdown => break,
                Interruption::OtherFilter => {}
                Interruption::LookAgain => self.is_in_doubt = true,
            }
        }
        self.stop(inbox).await;
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

    /// Asks for messages and takes them, until something else has to be done first.
    async fn pull(&mut self, inbox: &mut Inbox) -> Interruption {
        let shutdown = self.settings.shutdown.clone();
        let deliveries = Arc::clone(&self.settings.dispatcher.deliveries);
        let budget = Arc::clone(&self.budget);
        loop {
            while let Some(message) = inbox.ready() {
                if let Some(interruption) = self.take(message).await {
                    return interruption;
                }
            }
            if self.gap.as_ref().is_some_and(|gap| gap.ends() <= Instant::now()) {
                self.close_gap().await;
            }
            let is_accepting = deliveries.is_accepting();
            if is_accepting && self.request(inbox).await.is_err() {
                return Interruption::LookAgain;
            }
            // More is asked for as soon as there is room for another step, unless all there can be is on its way.
            let wanted = self.n_requested + self.step();
            let waits_for_room = is_accepting && wanted <= self.capacity();
            let wanted_bytes = wanted * self.likely_bytes;
            let patience = self.patience();
            tokio::select! {
                message = inbox.next() => match message {
                    Some(message) => if let Some(interruption) = self.take(message).await {
                        return interruption;
                    },
                    // Only the end of the client ends its subscriptions.
                    None => return Interruption::Shutdown,
                },
                () = budget.until_room_for(wanted, wanted_bytes), if waits_for_room => {}
                () = deliveries.until_accepting(), if !is_accepting => {}
                () = shutdown.cancelled() => return Interruption::Shutdown,
                _ = self.filter.changed() => return Interruption::OtherFilter,
                _ = self.settings.connections.changed() => return Interruption::LookAgain,
                () = tokio::time::sleep(patience) => if self.is_stuck() {
                    self.n_requested = 0;
                    return Interruption::LookAgain;
                },
            }
        }
    }

    /// Asks for as many messages as there is room for, if that is worth it.
    async fn request(&mut self, inbox: &mut Inbox) -> Result<(), async_nats::client::PublishError> {
        let mut room = self.room();
        if room.is_none() && self.n_requested == 0 && self.make_room(false) > 0 {
            room = self.room();
        }
        self.is_full = room.is_none() && self.n_requested == 0;
        let Some((n, room_bytes)) = room else {
            return Ok(());
        };
        let question = serde_json::json!({
            "batch": n,
            "max_bytes": room_bytes,
            "expires": u64::try_from(PULL_EXPIRES.as_nanos()).unwrap_or(u64::MAX),
            "idle_heartbeat": u64::try_from(PULL_HEARTBEAT.as_nanos()).unwrap_or(u64::MAX),
        });
        let subject = format!(
            "$JS.API.CONSUMER.MSG.NEXT.{}.{}",
            self.ledger.stream(),
            self.ledger.durable()
        );
        if self.n_requested == 0 {
            self.last_sign = Instant::now();
        }
        self.n_requested += n;
        self.offered_bytes = room_bytes;
        let client = &self.settings.client;
        client
            .publish_with_reply(subject, inbox.subject(), Bytes::from(question.to_string()))
            .await
    }

    /// Events that fit into memory.
    fn capacity(&self) -> usize {
        let by_bytes = self.settings.config.max_bytes / self.likely_bytes;
        self.budget.max_events().min(by_bytes.max(1))
    }

    /// Events that are asked for at least, so that not every settled event causes a request.
    fn step(&self) -> usize {
        (self.capacity() / 4).max(1)
    }

    /// Events and bytes that there is room for, if it is enough to ask for them.
    fn room(&self) -> Option<(usize, usize)> {
        let (events, bytes) = self.budget.room();
        let n = events.min(bytes / self.likely_bytes).saturating_sub(self.n_requested);
        // A single event is taken whatever its size.
        let is_empty = events == self.budget.max_events() && self.n_requested == 0;
        let (n, bytes) = if is_empty {
            let largest = self.settings.client.server_info().max_payload + ENVELOPE_BYTES;
            (n.max(1), bytes.max(largest))
        } else {
            (n, bytes)
        };
        (n >= self.step()).then_some((n, bytes))
    }

    fn make_room(&self, for_a_while: bool) -> usize {
        let deliveries = &self.settings.dispatcher.deliveries;
        deliveries.make_room(self.ledger.tail_pause(), for_a_while)
    }

    /// How long nothing may happen before it has to be looked into.
    fn patience(&self) -> Duration {
        let patience = if self.is_full { STUCK_INTERVAL } else { PULL_HEARTBEAT };
        let gap_ends = self.gap.as_ref().map(|gap| gap.ends().duration_since(Instant::now()));
        gap_ends.map_or(patience, |gap_ends| gap_ends.min(patience))
    }

    /// Looks into it. True if the server has fallen silent.
    fn is_stuck(&mut self) -> bool {
        if self.is_full {
            self.make_room(true);
            return false;
        }
        let dispatcher = &self.settings.dispatcher;
        let is_silent = self.n_requested > 0 && self.last_sign.elapsed() >= PULL_STUCK;
        let is_stuck = is_silent && nats::is_connected(&self.settings.client);
        if is_stuck {
            dispatcher.counters.pulls_restarted.increment();
            tracing::warn!(
                stream = self.ledger.stream(),
                durable = self.ledger.durable(),
                "the server has fallen silent; asking again"
            );
        }
        is_stuck
    }

    async fn take(&mut self, mut message: Message) -> Option<Interruption> {
        self.last_sign = Instant::now();
        if message.status.is_some() {
            return self.take_status(&message);
        }
        let reply = message.reply.take()?;
        let Some(place) = Place::of(&reply) else {
            tracing::warn!(
                reply = reply.as_str(),
                "received a message that does not come from a stream"
            );
            return None;
        };
        match self.continuity.judge(place.delivery) {
            Number::AskedAgain => return None,
            Number::AfterGap if self.continuity.is_alone() && self.current_connection() != self.connection => {
                return Some(Interruption::LookAgain);
            }
            Number::AfterGap | Number::Expected => self.continuity.count(place.delivery),
        }
        self.places.learn(&reply);
        let turn = match &mut self.gap {
            Some(gap) => gap.turn(place.sequence, reply, message),
            None => Turn::Now((reply, message)),
        };
        match turn {
            Turn::Now((reply, message)) => self.dispatch(message, reply).await,
            Turn::Later => {}
            Turn::Close(next) => {
                self.close_gap().await;
                if let Some((reply, message)) = next {
                    self.dispatch(message, reply).await;
                }
            }
        }
        None
    }

    /// Goes on with what has come again, and waits for no more of it.
    async fn close_gap(&mut self) {
        if let Some(gap) = self.gap.take() {
            for (reply, message) in gap.closed() {
                self.dispatch(message, reply).await;
            }
            self.continuity.take_all();
        }
    }

    async fn dispatch(&mut self, message: Message, reply: async_nats::Subject) {
        self.n_requested = self.n_requested.saturating_sub(1);
        let Some(place) = Place::of(&reply) else {
            return;
        };
        self.continuity.take(place.sequence);
        if let Some(received) = self.received(message, reply, place) {
            let dispatcher = Arc::clone(&self.settings.dispatcher);
            dispatcher.dispatch(received, &mut self.matches).await;
        }
    }

    /// The event in a message, unless it is one that we have or had.
    fn received(&mut self, message: Message, reply: async_nats::Subject, place: Place) -> Option<Received> {
        let counters = &self.settings.dispatcher.counters;
        if self.ledger.receive(place.sequence, reply) != Arrival::New {
            counters.received_again.increment();
            return None;
        }
        counters.received.increment();
        let size = message.payload.len();
        self.likely_bytes = size.max(self.likely_bytes - self.likely_bytes / 64);
        let held = self.budget.take(size);
        let ledger = Arc::clone(&self.ledger);
        let receipt = Receipt::stream(held, ledger, place.sequence, place.n_deliveries);
        let payload = structured(&message);
        Some(Received {
            subject: message.subject,
            payload,
            receipt,
        })
    }

    fn current_connection(&self) -> (String, u64) {
        let server = self.settings.client.server_info();
        (server.server_id, server.client_id)
    }

    /// A message without an event: a sign of life, or the end of a request.
    fn take_status(&mut self, message: &Message) -> Option<Interruption> {
        let status = message.status.map_or(0, |status| status.as_u16());
        let description = message.description.as_deref().unwrap_or_default();
        let header = |name: &str| message.headers.as_ref()?.get(name)?.as_str().parse().ok();
        if status == 100 {
            if let (Some(consumer_seq), Some(stream_seq)) = (header("Nats-Last-Consumer"), header("Nats-Last-Stream")) {
                self.continuity.hear(Position {
                    consumer_seq,
                    stream_seq,
                });
            }
            return None;
        }
        let n_unserved = header("Nats-Pending-Messages").and_then(|n| usize::try_from(n).ok());
        let n_unserved = n_unserved.unwrap_or(self.n_requested);
        self.n_requested = self.n_requested.saturating_sub(n_unserved);
        let does_not_fit = description.contains("MaxBytes");
        if does_not_fit {
            // The next one is larger than there was room for.
            let at_least = self.offered_bytes.saturating_add(1).min(self.settings.config.max_bytes);
            self.likely_bytes = self.likely_bytes.max(at_least);
        }
        let is_end_of_request =
            does_not_fit || matches!(status, 404 | 408) || description.to_ascii_lowercase().contains("batch completed");
        if is_end_of_request {
            return None;
        }
        tracing::debug!(status, description, "the server ended a request");
        self.n_requested = 0;
        Some(Interruption::LookAgain)
    }

    /// Asks the server to send nothing more, and gives back at once what it had sent already: others need not wait for
    /// it until the acknowledgement time-out.
    async fn stop(mut self, mut inbox: Inbox) {
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
        let (in_memory, given_back) = self.ledger.unsettled();
        tracing::debug!(in_memory, given_back, "reading has ended");
    }
}
