//! The Keptn API as its clients here see it: where a service is, how to get in, and what an answer means.
//!
//! Used by everything that calls the control plane. It knows no request by name; who makes one does.

mod access;
mod client;
mod list;
mod oauth;

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use url::Url;

pub use self::access::{Access, AccessError, Generation};
pub(crate) use self::client::reason;
pub(crate) use self::list::{ListError, ListReader};
pub use self::oauth::{OauthError, OauthReport};
use crate::config::{ApiConfig, ApiEndpoint, ApiService};
use crate::tls::Trust;

/// Of an answer with an error so much is shown.
const MAX_MESSAGE_CHARS: usize = 200;
/// Larger answers are not taken in one piece.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Nor in pieces: a list of open events may be large, but not that large.
const MAX_STREAMED_BYTES: u64 = 1 << 30;
/// Of an answer with an error so much is read.
const MAX_PROBLEM_BYTES: usize = 64 << 10;

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

/// An answer with a status from 200 to 204, of which the body is still to be read.
#[derive(Debug)]
pub struct Answer {
    response: reqwest::Response,
    n_read: u64,
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
        self.open(call).await?.whole().await
    }

    /// As [`Self::call`], for an answer that may be too large to be held in memory.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn open(&self, call: Call) -> Result<Answer, CallError> {
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

    async fn send(&self, call: &Call, headers: HeaderMap) -> Result<Answer, CallError> {
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
        let response = request.send().await.map_err(unreachable)?;
        let (status, retry_after) = (response.status(), retry_after(response.headers()));
        let answer = Answer { response, n_read: 0 };
        if (200..=204).contains(&status.as_u16()) {
            return Ok(answer);
        }
        let problem = answer.start(MAX_PROBLEM_BYTES).await?;
        Err(CallError::Status {
            status,
            message: self.access.without_tokens(message(&problem)),
            retry_after,
        })
    }
}

impl Answer {
    /// The next piece of the body; none at its end.
    ///
    /// # Errors
    /// When the connection breaks, or the body is far too large.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, CallError> {
        let chunk = self.response.chunk().await.map_err(unreachable)?;
        self.n_read += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if self.n_read > MAX_STREAMED_BYTES {
            return Err(too_large(MAX_STREAMED_BYTES));
        }
        Ok(chunk)
    }

    /// All of it.
    async fn whole(self) -> Result<Bytes, CallError> {
        let body = self.start(MAX_ANSWER_BYTES + 1).await?;
        if body.len() > MAX_ANSWER_BYTES {
            return Err(too_large(MAX_ANSWER_BYTES as u64));
        }
        Ok(body)
    }

    /// What fits into so many bytes.
    async fn start(mut self, n_bytes: usize) -> Result<Bytes, CallError> {
        // At once where the length is known: growing would take up to three times as much for a moment.
        let length = self.response.content_length();
        let length = length.and_then(|length| usize::try_from(length).ok());
        let mut body = Vec::with_capacity(length.unwrap_or_default().min(n_bytes));
        while body.len() < n_bytes
            && let Some(chunk) = self.chunk().await?
        {
            body.extend_from_slice(&chunk[..chunk.len().min(n_bytes - body.len())]);
        }
        Ok(body.into())
    }
}

fn too_large(limit: u64) -> CallError {
    CallError::Answer(format!("it has more than {limit} bytes"))
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
