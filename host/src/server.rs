//! The listener for the service next to the distributor: `/health`, the event path, and nothing else yet.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::json;

use crate::config::ServerConfig;
use crate::ingress::Ingress;

/// Time a client has to send its request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// What a client is told to wait while the control plane is away and says nothing itself.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

#[derive(Clone)]
struct Shared {
    ingress: Arc<Ingress>,
    max_body_bytes: Option<usize>,
}

/// The routes. As in the original, every method is taken, and success has an empty body.
pub fn router(config: &ServerConfig, ingress: Arc<Ingress>) -> Router {
    let shared = Shared {
        ingress,
        max_body_bytes: config.max_body_bytes,
    };
    Router::new()
        .route("/health", any(|| async { StatusCode::OK }))
        .route(&config.event_path, any(accept_event))
        .fallback(|request: Request| async move {
            let detail = format!("{} is not a path of the distributor", request.uri().path());
            problem(StatusCode::NOT_FOUND, &detail)
        })
        .with_state(shared)
}

async fn accept_event(State(shared): State<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let limit = shared.max_body_bytes.unwrap_or(usize::MAX);
    let body = match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
            let detail = format!("the body is larger than {limit} bytes (API_PROXY_MAX_PAYLOAD_BYTES_KB)");
            return problem(StatusCode::PAYLOAD_TOO_LARGE, &detail);
        }
        Ok(Err(error)) => return problem(StatusCode::BAD_REQUEST, &format!("the body cannot be read: {error}")),
        Err(_) => return problem(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
    };
    match shared.ingress.accept(&head.headers, body).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => {
            let status = error.status();
            tracing::warn!(status = status.as_u16(), %error, "event of the service not taken");
            let mut answer = problem(status, &error.to_string());
            if status == StatusCode::SERVICE_UNAVAILABLE {
                let retry_after = error
                    .retry_after()
                    .map(|pause| HeaderValue::from(pause.as_secs().max(1)));
                answer
                    .headers_mut()
                    .insert(RETRY_AFTER, retry_after.unwrap_or(RETRY_AFTER_SECONDS));
            }
            answer
        }
    }
}

/// An error for people and programs (RFC 9457).
fn problem(status: StatusCode, detail: &str) -> Response {
    let body = json!({
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": detail,
    });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
