//! Waits for a condition that nothing announces.
//!
//! Called by tests and by the harness itself. It must not know what it waits for; where the thing waited for can notify
//! (a journal, a line of output), wait for the notification instead.

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep};

/// Between two looks at the condition: short beside any deadline, long enough not to take the processor from the
/// program that is to fulfil it.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Returns as soon as `condition` holds.
///
/// This is the one place where tests may sleep: an outside program's state (a port that answers, a file that appears)
/// can only be looked at again, and the deadline, not the sleep, decides whether the test passes.
///
/// # Errors
///
/// When the condition still does not hold after `within`.
pub async fn eventually(within: Duration, mut condition: impl AsyncFnMut() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    loop {
        if condition().await {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("the condition waited for did not hold within {within:?}");
        }
        sleep(BETWEEN_LOOKS).await;
    }
}
