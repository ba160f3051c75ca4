//! Many swaps while events flow.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use test_support::{
    ConfigMapVolume, DistributorProcess, NatsServer, Recipient, create_keptn_stream, eventually, padded_component,
};
use tokio::time::sleep;

use super::load::{Arrival, Load, Way, faults, number_at_end, p99};
use super::rig::{tagging, tagging_itself};
use crate::harness::*;

/// The goals hold for the release build, alone on a machine; the short form shows that nothing stands still.
const LIMIT_SHORT: Duration = Duration::from_secs(10);
/// Below this it is the machine that is measured.
const MACHINE: Duration = Duration::from_millis(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_over_core_nats_lose_double_and_mix_nothing() {
    let nats = NatsServer::start().await.unwrap();
    let client = nats.client().await.unwrap();
    check(&nats, Way::Core(client), "core").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_over_a_stream_lose_double_and_mix_nothing() {
    let nats = NatsServer::builder().jetstream(true).start().await.unwrap();
    let stream = nats.jetstream().await.unwrap();
    create_keptn_stream(&stream).await.unwrap();
    check(&nats, Way::Stream(stream), "jetstream").await;
}

async fn check(nats: &NatsServer, way: Way, mode: &str) {
    let (n_swaps, per_second) = (extent(20, 100), extent(1000, 5000));
    let recipient = Recipient::start_light_on(0).await.unwrap();
    let cache = tempfile::tempdir().unwrap();
    let mut volume = ConfigMapVolume::new().unwrap();
    volume.write(&plugin_of(0)).unwrap();
    let process = process(nats, &recipient, &volume, cache.path(), mode).await;

    let load = Load::start(way, &recipient, per_second);
    let start = load.start_time();
    load.first_after(0).await;
    sleep(extent(Duration::from_secs(1), Duration::from_secs(10))).await;
    let n_steady = load.n_due();
    let mut delays: [Vec<Duration>; 2] = Default::default();
    for swap in 1..=n_swaps {
        let mounted = volume.write(&plugin_of(swap)).unwrap();
        let first = load.first_after(swap).await;
        delays[swap % 2].push(first - mounted);
    }
    let (arrivals, n_sent) = load.stop().await;

    let faults = faults(&arrivals, n_sent);
    assert!(
        faults.is_empty(),
        "{} faults: {:?}",
        faults.len(),
        &faults[..faults.len().min(20)]
    );
    let generations = generations(&process, n_sent).await;
    check_generations(&arrivals, &generations);

    let latencies = |is_steady: bool| {
        let of_phase = arrivals
            .iter()
            .filter(|arrival| (arrival.number < n_steady) == is_steady);
        p99(of_phase
            .map(|arrival| Load::latency(start, per_second, arrival))
            .collect())
    };
    let (steady, swapping) = (latencies(true), latencies(false));
    let slowest = |delays: &[Duration]| delays.iter().max().copied().unwrap_or_default();
    let [new_component, new_config] = [&delays[0], &delays[1]];
    println!(
        "{mode}: {n_sent} events, {n_swaps} swaps, 0 lost, 0 doubled; p99 {steady:?} steady, {swapping:?} while swapping; \
         first event with the new verdict after p50 {:?}, max {:?} (configuration), p50 {:?}, max {:?} (component)",
        median(new_config),
        slowest(new_config),
        median(new_component),
        slowest(new_component),
    );
    println!("verdicts changed at {}", changes(&arrivals, 5));
    assert!(slowest(new_config) <= extent(LIMIT_SHORT, Duration::from_millis(300)));
    assert!(slowest(new_component) <= extent(LIMIT_SHORT, Duration::from_secs(1)));
    let limit = (2 * steady).max(MACHINE);
    assert!(swapping <= extent(LIMIT_SHORT, limit), "{swapping:?}");
}

/// The limit is for each event that comes while a component of 1 MiB is compiled, and not for the run as a whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compiling_a_large_component_holds_no_event_up() {
    let (n_swaps, per_second) = (extent(2, 10), extent(1000, 5000));
    let nats = NatsServer::start().await.unwrap();
    let client = nats.client().await.unwrap();
    let recipient = Recipient::start_light_on(0).await.unwrap();
    let cache = tempfile::tempdir().unwrap();
    let mut volume = ConfigMapVolume::new().unwrap();
    volume.write(&large_plugin_of(0)).unwrap();
    let _process = process(&nats, &recipient, &volume, cache.path(), "core").await;

    let load = Load::start(Way::Core(client), &recipient, per_second);
    let start = load.start_time();
    load.first_after(0).await;
    sleep(extent(Duration::from_secs(1), Duration::from_secs(10))).await;
    let n_steady = load.n_due();
    let mut compiling = Vec::new();
    let mut slowest = Duration::ZERO;
    for swap in 1..=n_swaps {
        let before = load.n_due();
        let mounted = volume.write(&large_plugin_of(swap)).unwrap();
        slowest = slowest.max(load.first_after(swap).await - mounted);
        compiling.push(before..load.n_due());
    }
    let (arrivals, n_sent) = load.stop().await;

    assert!(faults(&arrivals, n_sent).is_empty());
    let p99_of = |is_wanted: &dyn Fn(usize) -> bool| {
        let wanted = arrivals.iter().filter(|arrival| is_wanted(arrival.number));
        p99(wanted
            .map(|arrival| Load::latency(start, per_second, arrival))
            .collect())
    };
    let steady = p99_of(&|number| number < n_steady);
    let during = p99_of(&|number| compiling.iter().any(|period| period.contains(&number)));
    println!("p99 {steady:?} steady, {during:?} while 1 MiB is compiled, which takes {slowest:?} at most");
    let limit = (3 * steady).max(MACHINE);
    assert!(during <= extent(LIMIT_SHORT, limit), "{during:?}");
}

/// A component of 1 MiB that is another one for each swap.
fn large_plugin_of(swap: usize) -> Vec<(&'static str, Vec<u8>)> {
    let mut files = tagging_itself(&format!("built-in-tag-{swap:04}"));
    let (_, component) = files.last_mut().expect("the component is the last file");
    *component = padded_component(component, (1 << 20) - component.len());
    files
}

/// By turns another configuration of the same component, and another component.
fn plugin_of(swap: usize) -> Vec<(&'static str, Vec<u8>)> {
    if swap % 2 == 1 {
        tagging(&format!("configured-{swap:04}"))
    } else {
        tagging_itself(&format!("built-in-tag-{swap:04}"))
    }
}

async fn process(
    nats: &NatsServer,
    recipient: &Recipient,
    volume: &ConfigMapVolume,
    cache: &Path,
    mode: &str,
) -> DistributorProcess {
    let (url, port) = (nats.url(), recipient.port().to_string());
    let process = start_process(&[
        ALL_TOPICS,
        ("PUBSUB_URL", &url),
        ("PUBSUB_RECIPIENT_PORT", &port),
        ("PUBSUB_GROUP", "group"),
        ("DELIVERY_MODE", mode),
        ("PLUGINS_DIR", volume.text()),
        ("PLUGINS_CACHE_DIR", cache.to_str().unwrap()),
    ]);
    if mode == "core" {
        let is_listening = async || {
            let clients = nats.clients().await.unwrap_or_default();
            clients
                .iter()
                .any(|client| client.subscriptions.iter().any(|(subject, _)| subject == ALL_TOPICS.1))
        };
        eventually(SOON, is_listening).await.unwrap();
    } else {
        process.wait_for_log("durable consumer", SOON).await.unwrap();
    }
    process
}

/// The generation that the log names for each event.
async fn generations(process: &DistributorProcess, n_events: usize) -> HashMap<usize, Vec<u64>> {
    process.terminate().unwrap();
    process.wait_for_log("stopped: ", SOON).await.unwrap();
    let mut generations: HashMap<usize, Vec<u64>> = HashMap::with_capacity(n_events);
    for line in lines_with(process, " delivered ") {
        let field = |name: &str| {
            let (_, value) = line.split_once(name).expect("the line has the field");
            value.split(' ').next().unwrap_or_default().trim_matches('"').to_owned()
        };
        let event = number_at_end(&field("event_id="));
        generations
            .entry(event)
            .or_default()
            .push(field("generation=").parse().unwrap());
    }
    generations
}

/// Each event has one generation, and each generation is one plugin.
fn check_generations(arrivals: &[Arrival], generations: &HashMap<usize, Vec<u64>>) {
    let mut swap_of: HashMap<u64, usize> = HashMap::new();
    for arrival in arrivals {
        let [generation] = generations[&arrival.number][..] else {
            panic!(
                "e-{} has not one generation: {:?}",
                arrival.number, generations[&arrival.number]
            )
        };
        let swap = *swap_of.entry(generation).or_insert(arrival.swap);
        assert_eq!(swap, arrival.swap, "e-{} of generation {generation}", arrival.number);
    }
}

/// The first changes: the last event with the old verdict and the first one with the new.
fn changes(arrivals: &[Arrival], n_shown: usize) -> String {
    let mut by_number = arrivals.to_vec();
    by_number.sort_by_key(|arrival| arrival.number);
    let changes = by_number.windows(2).filter(|pair| pair[0].swap != pair[1].swap);
    let changes = changes.map(|pair| format!("e-{} | e-{}", pair[0].number, pair[1].number));
    changes.take(n_shown).collect::<Vec<_>>().join(", ")
}

fn median(durations: &[Duration]) -> Duration {
    let mut durations = durations.to_vec();
    durations.sort();
    durations[durations.len() / 2]
}
