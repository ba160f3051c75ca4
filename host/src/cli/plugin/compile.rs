//! `distributor plugin compile`, for authors and operators, and the same as a part of the sidecar.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::shown::{size, time};
use super::target::{SettingsArguments, Target, plugin_name};
use super::{CommandError, Desk, print, print_json};
use crate::plugins::workbench::{digest, native_code};
use crate::plugins::{Source, run_compiler};

/// This executable.
const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// Options of `compile`.
#[derive(Debug, Args)]
pub struct CompileArguments {
    /// The component: a file (.wasm, .wasm.gz), or `builtin:NAME`.
    #[arg(value_name = "COMPONENT")]
    component: Option<String>,
    /// File for the native code. Without it, only what compiling takes is said.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// The sidecar's own compiler: from standard input to standard output, in so many bytes.
    #[arg(long, hide = true)]
    memory_limit: Option<u64>,
    /// Of the sidecar's own compiler: code that counts fuel.
    #[arg(long, hide = true)]
    fuel: bool,
}

/// What compiling a component took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Cost {
    pub(super) seconds: f64,
    /// Peak of the process, which does nothing else.
    pub(super) memory_bytes: u64,
    pub(super) native_bytes: usize,
}

/// The sidecar's own compiler, if these are its arguments: it must not start anything else.
pub fn run(arguments: &CompileArguments) -> Option<Result<(), String>> {
    let is_own = arguments.component.is_none() && arguments.output.is_none() && !arguments.json;
    // Nobody types a component.
    let is_own = is_own && !std::io::stdin().is_terminal();
    is_own.then(|| run_compiler(arguments.memory_limit, arguments.fuel))
}

pub(super) async fn to_file(arguments: &CompileArguments, desk: &Desk) -> Result<bool, CommandError> {
    let target = SettingsArguments::default().target(arguments.component.as_deref())?;
    let component = target.component().await?;
    desk.progress
        .show(&format!("compiling {}", size(component.bytes.len())));
    let start = Instant::now();
    let native = native_code(&component.bytes);
    let native =
        native.map_err(|error| CommandError::Failed(format!("{} cannot be compiled: {error}", target.shown)))?;
    let cost = Cost {
        seconds: start.elapsed().as_secs_f64(),
        memory_bytes: peak_memory().unwrap_or_default(),
        native_bytes: native.len(),
    };
    desk.progress.clear();
    let native_digest = digest(&native);
    if let Some(path) = &arguments.output {
        let written = std::fs::write(path, &native);
        written.map_err(|error| CommandError::Failed(format!("cannot write {}: {error}", path.display())))?;
    }
    if arguments.json {
        let mut value = json!(cost);
        value["digest"] = component.digest.into();
        value["native_digest"] = native_digest.into();
        print_json(&value)?;
        return Ok(true);
    }
    print(&format!(
        "{}: compiled within {} and {} of memory, {} of native code\n",
        target.shown,
        time(Duration::from_secs_f64(cost.seconds)),
        size(usize::try_from(cost.memory_bytes).unwrap_or(usize::MAX)),
        size(cost.native_bytes)
    ))?;
    if let Some(path) = &arguments.output {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        print(&format!(
            "It runs with this version of the distributor on this kind of processor. Its entry in plugins.toml:\n\n\
             [[plugin]]\nname = \"{}\"\ncomponent = \"{file}\"\nsha256 = \"{native_digest}\"\nallow_precompiled = true\n",
            plugin_name(&target.shown)
        ))?;
    }
    Ok(true)
}

/// Compiles a component in a process of its own, to see what that takes.
pub(super) async fn measured(target: &Target) -> Result<Cost, String> {
    let name = match &target.source {
        Source::Builtin(builtin) => format!("builtin:{}", builtin.name).into(),
        Source::File(path) => path.clone().into_os_string(),
    };
    let mut compiler = tokio::process::Command::new(OWN_EXECUTABLE);
    compiler
        .args(["plugin", "compile", "--json"])
        .arg(name)
        .env_clear()
        .kill_on_drop(true);
    let output = compiler
        .output()
        .await
        .map_err(|error| format!("no compiler can be started: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("the compiler said something else: {error}"))
}

/// The largest memory that this process has had.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}
