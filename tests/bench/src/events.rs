//! What is published: rendered beforehand, one event per key, so that publishing costs a copy and three numbers.
//!
//! Called by `publisher`; `recipient` reads the ids back. It must not know how fast or through what events are sent.

use std::io::Write;

use anyhow::Context;
use bytes::Bytes;
use memchr::memmem;
use test_support::KeptnEvent;

use crate::clock::Clock;

/// The subject that events are published to, and their type.
pub(crate) const SUBJECT: &str = "sh.keptn.event.deployment.triggered";

/// The project of the events that a filter is to pass.
pub(crate) const PASSING_PROJECT: &str = "sockshop";

/// The service of all events.
pub(crate) const PASSING_SERVICE: &str = "carts";

/// One shape of load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) size_bytes: usize,
    /// Number of different values of `shkeptncontext`; events take them in turn.
    pub(crate) n_keys: usize,
    /// How many events of a hundred have the passing project.
    pub(crate) passing_percent: usize,
}

/// What stands in an event's `id`: all that the recipient wants to know of it, always at the same place in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventId {
    /// `false`: published to warm up, not counted.
    pub(crate) counted: bool,
    pub(crate) key: usize,
    pub(crate) sequence: usize,
    /// When it was published, by [`Clock`].
    pub(crate) published_ns: u64,
}

const ID_LENGTH: usize = "k0000-00000000-00000000000000000000".len();

impl EventId {
    fn write(self, mut place: &mut [u8]) {
        let letter = if self.counted { 'k' } else { 'w' };
        write!(
            place,
            "{letter}{:04}-{:08}-{:020}",
            self.key, self.sequence, self.published_ns
        )
        .expect("key and sequence are small enough for their places");
    }

    /// Reads it from a delivered event: from the first member `id`, which by convention of this load is near the start.
    pub(crate) fn find_in(event: &[u8], finder: &memmem::Finder<'_>) -> Option<Self> {
        let start = finder.find(event)? + finder.needle().len();
        let id = event.get(start..start + ID_LENGTH)?;
        let number = |range: std::ops::Range<usize>| std::str::from_utf8(&id[range]).ok()?.parse::<u64>().ok();
        Some(Self {
            counted: id[0] == b'k',
            key: usize::try_from(number(1..5)?).ok()?,
            sequence: usize::try_from(number(6..14)?).ok()?,
            published_ns: number(15..ID_LENGTH)?,
        })
    }

    /// What [`find_in`](Self::find_in) looks for.
    pub(crate) fn finder() -> memmem::Finder<'static> {
        memmem::Finder::new(br#""id":""#)
    }
}

/// A load, rendered.
#[derive(Debug)]
pub(crate) struct Events {
    rendered: Vec<Rendered>,
    passing: Vec<usize>,
    clock: Clock,
}

#[derive(Debug)]
struct Rendered {
    text: Vec<u8>,
    id_start: usize,
    passes: bool,
}

impl Events {
    pub(crate) fn render(load: Load, clock: Clock) -> anyhow::Result<Self> {
        let rendered = (0..load.n_keys)
            .map(|key| Rendered::new(load, key))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let passing: Vec<usize> = (0..load.n_keys).filter(|&key| rendered[key].passes).collect();
        anyhow::ensure!(
            !passing.is_empty(),
            "no key passes {} % of {} keys",
            load.passing_percent,
            load.n_keys
        );
        Ok(Self {
            rendered,
            passing,
            clock,
        })
    }

    /// Of one event; all are as large.
    pub(crate) fn size_bytes(&self) -> usize {
        self.rendered[0].text.len()
    }

    /// By key: whether a filter for [`PASSING_PROJECT`] passes its events.
    pub(crate) fn passing_by_key(&self) -> Vec<bool> {
        self.rendered.iter().map(|rendered| rendered.passes).collect()
    }

    /// Whether that filter passes the event with this number.
    pub(crate) fn passes(&self, sequence: usize) -> bool {
        self.rendered[sequence % self.rendered.len()].passes
    }

    /// Of the events with the numbers below this one, how many it passes.
    pub(crate) fn n_passing(&self, n_events: usize) -> usize {
        (0..n_events).filter(|&sequence| self.passes(sequence)).count()
    }

    /// The event with this number, stamped with the present time.
    pub(crate) fn counted(&self, sequence: usize) -> Bytes {
        self.stamp(sequence % self.rendered.len(), sequence, true)
    }

    /// An event that is not counted and passes the filter.
    pub(crate) fn warm_up(&self, nth: usize) -> Bytes {
        self.stamp(self.passing[nth % self.passing.len()], nth, false)
    }

    fn stamp(&self, key: usize, sequence: usize, counted: bool) -> Bytes {
        let rendered = &self.rendered[key];
        let mut text = rendered.text.clone();
        let id = EventId {
            counted,
            key,
            sequence,
            published_ns: self.clock.nanoseconds(),
        };
        id.write(&mut text[rendered.id_start..rendered.id_start + ID_LENGTH]);
        text.into()
    }
}

impl Rendered {
    fn new(load: Load, key: usize) -> anyhow::Result<Self> {
        // 37 has no factor in common with 100: passing events are spread evenly, not in runs.
        let passes = key * 37 % 100 < load.passing_percent;
        let event = KeptnEvent {
            id: "i".repeat(ID_LENGTH),
            project: if passes { PASSING_PROJECT } else { "podtato-head" }.into(),
            service: PASSING_SERVICE.to_owned(),
            keptn_context: format!("27665275-d285-4a5c-b9ee-a3fb072{key:05}"),
            size_bytes: load.size_bytes,
            ..KeptnEvent::of_type(SUBJECT)
        };
        let mut text = event.to_bytes().to_vec();
        if text.len() > load.size_bytes {
            text = bare_event(load.size_bytes, key);
        }
        let finder = EventId::finder();
        let id_start = finder.find(&text).context("an event without id")? + finder.needle().len();
        Ok(Self { text, id_start, passes })
    }
}

/// An event without what Keptn always sends, which takes 600 bytes: with as few as there have to be.
fn bare_event(size_bytes: usize, key: usize) -> Vec<u8> {
    let id = "i".repeat(ID_LENGTH);
    let mut text = format!(
        r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"{SUBJECT}","shkeptncontext":"{key:05}","data":""#
    );
    let end = "\"}";
    text += &"x".repeat(size_bytes.saturating_sub(text.len() + end.len()));
    text += end;
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_read_back_and_the_filter_passes_its_share() {
        let load = Load {
            size_bytes: 1024,
            n_keys: 1000,
            passing_percent: 10,
        };
        let events = Events::render(load, Clock::start()).unwrap();

        let event = events.counted(4_321);
        let id = EventId::find_in(&event, &EventId::finder()).unwrap();
        assert_eq!((event.len(), id.counted, id.key, id.sequence), (1024, true, 321, 4_321));
        assert!(
            !EventId::find_in(&events.warm_up(1), &EventId::finder())
                .unwrap()
                .counted
        );
        assert_eq!(events.n_passing(1000), 100);
        let small = Load {
            size_bytes: 200,
            ..load
        };
        let small = Events::render(small, Clock::start()).unwrap().counted(7);
        let id = EventId::find_in(&small, &EventId::finder()).unwrap();
        assert_eq!((small.len(), id.key), (200, 7));
        assert!(serde_json::from_slice::<serde_json::Value>(&small).is_ok());
    }
}
