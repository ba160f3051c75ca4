//! The plugins in their order, and an event's way through them.

use std::sync::Arc;

use super::context::Context;
use super::error::PluginError;
use super::plugin::{Outcome, Plugin, Verdict};
use crate::event::Event;

/// Ordered plugins. Replaced as a whole, never changed: an event takes one chain at its start and finishes on it.
#[derive(Debug)]
pub struct Chain {
    /// Counts the chains of this process, from 1.
    pub generation: u64,
    /// In order of execution.
    pub plugins: Vec<Arc<Plugin>>,
}

/// What became of an event.
#[derive(Debug)]
pub enum Passage {
    /// It goes on as it came.
    Unchanged,
    /// These go on instead, in this order.
    Replaced(Vec<Event>),
    /// It ends here, on purpose.
    Dropped {
        /// The plugin that said so.
        by: Arc<str>,
        /// Why.
        reason: String,
    },
}

impl Chain {
    /// Runs an event through the plugins.
    ///
    /// # Errors
    /// When a plugin could not do its work; the event has then not gone through.
    pub async fn run(&self, event: &Event, context: &Context<'_>) -> Result<Passage, PluginError> {
        // None: nothing has changed the event yet, and nothing is copied.
        let mut replaced: Option<Vec<Event>> = None;
        for plugin in self
            .plugins
            .iter()
            .filter(|plugin| plugin.directions().contains(&context.direction))
        {
            let Some(events) = replaced.take() else {
                match pass(plugin, event, context).await? {
                    Passage::Unchanged => {}
                    Passage::Replaced(events) => replaced = Some(events),
                    dropped @ Passage::Dropped { .. } => return Ok(dropped),
                }
                continue;
            };
            let mut next = Vec::with_capacity(events.len());
            let mut last_drop = None;
            for event in events {
                match pass(plugin, &event, context).await? {
                    Passage::Unchanged => next.push(event),
                    Passage::Replaced(events) => next.extend(events),
                    dropped @ Passage::Dropped { .. } => last_drop = Some(dropped),
                }
            }
            match last_drop {
                Some(dropped) if next.is_empty() => return Ok(dropped),
                _ => replaced = Some(next),
            }
        }
        Ok(replaced.map_or(Passage::Unchanged, Passage::Replaced))
    }
}

/// Runs one event through one plugin: the filter first.
async fn pass(plugin: &Plugin, event: &Event, context: &Context<'_>) -> Result<Passage, PluginError> {
    if !plugin.wants(event) {
        return Ok(Passage::Unchanged);
    }
    if plugin.has_filter()
        && let Verdict::Drop(reason) = plugin.evaluate(event, context).await?
    {
        let by = Arc::clone(plugin.name());
        return Ok(Passage::Dropped { by, reason });
    }
    if !plugin.has_transform() {
        return Ok(Passage::Unchanged);
    }
    Ok(match plugin.apply(event, context).await? {
        Outcome::Keep => Passage::Unchanged,
        Outcome::Replace(events) if events.is_empty() => Passage::Dropped {
            by: Arc::clone(plugin.name()),
            reason: "answered with no event".to_owned(),
        },
        Outcome::Replace(events) => Passage::Replaced(events),
    })
}
