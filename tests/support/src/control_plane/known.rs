//! What the control plane knows, for tests to look at, to change, and to wait for.
//!
//! Called by tests.

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;
use tokio::time::timeout;

use super::ControlPlane;
use super::ids::now;
use super::sequence::Sequence;
use super::store::Store;
use super::uniform::Integration;
use crate::KeptnEvent;

impl ControlPlane {
    /// Everybody who is registered.
    #[must_use]
    pub fn integrations(&self) -> Vec<Integration> {
        self.store().uniform.0.values().cloned().collect()
    }

    /// Waits until somebody is registered under this name.
    ///
    /// # Errors
    ///
    /// When nobody is after `within`.
    pub async fn wait_for_integration(&self, name: &str, within: Duration) -> anyhow::Result<Integration> {
        let find = |store: &Store| store.uniform.0.values().find(|known| known.name == name).cloned();
        self.wait_until(within, &format!("{name} to be registered"), find).await
    }

    /// Changes what an integration wants: a list of `{"id","event","filter"}`, or whatever a test wants to be served. It
    /// learns that with its next ping.
    ///
    /// # Errors
    ///
    /// When there is no such integration.
    pub fn set_subscriptions(&self, id: &str, subscriptions: Value) -> anyhow::Result<()> {
        let mut store = self.store();
        let integration = store.uniform.0.get_mut(id);
        integration
            .with_context(|| format!("nobody is registered as {id:?}"))?
            .subscriptions = subscriptions;
        Ok(())
    }

    /// Forgets an integration, as one that was not heard of for too long: its next ping is answered with 404.
    pub fn forget(&self, id: &str) {
        self.store().uniform.0.remove(id);
    }

    /// Lists an event as open, with the time of this moment.
    pub fn open_event(&self, event: &KeptnEvent) {
        self.open_events([event.clone()]);
    }

    /// Lists many events as open, each with the time of its moment.
    pub fn open_events(&self, events: impl IntoIterator<Item = KeptnEvent>) {
        let mut store = self.store();
        for event in events {
            let mut event: Value = serde_json::from_slice(&event.to_bytes()).unwrap_or_default();
            event["time"] = now().into();
            store.events.open(&event);
        }
    }

    /// Lists an event as open that may be anything, also what the server would not have.
    pub fn open_event_as_it_is(&self, event: &Value) {
        self.store().events.open(event);
    }

    /// Lists an event no longer, as if everybody who started on it had finished.
    pub fn close_event(&self, id: &str) {
        self.store().events.close(id);
    }

    /// Waits until an event that is `wanted` is listed as open and returns it, in the API's form.
    ///
    /// # Errors
    ///
    /// When there is none after `within`.
    pub async fn wait_for_open_event(
        &self,
        within: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        let find = |store: &Store| store.events.open_events().find(&wanted);
        self.wait_until(within, "an open event", find).await
    }

    /// How many events are open.
    #[must_use]
    pub fn n_open_events(&self) -> usize {
        self.store().events.n_open()
    }

    /// The events that were taken through `POST /v1/event`, in the API's form, with the ids that they were given.
    #[must_use]
    pub fn sent_events(&self) -> Vec<Value> {
        self.store().events.sent()
    }

    /// The entries of the error log.
    #[must_use]
    pub fn logs(&self) -> Vec<Value> {
        self.store().logs.clone()
    }

    /// Waits until the error log has at least `n` entries.
    ///
    /// # Errors
    ///
    /// When it has fewer after `within`.
    pub async fn wait_for_logs(&self, n: usize, within: Duration) -> anyhow::Result<Vec<Value>> {
        let find = |store: &Store| (store.logs.len() >= n).then(|| store.logs.clone());
        self.wait_until(within, &format!("{n} entries of the error log"), find)
            .await
    }

    /// Puts a file into the resource service; `owner` is like `/v1/project/sockshop/stage/dev`.
    pub fn put_resource(&self, owner: &str, uri: &str, content_in_base64: &str) {
        self.store().resources.put(owner, uri, content_in_base64);
    }

    /// The state of a sequence, as the control plane shows it.
    #[must_use]
    pub fn state(&self, context: &str) -> Option<Value> {
        state(&self.store(), context)
    }

    /// Waits until a sequence is in this state (`finished`) and returns all of it.
    ///
    /// # Errors
    ///
    /// When it is in another one after `within`.
    pub async fn wait_for_state(&self, context: &str, wanted: &str, within: Duration) -> anyhow::Result<Value> {
        let find = |store: &Store| state(store, context).filter(|state| state["state"] == wanted);
        let found = self
            .wait_until(within, &format!("a sequence to be {wanted}"), find)
            .await;
        found.with_context(|| format!("its state is {:?}", self.state(context)))
    }

    async fn wait_until<T>(
        &self,
        within: Duration,
        what: &str,
        find: impl Fn(&Store) -> Option<T>,
    ) -> anyhow::Result<T> {
        let mut changes = self.shared().changes.subscribe();
        let found = async {
            loop {
                changes.mark_unchanged();
                let found = find(&self.store());
                match found {
                    Some(found) => return Some(found),
                    None => changes.changed().await.ok()?,
                }
            }
        };
        let found = timeout(within, found).await.ok().flatten();
        found.with_context(|| format!("the control plane waited {within:?} for {what}"))
    }
}

fn state(store: &Store, context: &str) -> Option<Value> {
    let sequence = store.sequences.iter().find(|sequence| sequence.context() == context);
    sequence.map(Sequence::state)
}
