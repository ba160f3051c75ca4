//! Deliveries: queued by key, tried side by side, tried again after a growing pause, and in the end delivered, stored as
//! dead letters, or given back to where they came from.
//!
//! Called by [`crate::dispatch`] with events that passed the plugins, or with what is still to be done with them. It knows nothing of subscriptions but their ids,
//! and nothing of plugins.

mod attempt;
mod body;
mod gate;
mod lanes;
#[cfg(test)]
mod model;
mod outside;
mod part;
mod pause;
mod preparation;
mod recipient;
mod report;
mod verdict;
mod waiting;

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) use self::body::Outgoing;
use self::gate::Gate;
pub use self::gate::HeldBack;
pub use self::lanes::Key;
use self::lanes::Lanes;
use self::outside::Outside;
pub use self::part::{Delivery, GivenUp, Part};
pub use self::pause::Pause;
use self::preparation::UnpreparedKeys;
pub use self::preparation::{Preparation, Prepared};
pub use self::recipient::AttemptError;
pub(crate) use self::recipient::Recipient;
pub use self::report::DeliveryReport;
use self::report::UnderWay;
pub(crate) use self::verdict::{Policy, Verdict};
pub use self::waiting::Waiting;
use crate::answers::Answers;
use crate::config::{self, DeliveryConfig};
use crate::dead_letter::DeadLetters;
use crate::event::Event;
use crate::metrics::Counters;
use crate::recent_events::RecentEvents;
use crate::sink::Sink;

/// Events of one key that stay in memory while memory is full and others could be delivered.
const KEPT_PER_KEY: usize = 31;

/// Takes events to the service.
#[derive(Debug)]
pub struct Deliveries {
    /// In boxes: the queues of a burst would otherwise be as large as the events themselves.
    lanes: Lanes<Box<Delivery>>,
    unprepared: Arc<UnpreparedKeys>,
    outside: Outside,
    policy: Policy,
    gate: Gate,
    pause: Arc<Pause>,
    under_way: UnderWay,
    /// Whether the service has ever taken an event.
    was_ready: AtomicBool,
    /// What the service has answered by events of its own.
    answers: Arc<Answers>,
    ordering: config::Ordering,
    max_retries: u32,
    first_pause: Duration,
    longest_pause: Duration,
    max_age: Duration,
    concurrency: usize,
    counters: Arc<Counters>,
    recent: Arc<RecentEvents>,
    /// What can be given back is not tried again.
    is_ending: CancellationToken,
}

impl Deliveries {
    /// Nothing is delivered before [`Deliveries::run`].
    pub fn new(
        config: &DeliveryConfig,
        dead_letters: DeadLetters,
        sink: Sink,
        answers: Arc<Answers>,
        counters: Arc<Counters>,
        recent: Arc<RecentEvents>,
    ) -> Self {
        let outside = Outside::Real(Recipient::new(config), dead_letters, sink);
        Self {
            recent,
            ..Self::to(outside, config, answers, counters)
        }
    }

    fn to(outside: Outside, config: &DeliveryConfig, answers: Arc<Answers>, counters: Arc<Counters>) -> Self {
        Self {
            lanes: Lanes::default(),
            unprepared: Arc::default(),
            outside,
            policy: Policy::new(config),
            gate: Gate::default(),
            pause: Arc::default(),
            under_way: UnderWay::new(config.concurrency),
            was_ready: AtomicBool::new(false),
            answers,
            ordering: config.ordering,
            max_retries: config.retries,
            first_pause: config.first_pause,
            longest_pause: config.longest_pause,
            max_age: config.max_age,
            concurrency: config.concurrency,
            counters,
            recent: Arc::default(),
            is_ending: CancellationToken::new(),
        }
    }

    /// The key that keeps an event in order with others: its Keptn context, unless configured otherwise. Events without
    /// one are in no order.
    pub fn key(&self, event: &Event) -> Key {
        match self.ordering {
            config::Ordering::Key => self.lanes.key(event.keptn_context().as_deref()),
            config::Ordering::None => self.lanes.key(None),
            config::Ordering::Strict => self.lanes.key(Some("")),
        }
    }

    /// The key of something that is in no order with anything.
    pub fn unordered_key(&self) -> Key {
        self.lanes.key(None)
    }

    /// Whether an earlier event of the key is still to be prepared: a later one must not be prepared before.
    pub fn has_unprepared(&self, key: Key) -> bool {
        self.unprepared.contains(key)
    }

    /// Queues a delivery.
    pub fn push(&self, key: Key, mut delivery: Delivery) {
        if self.is_ending.is_cancelled() && delivery.receipt.can_be_given_back() {
            delivery.leave();
            return;
        }
        for pending in delivery.parts.iter_mut().filter_map(Part::pending_mut) {
            pending.place = Some(self.unprepared.enter(key));
        }
        self.lanes.push(key, Box::new(delivery));
    }

    /// Starts delivering, in tasks of `tasks`, until [`Deliveries::close`].
    pub fn run(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        let deliveries = Arc::clone(self);
        tasks.spawn(async move { deliveries.lanes.run_timer().await });
        for worker in 0..self.concurrency {
            let deliveries = Arc::clone(self);
            tasks.spawn(async move {
                while let Some((key, delivery)) = deliveries.lanes.next().await {
                    deliveries.under_way.begin(worker, delivery.receipt.received());
                    deliveries.work_on(key, delivery).await;
                    deliveries.under_way.end(worker);
                }
            });
        }
    }

    /// Whether an operator wants no events to be taken.
    pub fn pause(&self) -> &Arc<Pause> {
        &self.pause
    }

    /// Whether it makes sense to receive more: not while an operator wants none, or the service is not ready. Before it has ever taken an event, its
    /// answers may be about the few that it was asked to take: then there is one for every worker to find that out with.
    pub fn is_accepting(&self) -> bool {
        let may_be_ready = || !self.was_ready.load(Ordering::Relaxed) && self.lanes.count() < self.concurrency;
        !self.pause.is_paused() && (!self.gate.is_closed() || may_be_ready())
    }

    /// Waits until the service is ready, and nobody wants anything else.
    pub async fn until_accepting(&self) {
        loop {
            self.pause.until_resumed().await;
            self.gate.until_open().await;
            if !self.pause.is_paused() {
                return;
            }
        }
    }

    /// Makes room where memory is full of events that cannot start while others could: gives some of them back, to come
    /// again after `pause` or when they are due. Returns how many.
    ///
    /// What stands behind a delivery that is being tried will start soon, unless that takes long: it goes back only if
    /// memory has been full for a while.
    pub fn make_room(&self, pause: Duration, for_a_while: bool) -> usize {
        let mut stuck = self
            .lanes
            .take_stuck(self.concurrency, KEPT_PER_KEY, for_a_while, |delivery| {
                delivery.receipt.can_be_given_back()
            });
        // The last of each key first, as they are.
        stuck.sort_by_key(|delivery| Reverse(delivery.receipt.stream_position().map(|(_, sequence)| sequence)));
        let n_stuck = stuck.len();
        for delivery in stuck {
            delivery.give_back(pause);
        }
        n_stuck
    }

    /// From now on no attempt starts for an event that can be given back; those that have not started go back at once.
    pub fn end(&self) {
        self.is_ending.cancel();
        // Of what core NATS has sent nobody else has a copy.
        self.pause.set(false);
        let mut unstarted = self.lanes.take_back(|delivery| delivery.receipt.can_be_given_back());
        // Whoever gets them gets them in their order.
        unstarted.sort_by_key(|delivery| delivery.receipt.stream_position().map(|(_, sequence)| sequence));
        for delivery in unstarted {
            delivery.leave();
        }
    }

    /// Waits until everything is delivered or given up.
    pub async fn drained(&self) {
        self.lanes.empty().await;
    }

    /// What is neither delivered nor given up.
    pub fn pending(&self) -> usize {
        self.lanes.count()
    }

    /// Starts no further attempts.
    pub fn close(&self) {
        self.lanes.close();
    }
}
