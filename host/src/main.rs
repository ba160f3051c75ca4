//! Turns the process into the app: arguments, configuration, logs, signals, exit code.

use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use distributor::app::{self, Listeners, Signals};
use distributor::cli::healthcheck::HealthcheckArguments;
use distributor::cli::plugin::PluginCommand;
use distributor::cli::{self, Arguments, Command};
use distributor::config::variables::{self, Variable};
use distributor::config::{self, Config, ConfigErrors};
use distributor::plugins::Compiler;
use distributor::start_up;
use distributor::subscription::Interest;
use distributor::telemetry::{self, flood::Flood};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

// With musl's own allocator an event costs half as much CPU again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A wrong configuration (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;
/// After this time the start is over.
const START_UP: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    // Huge pages make a small heap look 10 MiB larger. Without the call everything works, with more memory.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let command = match Arguments::try_parse() {
        Ok(arguments) => arguments.command.unwrap_or(Command::Run),
        Err(error) => return explained(&error),
    };
    match command {
        Command::Version => {
            print(concat!("distributor ", env!("CARGO_PKG_VERSION"), "\n"));
            ExitCode::SUCCESS
        }
        Command::Completions { shell } => {
            // Whoever wanted it has gone.
            let _ = std::io::stdout().write_all(&cli::completions(shell));
            ExitCode::SUCCESS
        }
        Command::Plugin(command) => plugin(*command),
        Command::Healthcheck(arguments) => healthcheck(&arguments),
        Command::Run | Command::Check | Command::Status(_) | Command::DeadLetter(_) => match configured() {
            Err(errors) => {
                eprintln!("{errors}");
                ExitCode::from(EXIT_USAGE)
            }
            Ok(config) => with_runtime(command, config),
        },
    }
}

/// The tools of authors, and the compiler of the sidecar, which needs nothing but a thread.
fn plugin(command: PluginCommand) -> ExitCode {
    if let PluginCommand::Compile(arguments) = &command
        && let Some(compiled) = cli::plugin::compile(arguments)
    {
        return or_exit_1(compiled);
    }
    match runtime(None) {
        Ok(runtime) => ExitCode::from(runtime.block_on(cli::plugin::run(command, &environment))),
        Err(error) => or_exit_1(Err(error)),
    }
}

fn runtime(worker_threads: Option<NonZeroUsize>) -> Result<tokio::runtime::Runtime, String> {
    let n_threads = worker_threads.map_or_else(as_many_as_useful, NonZeroUsize::get);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let built = builder.worker_threads(n_threads).enable_all().build();
    built.map_err(|error| format!("cannot start the runtime: {error}"))
}

fn with_runtime(command: Command, config: Config) -> ExitCode {
    let runtime = match runtime(config.worker_threads) {
        Ok(runtime) => runtime,
        Err(error) => return or_exit_1(Err(error)),
    };
    // Not `{:#}`: our messages say what is behind them, and would say it twice.
    let ended = |ended: anyhow::Result<()>| or_exit_1(ended.map_err(|error| error.to_string()));
    let exit_code = match command {
        Command::Check => ended(runtime.block_on(check(&config))),
        Command::Status(arguments) => ExitCode::from(runtime.block_on(cli::status::run(&arguments, &config.control))),
        Command::DeadLetter(command) => {
            // Of the connection and the plugins only what an operator has to know; results are printed.
            telemetry::init("warn", config.log_format, None);
            ExitCode::from(runtime.block_on(cli::dead_letter::run(*command, &config, compiler())))
        }
        _ => ended(runtime.block_on(run(config))),
    };
    // Nothing of value is left in tasks that did not end by themselves.
    runtime.shutdown_background();
    exit_code
}

/// Without a runtime, and with what it needs of the configuration.
fn healthcheck(arguments: &HealthcheckArguments) -> ExitCode {
    let config = match config::admin_from_env(&environment) {
        Ok(config) => config,
        Err(errors) => {
            eprintln!("{errors}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match cli::healthcheck::run(arguments, config) {
        Ok((succeeds, checks)) => {
            print(&checks);
            if succeeds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error}");
            if error.is_usage() {
                ExitCode::from(EXIT_USAGE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// Help is a result; everything else is a mistake.
fn explained(error: &clap::Error) -> ExitCode {
    // Where nothing can be printed, nothing can be said about it either.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(EXIT_USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

/// Two carry 100,000 events a second; more take memory and switch between cores without carrying more.
fn as_many_as_useful() -> usize {
    // It knows the CPU limit of the container.
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(2)
}

async fn check(config: &Config) -> anyhow::Result<()> {
    print(&cli::check(config, &environment, compiler()).await?);
    Ok(())
}

async fn run(config: Config) -> anyhow::Result<()> {
    let start_time = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    print(&telemetry::banner(&config, &start_time));
    let flood = Arc::new(Flood::default());
    let log_level = telemetry::init(&config.log_level, config.log_format, Some(&flood));
    let telling = Arc::clone(&flood);
    tokio::spawn(async move { telling.tell().await });
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let address = SocketAddr::from((config.server.address, config.server.port));
    let listener = TcpListener::bind(address).await;
    let service = listener
        .map_err(|error| anyhow::anyhow!("cannot listen on {address} (PROXY_BIND, API_PROXY_PORT): {error}"))?;
    tracing::info!(address = %service.local_addr()?, recipient = config::report::without_password(&config.delivery.recipient.to_string()), "listening");
    let admin = &config.admin;
    let admin = optional_listener(admin.address, admin.is_default, &variables::ADMIN_BIND, "admin").await?;
    let control = &config.control;
    let control = optional_listener(control.address, control.is_default, &variables::CONTROL_BIND, "control").await?;
    let signals = Signals {
        log_level,
        ..Signals::default()
    };
    tokio::spawn(watch_signals(signals.clone()));
    tokio::spawn(forget_start_up());
    let topics = config.nats.topics.clone();
    let interest = if config.registration.is_some() {
        Interest::expected(topics)
    } else {
        Interest::topics(topics)
    };
    let interest = watch::Sender::new(Arc::new(interest));
    let listeners = Listeners {
        service,
        admin,
        control,
    };
    let running = app::run(config, listeners, interest, compiler(), signals);
    let result = Box::pin(running).await;
    flood.tell_now();
    Ok(result?)
}

/// Where nobody has asked for the address, another sidecar of the pod may have it.
async fn optional_listener(
    address: Option<SocketAddr>,
    is_default: bool,
    variable: &Variable,
    what: &str,
) -> anyhow::Result<Option<TcpListener>> {
    let (Some(address), name) = (address, variable.name) else {
        return Ok(None);
    };
    match TcpListener::bind(address).await {
        Ok(listener) => {
            tracing::info!(address = %listener.local_addr()?, "{what} listener");
            Ok(Some(listener))
        }
        Err(error) if is_default => {
            tracing::warn!(%address, %error, "there is no {what} listener; {name} chooses another address, or `off`");
            Ok(None)
        }
        Err(error) => Err(anyhow::anyhow!("cannot listen on {address} ({name}): {error}")),
    }
}

/// SIGHUP makes it look again. The first of the others starts the shutdown, the second one ends the process.
async fn watch_signals(signals: Signals) {
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    ) else {
        tracing::error!("signals cannot be caught; the process will end without finishing its work");
        return;
    };
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                signals.hangups.notify_one();
                continue;
            }
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if signals.shutdown.is_cancelled() {
            tracing::error!("second signal: ending at once");
            std::process::exit(1);
        }
        signals.shutdown.cancel();
    }
}

/// Whatever is executed again by now is executed often.
async fn forget_start_up() {
    tokio::time::sleep(START_UP).await;
    let n_bytes = start_up::forget_executed_code();
    tracing::debug!(n_bytes, "unmapped the code that the start executed");
}

fn configured() -> Result<Config, ConfigErrors> {
    let config = config::from_env(&environment)?;
    let problems = config.unreadable_secrets();
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(ConfigErrors(problems))
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn environment(name: &str) -> Option<String> {
    // Text that is no UTF-8 is kept as far as it can be shown, so that the error names it.
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Plugins are compiled by this executable in another process.
fn compiler() -> Compiler {
    Compiler::child(PathBuf::from("/proc/self/exe"))
}

fn or_exit_1(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the one place that prints")]
fn print(text: &str) {
    print!("{text}");
}
