//! What has to be done with an event before there is something to deliver, where that takes long or did not work at once.
//!
//! Given by [`crate::dispatch`], and run by [`super::attempt`] when it is the event's turn in its lane. What is done is
//! not known here.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{GivenUp, Key, Part};
use crate::receipt::PartProgress;

/// Makes of one part of an event what there is to deliver of it.
pub trait Preparation: fmt::Debug + Send {
    /// Does it. Dropped before its end, it has not been done.
    fn run(self: Box<Self>) -> Pin<Box<dyn Future<Output = Prepared> + Send>>;
}

/// How a preparation ended.
#[derive(Debug)]
pub enum Prepared {
    /// This is to be delivered instead; nothing, if it is empty.
    Parts(SmallVec<[Part; 1]>),
    /// It did not work.
    Failed {
        /// What the dead letter says.
        error: GivenUp,
        /// Of the chain that it was tried with.
        generation: u64,
        /// To be done another time; none: that would not help.
        again: Option<Box<dyn Preparation>>,
    },
    /// It cannot be tried before this moment.
    NotBefore(Instant, Box<dyn Preparation>),
}

/// The preparation that a part still needs.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) preparation: Box<dyn Preparation>,
    /// What the parts that it makes go on from.
    pub(super) progress: Vec<PartProgress>,
    /// Held as long as later events of the key have to wait for it.
    pub(super) place: Option<Place>,
}

/// Keys with events that are not prepared. Later events of such a key may not overtake them.
#[derive(Debug, Default)]
pub(super) struct UnpreparedKeys {
    /// Most of the time there is none, which is all that most events ask.
    n: AtomicUsize,
    parts: Mutex<HashMap<Key, usize>>,
}

/// The place of one part.
#[derive(Debug)]
pub(super) struct Place {
    keys: Arc<UnpreparedKeys>,
    key: Key,
}

impl UnpreparedKeys {
    pub(super) fn contains(&self, key: Key) -> bool {
        self.n.load(Ordering::Acquire) > 0 && self.parts().contains_key(&key)
    }

    pub(super) fn enter(self: &Arc<Self>, key: Key) -> Place {
        *self.parts().entry(key).or_default() += 1;
        self.n.fetch_add(1, Ordering::Release);
        Place {
            keys: Arc::clone(self),
            key,
        }
    }

    fn parts(&self) -> MutexGuard<'_, HashMap<Key, usize>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut parts = self.keys.parts();
        if let Some(n) = parts.get_mut(&self.key) {
            *n -= 1;
            if *n == 0 {
                parts.remove(&self.key);
            }
        }
        self.keys.n.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_until_its_last_part_is_prepared() {
        let keys = Arc::new(UnpreparedKeys::default());
        let (key, other) = (Key::of(1), Key::of(2));
        assert!(!keys.contains(key));
        let (first, second) = (keys.enter(key), keys.enter(key));
        drop(first);
        assert!(keys.contains(key));
        assert!(!keys.contains(other));
        drop(second);
        assert!(!keys.contains(key));
        assert_eq!(keys.n.load(Ordering::Relaxed), 0);
    }
}
