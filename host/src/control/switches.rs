//! `/pause`, `/resume`, `/drain` and `/log-level`: what an operator may want of a distributor that runs.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::routing::{get, post};
use http::{Response, StatusCode};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{answer, problem};
use crate::delivery::Deliveries;
use crate::telemetry::LogLevel;

/// What can be switched.
#[derive(Debug, Clone)]
pub struct Switches {
    /// What is being delivered.
    pub deliveries: Arc<Deliveries>,
    /// Ends the distributor.
    pub shutdown: CancellationToken,
    /// What is logged.
    pub log_level: LogLevel,
}

pub(super) fn routes(switches: Switches) -> Router {
    Router::new()
        .route("/pause", post(pause))
        .route("/resume", post(resume))
        .route("/drain", post(drain))
        .route("/log-level", get(log_level).post(set_log_level))
        .with_state(switches)
}

async fn pause(State(switches): State<Switches>) -> Response<Body> {
    if switches.shutdown.is_cancelled() {
        return problem(StatusCode::CONFLICT, "the distributor is shutting down");
    }
    if switches.deliveries.pause().set(true) {
        tracing::warn!("paused by an operator: no events are taken until `POST /resume`, or the next start");
    }
    let note = "streams and the control plane keep events until `POST /resume`; what core NATS sends is kept in memory, as \
                far as there is room; events that were taken before are delivered";
    let pending = switches.deliveries.pending();
    answer(
        StatusCode::OK,
        &json!({"paused": true, "pending": pending, "note": note}),
    )
}

async fn resume(State(switches): State<Switches>) -> Response<Body> {
    if switches.deliveries.pause().set(false) {
        tracing::info!("resumed by an operator: events are taken again");
    }
    answer(StatusCode::OK, &json!({"paused": false}))
}

/// What SIGTERM does.
async fn drain(State(switches): State<Switches>) -> Response<Body> {
    if !switches.shutdown.is_cancelled() {
        tracing::info!("shutdown asked for by `POST /drain`");
        switches.shutdown.cancel();
    }
    let pending = switches.deliveries.pending();
    answer(StatusCode::ACCEPTED, &json!({"draining": true, "pending": pending}))
}

async fn log_level(State(switches): State<Switches>) -> Response<Body> {
    answer(StatusCode::OK, &json!({"log_level": switches.log_level.current()}))
}

async fn set_log_level(State(switches): State<Switches>, body: Bytes) -> Response<Body> {
    let before = switches.log_level.current();
    let set = std::str::from_utf8(&body)
        .map_err(|_| "the body is not text".to_owned())
        .and_then(|text| switches.log_level.set(text.trim()));
    if let Err(error) = set {
        return problem(StatusCode::BAD_REQUEST, &error);
    }
    let log_level = switches.log_level.current();
    // Where it is said depends on the level; to the one who asked it is said in any case.
    tracing::warn!(
        before,
        log_level,
        "the log level was changed by an operator, until the next start"
    );
    answer(StatusCode::OK, &json!({"log_level": log_level, "before": before}))
}
