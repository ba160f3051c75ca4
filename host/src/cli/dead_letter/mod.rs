//! `distributor dead-letter`: what an operator can do with events that could not be delivered.
//!
//! Called by `main` with the configuration of the sidecar. What is done is in [`crate::dead_letter`]; here are the
//! options and the output. Results go to standard output, everything else to standard error.

mod filters;
mod list;
mod purge;
mod redrive;
mod show;
mod table;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ServerAddr};
use clap::{Args, Subcommand};

use self::filters::Filters;
use crate::config::{Config, DeadLetterSink};
use crate::dead_letter::redrive::Rate;
use crate::dead_letter::{Archive, ReadError};
use crate::metrics::Counters;
use crate::nats;
use crate::plugins::Compiler;

/// Time to get a connection to NATS.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Commands around dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetterCommand {
    /// List dead letters, the newest last.
    ///
    /// Exit code 0: listed, also when there are none; 1: failed; 64: wrong arguments or configuration.
    ///
    /// Example: `distributor dead-letter list --since 1h --reason retries_exhausted`
    List(ListArguments),
    /// Show one dead letter: everything that is known, and the event.
    ///
    /// Exit code 0: shown; 1: failed, or there is none with this sequence; 64: wrong arguments or configuration.
    ///
    /// Example: `distributor dead-letter show 17`
    Show(ShowArguments),
    /// Deliver dead letters to the service again, and delete those that it takes.
    ///
    /// They go straight to the service and never onto the bus. Originals pass the plugins of this configuration again,
    /// events that a plugin made go as they are. A dead letter is deleted only after the service has answered 2xx, or a
    /// plugin has dropped it. What the service does not take is left.
    ///
    /// Exit code 0: nothing is left; 1: some are left, or it failed; 64: wrong arguments or configuration.
    ///
    /// Example: `distributor dead-letter redrive --since 1h --rate 10/s`
    Redrive(RedriveArguments),
    /// Delete dead letters.
    ///
    /// Exit code 0: deleted; 1: failed, or not confirmed; 64: wrong arguments or configuration.
    ///
    /// Example: `distributor dead-letter purge --reason malformed --yes`
    Purge(PurgeArguments),
}

/// Options of `list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    #[command(flatten)]
    filters: Filters,
    /// List this many at most, the newest.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print one JSON object for each, without the event.
    #[arg(long)]
    json: bool,
}

/// Options of `show`.
#[derive(Debug, Args)]
pub struct ShowArguments {
    /// As `list` shows it.
    sequence: u64,
    /// Print a JSON object, with the event as text (`payload`), or in Base64 (`payload_base64`) if it is no text.
    #[arg(long, conflicts_with = "payload")]
    json: bool,
    /// Print the bytes of the event and nothing else.
    #[arg(long)]
    payload: bool,
}

/// Options of `redrive`.
#[derive(Debug, Args)]
pub struct RedriveArguments {
    #[command(flatten)]
    filters: Filters,
    /// Redrive all of the integration.
    #[arg(long)]
    all: bool,
    /// Redrive this many at most, the oldest first.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Attempts in a time, e.g. `10/s`, `30/m`. Without it as fast as the service answers.
    #[arg(long, value_name = "RATE", value_parser = Rate::parse)]
    rate: Option<Rate>,
    /// Deliveries at the same time; those of one `shkeptncontext` always come one after the other. Without it as many as
    /// the sidecar makes (`DELIVERY_CONCURRENCY`).
    #[arg(long, value_name = "N")]
    concurrency: Option<u16>,
    /// Attempts after the first, when the service answers that a later one may succeed.
    #[arg(long, value_name = "N", default_value_t = 2)]
    retries: u32,
    /// Give up when the service has not been ready for so long.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

/// Options of `purge`.
#[derive(Debug, Args)]
pub struct PurgeArguments {
    #[command(flatten)]
    filters: Filters,
    /// Purge all of the integration.
    #[arg(long)]
    all: bool,
    /// Purge this many at most, the oldest first.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Say what would be deleted, and delete nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask. Needed where nobody can answer.
    #[arg(long)]
    yes: bool,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Wrong arguments.
    #[error("{0}")]
    Usage(String),
    /// No connection.
    #[error(
        "cannot connect to NATS within {} (PUBSUB_URL: {servers})",
        humantime::format_duration(CONNECT_LIMIT)
    )]
    NotConnected {
        /// Hosts and ports.
        servers: String,
    },
    /// The dead letters.
    #[error("{0}")]
    Read(#[from] ReadError),
    /// There is no dead letter with this sequence.
    #[error("there is no dead letter {0}")]
    NoSuchSequence(u64),
    /// The plugins.
    #[error("{0}")]
    Plugins(String),
    /// The output.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// A wrong configuration or wrong arguments (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;

/// Runs a command and returns the exit code.
pub async fn run(command: DeadLetterCommand, config: &Config, compiler: Compiler) -> u8 {
    let result = match command {
        DeadLetterCommand::List(arguments) => list::run(&arguments, config).await,
        DeadLetterCommand::Show(arguments) => show::run(&arguments, config).await,
        DeadLetterCommand::Redrive(arguments) => redrive::run(&arguments, config, compiler).await,
        DeadLetterCommand::Purge(arguments) => purge::run(&arguments, config).await,
    };
    match result {
        Ok(is_done) => u8::from(!is_done),
        // Whoever reads the output has seen enough, as `head` does.
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            eprintln!("error: {error}");
            if matches!(error, CommandError::Usage(_)) {
                EXIT_USAGE
            } else {
                1
            }
        }
    }
}

/// The place of the dead letters. None, after saying so: there is nothing and never was.
async fn open(config: &Config) -> Result<Option<Archive>, CommandError> {
    let opened = match &config.dead_letter.sink {
        DeadLetterSink::Auto | DeadLetterSink::Nats => Archive::in_stream(connect(config).await?).await,
        DeadLetterSink::Directory(directory) => Archive::in_directory(directory).await,
        DeadLetterSink::Log => Err(ReadError::OnlyLogged),
    };
    match opened {
        Ok(archive) => Ok(Some(archive)),
        Err(nothing @ ReadError::Nothing(_)) => {
            eprintln!("{nothing}");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn connect(config: &Config) -> Result<Client, CommandError> {
    let address = |server: &ServerAddr| format!("{}:{}", server.host(), server.port());
    let servers: Vec<_> = config.nats.servers.iter().map(address).collect();
    let servers = servers.join(", ");
    let connection = nats::connect(&config.nats, Arc::new(Counters::default())).await;
    let mut connection = connection.map_err(|error| CommandError::Usage(format!("PUBSUB_URL: {error}")))?;
    let connected = connection.made.wait_for(|&n_connections| n_connections > 0);
    match tokio::time::timeout(CONNECT_LIMIT, connected).await {
        Ok(_) => Ok(connection.client),
        Err(_) => Err(CommandError::NotConnected { servers }),
    }
}

/// Nothing was found. There may be something that was not meant, and the operator may not know.
fn say_nothing_found(archive: &Archive, filters: &Filters, config: &Config) {
    let selection = filters.selection(config);
    let that_match = if selection.is_narrowed() { " that match" } else { "" };
    eprint!("there are no dead letters of {}{that_match}", selection.integration);
    match archive.total() {
        0 => eprintln!(": {} is empty", archive.place()),
        total => eprintln!(
            "; {} has {total} in all, and `list --integration all` shows them",
            archive.place()
        ),
    }
}

/// What changes something must not do so to everything by accident.
fn needs_selection(filters: &Filters, all: bool, config: &Config) -> Result<(), CommandError> {
    if all || filters.selection(config).is_narrowed() {
        return Ok(());
    }
    Err(CommandError::Usage(
        "which ones? Give at least one of --reason, --type, --context, --event-id, --since, --until, --sequence, or --all"
            .to_owned(),
    ))
}
