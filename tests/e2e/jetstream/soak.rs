//! Everything at once: random faults of service, NATS, network and process while events keep coming.

use std::time::Duration;

use fastrand::Rng;
use test_support::{DistributorProcess, ProxyMode, Rate, Reply, TcpProxy};
use tokio::time::{Instant, sleep};

use super::rig::{IN_TIME, Rig, extent, peak_mebibytes};

/// What goes wrong, for a while or at once.
const FAULTS: [&str; 8] = [
    "the service is down",
    "the service answers 500",
    "the service answers 503",
    "the service is slow",
    "NATS is killed and comes back",
    "the connection to NATS is reset",
    "the connection to NATS stands still",
    "the distributor is killed",
];

#[tokio::test]
async fn nothing_is_lost_whatever_fails() {
    let seed = fastrand::u64(..);
    let mut random = Rng::with_seed(seed);
    println!("seed {seed}");
    let mut rig = Rig::start().await;
    let proxy = TcpProxy::start(rig.nats.address()).await.unwrap();
    let url = format!("nats://{}", proxy.address());
    let variables = [
        ("PUBSUB_URL", url.as_str()),
        ("JETSTREAM_ACK_WAIT", "2s"),
        ("DELIVERY_RETRY", "1000"),
        ("DELIVERY_BACKOFF_DELAY", "20ms"),
        ("DELIVERY_BACKOFF_MAX", "500ms"),
        ("DELIVERY_TIMEOUT", "5s"),
    ];
    let mut process = rig.process(&variables).await;
    let publisher = rig.publish("e", 200, Rate::PerSecond(200.0), None);
    let end = Instant::now() + extent(Duration::from_secs(10), Duration::from_mins(10));
    let mut n_kills = 0;
    let mut descriptors = Vec::new();
    while Instant::now() < end {
        let fault = random.choice(FAULTS).unwrap();
        let lasts = Duration::from_millis(random.u64(100..extent(1000, 5000)));
        println!("{fault} for {lasts:?}");
        // Faults last for a while: the pauses are part of the load, nothing waits for them.
        match fault {
            "the service is down" => {
                rig.recipient.stop().await;
                sleep(lasts).await;
                rig.recipient.start_again().await.unwrap();
            }
            "the service answers 500" => answer_for(&rig, Reply::status(500), lasts).await,
            "the service answers 503" => answer_for(&rig, Reply::status(503), lasts).await,
            "the service is slow" => {
                answer_for(&rig, Reply::status(200).after(Duration::from_millis(200)), lasts).await;
            }
            "NATS is killed and comes back" => {
                rig.nats.stop().await.unwrap();
                sleep(lasts).await;
                rig.nats.restart().await.unwrap();
            }
            "the connection to NATS is reset" => proxy.reset_connections(),
            "the connection to NATS stands still" => {
                proxy.switch_to(ProxyMode::Hold).await;
                sleep(lasts).await;
                proxy.switch_to(ProxyMode::Pass).await;
            }
            _ => {
                process.kill().await.unwrap();
                n_kills += 1;
                sleep(lasts).await;
                process = rig.process(&variables).await;
            }
        }
        let n_wanted = rig.recipient.n_accepted() + 50;
        rig.recipient.wait_until_accepted(n_wanted, IN_TIME).await.unwrap();
        descriptors.push(process.n_file_descriptors().unwrap());
        peak_mebibytes(&process);
    }
    let published = publisher.stop().await;
    let verdict = rig.everything_settled(&published).await;
    println!("{verdict}; {n_kills} kills, peak {} MiB", peak_mebibytes(&process));
    assert_eq!(verdict.lost.len(), 0, "seed {seed}: {verdict}");
    assert_eq!(rig.consumers().await.len(), 1, "seed {seed}");
    let most = descriptors.iter().max().unwrap();
    assert!(*most < 64, "seed {seed}: {descriptors:?} file descriptors");
    ends_well(process).await;
}

async fn answer_for(rig: &Rig, reply: Reply, lasts: Duration) {
    rig.recipient.respond_with(move |_, _| reply.clone());
    sleep(lasts).await;
    rig.recipient.respond_with(|_, _| Reply::status(200));
}

async fn ends_well(mut process: DistributorProcess) {
    process.terminate().unwrap();
    let status = process.wait_exit(IN_TIME).await.unwrap();
    assert_eq!(status.code(), Some(0));
}
