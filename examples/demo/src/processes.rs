//! The programs that take part: a real nats-server and the real distributor, as children of the demo.
//!
//! Called by `main`. It must not know events.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use test_support::{DistributorProcess, NatsServer};

use crate::path::{FOREVER, LIMIT};
use crate::tally::Counters;

/// What the distributor listens for: the tasks of Keptn.
pub(crate) const TOPIC: &str = "sh.keptn.event.*.triggered";
/// The project whose events are wanted.
pub(crate) const PROJECT: &str = "sockshop";

/// The children. They are ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Processes {
    /// NATS.
    pub(crate) nats: NatsServer,
    /// Process id of nats-server, where the kernel tells.
    pub(crate) nats_pid: Option<u32>,
    /// The distributor.
    pub(crate) distributor: DistributorProcess,
    /// Its process id.
    pub(crate) distributor_pid: u32,
}

impl Processes {
    /// Starts both, the distributor with nothing but its default plugin, and waits until events can flow.
    ///
    /// # Errors
    /// When one of them does not start.
    pub(crate) async fn start(binary: &Path, service_port: u16) -> anyhow::Result<Self> {
        ensure!(
            binary.is_file(),
            "there is no distributor at {}: build it with `cargo build -p distributor`",
            binary.display()
        );
        let nats = NatsServer::builder().jetstream(true).start().await?;
        let nats_pid = only_child();
        let mut distributor = DistributorProcess::start(
            binary,
            &[
                ("PUBSUB_URL", &nats.url()),
                ("PUBSUB_TOPIC", TOPIC),
                ("PROJECT_FILTER", PROJECT),
                ("PUBSUB_RECIPIENT_PORT", &service_port.to_string()),
                // Why a plugin dropped an event is a decision, and decisions are logged at this level.
                ("LOG_LEVEL", "info,distributor::dispatch=debug"),
                // Ctrl-C in a terminal ends nats-server at the same moment, and without it there is nothing to wait for.
                ("SHUTDOWN_DRAIN_TIMEOUT", "1s"),
            ],
        )?;
        distributor.wait_until_ready(LIMIT).await?;
        distributor.wait_for_log(" subscribed ", LIMIT).await?;
        distributor.wait_for_log(" connected to NATS ", LIMIT).await?;
        let distributor_pid = distributor.process().id()?;
        Ok(Self {
            nats,
            nats_pid,
            distributor,
            distributor_pid,
        })
    }

    /// Waits until the distributor ends by itself, which it should not.
    pub(crate) async fn distributor_ended(&self) -> anyhow::Error {
        // Its last line; waiting for it ends as well when no further line can come.
        let _ = self.distributor.wait_for_log(" stopped: ", FOREVER).await;
        anyhow!("the distributor has ended by itself")
    }

    /// Ends both, and returns what the distributor had counted.
    ///
    /// `is_told`: a terminal gives Ctrl-C to the children too, and a second signal would end the distributor at once.
    ///
    /// # Errors
    /// When the distributor does not end, or not as it should.
    pub(crate) async fn end(&mut self, is_told: bool) -> anyhow::Result<Counters> {
        let stops_by_itself = is_told && {
            let within = Duration::from_secs(2);
            self.distributor.wait_for_log(" shutting down", within).await.is_ok()
        };
        if !stops_by_itself {
            self.distributor.terminate()?;
        }
        let status = self.distributor.wait_exit(LIMIT).await?;
        let counted = self.distributor.wait_for_log(" stopped: ", LIMIT).await?;
        // It may have ended with the same Ctrl-C.
        let _ = self.nats.stop().await;
        ensure!(status.success(), "the distributor ended with {status}");
        Ok(Counters::parse(&counted))
    }

    /// The plugin that the distributor runs: name, version and the start of its digest, from its log.
    ///
    /// # Errors
    /// When it has none.
    pub(crate) async fn plugin(&self) -> anyhow::Result<String> {
        let line = self.distributor.wait_for_log(" plugin loaded ", LIMIT).await?;
        let value = |name: &str| {
            let value = line
                .split(' ')
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.map(|value| value.trim_matches('"'))
        };
        let (name, version) = (value("plugin"), value("version"));
        let digest = value("digest").and_then(|digest| digest.get(..8));
        let found = name.zip(version).zip(digest);
        let ((name, version), digest) = found.with_context(|| format!("another line was expected: {line}"))?;
        Ok(format!("{name} {version} (sha256 {digest}...)"))
    }
}

/// The process id of this process' child, as long as there is only one.
fn only_child() -> Option<u32> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?.filter_map(Result::ok);
    let children = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let ids: Vec<u32> = children
        .flat_map(|ids| ids.split(' ').filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect();
    match ids.as_slice() {
        [id] => Some(*id),
        _ => None,
    }
}
