//! `/status`, `/subscriptions` and `/events`: what can be seen of the distributor.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use http::{Response, StatusCode};
use serde_json::json;

use super::answer;
use crate::status::Observer;

pub(super) fn routes(observer: Arc<Observer>) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/subscriptions", get(subscriptions))
        .route("/events", get(events))
        .with_state(observer)
}

async fn status(State(observer): State<Arc<Observer>>) -> Response<Body> {
    answer(StatusCode::OK, &json!(observer.status().await))
}

async fn subscriptions(State(observer): State<Arc<Observer>>) -> Response<Body> {
    answer(StatusCode::OK, &json!({"subscriptions": observer.subscriptions()}))
}

async fn events(State(observer): State<Arc<Observer>>) -> Response<Body> {
    let recent = observer.recent();
    answer(StatusCode::OK, &json!({"events": recent.list()}))
}
