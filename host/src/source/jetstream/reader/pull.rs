//! Pulling: asks for no more messages than there is room for, and for none while the service is not ready, and takes what
//! comes.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Message, Subject};
use bytes::Bytes;
use tokio::time::Instant;

use super::{Interruption, Reader};
use crate::dispatch::Received;
use crate::nats;
use crate::receipt::Receipt;
use crate::source::jetstream::consumer::Position;
use crate::source::jetstream::continuity::Number;
use crate::source::jetstream::gap::{Gap, Turn};
use crate::source::jetstream::inbox::Inbox;
use crate::source::jetstream::ledger::Arrival;
use crate::source::jetstream::place::Place;
use crate::source::structured;
use crate::trace::TraceContext;

/// How long the server keeps a request for messages: no longer than it takes to find out that a connection is dead. A
/// server that does not know it yet would serve such a request before those that come over the next connection.
const PULL_EXPIRES: Duration = Duration::from_secs(10);
/// How often it shows that it still does; at least twice, or the server refuses.
const PULL_HEARTBEAT: Duration = Duration::from_secs(5);
/// Without a sign of life for this long, the request is taken for lost.
const PULL_STUCK: Duration = Duration::from_secs(12);
/// While memory is full, it is looked at this often whether something in it is stuck.
const STUCK_INTERVAL: Duration = Duration::from_millis(100);
/// Room for subject and headers of a message.
const ENVELOPE_BYTES: usize = 64 << 10;

impl Reader {
    /// Asks for messages and takes them, until something else has to be done first.
    pub(super) async fn pull(&mut self, inbox: &mut Inbox) -> Interruption {
        let shutdown = self.settings.shutdown.clone();
        let deliveries = Arc::clone(&self.settings.dispatcher.deliveries);
        let budget = Arc::clone(&self.budget);
        let pause = Arc::clone(deliveries.pause());
        loop {
            if pause.is_paused() && !shutdown.is_cancelled() {
                return Interruption::Paused;
            }
            while let Some(message) = inbox.ready() {
                if let Some(interruption) = self.take(message).await {
                    return interruption;
                }
            }
            if self.n_requested == 0 || !nats::is_connected(&self.settings.client) {
                self.gap.iter_mut().for_each(Gap::begin_waiting);
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
                () = pause.until_paused() => {}
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

    pub(super) async fn take(&mut self, mut message: Message) -> Option<Interruption> {
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
        if place.n_deliveries == 1 {
            // Nothing new is handed out before what is to come again.
            self.ledger.catch_up();
        }
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

    async fn dispatch(&mut self, message: Message, reply: Subject) {
        self.n_requested = self.n_requested.saturating_sub(1);
        let Some(place) = Place::of(&reply) else {
            return;
        };
        self.continuity.take(place.sequence);
        if let Some(received) = self.received(message, reply, place) {
            let dispatcher = Arc::clone(&self.settings.dispatcher);
            dispatcher.dispatch(received, &mut self.workspace).await;
        }
    }

    /// The event in a message, unless it is one that we have or had.
    pub(super) fn received(&mut self, message: Message, reply: Subject, place: Place) -> Option<Received> {
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
        let trace = TraceContext::of_message(&message).map(Box::new);
        Some(Received {
            subject: message.subject,
            payload,
            trace,
            receipt,
        })
    }

    pub(super) fn current_connection(&self) -> (String, u64) {
        let server = self.settings.client.server_info();
        (server.server_id, server.client_id)
    }

    /// A message without an event: a sign of life, or the end of a request.
    fn take_status(&mut self, message: &Message) -> Option<Interruption> {
        let status = message.status.map_or(0, |status| status.as_u16());
        let description = message.description.as_deref().unwrap_or_default();
        let header = |name: &str| message.headers.as_ref()?.get(name)?.as_str().parse().ok();
        if status == 100 {
            self.ledger.catch_up();
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
}
