//! The key-value store of one plugin: entries that may expire, under a quota of bytes.
//!
//! Used by [`super::state`]. Every operation holds one lock from start to end, so that instances of the plugin that run
//! at the same time see each other's writes as wholes.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What an entry takes of the quota besides its key and its value: it takes that in memory, too.
pub(super) const ENTRY_BYTES: usize = 128;

/// The entries of one plugin.
#[derive(Debug, Default)]
pub(super) struct Store {
    entries: Mutex<Entries>,
}

/// Why something is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreError {
    /// It would go over the quota.
    QuotaExceeded,
    /// The value to add to is not a decimal number of 64 bits.
    NotANumber,
}

#[derive(Debug, Default)]
struct Entries {
    by_key: HashMap<Arc<str>, Entry>,
    /// The entries that expire, the next one first.
    expiries: BTreeSet<(Instant, Arc<str>)>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    value: Box<[u8]>,
    expires: Option<Instant>,
}

impl Store {
    pub(super) fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.with_live(|entries| entries.by_key.get(key).map(|entry| entry.value.to_vec()))
    }

    /// Stores a value. Without `ttl` it stays for good, whatever held before.
    pub(super) fn set(&self, key: &str, value: Vec<u8>, ttl: Option<Duration>, quota: usize) -> Result<(), StoreError> {
        self.with_live(|entries| entries.put(key, value, expiry(ttl), quota))
    }

    pub(super) fn delete(&self, key: &str) {
        self.with_live(|entries| entries.remove(key));
    }

    /// Adds to a number, which stops at the ends of its range, and returns the new one. With `ttl` the entry lives that
    /// long from now on; without, it keeps the end it had.
    pub(super) fn increment(
        &self,
        key: &str,
        delta: i64,
        ttl: Option<Duration>,
        quota: usize,
    ) -> Result<i64, StoreError> {
        self.with_live(|entries| {
            let (number, expires) = match entries.by_key.get(key) {
                Some(entry) => (number(&entry.value).ok_or(StoreError::NotANumber)?, entry.expires),
                None => (0, None),
            };
            let sum = number.saturating_add(delta);
            let expires = if ttl.is_some() { expiry(ttl) } else { expires };
            entries.put(key, sum.to_string().into_bytes(), expires, quota)?;
            Ok(sum)
        })
    }

    /// Stores a value where there is none, and says whether it did.
    pub(super) fn set_if_absent(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl: Option<Duration>,
        quota: usize,
    ) -> Result<bool, StoreError> {
        self.with_live(|entries| {
            if entries.by_key.contains_key(key) {
                return Ok(false);
            }
            entries.put(key, value, expiry(ttl), quota)?;
            Ok(true)
        })
    }

    /// What all entries take of the quota, counted anew.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.with_live(|entries| {
            let sizes = entries.by_key.iter().map(|(key, entry)| size(key, &entry.value));
            let bytes = sizes.sum();
            assert_eq!(entries.bytes, bytes, "the count is kept");
            bytes
        })
    }

    /// Works on the entries that have not expired.
    fn with_live<R>(&self, work: impl FnOnce(&mut Entries) -> R) -> R {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.expire(Instant::now());
        work(&mut entries)
    }
}

impl Entries {
    fn put(&mut self, key: &str, value: Vec<u8>, expires: Option<Instant>, quota: usize) -> Result<(), StoreError> {
        let former = self.by_key.get(key).map_or(0, |entry| size(key, &entry.value));
        let bytes = self.bytes - former + size(key, &value);
        if bytes > quota {
            return Err(StoreError::QuotaExceeded);
        }
        self.remove(key);
        self.bytes = bytes;
        let key: Arc<str> = key.into();
        if let Some(at) = expires {
            self.expiries.insert((at, Arc::clone(&key)));
        }
        let value = value.into_boxed_slice();
        self.by_key.insert(key, Entry { value, expires });
        Ok(())
    }

    fn remove(&mut self, key: &str) {
        if let Some((key, entry)) = self.by_key.remove_entry(key) {
            self.bytes -= size(&key, &entry.value);
            if let Some(at) = entry.expires {
                self.expiries.remove(&(at, key));
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((at, _)) = self.expiries.first()
            && *at <= now
            && let Some((_, key)) = self.expiries.pop_first()
            && let Some(entry) = self.by_key.remove(&key)
        {
            self.bytes -= size(&key, &entry.value);
        }
    }
}

/// When an entry ends. None: never, or so late that the clock does not know it.
fn expiry(ttl: Option<Duration>) -> Option<Instant> {
    ttl.and_then(|ttl| Instant::now().checked_add(ttl))
}

/// What an entry takes of the quota.
fn size(key: &str, value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_BYTES
}

fn number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
