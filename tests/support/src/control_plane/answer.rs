//! Answers in the forms of the control plane's services.
//!
//! Called by everything that answers a request. It must not know what was asked.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CONNECTION, CONTENT_TYPE, SERVER};
use serde_json::{Value, json};

/// The type that services written with gin give their answers.
const JSON_OF_GIN: &str = "application/json; charset=utf-8";
/// The type that services generated from an `OpenAPI` document give theirs, with a line end behind the body.
const JSON_OF_OPENAPI: &str = "application/json";

/// Status, headers, body.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Answer {
    /// Of the shipyard controller and the resource service.
    pub(super) fn json(status: u16, value: &Value) -> Self {
        Self::text(status, JSON_OF_GIN, value.to_string())
    }

    /// As [`json`](Self::json), written already.
    pub(super) fn written_json(status: u16, body: String) -> Self {
        Self::text(status, JSON_OF_GIN, body)
    }

    /// Of the API service and the datastore.
    pub(super) fn openapi(status: u16, value: &Value) -> Self {
        Self::text(status, JSON_OF_OPENAPI, format!("{value}\n"))
    }

    pub(super) fn error(status: u16, message: &str) -> Self {
        Self::json(status, &json!({ "code": status, "message": message }))
    }

    pub(super) fn openapi_error(status: u16, code: u16, message: &str) -> Self {
        Self::openapi(status, &json!({ "code": code, "message": message }))
    }

    /// Of the gateway, for whom it does not let in. The blank behind the comma is the gateway's.
    pub(super) fn unauthenticated() -> Self {
        let body = r#"{"code":401, "message":"unauthenticated or invalid credentials"}"#;
        Self::text(401, "text/plain", body)
    }

    pub(super) fn text(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![(CONTENT_TYPE.to_string(), content_type.to_owned())],
            body: body.into(),
        }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self::other(status, Vec::new(), Bytes::new())
    }

    pub(super) fn other(status: u16, headers: Vec<(String, String)>, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers,
            body: body.into(),
        }
    }

    pub(super) fn into_response(self, is_remote: bool) -> Response<Full<Bytes>> {
        let mut response = Response::builder().status(self.status);
        if is_remote {
            response = response.header(SERVER, "nginx").header(CONNECTION, "keep-alive");
        }
        for (name, value) in self.headers {
            response = response.header(name, value);
        }
        response
            .body(Full::new(self.body))
            .expect("statuses and headers are such that HTTP has")
    }
}
