//! The listener for the service next to the distributor: `/health`, the event path, and below another one the API proxy.
//!
//! Called by [`crate::app`]. Who is slow or silent is given up after a while, so that nobody holds connections or memory
//! for ever.

mod patient;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::patient::Patient;
use crate::config::ServerConfig;
use crate::ingress::Ingress;
use crate::metrics::{PublishResult, StatusClass};
use crate::proxy::{ForwardError, Proxy, Streamed};

/// Time a client has to send its request body to the event path.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Time until a request's head is complete, or until the next one begins. Clients give up idle connections earlier (90 s
/// in Go): if both did at the same moment, a request could be lost.
const HEAD_TIMEOUT: Duration = Duration::from_mins(2);
/// Time without the client taking any byte of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);
/// More wait until one ends.
const MAX_CONNECTIONS: usize = 1024;
/// Pause when no connection can be taken, which has no cause that goes away at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What a client is told to wait while NATS is away.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

type AnswerBody = Either<Full<Bytes>, Streamed>;

/// What is behind the listener.
#[derive(Debug)]
pub struct Routes {
    ingress: Arc<Ingress>,
    proxy: Proxy,
    event_path: String,
    max_body_bytes: Option<usize>,
}

impl Routes {
    /// Those of the configuration.
    pub fn new(config: &ServerConfig, ingress: Arc<Ingress>, proxy: Proxy) -> Self {
        Self {
            ingress,
            proxy,
            event_path: config.event_path.clone(),
            max_body_bytes: config.max_body_bytes,
        }
    }

    /// As in the original, every method is taken, and success has an empty body.
    async fn answer(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        let path = request.uri().path();
        if path == "/health" {
            empty(StatusCode::OK)
        } else if path == self.event_path {
            self.accept_event(request).await
        } else {
            self.forward(request).await
        }
    }

    async fn accept_event(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        let answer = self.accept(request).await;
        let counters = &self.ingress.counters;
        counters.publish_requests.increment(PublishResult::of(answer.status()));
        answer
    }

    async fn accept(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        let (head, body) = request.into_parts();
        let limit = self.max_body_bytes.unwrap_or(usize::MAX);
        let body = match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => {
                let detail = format!("the body is larger than {limit} bytes (API_PROXY_MAX_PAYLOAD_BYTES_KB)");
                return problem(StatusCode::PAYLOAD_TOO_LARGE, &detail);
            }
            Ok(Err(error)) => return problem(StatusCode::BAD_REQUEST, &format!("the body cannot be read: {error}")),
            Err(_) => return problem(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
        };
        match self.ingress.accept(&head.headers, body).await {
            Ok(()) => empty(StatusCode::OK),
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

    async fn forward(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        let method = request.method().clone();
        let begun = Instant::now();
        let forwarded = self.proxy.forward(request).await;
        let counters = &self.ingress.counters;
        counters.times.proxied.observe(begun.elapsed());
        let status = forwarded.as_ref().map_or_else(ForwardError::status, Response::status);
        counters.proxied.increment(StatusClass::of(status));
        match forwarded {
            Ok(answer) => answer.map(Either::Right),
            Err(error) => {
                let status = error.status();
                tracing::warn!(%method, status = status.as_u16(), %error, "request of the service not answered by Keptn");
                problem(status, &error.to_string())
            }
        }
    }
}

/// Takes connections until `stop`, and then ends when the requests under way are answered.
pub async fn serve(listener: TcpListener, routes: Arc<Routes>, stop: CancellationToken) {
    let service = service_fn(move |request| {
        let routes = Arc::clone(&routes);
        async move { Ok(routes.answer(request).await) }
    });
    serve_with(listener, service, Patience::of(MAX_CONNECTIONS), stop).await;
}

/// What a listener bears with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Connections at a time.
    pub(crate) max_connections: usize,
    /// Time until a request's head is complete, or until the next one begins.
    pub(crate) head_timeout: Duration,
}

impl Patience {
    /// The usual one, with so many connections.
    pub(crate) fn of(max_connections: usize) -> Self {
        Self {
            max_connections,
            head_timeout: HEAD_TIMEOUT,
        }
    }
}

/// The same for other listeners.
pub(crate) async fn serve_with<S, B>(listener: TcpListener, service: S, patience: Patience, stop: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    B::Data: Send,
{
    let allowance = Arc::new(Semaphore::new(patience.max_connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let permit = Arc::clone(&allowance).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = stop.cancelled() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                // Answers are written whole. A socket that cannot be set up fails at the first read, too.
                let _ = stream.set_nodelay(true);
                let (service, stop) = (service.clone(), stop.clone());
                connections.spawn(async move {
                    serve_connection(TokioIo::new(stream), service, patience.head_timeout, stop).await;
                    drop(permit);
                });
            }
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be taken");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

async fn serve_connection<T, S, B>(stream: T, service: S, head_timeout: Duration, stop: CancellationToken)
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .serve_connection(Patient::new(stream, WRITE_TIMEOUT), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        // Clients come and go as they like.
        tracing::debug!(%error, "a connection broke");
    }
}

fn empty(status: StatusCode) -> Response<AnswerBody> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    response
}

/// An error for people and programs (RFC 9457).
fn problem(status: StatusCode, detail: &str) -> Response<AnswerBody> {
    let body = json!({
        "title": status.canonical_reason().unwrap_or_default(),
        "status": status.as_u16(),
        "detail": detail,
    });
    let mut response = Response::new(Either::Left(Full::from(body.to_string())));
    *response.status_mut() = status;
    let content_type = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::task::JoinHandle;

    use super::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

    /// A connection whose answers have so many bytes.
    fn connection(n_bytes: usize) -> (DuplexStream, JoinHandle<()>) {
        let (near, far) = tokio::io::duplex(1024);
        let answer = move |_| {
            let body: Full<Bytes> = Full::from(vec![b'x'; n_bytes]);
            std::future::ready(Ok(Response::new(body)))
        };
        let serving = serve_connection(
            TokioIo::new(near),
            service_fn(answer),
            HEAD_TIMEOUT,
            CancellationToken::new(),
        );
        (far, tokio::spawn(serving))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_end_its_head_is_given_up() {
        let (mut client, serving) = connection(0);
        let begun = Instant::now();
        for line in ["GET / HTTP/1.1\r\n", "Host: h\r\n", "X-Slow: 1\r\n"] {
            client.write_all(line.as_bytes()).await.unwrap();
            tokio::time::sleep(HEAD_TIMEOUT / 4).await;
        }
        serving.await.unwrap();
        assert!(begun.elapsed() <= HEAD_TIMEOUT + Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_asks_for_nothing_more_is_given_up() {
        let (mut client, serving) = connection(0);
        client.write_all(GET).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
        serving.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_no_answer_is_given_up() {
        let (mut client, serving) = connection(1 << 20);
        let begun = Instant::now();
        client.write_all(GET).await.unwrap();
        serving.await.unwrap();
        assert!(begun.elapsed() >= WRITE_TIMEOUT && begun.elapsed() < HEAD_TIMEOUT);
    }
}
