//! The commands. Without one, the sidecar runs.

pub mod dead_letter;
pub mod healthcheck;
pub mod plugin;
pub mod status;

use std::sync::Arc;

use clap::{CommandFactory, Parser, Subcommand};

use self::dead_letter::DeadLetterCommand;
use self::healthcheck::HealthcheckArguments;
use self::plugin::PluginCommand;
use self::status::StatusArguments;
use crate::config::{Config, Lookup, report, variables};
use crate::plugins::{Compiler, Host, build_chain};

/// Sidecar that carries `CloudEvents` between NATS and the service next to it, filtered by WebAssembly plugins.
#[derive(Debug, Parser)]
#[command(
    name = "distributor",
    about = "Sidecar that carries CloudEvents between NATS and the service next to it, filtered by WebAssembly plugins",
    long_about = None,
    disable_version_flag = true,
    after_help = "`distributor --help` lists every environment variable.",
    after_long_help = variables::help_text()
)]
pub struct Arguments {
    /// What to do; without a command the sidecar runs.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the sidecar (the default).
    Run,
    /// Check configuration and plugins, print what is in force, and connect to nothing.
    ///
    /// Exit code 0: the sidecar would start; 64: the configuration is wrong; 1: a plugin is not usable.
    ///
    /// Example: `PUBSUB_TOPIC='sh.keptn.event.*.triggered' distributor check`
    Check,
    /// Look at events that could not be delivered, deliver them again, or delete them.
    ///
    /// It reads the same environment variables as the sidecar, so that it is best run in the sidecar's container:
    /// `kubectl exec deploy/my-service -c distributor -- distributor dead-letter list`
    ///
    /// Exit code 0: all done; 1: something failed, or is left; 64: wrong arguments or configuration.
    #[command(subcommand)]
    DeadLetter(Box<DeadLetterCommand>),
    /// Show what a running sidecar does, what is stuck, and why.
    ///
    /// It asks the control listener (`CONTROL_BIND`, `CONTROL_TOKEN`) of the same configuration, so that it is best run in
    /// the sidecar's container: `kubectl exec -it deploy/my-service -c distributor -- distributor status --watch`. The
    /// listener has a page that shows more.
    ///
    /// Exit code 0: events flow; 2: something is stuck; 1: there is no answer; 64: the configuration is wrong.
    Status(StatusArguments),
    /// Ask a running sidecar how it is, for exec probes and images without curl.
    ///
    /// It asks the admin listener (`ADMIN_BIND`) of the same configuration and prints every check.
    ///
    /// Exit code 0: the probe succeeds; 1: it fails, or nobody answers; 64: there is nobody to ask.
    Healthcheck(HealthcheckArguments),
    /// Print the version.
    Version,
    /// Make plugins, try them out, measure them, and bring them into a cluster.
    #[command(subcommand)]
    Plugin(Box<PluginCommand>),
    /// Print what a shell needs to complete commands and options.
    ///
    /// Exit code 0: printed; 64: wrong arguments.
    ///
    /// Example: `distributor completions bash > /etc/bash_completion.d/distributor`
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// The text that makes a shell complete commands and options.
pub fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "distributor", &mut text);
    text
}

/// The text of `distributor check`.
///
/// # Errors
/// Why a plugin is not usable.
pub async fn check(config: &Config, lookup: Lookup<'_>, compiler: Compiler) -> anyhow::Result<String> {
    use std::fmt::Write;

    let mut text = report::effective(config, lookup);
    let host = Arc::new(
        Host::new(compiler.cached_in(config.plugins_cache_dir.as_deref()))
            .map_err(|error| anyhow::anyhow!("cannot set up WebAssembly: {error:#}"))?,
    );
    let chain = build_chain(&host, config, config.plugins_dir.as_deref(), 1, None).await?;
    writeln!(text, "Chain")?;
    for plugin in &chain.plugins {
        let directions: Vec<_> = plugin
            .directions()
            .iter()
            .map(|direction| format!("{direction:?}").to_lowercase())
            .collect();
        writeln!(
            text,
            "  {:<32}{} {} on {}, sha256 {}",
            plugin.name(),
            plugin.version(),
            plugin.hooks().join("+"),
            directions.join("+"),
            plugin.digest()
        )?;
    }
    for warning in &config.warnings {
        writeln!(text, "warning: {warning}")?;
    }
    Ok(text)
}
