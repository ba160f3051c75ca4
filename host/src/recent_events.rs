//! The last events, with the path that each took and why it stopped, for whoever operates the distributor.
//!
//! Written by [`crate::dispatch`], [`crate::delivery`] and [`crate::ingress`], read by [`crate::control`]. What goes wrong is always written
//! down. What goes well or is dropped on purpose is written down as far as an allowance goes, which [`crate::status`]
//! renews every second and which is larger while somebody looks: an event costs one look at a number when it is used up.
//! Attributes only, never what an event carries.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::dead_letter::{one_line, rfc3339};
use crate::event::Event;

/// Events that are remembered of each kind: those in trouble, so that a flood of others does not push them out, and the
/// others.
const MAX_EVENTS: usize = 100;
/// Steps of one event; of more the first and the last ones are kept.
const MAX_STEPS: usize = 24;
const MAX_TEXT_BYTES: usize = 512;
/// Drops written down in a second while nobody looks.
const DROPS_UNSEEN: u32 = 5;
/// Drops, and deliveries, written down in a second while somebody looks.
const SEEN: u32 = 50;

/// What happened to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// No topic or subscription matched.
    Unmatched,
    /// It came before on another way.
    Duplicate,
    /// A plugin dropped it.
    Dropped,
    /// A plugin failed on it.
    PluginFailed,
    /// An attempt to deliver it failed.
    AttemptFailed,
    /// The service took it.
    Delivered,
    /// The service sent it, and the control plane has it.
    Forwarded,
    /// A plugin answered it with an event for the control plane.
    Published,
    /// What a plugin answered could not be sent.
    NotPublished,
    /// It is in the dead letters.
    DeadLettered,
    /// It could not be put there.
    NotStored,
    /// It was given up, and is kept nowhere.
    Lost,
}

/// One step of an event's path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub at: String,
    /// What.
    pub step: StepKind,
    /// With what result, and why.
    pub text: String,
}

/// What is known of an event without its payload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventNames {
    /// Attribute `id`.
    pub id: String,
    /// Attribute `type`.
    #[serde(rename = "type")]
    pub ty: String,
    /// Attribute `source`.
    pub source: String,
    /// Extension `shkeptncontext`.
    #[serde(rename = "shkeptncontext")]
    pub keptn_context: String,
    /// Attribute `time`.
    pub time: String,
    /// The subscription that it matched.
    #[serde(rename = "subscriptionid")]
    pub subscription_id: Option<String>,
}

/// An event and its path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecentEvent {
    /// Which one.
    #[serde(flatten)]
    pub names: EventNames,
    /// What happened to it, in order.
    pub path: Vec<Step>,
}

/// The last events.
#[derive(Debug, Default)]
pub struct RecentEvents {
    /// Drops that may still be written down in this second.
    drops: AtomicU32,
    /// Deliveries; none while nobody looks.
    deliveries: AtomicU32,
    is_looked_at: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    in_trouble: VecDeque<RecentEvent>,
    others: VecDeque<RecentEvent>,
}

impl EventNames {
    /// Those of an event.
    pub fn of(event: &Event, subscription_id: Option<&str>) -> Self {
        let text = |text: &str| one_line(text, MAX_TEXT_BYTES);
        let time = event.members().into_iter().find(|(name, _)| name == "time");
        Self {
            id: text(&event.id()),
            ty: text(&event.ty()),
            source: text(&event.source()),
            keptn_context: text(&event.keptn_context().unwrap_or_default()),
            time: text(&time.and_then(|(_, value)| value.text()).unwrap_or_default()),
            subscription_id: subscription_id.map(text),
        }
    }
}

impl RecentEvents {
    /// Writes down what went wrong with an event, or what became of one with which something went wrong before.
    pub fn in_trouble(&self, names: EventNames, step: StepKind, what: &str) {
        let step = Step::now(step, what);
        let mut kept = self.kept();
        let known = kept.in_trouble.iter_mut().rev().find(|event| event.names == names);
        if let Some(event) = known {
            if event.path.len() == MAX_STEPS {
                event.path.remove(MAX_STEPS / 2);
            }
            event.path.push(step);
        } else {
            put(&mut kept.in_trouble, names, step);
        }
    }

    /// Writes down that an event was dropped on purpose, if there is an allowance for it.
    pub fn dropped(&self, step: StepKind, event: impl FnOnce() -> (EventNames, String)) {
        self.routine(&self.drops, step, event);
    }

    /// Writes down that an event was delivered at once, if somebody looks.
    pub fn delivered(&self, event: impl FnOnce() -> (EventNames, String)) {
        self.routine(&self.deliveries, StepKind::Delivered, event);
    }

    /// Writes down that an event of the service was sent, if somebody looks.
    pub fn forwarded(&self, event: impl FnOnce() -> (EventNames, String)) {
        self.routine(&self.deliveries, StepKind::Forwarded, event);
    }

    fn routine(&self, allowance: &AtomicU32, step: StepKind, event: impl FnOnce() -> (EventNames, String)) {
        // Every event comes by here.
        if allowance.load(Ordering::Relaxed) == 0 {
            return;
        }
        let taken = allowance.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if taken.is_ok() {
            let (names, what) = event();
            put(&mut self.kept().others, names, Step::now(step, &what));
        }
    }

    /// Renews the allowance; called every second. `is_looked_at`: somebody has looked a moment ago.
    pub fn renew(&self, is_looked_at: bool) {
        let (drops, deliveries) = if is_looked_at { (SEEN, SEEN) } else { (DROPS_UNSEEN, 0) };
        self.drops.store(drops, Ordering::Relaxed);
        self.deliveries.store(deliveries, Ordering::Relaxed);
        self.is_looked_at.store(is_looked_at, Ordering::Relaxed);
    }

    /// Whether deliveries are written down as well.
    pub fn is_complete(&self) -> bool {
        self.is_looked_at.load(Ordering::Relaxed)
    }

    /// What is remembered, the event with the latest step first.
    pub fn list(&self) -> Vec<RecentEvent> {
        let kept = self.kept();
        let mut events: Vec<_> = kept.in_trouble.iter().chain(&kept.others).cloned().collect();
        drop(kept);
        let last = |event: &RecentEvent| event.path.last().map(|step| step.at.clone());
        // Stable, so that equal times stay in the order in which they were written down.
        events.reverse();
        events.sort_by_key(|event| std::cmp::Reverse(last(event)));
        events
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Step {
    fn now(step: StepKind, what: &str) -> Self {
        Self {
            at: rfc3339(SystemTime::now()),
            step,
            text: one_line(what, MAX_TEXT_BYTES),
        }
    }
}

fn put(events: &mut VecDeque<RecentEvent>, names: EventNames, step: Step) {
    if events.len() == MAX_EVENTS {
        events.pop_front();
    }
    let path = vec![step];
    events.push_back(RecentEvent { names, path });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(id: &str) -> EventNames {
        EventNames {
            id: id.to_owned(),
            ..EventNames::default()
        }
    }

    fn ids(recent: &RecentEvents) -> Vec<String> {
        recent.list().into_iter().map(|event| event.names.id).collect()
    }

    #[test]
    fn what_goes_wrong_is_written_down_whoever_looks() {
        let recent = RecentEvents::default();
        recent.in_trouble(names("a"), StepKind::AttemptFailed, "answered 503");
        recent.in_trouble(names("a"), StepKind::Delivered, "answered 200");
        let [event] = &recent.list()[..] else {
            panic!("there is one event")
        };
        let path: Vec<_> = event.path.iter().map(|step| (step.step, step.text.as_str())).collect();
        assert_eq!(
            path,
            [
                (StepKind::AttemptFailed, "answered 503"),
                (StepKind::Delivered, "answered 200")
            ]
        );
    }

    #[test]
    fn what_goes_well_is_written_down_while_somebody_looks() {
        let recent = RecentEvents::default();
        recent.delivered(|| unreachable!("nobody looks"));
        recent.renew(true);
        assert!(recent.is_complete());
        recent.delivered(|| (names("a"), String::new()));
        assert_eq!(ids(&recent), ["a"]);
        recent.renew(false);
        recent.delivered(|| unreachable!("nobody looks any more"));
    }

    #[test]
    fn a_flood_takes_no_more_than_its_allowance_and_pushes_out_nothing_that_went_wrong() {
        let recent = RecentEvents::default();
        recent.in_trouble(names("trouble"), StepKind::Lost, "");
        recent.renew(false);
        let mut n_written = 0;
        for _ in 0..1000 {
            recent.dropped(StepKind::Dropped, || {
                n_written += 1;
                (names("drop"), String::new())
            });
        }
        assert_eq!(n_written, DROPS_UNSEEN);
        for _ in 0..100 {
            recent.renew(true);
            for _ in 0..SEEN {
                recent.dropped(StepKind::Dropped, || (names("drop"), String::new()));
            }
        }
        let ids = ids(&recent);
        assert_eq!(ids.len(), MAX_EVENTS + 1);
        assert!(ids.contains(&"trouble".to_owned()));
    }

    #[test]
    fn a_path_without_end_keeps_its_start_and_its_end() {
        let recent = RecentEvents::default();
        for number in 0..100 {
            recent.in_trouble(names("a"), StepKind::NotStored, &number.to_string());
        }
        let path = &recent.list()[0].path;
        assert_eq!(
            (path.len(), path[0].text.as_str(), path[MAX_STEPS - 1].text.as_str()),
            (MAX_STEPS, "0", "99")
        );
    }
}
