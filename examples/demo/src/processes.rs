//! The programs that take part: a real nats-server and the real distributor, as children of the demo.
//!
//! Called by `main` and the acts. It must not know events.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use async_nats::jetstream::{consumer, stream};
use test_support::{ConfigMapVolume, DistributorProcess, NatsServer, Output, OutputTo, Stream, create_keptn_stream};

use crate::path::{FOREVER, LIMIT};
use crate::tally::Counters;

/// What the distributor listens for: the tasks of Keptn.
pub(crate) const TOPIC: &str = "sh.keptn.event.*.triggered";
/// The project whose events are wanted.
pub(crate) const PROJECT: &str = "sockshop";
/// Attempts that the distributor makes for an event before it gives it up.
pub(crate) const N_ATTEMPTS: u64 = 3;

/// The children. They are ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Processes {
    /// NATS.
    pub(crate) nats: NatsServer,
    /// Process id of nats-server, where the kernel tells.
    pub(crate) nats_pid: Option<u32>,
    /// The stream of the control plane.
    stream: stream::Stream,
    /// The distributor.
    pub(crate) distributor: DistributorProcess,
    /// Its process id.
    pub(crate) distributor_pid: u32,
    /// Its durable consumer.
    pub(crate) durable: String,
    /// Its control listener.
    pub(crate) control: SocketAddr,
    /// Where its plugins are, beside the built-in one.
    pub(crate) plugins: ConfigMapVolume,
    binary: PathBuf,
    environment: Vec<(&'static str, String)>,
}

/// What a command of the distributor came to.
#[derive(Debug)]
pub(crate) struct CommandOutput {
    /// Its exit code, if no signal has ended it.
    pub(crate) exit_code: Option<i32>,
    /// Its lines on standard output.
    pub(crate) stdout: String,
    /// Its lines on standard error.
    pub(crate) stderr: String,
}

impl Processes {
    /// Starts both, the distributor with nothing but its default plugin to begin with, and waits until events can flow.
    ///
    /// # Errors
    /// When one of them does not start.
    pub(crate) async fn start(binary: &Path, service_port: u16) -> anyhow::Result<Self> {
        is_there(binary)?;
        let nats = NatsServer::builder().jetstream(true).start().await?;
        let nats_pid = only_child();
        // As a control plane of Keptn 1.x makes it, before anything else starts.
        let stream = create_keptn_stream(&nats.jetstream().await?).await?;
        let plugins = ConfigMapVolume::new()?;
        let mut environment = environment(nats.url(), service_port);
        environment.push(("PLUGINS_DIR", plugins.text().to_owned()));
        let variables = environment.iter().map(|(name, value)| (*name, value.as_str()));
        let own = [("CONTROL_BIND", "127.0.0.1:0")];
        let variables: Vec<_> = variables.chain(own).collect();
        let mut distributor = DistributorProcess::start(binary, &variables)?;
        distributor.wait_until_ready(LIMIT).await?;
        // From here on the stream keeps for it what is published.
        let created = distributor
            .wait_for_log(" created the durable consumer ", LIMIT)
            .await?;
        let durable = value_in(&created, "durable").context("the durable consumer has no name")?;
        let distributor_pid = distributor.process().id()?;
        let control = distributor.control_address(LIMIT).await?;
        Ok(Self {
            nats,
            nats_pid,
            stream,
            distributor,
            distributor_pid,
            durable: durable.to_owned(),
            control,
            plugins,
            binary: binary.to_owned(),
            environment,
        })
    }

    /// Events that the stream still keeps for the distributor: not yet given to it, or given and not yet settled.
    ///
    /// # Errors
    /// When the server does not answer.
    pub(crate) async fn n_unsettled(&self) -> anyhow::Result<u64> {
        let consumer = self.stream.get_consumer::<consumer::pull::Config>(&self.durable).await;
        let mut consumer = consumer.map_err(|error| anyhow!("there is no consumer {}: {error}", self.durable))?;
        let info = consumer.info().await?;
        Ok(info.num_pending + u64::try_from(info.num_ack_pending)?)
    }

    /// Runs `distributor dead-letter …` to its end, with the variables of the running one.
    ///
    /// # Errors
    /// When it does not end.
    pub(crate) async fn dead_letter(&self, arguments: &[&str]) -> anyhow::Result<CommandOutput> {
        let arguments = [&["dead-letter"], arguments].concat();
        let variables = self.environment.iter().map(|(name, value)| (*name, value.as_str()));
        let variables: Vec<_> = variables.collect();
        let mut command = DistributorProcess::start_with(&self.binary, &arguments, &variables, OutputTo::Memory)?;
        let status = command.wait_exit(LIMIT).await?;
        Ok(CommandOutput {
            exit_code: status.code(),
            stdout: command.output().text(Stream::Stdout),
            stderr: command.output().text(Stream::Stderr),
        })
    }

    /// Ends both, and returns what the distributor had counted.
    ///
    /// # Errors
    /// As [`end`].
    pub(crate) async fn end(&mut self, is_told: bool) -> anyhow::Result<Counters> {
        let ended = end(&mut self.distributor, is_told).await;
        // It may have ended with the same Ctrl-C.
        let _ = self.nats.stop().await;
        ended
    }

    /// The plugin that the distributor runs: name, version and the start of its digest, from its log.
    ///
    /// # Errors
    /// When it has none.
    pub(crate) async fn plugin(&self) -> anyhow::Result<String> {
        let line = self.distributor.wait_for_log(" plugin loaded ", LIMIT).await?;
        let (name, version) = (value_in(&line, "plugin"), value_in(&line, "version"));
        let digest = value_in(&line, "digest").and_then(|digest| digest.get(..8));
        let found = name.zip(version).zip(digest);
        let ((name, version), digest) = found.with_context(|| format!("another line was expected: {line}"))?;
        Ok(format!("{name} {version} (sha256 {digest}...)"))
    }
}

/// # Errors
/// When there is no distributor at this path.
pub(crate) fn is_there(binary: &Path) -> anyhow::Result<()> {
    ensure!(
        binary.is_file(),
        "there is no distributor at {}: build it with `cargo build -p distributor`",
        binary.display()
    );
    Ok(())
}

/// Waits until the distributor that prints this ends by itself, which it should not.
pub(crate) async fn ended(output: &Output) -> anyhow::Error {
    // Its last line; waiting for it ends as well when no further line can come.
    let _ = output.wait_for(" stopped: ", FOREVER).await;
    anyhow!("the distributor has ended by itself")
}

/// Ends the distributor, and returns what it had counted.
///
/// `is_told`: a terminal gives Ctrl-C to the children too, and a second signal would end the distributor at once.
///
/// # Errors
/// When it does not end, or not as it should.
pub(crate) async fn end(distributor: &mut DistributorProcess, is_told: bool) -> anyhow::Result<Counters> {
    let stops_by_itself = is_told && {
        let within = Duration::from_secs(2);
        distributor.wait_for_log(" shutting down", within).await.is_ok()
    };
    if !stops_by_itself {
        distributor.terminate()?;
    }
    let status = distributor.wait_exit(LIMIT).await?;
    let counted = distributor.wait_for_log(" stopped: ", LIMIT).await?;
    ensure!(status.success(), "the distributor ended with {status}");
    Ok(Counters::parse(&counted))
}

/// What the distributor is told; its commands are told the same, as in a container.
fn environment(nats_url: String, service_port: u16) -> Vec<(&'static str, String)> {
    vec![
        ("PUBSUB_URL", nats_url),
        ("PUBSUB_TOPIC", TOPIC.to_owned()),
        ("PUBSUB_GROUP", "demo".to_owned()),
        ("PUBSUB_RECIPIENT_PORT", service_port.to_string()),
        ("PROJECT_FILTER", PROJECT.to_owned()),
        ("K8S_NAMESPACE", "keptn".to_owned()),
        ("K8S_DEPLOYMENT_NAME", "demo-service".to_owned()),
        // There is no control plane here; with `--remote` there is.
        ("DISABLE_REGISTRATION", "true".to_owned()),
        // By default it tries for much longer than anybody wants to watch.
        ("DELIVERY_RETRY", (N_ATTEMPTS - 1).to_string()),
        ("DELIVERY_BACKOFF_DELAY", "200ms".to_owned()),
        // Why a plugin dropped an event is a decision, and decisions are logged at this level.
        ("LOG_LEVEL", "info,distributor::dispatch=debug".to_owned()),
        // Ctrl-C in a terminal ends nats-server at the same moment, and without it there is nothing to wait for.
        ("SHUTDOWN_DRAIN_TIMEOUT", "1s".to_owned()),
    ]
}

/// The value of a field without blanks in a line of the distributor's log.
fn value_in<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let value = line
        .split(' ')
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    value.map(|value| value.trim_matches('"'))
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
