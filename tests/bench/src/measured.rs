//! The program under measurement, relay or distributor, as a child process.
//!
//! Called by `rounds`. It must not know what is published or what is measured.

use std::path::Path;
use std::time::Duration;

use test_support::{ChildProcess, DistributorProcess, OutputTo};
use tokio::process::Command;

use crate::events::{PASSING_PROJECT, SUBJECT};

/// Which program is measured, and how it is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Program<'a> {
    Relay { concurrency: usize },
    Distributor { binary: &'a Path, filters: bool },
}

/// Where it takes events from, where it posts them, and where its log goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) nats_url: &'a str,
    pub(crate) recipient_port: u16,
    pub(crate) log: &'a Path,
}

#[derive(Debug)]
pub(crate) enum Measured {
    Relay(ChildProcess),
    Distributor(DistributorProcess),
}

impl Measured {
    pub(crate) fn start(program: Program<'_>, surroundings: Surroundings<'_>) -> anyhow::Result<Self> {
        match program {
            Program::Relay { concurrency } => start_relay(concurrency, surroundings).map(Self::Relay),
            Program::Distributor { binary, filters } => {
                start_distributor(binary, filters, surroundings).map(Self::Distributor)
            }
        }
    }

    /// Waits until it says that it is ready; the relay cannot, only events that arrive show it.
    pub(crate) async fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Relay(_) => Ok(()),
            Self::Distributor(distributor) => distributor.wait_until_ready(Duration::from_secs(20)).await,
        }
    }

    pub(crate) fn process(&self) -> &ChildProcess {
        match self {
            Self::Relay(process) => process,
            Self::Distributor(distributor) => distributor.process(),
        }
    }

    /// An error with its last lines, for when nothing arrives from it.
    pub(crate) fn fail(&self, what: &str) -> anyhow::Error {
        anyhow::anyhow!(
            "{what}; last lines of the program measured:{}",
            self.process().output_tail()
        )
    }
}

fn start_relay(concurrency: usize, surroundings: Surroundings<'_>) -> anyhow::Result<ChildProcess> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .env_clear()
        .args(["relay", "--nats", surroundings.nats_url, "--subject", SUBJECT]);
    command
        .arg("--recipient")
        .arg(format!("http://127.0.0.1:{}/", surroundings.recipient_port));
    command.arg("--concurrency").arg(concurrency.to_string());
    ChildProcess::start(command, OutputTo::File(surroundings.log))
}

fn start_distributor(
    binary: &Path,
    filters: bool,
    surroundings: Surroundings<'_>,
) -> anyhow::Result<DistributorProcess> {
    let recipient_port = surroundings.recipient_port.to_string();
    let mut environment = vec![
        ("PUBSUB_URL", surroundings.nats_url),
        ("PUBSUB_TOPIC", "sh.keptn.event.*.triggered"),
        ("PUBSUB_RECIPIENT", "http://127.0.0.1"),
        ("PUBSUB_RECIPIENT_PORT", recipient_port.as_str()),
        ("DISABLE_REGISTRATION", "true"),
    ];
    if filters {
        environment.push(("PROJECT_FILTER", PASSING_PROJECT));
    }
    DistributorProcess::start_with(binary, &[], &environment, OutputTo::File(surroundings.log))
}
