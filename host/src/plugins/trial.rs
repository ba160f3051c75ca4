//! Candidates: plugins that are tried out beside the chain (`mode = "shadow"`), or that count for a share of the events
//! (`mode = "canary"`), before they count for all.
//!
//! Used by [`super::chain`], which asks where a candidate stands and for which events it counts. [`super::shadow`] runs
//! it where it does not.

use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::context::Direction;
use super::plugin::Plugin;
use super::settings::Mode;
use super::shadow::Shadow;
use crate::event::Event;

/// One place in the chain: a plugin that counts, and those that are tried out in its place.
#[derive(Debug)]
pub(super) struct Slot {
    /// None: nothing stands here yet, an event passes.
    pub(super) active: Option<Arc<Plugin>>,
    /// Empty for nearly all.
    pub(super) candidates: Vec<Candidate>,
}

/// A plugin that is tried out.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) plugin: Arc<Plugin>,
    /// For so many of 100 keys it counts.
    percent: u8,
    pub(super) shadow: Arc<Shadow>,
}

/// What came of trying a plugin out, since the chain was put together.
#[derive(Debug, Clone, Serialize)]
pub struct Trial {
    /// The candidate.
    pub plugin: String,
    /// `shadow` or `canary`.
    pub mode: &'static str,
    /// The share of the keys that a canary counts for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// The plugin that it is compared with. None: with letting events pass as they are.
    pub beside: Option<String>,
    /// Events for which it counted.
    pub enforced: u64,
    /// Events on which both did the same.
    pub agreed: u64,
    /// Events on which they did not.
    pub disagreed: u64,
    /// Events that the candidate failed on.
    pub failed: u64,
    /// Events that were not compared, because the candidate is too slow or the other plugin failed on them.
    pub skipped: u64,
    /// The candidate's last failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// The last disagreements, the oldest first.
    pub samples: Vec<Sample>,
}

/// One disagreement.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// When it was found, in RFC 3339.
    pub time: String,
    /// The event that both got.
    pub event_id: String,
    /// Its type.
    pub event_type: String,
    /// What the plugin said that counts.
    pub active: String,
    /// What the candidate said.
    pub candidate: String,
    /// JSON Pointer to the first thing in which what they made differs, if both made events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub difference: Option<String>,
}

/// Puts plugins at their places. A candidate stands where the plugin stands that it is a candidate for: the one that its
/// entry names (`beside`), else the last one before it that calls itself the same and runs the same way. Where there is none, it has a place of its own.
pub(super) fn places(plugins: &[Arc<Plugin>]) -> Vec<Slot> {
    let mut slots: Vec<Slot> = Vec::with_capacity(plugins.len());
    for plugin in plugins {
        let percent = match plugin.settings().mode {
            Mode::Enforce => {
                slots.push(Slot {
                    active: Some(Arc::clone(plugin)),
                    candidates: Vec::new(),
                });
                continue;
            }
            Mode::Shadow => 0,
            Mode::Canary { percent } => percent,
        };
        let is_beside = |slot: &&mut Slot| {
            let Some(active) = &slot.active else { return false };
            let runs = |direction| active.directions().contains(direction);
            match &plugin.settings().beside {
                Some(name) => active.name() == name,
                None => active.component_name() == plugin.component_name() && plugin.directions().iter().any(runs),
            }
        };
        let slot = slots.iter_mut().rev().find(is_beside);
        let beside = slot.as_ref().and_then(|slot| slot.active.clone());
        let candidate = Candidate {
            plugin: Arc::clone(plugin),
            percent,
            shadow: Arc::new(Shadow::new(Arc::clone(plugin), beside)),
        };
        match slot {
            Some(slot) => slot.candidates.push(candidate),
            None => slots.push(Slot {
                active: None,
                candidates: vec![candidate],
            }),
        }
    }
    slots
}

impl Slot {
    /// The plugin that counts for an event on this way: a canary whose share it is in, or the one that stands here.
    pub(super) fn enforced(&self, root: &Event, direction: Direction) -> Option<&Arc<Plugin>> {
        let canary = self.candidates.iter().find(|candidate| {
            candidate.percent > 0 && candidate.runs(direction) && {
                let key = root.keptn_context().unwrap_or_else(|| root.id());
                is_in_share(candidate.plugin.name(), &key, candidate.percent)
            }
        });
        if let Some(canary) = canary {
            canary.shadow.count_enforced();
            return Some(&canary.plugin);
        }
        let active = self.active.as_ref();
        active.filter(|plugin| plugin.directions().contains(&direction))
    }
}

impl Candidate {
    pub(super) fn runs(&self, direction: Direction) -> bool {
        self.plugin.directions().contains(&direction)
    }

    /// What came of it so far.
    pub(super) fn report(&self) -> Trial {
        let percent = match self.plugin.settings().mode {
            Mode::Canary { percent } => Some(percent),
            _ => None,
        };
        self.shadow.report(percent)
    }
}

/// Whether a key is in the share of a canary. The same in every process and after every restart, and a share that grows
/// keeps the keys that it has. The name is part of it, so that two canaries are not tried out on the same few.
fn is_in_share(name: &str, key: &str, percent: u8) -> bool {
    let hash = Sha256::new_with_prefix(name)
        .chain_update([0])
        .chain_update(key)
        .finalize();
    let (first, _) = hash.split_first_chunk().expect("the hash has 32 bytes");
    u64::from_be_bytes(*first) % 100 < u64::from(percent)
}

#[cfg(test)]
mod tests {
    use super::is_in_share;

    fn share(name: &str, percent: u8) -> Vec<usize> {
        let is_in = |number: &usize| is_in_share(name, &format!("context-{number}"), percent);
        (0..10_000).filter(is_in).collect()
    }

    #[test]
    fn a_share_is_as_large_as_asked_for_and_grows_without_losing_anybody() {
        assert!(share("canary", 0).is_empty());
        assert_eq!(share("canary", 100).len(), 10_000);
        let (small, large) = (share("canary", 10), share("canary", 30));
        assert!((900..1100).contains(&small.len()), "{}", small.len());
        assert!((2800..3200).contains(&large.len()), "{}", large.len());
        assert!(small.iter().all(|number| large.contains(number)));
        assert_ne!(small, share("another", 10));
    }

    #[test]
    fn a_share_is_the_same_in_every_process() {
        let first: Vec<_> = share("canary", 10).into_iter().take(5).collect();
        assert_eq!(first, [40, 44, 51, 58, 67], "replicas of two versions must agree");
    }
}
