//! What was asked of the control plane.
//!
//! Called by tests.

use std::time::Duration;

use anyhow::Context;

use super::ControlPlane;
use super::journal::ApiRequest;
use super::target::Route;

impl ControlPlane {
    /// All requests so far, in the order of their arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<ApiRequest> {
        self.shared().journal.requests(|_| true)
    }

    /// The requests of one kind so far.
    #[must_use]
    pub fn requests_to(&self, route: Route) -> Vec<ApiRequest> {
        self.shared().journal.requests(|request| request.route == route)
    }

    /// Waits until at least `n` requests of a kind have arrived and returns all there are. They need not be answered yet.
    ///
    /// # Errors
    ///
    /// When fewer have arrived after `within`.
    pub async fn wait_for_requests(&self, route: Route, n: usize, within: Duration) -> anyhow::Result<Vec<ApiRequest>> {
        self.wait_for(n, within, |request| request.route == route).await
    }

    /// Waits until at least `n` requests of a kind have been answered with `status` and returns those.
    ///
    /// # Errors
    ///
    /// When there were fewer after `within`.
    pub async fn wait_for_answers(
        &self,
        route: Route,
        status: u16,
        n: usize,
        within: Duration,
    ) -> anyhow::Result<Vec<ApiRequest>> {
        let wanted = |request: &ApiRequest| request.route == route && request.status == Some(status);
        self.wait_for(n, within, wanted).await
    }

    /// Waits for the first request that is `wanted`, arrived already or later.
    ///
    /// # Errors
    ///
    /// When there is none after `within`.
    pub async fn wait_for_request(
        &self,
        within: Duration,
        wanted: impl Fn(&ApiRequest) -> bool,
    ) -> anyhow::Result<ApiRequest> {
        let first = self.wait_for(1, within, wanted).await?.into_iter().next();
        first.context("a request that was waited for is there")
    }

    async fn wait_for(
        &self,
        n: usize,
        within: Duration,
        wanted: impl Fn(&ApiRequest) -> bool,
    ) -> anyhow::Result<Vec<ApiRequest>> {
        self.shared().journal.wait_for(n, within, wanted).await
    }
}
