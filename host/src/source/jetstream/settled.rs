//! Which of the last events of a stream are settled.

use std::collections::VecDeque;

const BITS: u64 = u64::BITS as u64;
/// Sequences that are remembered: 128 KiB when they all have been seen.
const MAX_SEQUENCES: u64 = 1 << 20;

/// A set of sequences that forgets the lowest ones when it gets too wide.
///
/// An acknowledgement that is lost with a connection, or with the server's own memory of it, makes the event come again:
/// whatever is in here was delivered already.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Sequence of the first bit; a multiple of [`BITS`].
    base: u64,
    words: VecDeque<u64>,
}

impl Settled {
    pub(super) fn insert(&mut self, sequence: u64) {
        if self.words.is_empty() {
            self.base = sequence / BITS * BITS;
        }
        if sequence < self.base {
            // Older than everything that is remembered: it came late, after a long pause.
            return;
        }
        let last_base = sequence / BITS * BITS;
        let oldest = (last_base + BITS).saturating_sub(MAX_SEQUENCES);
        if oldest > self.base {
            let n_forgotten = usize::try_from((oldest - self.base) / BITS).unwrap_or(usize::MAX);
            self.words.drain(..n_forgotten.min(self.words.len()));
            self.base = oldest;
        }
        let word = usize::try_from((sequence - self.base) / BITS).expect("the set is narrower than that");
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (sequence % BITS);
    }

    pub(super) fn contains(&self, sequence: u64) -> bool {
        let Some(offset) = sequence.checked_sub(self.base) else {
            return false;
        };
        let word = usize::try_from(offset / BITS)
            .ok()
            .and_then(|word| self.words.get(word));
        word.is_some_and(|word| word & (1 << (sequence % BITS)) != 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lowest_sequences_are_forgotten_when_the_set_gets_too_wide() {
        let mut settled = Settled::default();
        settled.insert(70);
        settled.insert(MAX_SEQUENCES);
        assert!(settled.contains(70));
        settled.insert(MAX_SEQUENCES + 200);
        assert!(!settled.contains(70));
        assert!(settled.contains(MAX_SEQUENCES));
        settled.insert(10 * MAX_SEQUENCES);
        assert!(settled.contains(10 * MAX_SEQUENCES));
        assert!(!settled.contains(MAX_SEQUENCES + 200));
        assert!(settled.words.len() as u64 <= MAX_SEQUENCES / BITS);
        settled.insert(5);
        assert!(!settled.contains(5), "too old to be remembered");
    }

    proptest! {
        #[test]
        fn holds_what_was_put_in(start in 1..10_000_u64, offsets in prop::collection::vec(0..5_000_u64, 0..200)) {
            let mut settled = Settled::default();
            let mut expected = BTreeSet::new();
            settled.insert(start);
            expected.insert(start);
            for offset in offsets {
                settled.insert(start + offset);
                expected.insert(start + offset);
            }
            for sequence in start.saturating_sub(100)..start + 5_100 {
                prop_assert_eq!(settled.contains(sequence), expected.contains(&sequence), "{}", sequence);
            }
        }
    }
}
