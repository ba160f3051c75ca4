//! Makes connections for HTTP: directly, or by way of a proxy that the environment names.
//!
//! Called by the HTTP clients of [`crate::proxy`] and [`crate::delivery`] when they have no connection left. It must not
//! know requests.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

/// Longer, and the network drops what is sent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The proxies that the environment names.
#[derive(Debug, Clone)]
pub(crate) struct Proxies(Arc<Matcher>);

impl Proxies {
    /// Those of `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.
    pub(crate) fn from_environment() -> Self {
        Self(Arc::new(Matcher::from_env()))
    }

    /// None.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self(Arc::new(Matcher::builder().build()))
    }

    /// Whether a proxy stands before `target`.
    pub(crate) fn stand_before(&self, target: &Uri) -> bool {
        self.intercept(target).is_some()
    }

    /// What the proxy on the way to `target` wants to see in each request.
    pub(crate) fn authorization(&self, target: &Uri) -> Option<HeaderValue> {
        // Of https it sees a tunnel only.
        let is_readable = target.scheme_str() == Some("http");
        let intercept = self.intercept(target).filter(|_| is_readable)?;
        let mut value = intercept.basic_auth()?.clone();
        value.set_sensitive(true);
        Some(value)
    }

    fn intercept(&self, target: &Uri) -> Option<Intercept> {
        // As in the original: what runs on this machine needs no proxy.
        let is_local = target.host().is_none_or(is_loopback);
        if is_local { None } else { self.0.intercept(target) }
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_address = |address: std::net::IpAddr| address.is_loopback();
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_address)
}

/// Makes a connection to the host of a URL.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector,
    proxies: Proxies,
}

impl Connector {
    pub(crate) fn new(proxies: Proxies) -> Self {
        let mut tcp = HttpConnector::new();
        // Requests are written whole, so that there is nothing to wait for.
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.enforce_http(false);
        Self { tcp, proxies }
    }

    async fn connect(mut self, target: Uri) -> Result<Stream, BoxError> {
        let Some(proxy) = self.proxies.intercept(&target) else {
            let tcp = self.tcp.call(target).await?;
            return Ok(Stream { tcp, is_proxied: false });
        };
        if proxy.uri().scheme_str() != Some("http") {
            return Err("of proxies only those with http:// can be used (HTTP_PROXY, HTTPS_PROXY)".into());
        }
        if target.scheme_str() == Some("https") {
            let mut tunnel = Tunnel::new(proxy.uri().clone(), self.tcp);
            if let Some(authorization) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(authorization.clone());
            }
            let tcp = tunnel.call(target).await?;
            return Ok(Stream { tcp, is_proxied: false });
        }
        let tcp = self.tcp.call(proxy.uri().clone()).await?;
        Ok(Stream { tcp, is_proxied: true })
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        Box::pin(self.clone().connect(target))
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Stream {
    tcp: TokioIo<TcpStream>,
    /// Whether the other side is a proxy that wants whole URLs.
    is_proxied: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        self.tcp.connected().proxy(self.is_proxied)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(context, buffers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_stands_before_everything_but_this_machine_and_what_is_excepted() {
        let matcher = Matcher::builder()
            .http("http://user:pass@proxy.example:3128")
            .https("http://proxy.example:3129")
            .no("shipyard-controller,.internal")
            .build();
        let proxies = Proxies(Arc::new(matcher));
        let check = |target: &str, expected: Option<&str>| {
            let proxy = proxies.intercept(&target.parse().unwrap());
            let proxy = proxy.map(|proxy| proxy.uri().to_string());
            assert_eq!(proxy.as_deref(), expected, "{target}");
        };
        check("http://resource-service:8080/", Some("http://proxy.example:3128/"));
        check("https://keptn.example/api", Some("http://proxy.example:3129/"));
        check("http://shipyard-controller:8080/", None);
        check("https://keptn.internal/", None);
        check("http://localhost:8080/", None);
        check("http://127.0.0.2:8080/", None);
        check("http://[::1]:8080/", None);
        let authorization = |target: &str| proxies.authorization(&target.parse().unwrap());
        assert_eq!(
            authorization("http://resource-service:8080/").unwrap(),
            "Basic dXNlcjpwYXNz"
        );
        assert_eq!(authorization("https://keptn.example/"), None);
    }
}
