//! How others look at the plugins in force, and demand others: the control listener's way to [`super::reload`].

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::capture::Capture;
use super::status::Status;
use super::{Host, Plugins};

/// Why the plugins were not replaced on demand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReplaced {
    /// What the directory holds does not work.
    #[error("the plugins were not replaced; generation {generation} stays in force")]
    Refused {
        /// The one in force.
        generation: u64,
        /// What is wrong, one line each.
        problems: Vec<String>,
    },
    /// There is no directory.
    #[error("PLUGINS_DIR is not set, so there is nothing to reload")]
    NoDirectory,
    /// There is no generation before this one.
    #[error("there is no earlier generation to go back to")]
    NoPrevious,
    /// The distributor is shutting down.
    #[error("the distributor is shutting down")]
    Ending,
}

/// What came of a demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The generation in force.
    pub generation: u64,
    /// Whether it is a new one.
    pub is_new: bool,
    /// What to know about it.
    pub note: String,
}

pub(super) type Answer = Result<Replaced, NotReplaced>;

/// What is demanded, and who waits for the answer.
#[derive(Debug)]
pub(super) enum Demand {
    Reload(oneshot::Sender<Answer>),
    Rollback(oneshot::Sender<Answer>),
}

/// For those who look at the plugins in force, or demand others.
#[derive(Debug, Clone)]
pub struct PluginControl {
    pub(super) plugins: Arc<Plugins>,
    pub(super) host: Arc<Host>,
    pub(super) status: Arc<Mutex<Status>>,
    pub(super) demands: mpsc::Sender<Demand>,
}

impl PluginControl {
    /// What is in force, and how it came about.
    pub fn status(&self) -> Value {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.to_json(&self.plugins.current())
    }

    /// What writes events down, in whatever chain they pass.
    pub fn capture(&self) -> Arc<Capture> {
        Arc::clone(self.plugins.current().capture())
    }

    /// Reads the directory again, whether it has changed or not.
    ///
    /// # Errors
    /// Why the chain was not replaced.
    pub async fn reload(&self) -> Result<Replaced, NotReplaced> {
        self.demand(Demand::Reload).await
    }

    /// Goes back to the generation before.
    ///
    /// # Errors
    /// Why the chain was not replaced.
    pub async fn roll_back(&self) -> Result<Replaced, NotReplaced> {
        self.demand(Demand::Rollback).await
    }

    async fn demand(&self, demand: impl FnOnce(oneshot::Sender<Answer>) -> Demand) -> Answer {
        let (sender, answer) = oneshot::channel();
        let sent = self.demands.send(demand(sender)).await;
        sent.map_err(|_| NotReplaced::Ending)?;
        answer.await.unwrap_or(Err(NotReplaced::Ending))
    }
}
