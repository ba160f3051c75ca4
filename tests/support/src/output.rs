//! What a child process printed, line by line, and waiting for a line.
//!
//! Called by `child_process`, and by tests through it. It must not know what program prints.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;
use tokio::time::timeout;

/// Where a line was printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line that a child printed.
#[derive(Clone, Debug)]
pub struct Line {
    /// Where it was printed.
    pub stream: Stream,
    /// Its text, without the line end.
    pub text: String,
}

/// The lines of both streams, in the order in which they were read. Clones see the same lines.
#[derive(Clone, Debug, Default)]
pub struct Output {
    printed: Arc<watch::Sender<Printed>>,
}

#[derive(Debug, Default)]
struct Printed {
    lines: Vec<Line>,
    /// Streams that have reached their end; at [`N_STREAMS`] no further line can come.
    n_ended: usize,
}

const N_STREAMS: usize = 2;

impl Output {
    /// Reads `from` to its end in the background.
    pub(crate) fn read(&self, stream: Stream, from: impl AsyncRead + Send + Unpin + 'static) {
        let printed = Arc::clone(&self.printed);
        tokio::spawn(async move {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            // Bytes, not `lines()`: a program that prints something else than UTF-8 is still worth reading.
            while matches!(from.read_until(b'\n', &mut line).await, Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
                line.clear();
                printed.send_modify(|printed| printed.lines.push(Line { stream, text }));
            }
            printed.send_modify(|printed| printed.n_ended += 1);
        });
    }

    /// All lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.printed.borrow().lines.clone()
    }

    /// The text of one stream so far, each line ended by `\n`.
    #[must_use]
    pub fn text(&self, stream: Stream) -> String {
        let mut text = String::new();
        for line in self.printed.borrow().lines.iter().filter(|line| line.stream == stream) {
            text.push_str(&line.text);
            text.push('\n');
        }
        text
    }

    /// The last lines of both streams, for an error message.
    pub(crate) fn tail(&self) -> String {
        last_lines(self.printed.borrow().lines.iter().map(|line| line.text.as_str()))
    }

    /// Waits until both streams are closed, though no longer than `within`: a child of the child may hold them open.
    pub(crate) async fn wait_until_ended(&self, within: Duration) {
        let mut printed = self.printed.subscribe();
        let _ = timeout(within, printed.wait_for(|printed| printed.n_ended == N_STREAMS)).await;
    }

    /// Returns the first line, printed already or later, that contains `wanted`.
    ///
    /// # Errors
    ///
    /// When there is none within `within`, or the process has closed its output without printing one. The message has
    /// the last lines.
    pub async fn wait_for(&self, wanted: &str, within: Duration) -> anyhow::Result<String> {
        let mut printed = self.printed.subscribe();
        let mut n_seen = 0;
        let mut found = None;
        let ended = printed.wait_for(|printed| {
            found = printed.lines[n_seen..]
                .iter()
                .find(|line| line.text.contains(wanted))
                .map(|line| line.text.clone());
            n_seen = printed.lines.len();
            found.is_some() || printed.n_ended == N_STREAMS
        });
        let in_time = timeout(within, ended).await.is_ok();
        match found {
            Some(line) => Ok(line),
            None if in_time => bail!(
                "the process ended without printing {wanted:?}; its last lines:{}",
                self.tail()
            ),
            None => bail!(
                "the process did not print {wanted:?} within {within:?}; its last lines:{}",
                self.tail()
            ),
        }
    }
}

/// The last of these lines, each on a line of its own and indented below an error message.
pub(crate) fn last_lines<'a>(lines: impl DoubleEndedIterator<Item = &'a str>) -> String {
    const N_LINES: usize = 40;
    let mut last: Vec<&str> = lines.rev().take(N_LINES).collect();
    if last.is_empty() {
        last.push("(it printed nothing)");
    }
    last.reverse();
    format!("\n  | {}", last.join("\n  | "))
}
