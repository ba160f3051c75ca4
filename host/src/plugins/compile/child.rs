//! The compiler as a process of its own, so that its memory leaves with it.
//!
//! [`compile`] is the side of the sidecar, [`run`] the side of the child: this executable, started with [`COMMAND`]. It
//! limits itself, since it is the child that can be out of memory and not the sidecar.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setpriority_process, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::cache::Draft;
use super::{CompileError, here};

/// The arguments that make this executable a compiler.
pub const COMMAND: [&str; 2] = ["plugin", "compile"];
/// Its option for the memory it may take, in bytes.
const MEMORY_LIMIT: &str = "--memory-limit";
/// Its option for code that counts fuel.
const FUEL: &str = "--fuel";
/// A component of some 20 MB takes about ten seconds on a slow core.
pub(super) const TIME_LIMIT: Duration = Duration::from_mins(2);
/// What the child says when the place for its result is full or gone, which is not the component's fault.
const CANNOT_WRITE: &str = "cannot write the native code";
/// Of what it prints.
const MAX_MESSAGE_BYTES: u64 = 16 << 10;
/// Everything else on the machine comes first.
const LOWEST_PRIORITY: i32 = 19;

/// Native code of a component; in the draft, if there is one.
///
/// # Errors
/// When no child can be started.
pub(super) async fn compile(
    executable: &Path,
    component: &[u8],
    allowance: u64,
    counts_fuel: bool,
    draft: Option<&Draft>,
) -> std::io::Result<Result<Vec<u8>, CompileError>> {
    let stdout = match draft {
        Some(draft) => Stdio::from(draft.file.try_clone()?),
        None => Stdio::piped(),
    };
    let mut child = tokio::process::Command::new(executable)
        .args(COMMAND)
        .args([MEMORY_LIMIT, &allowance.to_string()])
        .args(counts_fuel.then_some(FUEL))
        // It needs nothing, least of all the secrets in our environment. The allocator is told to take only what is
        // used, since what it takes is what the limit counts.
        .env_clear()
        .env("MIMALLOC_PAGE_COMMIT_ON_DEMAND", "1")
        .stdin(Stdio::piped())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let stdout = child.stdout.take();
    let mut stderr = child.stderr.take().expect("stderr is piped").take(MAX_MESSAGE_BYTES);
    let mut native = Vec::new();
    let mut message = Vec::new();
    let finished = tokio::time::timeout(TIME_LIMIT, async {
        let (_, read, _) = tokio::join!(
            // A child that fails early closes its end; what it says counts, not the broken pipe.
            async {
                let written = stdin.write_all(component).await;
                drop(stdin);
                written
            },
            async {
                match stdout {
                    Some(mut stdout) => stdout.read_to_end(&mut native).await,
                    None => Ok(0),
                }
            },
            stderr.read_to_end(&mut message),
        );
        read?;
        child.wait().await
    });
    let status = match finished.await {
        Err(_) => return Ok(Err(CompileError::Time)),
        Ok(status) => status?,
    };
    if status.success() {
        return Ok(Ok(native));
    }
    Ok(Err(why(status, &String::from_utf8_lossy(&message), allowance)))
}

fn why(status: ExitStatus, message: &str, allowance: u64) -> CompileError {
    const SIGKILL: i32 = 9;
    const SIGXCPU: i32 = 24;
    let first_line = message.lines().next().unwrap_or_default();
    // What the allocator says, and what the engine says when a mapping is refused.
    let is_out_of_memory = message.contains("memory allocation of") || message.contains("Cannot allocate memory");
    match status.signal() {
        Some(SIGXCPU) => CompileError::Time,
        Some(SIGKILL) => CompileError::Killed,
        _ if is_out_of_memory => CompileError::OutOfMemory { allowance },
        _ if first_line.contains(CANNOT_WRITE) => CompileError::Write(first_line.to_owned()),
        // The command's own word for an error stands before ours.
        None if !first_line.is_empty() => CompileError::Component(first_line.trim_start_matches("error: ").to_owned()),
        _ => CompileError::Component(format!("the compiler ended with {status}")),
    }
}

/// The child's side: a component on standard input, native code on standard output.
///
/// # Errors
/// What to print before ending with exit code 1.
pub fn run(memory_limit: Option<u64>, counts_fuel: bool) -> Result<(), String> {
    if let Some(bytes) = memory_limit {
        restrict(bytes)?;
    }
    let mut component = Vec::new();
    std::io::stdin()
        .read_to_end(&mut component)
        .map_err(|error| format!("cannot read the component: {error}"))?;
    let native = here(&component, counts_fuel).map_err(|error| error.to_string())?;
    drop(component);
    std::io::stdout()
        .write_all(&native)
        .map_err(|error| format!("{CANNOT_WRITE}: {error}"))
}

/// Makes sure that whatever the component does to the compiler harms nobody else.
fn restrict(memory_bytes: u64) -> Result<(), String> {
    let at_most = |resource, value| {
        let limit = Rlimit {
            current: Some(value),
            maximum: Some(value),
        };
        setrlimit(resource, limit).map_err(|error| format!("cannot limit {resource:?}: {error}"))
    };
    at_most(Resource::Data, memory_bytes)?;
    // Should the sidecar be gone, nobody else ends this process.
    at_most(Resource::Cpu, TIME_LIMIT.as_secs())?;
    // Where these are refused, there is only less comfort: a core file, other processes that wait, or a kernel that may
    // choose another victim.
    let _ = at_most(Resource::Core, 0);
    let _ = setpriority_process(None, LOWEST_PRIORITY);
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}
