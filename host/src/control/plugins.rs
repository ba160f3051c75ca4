//! `/plugins`: what is in force, reload, and rollback.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, post};
use http::{Response, StatusCode};
use serde_json::json;

use super::{answer, problem, problem_with};
use crate::plugins::{NotReplaced, PluginControl, Replaced};

pub(super) fn routes(plugins: PluginControl) -> Router {
    Router::new()
        .route("/plugins", get(show))
        .route("/plugins/reload", post(reload))
        .route("/plugins/rollback", post(roll_back))
        .with_state(plugins)
}

async fn show(State(plugins): State<PluginControl>) -> Response<Body> {
    answer(StatusCode::OK, &plugins.status())
}

async fn reload(State(plugins): State<PluginControl>) -> Response<Body> {
    replaced(plugins.reload().await)
}

async fn roll_back(State(plugins): State<PluginControl>) -> Response<Body> {
    replaced(plugins.roll_back().await)
}

fn replaced(result: Result<Replaced, NotReplaced>) -> Response<Body> {
    let error = match result {
        Ok(Replaced {
            generation,
            is_new,
            note,
        }) => {
            let body = json!({"generation": generation, "replaced": is_new, "note": note});
            return answer(StatusCode::OK, &body);
        }
        Err(error) => error,
    };
    let detail = error.to_string();
    match error {
        NotReplaced::Refused { problems, .. } => problem_with(StatusCode::UNPROCESSABLE_ENTITY, &detail, &problems),
        NotReplaced::NoDirectory | NotReplaced::NoPrevious => problem(StatusCode::CONFLICT, &detail),
        NotReplaced::Ending => problem(StatusCode::SERVICE_UNAVAILABLE, &detail),
    }
}
