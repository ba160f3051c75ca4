//! Deliveries: queued by key, tried side by side, tried again after a growing pause.
//!
//! Called by [`crate::dispatch`] with events that passed the plugins. It knows nothing of subscriptions but their ids,
//! and nothing of plugins.

mod body;
mod gate;
mod lanes;
mod recipient;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::body::Outgoing;
use self::gate::{Gate, pause_before_probe};
pub use self::lanes::Key;
use self::lanes::Lanes;
pub use self::recipient::AttemptError;
use self::recipient::Recipient;
use crate::budget::Held;
use crate::config::{self, DeliveryConfig};
use crate::event::Event;
use crate::subscription::Subscription;
use crate::telemetry::Counters;

/// Pause after the first failed attempt; doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// A service may ask for a longer pause, but not for any length.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);

/// One event on its way to the service.
#[derive(Debug)]
pub struct Delivery {
    event: Outgoing,
    subscription: Option<Arc<Subscription>>,
    /// Given back when the delivery is settled.
    _held: Held,
    generation: u64,
    attempts: u32,
}

impl Delivery {
    /// A delivery that has not been tried, of an event that passed the chain of this generation, for the subscription
    /// that it matched.
    pub fn new(event: &Event, subscription: Option<Arc<Subscription>>, held: Held, generation: u64) -> Self {
        Self {
            event: Outgoing::new(event),
            subscription,
            _held: held,
            generation,
            attempts: 0,
        }
    }

    fn subscription_id(&self) -> Option<&str> {
        self.subscription.as_ref().map(|subscription| subscription.id.as_str())
    }
}

/// Takes events to the service.
#[derive(Debug)]
pub struct Deliveries {
    /// In boxes: the queues of a burst would otherwise be as large as the events themselves.
    lanes: Lanes<Box<Delivery>>,
    recipient: Recipient,
    gate: Gate,
    /// Whether the service has ever taken an event.
    was_ready: AtomicBool,
    ordering: config::Ordering,
    max_retries: u32,
    concurrency: usize,
    counters: Arc<Counters>,
}

impl Deliveries {
    /// Nothing is delivered before [`Deliveries::run`].
    pub fn new(config: &DeliveryConfig, counters: Arc<Counters>) -> Self {
        Self {
            lanes: Lanes::default(),
            recipient: Recipient::new(config),
            gate: Gate::default(),
            was_ready: AtomicBool::new(false),
            ordering: config.ordering,
            max_retries: config.retries,
            concurrency: config.concurrency,
            counters,
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

    /// Queues a delivery.
    pub fn push(&self, key: Key, delivery: Delivery) {
        self.lanes.push(key, Box::new(delivery));
    }

    /// Starts delivering, in tasks of `tasks`, until [`Deliveries::close`].
    pub fn run(self: &Arc<Self>, tasks: &mut JoinSet<()>) {
        let deliveries = Arc::clone(self);
        tasks.spawn(async move { deliveries.lanes.run_timer().await });
        for _ in 0..self.concurrency {
            let deliveries = Arc::clone(self);
            tasks.spawn(async move {
                while let Some((key, delivery)) = deliveries.lanes.next().await {
                    deliveries.attempt(key, delivery).await;
                }
            });
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

    async fn attempt(&self, key: Key, mut delivery: Box<Delivery>) {
        delivery.attempts += 1;
        if delivery.attempts == 1 && delivery.subscription.is_some() && !delivery.event.can_be_marked() {
            self.counters.unmarked.increment();
        }
        let (result, elapsed) = self.reach(&delivery).await;
        let event = &delivery.event;
        let subscription_id = delivery.subscription_id().unwrap_or_default();
        let attempt = delivery.attempts;
        match result {
            Ok(status) => {
                self.counters.delivered.increment();
                tracing::info!(
                    event_id = &*event.id(),
                    event_type = &*event.ty(),
                    subscription_id,
                    keptn_context = &*event.keptn_context(),
                    status = status.as_u16(),
                    attempt,
                    elapsed_ms = elapsed.as_millis(),
                    generation = delivery.generation,
                    "delivered"
                );
                self.lanes.done(key);
            }
            Err(error) if attempt <= self.max_retries => {
                self.counters.retried.increment();
                let wanted = error.retry_after().unwrap_or_default().min(LONGEST_RETRY_AFTER);
                let pause = pause_after(attempt, fastrand::f64()).max(wanted);
                tracing::warn!(
                    event_id = &*event.id(), event_type = &*event.ty(), subscription_id, attempt, %error,
                    next_attempt_ms = pause.as_millis(), "delivery failed; trying again"
                );
                self.lanes.wait_until(Instant::now() + pause, key, delivery);
            }
            Err(error) => {
                self.counters.undelivered.increment();
                tracing::error!(
                    event_id = &*event.id(), event_type = &*event.ty(), subscription_id, attempt, %error,
                    "delivery given up; the event is lost to the service"
                );
                self.lanes.done(key);
            }
        }
    }

    /// One attempt that the service answers, or fails to: as long as it is not ready, the delivery waits here, at the
    /// gate, and the others wait behind it.
    async fn reach(&self, delivery: &Delivery) -> (Result<StatusCode, AttemptError>, Duration) {
        let mut probe = self.gate.turn().await;
        let mut failed_probes = 0;
        loop {
            let start = Instant::now();
            let body = delivery.event.body(delivery.subscription_id());
            let result = self.recipient.deliver(body, delivery.attempts).await;
            let Some(error) = result.as_ref().err().filter(|error| self.is_not_ready(error)) else {
                if self.gate.open() {
                    tracing::info!("the service is ready; deliveries go on");
                }
                if result.is_ok() && !self.was_ready.load(Ordering::Relaxed) {
                    self.was_ready.store(true, Ordering::Relaxed);
                }
                return (result, start.elapsed());
            };
            if self.gate.close() {
                tracing::warn!(%error, "the service is not ready; deliveries wait");
            }
            if probe.is_none() {
                probe = self.gate.turn().await;
            }
            if probe.is_some() {
                tokio::time::sleep(pause_before_probe(failed_probes, fastrand::f64())).await;
                failed_probes += 1;
            }
        }
    }

    /// Nobody listens, or what listens has never taken an event and may be a proxy in front of a service that is not
    /// there yet.
    fn is_not_ready(&self, error: &AttemptError) -> bool {
        match error {
            AttemptError::Connect(_) => true,
            AttemptError::Status { status, .. } => {
                matches!(*status, StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE)
                    && !self.was_ready.load(Ordering::Relaxed)
            }
            _ => false,
        }
    }
}

/// Exponential with full jitter: somewhere between nothing and twice the pause before, so that many events that failed
/// together do not come back together.
fn pause_after(attempt: u32, random: f64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(16);
    let ceiling = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
    ceiling.mul_f64(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_minute_and_are_random_below_that() {
        let check = |attempt: u32, random: f64, expected_ms: u128| {
            assert_eq!(
                pause_after(attempt, random).as_millis(),
                expected_ms,
                "attempt {attempt}"
            );
        };
        check(1, 1.0, 500);
        check(2, 1.0, 1000);
        check(5, 1.0, 8000);
        check(8, 1.0, 60_000);
        check(1000, 1.0, 60_000);
        check(8, 0.0, 0);
        check(8, 0.5, 30_000);
    }
}
