//! What outlives instances and chains: the metrics, the state, the log rate and the calls of each plugin, by its name.
//!
//! Owned by [`super::super::host::Host`]. A plugin that a new chain has under the same name finds it all again; two
//! names never see each other's. It goes when no chain has the name any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::line_rate::LineRate;
use super::metrics::Metrics;
use super::store::Store;
use crate::plugins::usage::Usage;

/// What is kept for one plugin.
#[derive(Debug)]
pub(in crate::plugins) struct Kept {
    pub(in crate::plugins) metrics: Metrics,
    pub(super) store: Store,
    pub(in crate::plugins) line_rate: LineRate,
    pub(in crate::plugins) usage: Usage,
}

/// What is kept for each plugin.
#[derive(Debug, Default)]
pub(in crate::plugins) struct Keeper {
    by_name: Mutex<HashMap<Arc<str>, Weak<Kept>>>,
}

impl Kept {
    /// Nothing yet, and for nobody else to find.
    pub(in crate::plugins) fn new(name: &Arc<str>) -> Self {
        Self {
            metrics: Metrics::new(Arc::clone(name)),
            store: Store::default(),
            line_rate: LineRate::new(Arc::clone(name)),
            usage: Usage::default(),
        }
    }
}

impl Keeper {
    /// What is kept for the plugin of this name, empty at first.
    pub(in crate::plugins) fn of(&self, name: &Arc<str>) -> Arc<Kept> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = by_name.get(name).and_then(Weak::upgrade) {
            return kept;
        }
        by_name.retain(|_, kept| kept.strong_count() > 0);
        let kept = Arc::new(Kept::new(name));
        by_name.insert(Arc::clone(name), Arc::downgrade(&kept));
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_finds_its_own_again_while_anybody_has_it() {
        let keeper = Keeper::default();
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        let old = keeper.of(&one);
        assert!(Arc::ptr_eq(&old, &keeper.of(&one)));
        let different = keeper.of(&other);
        assert!(!Arc::ptr_eq(&old, &different));

        let next = keeper.of(&one);
        drop(old);
        assert!(Arc::ptr_eq(&next, &keeper.of(&one)), "a new chain holds it");
        next.metrics.add("seen", 1);
        drop(next);
        assert!(keeper.of(&one).metrics.values().is_empty(), "no chain held it");
    }

    #[test]
    fn names_that_are_gone_take_no_room() {
        let keeper = Keeper::default();
        for number in 0..1000 {
            keeper.of(&format!("plugin-{number}").into());
        }
        assert_eq!(keeper.by_name.lock().unwrap().len(), 1);
    }
}
