//! What must not happen to an event.

use std::time::Duration;

use super::{Journal, State};
use crate::config::Ordering;
use crate::dead_letter::{DeadLetter, Reason};
use crate::delivery::model::life::{Life, Progress};
use crate::delivery::model::scenario::Kind;
use crate::delivery::model::wire::LATENCY;

/// Within this time an event is delivered that nothing is wrong with.
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// Time that an acknowledgement takes to the server, with some to spare.
const ACKNOWLEDGING: Duration = LATENCY.saturating_mul(4);
/// Time after a broken connection in which it is said again.
const SAYING_AGAIN: Duration = Duration::from_secs(1);

impl Journal {
    /// First in, first out for what came to this process first. What has not been tried yet goes on in its order in the
    /// next process as well, unless one was killed, something was lost, or the server repeated something; or had it waiting
    /// when the process ended, which nobody can change. With replicas, what was given back may go on elsewhere.
    pub(super) fn check_order(&self, state: &mut State, life: usize, sequence: u64) {
        state.event(sequence).is_tried = true;
        if self.has_replicas() || self.scenario.config.ordering == Ordering::None {
            return;
        }
        let is_earlier = |&&earlier: &&u64| self.is_same_key(earlier, sequence) && !self.is_settled(state, earlier);
        let mut earlier = state.lives[life].fresh.range(..sequence).find(is_earlier);
        let is_repeated = state.events.values().any(|event| event.is_repeated);
        let is_quiet = !is_repeated && !state.lives.iter().any(Life::is_disturbed);
        if is_quiet && earlier.is_none() && state.events[&sequence].stayed() {
            let mut before = state.lives[..life].iter().flat_map(|life| life.fresh.range(..sequence));
            let is_untried = |earlier: &u64| !state.events[earlier].is_tried && state.events[earlier].stayed();
            earlier = before.find(|earlier| is_earlier(earlier) && is_untried(earlier));
        }
        let earlier = earlier.copied();
        self.check(state, sequence, earlier.is_none(), || {
            format!("goes before {earlier:?}")
        });
    }

    /// What is settled is tried again only if the process that knew it is gone, and had no time to tell.
    pub(super) fn check_repetition(&self, state: &mut State, life: usize, sequence: u64, part: usize) {
        let event = state.event(sequence);
        let is_repeated = event.is_repeated;
        let earlier = event.settled.get(&part).cloned().unwrap_or_default();
        let own_breaks = !state.lives[life].breaks.is_empty();
        let unexcused = earlier.into_iter().find(|settled| {
            let other = &state.lives[settled.life];
            let is_excused = if self.has_replicas() {
                // How far the parts are is known to one process only.
                let has_parts = self.scenario.event(sequence).n_parts() > 1;
                has_parts || is_repeated || (settled.life != life && (own_breaks || other.is_disturbed()))
            } else {
                let done = self.was_done(state, sequence, settled.life);
                settled.life != life && done.is_none_or(|at| !other.could_tell(at, ACKNOWLEDGING, SAYING_AGAIN))
            };
            !is_excused
        });
        self.check(state, sequence, unexcused.is_none(), || {
            format!("part {part} is settled already, {unexcused:?}, and is tried again in life {life}")
        });
    }

    /// Attempts are counted and pauses kept, also where the event was given back in between.
    pub(super) fn check_number(&self, state: &mut State, life: usize, sequence: u64, part: usize, number: u32) {
        let Progress {
            n_counted,
            is_final,
            not_before,
            ..
        } = state.lives[life].progress(sequence, part);
        let is_right = number == n_counted + 1 || (self.has_replicas() && number <= n_counted);
        let max = self.scenario.config.retries + 1;
        self.check(state, sequence, is_right && number <= max, || {
            format!("attempt {number} after {n_counted}, of {max}")
        });
        let is_allowed = self.has_replicas() || (!is_final && self.now() >= not_before);
        self.check(state, sequence, is_allowed, || {
            format!("tried again (was that final? {is_final}), and not before {not_before:?}")
        });
    }

    /// A dead letter has a reason, and tells the truth.
    pub(super) fn check_letter(&self, state: &mut State, life: usize, sequence: u64, part: usize, letter: &DeadLetter) {
        let progress = state.lives[life].progress(sequence, part);
        let config = &self.scenario.config;
        let kind = self.scenario.event(sequence).kind;
        let is_right = match letter.reason {
            Reason::RetriesExhausted => letter.attempts == config.retries + 1,
            Reason::Expired => progress
                .first_reached
                .is_some_and(|first| self.now() >= first + config.max_age),
            Reason::PermanentStatus => matches!(kind, Kind::Refused(400 | 501)),
            Reason::TooLarge => kind == Kind::Refused(413),
            Reason::Malformed => kind == Kind::Malformed,
            Reason::Plugin | Reason::Unknown => false,
        };
        self.check(state, sequence, is_right, || {
            format!("a dead letter without reason: {letter:?}, {progress:?}")
        });
        let is_counted = letter.attempts == progress.n_counted || self.has_replicas();
        self.check(state, sequence, is_counted, || {
            format!("a dead letter with another count: {letter:?}, {progress:?}")
        });
    }

    /// Poisoned keys do not hold the others up.
    pub(super) fn check_delay(&self, state: &mut State, sequence: u64, now: Duration) {
        let planned = self.scenario.event(sequence);
        let is_healthy = planned.key.is_some_and(|key| self.scenario.keys[key].healed.is_zero());
        let delay = now.saturating_sub(planned.at);
        let is_right = !self.scenario.is_calm || !is_healthy || delay <= LONGEST_DELAY;
        self.check(state, sequence, is_right, || {
            format!("delivered after {delay:?}, although nothing is wrong with its key")
        });
    }

    /// When this process had nothing more to do with an event: how far the parts are is known to one process only.
    fn was_done(&self, state: &State, sequence: u64, life: usize) -> Option<Duration> {
        let parts = state.events[&sequence].settled.values();
        let moments = parts.filter_map(|settled| settled.iter().find(|settled| settled.life == life));
        let is_done = moments.clone().count() == self.scenario.event(sequence).n_parts();
        moments.map(|settled| settled.at).max().filter(|_| is_done)
    }

    fn is_settled(&self, state: &State, sequence: u64) -> bool {
        let n_settled = state.events.get(&sequence).map_or(0, |event| event.settled.len());
        n_settled == self.scenario.event(sequence).n_parts()
    }

    /// Another process may have gone on with an event.
    fn has_replicas(&self) -> bool {
        self.scenario.n_replicas > 1
    }
}
