//! One attempt: POST an event to the service, and say how it went.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, LOCATION, PROXY_AUTHORIZATION, RETRY_AFTER, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::percent_decode_str;

use super::body::{Body, Outgoing};
use crate::config::{DeliveryConfig, OnTimeout};
use crate::connect::{Connector, Proxies};
use crate::metrics::AttemptResult;
use crate::tls::{self, Trust};
use crate::trace::TraceContext;

const CONTENT_TYPE_STRUCTURED: HeaderValue = HeaderValue::from_static("application/cloudevents+json");
const OUR_NAME: HeaderValue = HeaderValue::from_static(concat!("distributor/", env!("CARGO_PKG_VERSION")));
/// 1 for the first attempt; what is sent while the service is not ready does not count.
const ATTEMPT: HeaderName = HeaderName::from_static("distributor-attempt");
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections are given up before most servers close theirs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(55);
/// The answer's body is read so that the connection can be used again, but not without end.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Nor for ever.
const ANSWER_BODY_TIMEOUT: Duration = Duration::from_secs(2);
/// Of an error's body, this much goes to the log.
const MAX_EXCERPT_BYTES: usize = 256;

/// The service that events are delivered to.
#[derive(Debug)]
pub(crate) struct Recipient {
    client: Connections,
    uri: Uri,
    /// User and password of its URL.
    authorization: Option<HeaderValue>,
    /// Whether a proxy of the environment gets the requests.
    is_proxied: bool,
    /// What it wants to see.
    proxy_authorization: Option<HeaderValue>,
    timeout: Duration,
    needs_to_know_what_was_sent: bool,
}

/// TLS costs memory, and a service next to the distributor hardly ever has it, nor a proxy before it.
#[derive(Debug)]
enum Connections {
    Plain(Client<HttpConnector, Body>),
    Far(Client<HttpsConnector<Connector>, Body>),
}

impl Connections {
    fn request(&self, request: Request<Body>) -> ResponseFuture {
        match self {
            Self::Plain(client) => client.request(request),
            Self::Far(client) => client.request(request),
        }
    }
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// Nobody there.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connection broke.
    #[error("the connection broke before the answer was complete: {0}")]
    Broken(String),
    /// No answer in time.
    #[error("no answer within {}", humantime::format_duration(*after))]
    Timeout {
        /// The time.
        after: Duration,
        /// Whether the service had all of the request.
        was_sent: bool,
    },
    /// Another status than 2xx.
    #[error("answered {status}{}{excerpt}", if excerpt.is_empty() { "" } else { ": " })]
    Status {
        /// The status.
        status: StatusCode,
        /// Start of the answer's body, fit for a log line.
        excerpt: String,
        /// The pause that the service asked for.
        retry_after: Option<Duration>,
    },
}

impl AttemptError {
    /// As it is counted.
    pub fn kind(&self) -> AttemptResult {
        match self {
            Self::Connect(_) => AttemptResult::Refused,
            Self::Broken(_) => AttemptResult::Broken,
            Self::Timeout { .. } => AttemptResult::Timeout,
            Self::Status { status, .. } => AttemptResult::of(*status),
        }
    }

    /// The pause that the service asked for.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The status that the service answered.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

impl Recipient {
    /// The service of the configuration. Opens no connection.
    pub(crate) fn new(config: &DeliveryConfig) -> Self {
        let mut client = Client::builder(TokioExecutor::new());
        client
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(config.concurrency);
        let proxies = Proxies::from_environment();
        let proxy_authorization = proxies.authorization(&config.recipient);
        let is_proxied = proxies.stand_before(&config.recipient);
        let is_far = config.recipient.scheme_str() == Some("https") || is_proxied;
        let client = if is_far {
            let trust = Trust::verifying(config.verify_certificates);
            Connections::Far(client.build(tls::connector(Connector::new(proxies), trust)))
        } else {
            let mut connector = HttpConnector::new();
            // Requests are written whole, so that there is nothing to wait for.
            connector.set_nodelay(true);
            connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
            Connections::Plain(client.build(connector))
        };
        let (uri, authorization) = taken_apart(&config.recipient);
        Self {
            client,
            uri,
            authorization,
            is_proxied,
            proxy_authorization,
            timeout: config.timeout,
            needs_to_know_what_was_sent: config.on_timeout == OnTimeout::Accept,
        }
    }

    /// Sends an event once, and tells the service which attempt this is, and which step of which trace.
    ///
    /// # Errors
    /// Whatever is not an answer with a status from 200 to 299.
    pub(crate) async fn deliver(
        &self,
        event: &Outgoing,
        subscription_id: Option<&str>,
        attempt: u32,
        trace: Option<&TraceContext>,
    ) -> Result<StatusCode, AttemptError> {
        let is_sent = self
            .needs_to_know_what_was_sent
            .then(|| Arc::new(AtomicBool::new(false)));
        let body = || event.body(subscription_id).telling(is_sent.clone());
        let answer = tokio::time::timeout(self.timeout, self.exchange(body, attempt, trace))
            .await
            .unwrap_or_else(|_| {
                Err(AttemptError::Timeout {
                    after: self.timeout,
                    was_sent: is_sent.is_none_or(|is_sent| is_sent.load(Ordering::Relaxed)),
                })
            })?;
        let (head, body) = answer.into_parts();
        // The status is the answer: a body that does not end must not make it look as if there were none. So it has a time
        // of its own.
        let start = tokio::time::timeout(ANSWER_BODY_TIMEOUT, read_start(body)).await;
        let start = start.unwrap_or_default();
        if head.status.is_success() {
            // The service has said that it took the event. What happens to the rest of its answer changes nothing.
            return Ok(head.status);
        }
        if self.is_proxied && head.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
            // It says nothing about the event, which never reached the service.
            let reason = "the proxy (HTTP_PROXY) answered 407: it wants other credentials";
            return Err(AttemptError::Connect(reason.to_owned()));
        }
        Err(AttemptError::Status {
            status: head.status,
            excerpt: excerpt(&start),
            retry_after: head
                .headers
                .get(RETRY_AFTER)
                .and_then(|value| pause_asked_for(value, SystemTime::now())),
        })
    }

    /// The answer, of which the body is not read.
    async fn exchange(
        &self,
        body: impl Fn() -> Body,
        attempt: u32,
        trace: Option<&TraceContext>,
    ) -> Result<Response<Incoming>, AttemptError> {
        let answer = self.request(self.uri.clone(), body(), attempt, trace).await?;
        match self.moved_to(&answer) {
            Some(uri) => self.request(uri, body(), attempt, trace).await,
            None => Ok(answer),
        }
    }

    async fn request(
        &self,
        uri: Uri,
        body: Body,
        attempt: u32,
        trace: Option<&TraceContext>,
    ) -> Result<Response<Incoming>, AttemptError> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, CONTENT_TYPE_STRUCTURED);
        headers.insert(USER_AGENT, OUR_NAME);
        headers.insert(ATTEMPT, HeaderValue::from(attempt));
        if let Some(trace) = trace {
            trace.put_into(headers);
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        if let Some(authorization) = &self.proxy_authorization {
            headers.insert(PROXY_AUTHORIZATION, authorization.clone());
        }
        self.client.request(request).await.map_err(|error| {
            let text = with_sources(&error);
            if error.is_connect() {
                AttemptError::Connect(text)
            } else {
                AttemptError::Broken(text)
            }
        })
    }

    /// Where a 307 or 308 leads, if that is on the same server: those keep method and body (RFC 9110, section 15.4).
    fn moved_to(&self, answer: &Response<Incoming>) -> Option<Uri> {
        let is_redirect = matches!(
            answer.status(),
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT
        );
        let location = answer.headers().get(LOCATION).filter(|_| is_redirect)?;
        let base = url::Url::parse(&self.uri.to_string()).ok()?;
        let target = base.join(location.to_str().ok()?).ok()?;
        let same_origin = target.origin() == base.origin();
        let uri = target.as_str().parse().ok().filter(|_| same_origin)?;
        Some(taken_apart(&uri).0)
    }
}

/// The URI without user and password, which would stand in lines of the client, and what they make as a header: the
/// original sends it, too.
fn taken_apart(uri: &Uri) -> (Uri, Option<HeaderValue>) {
    let userinfo = uri
        .authority()
        .and_then(|authority| authority.as_str().rsplit_once('@'));
    let (Some((userinfo, host)), Some(scheme)) = (userinfo, uri.scheme_str()) else {
        return (uri.clone(), None);
    };
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let Ok(plain) = format!("{scheme}://{host}{path}").parse() else {
        return (uri.clone(), None);
    };
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let pair = [user, password].map(|text| percent_decode_str(text).collect::<Vec<u8>>());
    let encoded = BASE64_STANDARD.encode(pair.join(&b':'));
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).expect("base64 is plain ASCII");
    value.set_sensitive(true);
    (plain, Some(value))
}

/// The value of `Retry-After`: seconds or a date (RFC 9110, section 10.2.3). What is neither asks for nothing.
fn pause_asked_for(value: &HeaderValue, now: SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number {
        // What is too large to be counted is certainly long.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

async fn read_start(mut body: Incoming) -> Bytes {
    let mut start = Bytes::new();
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        read += data.len();
        if start.is_empty() {
            start = data;
        }
        if read > MAX_ANSWER_BYTES {
            // Dropping the body closes the connection.
            break;
        }
    }
    start
}

fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_EXCERPT_BYTES)]);
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect::<String>()
        .trim()
        .to_owned()
}

/// The message with what is behind it: hyper's own says only `client error (Connect)`.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_by_date() {
        let now = httpdate::parse_http_date("Sun, 22 Nov 2026 18:00:00 GMT").unwrap();
        let check = |value: &'static str, expected: Option<u64>| {
            let pause = pause_asked_for(&HeaderValue::from_static(value), now);
            assert_eq!(pause, expected.map(Duration::from_secs), "{value:?}");
        };
        check("0", Some(0));
        check(" 7 ", Some(7));
        check("31536000", Some(31_536_000));
        check("99999999999999999999999", Some(u64::MAX));
        check("Sun, 22 Nov 2026 18:00:30 GMT", Some(30));
        check("Sun, 22 Nov 2026 17:00:00 GMT", Some(0));
        check("-1", None);
        check("+1", None);
        check("1.5", None);
        check("soon", None);
        check("", None);
    }
}
