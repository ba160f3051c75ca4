//! The program under measurement, relay or distributor, as a child process.
//!
//! Called by `stage`. It must not know what is published or what is measured.

use std::path::Path;
use std::time::Duration;

use test_support::{ChildProcess, DistributorProcess, OutputTo};
use tokio::process::Command;

use crate::events::{PASSING_PROJECT, SUBJECT};
use crate::languages::Language;
use crate::storage::DURABLE;

/// What the distributor receives unless a row says otherwise.
pub(crate) const TOPIC: &str = "sh.keptn.event.*.triggered";

/// Which program is measured, and how it is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Program<'a> {
    Relay { concurrency: usize },
    Distributor(Distributor<'a>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Distributor<'a> {
    pub(crate) binary: &'a Path,
    pub(crate) filter: Filter,
    /// Whether its native code is there, as it is in the image and after the first start.
    pub(crate) is_compiled: bool,
    pub(crate) worker_threads: Option<usize>,
    pub(crate) mode: Mode,
}

/// What decides whether an event is delivered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Filter {
    /// The built-in filter, which passes everything.
    None,
    /// The built-in filter for [`PASSING_PROJECT`].
    Project,
    /// A chain of so many of them.
    Chain(usize),
    /// The filter of the language's template.
    Language(Language),
}

/// Where events are kept until they are delivered. It is the server that decides: the distributor is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// In the distributor: the server has no JetStream.
    Core,
    /// In a stream.
    JetStream,
}

impl Program<'_> {
    pub(crate) fn mode(self) -> Mode {
        match self {
            Self::Relay { .. } => Mode::Core,
            Self::Distributor(distributor) => distributor.mode,
        }
    }
}

/// Where it takes events from, where it posts them, and where its log goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) nats_url: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) recipient_port: u16,
    pub(crate) log: &'a Path,
    /// Where it may keep native code, and where it finds its plugins.
    pub(crate) folder: &'a Path,
    /// Further variables of the distributor.
    pub(crate) more: &'a [(&'a str, &'a str)],
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
            Program::Distributor(distributor) => start_distributor(distributor, surroundings).map(Self::Distributor),
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

    /// Asks it to end, with SIGTERM, and waits until it has.
    pub(crate) async fn terminate(&mut self) -> anyhow::Result<()> {
        // Longer than it gives its last deliveries.
        const LIMIT: Duration = Duration::from_secs(40);
        self.process().terminate()?;
        let status = match self {
            Self::Relay(process) => process.wait_exit(LIMIT).await?,
            Self::Distributor(distributor) => distributor.wait_exit(LIMIT).await?,
        };
        anyhow::ensure!(status.success(), "after SIGTERM it ended with {status}");
        Ok(())
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
    distributor: Distributor<'_>,
    surroundings: Surroundings<'_>,
) -> anyhow::Result<DistributorProcess> {
    let recipient_port = surroundings.recipient_port.to_string();
    let received = [
        ("PUBSUB_URL", surroundings.nats_url),
        ("PUBSUB_TOPIC", surroundings.topic),
        ("PUBSUB_RECIPIENT", "http://127.0.0.1"),
        ("PUBSUB_RECIPIENT_PORT", recipient_port.as_str()),
        ("JETSTREAM_DURABLE", DURABLE),
        ("DISABLE_REGISTRATION", "true"),
    ];
    let own = variables(distributor, surroundings.folder)?;
    let own = own.iter().map(|(name, value)| (*name, value.as_str()));
    // Of two with one name the last counts.
    let environment: Vec<_> = received
        .into_iter()
        .chain(own)
        .chain(surroundings.more.iter().copied())
        .collect();
    DistributorProcess::start_with(distributor.binary, &[], &environment, OutputTo::File(surroundings.log))
}

/// Puts native code into the folder where every start that is to find it looks for it.
pub(crate) async fn compile(distributor: Distributor<'_>, log: &Path, folder: &Path) -> anyhow::Result<()> {
    // An interpreter takes a minute on a busy machine.
    const LIMIT: Duration = Duration::from_mins(5);
    if !distributor.is_compiled {
        return Ok(());
    }
    let environment = variables(distributor, folder)?;
    let environment: Vec<_> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let output = OutputTo::File(log);
    let mut check = DistributorProcess::start_with(distributor.binary, &["check"], &environment, output)?;
    let status = check.wait_exit(LIMIT).await?;
    anyhow::ensure!(
        status.success(),
        "`distributor check`: {status}{}",
        check.process().output_tail()
    );
    Ok(())
}

/// What sets one up as the row wants it. Writes its plugins.
fn variables(distributor: Distributor<'_>, folder: &Path) -> anyhow::Result<Vec<(&'static str, String)>> {
    let mut variables = Vec::new();
    if distributor.is_compiled {
        variables.push(("PLUGINS_CACHE_DIR", folder.join("cache").to_string_lossy().into_owned()));
    }
    if let Some(n) = distributor.worker_threads {
        variables.push(("WORKER_THREADS", n.to_string()));
    }
    let plugins = folder.join("plugins");
    match distributor.filter {
        Filter::None => return Ok(variables),
        Filter::Project => {
            variables.push(("PROJECT_FILTER", PASSING_PROJECT.to_owned()));
            return Ok(variables);
        }
        Filter::Chain(length) => write_chain(&plugins, length)?,
        Filter::Language(language) => language.write_chain(&plugins)?,
    }
    variables.push(("PLUGINS_DIR", plugins.to_string_lossy().into_owned()));
    Ok(variables)
}

fn write_chain(folder: &Path, length: usize) -> std::io::Result<()> {
    let entry = |number: usize| {
        format!(
            "[[plugin]]\nname = \"filter-{number}\"\ncomponent = \"builtin:keptn-filter\"\n\
             [plugin.config]\nprojects = [\"{PASSING_PROJECT}\"]\n"
        )
    };
    let entries: String = (1..=length).map(entry).collect();
    std::fs::create_dir_all(folder)?;
    std::fs::write(
        folder.join("plugins.toml"),
        format!("default_filter = false\n{entries}"),
    )
}
