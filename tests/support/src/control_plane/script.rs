//! What is to happen at the control plane: who is let in, and what goes wrong.
//!
//! Called by tests.

use std::time::Duration;

use super::ControlPlane;
use super::faults::Fault;
use super::target::Route;

impl ControlPlane {
    /// From now on the gateway lets nobody in without this `x-token`.
    pub fn require_token(&self, token: &str) {
        self.shared().access().token = Some(token.to_owned());
    }

    /// From now on the gateway lets nobody in without one of these as `Authorization: Bearer …`. To change what is
    /// accepted, call it again.
    pub fn require_bearer(&self, tokens: &[&str]) {
        let tokens = tokens.iter().map(|token| (*token).to_owned()).collect();
        self.shared().access().bearer_tokens = Some(tokens);
    }

    /// From now on `POST /v1/event` is validated, as where the API's event validation is switched on.
    pub fn validate_events(&self) {
        self.store().validates = true;
    }

    /// From now on the gateway lets nobody in without a token that was given at [`token_url`](Self::token_url), where this
    /// client gets one. A token counts for `life`.
    pub fn require_oauth(&self, client_id: &str, client_secret: &str, life: Duration) {
        self.shared().identity().require(client_id, client_secret, life);
    }

    /// The tokens that were given so far count no longer.
    pub fn revoke_tokens(&self) {
        self.shared().identity().revoke();
    }

    /// The value of `OAUTH_TOKEN_URL`.
    #[must_use]
    pub fn token_url(&self) -> String {
        format!("{}/token", self.url())
    }

    /// The value of `OAUTH_DISCOVERY`.
    #[must_use]
    pub fn discovery_url(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.url())
    }

    /// From now on calls of this kind go wrong as `script` says, which is given the number of the call, counted from 0 over
    /// all calls of its kind; where it gives nothing, the call goes right.
    pub fn fail_with(&self, route: Route, script: impl Fn(usize) -> Option<Fault> + Send + Sync + 'static) {
        self.shared().faults.set(route, Box::new(script));
    }

    /// From now on all calls of this kind go wrong.
    pub fn fail(&self, route: Route, fault: Fault) {
        self.fail_with(route, move |_| Some(fault.clone()));
    }

    /// The next `n` calls of this kind go wrong.
    pub fn fail_times(&self, route: Route, n: usize, fault: Fault) {
        let first = self.requests_to(route).len();
        self.fail_with(route, move |nth| (nth < first + n).then(|| fault.clone()));
    }

    /// Calls of this kind go right again.
    pub fn heal(&self, route: Route) {
        self.shared().faults.clear(route);
    }
}
