//! One call of a plugin, and what it cost.

use std::time::Duration;

use tokio::time::Instant;

use super::super::answer::{Answer, Hooks};
use super::super::context::Context;
use super::super::error::PluginError;
use super::super::instance::Figures;
use super::super::plugin::Plugin;
use crate::event::Event;

/// What came of showing an event to a plugin.
#[derive(Debug)]
pub struct Observation {
    /// What it said.
    pub answer: Result<Answer, Box<PluginError>>,
    /// Time until it had said so, the start of an instance included where one was needed.
    pub elapsed: Duration,
    /// What it computed, in the engine's unit; none where it is not counted, or no instance is left that knows.
    pub fuel: Option<u64>,
    /// Memory of the instance afterwards, in bytes; none where no instance is left.
    pub memory_bytes: Option<usize>,
    /// By how much its memory has grown; none where another instance was there before, or is there now.
    pub memory_growth: Option<usize>,
}

impl Plugin {
    /// Shows it an event, and looks at what that costs.
    pub async fn observe(&self, event: &Event, context: &Context<'_>) -> Observation {
        let before = self.figures();
        let start = Instant::now();
        let answer = self.answer(event, context, Hooks::All).await;
        let elapsed = start.elapsed();
        let after = self.figures();
        let both = before.zip(after);
        let fuel = both.and_then(|(before, after)| spent(before, after));
        Observation {
            answer: answer.map_err(Box::new),
            elapsed,
            fuel,
            memory_bytes: after.map(|after| after.memory_bytes),
            memory_growth: both.and_then(|(before, after)| after.memory_bytes.checked_sub(before.memory_bytes)),
        }
    }

    /// Whether a warm instance waits for the next event.
    pub fn is_warm(&self) -> bool {
        self.figures().is_some()
    }
}

fn spent(before: Figures, after: Figures) -> Option<u64> {
    after.fuel?.checked_sub(before.fuel?)
}
