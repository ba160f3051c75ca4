//! A body on its way through: passed on piece by piece, with a limit on its size and on the time between two pieces.
//!
//! Called by the HTTP client for what the service sends, and by the server for what the control plane answers.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

/// Who sends too much is heard out for so long: a connection that is closed while the other side writes takes the answer
/// with it.
const HEARING_OUT: Duration = Duration::from_secs(1);
const MAX_HEARD_OUT_BYTES: usize = 64 << 20;

/// Part of a message that is still coming, or nothing.
#[derive(Debug)]
pub struct Streamed {
    body: Option<Incoming>,
    /// Bytes that may still come.
    room: usize,
    is_too_large: bool,
    /// Longest time between two pieces.
    patience: Option<Duration>,
    /// Since when there is none, and the end of that.
    waiting: Option<Pin<Box<Sleep>>>,
}

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// There is more than may be.
    #[error("the body is larger than it may be")]
    TooLarge,
    /// Nothing came for so long.
    #[error("no more of the body came within {}", humantime::format_duration(*.0))]
    Silent(Duration),
    /// The connection broke.
    #[error("the body broke off: {0}")]
    Broken(hyper::Error),
}

impl Streamed {
    /// A message without a body.
    pub(super) fn nothing() -> Self {
        Self {
            body: None,
            room: 0,
            is_too_large: false,
            patience: None,
            waiting: None,
        }
    }

    /// All of a body, unless it has more than `limit` bytes.
    pub(super) fn new(body: Incoming, limit: Option<usize>, patience: Option<Duration>) -> Self {
        Self {
            body: Some(body),
            room: limit.unwrap_or(usize::MAX),
            is_too_large: false,
            patience,
            waiting: None,
        }
    }

    /// Hears out who sends what nobody wants.
    pub(super) async fn refuse(mut self) {
        self.be_too_large();
        // The error is the end.
        let _ = std::future::poll_fn(|context| Pin::new(&mut self).poll_frame(context)).await;
    }

    fn be_too_large(&mut self) {
        self.is_too_large = true;
        self.room = MAX_HEARD_OUT_BYTES;
        self.waiting = Some(Box::pin(tokio::time::sleep(HEARING_OUT)));
    }

    fn is_impatient(&mut self, context: &mut Context<'_>) -> Option<Duration> {
        let patience = self.patience?;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        waiting.as_mut().poll(context).is_ready().then_some(patience)
    }

    /// Reads on without keeping anything.
    fn poll_heard_out(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let is_long_enough = |waiting: &mut Pin<Box<Sleep>>| waiting.as_mut().poll(context).is_ready();
        if self.waiting.as_mut().is_none_or(is_long_enough) {
            return Poll::Ready(());
        }
        let Some(body) = &mut self.body else {
            return Poll::Ready(());
        };
        while let Some(Ok(frame)) = ready!(Pin::new(&mut *body).poll_frame(context)) {
            let n_bytes = frame.data_ref().map_or(0, Bytes::len);
            match self.room.checked_sub(n_bytes) {
                Some(room) => self.room = room,
                None => break,
            }
        }
        Poll::Ready(())
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let streamed = self.get_mut();
        if !streamed.is_too_large {
            let Some(body) = &mut streamed.body else {
                return Poll::Ready(None);
            };
            let Poll::Ready(frame) = Pin::new(body).poll_frame(context) else {
                return match streamed.is_impatient(context) {
                    Some(patience) => Poll::Ready(Some(Err(StreamError::Silent(patience)))),
                    None => Poll::Pending,
                };
            };
            streamed.waiting = None;
            let n_bytes = match &frame {
                Some(Ok(frame)) => frame.data_ref().map_or(0, Buf::remaining),
                _ => 0,
            };
            if let Some(room) = streamed.room.checked_sub(n_bytes) {
                streamed.room = room;
                return Poll::Ready(frame.map(|frame| frame.map_err(StreamError::Broken)));
            }
            streamed.be_too_large();
        }
        ready!(streamed.poll_heard_out(context));
        streamed.body = None;
        Poll::Ready(Some(Err(StreamError::TooLarge)))
    }

    fn is_end_stream(&self) -> bool {
        !self.is_too_large && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
