//! `state`: the plugin's own store, for those with the grant.

use std::time::Duration;

use super::State;
use super::store::{Store, StoreError};
use crate::plugins::bindings::keptn::distributor::state;
use crate::plugins::error::{Misuse, one_line};

impl state::Host for State {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, state::Error>> {
        self.on_store(&key, |store, _| Ok(store.get(&key)))
    }

    fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: Option<u64>) -> wasmtime::Result<Result<(), state::Error>> {
        self.on_store(&key, |store, quota| store.set(&key, value, time(ttl_ms), quota))
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), state::Error>> {
        self.on_store(&key, |store, _| {
            store.delete(&key);
            Ok(())
        })
    }

    fn increment(
        &mut self,
        key: String,
        delta: i64,
        ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<i64, state::Error>> {
        self.on_store(&key, |store, quota| store.increment(&key, delta, time(ttl_ms), quota))
    }

    fn set_if_absent(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<bool, state::Error>> {
        self.on_store(&key, |store, quota| {
            store.set_if_absent(&key, value, time(ttl_ms), quota)
        })
    }
}

impl State {
    /// Works on the store with the quota, if that is granted.
    fn on_store<R>(
        &mut self,
        key: &str,
        work: impl FnOnce(&Store, usize) -> Result<R, StoreError>,
    ) -> wasmtime::Result<Result<R, state::Error>> {
        self.count_call()?;
        let settings = &self.shared.settings;
        // A plugin that is being loaded may turn out to be no good, and must not have changed anything by then.
        if !settings.grants.state || !self.output.call().is_for_event() {
            return Ok(Err(state::Error::Denied));
        }
        match work(&self.shared.kept.store, settings.limits.state_bytes) {
            Ok(result) => Ok(Ok(result)),
            Err(StoreError::QuotaExceeded) => Ok(Err(state::Error::QuotaExceeded)),
            // The contract has no answer for it, and to begin at 0 would lose what stands there.
            Err(StoreError::NotANumber) => Err(wasmtime::Error::new(Misuse::NotANumber(one_line(key)))),
        }
    }
}

fn time(ttl_ms: Option<u64>) -> Option<Duration> {
    ttl_ms.map(Duration::from_millis)
}
