//! What waits, and why, for whoever operates the distributor.
//!
//! Read by [`crate::status`]. A list that is looked at must not hold up deliveries: it is short, and made of what is known
//! anyway.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{Deliveries, Delivery, HeldBack};
use crate::recent_events::EventNames;

/// A part of an event that is tried again later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Which event.
    pub names: EventNames,
    /// Attempts so far.
    pub attempts: u32,
    /// When the first of them was made.
    pub first_attempt: Option<SystemTime>,
    /// Time to the next one.
    pub next_attempt_in: Duration,
    /// What went wrong the last time.
    pub error: String,
    /// Whether it is given up, and cannot be stored as a dead letter.
    pub is_given_up: bool,
    /// Events of the same key that wait behind it.
    pub n_behind: usize,
}

impl Deliveries {
    /// The next `max` of what is tried again later, in the order of the attempts.
    pub fn waiting(&self, max: usize) -> Vec<Waiting> {
        let now = Instant::now();
        self.lanes
            .waiting(max, |_, delivery, n_behind| of(delivery, n_behind, now))
            .into_iter()
            .flatten()
            .take(max)
            .collect()
    }

    /// Why deliveries wait for the service, while they do.
    pub fn held_back(&self) -> Option<HeldBack> {
        self.gate.held_back()
    }
}

fn of(delivery: &Delivery, n_behind: usize, now: Instant) -> Vec<Waiting> {
    let unsettled = delivery.parts.iter().filter(|part| !part.is_settled);
    unsettled
        .map(|part| {
            let trouble = part.trouble.as_deref();
            let due = trouble.and_then(|trouble| trouble.due);
            Waiting {
                names: part.names(),
                attempts: part.attempts,
                first_attempt: trouble.and_then(|trouble| trouble.first_attempt).map(|(_, time)| time),
                next_attempt_in: due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now)),
                error: trouble
                    .and_then(|trouble| trouble.last_error.as_deref())
                    .unwrap_or_default()
                    .to_owned(),
                is_given_up: part.is_given_up(),
                n_behind,
            }
        })
        .collect()
}
