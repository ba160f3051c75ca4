//! One HTTP/1.1 request over a connection of its own.
//!
//! Called by tests that speak to the distributor's listeners, and to find out whether a process is ready. It must not
//! follow, retry, decode or normalise anything: what a test sends and gets is what was on the wire.

use std::net::SocketAddr;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{HOST, HeaderMap};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// All headers, repeated ones kept.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Sends one request to `address` and reads the answer.
///
/// `path` goes out as it is, with its query. `Host` is the address, unless `headers` has one. There is no time limit:
/// a test that wants one wraps the call in `tokio::time::timeout`.
///
/// # Errors
///
/// When nothing listens at `address`, the request cannot be expressed in HTTP, or the connection ends early.
pub async fn http_request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> anyhow::Result<HttpResponse> {
    let mut request = Request::builder()
        .method(Method::from_bytes(method.as_bytes())?)
        .uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if request.headers_ref().is_some_and(|headers| !headers.contains_key(HOST)) {
        request = request.header(HOST, address.to_string());
    }
    let request = request.body(Full::new(body.into()))?;

    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("nothing answers at {address}"))?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends when `sender` and the response's body are dropped, at the latest at the end of this function.
    tokio::spawn(connection);

    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(HttpResponse {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    })
}
