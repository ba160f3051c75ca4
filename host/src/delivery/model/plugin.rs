//! A plugin as a script: it takes its time with some events, and rests for a while now and then.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use futures_util::FutureExt;
use tokio::time::{Instant, sleep};

use super::journal::Journal;
use super::scenario::Scenario;
use crate::event::Event;
use crate::plugins::{Cause, Chain, Hook, OnFailure, PluginError, Script};

/// One scenario in so many is without a plugin; so is one in which nothing goes wrong.
const WITHOUT: u64 = 3;

/// The chain of a process.
pub(super) fn chain(scenario: &Arc<Scenario>, journal: &Arc<Journal>) -> Chain {
    if scenario.is_calm || scenario.seed.is_multiple_of(WITHOUT) {
        return Chain::new(1, Vec::new());
    }
    let (seed, journal) = (scenario.seed, Arc::clone(journal));
    let script = move |event: &Event| {
        let sequence: u64 = event.id().parse().expect("ids are sequences");
        let now = u64::try_from(journal.now().as_millis()).expect("hours");
        let mut rng = Rng::with_seed(seed ^ (sequence << 40) ^ now);
        async move {
            match rng.u8(..16) {
                0 => sleep(Duration::from_millis(rng.u64(1..5_000))).await,
                1 => tokio::task::yield_now().await,
                2 => return Err(Box::new(resting(Duration::from_millis(rng.u64(1..3_000))))),
                _ => {}
            }
            Ok(())
        }
        .boxed()
    };
    Chain::scripted(Script(Box::new(script)))
}

fn resting(pause: Duration) -> PluginError {
    PluginError {
        plugin: "script".into(),
        version: String::new(),
        digest: "".into(),
        hook: Hook::Filter,
        event_id: String::new(),
        event_type: String::new(),
        cause: Cause::Resting(Instant::now() + pause),
        output: Vec::new(),
        frames: Vec::new(),
        on_failure: OnFailure::RetryThenDeadLetter,
    }
}
