//! The recipient of the benchmarks: HTTP/1.1 by hand, so that it is never what limits a figure.
//!
//! Called by `stage`. It must not know more of HTTP than the clients measured here send: keep-alive, a POST with a
//! content length. Anything else is an error that ends the connection and is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::{Buf, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::events::EventId;
use crate::http;
use crate::tally::Tally;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A listening recipient; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Recipient {
    pub(crate) port: u16,
    answers_after_ms: Arc<AtomicU64>,
    _accepting: JoinSet<()>,
}

impl Recipient {
    /// Listens on a free port and counts into `tally`.
    pub(crate) async fn start(tally: Arc<Tally>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let answers_after_ms = Arc::new(AtomicU64::new(0));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, tally, Arc::clone(&answers_after_ms)));
        Ok(Self {
            port,
            answers_after_ms,
            _accepting: accepting,
        })
    }

    /// From now on takes so long for each event.
    pub(crate) fn answer_after(&self, pause: Duration) {
        let milliseconds = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self.answers_after_ms.store(milliseconds, Relaxed);
    }
}

async fn accept(listener: TcpListener, tally: Arc<Tally>, answers_after_ms: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (tally, answers_after_ms) = (Arc::clone(&tally), Arc::clone(&answers_after_ms));
        connections.spawn(async move {
            if let Err(error) = serve(stream, &tally, &answers_after_ms).await {
                eprintln!("recipient: {error:#}");
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: TcpStream, tally: &Tally, answers_after_ms: &AtomicU64) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let head_end = http::head_end();
    let id = EventId::finder();
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    while let Some(request) = http::read_message(&mut stream, &mut buffer, &head_end).await? {
        let body = &buffer[request.head_length..request.length];
        let found = EventId::find_in(body, &id).context("an event that was not published")?;
        if !tally.record(found) {
            bail!("an event that was not published in this round: {found:?}");
        }
        buffer.advance(request.length);
        let milliseconds = answers_after_ms.load(Relaxed);
        if milliseconds > 0 {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
        stream.write_all(ANSWER).await?;
    }
    Ok(())
}
