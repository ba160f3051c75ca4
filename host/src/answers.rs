//! Remembers for which events the service has sent an answer: a `.started` or `.finished` event with their id as
//! `triggeredid`.
//!
//! [`crate::ingress`] writes, [`crate::delivery`] reads: a service that has said that it works on an event, and then
//! takes too long to answer the request that brought it, must not be given the event again. It knows nothing else about
//! events.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Answers in memory, each some 50 bytes.
const MAX_ANSWERS: usize = 10_000;
/// As long as an event may be tried, by default.
const MAX_AGE: Duration = Duration::from_hours(1);

/// The events that the service has answered in the last hour, as far as there is room.
#[derive(Debug, Default)]
pub struct Answers {
    /// Ids are kept as hashes, because they may be as long as the service likes. By accident two are equal in one of
    /// 10¹⁵ questions; as the keys of the hash are secret, nobody can do it on purpose.
    hasher: RandomState,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// When the last answer came.
    answered: HashMap<u64, Instant>,
    /// All of them, the oldest first.
    in_order: VecDeque<(u64, Instant)>,
}

impl Answers {
    /// The service has answered the event with this id.
    pub fn record(&self, triggered_id: &str) {
        let (id, now) = (self.hasher.hash_one(triggered_id), Instant::now());
        let mut memory = self.memory();
        memory.answered.insert(id, now);
        memory.in_order.push_back((id, now));
        memory.forget(now);
    }

    /// Whether it is known to have answered the event with this id.
    pub fn contains(&self, event_id: &str) -> bool {
        let id = self.hasher.hash_one(event_id);
        let mut memory = self.memory();
        memory.forget(Instant::now());
        memory.answered.contains_key(&id)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn forget(&mut self, now: Instant) {
        while let Some(&(id, at)) = self.in_order.front() {
            if self.in_order.len() <= MAX_ANSWERS && now.duration_since(at) < MAX_AGE {
                break;
            }
            self.in_order.pop_front();
            // A later answer to the same event stays.
            if self.answered.get(&id) == Some(&at) {
                self.answered.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[test]
    fn knows_what_was_recorded_and_nothing_else() {
        let answers = Answers::default();
        answers.record("e1");
        assert!(answers.contains("e1"));
        assert!(!answers.contains("e2"));
        assert!(!answers.contains(""));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_forgotten_after_an_hour() {
        let answers = Answers::default();
        answers.record("e1");
        advance(MAX_AGE.checked_sub(Duration::from_millis(1)).unwrap()).await;
        answers.record("e2");
        assert!(answers.contains("e1"));
        advance(Duration::from_millis(1)).await;
        assert!(!answers.contains("e1"));
        assert!(answers.contains("e2"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_answer_to_the_same_event_counts() {
        let answers = Answers::default();
        answers.record("e1");
        advance(MAX_AGE / 2).await;
        answers.record("e1");
        advance(MAX_AGE / 2).await;
        assert!(answers.contains("e1"));
        advance(MAX_AGE / 2).await;
        assert!(!answers.contains("e1"));
        assert!(answers.memory().in_order.is_empty());
    }

    // With time at rest all of them are of the same moment.
    #[tokio::test(start_paused = true)]
    async fn the_oldest_answers_make_room() {
        let answers = Answers::default();
        for number in 0..=MAX_ANSWERS {
            answers.record(&number.to_string());
        }
        assert!(!answers.contains("0"));
        assert!(answers.contains("1"));
        assert!(answers.contains(&MAX_ANSWERS.to_string()));
        assert_eq!(answers.memory().answered.len(), MAX_ANSWERS);
        assert_eq!(answers.memory().in_order.len(), MAX_ANSWERS);
    }
}
