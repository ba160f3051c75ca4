//! Sends what is in the error log: soon, together what comes together, and again what was not taken.
//!
//! Run by `app` as one task.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use tokio_util::sync::CancellationToken;

use super::{Batch, ErrorLog, MAX_BATCH, entry};
use crate::config::ApiService;
use crate::keptn_api::{Call, CallError, KeptnApi};

/// Where the log is, at the service that has it.
const PATH: &str = "v1/log";
/// Between two requests, so that what comes together goes together.
const BETWEEN_REQUESTS: Duration = Duration::from_secs(1);
/// The same while there is enough for another request.
const BETWEEN_FULL_REQUESTS: Duration = Duration::from_millis(100);
/// Pauses after failures.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Time for a call where the configuration sets no limit.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// At the end a failure is followed by so many further attempts, after so long.
const LAST_ATTEMPTS: u32 = 2;
const LAST_PAUSE: Duration = Duration::from_millis(250);

/// The task that sends.
#[derive(Debug)]
pub struct Sending {
    error_log: Arc<ErrorLog>,
    api: KeptnApi,
    call_timeout: Duration,
    /// Requests in a row that were not answered, or not as they should be.
    n_failed: u32,
    /// Entries of a batch that was refused: they go one at a time, so that the others need not suffer for one.
    n_singly: usize,
    /// The failure that was logged last.
    said: String,
}

impl Sending {
    /// Sends nothing before [`Sending::run`]. A call may take `timeout`, if there is one.
    pub fn new(error_log: Arc<ErrorLog>, api: KeptnApi, timeout: Option<Duration>) -> Self {
        Self {
            error_log,
            api,
            call_timeout: timeout.unwrap_or(CALL_TIMEOUT),
            n_failed: 0,
            n_singly: 0,
            said: String::new(),
        }
    }

    /// Sends what comes until `end`, and then what is left, as far as the log takes it.
    pub async fn run(mut self, end: CancellationToken) {
        let mut integration = self.error_log.integration.clone();
        let registered = async { integration.wait_for(Option::is_some).await.is_ok() };
        if end.run_until_cancelled(registered).await != Some(true) {
            return;
        }
        while !end.is_cancelled() {
            let pause = self.send_next().await;
            let wait = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => self.error_log.arrived.notified().await,
                }
            };
            end.run_until_cancelled(wait).await;
        }
        self.n_failed = 0;
        while self.send_next().await.is_some() && self.n_failed <= LAST_ATTEMPTS {
            if self.n_failed > 0 {
                tokio::time::sleep(LAST_PAUSE).await;
            }
        }
    }

    /// One request with the oldest entries. Returns how long to wait before the next one; none if there was nothing to
    /// send.
    async fn send_next(&mut self) -> Option<Duration> {
        let batch = self
            .error_log
            .queue()
            .batch(if self.n_singly > 0 { 1 } else { MAX_BATCH });
        if batch.entries.is_empty() {
            return None;
        }
        let n = batch.entries.len();
        Some(match self.send(&batch).await {
            Ok(()) => {
                self.error_log.queue().remove(&batch);
                self.error_log.counters.reported.add(n as u64);
                self.n_singly = self.n_singly.saturating_sub(1);
                if std::mem::take(&mut self.n_failed) > 0 {
                    tracing::info!("the log of the control plane takes errors again");
                    self.said.clear();
                }
                self.pause()
            }
            Err(error) if is_refusal(&error) => {
                if n > 1 {
                    self.n_singly = n;
                } else {
                    self.error_log.queue().remove(&batch);
                    self.error_log.counters.unreported.increment();
                    self.n_singly = self.n_singly.saturating_sub(1);
                    tracing::warn!(%error, "the log of the control plane refuses an error; it is left out");
                }
                self.pause()
            }
            Err(error) => {
                self.n_failed = self.n_failed.saturating_add(1);
                let text = error.to_string();
                if text != self.said {
                    let n_queued = self.error_log.n_queued();
                    tracing::warn!(
                        error = text,
                        n_queued,
                        "errors cannot be copied to the control plane; trying again"
                    );
                    self.said = text;
                }
                pause_after(self.n_failed, &error)
            }
        })
    }

    fn pause(&self) -> Duration {
        if self.n_singly > 0 || self.error_log.n_queued() >= MAX_BATCH {
            BETWEEN_FULL_REQUESTS
        } else {
            BETWEEN_REQUESTS
        }
    }

    async fn send(&self, batch: &Batch) -> Result<(), CallError> {
        let own_id = self.error_log.integration.borrow().clone().unwrap_or_default();
        let call = Call {
            method: Method::POST,
            url: self.api.url(ApiService::ControlPlane, PATH),
            body: Some(entry::to_json(&batch.entries, &own_id).into()),
        };
        match tokio::time::timeout(self.call_timeout, self.api.call(call)).await {
            Ok(answered) => answered.map(drop),
            Err(_) => Err(CallError::Unreachable("no answer in time".to_owned())),
        }
    }
}

/// The same request would be refused again.
fn is_refusal(error: &CallError) -> bool {
    let refusals = [
        StatusCode::BAD_REQUEST,
        StatusCode::PAYLOAD_TOO_LARGE,
        StatusCode::UNPROCESSABLE_ENTITY,
    ];
    matches!(error, CallError::Status { status, .. } if refusals.contains(status))
}

fn pause_after(n_failed: u32, error: &CallError) -> Duration {
    let doublings = n_failed.saturating_sub(1).min(16);
    let pause = (FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE);
    let wanted = match error {
        CallError::Status { retry_after, .. } => retry_after.unwrap_or_default().min(LONGEST_PAUSE),
        _ => Duration::ZERO,
    };
    pause.mul_f64(0.75 + 0.5 * fastrand::f64()).max(wanted)
}
