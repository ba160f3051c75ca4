//! Whether everything that the consumer handed out came to us: the server numbers its deliveries, over all replicas.
//!
//! Asked by [`super::reader`]. A number that is left out went to another replica, or was on its way when the connection
//! broke. In the second case the server would wait for its acknowledgement time-out while later events of the same key go
//! out. It can be asked at once, but only if there is no other replica: the event could be one that another has started.

use std::time::Duration;

use tokio::time::Instant;

use super::consumer::Position;

/// Without a sign of another replica for this long there is none. Longer than what it takes until an event that went to
/// another one is forgotten here.
const ALONE_AFTER: Duration = Duration::from_mins(10);

/// The numbers of the deliveries that came.
#[derive(Debug, Default)]
pub(crate) struct Continuity {
    /// The last delivery that is known to have been made.
    last: u64,
    /// Nothing is missing up to this sequence of the stream.
    sequence: u64,
    /// Everything up to this delivery that was not taken was asked for again.
    asked_again: u64,
    /// What was asked for again stands before or at this sequence.
    asked_up_to: u64,
    other_replica_seen: Option<Instant>,
}

/// What the number of a delivery says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    /// It is the next one, or a known one.
    Expected,
    /// Deliveries before it did not come.
    AfterGap,
    /// The message was asked for again, and will come once more behind those that stand before it.
    AskedAgain,
}

impl Continuity {
    /// What this number says about the message that has it.
    pub(crate) fn judge(&self, delivery: u64) -> Number {
        if delivery <= self.asked_again {
            Number::AskedAgain
        } else if delivery > self.last + 1 {
            Number::AfterGap
        } else {
            Number::Expected
        }
    }

    /// The delivery has come.
    pub(crate) fn count(&mut self, delivery: u64) {
        self.see(delivery, self.last + 1);
    }

    /// The message of this sequence is taken, and so are those before it.
    pub(crate) fn take(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(sequence);
    }

    /// Everything that was asked for again is taken.
    pub(crate) fn take_all(&mut self) {
        self.take(self.asked_up_to);
    }

    /// The server says how far it is. What it sent to us before has come before.
    pub(crate) fn hear(&mut self, at: Position) {
        self.see(at.consumer_seq, self.last);
        if !self.is_awaiting() {
            self.sequence = self.sequence.max(at.stream_seq);
        }
    }

    /// Begins with what the server has handed out, all of it or all that is to come to us.
    pub(crate) fn restart(&mut self, handed_out: Position) {
        *self = Self {
            last: handed_out.consumer_seq,
            sequence: handed_out.stream_seq,
            other_replica_seen: self.other_replica_seen,
            ..Self::default()
        };
    }

    /// Goes on with what the server has handed out, after it was asked for what is missing of that. It comes again before
    /// everything else.
    pub(crate) fn ask_again(&mut self, handed_out: Position) {
        self.last = handed_out.consumer_seq;
        self.asked_again = handed_out.consumer_seq;
        self.asked_up_to = handed_out.stream_seq;
    }

    /// Whether this instance seems to be the only one.
    pub(crate) fn is_alone(&self) -> bool {
        self.other_replica_seen.is_none_or(|seen| seen.elapsed() > ALONE_AFTER)
    }

    /// The sequence of the stream after which something may be missing of what the server has handed out.
    pub(crate) fn missing_after(&self, handed_out: Position) -> Option<u64> {
        (handed_out.consumer_seq != self.last || self.is_awaiting()).then_some(self.sequence)
    }

    /// How many messages are missing at most, if that is known.
    pub(crate) fn n_missing(&self, handed_out: Position) -> Option<u64> {
        let n_missing = handed_out.consumer_seq.checked_sub(self.last);
        n_missing.filter(|_| !self.is_awaiting())
    }

    fn is_awaiting(&self) -> bool {
        self.sequence < self.asked_up_to
    }

    fn see(&mut self, delivery: u64, expected: u64) {
        if delivery > expected {
            self.other_replica_seen = Some(Instant::now());
        }
        self.last = self.last.max(delivery);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(consumer_seq: u64, stream_seq: u64) -> Position {
        Position {
            consumer_seq,
            stream_seq,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn numbers_that_are_left_out_tell_of_another_replica() {
        let mut continuity = Continuity::default();
        continuity.restart(at(10, 100));
        for delivery in 11..=13 {
            assert_eq!(continuity.judge(delivery), Number::Expected);
            continuity.count(delivery);
            continuity.take(90 + delivery);
        }
        continuity.hear(at(13, 150));
        assert!(continuity.is_alone());
        assert_eq!(continuity.judge(15), Number::AfterGap);
        continuity.count(15);
        assert!(!continuity.is_alone());
        assert_eq!(continuity.judge(14), Number::Expected, "it came late");
        tokio::time::advance(ALONE_AFTER + Duration::from_secs(1)).await;
        assert!(continuity.is_alone());
        continuity.hear(at(16, 153));
        assert!(!continuity.is_alone(), "16 did not come");
        continuity.restart(at(20, 160));
        assert!(!continuity.is_alone());
    }

    #[tokio::test(start_paused = true)]
    async fn what_did_not_come_is_asked_for_until_it_comes() {
        let mut continuity = Continuity::default();
        continuity.restart(at(10, 100));
        continuity.count(11);
        continuity.take(101);
        continuity.hear(at(11, 120));
        assert_eq!(continuity.missing_after(at(11, 130)), None);
        assert_eq!(
            continuity.missing_after(at(3, 30)),
            Some(120),
            "the server has forgotten some"
        );
        assert_eq!(continuity.n_missing(at(3, 30)), None);
        assert_eq!(continuity.missing_after(at(14, 133)), Some(120), "of 12 to 14");
        assert_eq!(continuity.n_missing(at(14, 133)), Some(3));
        continuity.ask_again(at(14, 133));
        assert_eq!(continuity.judge(13), Number::AskedAgain);
        assert_eq!(continuity.judge(14), Number::AskedAgain);
        assert_eq!(continuity.judge(15), Number::Expected);
        continuity.count(15);
        continuity.take(131);
        continuity.hear(at(15, 140));
        assert_eq!(
            continuity.missing_after(at(15, 140)),
            Some(131),
            "the second is still to come"
        );
        assert_eq!(continuity.n_missing(at(15, 140)), None);
        continuity.take_all();
        assert_eq!(continuity.missing_after(at(15, 140)), None);
        assert!(continuity.is_alone());
    }
}
