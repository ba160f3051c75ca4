//! How fast numbers grow: what they were in each of the last seconds.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use super::model::Figure;

/// Samples that are kept: one more than seconds are shown.
const MAX_SAMPLES: usize = 61;
/// Seconds that a rate is made of: long enough to be calm, short enough to be of now.
const WINDOW: usize = 10;

/// The last samples of `N` numbers.
#[derive(Debug)]
pub(super) struct Rates<const N: usize>(Mutex<VecDeque<(Instant, [u64; N])>>);

impl<const N: usize> Default for Rates<N> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<const N: usize> Rates<N> {
    /// Takes a sample; called every second.
    pub(super) fn sample(&self, values: [u64; N]) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == MAX_SAMPLES {
            samples.pop_front();
        }
        samples.push_back((Instant::now(), values));
    }

    /// The numbers as they are, and how fast they have grown.
    pub(super) fn figures(&self, values: [u64; N]) -> [Figure; N] {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start = samples.iter().rev().take(WINDOW).next_back();
        std::array::from_fn(|number| {
            let total = values[number];
            let per_second = start.map_or(0.0, |(moment, before)| {
                let seconds = moment.elapsed().as_secs_f64().max(1.0);
                as_f64(total.saturating_sub(before[number])) / seconds
            });
            Figure { total, per_second }
        })
    }

    /// How much one of the numbers has grown in each of the last seconds, the oldest first.
    pub(super) fn history(&self, number: usize) -> Vec<u64> {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let values = samples.iter().map(|(_, values)| values[number]);
        values
            .clone()
            .zip(values.skip(1))
            .map(|(before, after)| after.saturating_sub(before))
            .collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate is shown with three digits")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_that_of_the_last_seconds() {
        let rates = Rates::<1>::default();
        assert_eq!(rates.figures([7])[0].per_second.to_bits(), 0.0_f64.to_bits());
        for second in 0..100 {
            rates.sample([second * 5]);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let [figure] = rates.figures([500]);
        assert_eq!(figure.total, 500);
        assert!((figure.per_second - 5.0).abs() < 0.01, "{figure:?}");
        assert_eq!(rates.history(0), [5; MAX_SAMPLES - 1]);
        tokio::time::advance(Duration::from_secs(90)).await;
        assert!(rates.figures([500])[0].per_second < 1.0);
    }
}
