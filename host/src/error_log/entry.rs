//! What an entry of the error log says, and as what JSON it is sent.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::dead_letter::{DeadLetter, Stored, one_line};
use crate::event::{Data, Event};
use crate::plugins::PluginError;

/// Events of this type are only copied to the log, never sent (as in the original).
pub const LOG_TYPE: &str = "sh.keptn.log.error";
/// Longer messages are cut.
const MAX_MESSAGE_BYTES: usize = 32 << 10;

/// One error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// None: this integration.
    integration_id: Option<String>,
    message: String,
    time: SystemTime,
    keptn_context: String,
    task: String,
    triggered_id: String,
}

/// Why an event that reports an error cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum ErrorLogError {
    /// Its data is not JSON.
    #[error("its data is missing, or no JSON")]
    NoData,
    /// Its data has another form.
    #[error("its data cannot be read: {0}")]
    Data(#[from] serde_json::Error),
}

/// The data of an event that ends a task, as far as it matters.
#[derive(Deserialize)]
struct Finished {
    status: Option<String>,
    message: Option<String>,
}

/// The data of an event that is an error.
#[derive(Deserialize)]
struct Reported {
    message: Option<String>,
    task: Option<String>,
    integrationid: Option<String>,
}

#[derive(Serialize)]
struct Logs<'a> {
    logs: Vec<Log<'a>>,
}

#[derive(Serialize)]
struct Log<'a> {
    integrationid: &'a str,
    message: &'a str,
    time: String,
    shkeptncontext: &'a str,
    task: &'a str,
    triggeredid: &'a str,
    gitcommitid: &'a str,
}

impl Entry {
    /// The error that an event of the service reports, if it does: one that ends a task with the status `errored`, or one
    /// that is nothing but an error. `time` is when it was accepted.
    ///
    /// # Errors
    /// Why that cannot be known.
    pub fn of(event: &Event, time: SystemTime) -> Result<Option<Self>, ErrorLogError> {
        let ty = event.ty();
        if ty == LOG_TYPE {
            let Data::Json(data) = event.data() else {
                return Err(ErrorLogError::NoData);
            };
            let reported: Reported = serde_json::from_slice(data.of(event.bytes()))?;
            return Ok(Some(Self {
                integration_id: reported.integrationid.filter(|id| !id.is_empty()),
                task: reported.task.unwrap_or_default(),
                ..Self::about(event, reported.message.unwrap_or_default(), time)
            }));
        }
        if !ty.ends_with(".finished") {
            return Ok(None);
        }
        let finished: Finished = match event.data() {
            Data::Absent => return Ok(None),
            Data::Base64(_) => return Err(ErrorLogError::NoData),
            Data::Json(data) => serde_json::from_slice(data.of(event.bytes()))?,
        };
        let is_errored = finished.status.as_deref() == Some("errored");
        Ok(is_errored.then(|| Self::about(event, finished.message.unwrap_or_default(), time)))
    }

    /// An event that was given up.
    pub(super) fn of_dead_letter(letter: &DeadLetter, stored: Stored, time: SystemTime) -> Self {
        let place = match stored {
            Stored::Log => "the event is kept nowhere",
            Stored::Nats | Stored::Directory => "the event is in the dead letters",
        };
        let message = format!(
            "event {} of type {} was not delivered to the service ({}, {} attempts); {place}: {}",
            one_line(&letter.event_id, 256),
            one_line(&letter.event_type, 256),
            letter.reason,
            letter.attempts,
            one_line(&letter.error, 512),
        );
        let is_trigger = letter.event_type.ends_with(".triggered");
        Self {
            integration_id: None,
            message,
            time,
            keptn_context: letter.keptn_context.clone(),
            task: task(&letter.event_type).to_owned(),
            triggered_id: if is_trigger {
                letter.event_id.clone()
            } else {
                String::new()
            },
        }
    }

    /// A plugin that failed on an event of the service.
    pub(super) fn of_plugin_failure(event: &Event, error: &PluginError, time: SystemTime) -> Self {
        Self::about(event, one_line(&error.to_string(), 1024), time)
    }

    /// Plugins that were refused: of no event, and so of no task.
    pub(super) fn of_refused_plugins(problems: &[String], time: SystemTime) -> Self {
        let problems: Vec<_> = problems.iter().map(|problem| one_line(problem, 1024)).collect();
        Self {
            integration_id: None,
            message: format!(
                "new plugins were refused; the last ones that worked stay in force: {}",
                problems.join("; ")
            ),
            time,
            keptn_context: String::new(),
            task: String::new(),
            triggered_id: String::new(),
        }
    }

    /// What it says.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Bytes that it takes, roughly.
    pub(super) fn size(&self) -> usize {
        let texts = [&self.message, &self.keptn_context, &self.task, &self.triggered_id];
        let own: usize = texts.iter().map(|text| text.len()).sum();
        own + self.integration_id.as_ref().map_or(0, String::len) + 256
    }

    fn about(event: &Event, mut message: String, time: SystemTime) -> Self {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        Self {
            integration_id: None,
            message,
            time,
            keptn_context: event.keptn_context().unwrap_or_default().into_owned(),
            task: task(&event.ty()).to_owned(),
            triggered_id: event.triggered_id().unwrap_or_default().into_owned(),
        }
    }
}

/// The task in the type of an event: `sh.keptn.event.<task>.<kind>`. Empty for other types.
fn task(ty: &str) -> &str {
    let mut parts = ty.split('.');
    let task = parts.nth(3).unwrap_or_default();
    if ty.split('.').count() == 5 && ty.split('.').all(|part| !part.is_empty()) {
        task
    } else {
        ""
    }
}

/// A request to the log. Entries that name no integration are of `own_id`.
pub(super) fn to_json(entries: &[Arc<Entry>], own_id: &str) -> Vec<u8> {
    let logs = entries.iter().map(|entry| Log {
        integrationid: entry.integration_id.as_deref().unwrap_or(own_id),
        message: &entry.message,
        time: humantime::format_rfc3339_millis(entry.time).to_string(),
        shkeptncontext: &entry.keptn_context,
        task: &entry.task,
        triggeredid: &entry.triggered_id,
        gitcommitid: "",
    });
    serde_json::to_vec(&Logs { logs: logs.collect() }).expect("texts can be written as JSON")
}
