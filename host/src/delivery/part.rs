//! One event in memory, and how far each of its parts is.
//!
//! A part is what one subscription gets of one event that the chain let through: most events have one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::body::Outgoing;
use super::preparation::{Pending, Preparation};
use crate::dead_letter::{DeadLetter, Reason};
use crate::dedupe::Seen;
use crate::event::Event;
use crate::plugins::Published;
use crate::receipt::{PartProgress, Receipt};
use crate::recent_events::EventNames;
use crate::subscription::Subscription;
use crate::trace::Span;

/// One received event on its way to the service.
#[derive(Debug)]
pub struct Delivery {
    pub(super) receipt: Receipt,
    pub(super) parts: SmallVec<[Part; 1]>,
    /// The subject it was received on, where that is not the event's type.
    subject: Option<Box<str>>,
    /// Where somebody traces it.
    pub(super) span: Option<Arc<Span>>,
}

/// What one subscription gets.
#[derive(Debug)]
pub struct Part {
    pub(super) event: Outgoing,
    /// Only for what plugins put in the event's place.
    made: Option<Box<Made>>,
    pub(super) subscription: Option<Arc<Subscription>>,
    /// Of the chain that it passed.
    pub(super) generation: u64,
    pub(super) attempts: u32,
    pub(super) is_settled: bool,
    /// Only for what did not go well at once.
    pub(super) trouble: Option<Box<Trouble>>,
    /// Only for what may come again on another way.
    seen: Option<Box<Seen>>,
}

/// Where an event comes from that plugins made.
#[derive(Debug)]
struct Made {
    /// The event that it was made of, if it is the only one.
    original: Option<Bytes>,
    /// Its number among those that were made of one.
    emission: u32,
    /// It goes to the control plane and not to the service.
    published: Option<Published>,
}

/// What plugins publish is numbered from here. No chain forwards as many events.
const FIRST_PUBLISHED: u32 = 1 << 24;

/// What is known of a part that was not delivered at once.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// The first attempt that reached the service.
    pub(super) first_attempt: Option<(Instant, SystemTime)>,
    last_attempt: Option<SystemTime>,
    /// Why it is not done yet, for whoever looks.
    pub(super) last_error: Option<Box<str>>,
    /// When to go on.
    pub(super) due: Option<Instant>,
    /// Why it is given up.
    pub(super) given_up: Option<Box<GivenUp>>,
    /// How often it could not be stored as a dead letter.
    pub(super) n_not_stored: u32,
    /// What has to be done before it is known what there is to deliver. Attempts are attempts at that.
    pub(super) pending: Option<Box<Pending>>,
}

/// Why a part ends as a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp {
    /// The kind of reason.
    pub reason: Reason,
    /// The last status of the service.
    pub status: Option<u16>,
    /// What went wrong, for people.
    pub error: String,
    /// The plugin that failed.
    pub plugin: Option<String>,
}

impl Part {
    /// What a subscription gets of an event that passed the chain as it came.
    pub fn unchanged(event: &Event, subscription: Option<Arc<Subscription>>, generation: u64) -> Self {
        Self {
            event: Outgoing::new(event),
            made: None,
            subscription,
            generation,
            attempts: 0,
            is_settled: false,
            trouble: None,
            seen: None,
        }
    }

    /// One of the events that the chain made of `original`. Of an only one the original is kept: in the dead letters that
    /// is what can be corrected.
    pub fn made_by_plugin(
        event: &Event,
        emission: u32,
        original: Option<&Event>,
        subscription: Option<Arc<Subscription>>,
        generation: u64,
    ) -> Self {
        let made = Made {
            original: original.map(|original| original.bytes().clone()),
            emission,
            published: None,
        };
        Self {
            made: Some(Box::new(made)),
            ..Self::unchanged(event, subscription, generation)
        }
    }

    /// What a plugin sends to the control plane in answer to `received`, numbered from 1. If that cannot be done, it is
    /// the received event that becomes a dead letter.
    pub fn published(
        received: &Event,
        published: Published,
        number: u32,
        subscription: Option<Arc<Subscription>>,
        generation: u64,
    ) -> Self {
        let made = Made {
            original: Some(received.bytes().clone()),
            emission: FIRST_PUBLISHED.saturating_add(number),
            published: Some(published),
        };
        Self {
            made: Some(Box::new(made)),
            ..Self::unchanged(received, subscription, generation)
        }
    }

    /// The event for the control plane, if this part is one.
    pub(super) fn to_publish(&self) -> Option<&Published> {
        self.made.as_ref().and_then(|made| made.published.as_ref())
    }

    /// What a subscription gets of an event that is not through the chain yet.
    pub fn unprepared(
        event: &Event,
        subscription: Option<Arc<Subscription>>,
        preparation: Box<dyn Preparation>,
    ) -> Self {
        let mut part = Self::unchanged(event, subscription, 0);
        part.trouble().pending = Some(Box::new(Pending {
            preparation,
            progress: Vec::new(),
            place: None,
        }));
        part
    }

    /// Something that is no event.
    pub fn malformed(payload: Bytes, error: String) -> Self {
        let part = Self {
            event: Outgoing::opaque(payload),
            made: None,
            subscription: None,
            generation: 0,
            attempts: 0,
            is_settled: false,
            trouble: None,
            seen: None,
        };
        part.given_up(GivenUp {
            reason: Reason::Malformed,
            status: None,
            error,
            plugin: None,
        })
    }

    /// Suppresses copies of the event until this part is delivered, and for a while after that.
    pub fn remember(&mut self, seen: Option<Seen>) {
        self.seen = seen.map(Box::new);
    }

    /// Nothing more is to be done: it is delivered, or stored as a dead letter.
    pub(super) fn settle(&mut self, is_delivered: bool) {
        self.is_settled = true;
        if let Some(seen) = self.seen.take().filter(|_| is_delivered) {
            seen.delivered();
        }
    }

    fn given_up(mut self, given_up: GivenUp) -> Self {
        self.give_up(given_up);
        self
    }

    pub(super) fn give_up(&mut self, given_up: GivenUp) {
        self.trouble().given_up = Some(Box::new(given_up));
    }

    /// Whether it is to go to the dead letters.
    pub(super) fn is_given_up(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.given_up.is_some())
    }

    /// Time since the first attempt that reached the service.
    pub(super) fn age(&self) -> Duration {
        let first = self.trouble.as_ref().and_then(|trouble| trouble.first_attempt);
        first.map_or(Duration::ZERO, |(moment, _)| moment.elapsed())
    }

    pub(super) fn trouble(&mut self) -> &mut Trouble {
        self.trouble.get_or_insert_default()
    }

    pub(super) fn subscription_id(&self) -> Option<&str> {
        self.subscription.as_ref().map(|subscription| subscription.id.as_str())
    }

    /// Notes that the service was reached with an attempt that began at these moments.
    pub(super) fn reached(&mut self, start: Instant, start_time: SystemTime) {
        let trouble = self.trouble();
        trouble.first_attempt.get_or_insert((start, start_time));
        trouble.last_attempt = Some(start_time);
    }

    /// The same for the same subscription and emission, whenever the event comes.
    fn number(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        if let Some(subscription) = &self.subscription {
            subscription.id.hash(&mut hasher);
            subscription.event.as_str().hash(&mut hasher);
        }
        self.emission().hash(&mut hasher);
        hasher.finish()
    }

    fn emission(&self) -> u32 {
        self.made.as_ref().map_or(0, |made| made.emission)
    }

    /// What is known of the event without its payload.
    pub(super) fn names(&self) -> EventNames {
        match Event::parse(self.event.bytes().clone()) {
            Ok(event) => EventNames::of(&event, self.subscription_id()),
            Err(_) => EventNames::default(),
        }
    }

    fn due(&self) -> Option<Instant> {
        self.trouble.as_ref().and_then(|trouble| trouble.due)
    }

    fn is_untouched(&self) -> bool {
        let is_smooth = match (&self.trouble, self.pending()) {
            (None, _) => true,
            (Some(_), pending) => pending.is_some_and(|pending| pending.progress.is_empty()),
        };
        self.attempts == 0 && !self.is_settled && is_smooth
    }

    fn pending(&self) -> Option<&Pending> {
        self.trouble.as_ref().and_then(|trouble| trouble.pending.as_deref())
    }

    pub(super) fn pending_mut(&mut self) -> Option<&mut Pending> {
        self.trouble.as_mut().and_then(|trouble| trouble.pending.as_deref_mut())
    }

    /// Whether it is not known yet what there is to deliver.
    pub(super) fn is_unprepared(&self) -> bool {
        self.pending().is_some()
    }

    fn go_on(&mut self, progress: &[PartProgress]) {
        let (number, is_unprepared) = (self.number(), self.is_unprepared());
        if let Some(pending) = self.pending_mut() {
            let made = progress.iter().filter(|known| !known.is_unprepared);
            pending.progress = made.cloned().collect();
        }
        let is_this = |known: &&PartProgress| known.part == number && known.is_unprepared == is_unprepared;
        let Some(known) = progress.iter().find(is_this) else {
            return;
        };
        self.attempts = known.attempts;
        self.is_settled = known.is_settled;
        if known.first_attempt.is_some() || known.given_up.is_some() {
            let trouble = self.trouble();
            trouble.first_attempt = known.first_attempt;
            trouble.due = known.due;
            trouble.given_up.clone_from(&known.given_up);
        }
        if self.is_given_up() {
            self.trouble().pending = None;
        }
    }

    fn is_given_up_by_plugin(&self) -> bool {
        let given_up = self.trouble.as_ref().and_then(|trouble| trouble.given_up.as_deref());
        self.made.is_none() && given_up.is_some_and(|given_up| given_up.reason == Reason::Plugin)
    }

    /// How far it is, and how far the parts were that it is still to become.
    fn progress(&self) -> impl Iterator<Item = PartProgress> {
        let trouble = self.trouble.as_ref();
        let own = PartProgress {
            part: self.number(),
            is_unprepared: self.is_unprepared() || self.is_given_up_by_plugin(),
            is_settled: self.is_settled,
            attempts: self.attempts,
            first_attempt: trouble.and_then(|trouble| trouble.first_attempt),
            due: self.due(),
            given_up: trouble.and_then(|trouble| trouble.given_up.clone()),
        };
        let made = self.pending().map(|pending| pending.progress.clone());
        std::iter::once(own).chain(made.unwrap_or_default())
    }
}

impl Delivery {
    /// A delivery of these parts, going on where the event was given back.
    pub fn new(receipt: Receipt, parts: SmallVec<[Part; 1]>, subject: &str, progress: &[PartProgress]) -> Self {
        // What is not prepared may become events of any type.
        let is_type = |part: &Part| !part.is_unprepared() && part.event.ty() == subject;
        let mut delivery = Self {
            receipt,
            subject: (!parts.iter().all(is_type)).then(|| subject.into()),
            parts,
            span: None,
        };
        if !progress.is_empty() {
            for part in &mut delivery.parts {
                part.go_on(progress);
            }
        }
        delivery
    }

    /// Attempts are steps of this, and the service goes on with them.
    #[must_use]
    pub fn traced(mut self, span: Option<Arc<Span>>) -> Self {
        self.span = span;
        self
    }

    /// Puts what an unprepared part has become in its place.
    pub(super) fn expand(&mut self, number: usize, mut made: SmallVec<[Part; 1]>, progress: &[PartProgress]) {
        let unprepared = self.parts.remove(number);
        // The one copy that counts is known by its first part.
        if let Some(first) = made.first_mut() {
            first.seen = unprepared.seen;
        }
        for part in &mut made {
            part.go_on(progress);
        }
        self.parts.insert_many(number, made);
    }

    /// The first part that can be worked on now.
    pub(super) fn next_part(&self, now: Instant) -> Option<usize> {
        self.parts
            .iter()
            .position(|part| !part.is_settled && part.due().is_none_or(|due| due <= now))
    }

    /// When the next part can be worked on; none: everything is settled.
    pub(super) fn due(&self) -> Option<Instant> {
        let unsettled = self.parts.iter().filter(|part| !part.is_settled);
        unsettled.map(|part| part.due().unwrap_or_else(Instant::now)).min()
    }

    /// Gives the event back to where it came from, to come again when it is due, or after `pause` if nothing was tried.
    pub(super) fn give_back(self, pause: Duration) {
        let is_untouched = self.parts.iter().all(Part::is_untouched);
        if is_untouched {
            self.receipt.give_back(pause, Vec::new());
            return;
        }
        let now = Instant::now();
        let pause = self
            .due()
            .map_or(Duration::ZERO, |due| due.saturating_duration_since(now));
        let progress = self.parts.iter().flat_map(Part::progress).collect();
        self.receipt.give_back(pause, progress);
    }

    /// Gives the event back to where it came from, for somebody else to begin with.
    pub(super) fn leave(self) {
        self.receipt.give_back(Duration::ZERO, Vec::new());
    }

    /// What is to be stored of a part that is given up.
    pub(super) fn dead_letter(&self, number: usize) -> Option<DeadLetter> {
        let part = &self.parts[number];
        let trouble = part.trouble.as_ref()?;
        let given_up = trouble.given_up.as_ref()?;
        let original = part.made.as_ref().and_then(|made| made.original.as_ref());
        let position = self.receipt.stream_position();
        let subscription_id = part.subscription_id();
        let event_type = part.event.ty().into_owned();
        Some(DeadLetter {
            payload: original.unwrap_or(part.event.bytes()).clone(),
            is_child: part.made.is_some() && original.is_none(),
            event_id: part.event.id().into_owned(),
            keptn_context: part.event.keptn_context().into_owned(),
            reason: given_up.reason,
            status: given_up.status,
            error: given_up.error.clone(),
            attempts: part.attempts,
            first_attempt: trouble.first_attempt.map(|(_, time)| time),
            last_attempt: trouble.last_attempt,
            stream: position.map(|(stream, _)| stream.to_owned()),
            sequence: position.map(|(_, sequence)| sequence),
            subject: self.subject.as_deref().unwrap_or(&event_type).to_owned(),
            event_type,
            subscription_id: subscription_id.map(str::to_owned),
            plugin: given_up.plugin.clone(),
            generation: part.generation,
            emission: part.emission(),
            message_id: self
                .receipt
                .message_id(subscription_id.unwrap_or_default(), part.emission()),
        })
    }
}
