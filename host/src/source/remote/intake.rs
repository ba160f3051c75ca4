//! Takes the events of pages on: those that are not known go to the dispatcher, as fast as there is room for them.
//!
//! Called by [`super`] for each page, one at a time. It knows nothing of requests.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::open::{EventKey, OpenEvents};
use super::plan::Query;
use crate::budget::{Budget, Held};
use crate::dispatch::{Dispatcher, Received, Workspace};
use crate::event::from_api_form;
use crate::receipt::{Polled, Receipt};

/// While memory is full, it is looked at this often whether something in it is stuck.
const STUCK_INTERVAL: Duration = Duration::from_millis(100);

/// Bytes of a page that wait until there is room for them; the rest is found again by the next poll.
const MAX_BYTES: usize = 2 << 20;

/// What is owed of one page: as much of it as may wait, the oldest, which the control plane lists last.
#[derive(Debug, Default)]
pub(super) struct Owed {
    events: VecDeque<(EventKey, Bytes)>,
    n_bytes: usize,
    is_cut: bool,
}

impl Owed {
    /// Adds the next event of the page.
    pub(super) fn add(&mut self, key: EventKey, event: &[u8]) {
        self.n_bytes += event.len();
        self.events.push_back((key, Bytes::copy_from_slice(event)));
        while self.n_bytes > MAX_BYTES && self.events.len() > 1 {
            let newest = self.events.pop_front();
            self.n_bytes -= newest.map_or(0, |(_, bytes)| bytes.len());
            self.is_cut = true;
        }
    }
}

/// What takes events on.
#[derive(Debug)]
pub(super) struct Intake {
    dispatcher: Arc<Dispatcher>,
    open: Arc<OpenEvents>,
    budget: Arc<Budget>,
    /// Time after which what is listed is too old to go on with; also the pause for what makes room.
    patience: Duration,
    is_full_reported: bool,
    workspace: Workspace,
}

/// Why not everything was taken on. Nothing is lost: it will be listed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interrupted {
    /// The service is not ready.
    NotReady,
    /// There was no room for too long, or for too much.
    NoRoom,
}

impl Intake {
    pub(super) fn new(
        dispatcher: Arc<Dispatcher>,
        open: Arc<OpenEvents>,
        budget: Arc<Budget>,
        patience: Duration,
    ) -> Self {
        Self {
            dispatcher,
            open,
            budget,
            patience,
            is_full_reported: false,
            workspace: Workspace::default(),
        }
    }

    /// Takes on what is owed of a page, the oldest first.
    pub(super) async fn take(&mut self, query: &Query, owed: Owed) -> Result<(), Interrupted> {
        self.report_memory();
        for (key, bytes) in owed.events.into_iter().rev() {
            if !self.dispatcher.deliveries.is_accepting() {
                return Err(Interrupted::NotReady);
            }
            let held = self.room_for(bytes.len()).await?;
            // What was owed may have changed meanwhile.
            if let Some(subscriptions) = self.open.take(&query.topic, key, &query.wanted_by) {
                let receipt = Receipt::polled(
                    held,
                    Polled {
                        open: Arc::clone(&self.open),
                        topic: Arc::clone(&query.topic),
                        event: key,
                        subscriptions,
                        key: None,
                    },
                );
                self.dispatch(query, &bytes, receipt).await;
            }
        }
        if owed.is_cut { Err(Interrupted::NoRoom) } else { Ok(()) }
    }

    async fn dispatch(&mut self, query: &Query, listed: &Bytes, receipt: Receipt) {
        self.dispatcher.counters.received.increment();
        let received = Received {
            subject: (*query.topic).into(),
            payload: from_api_form(listed).map_err(|error| Box::new((Bytes::copy_from_slice(listed), error))),
            trace: None,
            receipt,
        };
        self.dispatcher.dispatch(received, &mut self.workspace).await;
    }

    async fn room_for(&self, bytes: usize) -> Result<Held, Interrupted> {
        let deliveries = &self.dispatcher.deliveries;
        let start = Instant::now();
        loop {
            if let Some(held) = self.budget.hold(bytes) {
                return Ok(held);
            }
            if deliveries.make_room(self.patience, false) > 0 {
                continue;
            }
            // For some at once, so that not every settled event wakes this.
            let events = (self.budget.max_events() / 8).max(1);
            let room = self.budget.until_room_for(events, bytes);
            if tokio::time::timeout(STUCK_INTERVAL, room).await.is_err() {
                deliveries.make_room(self.patience, true);
            }
            if !deliveries.is_accepting() {
                return Err(Interrupted::NotReady);
            }
            if start.elapsed() >= self.patience {
                return Err(Interrupted::NoRoom);
            }
        }
    }

    fn report_memory(&mut self) {
        let is_full = self.open.is_full();
        if is_full && !self.is_full_reported {
            tracing::warn!(
                limit = super::open::MAX_EVENTS,
                "more events are open than can be remembered; the others wait until some of these are closed"
            );
        }
        self.is_full_reported = is_full;
    }
}
