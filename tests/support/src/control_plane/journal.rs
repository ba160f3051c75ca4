//! What the control plane was asked, request by request.
//!
//! Called by `mod`, and by tests through it.

use std::time::Duration;

use anyhow::bail;
use tokio::sync::watch;
use tokio::time::timeout;

use super::target::{Route, Target};
use crate::journal::ReceivedRequest;

/// One request to the control plane.
#[derive(Clone, Debug)]
pub struct ApiRequest {
    /// What it asks for.
    pub route: Route,
    /// The path as the service behind the gateway sees it, still escaped. What was on the wire is in `received.path`.
    pub path: String,
    /// The query, as it was sent.
    pub query: Option<String>,
    /// What it was answered with; nothing while it is not answered, or if it never is.
    pub status: Option<u16>,
    /// The request on the wire.
    pub received: ReceivedRequest,
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    requests: watch::Sender<Vec<ApiRequest>>,
}

impl Journal {
    /// Writes down a request and returns its number among those of its route, and among all.
    pub(super) fn push(&self, target: &Target, received: &ReceivedRequest) -> (usize, usize) {
        let request = ApiRequest {
            route: target.route,
            path: target.path.clone(),
            query: target.query.clone(),
            status: None,
            received: received.clone(),
        };
        let mut numbers = (0, 0);
        self.requests.send_modify(|requests| {
            let same = requests.iter().filter(|request| request.route == target.route);
            numbers = (same.count(), requests.len());
            requests.push(request);
        });
        numbers
    }

    pub(super) fn answered(&self, number: usize, status: u16) {
        self.requests
            .send_modify(|requests| requests[number].status = Some(status));
    }

    pub(super) fn requests(&self, wanted: impl Fn(&ApiRequest) -> bool) -> Vec<ApiRequest> {
        let requests = self.requests.borrow();
        requests.iter().filter(|request| wanted(request)).cloned().collect()
    }

    pub(super) async fn wait_for(
        &self,
        n: usize,
        within: Duration,
        wanted: impl Fn(&ApiRequest) -> bool,
    ) -> anyhow::Result<Vec<ApiRequest>> {
        let mut requests = self.requests.subscribe();
        let arrived = requests.wait_for(|requests| requests.iter().filter(|request| wanted(request)).count() >= n);
        if timeout(within, arrived).await.is_err() {
            let seen: Vec<_> = self.requests(|_| true);
            let seen = seen
                .iter()
                .map(|request| format!("{} {}", request.received.method, request.received.path));
            bail!(
                "the control plane did not see {n} of the requests waited for within {within:?}, but: {:?}",
                seen.collect::<Vec<_>>()
            );
        }
        Ok(self.requests(wanted))
    }
}
