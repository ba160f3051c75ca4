//! Compares what was published with what a recipient has accepted: lost, repeated, out of order.
//!
//! Called by tests. It must not know how either came about. One pass, some hundred bytes for each event.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::journal::Delivery;
use crate::numbered_events::PublishedEvent;

/// What is to be said about a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How many events were published.
    pub n_published: usize,
    /// How many requests the recipient got for events, however it answered.
    pub n_attempts: usize,
    /// Ids of published events that were never accepted.
    pub lost: Vec<String>,
    /// How many times an event was accepted again.
    pub n_duplicates: usize,
    /// Ids of events that were accepted for the first time after a later one of their key had been.
    pub inversions: Vec<String>,
    /// Ids that were accepted and are not known to be published, each once: of another publisher, or of an event whose
    /// confirmation was lost.
    pub unexpected: Vec<String>,
}

impl Verdict {
    /// Judges a run by all deliveries, in the order of their arrival.
    #[must_use]
    pub fn of(published: &[PublishedEvent], deliveries: &[Delivery]) -> Self {
        let mut verdict = Self {
            n_published: published.len(),
            n_attempts: deliveries.len(),
            ..Self::default()
        };
        let published_by_id: HashMap<&str, &PublishedEvent> =
            published.iter().map(|event| (&*event.id, event)).collect();
        let mut n_accepted: HashMap<&str, usize> = HashMap::with_capacity(published.len());
        let mut last_of_key: HashMap<&str, u64> = HashMap::new();
        for delivery in deliveries.iter().filter(|delivery| delivery.is_accepted()) {
            let n_accepted = n_accepted.entry(&*delivery.id).or_default();
            *n_accepted += 1;
            if *n_accepted > 1 {
                verdict.n_duplicates += 1;
                continue;
            }
            let Some(event) = published_by_id.get(&*delivery.id) else {
                verdict.unexpected.push(delivery.id.to_string());
                continue;
            };
            let last = last_of_key.entry(&*event.key).or_insert(event.number);
            if event.number < *last {
                verdict.inversions.push(event.id.to_string());
            }
            *last = event.number.max(*last);
        }
        let never_accepted = published.iter().filter(|event| !n_accepted.contains_key(&*event.id));
        verdict.lost = never_accepted.map(|event| event.id.to_string()).collect();
        verdict
    }

    /// Whether every event was accepted exactly once, in the order of its key.
    #[must_use]
    pub fn is_perfect(&self) -> bool {
        self.is_complete() && self.n_duplicates == 0
    }

    /// Whether every event was accepted and the first times were in order: what a fault may not take away. Events whose
    /// confirmation was lost are allowed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.lost.is_empty() && self.inversions.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} published, {} attempts, {} lost{}, {} duplicates, {} inversions{}, {} unexpected{}",
            self.n_published,
            self.n_attempts,
            self.lost.len(),
            first_ids(&self.lost),
            self.n_duplicates,
            self.inversions.len(),
            first_ids(&self.inversions),
            self.unexpected.len(),
            first_ids(&self.unexpected),
        )
    }
}

/// Some ids, in parentheses.
fn first_ids(ids: &[String]) -> String {
    const N_SHOWN: usize = 10;
    match ids {
        [] => String::new(),
        ids if ids.len() <= N_SHOWN => format!(" ({})", ids.join(", ")),
        ids => format!(" ({}, …)", ids[..N_SHOWN].join(", ")),
    }
}

/// How long after `since` the recipient got the next request that it accepted, if there was one.
#[must_use]
pub fn recovery_time(deliveries: &[Delivery], since: Instant) -> Option<Duration> {
    let accepted = deliveries.iter().filter(|delivery| delivery.is_accepted());
    let after = accepted.filter_map(|delivery| delivery.arrived.checked_duration_since(since));
    after.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `<key>-<number>`.
    fn published(ids: &[&str]) -> Vec<PublishedEvent> {
        let event = |id: &&str| {
            let (key, number) = id.split_once('-').unwrap();
            PublishedEvent {
                id: (*id).into(),
                key: key.into(),
                number: number.parse().unwrap(),
            }
        };
        ids.iter().map(event).collect()
    }

    /// `<id>`, or `<id>=<status>`, with a status of 0 for none.
    fn deliveries(ids: &[&str]) -> Vec<Delivery> {
        let start = Instant::now();
        let delivery = |(index, id): (usize, &&str)| {
            let (id, status) = id.split_once('=').unwrap_or((id, "200"));
            Delivery {
                id: id.into(),
                key: id.split_once('-').map_or("", |(key, _)| key).into(),
                arrived: start + Duration::from_secs(index as u64),
                attempt: None,
                status: Some(status.parse().unwrap()).filter(|&status| status > 0),
            }
        };
        ids.iter().enumerate().map(delivery).collect()
    }

    type Ids = &'static [&'static str];

    #[test]
    fn tells_lost_repeated_and_late_events() {
        let all = ["a-0", "a-1", "a-2", "b-0", "b-1"];
        // Deliveries; lost, duplicates, inversions, unexpected.
        let cases: [(Ids, Ids, usize, Ids, Ids); 9] = [
            (&["a-0", "b-0", "a-1", "b-1", "a-2"], &[], 0, &[], &[]),
            (&["a-0", "b-0", "b-1", "a-2"], &["a-1"], 0, &[], &[]),
            (&["a-0", "a-1", "a-2", "b-1", "b-0"], &[], 0, &["b-0"], &[]),
            (&["a-2", "a-0", "a-1", "b-0", "b-1"], &[], 0, &["a-0", "a-1"], &[]),
            // A repetition is no inversion, a refused attempt no repetition, and one without an answer neither.
            (&["a-0", "a-1", "a-0", "a-0", "a-2", "b-0", "b-1"], &[], 2, &[], &[]),
            (
                &["a-0=500", "a-0=0", "a-0", "a-1", "a-2", "b-0", "b-1=204"],
                &[],
                0,
                &[],
                &[],
            ),
            // What counts is the acceptance.
            (&["a-0=500", "a-1", "a-0", "a-2", "b-0", "b-1"], &[], 0, &["a-0"], &[]),
            (&["a-0", "a-1", "a-2", "b-0", "b-1=500"], &["b-1"], 0, &[], &[]),
            (
                &["a-0", "a-1", "a-2", "a-3", "a-3", "b-0", "b-1"],
                &[],
                1,
                &[],
                &["a-3"],
            ),
        ];
        for (arrived, lost, n_duplicates, inversions, unexpected) in cases {
            let verdict = Verdict::of(&published(&all), &deliveries(arrived));
            let expected = Verdict {
                n_published: 5,
                n_attempts: arrived.len(),
                lost: lost.iter().map(ToString::to_string).collect(),
                n_duplicates,
                inversions: inversions.iter().map(ToString::to_string).collect(),
                unexpected: unexpected.iter().map(ToString::to_string).collect(),
            };
            assert_eq!(verdict, expected, "{arrived:?}");
            assert_eq!(verdict.is_complete(), lost.is_empty() && inversions.is_empty());
            assert_eq!(verdict.is_perfect(), verdict.is_complete() && n_duplicates == 0);
        }
    }

    #[test]
    fn says_what_was_wrong_without_listing_thousands() {
        let ids: Vec<String> = (0..1000).map(|number| format!("a-{number}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let verdict = Verdict::of(&published(&ids), &deliveries(&["a-1", "a-0", "b-7"]));
        assert_eq!(
            verdict.to_string(),
            "1000 published, 3 attempts, 998 lost (a-2, a-3, a-4, a-5, a-6, a-7, a-8, a-9, a-10, a-11, …), \
             0 duplicates, 1 inversions (a-0), 1 unexpected (b-7)"
        );
    }

    #[test]
    fn recovery_ends_with_the_next_accepted_delivery() {
        let deliveries = deliveries(&["a-0", "a-1=500", "a-2"]);
        let since = |seconds| deliveries[0].arrived + Duration::from_millis(seconds);
        assert_eq!(
            recovery_time(&deliveries, since(500)),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(recovery_time(&deliveries, since(2500)), None);
    }
}
