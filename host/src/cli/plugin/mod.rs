//! `distributor plugin`: the tools of a plugin's author, from the first line of code to the cluster.
//!
//! Called by `main`. Components are loaded and called as the sidecar does it, by [`crate::plugins::workbench`], so that
//! what is said here holds there; here are the options, the output and what is made of the answers. Results go to
//! standard output, everything else to standard error.

mod bench;
mod check;
mod compile;
mod diff;
mod events;
mod inspect;
mod log;
mod new;
mod pack;
mod replay;
mod run;
mod shown;
mod target;
mod test;
mod wit;

use std::io::{self, IsTerminal, Write};

use clap::Subcommand;

use self::log::PluginLog;
use self::shown::{Paint, Progress};
use crate::config::{Lookup, cache_dir};
use crate::plugins::workbench::{ComponentBytes, Workbench, Workpiece};
use crate::plugins::{Compiler, LoadError};

pub use self::compile::run as compile;

/// Commands for authors of plugins.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Make a folder with a new plugin that builds and passes its tests.
    ///
    /// Exit code 0: made; 1: the folder cannot be written; 64: wrong arguments.
    ///
    /// Example: `distributor plugin new --lang rust --hook filter only-checkout`
    New(new::NewArguments),
    /// Try everything that makes plugins fail in production, and say how to mend it.
    ///
    /// The contract, each import, the schema of the configuration, odd events, whether answers repeat, memory that is
    /// never given back, time. The plugin runs under the limits of the sidecar.
    ///
    /// Exit code 0: nothing is wrong; 1: something is, or with --strict there is a warning; 64: wrong arguments.
    ///
    /// Example: `distributor plugin check my-filter.wasm --config '{"services":["checkout"]}'`
    Check(check::CheckArguments),
    /// Show what a component is: hooks, imports, configuration, sizes, and what compiling it takes.
    ///
    /// Exit code 0: shown, and it is usable; 1: it is not; 64: wrong arguments.
    ///
    /// Example: `distributor plugin inspect my-filter.wasm`
    Inspect(inspect::InspectArguments),
    /// Show events to a plugin, and what it makes of them.
    ///
    /// Events are JSON: one, several after each other, a list, or a capture of a running distributor.
    ///
    /// Exit code 0: all were answered; 1: the plugin failed on some, or is not usable; 64: wrong arguments.
    ///
    /// Example: `distributor plugin run my-filter.wasm --event fixtures/deployment.triggered.json`
    Run(run::RunArguments),
    /// Run the test cases of a plugin: YAML files in the folder `tests` beside the component.
    ///
    /// A file is a list of cases, each with `name`, `event` (a file, or the event itself) and `expect` (`pass`, `drop`,
    /// `keep`, `replace`, `error`, `not-called`, or what is expected in detail).
    ///
    /// Exit code 0: all passed; 1: some failed, or there are none; 64: wrong arguments.
    ///
    /// Example: `distributor plugin test my-filter.wasm --junit report.xml`
    Test(test::TestArguments),
    /// Measure what an event costs, and compare two components.
    ///
    /// Fuel counts what the component computes: it is the same on every machine. Time is of this machine.
    ///
    /// Exit code 0: measured; 1: a component is not usable, or fails on the events; 64: wrong arguments.
    ///
    /// Example: `distributor plugin bench old.wasm new.wasm --event fixtures/deployment.triggered.json`
    Bench(bench::BenchArguments),
    /// Show the events of a capture to a plugin, and compare its answers with those that were captured.
    ///
    /// A running distributor captures events at `POST /capture` of its control listener, and gives them out at `GET /capture`.
    ///
    /// Exit code 0: all answers are the same; 1: some differ, or the plugin is not usable; 64: wrong arguments.
    ///
    /// Example: `distributor plugin replay my-filter.wasm --events capture.ndjson --chain /etc/distributor/plugins`
    Replay(replay::ReplayArguments),
    /// Show the same events to two components, and say where their answers differ.
    ///
    /// Exit code 0: all answers are the same; 1: some differ, or a component is not usable; 64: wrong arguments.
    ///
    /// Example: `distributor plugin diff old.wasm new.wasm --events capture.ndjson`
    Diff(diff::DiffArguments),
    /// Compile a component to native code for this version of the distributor and this kind of processor.
    ///
    /// For components that are too large to be compiled where they run. Their entry in plugins.toml needs
    /// `allow_precompiled` and the `sha256` that is printed.
    ///
    /// Exit code 0: compiled; 1: it cannot be compiled, or not be written; 64: wrong arguments.
    ///
    /// Example: `distributor plugin compile my-plugin.wasm --output my-plugin.cwasm`
    Compile(compile::CompileArguments),
    /// Make a `ConfigMap` of plugins, or say why they do not fit into one and what to do instead.
    ///
    /// Exit code 0: made; 1: they do not fit, or are not usable; 64: wrong arguments.
    ///
    /// Example: `distributor plugin pack my-filter.wasm --configmap my-plugins | kubectl apply --server-side -f -`
    Pack(pack::PackArguments),
    /// Print the contract between plugins and this distributor, or write it where a build expects it.
    ///
    /// Exit code 0: done; 1: it cannot be written; 64: wrong arguments.
    ///
    /// Example: `distributor plugin wit --output wit`
    Wit(wit::WitArguments),
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    /// Wrong arguments.
    #[error("{0}")]
    Usage(String),
    /// Right ones, with which it does not work.
    #[error("{0}")]
    Failed(String),
    /// The output.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// A wrong configuration or wrong arguments (`EX_USAGE` of sysexits.h).
const EXIT_USAGE: u8 = 64;

/// What the commands work with.
struct Desk {
    compiler: Compiler,
    paint: Paint,
    progress: Progress,
    log: PluginLog,
}

/// Runs a command and returns the exit code.
pub async fn run(command: PluginCommand, lookup: Lookup<'_>) -> u8 {
    let text = |name: &str| lookup(name).unwrap_or_default();
    let cache_dir = cache_dir(&text("PLUGINS_CACHE_DIR"));
    let wants_colour = text("NO_COLOR").is_empty() && text("TERM") != "dumb";
    let desk = Desk {
        log: PluginLog::install(),
        // Here, and not in a child of the lowest priority: nothing else goes on in this process, and somebody waits.
        compiler: Compiler::in_process().cached_in(cache_dir.as_deref()),
        paint: Paint::new(wants_colour && io::stdout().is_terminal()),
        progress: Progress::new(io::stderr().is_terminal()),
    };
    let result = match command {
        PluginCommand::New(arguments) => new::run(&arguments),
        PluginCommand::Check(arguments) => check::run(&arguments, &desk).await,
        PluginCommand::Inspect(arguments) => inspect::run(&arguments, &desk).await,
        PluginCommand::Run(arguments) => run::run(&arguments, &desk).await,
        PluginCommand::Test(arguments) => test::run(&arguments, &desk).await,
        PluginCommand::Bench(arguments) => bench::run(&arguments, &desk).await,
        PluginCommand::Replay(arguments) => replay::run(&arguments, &desk).await,
        PluginCommand::Diff(arguments) => diff::run(&arguments, &desk).await,
        PluginCommand::Compile(arguments) => compile::to_file(&arguments, &desk).await,
        PluginCommand::Pack(arguments) => pack::run(&arguments, &desk).await,
        PluginCommand::Wit(arguments) => wit::run(&arguments),
    };
    desk.progress.clear();
    match result {
        Ok(is_well) => u8::from(!is_well),
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

impl Desk {
    /// A workbench whose engine is the sidecar's.
    fn workbench(&self) -> Result<Workbench, CommandError> {
        workbench_with(self.compiler.clone())
    }

    /// A workbench that counts fuel.
    fn counting_workbench(&self) -> Result<Workbench, CommandError> {
        workbench_with(self.compiler.clone().counting_fuel())
    }

    /// Compiles, and says so while it takes long.
    async fn take(&self, workbench: &Workbench, component: &ComponentBytes) -> Result<Workpiece, LoadError> {
        let mebibytes = component.bytes.len() >> 20;
        if mebibytes > 0 {
            self.progress.show(&format!("compiling {mebibytes} MiB"));
        }
        let piece = workbench.take(component).await;
        self.progress.clear();
        piece
    }

    /// Reads and compiles what a target names.
    async fn piece(&self, workbench: &Workbench, target: &target::Target) -> Result<Workpiece, CommandError> {
        let unusable = |reason: String| CommandError::Failed(format!("{} {reason}", target.shown));
        let component = target.component().await?;
        let piece = self.take(workbench, &component).await;
        piece.map_err(|error| unusable(error.to_string()))
    }
}

fn workbench_with(compiler: Compiler) -> Result<Workbench, CommandError> {
    let workbench = Workbench::new(compiler);
    workbench.map_err(|error| CommandError::Failed(format!("cannot set up WebAssembly: {error:#}")))
}

/// Prints a result as JSON, for people who look at it as well.
fn print_json(value: &serde_json::Value) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{value:#}")?;
    Ok(out.flush()?)
}

fn print(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
