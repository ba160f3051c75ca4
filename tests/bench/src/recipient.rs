//! The recipient of the benchmarks: HTTP/1.1 by hand, so that it is never what limits a figure.
//!
//! Called by `rounds`. It must not know more of HTTP than the clients measured here send: keep-alive, a POST with a
//! content length. Anything else is an error that ends the connection and is told.

use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::{Buf, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::events::EventId;
use crate::tally::Tally;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A listening recipient; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Recipient {
    pub(crate) port: u16,
    _accepting: JoinSet<()>,
}

impl Recipient {
    /// Listens on a free port and counts into `tally`.
    pub(crate) async fn start(tally: Arc<Tally>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, tally));
        Ok(Self {
            port,
            _accepting: accepting,
        })
    }
}

async fn accept(listener: TcpListener, tally: Arc<Tally>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let tally = Arc::clone(&tally);
        connections.spawn(async move {
            if let Err(error) = serve(stream, &tally).await {
                eprintln!("recipient: {error:#}");
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: TcpStream, tally: &Tally) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let head_end = memmem::Finder::new(b"\r\n\r\n");
    let id = EventId::finder();
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    loop {
        let head_length = loop {
            if let Some(end) = head_end.find(&buffer) {
                break end + head_end.needle().len();
            }
            // The client closes its connection, or is killed, when the round is over.
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                return Ok(());
            }
        };
        let length = head_length + content_length(&buffer[..head_length])?;
        buffer.reserve(length.saturating_sub(buffer.len()));
        while buffer.len() < length {
            if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
                bail!("a request broke off");
            }
        }
        let found = EventId::find_in(&buffer[head_length..length], &id).context("an event that was not published")?;
        if !tally.record(found) {
            bail!("an event that was not published in this round: {found:?}");
        }
        buffer.advance(length);
        stream.write_all(ANSWER).await?;
    }
}

fn content_length(head: &[u8]) -> anyhow::Result<usize> {
    const NAME: &[u8] = b"content-length:";
    let lines = head.split(|&byte| byte == b'\n');
    let value = lines
        .filter_map(|line| line.split_at_checked(NAME.len()))
        .find_map(|(name, value)| name.eq_ignore_ascii_case(NAME).then_some(value))
        .with_context(|| format!("a request without Content-Length:\n{}", String::from_utf8_lossy(head)))?;
    Ok(std::str::from_utf8(value.trim_ascii())?.parse()?)
}
