//! A real `nats-server` on loopback, with a port and a store of its own.
//!
//! Called by tests, demo and benchmarks. It must not know what is published. A missing server is an error that says how
//! to get it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::child_process::{ChildProcess, OutputTo};
use crate::{eventually, http_request};

/// It answers within some 20 ms on a quiet machine; a crowded one may take a thousand times as long.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running, or stopped, server. It is killed when this is dropped, and its store is deleted.
#[derive(Debug)]
pub struct NatsServer {
    process: Option<ChildProcess>,
    folder: TempDir,
    jetstream: bool,
    user_and_password: Option<(String, String)>,
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

/// How a server is to be started.
#[derive(Clone, Debug, Default)]
pub struct NatsServerBuilder {
    jetstream: bool,
    user_and_password: Option<(String, String)>,
    port: Option<u16>,
}

impl NatsServerBuilder {
    /// Whether it has JetStream, with its store in a folder of its own.
    #[must_use]
    pub fn jetstream(mut self, jetstream: bool) -> Self {
        self.jetstream = jetstream;
        self
    }

    /// Whom alone it lets in.
    #[must_use]
    pub fn user_and_password(mut self, user: &str, password: &str) -> Self {
        self.user_and_password = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// A given port rather than one that the server chooses: for a server that comes up after its clients.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    ///
    /// When there is no `nats-server`, or it does not come up. The message has its last lines.
    pub async fn start(self) -> anyhow::Result<NatsServer> {
        let folder = tempfile::tempdir()?;
        let mut server = NatsServer {
            process: None,
            folder,
            jetstream: self.jetstream,
            user_and_password: self.user_and_password,
            port: self.port.unwrap_or(0),
            monitoring_port: 0,
        };
        server.start_process().await?;
        Ok(server)
    }
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

    /// The clients that are connected at this moment. What is published after this reaches their subscriptions.
    ///
    /// # Errors
    ///
    /// When the server is stopped.
    pub async fn clients(&self) -> anyhow::Result<Vec<NatsClient>> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.monitoring_port));
        let answer = http_request(address, "GET", "/connz?subs=detail", &[], "").await?;
        let answer: serde_json::Value = serde_json::from_slice(&answer.body)?;
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
        let address = SocketAddr::from(([127, 0, 0, 1], self.monitoring_port));
        let answer = http_request(address, "GET", "/varz", &[], "").await?;
        let answer: serde_json::Value = serde_json::from_slice(&answer.body)?;
        Ok(answer["total_connections"].as_u64().unwrap_or_default())
    }

    /// Ends the server at once, as when its machine goes away; clients see their connections closed. Nothing happens
    /// when it is stopped already.
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

    async fn start_process(&mut self) -> anyhow::Result<()> {
        let mut command = Command::new(server_path());
        command
            .args(["--addr", "127.0.0.1", "--http_port", "-1", "--ports_file_dir"])
            .arg(self.folder.path());
        // -1 lets the server choose: a port chosen here could be taken before the server has it.
        command.arg("--port").arg(if self.port == 0 {
            "-1".to_owned()
        } else {
            self.port.to_string()
        });
        if self.jetstream {
            command
                .arg("--jetstream")
                .arg("--store_dir")
                .arg(self.folder.path().join("store"));
        }
        if let Some((user, password)) = &self.user_and_password {
            command.args(["--user", user, "--pass", password]);
        }
        let mut process = ChildProcess::start(command, OutputTo::Memory)
            .context("`make setup` gets nats-server; the variable NATS_SERVER names another one")?;

        // Its own file says that it listens: on a given port another server might answer in its place.
        let ports_file = self.folder.path().join(format!("nats-server_{}.ports", process.id()?));
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

/// `NATS_SERVER`, else where `make setup` puts it, else the one on `PATH`.
fn server_path() -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "where tools are is the harness' business, not configuration"
    )]
    let variable = std::env::var_os;
    if let Some(path) = variable("NATS_SERVER") {
        return PathBuf::from(path);
    }
    let target = variable("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target")),
        PathBuf::from,
    );
    let installed = target.join("tools/nats-server");
    if installed.exists() {
        installed
    } else {
        PathBuf::from("nats-server")
    }
}

/// The client and the monitoring port in a ports file, `{"nats":["nats://127.0.0.1:40001"],"monitoring":["http://…"]}`;
/// nothing while it is half written.
fn ports_in(ports_file: &[u8]) -> Option<(u16, u16)> {
    let ports: serde_json::Value = serde_json::from_slice(ports_file).ok()?;
    let port = |service: &str| ports[service][0].as_str()?.rsplit_once(':')?.1.parse().ok();
    Some((port("nats")?, port("monitoring")?))
}

/// Whether a server greets at this port: it listens a little before it serves.
async fn answers(port: u16) -> bool {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await else {
        return false;
    };
    let mut greeting = String::new();
    BufReader::new(stream).read_line(&mut greeting).await.is_ok() && greeting.starts_with("INFO ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_restarted_server_has_the_same_port_and_store() {
        let mut server = NatsServer::builder().jetstream(true).start().await.unwrap();
        let url = server.url();
        let stream = async_nats::jetstream::stream::Config {
            name: "kept".into(),
            ..Default::default()
        };
        let jetstream = async_nats::jetstream::new(server.client().await.unwrap());
        jetstream.create_stream(stream).await.unwrap();

        server.restart().await.unwrap();

        assert_eq!(server.url(), url);
        let jetstream = async_nats::jetstream::new(server.client().await.unwrap());
        jetstream.get_stream("kept").await.unwrap();
    }

    #[tokio::test]
    async fn the_server_tells_who_is_connected_and_subscribed() {
        let server = NatsServer::start().await.unwrap();
        let client = server.client().await.unwrap();
        let _first = client.subscribe("a.>").await.unwrap();
        let second = client.subscribe("a.>").await.unwrap();

        let subjects = async || {
            let [client] = server.clients().await.unwrap().try_into().unwrap();
            let subjects = client.subscriptions.into_iter().map(|(subject, _)| subject);
            subjects.collect::<Vec<_>>()
        };
        eventually(START_LIMIT, async || subjects().await == ["a.>", "a.>"])
            .await
            .unwrap();

        drop(second);
        eventually(START_LIMIT, async || subjects().await == ["a.>"])
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_server_that_cannot_start_says_why() {
        let first = NatsServer::start().await.unwrap();
        let error = NatsServer::builder().port(first.port()).start().await.unwrap_err();
        assert!(format!("{error:#}").contains("address already in use"), "{error:#}");
    }
}
