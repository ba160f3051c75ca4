//! How a `nats-server` is to be started: what tests say about it, and the configuration file made of that.
//!
//! Called by tests, demo and benchmarks, and by `nats_server`, which keeps the settings for its next start. It must not
//! know processes or ports.

use std::fmt::Write as _;
use std::path::Path;

use crate::nats_binary::NatsVersion;
use crate::nats_server::NatsServer;

/// How a server is to be started.
#[derive(Clone, Debug, Default)]
pub struct NatsServerBuilder {
    pub(crate) version: NatsVersion,
    jetstream: bool,
    jetstream_max_file: Option<u64>,
    max_payload: Option<usize>,
    pub(crate) config_lines: String,
    pub(crate) user_and_password: Option<(String, String)>,
    pub(crate) port: Option<u16>,
}

impl NatsServerBuilder {
    /// Which of the installed servers it is.
    #[must_use]
    pub fn version(mut self, version: NatsVersion) -> Self {
        self.version = version;
        self
    }

    /// Whether it has JetStream, with its store in a folder of its own.
    #[must_use]
    pub fn jetstream(mut self, jetstream: bool) -> Self {
        self.jetstream = jetstream;
        self
    }

    /// How many bytes all streams together may take on disk. What is over it is refused by the server, as when the disk
    /// is full.
    #[must_use]
    pub fn jetstream_max_file(mut self, bytes: u64) -> Self {
        self.jetstream_max_file = Some(bytes);
        self
    }

    /// The largest message it takes, in bytes; 1 MiB where nothing is said.
    #[must_use]
    pub fn max_payload(mut self, bytes: usize) -> Self {
        self.max_payload = Some(bytes);
        self
    }

    /// Lines for its configuration file that nothing else here can say: users and what they may do, limits, a cluster.
    /// They take the place of earlier ones.
    #[must_use]
    pub fn config_lines(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.config_lines);
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
        NatsServer::start_with(self).await
    }

    /// The configuration file of these settings, with JetStream's store in this folder.
    pub(crate) fn config_file(&self, store: &Path) -> String {
        let mut file = String::new();
        let mut line = |text: std::fmt::Arguments<'_>| writeln!(file, "{text}").expect("a String takes all");
        if self.jetstream {
            line(format_args!("jetstream {{"));
            line(format_args!("  store_dir: '{}'", store.display()));
            if let Some(bytes) = self.jetstream_max_file {
                line(format_args!("  max_file_store: {bytes}"));
            }
            line(format_args!("}}"));
        }
        if let Some(bytes) = self.max_payload {
            line(format_args!("max_payload: {bytes}"));
        }
        line(format_args!("{}", self.config_lines));
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{create_keptn_stream, keptn_stream};
    use async_nats::jetstream;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn the_server_is_of_the_version_asked_for() {
        for (version, is_2_9) in [(NatsVersion::Newest, false), (NatsVersion::V2_9, true)] {
            let server = NatsServer::builder().version(version).start().await.unwrap();
            let told = server.client().await.unwrap().server_info().version;
            assert_eq!(told.starts_with("2.9."), is_2_9, "{version:?}: {told}");
        }
    }

    #[tokio::test]
    async fn a_stream_outlives_an_upgrade_of_the_server() {
        let builder = NatsServer::builder().version(NatsVersion::V2_9).jetstream(true);
        let mut server = builder.start().await.unwrap();
        let jetstream = server.jetstream().await.unwrap();
        create_keptn_stream(&jetstream).await.unwrap();
        let stored = jetstream.publish("sh.keptn.event.a.triggered", "kept".into());
        stored.await.unwrap().await.unwrap();

        server
            .restart_with(|settings| settings.version(NatsVersion::Newest))
            .await
            .unwrap();

        let mut stream = server.jetstream().await.unwrap().get_stream("keptn").await.unwrap();
        assert_eq!(stream.info().await.unwrap().state.messages, 1);
    }

    #[tokio::test]
    async fn a_message_over_the_limit_is_refused() {
        let server = NatsServer::builder().max_payload(1000).start().await.unwrap();
        let client = server.client().await.unwrap();
        assert_eq!(client.server_info().max_payload, 1000);
        client.publish("a", vec![b'x'; 1000].into()).await.unwrap();
        client.publish("a", vec![b'x'; 1001].into()).await.unwrap_err();
    }

    #[tokio::test]
    async fn a_full_store_refuses_and_loses_nothing() {
        for version in NatsVersion::ALL {
            let builder = NatsServer::builder().version(version).jetstream(true);
            let server = builder.jetstream_max_file(100_000).start().await.unwrap();
            let jetstream = server.jetstream().await.unwrap();
            let mut stream = create_keptn_stream(&jetstream).await.unwrap();
            let publish = async || {
                let sent = jetstream.publish("sh.keptn.event.a.triggered", vec![b'x'; 20_000].into());
                sent.await.unwrap().await
            };
            let mut n_stored = 0;
            let refused = loop {
                match publish().await {
                    Ok(_) => n_stored += 1,
                    Err(error) => break error,
                }
                assert!(n_stored < 10, "{version:?} takes more than it may");
            };
            assert_eq!(
                stream.info().await.unwrap().state.messages,
                n_stored,
                "{version:?}: {refused}"
            );
        }
    }

    #[tokio::test]
    async fn permissions_are_taken_away_by_a_reload() {
        let users = |denied: &str| {
            format!(
                "authorization {{ users: [\n\
                 {{ user: admin, password: admin }}\n\
                 {{ user: plain, password: plain, permissions: {{ publish: {{ deny: [{denied}] }} }} }}\n\
                 ] }}\n\
                 no_auth_user: admin"
            )
        };
        for version in NatsVersion::ALL {
            let builder = NatsServer::builder().version(version).jetstream(true);
            let mut server = builder.config_lines(&users("")).start().await.unwrap();
            let plain = jetstream::new(server.client_as("plain", "plain").await.unwrap());
            plain
                .create_stream(keptn_stream("keptn", &["sh.keptn.>"], 1))
                .await
                .unwrap();

            let lines = users("\"$JS.API.>\"");
            server
                .reload_with(|settings| settings.config_lines(&lines))
                .await
                .unwrap();

            // The client learns of the refusal and waits for the answer all the same.
            let answered = timeout(Duration::from_millis(500), plain.get_stream("keptn")).await;
            assert!(!matches!(answered, Ok(Ok(_))), "{version:?}");
            server.jetstream().await.unwrap().get_stream("keptn").await.unwrap();
        }
    }
}
