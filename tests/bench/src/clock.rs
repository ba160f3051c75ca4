//! The one clock of a run: nanoseconds since this process started.
//!
//! Called by everything that stamps or measures. It must not be read in another process than the one that stamped.

use tokio::time::Instant;

/// A copy tells the same time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    pub(crate) fn nanoseconds(self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).expect("a run does not last 584 years")
    }
}
