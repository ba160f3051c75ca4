//! The control listener: what reveals or changes the state of the distributor, for whoever operates it.
//!
//! | request | answer |
//! |---|---|
//! | `GET /plugins` | the plugins in force, how they came about, and what was refused |
//! | `POST /plugins/reload` | reads `PLUGINS_DIR` again: 200, or 422 with everything that is wrong |
//! | `POST /plugins/rollback` | goes back to the plugins before: 200, or 409 if there are none |
//! | `POST /pause` | takes no events from now on; what keeps them keeps them |
//! | `POST /resume` | takes them again |
//! | `POST /drain` | does what SIGTERM does |
//! | `GET /log-level` | what is logged |
//! | `POST /log-level` | logs what the body says, as in `LOG_LEVEL`, until the next start |
//! | `POST /capture` | keeps events from now on, with what plugins say about them |
//! | `GET /capture` | those events, a line of JSON each; 404 if none are kept |
//! | `GET /capture/status` | how many that are |
//! | `DELETE /capture` | keeps none any more |
//! | `GET /` | the status page; `GET /status.html` is what is in it |
//! | `GET /status` | everything that can be seen: what is stuck and why, numbers, connections, what is tried again |
//! | `GET /subscriptions` | what is delivered, and where it comes from |
//! | `GET /events` | the last events with the path that each took |
//! | `GET /dead-letters` | the newest dead letters, without their events |
//! | `POST /dead-letters/redrive` | delivers them again: `{"ids": […]}` or `{"all": true}`; 202, and how far it is in the list |
//! | `POST /dead-letters/purge` | deletes them, likewise |
//!
//! Started by [`crate::app`]. Each part of the distributor that is looked at has its routes in a file of its own, as a
//! [`Router`] that [`router`] puts together; `access` stands before all of them. It must not know how a part does its
//! work.

mod access;
mod capture;
mod dead_letters;
mod page;
mod plugins;
mod status;
mod switches;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::middleware::from_fn_with_state;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::access::Access;
pub use self::switches::Switches;
use crate::config::ControlConfig;
use crate::plugins::PluginControl;
use crate::server::Patience;
use crate::status::Observer;

/// People and their tools, not services.
const MAX_CONNECTIONS: usize = 64;

/// All routes, behind the rules of access.
pub fn router(plugins: PluginControl, observer: Arc<Observer>, switches: Switches, config: &ControlConfig) -> Router {
    let access = Access::new(config);
    Router::new()
        .merge(self::status::routes(Arc::clone(&observer)))
        .merge(self::dead_letters::routes(Arc::clone(observer.repairs())))
        .merge(self::capture::routes(plugins.capture()))
        .merge(self::plugins::routes(plugins))
        .merge(self::switches::routes(switches))
        .fallback(async || {
            problem(
                StatusCode::NOT_FOUND,
                "there is nothing here; `GET /status` is, and the status page at `/`",
            )
        })
        .method_not_allowed_fallback(async || problem(StatusCode::METHOD_NOT_ALLOWED, "not with this method"))
        .layer(from_fn_with_state(access.clone(), access::check))
        // The page itself is empty for those who still have to say who they are.
        .merge(self::page::routes(observer, access))
}

/// Answers requests until `stop`, where there is a listener.
pub async fn serve(listener: Option<TcpListener>, router: Router, stop: CancellationToken) {
    if let Some(listener) = listener {
        let service = TowerToHyperService::new(router);
        crate::server::serve_with(listener, service, Patience::of(MAX_CONNECTIONS), stop).await;
    }
}

/// A result in JSON.
fn answer(status: StatusCode, body: &Value) -> Response<Body> {
    with_type(status, body, "application/json")
}

/// An error for people and programs (RFC 9457).
fn problem(status: StatusCode, detail: &str) -> Response<Body> {
    problem_with(status, detail, &[])
}

/// The same with everything that is wrong, one line each.
fn problem_with(status: StatusCode, detail: &str, problems: &[String]) -> Response<Body> {
    let mut body = json!({
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": detail,
    });
    if !problems.is_empty() {
        body["problems"] = json!(problems);
    }
    with_type(status, &body, "application/problem+json")
}

fn with_type(status: StatusCode, body: &Value, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{body:#}\n")));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests;
