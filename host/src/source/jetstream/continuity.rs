//! Whether everything that the consumer handed out came to us: the server numbers its deliveries, over all replicas.
//!
//! Asked by [`super::reader`]. A number that is left out went to another replica, or was on its way when the connection
//! broke. In the second case the server would wait for its acknowledgement time-out while later events of the same key go
//! out. It can be asked at once, but only if there is no other replica: the event could be one that another has started.

use std::time::Duration;

use tokio::time::Instant;

/// Without a sign of another replica for this long there is none. Longer than what it takes until an event that went to
/// another one is forgotten here.
const ALONE_AFTER: Duration = Duration::from_mins(10);

/// The numbers of the deliveries that came.
#[derive(Debug, Default)]
pub(super) struct Continuity {
    /// The last delivery that is known to have been made.
    last: u64,
    /// The consumer has handed out nothing between what came and this sequence of the stream.
    sequence: u64,
    /// Everything up to this delivery that was not taken was asked for again.
    asked_again: u64,
    other_replica_seen: Option<Instant>,
}

/// What the number of a delivery says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// It is the next one, or a known one.
    Expected,
    /// Deliveries before it did not come.
    AfterGap,
    /// The message was asked for again, and will come once more behind those that stand before it.
    AskedAgain,
}

impl Continuity {
    /// What this number says about the message that has it.
    pub(super) fn judge(&self, delivery: u64) -> Number {
        if delivery <= self.asked_again {
            Number::AskedAgain
        } else if delivery > self.last + 1 {
            Number::AfterGap
        } else {
            Number::Expected
        }
    }

    /// The message is taken.
    pub(super) fn take(&mut self, delivery: u64, sequence: u64) {
        self.see(delivery, sequence, self.last + 1);
    }

    /// The server says how far it is; what it sent to us before has come before.
    pub(super) fn hear(&mut self, delivery: u64, sequence: u64) {
        self.see(delivery, sequence, self.last);
    }

    /// Begins with what the server says of its consumer, with or without having asked for what is missing.
    pub(super) fn restart(&mut self, delivery: u64, sequence: u64, is_asked_again: bool) {
        self.last = delivery;
        self.sequence = sequence;
        self.asked_again = if is_asked_again { delivery } else { 0 };
    }

    /// Whether this instance seems to be the only one.
    pub(super) fn is_alone(&self) -> bool {
        self.other_replica_seen.is_none_or(|seen| seen.elapsed() > ALONE_AFTER)
    }

    /// Up to which sequence nothing can be missing; none if nothing can be missing at all up to this delivery.
    pub(super) fn missing_after(&self, delivery: u64) -> Option<u64> {
        (delivery != self.last).then_some(self.sequence)
    }

    fn see(&mut self, delivery: u64, sequence: u64, expected: u64) {
        if delivery > expected {
            self.other_replica_seen = Some(Instant::now());
        }
        self.last = self.last.max(delivery);
        self.sequence = self.sequence.max(sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn numbers_that_are_left_out_tell_of_another_replica() {
        let mut continuity = Continuity::default();
        continuity.restart(10, 100, false);
        for delivery in 11..=13 {
            assert_eq!(continuity.judge(delivery), Number::Expected);
            continuity.take(delivery, 90 + delivery);
        }
        continuity.hear(13, 150);
        assert!(continuity.is_alone());
        assert_eq!(continuity.judge(15), Number::AfterGap);
        continuity.take(15, 152);
        assert!(!continuity.is_alone());
        assert_eq!(continuity.judge(14), Number::Expected, "it came late");
        tokio::time::advance(ALONE_AFTER + Duration::from_secs(1)).await;
        assert!(continuity.is_alone());
        continuity.hear(16, 153);
        assert!(!continuity.is_alone(), "16 did not come");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_for_again_is_not_taken_out_of_turn() {
        let mut continuity = Continuity::default();
        continuity.restart(10, 100, false);
        continuity.take(11, 101);
        continuity.hear(11, 120);
        assert_eq!(continuity.missing_after(11), None);
        assert_eq!(continuity.missing_after(14), Some(120), "of 12 to 14");
        assert_eq!(continuity.missing_after(3), Some(120), "the server has forgotten some");
        continuity.restart(14, 125, true);
        assert_eq!(continuity.judge(13), Number::AskedAgain);
        assert_eq!(continuity.judge(14), Number::AskedAgain);
        assert_eq!(continuity.judge(15), Number::Expected);
    }
}
