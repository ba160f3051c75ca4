//! A real `nats-server` on loopback, with a port and a store of its own.
//!
//! Called by tests, demo and benchmarks. It must not know what is published. A missing server is an error that says how
//! to get it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use async_nats::jetstream;
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;

use crate::child_process::{ChildProcess, OutputTo};
use crate::nats_binary::{answers, ports_in};
use crate::nats_server_builder::NatsServerBuilder;
use crate::nats_stream::connect_quickly;
use crate::output::Stream;
use crate::{eventually, http_request};

/// It answers within some 20 ms on a quiet machine; a crowded one may take a thousand times as long.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running, or stopped, server. It is killed when this is dropped, and its store is deleted.
#[derive(Debug)]
pub struct NatsServer {
    process: Option<ChildProcess>,
    folder: TempDir,
    settings: NatsServerBuilder,
    port: u16,
    monitoring_port: u16,
}

/// A connected client, as the server sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsClient {
    /// The server's number of the connection.
    pub id: u64,
    /// What the client calls itself, if anything.
    pub name: String,
    /// Subject or pattern of each of its subscriptions, and the client's number of it: another subscription to the same
    /// subject has another.
    pub subscriptions: Vec<(String, String)>,
}

impl NatsServer {
    /// Starts a server without JetStream on a port of its choice.
    ///
    /// # Errors
    ///
    /// See [`NatsServerBuilder::start`].
    pub async fn start() -> anyhow::Result<Self> {
        Self::builder().start().await
    }

    /// For a server with JetStream or on a given port.
    #[must_use]
    pub fn builder() -> NatsServerBuilder {
        NatsServerBuilder::default()
    }

    /// The URL that clients connect to. It stays the same over a restart.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port in [`url`](Self::url).
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The same with credentials in it, for a program that takes them from there.
    #[must_use]
    pub fn url_as(&self, user: &str, password: &str) -> String {
        format!("nats://{user}:{password}@127.0.0.1:{}", self.port)
    }

    /// Where it listens, for a proxy before it. It stays the same over a restart.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// A new client, connected.
    ///
    /// # Errors
    ///
    /// When the server is stopped.
    pub async fn client(&self) -> anyhow::Result<async_nats::Client> {
        let url = self.url();
        async_nats::connect(&url)
            .await
            .with_context(|| format!("cannot connect to {url}"))
    }

    /// A new client of this user, connected. (`async_nats::connect` does not use the credentials of a URL.)
    ///
    /// # Errors
    ///
    /// When the server is stopped, or does not let the user in.
    pub async fn client_as(&self, user: &str, password: &str) -> anyhow::Result<async_nats::Client> {
        let options = async_nats::ConnectOptions::with_user_and_password(user.to_owned(), password.to_owned());
        let client = options.connect(self.url()).await;
        client.with_context(|| format!("cannot connect to {} as {user}", self.url()))
    }

    /// JetStream, seen by a client of its own that is back within some 50 ms after the server is.
    ///
    /// # Errors
    ///
    /// When the server is stopped.
    pub async fn jetstream(&self) -> anyhow::Result<jetstream::Context> {
        Ok(jetstream::new(connect_quickly(vec![self.url()]).await?))
    }

    /// The clients that are connected at this moment. What is published after this reaches their subscriptions.
    ///
    /// # Errors
    ///
    /// When the server is stopped.
    pub async fn clients(&self) -> anyhow::Result<Vec<NatsClient>> {
        let (_, answer) = self.monitoring("/connz?subs=detail").await?;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let clients = answer["connections"].as_array().into_iter().flatten().map(|client| {
            let subscriptions = client["subscriptions_list_detail"].as_array().into_iter().flatten();
            NatsClient {
                id: client["cid"].as_u64().unwrap_or_default(),
                name: text(&client["name"]),
                subscriptions: subscriptions
                    .map(|subscription| (text(&subscription["subject"]), text(&subscription["sid"])))
                    .collect(),
            }
        });
        Ok(clients.collect())
    }

    /// How many connections it has had so far, those it refused included.
    ///
    /// # Errors
    ///
    /// When the server is stopped.
    pub async fn n_connections_ever(&self) -> anyhow::Result<u64> {
        let (_, answer) = self.monitoring("/varz").await?;
        Ok(answer["total_connections"].as_u64().unwrap_or_default())
    }

    /// What its monitoring endpoint answers for this path: the status, and the JSON.
    ///
    /// # Errors
    ///
    /// When the server is stopped, or the answer is not JSON.
    pub async fn monitoring(&self, path: &str) -> anyhow::Result<(u16, serde_json::Value)> {
        ensure!(self.process.is_some(), "nats-server is stopped");
        let address = SocketAddr::from(([127, 0, 0, 1], self.monitoring_port));
        let answer = http_request(address, "GET", path, &[], "").await?;
        Ok((answer.status, serde_json::from_slice(&answer.body)?))
    }

    /// Whether it was started and not stopped since.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Stops it without ending it: connections stay, and nothing is answered until [`resume`](Self::resume).
    ///
    /// # Errors
    ///
    /// When the server is stopped.
    pub async fn pause(&self) -> anyhow::Result<()> {
        self.process()?.pause().await
    }

    /// Lets it go on after [`pause`](Self::pause).
    ///
    /// # Errors
    ///
    /// When the server is stopped.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.process()?.resume()
    }

    /// Lets the server end by itself (SIGTERM) and waits for it. Its store stays. Nothing happens when it is stopped
    /// already.
    ///
    /// # Errors
    ///
    /// When it does not end.
    pub async fn terminate(&mut self) -> anyhow::Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        process.terminate()?;
        process.wait_exit(START_LIMIT).await?;
        Ok(())
    }

    /// Ends the server at once (SIGKILL), as when its machine goes away; clients see their connections closed. Its store
    /// stays. Nothing happens when it is stopped already.
    ///
    /// # Errors
    ///
    /// When it cannot be killed.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill().await,
            None => Ok(()),
        }
    }

    /// Starts it again on the same port and with the same store, stopping it before if it runs.
    ///
    /// # Errors
    ///
    /// When it does not come up, for one because another program has taken the port meanwhile.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        self.start_process().await
    }

    /// As [`restart`](Self::restart), with other settings from now on: another version, JetStream taken away, a user's
    /// permissions changed. The port stays.
    ///
    /// # Errors
    ///
    /// As [`restart`](Self::restart).
    pub async fn restart_with(
        &mut self,
        change: impl FnOnce(NatsServerBuilder) -> NatsServerBuilder,
    ) -> anyhow::Result<()> {
        self.settings = change(std::mem::take(&mut self.settings));
        self.restart().await
    }

    /// Makes the running server take over changed settings (SIGHUP): [`max_payload`](NatsServerBuilder::max_payload) and
    /// those [`config_lines`](NatsServerBuilder::config_lines) that it can reload, for one users and their permissions.
    ///
    /// # Errors
    ///
    /// When it does not take them over. The message has its last lines.
    pub async fn reload_with(
        &mut self,
        change: impl FnOnce(NatsServerBuilder) -> NatsServerBuilder,
    ) -> anyhow::Result<()> {
        self.settings = change(std::mem::take(&mut self.settings));
        self.write_config_file()?;
        let process = self.process()?;
        // Its monitoring tells a new time before all is taken over.
        let n_reloads = || {
            process
                .output()
                .text(Stream::Stderr)
                .matches("Reloaded server config")
                .count()
        };
        let before = n_reloads();
        process.signal(Signal::HUP)?;
        eventually(START_LIMIT, async || n_reloads() > before)
            .await
            .with_context(|| format!("nats-server keeps its settings{}", process.output_tail()))
    }

    fn process(&self) -> anyhow::Result<&ChildProcess> {
        self.process.as_ref().context("nats-server is stopped")
    }

    fn write_config_file(&self) -> anyhow::Result<PathBuf> {
        let path = self.folder.path().join("nats-server.conf");
        let text = self.settings.config_file(&self.folder.path().join("store"));
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    pub(crate) async fn start_with(settings: NatsServerBuilder) -> anyhow::Result<Self> {
        let mut server = Self {
            process: None,
            folder: tempfile::tempdir()?,
            port: settings.port.unwrap_or(0),
            settings,
            monitoring_port: 0,
        };
        server.start_process().await?;
        Ok(server)
    }

    async fn start_process(&mut self) -> anyhow::Result<()> {
        let program = self.settings.version.path();
        let mut command = Command::new(&program);
        command
            .arg("--config")
            .arg(self.write_config_file()?)
            .args(["--addr", "127.0.0.1", "--http_port", "-1", "--ports_file_dir"])
            .arg(self.folder.path());
        // -1 lets the server choose: a port chosen here could be taken before the server has it.
        command.arg("--port").arg(if self.port == 0 {
            "-1".to_owned()
        } else {
            self.port.to_string()
        });
        if let Some((user, password)) = &self.settings.user_and_password {
            command.args(["--user", user, "--pass", password]);
        }
        let mut process = ChildProcess::start(command, OutputTo::Memory)
            .context("`make setup` gets nats-server; the variables NATS_SERVER and NATS_SERVER_2_9 name other ones")?;

        // Its own file says that it listens: on a given port another server might answer in its place.
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let ports_file = self.folder.path().join(format!("{name}_{}.ports", process.id()?));
        let mut has_exited = false;
        let answered = eventually(START_LIMIT, async || {
            has_exited = process.has_exited().unwrap_or(true);
            let ports = tokio::fs::read(&ports_file).await.ok().and_then(|file| ports_in(&file));
            (self.port, self.monitoring_port) = ports.unwrap_or((self.port, 0));
            has_exited || (ports.is_some() && answers(self.port).await)
        })
        .await;
        if has_exited {
            let status = process.wait_exit(START_LIMIT).await?;
            bail!(
                "nats-server ended with {status}; its last lines:{}",
                process.output_tail()
            );
        }
        answered.with_context(|| format!("nats-server does not answer; its last lines:{}", process.output_tail()))?;
        // A later server may be given the same process id.
        tokio::fs::remove_file(&ports_file).await?;
        self.process = Some(process);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
