//! Remembers which events are being delivered or were delivered a short while ago, so that what comes twice goes out
//! once.
//!
//! Asked by [`crate::dispatch`] for what comes over core NATS, and for everything while a topic moves from core NATS to a
//! stream; for the rest a stream's sequence says the same for less.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::event::Event;
use crate::subscription::Subscription;

/// Deliveries that are remembered after they succeeded, each some 50 bytes.
const MAX_DELIVERED: usize = 10_000;
/// Two copies of one event come within moments of each other.
const MAX_AGE: Duration = Duration::from_mins(2);

/// Events that are being delivered, and the last ones that were.
#[derive(Debug, Default)]
pub struct Dedupe {
    /// Ids are kept as hashes, because they may be of any length. As its keys are secret, nobody can make two equal.
    hasher: RandomState,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// None: being delivered.
    known: HashMap<u64, Option<Instant>>,
    /// What was delivered, the oldest first.
    delivered: VecDeque<(u64, Instant)>,
}

/// An event that was seen for the first time. Dropped without [`Seen::delivered`], it is forgotten, so that another copy
/// gets its chance.
#[derive(Debug)]
pub struct Seen {
    dedupe: Arc<Dedupe>,
    event: u64,
    is_delivered: bool,
}

/// Whether an event has come before.
#[derive(Debug)]
pub enum Sight {
    /// No.
    First(Seen),
    /// It is being delivered.
    UnderWay,
    /// It was delivered.
    Delivered,
}

impl Dedupe {
    /// Looks whether this event has come before for this subscription. Ids of subscriptions may be empty; those are told
    /// apart by what they ask for.
    pub fn see(self: &Arc<Self>, event: &Event, subscription: Option<&Subscription>) -> Sight {
        let subscription = subscription.map(|subscription| {
            let filter = subscription.id.is_empty().then_some((
                &subscription.event,
                &subscription.projects,
                &subscription.stages,
                &subscription.services,
            ));
            (&subscription.id, filter)
        });
        let event = self.hasher.hash_one((subscription, event.source(), event.id()));
        let mut memory = self.memory();
        memory.forget(Instant::now());
        match memory.known.get(&event) {
            Some(Some(_)) => return Sight::Delivered,
            Some(None) => return Sight::UnderWay,
            None => {}
        }
        memory.known.insert(event, None);
        Sight::First(Seen {
            dedupe: Arc::clone(self),
            event,
            is_delivered: false,
        })
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn forget(&mut self, now: Instant) {
        while let Some(&(event, at)) = self.delivered.front() {
            if self.delivered.len() <= MAX_DELIVERED && now.duration_since(at) < MAX_AGE {
                break;
            }
            self.delivered.pop_front();
            self.known.remove(&event);
        }
    }
}

impl Seen {
    /// Remembers the event for a while.
    pub fn delivered(mut self) {
        self.is_delivered = true;
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        let mut memory = self.dedupe.memory();
        if self.is_delivered {
            let now = Instant::now();
            memory.known.insert(self.event, Some(now));
            memory.delivered.push_back((self.event, now));
        } else {
            memory.known.remove(&self.event);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::subject::Subject;

    fn event(id: &str) -> Event {
        let text = format!(r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"t"}}"#);
        Event::parse(Bytes::from(text)).unwrap()
    }

    fn subscription(id: &str, project: &str) -> Subscription {
        Subscription {
            id: id.to_owned(),
            event: Subject::pattern("t").unwrap(),
            projects: vec![project.to_owned()],
            stages: Vec::new(),
            services: Vec::new(),
        }
    }

    impl Sight {
        fn first(self) -> Option<Seen> {
            match self {
                Self::First(seen) => Some(seen),
                _ => None,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_copy_is_suppressed_while_the_first_is_delivered_and_for_a_while_after() {
        let dedupe = Arc::new(Dedupe::default());
        let first = dedupe.see(&event("1"), None).first().unwrap();
        assert!(matches!(dedupe.see(&event("1"), None), Sight::UnderWay));
        assert!(dedupe.see(&event("2"), None).first().is_some());
        first.delivered();
        assert!(matches!(dedupe.see(&event("1"), None), Sight::Delivered));
        tokio::time::advance(MAX_AGE).await;
        assert!(dedupe.see(&event("1"), None).first().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_gets_its_chance_when_the_first_was_not_delivered() {
        let dedupe = Arc::new(Dedupe::default());
        drop(dedupe.see(&event("1"), None).first().unwrap());
        assert!(dedupe.see(&event("1"), None).first().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn subscriptions_do_not_suppress_each_other() {
        let dedupe = Arc::new(Dedupe::default());
        let see = |id, project| dedupe.see(&event("1"), Some(&subscription(id, project))).first();
        let _held = [see("a", "p").unwrap(), see("b", "p").unwrap(), see("", "p").unwrap()];
        let _other = see("", "q").expect("without ids they are told apart by what they ask for");
        assert!(see("a", "q").is_none(), "an id says which one it is");
        assert!(see("", "p").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let dedupe = Arc::new(Dedupe::default());
        for number in 0..=MAX_DELIVERED {
            dedupe
                .see(&event(&number.to_string()), None)
                .first()
                .unwrap()
                .delivered();
        }
        assert!(dedupe.see(&event("0"), None).first().is_some());
        assert!(dedupe.see(&event("1"), None).first().is_none());
        assert_eq!(dedupe.memory().delivered.len(), MAX_DELIVERED);
    }
}
