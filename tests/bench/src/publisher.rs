//! Publishes events: as fast as they are delivered, at a fixed rate, or all at once.
//!
//! Called by `stage`. It must not know who takes them from NATS.

use std::time::Duration;

use async_nats::{Client, Subject};
use rustix::thread::{Timespec, nanosleep};
use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::events::{Events, SUBJECT};
use crate::tally::Tally;

/// Events that may be on their way at once, counted where they are to be delivered.
const OUTSTANDING: usize = 512;

/// What they may have together: less than what the distributor holds over core NATS, where it drops what comes above that.
const OUTSTANDING_BYTES: usize = 16 << 20;

/// Once that many are on their way, this part of them must arrive before the next is published: one write to the socket per
/// event would make the publisher the limit.
const PUBLISHED_TOGETHER: usize = 8;

/// What a warm-up publishes at most.
const WARM_UP_BYTES: usize = 256 << 20;

/// Events that may follow the newest one delivered, those that a filter will drop included: of them delivery says nothing
/// until a later one arrives. Far below what a subscription holds, so that none is lost for being published fast.
const AHEAD_OF_NEWEST: usize = 8 * 1024;

/// When to publish the next event.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As soon as fewer than [`OUTSTANDING`] are on their way.
    Windowed,
    /// So many a second, evenly.
    PerSecond(u32),
    /// At once.
    Burst,
}

/// What was published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    /// Fewer than asked for when nothing arrived any more.
    pub(crate) events: usize,
    /// Of these, how many are to be delivered.
    pub(crate) passing: usize,
}

/// Publishes `n_events` and waits until all that pass have arrived, or nothing arrives any more.
pub(crate) async fn publish(
    client: &Client,
    events: &Events,
    n_events: usize,
    pace: Pace,
    tally: &Tally,
    clock: Clock,
) -> anyhow::Result<Published> {
    let subject = Subject::from_static(SUBJECT);
    let mut due = match pace {
        Pace::PerSecond(rate) => Some(ticks(n_events, rate, clock)),
        Pace::Windowed | Pace::Burst => None,
    };
    let outstanding = n_outstanding(events);
    let mut published = Published { events: 0, passing: 0 };
    for sequence in 0..n_events {
        if matches!(pace, Pace::Windowed) {
            let has_room_for = |n: usize, tally: &Tally| {
                published.passing + n <= tally.delivered() + outstanding
                    && sequence + n <= tally.newest() + AHEAD_OF_NEWEST
            };
            if !has_room_for(1, tally)
                && !tally
                    .wait_until(|tally| has_room_for(outstanding / PUBLISHED_TOGETHER, tally))
                    .await
            {
                break;
            }
        }
        if let Some(due) = &mut due {
            due.recv().await;
        }
        published.passing += usize::from(events.passes(sequence));
        client.publish(subject.clone(), events.counted(sequence)).await?;
        published.events += 1;
    }
    tally.wait_until(|tally| tally.delivered() == published.passing).await;
    Ok(published)
}

/// As many as the first limit that they reach allows.
fn n_outstanding(events: &Events) -> usize {
    OUTSTANDING
        .min(OUTSTANDING_BYTES / events.size_bytes())
        .max(PUBLISHED_TOGETHER)
}

/// Publishes events that are not counted until `n_events` of them have arrived: subscriptions stand, connections are
/// open, and code and allocator have seen the load. `false`: nothing arrives.
pub(crate) async fn warm_up(client: &Client, events: &Events, n_events: usize, tally: &Tally) -> anyhow::Result<bool> {
    const BETWEEN_PROBES: Duration = Duration::from_millis(5);
    const N_PROBES: usize = 4_000;

    let subject = Subject::from_static(SUBJECT);
    let batch = n_outstanding(events) / PUBLISHED_TOGETHER;
    let n_events = n_events.min(WARM_UP_BYTES / events.size_bytes());
    // Until there is a subscription, what is published is gone; NATS does not tell the publisher.
    let mut between_probes = tokio::time::interval(BETWEEN_PROBES);
    let mut published = 0;
    while tally.warmed_up() == 0 && published < N_PROBES {
        client.publish(subject.clone(), events.warm_up(published)).await?;
        published += 1;
        between_probes.tick().await;
    }
    while tally.warmed_up() < n_events && tally.warmed_up() > 0 {
        let arrived = tally.warmed_up();
        for nth in published..published + batch {
            client.publish(subject.clone(), events.warm_up(nth)).await?;
        }
        published += batch;
        if !tally.wait_until(|tally| tally.warmed_up() >= arrived + batch).await {
            return Ok(false);
        }
    }
    Ok(tally.warmed_up() > 0)
}

/// Gives `n` ticks at an even rate, from a thread of its own: the runtime's timer counts milliseconds, which at 2,000
/// events a second would send them in pairs.
fn ticks(n: usize, per_second: u32, clock: Clock) -> mpsc::UnboundedReceiver<()> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let between = u64::from(1_000_000_000 / per_second);
    tokio::task::spawn_blocking(move || {
        let mut due = clock.nanoseconds();
        for _ in 0..n {
            let left = due.saturating_sub(clock.nanoseconds());
            let duration =
                Timespec::try_from(Duration::from_nanos(left)).expect("a run is not longer than time can tell");
            // Woken early by a signal, the tick comes early: nothing to repair.
            let _ = nanosleep(&duration);
            if sender.send(()).is_err() {
                return;
            }
            due += between;
        }
    });
    receiver
}
