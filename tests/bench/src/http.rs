//! As much of HTTP/1.1 as the programs measured here speak: messages with a content length, one after the other over a
//! connection that stays.
//!
//! Called by `recipient` and `posts`, by hand so that neither is what limits a figure. It must not know what is in a body.

use anyhow::{Context, bail};
use bytes::BytesMut;
use memchr::memmem;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// A request or an answer at the start of a buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HttpMessage {
    /// Up to the body.
    pub(crate) head_length: usize,
    /// With the body.
    pub(crate) length: usize,
}

/// Reads until `buffer` starts with a whole message. `None`: the other side has closed the connection, or was killed.
pub(crate) async fn read_message(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    head_end: &memmem::Finder<'_>,
) -> anyhow::Result<Option<HttpMessage>> {
    let head_length = loop {
        if let Some(end) = head_end.find(buffer) {
            break end + head_end.needle().len();
        }
        if !matches!(stream.read_buf(buffer).await, Ok(1..)) {
            return Ok(None);
        }
    };
    let length = head_length + content_length(&buffer[..head_length])?;
    buffer.reserve(length.saturating_sub(buffer.len()));
    while buffer.len() < length {
        if !matches!(stream.read_buf(buffer).await, Ok(1..)) {
            bail!("a message broke off");
        }
    }
    Ok(Some(HttpMessage { head_length, length }))
}

/// What [`read_message`] looks for.
pub(crate) fn head_end() -> memmem::Finder<'static> {
    memmem::Finder::new(b"\r\n\r\n")
}

fn content_length(head: &[u8]) -> anyhow::Result<usize> {
    const NAME: &[u8] = b"content-length:";
    let lines = head.split(|&byte| byte == b'\n');
    let value = lines
        .filter_map(|line| line.split_at_checked(NAME.len()))
        .find_map(|(name, value)| name.eq_ignore_ascii_case(NAME).then_some(value))
        .with_context(|| format!("a message without Content-Length:\n{}", String::from_utf8_lossy(head)))?;
    Ok(std::str::from_utf8(value.trim_ascii())?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_found_in_any_case() {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nCONTENT-length:  17 \r\n\r\n";
        assert_eq!(content_length(head).unwrap(), 17);
        content_length(b"HTTP/1.1 200 OK\r\n\r\n").unwrap_err();
    }
}
