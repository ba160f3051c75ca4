//! The plugins in their order, and an event's way through them.

use std::sync::Arc;

use super::context::Context;
use super::error::PluginError;
use super::limits::Made;
use super::plugin::{Outcome, Plugin, Verdict};
use super::publish::{Origin, Published};
use crate::event::Event;

/// Ordered plugins. Replaced as a whole, never changed: an event takes one chain at its start and finishes on it.
#[derive(Debug)]
pub struct Chain {
    /// Counts the chains of this process, from 1.
    pub generation: u64,
    /// In order of execution.
    pub plugins: Vec<Arc<Plugin>>,
}

/// What came of an event's way through the plugins.
#[derive(Debug)]
pub struct Passage {
    /// What became of the event itself.
    pub fate: Fate,
    /// What plugins send to the control plane in answer to it. The event is not settled before this is stored.
    pub published: Vec<Published>,
}

/// What became of an event.
#[derive(Debug)]
pub enum Fate {
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

/// An event on its way.
struct Run<'a> {
    root: &'a Event,
    context: &'a Context<'a>,
    published: Vec<Published>,
    made_to_publish: Made,
}

impl Chain {
    /// A chain of these plugins, in this order.
    pub fn new(generation: u64, plugins: Vec<Arc<Plugin>>) -> Self {
        Self { generation, plugins }
    }

    /// Runs an event through the plugins.
    ///
    /// # Errors
    /// When a plugin could not do its work; the event has then not gone through, and nothing is to be published.
    pub async fn run(&self, event: &Event, context: &Context<'_>) -> Result<Passage, PluginError> {
        let mut run = Run {
            root: event,
            context,
            published: Vec::new(),
            made_to_publish: Made::default(),
        };
        let fate = self.fate(&mut run).await?;
        Ok(Passage {
            fate,
            published: run.published,
        })
    }

    async fn fate(&self, run: &mut Run<'_>) -> Result<Fate, PluginError> {
        // None: nothing has changed the event yet, and nothing is copied.
        let mut replaced: Option<Vec<Event>> = None;
        for plugin in self
            .plugins
            .iter()
            .filter(|plugin| plugin.directions().contains(&run.context.direction))
        {
            let Some(events) = replaced.take() else {
                match run.pass(plugin, run.root, 0).await? {
                    Fate::Unchanged => {}
                    Fate::Replaced(events) => replaced = Some(events),
                    dropped @ Fate::Dropped { .. } => return Ok(dropped),
                }
                continue;
            };
            let mut next = Vec::with_capacity(events.len());
            let mut last_drop = None;
            let mut made = Made::default();
            for (position, part) in events.into_iter().enumerate() {
                let parts = match run.pass(plugin, &part, position).await? {
                    Fate::Unchanged => vec![part],
                    Fate::Replaced(parts) => parts,
                    dropped @ Fate::Dropped { .. } => {
                        last_drop = Some(dropped);
                        continue;
                    }
                };
                for part in parts {
                    let is_within_limits = made.add(part.bytes().len());
                    is_within_limits.map_err(|limit| plugin.made_too_much(run.root, limit))?;
                    next.push(part);
                }
            }
            match last_drop {
                Some(dropped) if next.is_empty() => return Ok(dropped),
                _ => replaced = Some(next),
            }
        }
        Ok(replaced.map_or(Fate::Unchanged, Fate::Replaced))
    }
}

impl Run<'_> {
    /// Runs one event through one plugin: the filter first. `position` is the event's among those that the plugin gets.
    async fn pass(&mut self, plugin: &Plugin, event: &Event, position: usize) -> Result<Fate, PluginError> {
        if !plugin.wants(event) {
            return Ok(Fate::Unchanged);
        }
        if plugin.has_filter()
            && let Verdict::Drop(reason) = plugin.evaluate(event, self.context).await?
        {
            let by = Arc::clone(plugin.name());
            return Ok(Fate::Dropped { by, reason });
        }
        if !plugin.has_transform() {
            return Ok(Fate::Unchanged);
        }
        let origin = Origin {
            root: self.root,
            subscription: self.context.subscription,
            position,
        };
        Ok(match plugin.apply(event, self.context, &origin).await? {
            Outcome::Keep => Fate::Unchanged,
            Outcome::Replace { forwarded, published } => {
                let has_published = !published.is_empty();
                for one in &published {
                    let is_within_limits = self.made_to_publish.add(one.event.bytes().len());
                    is_within_limits.map_err(|limit| plugin.made_too_much(event, limit))?;
                }
                self.published.extend(published);
                if !forwarded.is_empty() {
                    return Ok(Fate::Replaced(forwarded));
                }
                let reason = if has_published {
                    "answered to the control plane"
                } else {
                    "answered with no event"
                };
                Fate::Dropped {
                    by: Arc::clone(plugin.name()),
                    reason: reason.to_owned(),
                }
            }
        })
    }
}
