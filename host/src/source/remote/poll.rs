//! One poll of one list: page after page is asked for, read, and given to the intake.
//!
//! Called by [`super::Poller`], for several lists side by side.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Method, StatusCode};
use tokio::sync::Mutex;

use super::intake::{Intake, Interrupted, Owed};
use super::open::{self, EventKey, OpenEvents};
use super::plan::Query;
use crate::config::ApiService;
use crate::keptn_api::{Call, CallError, KeptnApi, ListError, ListReader};
use crate::metrics::Counters;

/// Events of a page: all there can be. Keptn 1.x starts every further page with the first event again, so that what is not
/// on the first page is on none. It gives as many as it is asked for.
const PAGE_SIZE: usize = open::MAX_EVENTS;
/// What the documentation of the API allows, for a server that insists on it.
const DOCUMENTED_PAGE_SIZE: usize = 50;
/// A list that does not end before is taken for one that never ends.
const MAX_PAGES: usize = 10_000;

/// Why a poll was not finished.
#[derive(Debug, thiserror::Error)]
pub(super) enum PollError {
    #[error("{0}")]
    Call(#[from] CallError),
    #[error("the answer cannot be read: {0}")]
    Page(#[from] ListError),
    #[error("the list of open events never ends")]
    Endless,
    #[error("every page of the list of open events has the same events, and those behind them are not shown")]
    Repeated,
    #[error("not taken on")]
    Interrupted(Interrupted),
    /// Another list has found the control plane away.
    #[error("not asked for")]
    Skipped,
}

/// A list that is asked for in every poll.
#[derive(Debug)]
pub(super) struct List {
    pub(super) query: Query,
    /// Events to ask for at once.
    page_size: usize,
}

/// What the lists of one poll have in common.
pub(super) struct Session<'a> {
    pub(super) api: &'a KeptnApi,
    pub(super) open: &'a OpenEvents,
    pub(super) intake: &'a Mutex<Intake>,
    pub(super) counters: &'a Counters,
    /// Whether one list has found the control plane away.
    pub(super) is_away: AtomicBool,
}

impl List {
    pub(super) fn new(query: Query) -> Self {
        Self {
            query,
            page_size: PAGE_SIZE,
        }
    }

    /// Whether the error may be about the size of the page, and there is a smaller one.
    fn asks_for_less(&mut self, error: &CallError) -> bool {
        let smaller = match error {
            CallError::Status { status, .. } if *status == StatusCode::BAD_REQUEST => DOCUMENTED_PAGE_SIZE,
            CallError::Answer(_) => self.page_size / 4,
            _ => return false,
        };
        if smaller == 0 || smaller >= self.page_size {
            return false;
        }
        self.page_size = smaller;
        true
    }
}

impl Session<'_> {
    /// Takes on a list. Returns its topic as well.
    pub(super) async fn poll(&self, list: &mut List) -> (Arc<str>, Result<(), PollError>) {
        let result = self.take(list).await;
        if result.as_ref().is_err_and(PollError::is_about_control_plane) {
            self.is_away.store(true, Ordering::Relaxed);
        }
        (Arc::clone(&list.query.topic), result)
    }

    /// Page by page.
    async fn take(&self, list: &mut List) -> Result<(), PollError> {
        let mut page_key = None;
        let mut first_event = None;
        for _ in 0..MAX_PAGES {
            if self.is_away.load(Ordering::Relaxed) {
                return Err(PollError::Skipped);
            }
            self.counters.polls.increment();
            let next = match self.page(list, page_key.as_deref(), &mut first_event).await {
                Err(PollError::Call(error)) if list.asks_for_less(&error) => continue,
                next => next?,
            };
            match next {
                None => return Ok(()),
                next if next == page_key => return Err(PollError::Endless),
                next => page_key = next,
            }
        }
        Err(PollError::Endless)
    }

    /// Takes on a page, when all of it was read. Returns what to ask for next.
    async fn page(
        &self,
        list: &List,
        page_key: Option<&str>,
        first_event: &mut Option<EventKey>,
    ) -> Result<Option<String>, PollError> {
        let query = &list.query;
        let path = query.path(list.page_size, page_key);
        let mut answer = self
            .api
            .open(Call {
                method: Method::GET,
                url: self.api.url(ApiService::ControlPlane, &path),
                body: None,
            })
            .await?;
        let mut page = ListReader::of("events");
        let mut owed = Owed::default();
        let mut is_first = true;
        loop {
            let piece = answer.chunk().await?;
            let is_end = piece.is_none();
            match piece {
                Some(piece) => page.add(piece),
                None => page.end(),
            }
            while let Some(item) = page.item()? {
                let key = EventKey::of(item.id);
                if std::mem::take(&mut is_first) {
                    if page_key.is_none() {
                        *first_event = Some(key);
                    } else if *first_event == Some(key) {
                        return Err(PollError::Repeated);
                    }
                }
                if self.open.is_owed(&query.topic, key, &query.wanted_by) {
                    owed.add(key, item.bytes);
                }
            }
            if is_end {
                break;
            }
        }
        drop(answer);
        let next = page.finish()?;
        let taken = self.intake.lock().await.take(query, owed).await;
        taken.map_err(PollError::Interrupted)?;
        Ok(next)
    }
}

impl PollError {
    /// Whether the control plane is away or overloaded: then it is to be left alone for a while.
    pub(super) fn is_about_control_plane(&self) -> bool {
        match self {
            Self::Call(CallError::Status { status, .. }) => {
                !status.is_client_error()
                    || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(status)
            }
            Self::Call(CallError::Unreachable(_) | CallError::Access(_)) | Self::Page(_) => true,
            Self::Call(CallError::Answer(_))
            | Self::Endless
            | Self::Repeated
            | Self::Interrupted(_)
            | Self::Skipped => false,
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Call(CallError::Status { retry_after, .. }) => *retry_after,
            _ => None,
        }
    }
}
