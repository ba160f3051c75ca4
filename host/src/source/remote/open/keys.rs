//! What stands for events and subscriptions: numbers that are the same in every process.
//!
//! Used by [`super`], and by whoever names an event to it.

use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use crate::subscription::Match;

/// Stands for the id of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EventKey(pub(in crate::source::remote) u128);

/// Stands for a subscription, or for the topics of a distributor that is not registered. The same in every process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SubscriptionKey(pub(in crate::source::remote) u64);

/// The subscriptions of one event; most have one.
pub(crate) type SubscriptionKeys = SmallVec<[SubscriptionKey; 1]>;

impl EventKey {
    pub(in crate::source::remote) fn of(id: &[u8]) -> Self {
        let hash = Sha256::digest(id);
        let (first, _) = hash.split_first_chunk().expect("the hash has 32 bytes");
        Self(u128::from_be_bytes(*first))
    }
}

impl SubscriptionKey {
    /// Ids may be empty; those are told apart by what they ask for.
    pub(crate) fn of(found: &Match) -> Self {
        let Some(subscription) = found else {
            return Self(0);
        };
        let mut hash = Sha256::new();
        let mut add = |text: &str| {
            hash.update(text.len().to_be_bytes());
            hash.update(text);
        };
        add(&subscription.id);
        if subscription.id.is_empty() {
            add(subscription.event.as_str());
            for list in [&subscription.projects, &subscription.stages, &subscription.services] {
                add(&list.join(","));
            }
        }
        let hash = hash.finalize();
        let (first, _) = hash.split_first_chunk().expect("the hash has 32 bytes");
        Self(u64::from_be_bytes(*first))
    }
}
