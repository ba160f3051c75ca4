//! The Keptn API as its clients here see it: where a service is, how to get in, and what an answer means.
//!
//! Used by everything that calls the control plane. It knows no request by name; who makes one does.

mod access;
mod client;
mod oauth;

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use url::Url;

pub use self::access::{Access, AccessError, Generation};
pub use self::oauth::OauthError;
use crate::config::{ApiConfig, ApiEndpoint, ApiService};
use crate::tls::Trust;

/// Of an answer with an error so much is shown.
const MAX_MESSAGE_CHARS: usize = 200;
/// Larger answers are not taken: a page of open events may be large, but not that large.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// A client of the Keptn API. Cheap to clone: connections and tokens are shared.
#[derive(Debug, Clone)]
pub struct KeptnApi {
    client: reqwest::Client,
    endpoint: ApiEndpoint,
    access: Access,
    timeout: Option<Duration>,
}

/// One request.
#[derive(Debug)]
pub struct Call {
    /// GET, POST, PUT.
    pub method: Method,
    /// Full URL; see [`KeptnApi::url`].
    pub url: Url,
    /// JSON, if any.
    pub body: Option<Bytes>,
}

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The API answered something else than 200 to 204.
    #[error("answered {status}: {message}")]
    Status {
        /// Its status.
        status: StatusCode,
        /// What it says.
        message: String,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// There was no answer.
    #[error("{0}")]
    Unreachable(String),
    /// The answer is not what it should be.
    #[error("the answer cannot be read: {0}")]
    Answer(String),
    /// No token can be had.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// The body of an answer with an error.
#[derive(Deserialize)]
struct Problem {
    message: String,
}

impl KeptnApi {
    /// A client that has not called anybody yet.
    ///
    /// # Errors
    /// When the client cannot be built.
    pub fn new(config: &ApiConfig) -> Result<Self, reqwest::Error> {
        let target = match &config.endpoint {
            ApiEndpoint::InCluster => None,
            ApiEndpoint::Remote(url) => Some(url),
        };
        Ok(Self {
            client: client::new(target, Trust::verifying(config.verify_certificates))?,
            endpoint: config.endpoint.clone(),
            access: Access::new(config),
            timeout: config.timeout,
        })
    }

    /// How to get in.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// URL of a path (without a slash before it) of a service.
    ///
    /// # Panics
    /// Never: any text can stand behind the base, which is a URL.
    pub fn url(&self, service: ApiService, path: &str) -> Url {
        let text = format!("{}{path}", self.endpoint.base(service));
        Url::parse(&text).expect("the base is a URL, and paths are ours")
    }

    /// Makes one call; the answer is the body of any status from 200 to 204. A token that is refused is asked for anew,
    /// once.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn call(&self, call: Call) -> Result<Bytes, CallError> {
        let mut may_renew = true;
        loop {
            let mut headers = HeaderMap::new();
            let token = self.access.authorize(&mut headers).await?;
            let answer = self.send(&call, headers).await;
            match answer {
                Err(CallError::Status { status, .. })
                    if status == StatusCode::UNAUTHORIZED && may_renew && self.access.refused(token) =>
                {
                    may_renew = false;
                }
                answer => return answer,
            }
        }
    }

    async fn send(&self, call: &Call, headers: HeaderMap) -> Result<Bytes, CallError> {
        let request = self.client.request(call.method.clone(), call.url.clone());
        let mut request = request
            .headers(headers)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(body) = &call.body {
            if body.is_empty() {
                // The client says nothing about an empty body; gateways may ask for its length.
                request = request.header(CONTENT_LENGTH, 0);
            }
            request = request.body(body.clone());
        }
        if let Some(timeout) = self.timeout {
            request = request.timeout(timeout);
        }
        let mut response = request.send().await.map_err(unreachable)?;
        let (status, retry_after) = (response.status(), retry_after(response.headers()));
        // At once where the length is known: growing would take up to three times as much for a moment.
        let length = response
            .content_length()
            .and_then(|length| usize::try_from(length).ok());
        let mut body = Vec::with_capacity(length.unwrap_or_default().min(MAX_ANSWER_BYTES));
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(CallError::Answer(format!("it has more than {MAX_ANSWER_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        if (200..=204).contains(&status.as_u16()) {
            return Ok(body.into());
        }
        Err(CallError::Status {
            status,
            message: self.access.without_tokens(message(&body)),
            retry_after,
        })
    }
}

/// What the API says about an error: JSON with a message, or text.
fn message(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => problem.message,
        Err(_) if body.is_empty() => "(no reason given)".to_owned(),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let text = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    text.take(MAX_MESSAGE_CHARS).collect()
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn unreachable(error: reqwest::Error) -> CallError {
    CallError::Unreachable(client::reason(error))
}
