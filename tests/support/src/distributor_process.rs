//! The distributor as its users run it: a binary, an environment, a port.
//!
//! Called by tests of exit codes and signals, by the demo and the benchmarks. It must not know what the variables mean,
//! save those that tell where the listeners and the cache are.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::Signal;
use tokio::process::Command;

use crate::child_process::{ChildProcess, OutputTo, ResidentMemory};
use crate::output::Output;
use crate::{eventually, free_port, http_request};

/// A running distributor. It is killed when this is dropped.
#[derive(Debug)]
pub struct DistributorProcess {
    process: ChildProcess,
    proxy_port: u16,
}

impl DistributorProcess {
    /// Starts `binary` with nothing in its environment but `environment`, `PATH`, `HOME`, and where they are not given a
    /// free `API_PROXY_PORT` and what keeps processes that run side by side apart: no admin and no control listener, and no cache.
    ///
    /// # Errors
    ///
    /// When it cannot be started. That it ends by itself soon after is not seen here.
    pub fn start(binary: &Path, environment: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_with(binary, &[], environment, OutputTo::Memory)
    }

    /// As [`start`](Self::start), with arguments and another place for its output.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with(
        binary: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
        output_to: OutputTo<'_>,
    ) -> anyhow::Result<Self> {
        let given_port = environment.iter().find(|(name, _)| *name == "API_PROXY_PORT");
        let proxy_port = match given_port {
            Some((_, port)) => port.parse().with_context(|| format!("API_PROXY_PORT={port}"))?,
            None => free_port()?,
        };
        let mut command = Command::new(binary);
        command.args(arguments).env_clear();
        for inherited in ["PATH", "HOME"] {
            #[expect(
                clippy::disallowed_methods,
                reason = "handed on to the child, not read as configuration"
            )]
            if let Some(value) = std::env::var_os(inherited) {
                command.env(inherited, value);
            }
        }
        command
            .env("API_PROXY_PORT", proxy_port.to_string())
            .env("ADMIN_BIND", "off")
            .env("CONTROL_BIND", "off")
            .env("PLUGINS_CACHE_DIR", "off")
            .envs(environment.iter().copied());
        Ok(Self {
            process: ChildProcess::start(command, output_to)?,
            proxy_port,
        })
    }

    /// Where it listens for the service next to it.
    #[must_use]
    pub fn proxy_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.proxy_port))
    }

    /// Where its admin listener is, if `ADMIN_BIND` asks for one. It prints that at its start.
    ///
    /// # Errors
    ///
    /// When it does not within `within`.
    pub async fn admin_address(&self, within: Duration) -> anyhow::Result<SocketAddr> {
        self.listener_address("admin", within).await
    }

    /// Where its control listener is, if `CONTROL_BIND` asks for one. It prints that at its start.
    ///
    /// # Errors
    ///
    /// When it does not within `within`.
    pub async fn control_address(&self, within: Duration) -> anyhow::Result<SocketAddr> {
        self.listener_address("control", within).await
    }

    async fn listener_address(&self, name: &str, within: Duration) -> anyhow::Result<SocketAddr> {
        let line = self.wait_for_log(&format!("{name} listener address="), within).await?;
        let address = line.rsplit('=').next().unwrap_or_default();
        address.parse().with_context(|| format!("no address: {line}"))
    }

    /// Waits until its listener answers `GET /health` with 200.
    ///
    /// # Errors
    ///
    /// When it does not within `within`, or the process ends. The message has its last lines.
    pub async fn wait_until_ready(&mut self, within: Duration) -> anyhow::Result<()> {
        let address = self.proxy_address();
        let mut has_exited = false;
        let answered = eventually(within, async || {
            let health = http_request(address, "GET", "/health", &[], "").await;
            has_exited = self.process.has_exited().unwrap_or(true);
            has_exited || health.is_ok_and(|response| response.status == 200)
        })
        .await;
        if has_exited {
            let status = self.process.wait_exit(within).await?;
            bail!(
                "the distributor ended with {status} before it was ready{}",
                self.process.output_tail()
            );
        }
        answered.with_context(|| {
            format!(
                "GET {address}/health is not answered with 200{}",
                self.process.output_tail()
            )
        })
    }

    /// The process itself, for what is measured on it.
    #[must_use]
    pub fn process(&self) -> &ChildProcess {
        &self.process
    }

    /// The lines it printed.
    #[must_use]
    pub fn output(&self) -> &Output {
        self.process.output()
    }

    /// Returns the first line, printed already or later, that contains `wanted`.
    ///
    /// # Errors
    ///
    /// When there is none within `within`.
    pub async fn wait_for_log(&self, wanted: &str, within: Duration) -> anyhow::Result<String> {
        self.process.output().wait_for(wanted, within).await
    }

    /// Asks it to end, with SIGTERM.
    ///
    /// # Errors
    ///
    /// When it has ended already.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.process.terminate()
    }

    /// Ends it at once, with SIGKILL.
    ///
    /// # Errors
    ///
    /// When the signal cannot be sent.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill().await
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    ///
    /// When it still runs after `within`.
    pub async fn wait_exit(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        self.process.wait_exit(within).await
    }

    /// See [`ChildProcess::resident_memory`].
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn resident_memory(&self) -> anyhow::Result<ResidentMemory> {
        self.process.resident_memory()
    }

    /// The most resident memory it has had so far, in bytes (`VmHWM`).
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn peak_resident_memory(&self) -> anyhow::Result<u64> {
        Ok(self.process.resident_memory()?.peak)
    }

    /// See [`ChildProcess::n_threads`].
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn n_threads(&self) -> anyhow::Result<u64> {
        self.process.n_threads()
    }

    /// See [`ChildProcess::n_file_descriptors`].
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn n_file_descriptors(&self) -> anyhow::Result<usize> {
        self.process.n_file_descriptors()
    }

    /// See [`ChildProcess::signal`].
    ///
    /// # Errors
    ///
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process.signal(signal)
    }

    /// See [`ChildProcess::pause`].
    ///
    /// # Errors
    ///
    /// When it has ended already.
    pub async fn pause(&self) -> anyhow::Result<()> {
        self.process.pause().await
    }

    /// See [`ChildProcess::resume`].
    ///
    /// # Errors
    ///
    /// When it has ended already.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.process.resume()
    }

    /// See [`ChildProcess::cpu_seconds`].
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        self.process.cpu_seconds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_process_takes_is_told_until_it_ends() {
        const SOON: Duration = Duration::from_secs(20);
        let arguments = ["-c", "trap 'exit 5' USR1; echo ready; while :; do sleep 0.01; done"];
        let mut process = DistributorProcess::start_with(Path::new("sh"), &arguments, &[], OutputTo::Memory).unwrap();
        process.wait_for_log("ready", SOON).await.unwrap();
        let before = process.resident_memory().unwrap().now;
        assert!(process.peak_resident_memory().unwrap() >= before);
        assert_eq!(process.n_threads().unwrap(), 1);
        // Standard input, output and error.
        assert!(process.n_file_descriptors().unwrap() >= 3);

        process.pause().await.unwrap();
        process.signal(Signal::USR1).unwrap();
        process.resume().unwrap();
        assert_eq!(process.wait_exit(SOON).await.unwrap().code(), Some(5));
        assert!(process.peak_resident_memory().is_err() && process.signal(Signal::USR1).is_err());
    }
}
