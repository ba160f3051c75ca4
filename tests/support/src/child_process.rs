//! A program run as a child: what it prints, the signals it gets, the memory and the processor time it takes.
//!
//! Called by `nats_server` and `distributor_process`, and by the benchmarks for the relay. It must not know which
//! program it runs. Figures come from `/proc`, so it runs on Linux.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::eventually;
use crate::output::{Output, Stream, last_lines};

/// Where a child's output goes.
#[derive(Clone, Copy, Debug)]
pub enum OutputTo<'a> {
    /// Into memory, where [`Output`] finds it.
    Memory,
    /// Both streams into this file: for measuring, where reading every line would take processor time from the program
    /// that is measured.
    File(&'a Path),
}

/// Resident memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct ResidentMemory {
    /// At this moment (`VmRSS`).
    pub now: u64,
    /// The most there was (`VmHWM`).
    pub peak: u64,
    /// The part that is not backed by files (`RssAnon`): what the program allocated, without its binary's pages.
    pub anonymous: u64,
}

/// A running child. It is killed, by its own handle, when this is dropped.
#[derive(Debug)]
pub struct ChildProcess {
    child: Child,
    program: PathBuf,
    output: Output,
    output_file: Option<PathBuf>,
}

impl ChildProcess {
    /// Starts `command`, with nothing to read from standard input.
    ///
    /// # Errors
    ///
    /// When the program cannot be started or the output file cannot be created.
    pub fn start(mut command: Command, output_to: OutputTo<'_>) -> anyhow::Result<Self> {
        let program = PathBuf::from(command.as_std().get_program());
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output_file = match output_to {
            OutputTo::Memory => {
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                None
            }
            OutputTo::File(path) => {
                let file = std::fs::File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
                command.stdout(file.try_clone()?).stderr(file);
                Some(path.to_owned())
            }
        };
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let output = Output::default();
        if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
            output.read(Stream::Stdout, stdout);
            output.read(Stream::Stderr, stderr);
        }
        Ok(Self {
            child,
            program,
            output,
            output_file,
        })
    }

    /// The lines it printed; empty when they go to a file.
    #[must_use]
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// The last lines that it printed, for an error message.
    #[must_use]
    pub fn output_tail(&self) -> String {
        let Some(path) = &self.output_file else {
            return self.output.tail();
        };
        let text = std::fs::read(path).unwrap_or_default();
        last_lines(String::from_utf8_lossy(&text).lines())
    }

    /// The process id, or an error once the process has been waited for: the id may then be another's.
    ///
    /// # Errors
    ///
    /// When the process has ended.
    pub fn id(&self) -> anyhow::Result<u32> {
        self.child
            .id()
            .with_context(|| format!("{} has ended{}", self.program.display(), self.output_tail()))
    }

    /// Whether it has ended.
    ///
    /// # Errors
    ///
    /// When the operating system does not say.
    pub fn has_exited(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Asks it to end, with SIGTERM.
    ///
    /// # Errors
    ///
    /// When it has ended already.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = Pid::from_raw(i32::try_from(self.id()?)?).context("a process id is never 0")?;
        kill_process(id, signal).with_context(|| format!("cannot send {signal:?} to {}", self.program.display()))
    }

    /// Stops it without ending it (SIGSTOP), and waits until none of its threads runs: connections stay, and it does
    /// nothing until [`resume`](Self::resume).
    ///
    /// # Errors
    ///
    /// When it has ended already.
    pub async fn pause(&self) -> anyhow::Result<()> {
        // The kernel stops one thread after the other; a signal that was sent is not yet one that has arrived.
        const LIMIT: Duration = Duration::from_secs(20);
        self.signal(Signal::STOP)?;
        let stopped = eventually(LIMIT, async || self.is_paused().unwrap_or(false)).await;
        stopped.with_context(|| format!("{} does not stop", self.program.display()))
    }

    /// Lets it go on after [`pause`](Self::pause) (SIGCONT).
    ///
    /// # Errors
    ///
    /// When it has ended already.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Ends it at once, with SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When the signal cannot be sent.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child
            .kill()
            .await
            .with_context(|| format!("cannot kill {}", self.program.display()))
    }

    /// Waits until it ends by itself and all it printed has been read.
    ///
    /// # Errors
    ///
    /// When it still runs after `within`. The message has its last lines.
    pub async fn wait_exit(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        const OUTPUT_LIMIT: Duration = Duration::from_secs(2);
        let Ok(status) = timeout(within, self.child.wait()).await else {
            bail!(
                "{} still runs after {within:?}{}",
                self.program.display(),
                self.output_tail()
            );
        };
        if self.output_file.is_none() {
            self.output.wait_until_ended(OUTPUT_LIMIT).await;
        }
        Ok(status?)
    }

    /// Resident memory, from `/proc/<pid>/status`.
    ///
    /// # Errors
    ///
    /// When the process has ended.
    pub fn resident_memory(&self) -> anyhow::Result<ResidentMemory> {
        let status = self.read_proc("status")?;
        let bytes = |name| Ok::<_, anyhow::Error>(status_number(&status, name)? * 1024);
        Ok(ResidentMemory {
            now: bytes("VmRSS")?,
            peak: bytes("VmHWM")?,
            anonymous: bytes("RssAnon")?,
        })
    }

    /// Processor time so far, user and system, of all its threads, in seconds. The kernel counts in steps of 10 ms.
    ///
    /// # Errors
    ///
    /// When the process has ended.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let ticks = cpu_ticks(&self.read_proc("stat")?).ok_or_else(|| anyhow!("/proc/<pid>/stat reads differently"))?;
        let per_second = rustix::param::clock_ticks_per_second();
        #[expect(clippy::cast_precision_loss, reason = "2^53 ticks are millions of years")]
        Ok(ticks as f64 / per_second as f64)
    }

    /// Processor time of the threads that it has now, in seconds, to the nanosecond: for what hardly runs. See
    /// `Documentation/scheduler/sched-stats.rst` of Linux.
    ///
    /// # Errors
    ///
    /// When the process has ended.
    pub fn cpu_seconds_of_threads(&self) -> anyhow::Result<f64> {
        let mut total = Duration::ZERO;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.id()?))? {
            let schedstat = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            let nanoseconds = schedstat.split_ascii_whitespace().next().map(str::parse);
            total += Duration::from_nanos(nanoseconds.context("/proc/<pid>/task/<tid>/schedstat reads differently")??);
        }
        Ok(total.as_secs_f64())
    }

    /// How many threads it has at this moment.
    ///
    /// # Errors
    ///
    /// When the process has ended.
    pub fn n_threads(&self) -> anyhow::Result<u64> {
        status_number(&self.read_proc("status")?, "Threads")
    }

    /// How many files, sockets and pipes it has open at this moment.
    ///
    /// # Errors
    ///
    /// When the process has ended.
    pub fn n_file_descriptors(&self) -> anyhow::Result<usize> {
        let path = format!("/proc/{}/fd", self.id()?);
        let entries = std::fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?;
        Ok(entries.count())
    }

    fn is_paused(&self) -> anyhow::Result<bool> {
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.id()?))? {
            let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
            if state(&stat) != Some('T') {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn read_proc(&self, file: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{file}", self.id()?);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }
}

/// A number of `/proc/<pid>/status`, see `proc_pid_status(5)`: amounts of memory are in units of 1024 bytes.
fn status_number(status: &str, name: &str) -> anyhow::Result<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let line = line.with_context(|| format!("/proc/<pid>/status has no {name}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// The state of a thread in a line of `/proc/<pid>/task/<tid>/stat`: `R` for running, `T` for stopped by a signal.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// `utime` + `stime` of a line of `/proc/<pid>/stat`, see `proc_pid_stat(5)`.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses, which may itself hold spaces and parentheses.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_ticks_are_found_after_a_name_with_spaces_and_parentheses() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194304 100 0 0 0 7 5 0 0 20 0 4 0 100 1000 50";
        assert_eq!(cpu_ticks(stat), Some(12));
    }

    #[tokio::test]
    async fn a_paused_child_does_nothing_until_it_is_resumed() {
        const SOON: Duration = Duration::from_secs(20);
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "exec 7</dev/null 8</dev/null; \
             trap 'echo heard; exit 4' USR1; echo ready; while :; do sleep 0.01; done",
        ]);
        let mut child = ChildProcess::start(command, OutputTo::Memory).unwrap();
        child.output().wait_for("ready", SOON).await.unwrap();
        assert_eq!(child.n_threads().unwrap(), 1);
        assert!(child.n_file_descriptors().unwrap() >= 5);
        let memory = child.resident_memory().unwrap();
        assert!(memory.peak >= memory.now && memory.now > 100_000, "{memory:?}");

        child.pause().await.unwrap();
        child.signal(Signal::USR1).unwrap();
        let heard = child.output().wait_for("heard", Duration::from_millis(100)).await;
        heard.unwrap_err();

        child.resume().unwrap();
        assert_eq!(child.wait_exit(SOON).await.unwrap().code(), Some(4));
        assert_eq!(child.output().text(Stream::Stdout), "ready\nheard\n");
        assert!(child.n_threads().is_err() && child.n_file_descriptors().is_err());
    }

    #[tokio::test]
    async fn a_child_that_ends_early_ends_the_wait_for_its_output() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo said; exit 3"]);
        let mut child = ChildProcess::start(command, OutputTo::Memory).unwrap();

        let error = child
            .output()
            .wait_for("never said", Duration::from_secs(30))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("| said"), "{error}");
        assert_eq!(child.wait_exit(Duration::from_secs(30)).await.unwrap().code(), Some(3));
        assert!(
            child.terminate().is_err(),
            "no signal may go to an id that is no longer ours"
        );
    }
}
