//! What a recipient may do with a request.
//!
//! Called by tests, in their scripts, and by `recipient`, which does it. It must not know requests.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;

/// What the recipient does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Answers with this status and these headers, and no body.
    Status(u16, Vec<(String, String)>),
    /// Answers with this status, this content type and this body.
    Body(u16, String, Bytes),
    /// Waits, then does the other.
    Delay(Duration, Box<Reply>),
    /// Never answers, and keeps the connection open.
    Hang,
    /// Breaks the connection off with a TCP reset.
    Reset,
}

impl Reply {
    /// A status without headers.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Status(status, Vec::new())
    }

    /// A status with JSON.
    #[must_use]
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::Body(status, "application/json".to_owned(), body.to_string().into())
    }

    /// This, a while later.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self::Delay(delay, Box::new(self))
    }
}

/// The answer of a [`Reply::Status`] or a [`Reply::Body`].
pub(crate) fn response(status: u16, headers: &[(String, String)], body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response
        .body(Full::new(body))
        .expect("a script gives statuses and headers that HTTP has")
}
