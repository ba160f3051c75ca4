//! What waits in streams: only the server knows, so it is asked in the background, and only while somebody looks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use tokio::time::Instant;

use super::model::StreamLag;
use crate::connection::View;
use crate::dead_letter::rfc3339;
use crate::jetstream_api::ask;

/// The server is asked no more often than this.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is known of them.
#[derive(Debug)]
pub(super) struct Streams(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    connection: View,
    durable: String,
    is_asking: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    lags: Vec<StreamLag>,
    asked: Option<Instant>,
}

#[derive(Deserialize)]
struct ConsumerInfo {
    #[serde(default)]
    num_pending: u64,
    #[serde(default)]
    num_ack_pending: u64,
}

impl Streams {
    /// Those that events come from over this connection.
    pub(super) fn new(connection: &View, durable: &str) -> Self {
        Self(Arc::new(Shared {
            connection: connection.clone(),
            durable: durable.to_owned(),
            is_asking: AtomicBool::new(false),
            known: Mutex::default(),
        }))
    }

    /// What was known a moment ago; the server is asked again.
    pub(super) fn look(&self) -> Vec<StreamLag> {
        let shared = &self.0;
        let known = shared.known();
        let is_due = known.asked.is_none_or(|asked| asked.elapsed() >= INTERVAL);
        let lags = known.lags.clone();
        drop(known);
        if is_due && !shared.is_asking.swap(true, Ordering::AcqRel) {
            let shared = Arc::clone(shared);
            // It ends by itself: every question has a time limit.
            tokio::spawn(async move {
                let lags = shared.ask().await;
                *shared.known() = Known {
                    lags,
                    asked: Some(Instant::now()),
                };
                shared.is_asking.store(false, Ordering::Release);
            });
        }
        lags
    }
}

impl Shared {
    async fn ask(&self) -> Vec<StreamLag> {
        let View::Nats { client, routing, .. } = &self.connection else {
            return Vec::new();
        };
        let streams: Vec<_> = routing.borrow().streams.keys().cloned().collect();
        let before = self.known().lags.clone();
        let mut lags = Vec::with_capacity(streams.len());
        for stream in streams {
            let api = format!("CONSUMER.INFO.{stream}.{}", self.durable);
            let lag = match ask::<ConsumerInfo>(client, &api, String::new()).await {
                Ok(info) => StreamLag {
                    waiting: Some(info.num_pending),
                    unsettled: Some(info.num_ack_pending),
                    as_of: Some(rfc3339(SystemTime::now())),
                    error: None,
                    consumer: self.durable.clone(),
                    stream,
                },
                Err(error) => {
                    let known = before.iter().find(|lag| lag.stream == stream).cloned();
                    StreamLag {
                        error: Some(error.to_string()),
                        consumer: self.durable.clone(),
                        stream,
                        ..known.unwrap_or_default()
                    }
                }
            };
            lags.push(lag);
        }
        lags
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
