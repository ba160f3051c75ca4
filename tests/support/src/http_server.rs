//! Accepts connections on loopback and hands every request to one function.
//!
//! Called by `recipient` and `control_plane`. It must not know what a request means.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// What becomes of a request.
pub(crate) enum Outcome {
    /// It is answered.
    Answer(Response<Full<Bytes>>),
    /// Its connection is closed without an answer.
    Close,
    /// Its connection is broken off with a TCP reset.
    Reset,
}

/// Answers requests. The number is that of the connection, counted from 0.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Handles one request.
    fn handle(&self, request: Request<Incoming>, connection: usize) -> impl Future<Output = Outcome> + Send;
}

/// A listener. Dropping it closes it and its connections.
pub(crate) struct HttpServer<H> {
    address: SocketAddr,
    handler: Arc<H>,
    n_connections: Arc<AtomicUsize>,
    /// The one task that accepts; in a set, because a set ends its tasks when it is dropped.
    accepting: JoinSet<()>,
    stop: Arc<Notify>,
}

impl<H: Handler> HttpServer<H> {
    /// Listens on this port of 127.0.0.1, 0 for any.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub(crate) async fn start_on(port: u16, handler: Arc<H>) -> anyhow::Result<Self> {
        let mut server = Self {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            handler,
            n_connections: Arc::default(),
            accepting: JoinSet::new(),
            stop: Arc::new(Notify::new()),
        };
        server.listen().await?;
        Ok(server)
    }

    /// Where it listens, or did before it was stopped.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What answers.
    pub(crate) fn handler(&self) -> &Arc<H> {
        &self.handler
    }

    /// Closes the listener and all connections, unanswered requests with them. Connecting is refused from now on.
    pub(crate) async fn stop(&mut self) {
        self.stop.notify_one();
        while self.accepting.join_next().await.is_some() {}
    }

    /// Listens again on the same port.
    ///
    /// # Errors
    ///
    /// When another program has taken the port meanwhile.
    pub(crate) async fn start_again(&mut self) -> anyhow::Result<()> {
        self.stop().await;
        self.listen().await
    }

    async fn listen(&mut self) -> anyhow::Result<()> {
        let listener = TcpListener::bind(self.address).await;
        let listener = listener.with_context(|| format!("cannot listen on {}", self.address))?;
        self.address = listener.local_addr()?;
        // A new one each time, so that a stop of a stopped server does not end its next life.
        self.stop = Arc::new(Notify::new());
        let (handler, stop) = (Arc::clone(&self.handler), Arc::clone(&self.stop));
        self.accepting
            .spawn(accept(listener, handler, Arc::clone(&self.n_connections), stop));
        Ok(())
    }
}

async fn accept<H: Handler>(
    listener: TcpListener,
    handler: Arc<H>,
    n_connections: Arc<AtomicUsize>,
    stop: Arc<Notify>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let connection = n_connections.fetch_add(1, Ordering::Relaxed);
                connections.spawn(serve(stream, connection, Arc::clone(&handler)));
                while connections.try_join_next().is_some() {}
            }
            () = stop.notified() => {
                drop(listener);
                // Waited for: when `stop` returns, every connection is closed.
                connections.shutdown().await;
                return;
            }
        }
    }
}

/// The connection is to be closed.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("closed without an answer")
    }
}

impl std::error::Error for Closed {}

async fn serve<H: Handler>(stream: TcpStream, connection: usize, handler: Arc<H>) {
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(Notify::new());
    let reset_by_handler = Arc::clone(&reset);
    let service = service_fn(move |request| {
        let (handler, reset) = (Arc::clone(&handler), Arc::clone(&reset_by_handler));
        Box::pin(async move {
            match handler.handle(request, connection).await {
                Outcome::Answer(response) => Ok(response),
                Outcome::Close => Err(Closed),
                Outcome::Reset => {
                    reset.notify_one();
                    never().await
                }
            }
        })
    });
    let mut served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // How a connection ends is the client's business; what arrived is in the journal.
        _ = &mut served => {}
        () = reset.notified() => {
            // Closing with zero linger is what makes the kernel send RST rather than FIN.
            let _ = served.into_parts().io.into_inner().set_zero_linger();
        }
    }
}

/// Waits until the connection is closed by the other side or the server stops.
pub(crate) async fn never<T>() -> T {
    match std::future::pending::<Infallible>().await {}
}
