//! What one seed stands for: the settings, the events, how the service feels about them, and what goes wrong when.

use std::time::Duration;

use fastrand::Rng;

use crate::config::{self, DeliveryConfig, OnTimeout, Ordering};

/// Most events are published within this time.
const PUBLISHED_WITHIN_SECONDS: u64 = 120;
/// Nothing goes wrong after this.
const TROUBLE_WITHIN_SECONDS: u64 = 300;

/// All of it. The same seed gives the same scenario, and the same history.
#[derive(Debug)]
pub(super) struct Scenario {
    pub(super) seed: u64,
    pub(super) config: DeliveryConfig,
    /// Instances on one durable consumer.
    pub(super) n_replicas: usize,
    pub(super) max_events: usize,
    pub(super) max_ack_pending: usize,
    pub(super) drain_timeout: Duration,
    /// By sequence, from 1.
    pub(super) events: Vec<Planned>,
    /// By number of the key.
    pub(super) keys: Vec<KeyPlan>,
    /// When the service refuses everything, and how.
    pub(super) refusals: Vec<(Span, Refusal)>,
    /// When no dead letter can be stored.
    pub(super) no_letters: Vec<Span>,
    pub(super) faults: Vec<(Duration, Fault)>,
    /// Nothing goes wrong but for poisoned keys: the others must not notice.
    pub(super) is_calm: bool,
}

/// From, until.
pub(super) type Span = (Duration, Duration);

/// One event.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) at: Duration,
    /// None: in no order.
    pub(super) key: Option<usize>,
    pub(super) kind: Kind,
}

/// What there is to do with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// So many subscriptions want it.
    Wanted(usize),
    /// The service answers this, which is final.
    Refused(u16),
    /// No event.
    Malformed,
    /// Nobody wants it.
    Unwanted,
}

/// How the service feels about a key.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyPlan {
    /// It fails until then.
    pub(super) healed: Duration,
    /// Of 100 requests after that, so many do not go well at once.
    pub(super) troubled_percent: u8,
}

/// How a service shows that it is not ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Connection,
    /// Counts only before the service has taken anything.
    Status(u16),
}

/// What happens to a replica, or to the server.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// It stops at once, and starts anew after a while. The last: whether the server notices at once that it is gone.
    Kill(usize, Duration, bool),
    /// It ends, and starts anew.
    End(usize),
    /// What is on the wire is lost, and there is no connection for a while. The last: whether the server notices at once.
    BreakWire(usize, Duration, bool),
    /// The server gives an event again that is being worked on.
    Repeat,
}

impl Scenario {
    pub(super) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let is_calm = rng.u8(..8) == 0;
        let mut config = config::from_env(&|_| None).expect("everything has a default").delivery;
        config.concurrency = pick(&mut rng, &[2, 3, 8, 16]);
        config.retries = pick(&mut rng, &[0, 1, 3, 10]);
        config.timeout = Duration::from_secs(pick(&mut rng, &[5, 60]));
        config.longest_pause = Duration::from_secs(pick(&mut rng, &[2, 20, 60]));
        config.max_age = Duration::from_secs(pick(&mut rng, &[20, 3600, 3600]));
        config.on_timeout = pick(
            &mut rng,
            &[OnTimeout::Auto, OnTimeout::Auto, OnTimeout::Retry, OnTimeout::Accept],
        );
        config.ordering = pick(
            &mut rng,
            &[
                Ordering::Key,
                Ordering::Key,
                Ordering::Key,
                Ordering::None,
                Ordering::Strict,
            ],
        );
        let is_strict = !is_calm && config.ordering == Ordering::Strict;
        if is_calm {
            config.ordering = Ordering::Key;
        }
        let keys = keys(&mut rng, is_calm);
        let events = events(&mut rng, keys.len(), is_calm);
        let n_replicas = if is_calm { 1 } else { pick(&mut rng, &[1, 1, 1, 2]) };
        Self {
            seed,
            n_replicas,
            max_events: if is_strict { 1 } else { pick(&mut rng, &[4, 8, 20, 64]) },
            max_ack_pending: match () {
                () if is_strict => 1,
                // As it really is: more than there are events.
                () if is_calm => 1000,
                () => pick(&mut rng, &[16, 1000, 1000]),
            },
            drain_timeout: Duration::from_secs(pick(&mut rng, &[1, 25])),
            events,
            keys,
            refusals: if is_calm { Vec::new() } else { refusals(&mut rng) },
            no_letters: if is_calm { Vec::new() } else { spans(&mut rng, &[90]) },
            faults: if is_calm {
                Vec::new()
            } else {
                faults(&mut rng, n_replicas)
            },
            is_calm,
            config,
        }
    }

    /// The event with this sequence.
    pub(super) fn event(&self, sequence: u64) -> &Planned {
        &self.events[usize::try_from(sequence).expect("few events") - 1]
    }

    /// Attempts that one life may make while the service is not ready: at most one at a time, each after a longer pause.
    pub(super) fn max_refused(&self) -> usize {
        let seconds: u64 = self
            .refusals
            .iter()
            .map(|((from, until), _)| until.saturating_sub(*from).as_secs())
            .sum();
        let n_at_once = self.config.concurrency * 2 + 10;
        n_at_once * (self.refusals.len() + 1) + usize::try_from(seconds).expect("minutes")
    }

    /// How the service refuses everything at this moment, if it does.
    pub(super) fn refusal(&self, now: Duration) -> Option<Refusal> {
        let refusal = self.refusals.iter().find(|(span, _)| is_within(*span, now));
        refusal.map(|&(_, refusal)| refusal)
    }

    /// Whether dead letters can be stored.
    pub(super) fn takes_letters(&self, now: Duration) -> bool {
        !self.no_letters.iter().any(|&span| is_within(span, now))
    }
}

impl Planned {
    /// Parts that the event has.
    pub(super) fn n_parts(&self) -> usize {
        match self.kind {
            Kind::Wanted(n_parts) => n_parts,
            Kind::Refused(_) | Kind::Malformed => 1,
            Kind::Unwanted => 0,
        }
    }
}

fn keys(rng: &mut Rng, is_calm: bool) -> Vec<KeyPlan> {
    let n_keys = rng.usize(2..8);
    let key = |number| {
        let is_poisoned = number > 0 && rng.u8(..4) == 0;
        let healed = if is_poisoned { rng.u64(5..600) } else { 0 };
        KeyPlan {
            healed: Duration::from_secs(healed),
            troubled_percent: if is_calm { 0 } else { pick(rng, &[0, 5, 30]) },
        }
    };
    (0..n_keys).map(key).collect()
}

fn events(rng: &mut Rng, n_keys: usize, is_calm: bool) -> Vec<Planned> {
    let n_events = rng.usize(20..150);
    let within = pick(rng, &[1, 20, PUBLISHED_WITHIN_SECONDS]) * 1000;
    let mut moments: Vec<_> = (0..n_events).map(|_| rng.u64(..within)).collect();
    moments.sort_unstable();
    let event = |at| {
        let kind = match rng.u8(..40) {
            _ if is_calm => Kind::Wanted(1),
            0 => Kind::Refused(pick(rng, &[400, 413, 501])),
            1 => Kind::Malformed,
            2 => Kind::Unwanted,
            3..=7 => Kind::Wanted(2),
            _ => Kind::Wanted(1),
        };
        let has_key = !matches!(kind, Kind::Malformed | Kind::Unwanted) && (is_calm || rng.u8(..12) > 0);
        // The first keys get more than the others.
        let key = rng.usize(..n_keys).min(rng.usize(..=n_keys));
        Planned {
            at: Duration::from_millis(at),
            key: has_key.then_some(key),
            kind,
        }
    };
    moments.into_iter().map(event).collect()
}

fn refusals(rng: &mut Rng) -> Vec<(Span, Refusal)> {
    let mut refusals = Vec::new();
    if rng.bool() {
        let refusal = pick(rng, &[Refusal::Connection, Refusal::Status(404), Refusal::Status(503)]);
        refusals.push(((Duration::ZERO, Duration::from_secs(rng.u64(1..60))), refusal));
    }
    let later = spans(rng, &[60, 60, 900])
        .into_iter()
        .map(|span| (span, Refusal::Connection));
    refusals.extend(later);
    refusals
}

fn faults(rng: &mut Rng, n_replicas: usize) -> Vec<(Duration, Fault)> {
    let mut faults = Vec::new();
    // Many seeds have one kind of fault only, so that nothing hides behind another.
    let kinds = rng.u8(..16);
    for _ in 0..rng.usize(..8) {
        let at = Duration::from_millis(rng.u64(..TROUBLE_WITHIN_SECONDS * 1000));
        let (replica, pause) = (rng.usize(..n_replicas), Duration::from_millis(rng.u64(1..20_000)));
        let (kind, is_noticed) = (rng.u8(..4), rng.bool());
        if kinds & (1 << kind) == 0 {
            continue;
        }
        let fault = match kind {
            0 => Fault::Kill(replica, pause, is_noticed),
            1 => Fault::End(replica),
            2 => Fault::BreakWire(replica, pause, is_noticed),
            _ => Fault::Repeat,
        };
        faults.push((at, fault));
    }
    faults.sort_by_key(|&(at, _)| at);
    faults
}

fn spans(rng: &mut Rng, longest: &[u64]) -> Vec<Span> {
    let n_spans = rng.usize(..3);
    let span = |_| {
        let start = Duration::from_millis(rng.u64(..TROUBLE_WITHIN_SECONDS * 1000));
        (
            start,
            start
                + Duration::from_secs({
                    let longest = pick(rng, longest);
                    rng.u64(1..longest)
                }),
        )
    };
    (0..n_spans).map(span).collect()
}

fn is_within((start, end): Span, now: Duration) -> bool {
    (start..end).contains(&now)
}

fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())]
}
