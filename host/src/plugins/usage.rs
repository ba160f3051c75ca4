//! What a plugin is used for: its calls, and what came of them.
//!
//! Belongs to the plugin's name, so that a new version goes on where the one before was.

use super::error::Cause;
use super::limits::LimitReached;
use crate::metrics::{Counter, Family, Histogram, label};

/// A call of the host costs about a microsecond; a second is what a call may take.
const CALL_BOUNDS: &[u64] = &[
    5_000,
    20_000,
    100_000,
    500_000,
    2_000_000,
    10_000_000,
    100_000_000,
    1_000_000_000,
];

label! {
    /// Why a call failed.
    pub(super) FailureCause {
        /// It panicked, or left its memory.
        Trap "trap"
        /// It took too long.
        Time "time"
        /// It wanted too much memory.
        Memory "memory"
        /// It reached another limit.
        Limit "limit"
        /// No instance could be started.
        Start "start"
        /// It says that it may work another time.
        Transient "transient"
        /// It says that it never will for this event, or its answer cannot be used.
        Permanent "permanent"
    }
}

/// What a plugin is used for.
#[derive(Debug)]
pub(super) struct Usage {
    /// Calls of its hooks.
    pub(super) calls: Histogram,
    /// Events that it dropped.
    pub(super) dropped: Counter,
    /// Calls that failed, where they counted.
    pub(super) failures: Family<FailureCause>,
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            calls: Histogram::new(CALL_BOUNDS),
            dropped: Counter::default(),
            failures: Family::default(),
        }
    }
}

impl Usage {
    /// A call failed.
    pub(super) fn failed(&self, cause: &Cause) {
        self.failures.increment(match cause {
            Cause::Trap(_) => FailureCause::Trap,
            Cause::Limit(LimitReached::Time(_)) => FailureCause::Time,
            Cause::Limit(LimitReached::Memory { .. }) => FailureCause::Memory,
            Cause::Limit(_) => FailureCause::Limit,
            Cause::Start(_) => FailureCause::Start,
            Cause::Transient(_) => FailureCause::Transient,
            Cause::Permanent(_) | Cause::InvalidEvent(_) | Cause::NotGranted(_) | Cause::Loop(_) => {
                FailureCause::Permanent
            }
            // It was not called.
            Cause::Resting(_) => return,
        });
    }
}
