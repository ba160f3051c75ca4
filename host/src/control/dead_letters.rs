//! `/dead-letters`: the events that could not be delivered, and what an operator does with them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::routing::{get, post};
use http::{Response, StatusCode};
use serde_json::json;

use super::{answer, problem};
use crate::dead_letter::{Choice, JobReport, RepairError, Repairs};

/// Whoever asks for the list alone waits for it as long as for NATS.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn routes(repairs: Arc<Repairs>) -> Router {
    Router::new()
        .route("/dead-letters", get(list))
        .route("/dead-letters/redrive", post(redrive))
        .route("/dead-letters/purge", post(purge))
        .with_state(repairs)
}

async fn list(State(repairs): State<Arc<Repairs>>) -> Response<Body> {
    let mut body = json!(repairs.list(PATIENCE).await);
    body["job"] = json!(repairs.job());
    answer(StatusCode::OK, &body)
}

async fn redrive(State(repairs): State<Arc<Repairs>>, body: Bytes) -> Response<Body> {
    match chosen(&body) {
        Ok(choice) => begun(repairs.redrive(&choice).await),
        Err(refusal) => *refusal,
    }
}

async fn purge(State(repairs): State<Arc<Repairs>>, body: Bytes) -> Response<Body> {
    match chosen(&body) {
        Ok(choice) => begun(repairs.purge(&choice).await),
        Err(refusal) => *refusal,
    }
}

fn chosen(body: &[u8]) -> Result<Choice, Box<Response<Body>>> {
    serde_json::from_slice(body).map_err(|error| {
        let detail = format!("no choice of dead letters, as `{{\"ids\": [\"17\"]}}` or `{{\"all\": true}}`: {error}");
        Box::new(problem(StatusCode::BAD_REQUEST, &detail))
    })
}

fn begun(result: Result<JobReport, RepairError>) -> Response<Body> {
    let error = match result {
        Ok(job) => return answer(StatusCode::ACCEPTED, &json!(job)),
        Err(error) => error,
    };
    let status = match error {
        RepairError::NoChoice => StatusCode::BAD_REQUEST,
        RepairError::NothingFound => StatusCode::NOT_FOUND,
        RepairError::Busy => StatusCode::CONFLICT,
        RepairError::Ending | RepairError::Read(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    problem(status, &error.to_string())
}
