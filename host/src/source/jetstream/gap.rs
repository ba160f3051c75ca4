//! Messages that were lost on their way and come again: they are put back into the order of the stream.
//!
//! Used by [`super::reader`]. A server hands out again what it was asked for before it goes on, but not always in the order
//! in which it was asked: what it takes up in vain, because a request has just ended, goes to the end of its list.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use async_nats::Subject;
use tokio::time::Instant;

/// The server has what it is asked for at hand. Whatever has not come by then is not among the wanted ones.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What is missing, and what has come of it.
#[derive(Debug)]
pub(crate) struct Gap<T> {
    sequences: RangeInclusive<u64>,
    /// How many messages are missing at most; the other sequences belong to others.
    n_missing: usize,
    came: BTreeMap<u64, (Subject, T)>,
    ends: Instant,
}

/// What is to be done with a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn<T> {
    /// Nothing has to come before it.
    Now(T),
    /// It is kept.
    Later,
    /// The gap is to be closed: this is the last one, or, if it is given back, stands behind.
    Close(Option<T>),
}

impl<T> Gap<T> {
    /// None if nothing is missing.
    pub(crate) fn new(sequences: RangeInclusive<u64>, n_missing: Option<u64>) -> Option<Self> {
        let n_sequences = sequences.clone().count();
        let n_missing = n_missing.and_then(|n| usize::try_from(n).ok()).unwrap_or(n_sequences);
        (n_sequences > 0).then(|| Self {
            sequences,
            n_missing: n_missing.min(n_sequences),
            came: BTreeMap::new(),
            ends: Instant::now() + LONGEST_WAIT,
        })
    }

    /// A message of this sequence has come.
    pub(crate) fn turn(&mut self, sequence: u64, reply: Subject, message: T) -> Turn<(Subject, T)> {
        if sequence < *self.sequences.start() {
            return Turn::Now((reply, message));
        }
        if sequence > *self.sequences.end() {
            return Turn::Close(Some((reply, message)));
        }
        self.came.insert(sequence, (reply, message));
        if self.came.len() < self.n_missing {
            Turn::Later
        } else {
            Turn::Close(None)
        }
    }

    /// Nothing can come, because nothing is asked for or nothing gets through: the time to wait begins later.
    pub(crate) fn begin_waiting(&mut self) {
        self.ends = Instant::now() + LONGEST_WAIT;
    }

    /// When it is not waited for any longer.
    pub(crate) fn ends(&self) -> Instant {
        self.ends
    }

    /// What has come, in its order.
    pub(crate) fn closed(self) -> impl Iterator<Item = (Subject, T)> {
        self.came.into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(sequence: u64) -> Subject {
        sequence.to_string().into()
    }

    fn turn(gap: &mut Gap<u64>, sequence: u64) -> Turn<u64> {
        match gap.turn(sequence, reply(sequence), sequence) {
            Turn::Now((_, message)) => Turn::Now(message),
            Turn::Later => Turn::Later,
            Turn::Close(message) => Turn::Close(message.map(|(_, message)| message)),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_again_is_put_into_order() {
        let mut gap = Gap::new(5..=9, Some(3)).unwrap();
        assert_eq!(turn(&mut gap, 8), Turn::Later);
        assert_eq!(turn(&mut gap, 3), Turn::Now(3), "it was given back before");
        assert_eq!(turn(&mut gap, 9), Turn::Later);
        assert_eq!(turn(&mut gap, 8), Turn::Later, "twice");
        assert_eq!(turn(&mut gap, 6), Turn::Close(None), "the third");
        assert_eq!(gap.closed().map(|(_, message)| message).collect::<Vec<_>>(), [6, 8, 9]);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_begins_when_something_can_come() {
        let mut gap = Gap::<u64>::new(5..=9, None).unwrap();
        tokio::time::advance(LONGEST_WAIT * 5).await;
        assert!(gap.ends() <= Instant::now());
        gap.begin_waiting();
        assert_eq!(gap.ends(), Instant::now() + LONGEST_WAIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_message_shows_that_all_have_come() {
        let mut gap = Gap::new(5..=9, None).unwrap();
        assert_eq!(turn(&mut gap, 7), Turn::Later);
        assert_eq!(turn(&mut gap, 10), Turn::Close(Some(10)));
        assert_eq!(gap.closed().map(|(_, message)| message).collect::<Vec<_>>(), [7]);
        let nothing = RangeInclusive::new(6, 5);
        assert!(Gap::<u64>::new(nothing, Some(1)).is_none());
    }
}
