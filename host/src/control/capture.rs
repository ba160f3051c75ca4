//! `/capture`: the last events with what plugins said about them.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::routing::get;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde_json::json;

use super::{answer, problem};
use crate::plugins::{Capture, CaptureOptions};

const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

pub(super) fn routes(capture: Arc<Capture>) -> Router {
    Router::new()
        .route("/capture", get(show).post(start).delete(stop))
        .route("/capture/status", get(status))
        .with_state(capture)
}

async fn show(State(capture): State<Arc<Capture>>) -> Response<Body> {
    if !capture.status().capturing {
        return problem(StatusCode::NOT_FOUND, "no events are captured; `POST /capture` begins");
    }
    let lines = capture.lines().into_iter().map(Ok::<_, Infallible>);
    let mut response = Response::new(Body::from_stream(stream::iter(lines)));
    response.headers_mut().insert(CONTENT_TYPE, NDJSON);
    response
}

async fn start(State(capture): State<Arc<Capture>>, body: Bytes) -> Response<Body> {
    let options = if body.is_empty() {
        CaptureOptions::default()
    } else {
        match serde_json::from_slice(&body) {
            Ok(options) => options,
            Err(error) => {
                return problem(
                    StatusCode::BAD_REQUEST,
                    &format!("not the options of a capture: {error}"),
                );
            }
        }
    };
    if let Err(error) = capture.start(options) {
        return problem(StatusCode::BAD_REQUEST, &error.to_string());
    }
    tracing::warn!("events are captured from now on, with their data, until `DELETE /capture`");
    status(State(capture)).await
}

async fn stop(State(capture): State<Arc<Capture>>) -> Response<Body> {
    capture.stop();
    tracing::info!("events are no longer captured");
    status(State(capture)).await
}

async fn status(State(capture): State<Arc<Capture>>) -> Response<Body> {
    answer(StatusCode::OK, &json!(capture.status()))
}
