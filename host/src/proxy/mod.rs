//! The API proxy: what the service next to the distributor asks of the control plane, with the token that lets it in.
//!
//! Called by [`crate::server`] for every path that is not its own. Nothing is stored: bodies go through piece by piece, and
//! who goes away ends the request at the other side. It must not know events.

mod headers;
mod streamed;
mod target;

use std::error::Error as _;
use std::time::Duration;

use http::header::PROXY_AUTHORIZATION;
use http::uri::InvalidUri;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use self::streamed::StreamError;
pub use self::streamed::Streamed;
use self::target::{Target, Targets};
use crate::config::{ApiConfig, ServerConfig};
use crate::connect::{Connector, Proxies};
use crate::keptn_api::{Access, AccessError};
use crate::tls::{self, Trust};

/// Time that a client has between two pieces of its body.
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);
/// Idle connections are given up before most servers close theirs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(55);
/// As many as a busy service uses at the same time; with fewer, a peak would close connections that it needs again.
const MAX_IDLE_CONNECTIONS: usize = 256;

/// The way to the control plane.
#[derive(Debug)]
pub struct Proxy {
    client: Client<HttpsConnector<Connector>, Streamed>,
    targets: Targets,
    access: Access,
    max_body_bytes: Option<usize>,
    timeout: Option<Duration>,
}

/// Why a request was not answered by the control plane.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// No service has this path.
    #[error(
        "{0} is no path of the distributor; the API proxy knows /mongodb-datastore, /resource-service and /controlPlane"
    )]
    Unmapped(String),
    /// The URL would not be one.
    #[error("the path cannot be used: {0}")]
    Path(http::Error),
    /// The client sends more than it may.
    #[error("the body is larger than {0} bytes (API_PROXY_MAX_PAYLOAD_BYTES_KB)")]
    TooLarge(usize),
    /// The client does not send what it announced.
    #[error("{0}")]
    Client(StreamError),
    /// No token can be had.
    #[error("there is no token for the Keptn API: {0}")]
    Access(#[from] AccessError),
    /// Nobody there.
    #[error("{host} cannot be reached: {reason}")]
    Unreachable {
        /// The service.
        host: String,
        /// Why.
        reason: String,
    },
    /// It is there, and does not answer.
    #[error("{host} gave no answer: {reason}")]
    Broken {
        /// The service.
        host: String,
        /// What it did instead.
        reason: String,
    },
    /// It takes too long.
    #[error("{host} gave no answer within {} (API_PROXY_HTTP_TIMEOUT)", humantime::format_duration(*after))]
    Timeout {
        /// The service.
        host: String,
        /// The time.
        after: Duration,
    },
}

/// A request without its body.
#[derive(Clone)]
struct Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl ForwardError {
    /// What the client is told.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unmapped(_) => StatusCode::NOT_FOUND,
            Self::Path(_) | Self::Client(StreamError::Broken(_) | StreamError::TooLarge) => StatusCode::BAD_REQUEST,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Client(StreamError::Silent(_)) => StatusCode::REQUEST_TIMEOUT,
            Self::Access(_) | Self::Unreachable { .. } | Self::Broken { .. } => StatusCode::BAD_GATEWAY,
            Self::Timeout { .. } => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}

impl Proxy {
    /// Opens no connection.
    ///
    /// # Errors
    /// When the endpoint of the Keptn API cannot be used.
    pub fn new(server: &ServerConfig, api: &ApiConfig, access: Access) -> Result<Self, InvalidUri> {
        let proxies = Proxies::from_environment();
        let trust = Trust::verifying(api.verify_certificates);
        let connector = tls::connector(Connector::new(proxies.clone()), trust);
        Ok(Self {
            targets: Targets::new(&api.endpoint, &server.proxy_path, &proxies)?,
            client: Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
                .build(connector),
            access,
            max_body_bytes: server.max_body_bytes,
            timeout: api.timeout,
        })
    }

    /// Sends a request on and gives back the answer, as soon as that begins.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn forward(&self, request: Request<Incoming>) -> Result<Response<Streamed>, ForwardError> {
        let (parts, body) = request.into_parts();
        let length = body.size_hint().exact();
        let is_chunked = length.is_none();
        let body = Streamed::new(body, self.max_body_bytes, Some(CLIENT_PATIENCE));
        // Who asks whether to send a body has not sent it.
        let awaits_permission = parts.headers.contains_key(http::header::EXPECT);
        let Some((target, rest)) = self.targets.find(parts.uri.path()) else {
            if !awaits_permission {
                body.refuse().await;
            }
            return Err(ForwardError::Unmapped(parts.uri.path().to_owned()));
        };
        if let (Some(length), Some(limit)) = (length, self.max_body_bytes)
            && length > limit as u64
        {
            if !awaits_permission {
                body.refuse().await;
            }
            return Err(ForwardError::TooLarge(limit));
        }
        let mut head = Head {
            uri: target.uri(rest, parts.uri.query()).map_err(ForwardError::Path)?,
            method: parts.method,
            headers: parts.headers,
        };
        headers::prepare_request(&mut head.headers, is_chunked);
        if let Some(authorization) = &target.proxy_authorization {
            head.headers.insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        let exchange = self.exchange(target, head, body);
        let Some(after) = self.timeout else {
            return exchange.await;
        };
        tokio::time::timeout(after, exchange).await.unwrap_or_else(|_| {
            Err(ForwardError::Timeout {
                host: target.host(),
                after,
            })
        })
    }

    async fn exchange(&self, target: &Target, head: Head, body: Streamed) -> Result<Response<Streamed>, ForwardError> {
        // What has no body can be sent once more, whatever became of the first.
        let mut again = body.is_end_stream().then(|| head.clone());
        let (mut head, mut body) = (head, body);
        loop {
            let is_safe = head.method.is_safe();
            let token = self.access.authorize(&mut head.headers).await?;
            let mut request = Request::new(body);
            *request.method_mut() = head.method;
            *request.uri_mut() = head.uri;
            *request.headers_mut() = head.headers;
            let answer = self.client.request(request).await;
            let is_retried = match &answer {
                Ok(answer) => answer.status() == StatusCode::UNAUTHORIZED && self.access.refused(token),
                // Servers close idle connections at any time.
                Err(error) => is_safe && !error.is_connect(),
            };
            match again.take().filter(|_| is_retried) {
                Some(once_more) => (head, body) = (once_more, Streamed::nothing()),
                None => return self.answer(target, answer),
            }
        }
    }

    fn answer(
        &self,
        target: &Target,
        answer: Result<Response<Incoming>, ClientError>,
    ) -> Result<Response<Streamed>, ForwardError> {
        let mut answer = answer.map_err(|error| self.explained(target, &error))?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(ForwardError::Broken {
                host: target.host(),
                reason: "it switched to another protocol, which nobody asked for".to_owned(),
            });
        }
        headers::remove_hop_by_hop(answer.headers_mut());
        // That of our own connection to the client.
        *answer.version_mut() = Version::HTTP_11;
        Ok(answer.map(|body| Streamed::new(body, None, self.timeout)))
    }

    fn explained(&self, target: &Target, error: &ClientError) -> ForwardError {
        let mut reasons = Vec::new();
        let mut source = error.source();
        while let Some(error) = source {
            // Ours, in the middle of the client's: the client sent something that cannot be sent on.
            match error.downcast_ref::<StreamError>() {
                Some(StreamError::TooLarge) => {
                    return ForwardError::TooLarge(self.max_body_bytes.unwrap_or(usize::MAX));
                }
                Some(StreamError::Silent(patience)) => return ForwardError::Client(StreamError::Silent(*patience)),
                Some(StreamError::Broken(_)) | None => reasons.push(error.to_string()),
            }
            source = error.source();
        }
        reasons.dedup();
        let (host, reason) = (target.host(), reasons.join(": "));
        if error.is_connect() {
            ForwardError::Unreachable { host, reason }
        } else {
            ForwardError::Broken { host, reason }
        }
    }
}
