//! Which traces are recorded, and the queue of what was.
//!
//! Nobody who ends a span waits: what does not fit into the queue is counted and forgotten.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::{Ended, TraceContext};

/// Spans that wait for being exported.
const QUEUE: usize = 2048;

/// Which traces are recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Sampler {
    /// All.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// This share of them, from 0 to 1, chosen by their ids.
    Ratio(f64),
}

/// Makes spans. One for the process.
#[derive(Debug)]
pub struct Tracer {
    /// For traces that begin here, and for all where no parent decides.
    sampler: Sampler,
    is_parent_based: bool,
    queue: mpsc::Sender<Ended>,
    n_lost: AtomicU64,
}

impl Tracer {
    /// A tracer, and what it recorded.
    pub(crate) fn new(sampler: Sampler, is_parent_based: bool) -> (Self, mpsc::Receiver<Ended>) {
        let (queue, ended) = mpsc::channel(QUEUE);
        let tracer = Self {
            sampler,
            is_parent_based,
            queue,
            n_lost: AtomicU64::new(0),
        };
        (tracer, ended)
    }

    /// The next step, and whether it is recorded.
    pub(super) fn next(&self, parent: Option<TraceContext>) -> (TraceContext, bool) {
        let span_id = fastrand::u64(1..);
        let Some(parent) = parent else {
            let trace_id = fastrand::u128(1..);
            let is_sampled = self.sampler.takes(trace_id);
            return (TraceContext::new(trace_id, span_id, is_sampled), is_sampled);
        };
        let is_sampled = if self.is_parent_based {
            parent.is_sampled()
        } else {
            self.sampler.takes(parent.trace_id)
        };
        if !is_sampled && self.is_parent_based {
            // Nobody will know of a span with another id.
            return (parent, false);
        }
        (parent.next(span_id, is_sampled), is_sampled)
    }

    pub(super) fn ended(&self, span: Ended) {
        if self.queue.try_send(span).is_err() {
            self.n_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Spans that there was no room for since this was asked last.
    pub(super) fn take_lost(&self) -> u64 {
        self.n_lost.swap(0, Ordering::Relaxed)
    }
}

impl Sampler {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a share need not be exact to more than 53 bits"
    )]
    fn takes(self, trace_id: u128) -> bool {
        match self {
            Self::AlwaysOn => true,
            Self::AlwaysOff => false,
            // The lower half, of which others say that it is random, too.
            Self::Ratio(share) => (trace_id as u64 as f64) < share * u64::MAX as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, Span};
    use super::*;

    const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    #[test]
    fn the_sampler_decides_or_the_parent_does() {
        let check = |sampler, is_parent_based, parent: Option<&str>, expected: bool| {
            let (tracer, mut ended) = Tracer::new(sampler, is_parent_based);
            let parent = parent.map(|text| TraceContext::parse(text, None).unwrap());
            drop(Span::start(
                Some(&tracer.into()),
                parent.clone(),
                Kind::Consumer,
                || "process".into(),
            ));
            assert_eq!(
                ended.try_recv().is_ok(),
                expected,
                "{sampler:?} {is_parent_based} {parent:?}"
            );
        };
        check(Sampler::AlwaysOn, true, None, true);
        check(Sampler::AlwaysOn, true, Some(SAMPLED), true);
        check(Sampler::AlwaysOn, true, Some(UNSAMPLED), false);
        check(Sampler::AlwaysOn, false, Some(UNSAMPLED), true);
        check(Sampler::AlwaysOff, true, None, false);
        check(Sampler::AlwaysOff, true, Some(SAMPLED), true);
        check(Sampler::AlwaysOff, false, Some(SAMPLED), false);
        check(Sampler::Ratio(1.0), true, None, true);
        check(Sampler::Ratio(0.0), true, None, false);
    }

    #[test]
    fn a_share_is_about_that_share() {
        let n_taken = (0..10_000)
            .filter(|_| Sampler::Ratio(0.25).takes(fastrand::u128(..)))
            .count();
        assert!((2200..2800).contains(&n_taken), "{n_taken}");
    }

    #[test]
    fn what_does_not_fit_is_counted_and_nobody_waits() {
        let (tracer, _ended) = Tracer::new(Sampler::AlwaysOn, true);
        let tracer = tracer.into();
        for _ in 0..QUEUE + 7 {
            drop(Span::start(Some(&tracer), None, Kind::Consumer, String::new));
        }
        assert_eq!((tracer.take_lost(), tracer.take_lost()), (7, 0));
    }

    #[test]
    fn without_a_tracer_the_context_goes_on_and_nothing_else_is_made() {
        assert!(Span::start(None, None, Kind::Consumer, || unreachable!()).is_none());
        let parent = TraceContext::parse(SAMPLED, Some("a=b"));
        let span = Span::start(None, parent.clone(), Kind::Consumer, || unreachable!()).unwrap();
        assert_eq!(Some(span.context()), parent.as_ref());
        assert!(span.child(Kind::Client, || unreachable!()).is_none());
    }
}
