//! What a guest prints: each line goes to the log, and the last ones are kept to explain a trap (a panic's text is
//! there and nowhere else).

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::error::one_line;

/// Bytes of a line that are kept; what is longer is cut.
const MAX_LINE_BYTES: usize = 512;
/// Lines kept for the message about a trap.
const LAST_LINES: usize = 5;

/// Where standard output and standard error of an instance go.
#[derive(Debug, Clone)]
pub(super) struct Output {
    lines: Arc<Mutex<Lines>>,
}

#[derive(Debug)]
struct Lines {
    plugin: Arc<str>,
    partial: Vec<u8>,
    last: VecDeque<String>,
    /// Lines that may still be logged during this call.
    budget: u32,
}

impl Output {
    pub(super) fn new(plugin: Arc<str>) -> Self {
        let lines = Lines {
            plugin,
            partial: Vec::new(),
            last: VecDeque::new(),
            budget: 0,
        };
        Self {
            lines: Arc::new(Mutex::new(lines)),
        }
    }

    /// Starts a call: forgets earlier lines.
    pub(super) fn start_call(&self, budget: u32) {
        let mut lines = self.lines();
        lines.last.clear();
        lines.partial.clear();
        lines.budget = budget;
    }

    /// The last lines of this call.
    pub(super) fn last_lines(&self) -> Vec<String> {
        let mut lines = self.lines();
        if !lines.partial.is_empty() {
            lines.end_line();
        }
        lines.last.drain(..).collect()
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, bytes: &[u8]) {
        let mut lines = self.lines();
        for &byte in bytes {
            if byte == b'\n' {
                lines.end_line();
            } else if lines.partial.len() < MAX_LINE_BYTES {
                lines.partial.push(byte);
            }
        }
    }
}

impl Lines {
    fn end_line(&mut self) {
        let line = one_line(&String::from_utf8_lossy(&self.partial));
        self.partial.clear();
        if self.budget > 0 {
            self.budget -= 1;
            tracing::info!(plugin = %self.plugin, line, "plugin printed");
        }
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.append(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

impl Pollable for Output {
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(std::future::ready(()))
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.append(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
