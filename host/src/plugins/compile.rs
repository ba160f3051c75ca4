//! Component bytes → native code.
//!
//! Compiling takes tens of megabytes that an engine never gives back, so it happens in a child process, and the memory
//! leaves with it. Where no child can be started (or in tests, where this executable is another program), a throw-away
//! engine does it in the process.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wasmtime::{Config, Engine};

/// The arguments that make this executable a compiler.
pub const COMMAND: [&str; 2] = ["plugin", "compile"];
/// A component of some 20 MB takes about ten seconds on a slow core.
const TIME_LIMIT: Duration = Duration::from_mins(2);
/// How to compile.
#[derive(Debug, Clone)]
pub enum Compiler {
    /// With this executable, started with [`COMMAND`].
    Child(PathBuf),
    /// Here.
    InProcess,
}

/// Why compiling failed.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The bytes are at fault.
    #[error("{0}")]
    Component(String),
    /// The child did not finish.
    #[error("compiling took longer than {}", humantime::format_duration(TIME_LIMIT))]
    Time,
}

/// The configuration that all engines share: native code fits only the settings it was compiled with.
pub(super) fn engine_config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.epoch_interruption(true);
    // Guests run one call at a time; the structures for concurrent guests would only cost.
    config.concurrency_support(false);
    config
}

impl Compiler {
    /// Native code of a component.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn compile(&self, component: &[u8]) -> Result<Vec<u8>, CompileError> {
        match self {
            Self::InProcess => compile_here(component),
            Self::Child(executable) => match compile_in_child(executable, component).await {
                Ok(result) => result,
                Err(error) => {
                    tracing::warn!(%error, "no compiler process can be started; plugins are compiled in this process, which needs more memory");
                    compile_here(component)
                }
            },
        }
    }
}

fn compile_here(component: &[u8]) -> Result<Vec<u8>, CompileError> {
    let compile = || Engine::new(&engine_config())?.precompile_component(component);
    compile().map_err(|error| CompileError::Component(in_words(&error)))
}

async fn compile_in_child(executable: &PathBuf, component: &[u8]) -> std::io::Result<Result<Vec<u8>, CompileError>> {
    let mut child = tokio::process::Command::new(executable)
        .args(COMMAND)
        // It needs nothing, least of all the secrets in our environment.
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let mut stderr = child.stderr.take().expect("stderr is piped");
    let mut native = Vec::new();
    let mut message = String::new();
    let finished = tokio::time::timeout(TIME_LIMIT, async {
        let (_, read, _) = tokio::join!(
            // A child that fails early closes its end; what it says counts, not the broken pipe.
            async {
                let written = stdin.write_all(component).await;
                drop(stdin);
                written
            },
            stdout.read_to_end(&mut native),
            stderr.read_to_string(&mut message),
        );
        read?;
        child.wait().await
    });
    match finished.await {
        Err(_) => Ok(Err(CompileError::Time)),
        Ok(Ok(status)) if status.success() => Ok(Ok(native)),
        Ok(Ok(status)) if message.is_empty() => Ok(Err(CompileError::Component(format!(
            "the compiler ended with {status}"
        )))),
        Ok(Ok(_)) => Ok(Err(CompileError::Component(message.trim().to_owned()))),
        Ok(Err(error)) => Err(error),
    }
}

/// The child's side: a component on standard input, native code on standard output.
///
/// # Errors
/// What to print before ending with exit code 1.
pub fn run_child() -> Result<(), String> {
    let mut component = Vec::new();
    std::io::stdin()
        .read_to_end(&mut component)
        .map_err(|error| format!("cannot read the component: {error}"))?;
    let native = compile_here(&component).map_err(|error| error.to_string())?;
    std::io::stdout()
        .write_all(&native)
        .map_err(|error| format!("cannot write the native code: {error}"))
}

/// A compiler message without its later lines, and with the usual mix-ups explained.
fn in_words(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    let first_line = text.lines().next().unwrap_or_default();
    if text.contains("attempted to parse a wasm module with a component parser") {
        return "it is a core module, not a component; build for wasm32-wasip2, or wrap it with `wasm-tools component new`".to_owned();
    }
    if text.contains("bad magic number") {
        return "it is not WebAssembly at all".to_owned();
    }
    if text.contains("unexpected end-of-file") || text.contains("out of bounds") {
        return format!("it is empty or cut off ({first_line})");
    }
    first_line.to_owned()
}
