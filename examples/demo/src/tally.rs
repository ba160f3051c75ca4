//! Counts what was seen, and says where the numbers do not add up.
//!
//! Called by `path`, the acts and `main`. It knows only numbers.

use std::collections::BTreeMap;

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Messages shown; the last one's number.
    pub(crate) number: u64,
    /// Messages that the demo gave to NATS.
    pub(crate) published: u64,
    /// Messages seen on NATS that are not the service's.
    pub(crate) came_in: u64,
    /// Of those, messages on subjects that nobody listens for.
    pub(crate) unheard: u64,
    /// Events that a plugin dropped, by its reason.
    pub(crate) dropped: BTreeMap<String, u64>,
    /// Messages that are no events; they are dead letters.
    pub(crate) malformed: u64,
    /// Events that were given up; they are dead letters too.
    pub(crate) given_up: u64,
    /// Of those, events that the service has taken after all, because a command delivered them.
    pub(crate) redriven: u64,
    /// Events that the service has taken.
    pub(crate) delivered: u64,
    /// Attempts that failed and were followed by another.
    pub(crate) retried: u64,
    /// Events of the service that answer a delivered one, by the last part of their type.
    pub(crate) answers: BTreeMap<&'static str, u64>,
    /// Events of the service that answer nothing.
    pub(crate) reports: u64,
}

/// What is left of the evidence when everything has been followed.
#[derive(Debug)]
pub(crate) struct Leftovers {
    pub(crate) messages: usize,
    pub(crate) log_lines: usize,
    pub(crate) requests: usize,
}

/// The counters that the distributor prints when it stops.
#[derive(Debug)]
pub(crate) struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// Reads `… stopped: received=3 lost=0 …`.
    pub(crate) fn parse(line: &str) -> Self {
        let pairs = line.split(' ').filter_map(|word| word.split_once('='));
        let counters = pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
        Self(counters.collect())
    }

    /// The value of a counter.
    pub(crate) fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }
}

impl Tally {
    /// Messages that reached the distributor.
    pub(crate) fn received(&self) -> u64 {
        self.came_in - self.unheard
    }

    /// Events that a plugin dropped.
    pub(crate) fn n_dropped(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Answers of this kind.
    pub(crate) fn n_answers(&self, kind: &str) -> u64 {
        self.answers.get(kind).copied().unwrap_or_default()
    }

    /// Everything seen on NATS that the service sent.
    pub(crate) fn n_from_service(&self) -> u64 {
        self.answers.values().sum::<u64>() + self.reports
    }

    /// Everything that does not add up, one sentence each.
    pub(crate) fn problems(&self, n_sent: u64, left: &Leftovers, counters: Option<&Counters>) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |what: &str, left: u64, right: u64| {
            if left != right {
                problems.push(format!("{what}: {left} is not {right}"));
            }
        };
        let outcomes = self.delivered + self.n_dropped() + self.malformed + self.given_up + self.unheard;
        check("published and seen on NATS", self.published, self.came_in);
        check("published and accounted for", self.published, outcomes);
        let taken = self.delivered + self.redriven;
        check("taken and answered with .started", taken, self.n_answers("started"));
        check("taken and answered with .finished", taken, self.n_answers("finished"));
        check("sent by the service and seen on NATS", n_sent, self.n_from_service());
        for (what, n) in [
            ("messages that belong to nothing", left.messages),
            ("log lines that belong to nothing", left.log_lines),
            ("requests that belong to nothing", left.requests),
        ] {
            check(what, u64::try_from(n).unwrap_or(u64::MAX), 0);
        }
        let Some(counters) = counters else { return problems };
        for (name, seen) in [
            ("received", self.received()),
            ("lost", 0),
            ("malformed", self.malformed),
            ("unmatched", 0),
            ("dropped", self.n_dropped()),
            ("plugin_failures", 0),
            ("delivered", self.delivered),
            ("retried", self.retried),
            ("unconfirmed", 0),
            ("dead_lettered", self.malformed + self.given_up),
            ("dead_letter_failures", 0),
            ("undelivered", 0),
            ("received_again", 0),
            ("duplicates", 0),
            ("given_back", 0),
            ("forwarded", n_sent),
        ] {
            match counters.get(name) {
                None => problems.push(format!("the distributor did not print its counter {name}")),
                Some(counted) if counted != seen => {
                    problems.push(format!("the distributor counted {name}={counted}, seen: {seen}"));
                }
                Some(_) => {}
            }
        }
        problems
    }
}
