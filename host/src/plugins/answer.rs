//! What one plugin says of one event, with nothing around it: no other plugins, no policy for failures.
//!
//! For whoever asks a plugin to find out about the plugin: [`super::selftest`] and the tools of its author
//! ([`super::workbench`]).

use super::context::Context;
use super::convert::Lowered;
use super::error::PluginError;
use super::plugin::{Outcome, Plugin, Verdict};
use super::publish::{Origin, Published};
use crate::event::Event;

/// What a plugin said of an event.
#[derive(Debug)]
pub enum Answer {
    /// It was not asked: it does not get events of this type.
    NotCalled,
    /// The filter passes it, and there is no transform.
    Pass,
    /// The filter drops it, for this reason.
    Drop(String),
    /// It gets through the filter, if there is one, and the transform leaves it as it is.
    Keep,
    /// The transform makes others of it.
    Replace {
        /// Go on in its place.
        forwarded: Vec<Event>,
        /// Go to the control plane.
        published: Vec<Published>,
    },
}

/// Which hooks are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hooks {
    /// The filter alone.
    Filter,
    /// All that it has, the filter first.
    All,
}

impl Answer {
    /// The word for it, as captures have it.
    pub fn verdict(&self) -> &'static str {
        match self {
            Self::NotCalled => "not-called",
            Self::Pass => "pass",
            Self::Drop(_) => "drop",
            Self::Keep => "keep",
            Self::Replace { .. } => "replace",
        }
    }
}

impl Plugin {
    /// Shows it an event.
    ///
    /// # Errors
    /// When it could not do its work.
    pub async fn answer(&self, event: &Event, context: &Context<'_>, hooks: Hooks) -> Result<Answer, PluginError> {
        if !self.wants(event) {
            return Ok(Answer::NotCalled);
        }
        let mut lowered = Lowered::new(event);
        if self.has_filter()
            && let Verdict::Drop(reason) = self.evaluate(&mut lowered, context).await?
        {
            return Ok(Answer::Drop(reason));
        }
        if hooks == Hooks::Filter || !self.has_transform() {
            return Ok(Answer::Pass);
        }
        let origin = Origin {
            root: event,
            subscription: context.subscription,
            position: 0,
        };
        Ok(match self.apply(&mut lowered, context, &origin).await? {
            Outcome::Keep => Answer::Keep,
            Outcome::Replace { forwarded, published } => Answer::Replace { forwarded, published },
        })
    }
}
