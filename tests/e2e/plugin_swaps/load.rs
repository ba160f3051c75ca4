//! Events at a steady rate, each of which arrives with the tag of the plugin it went through.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{Client, jetstream};
use serde::Deserialize;
use test_support::{Recipient, Reply};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::harness::*;

/// Keys, each of which has an order.
const N_KEYS: usize = 50;
/// Between two looks at how many events are due.
const TICK: Duration = Duration::from_millis(1);

/// How events get to the distributor.
#[derive(Clone)]
pub(super) enum Way {
    Core(Client),
    Stream(jetstream::Context),
}

/// A running load.
pub(super) struct Load {
    start: Instant,
    per_second: u64,
    arrived: Arc<Arrived>,
    stop: CancellationToken,
    sending: JoinHandle<usize>,
}

/// An event as it arrived.
#[derive(Clone, Copy)]
pub(super) struct Arrival {
    pub(super) number: usize,
    /// The last figures of its tag: the swap that it comes after.
    pub(super) swap: usize,
    at: Instant,
}

struct Arrived {
    all: Mutex<Vec<Arrival>>,
    /// When the first event came after each swap.
    first_after: watch::Sender<Vec<Instant>>,
}

#[derive(Deserialize)]
struct Tagged<'a> {
    id: &'a str,
    tag: &'a str,
}

impl Load {
    /// Events with the ids `e-0`, `e-1` and so on.
    pub(super) fn start(way: Way, recipient: &Recipient, per_second: u64) -> Self {
        let arrived = Arc::new(Arrived {
            all: Mutex::default(),
            first_after: watch::Sender::default(),
        });
        let writing = Arc::clone(&arrived);
        recipient.respond_with(move |request, _| {
            writing.write(&request.body, request.arrived);
            Reply::status(200)
        });
        let (start, stop) = (Instant::now(), CancellationToken::new());
        Self {
            start,
            per_second,
            arrived,
            stop: stop.clone(),
            sending: tokio::spawn(send(way, start, per_second, stop)),
        }
    }

    /// Waits for the first event that went through the plugin of this swap.
    pub(super) async fn first_after(&self, swap: usize) -> Instant {
        let mut first_after = self.arrived.first_after.subscribe();
        let arrived = timeout(SOON, first_after.wait_for(|all| all.len() > swap)).await;
        arrived.expect("an event arrives soon").expect("the load runs")[swap]
    }

    /// How many events are due by now.
    pub(super) fn n_due(&self) -> usize {
        n_due(self.start, self.per_second)
    }

    /// Ends it, and returns what arrived, when all of it has, and how many events were sent.
    pub(super) async fn stop(self) -> (Vec<Arrival>, usize) {
        self.stop.cancel();
        let n_sent = self.sending.await.expect("everything can be sent");
        let n_arrived = || self.arrived.all.lock().unwrap().len();
        let result = test_support::eventually(SOON, async || n_arrived() >= n_sent).await;
        result.unwrap_or_else(|_| panic!("{} of {n_sent} events arrived", n_arrived()));
        (self.arrived.all.lock().unwrap().clone(), n_sent)
    }

    /// Between the moment it was due and its arrival.
    pub(super) fn latency(start: Instant, per_second: u64, arrival: &Arrival) -> Duration {
        let due = start + Duration::from_micros(arrival.number as u64 * 1_000_000 / per_second);
        arrival.at.saturating_duration_since(due)
    }

    pub(super) fn start_time(&self) -> Instant {
        self.start
    }
}

impl Arrived {
    fn write(&self, event: &[u8], at: Instant) {
        let tagged: Tagged<'_> = serde_json::from_slice(event).expect("each event has a tag");
        let arrival = Arrival {
            number: number_at_end(tagged.id),
            swap: number_at_end(tagged.tag),
            at,
        };
        self.all.lock().unwrap().push(arrival);
        self.first_after.send_if_modified(|all| {
            let is_first = arrival.swap >= all.len();
            all.resize(all.len().max(arrival.swap + 1), at);
            is_first
        });
    }
}

/// `7` for `e-7` and for `configured-0007`.
pub(super) fn number_at_end(text: &str) -> usize {
    let (_, number) = text.rsplit_once('-').expect("a number is at the end");
    number.parse().expect("a number is at the end")
}

fn n_due(start: Instant, per_second: u64) -> usize {
    let n = start.elapsed().as_micros() * u128::from(per_second) / 1_000_000;
    usize::try_from(n).expect("no test runs for so long")
}

/// Sends what is due until it is stopped, and returns how much that was: all of it is taken, by a stream also stored.
async fn send(way: Way, start: Instant, per_second: u64, stop: CancellationToken) -> usize {
    let (promises, mut promised) = mpsc::unbounded_channel::<jetstream::context::PublishAckFuture>();
    let storing = tokio::spawn(async move {
        while let Some(promise) = promised.recv().await {
            promise.await.expect("the stream stores the event");
        }
    });
    let mut n_sent = 0;
    while !stop.is_cancelled() {
        let n_due = n_due(start, per_second);
        for number in n_sent..n_due {
            let event = event_in(&format!("key-{}", number % N_KEYS), &format!("e-{number}"));
            let (subject, bytes) = (event.ty.clone(), event.to_bytes());
            match &way {
                Way::Core(client) => client.publish(subject, bytes).await.expect("NATS takes events"),
                Way::Stream(stream) => {
                    let promise = stream.publish(subject, bytes).await.expect("NATS takes events");
                    promises.send(promise).expect("somebody waits for them");
                }
            }
        }
        n_sent = n_due;
        // Events come at a rate; nothing is waited for.
        sleep(TICK).await;
    }
    drop(promises);
    storing.await.expect("the stream stores everything");
    if let Way::Core(client) = way {
        client.flush().await.expect("NATS takes events");
    }
    n_sent
}

/// What is wrong with what arrived: nothing, if each event came once, and those of each key in the order of the swaps.
pub(super) fn faults(arrivals: &[Arrival], n_sent: usize) -> Vec<String> {
    let mut swaps: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for arrival in arrivals {
        swaps.entry(arrival.number).or_default().push(arrival.swap);
    }
    let lost = (0..n_sent).filter(|number| !swaps.contains_key(number));
    let mut faults: Vec<_> = lost.map(|number| format!("e-{number} is lost")).collect();
    let mut last_of_key = [0; N_KEYS];
    for (number, swaps) in &swaps {
        if swaps.len() > 1 {
            faults.push(format!("e-{number} came after each of the swaps {swaps:?}"));
        }
        let last = &mut last_of_key[number % N_KEYS];
        if swaps[0] < *last {
            faults.push(format!(
                "e-{number} went through plugin {} after {last} was in force",
                swaps[0]
            ));
        }
        *last = swaps[0];
    }
    faults
}

/// The value below which 99 % of all are.
pub(super) fn p99(mut durations: Vec<Duration>) -> Duration {
    durations.sort();
    durations[durations.len() * 99 / 100]
}
