//! Who may use the control listener.
//!
//! Stands before every route. On loopback, whoever is in the pod or forwards a port may look and change; but a page in a
//! browser that can reach it may not. A page that has its own name point to 127.0.0.1 is known by `Host`, a page of
//! another origin by `Origin`, and a form cannot send a header of its own. With a token, nobody may without it.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::middleware::Next;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use secrecy::ExposeSecret;
use sha2::{Digest as _, Sha256};

use super::problem;
use crate::config::ControlConfig;
use crate::secret::Secret;

/// The header that every change needs.
const CHANGE_HEADER: &str = "distributor-control";

/// The rules.
#[derive(Debug, Clone)]
pub(super) struct Access(Arc<Option<Secret>>);

/// Why a request is refused.
pub(super) type Refusal = (StatusCode, &'static str);

impl Access {
    /// Those of the configuration.
    pub(super) fn new(config: &ControlConfig) -> Self {
        Self(Arc::new(config.token.clone()))
    }

    pub(super) fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
        let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let host: Option<Authority> = text(HOST.as_str()).and_then(|host| host.parse().ok());
        match &*self.0 {
            // Who has the token is nobody's page.
            Some(token) => check_token(token, text(AUTHORIZATION.as_str()))?,
            None if host.as_ref().is_some_and(is_loopback) => {}
            None => {
                return Err((
                    StatusCode::FORBIDDEN,
                    "the host must be localhost or a loopback address",
                ));
            }
        }
        if let Some(origin) = text(ORIGIN.as_str()) {
            let origin = origin.split_once("://").map(|(_, authority)| authority);
            if origin.is_none() || origin != host.as_ref().map(Authority::as_str) {
                return Err((StatusCode::FORBIDDEN, "pages of another origin have no access"));
            }
        }
        let is_change = !matches!(*method, Method::GET | Method::HEAD);
        if is_change && text(CHANGE_HEADER) != Some("1") {
            return Err((
                StatusCode::FORBIDDEN,
                "a change needs the header `Distributor-Control: 1`",
            ));
        }
        Ok(())
    }
}

/// Lets a request through to its route, or answers why not.
pub(super) async fn check(State(access): State<Access>, request: Request<Body>, next: Next) -> Response<Body> {
    match access.check(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err((status, detail)) => problem(status, detail),
    }
}

/// Digests are compared, so that the time it takes tells nothing of the token.
fn check_token(token: &Secret, given: Option<&str>) -> Result<(), Refusal> {
    let Ok(token) = token.current() else {
        return Err((
            StatusCode::SERVICE_UNAVAILABLE,
            "the token cannot be read (CONTROL_TOKEN_FILE)",
        ));
    };
    let given = given
        .and_then(|given| given.strip_prefix("Bearer "))
        .unwrap_or_default();
    if Sha256::digest(given) == Sha256::digest(token.value.expose_secret()) {
        Ok(())
    } else {
        Err((
            StatusCode::UNAUTHORIZED,
            "`Authorization: Bearer` with the token of CONTROL_TOKEN is needed",
        ))
    }
}

fn is_loopback(host: &Authority) -> bool {
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
