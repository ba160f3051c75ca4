//! What a guest says: how much of it may go to the log, and what it prints. Each printed line goes to the log, and the
//! last ones are kept to explain a trap (a panic's text is there and nowhere else).

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::context::Direction;
use super::error::one_line;
use super::imports::{LOG_TARGET, Shared};

/// Bytes of a printed line that are kept; what is longer is cut.
const MAX_LINE_BYTES: usize = 512;
/// Lines kept for the message about a trap.
const LAST_LINES: usize = 5;

/// What a call is about, for the log. Empty at load.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Call<'a> {
    pub(super) event_id: &'a str,
    pub(super) keptn_context: &'a str,
    pub(super) direction: Option<Direction>,
}

/// Where standard output and standard error of an instance go.
#[derive(Debug, Clone)]
pub(super) struct Output {
    running: Arc<Mutex<RunningCall>>,
}

/// What the running call has said, and may still say.
#[derive(Debug)]
pub(super) struct RunningCall {
    shared: Arc<Shared>,
    event_id: String,
    keptn_context: String,
    direction: Option<Direction>,
    /// Of a line that has no end yet.
    partial: Vec<u8>,
    last: VecDeque<String>,
    lines_left: u32,
    bytes_left: usize,
}

impl Output {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let running = RunningCall {
            shared,
            event_id: String::new(),
            keptn_context: String::new(),
            direction: None,
            partial: Vec::new(),
            last: VecDeque::new(),
            lines_left: 0,
            bytes_left: 0,
        };
        Self {
            running: Arc::new(Mutex::new(running)),
        }
    }

    /// Starts a call: forgets earlier lines and refills the budgets.
    pub(super) fn start_call(&self, call: Call<'_>) {
        self.call().start(call);
    }

    /// The last lines that this call printed.
    pub(super) fn last_lines(&self) -> Vec<String> {
        let mut call = self.call();
        call.end_partial_line();
        call.last.drain(..).collect()
    }

    pub(super) fn call(&self) -> MutexGuard<'_, RunningCall> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, bytes: &[u8]) {
        let mut call = self.call();
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (line, ends) = match part.strip_suffix(b"\n") {
                Some(line) => (line, true),
                None => (part, false),
            };
            let room = MAX_LINE_BYTES.saturating_sub(call.partial.len());
            call.partial.extend_from_slice(&line[..line.len().min(room)]);
            if ends {
                call.end_line();
            }
        }
    }
}

impl RunningCall {
    fn start(&mut self, call: Call<'_>) {
        self.end_partial_line();
        self.last.clear();
        self.event_id.clear();
        self.event_id.push_str(call.event_id);
        self.keptn_context.clear();
        self.keptn_context.push_str(call.keptn_context);
        self.direction = call.direction;
        self.lines_left = self.shared.settings.limits.log_lines;
        self.bytes_left = self.shared.settings.limits.log_bytes;
    }

    /// Whether a line of this length may go to the log. One that may not is counted.
    pub(super) fn admits(&mut self, bytes: usize) -> bool {
        let line_rate = &self.shared.kept.line_rate;
        if self.lines_left == 0 || self.bytes_left < bytes {
            line_rate.leave_out();
            return false;
        }
        self.lines_left -= 1;
        self.bytes_left -= bytes;
        line_rate.admits(bytes)
    }

    /// What the call is about: id and Keptn context of the event, and the way it travels.
    pub(super) fn about(&self) -> (&str, &str, &'static str) {
        let direction = match self.direction {
            Some(Direction::Incoming) => "incoming",
            Some(Direction::Outgoing) => "outgoing",
            None => "",
        };
        (&self.event_id, &self.keptn_context, direction)
    }

    /// Whether a hook runs; else it is `describe` or `configure`.
    pub(super) fn is_for_event(&self) -> bool {
        self.direction.is_some()
    }

    fn end_partial_line(&mut self) {
        if !self.partial.is_empty() {
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        let line = one_line(&String::from_utf8_lossy(&self.partial));
        self.partial.clear();
        // A panic begins with one.
        if line.trim().is_empty() {
            return;
        }
        if self.admits(line.len()) {
            let plugin = &self.shared.settings.name;
            let digest = self.shared.short_digest.as_str();
            let (event_id, keptn_context, direction) = self.about();
            tracing::info!(
                target: LOG_TARGET, %plugin, digest, event_id, keptn_context, direction, line, "plugin printed"
            );
        }
        if self.last.len() == LAST_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        self.end_partial_line();
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

#[cfg(test)]
mod tests {
    use super::super::imports::kept::Keeper;
    use super::super::settings::Settings;
    use super::*;

    fn output() -> Output {
        let settings = Settings::named("printer");
        let kept = Keeper::default().of(&settings.name);
        Output::new(Arc::new(Shared::new(settings, "0123456789abcdef", kept)))
    }

    /// The lines kept after these pieces were printed.
    fn lines_of(pieces: &[&[u8]]) -> Vec<String> {
        let output = output();
        output.start_call(Call::default());
        for piece in pieces {
            output.append(piece);
        }
        output.last_lines()
    }

    #[test]
    fn pieces_are_joined_to_lines_and_blank_ones_are_left_out() {
        assert_eq!(lines_of(&[b"on", b"e\ntw", b"o\n\nlast"]), ["one", "two", "last"]);
        assert_eq!(lines_of(&[]), [""; 0]);
    }

    #[test]
    fn bytes_that_are_no_text_are_shown_as_such() {
        assert_eq!(lines_of(&[b"a\xff\xfe\x00b\r\n"]), ["a\u{fffd}\u{fffd} b "]);
        // In the middle of a character at the cut, too.
        let line = "ü".repeat(MAX_LINE_BYTES);
        let lines = lines_of(&[b"x", line.as_bytes()]);
        assert!(lines[0].len() <= MAX_LINE_BYTES + 4, "{}", lines[0].len());
    }

    #[test]
    fn a_flood_leaves_the_last_lines_and_takes_no_room() {
        let output = output();
        output.start_call(Call::default());
        let long = vec![b'x'; 64 << 10];
        for _ in 0..1000 {
            output.append(&long);
        }
        assert!(output.call().partial.capacity() <= 2 * MAX_LINE_BYTES);
        for number in 0..10_000 {
            output.append(format!("\n{number}").as_bytes());
        }
        assert_eq!(output.last_lines(), ["9995", "9996", "9997", "9998", "9999"]);
    }

    #[test]
    fn a_call_may_write_so_many_lines_and_so_many_bytes() {
        let output = output();
        let limits = output.call().shared.settings.limits.clone();
        output.start_call(Call::default());
        let n_lines = (0..1000).filter(|_| output.call().admits(1)).count();
        assert_eq!(n_lines, limits.log_lines as usize);
        output.start_call(Call::default());
        assert!(!output.call().admits(limits.log_bytes + 1));
        assert!(output.call().admits(100), "the next call may write again");
    }
}
