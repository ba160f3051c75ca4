//! The admin listener: what probes and Prometheus ask, for everybody who can reach it.
//!
//! | request | answer |
//! |---|---|
//! | `GET /livez` | 200 as long as the process answers at all: no outage elsewhere is a reason to restart it |
//! | `GET /startupz` | 200 as soon as plugins are loaded; it waits for nobody, because a sidecar starts before its service |
//! | `GET /readyz` | 200 as soon as events were received for the first time or could have been, until the shutdown |
//! | `GET /metrics` | everything that is counted and measured, in the text format of `OpenMetrics` |
//!
//! A probe that fails is answered with 503; with `?verbose` each check is listed with its reason. Nothing can be changed
//! here, and nothing of events is shown. Started by [`crate::app`] before everything else; what is to be seen comes from
//! [`crate::observe`], which is looked at no more often than every `FRESH`, whoever asks.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::observe::{Condition, Observer, Probe, Snapshot};
use crate::server::{self, Patience};

/// Probes and scrapers.
const MAX_CONNECTIONS: usize = 64;
/// Nobody holds a connection for longer without asking anything, so that there is always one for a probe.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// So long what was seen is shown again.
const FRESH: Duration = Duration::from_millis(200);

/// What the listener shows, as soon as there is something.
#[derive(Debug, Default)]
pub struct Admin {
    observer: OnceLock<Arc<Observer>>,
    seen: Mutex<Option<Arc<Seen>>>,
}

/// What was seen at one moment.
#[derive(Debug)]
struct Seen {
    at: Instant,
    snapshot: Snapshot,
    /// Written when it is asked for.
    metrics: OnceLock<Bytes>,
}

impl Admin {
    /// The parts are there: from now on there is something to see.
    pub fn show(&self, observer: Arc<Observer>) {
        // It is called once.
        let _ = self.observer.set(observer);
    }

    fn look(&self) -> Option<Arc<Seen>> {
        let observer = self.observer.get()?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |seen: &Arc<Seen>| {
            // The end is told at once.
            seen.at.elapsed() < FRESH && seen.snapshot.is_draining == observer.shutdown.is_cancelled()
        };
        if let Some(seen) = seen.as_ref().filter(|seen| is_fresh(seen)) {
            return Some(Arc::clone(seen));
        }
        let now = Arc::new(Seen {
            at: Instant::now(),
            snapshot: observer.snapshot(),
            metrics: OnceLock::new(),
        });
        *seen = Some(Arc::clone(&now));
        Some(now)
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let is_verbose = request.uri().query().is_some_and(asks_for_more);
        let probe = match request.uri().path() {
            "/livez" => Probe::Live,
            "/readyz" => Probe::Ready,
            "/startupz" => Probe::Startup,
            "/metrics" if is_question(request.method()) => return self.metrics(),
            "/metrics" => return only_questions(),
            _ => {
                return text(
                    StatusCode::NOT_FOUND,
                    "/livez, /readyz, /startupz and /metrics are here\n",
                );
            }
        };
        if !is_question(request.method()) {
            return only_questions();
        }
        // Whether the process is alive must not depend on anything that could be stuck.
        let seen = if probe == Probe::Live { None } else { self.look() };
        let checks = probe.checks(seen.as_ref().map(|seen| &seen.snapshot));
        let failing = checks.iter().filter(|check| check.condition == Condition::Failing);
        let failing: Vec<_> = failing.map(|check| check.name).collect();
        let (status, verdict) = if failing.is_empty() {
            (StatusCode::OK, "ok\n".to_owned())
        } else {
            let verdict = format!("failing: {}\n", failing.join(", "));
            (StatusCode::SERVICE_UNAVAILABLE, verdict)
        };
        let mut body = String::new();
        for check in checks.iter().filter(|_| is_verbose) {
            let sign = match check.condition {
                Condition::Good => '+',
                Condition::Degraded => '~',
                Condition::Failing => '-',
            };
            writeln!(body, "[{sign}] {}: {}", check.name, check.reason).expect("writing to a String cannot fail");
        }
        text(status, body + &verdict)
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let Some(seen) = self.look() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "failing: startup\n");
        };
        let metrics = seen.metrics.get_or_init(|| metrics::text(&seen.snapshot).into());
        let mut response = Response::new(Full::new(metrics.clone()));
        let content_type = HeaderValue::from_static(metrics::CONTENT_TYPE);
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        response
    }
}

/// Answers requests until `stop`, where there is a listener.
pub async fn serve(listener: Option<TcpListener>, admin: Arc<Admin>, stop: CancellationToken) {
    let Some(listener) = listener else { return };
    let service = service_fn(move |request| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(admin.answer(&request)) }
    });
    let patience = Patience {
        max_connections: MAX_CONNECTIONS,
        head_timeout: HEAD_TIMEOUT,
    };
    server::serve_with(listener, service, patience, stop).await;
}

/// `verbose`, with or without a value, as in Kubernetes.
fn asks_for_more(query: &str) -> bool {
    query.split('&').any(|part| part.split('=').next() == Some("verbose"))
}

fn is_question(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn only_questions() -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
