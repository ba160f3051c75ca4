//! Sends spans to a collector (OTLP over HTTP, protocol buffers), some at a time.
//!
//! Run by [`crate::app`] where a collector is configured. A collector that is away costs spans and one warning, and no
//! event waits for it.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use reqwest::{Client, redirect};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Ended, Tracer, encode};
use crate::config::TracesConfig;
use crate::tls::{self, Trust};

/// Spans of one request.
const BATCH: usize = 512;
/// A span waits no longer for others.
const BATCH_PAUSE: Duration = Duration::from_secs(1);
/// What is left at the end has so much time.
const LAST_TIMEOUT: Duration = Duration::from_secs(2);
/// A collector that stays away is mentioned again after this.
const REMINDER: Duration = Duration::from_mins(10);

/// Sends what a tracer recorded.
#[derive(Debug)]
pub struct Exporter {
    tracer: Arc<Tracer>,
    ended: mpsc::Receiver<Ended>,
    client: Client,
    config: TracesConfig,
    failing: Option<Failing>,
}

/// Since when spans are lost.
#[derive(Debug)]
struct Failing {
    told: Option<Instant>,
    n_lost: u64,
}

impl Exporter {
    /// A tracer, and what sends what it records. Opens no connection.
    ///
    /// # Errors
    /// What is wrong with the certificates of this machine.
    pub fn new(config: &TracesConfig) -> Result<(Arc<Tracer>, Self), reqwest::Error> {
        let (tracer, ended) = Tracer::new(config.sampler, config.is_parent_based);
        let tracer = Arc::new(tracer);
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .tls_backend_preconfigured(tls::client_config(Trust::verifying(true)))
            .timeout(config.timeout)
            .build()?;
        let exporter = Self {
            tracer: Arc::clone(&tracer),
            ended,
            client,
            config: config.clone(),
            failing: None,
        };
        Ok((tracer, exporter))
    }

    /// Sends until `end`, and then what is left.
    pub async fn run(mut self, end: CancellationToken) {
        let mut spans = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                () = end.cancelled() => break,
                n_spans = self.ended.recv_many(&mut spans, BATCH) => {
                    if n_spans == 0 {
                        break;
                    }
                }
            }
            let _ = tokio::time::timeout(BATCH_PAUSE, async {
                while spans.len() < BATCH && !end.is_cancelled() {
                    let room = BATCH - spans.len();
                    tokio::select! {
                        () = end.cancelled() => break,
                        _ = self.ended.recv_many(&mut spans, room) => {}
                    }
                }
            })
            .await;
            if end.is_cancelled() {
                break;
            }
            self.send(&mut spans).await;
        }
        let rest = async {
            while let Ok(span) = self.ended.try_recv() {
                spans.push(span);
            }
            self.send(&mut spans).await;
        };
        let _ = tokio::time::timeout(LAST_TIMEOUT, rest).await;
    }

    async fn send(&mut self, spans: &mut Vec<Ended>) {
        if spans.is_empty() {
            return;
        }
        let n_spans = spans.len() as u64;
        let body = encode::request(&self.config.resource, spans);
        spans.clear();
        let result = self.post(body).await;
        let n_lost = self.tracer.take_lost();
        match result {
            Ok(()) => {
                if let Some(failing) = self.failing.take() {
                    let lost = failing.n_lost + n_lost;
                    tracing::info!(lost, "the collector takes spans again");
                } else if n_lost > 0 {
                    tracing::warn!(
                        lost = n_lost,
                        "spans come faster than the collector takes them; some are left out"
                    );
                }
            }
            Err(error) => self.failed(&error, n_spans + n_lost),
        }
    }

    fn failed(&mut self, error: &str, n_lost: u64) {
        let failing = self.failing.get_or_insert(Failing { told: None, n_lost: 0 });
        failing.n_lost += n_lost;
        if failing.told.is_none_or(|told| told.elapsed() >= REMINDER) {
            failing.told = Some(Instant::now());
            tracing::warn!(
                error,
                lost = failing.n_lost,
                "the collector (OTEL_EXPORTER_OTLP_ENDPOINT) takes no spans; they are lost, events are not affected"
            );
        }
    }

    async fn post(&self, body: Vec<u8>) -> Result<(), String> {
        let request = self
            .client
            .post(self.config.endpoint.clone())
            .headers(self.config.headers.clone())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(body);
        match request.send().await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(format!("answered {}", answer.status())),
            // The URL may have credentials.
            Err(error) => Err(crate::keptn_api::reason(error)),
        }
    }
}
