//! Events that could not be delivered: where they are kept, and what an operator does with them.

mod commands;
mod directories;
mod places;
mod redriving;

use std::time::{Duration, SystemTime};

use async_nats::jetstream::stream::{Info, Stream};
use distributor::config::{self, DeadLetterConfig};
use distributor::dead_letter::{DeadLetter, DeadLetters, Reason, STREAM, Stored};
use serde_json::Value;
use test_support::{NatsServer, Recipient};

use crate::harness::*;

/// The durable of the service under test, which is its name among dead letters.
const INTEGRATION: &str = "my-service";

/// What an operator has: NATS, the service, and the environment of its sidecar.
struct Site {
    nats: NatsServer,
    recipient: Recipient,
}

impl Site {
    async fn start() -> Self {
        Self::with(NatsServer::builder().jetstream(true).start().await.unwrap()).await
    }

    async fn with(nats: NatsServer) -> Self {
        let recipient = Recipient::start().await.unwrap();
        Self { nats, recipient }
    }

    fn variables(&self) -> Vec<(String, String)> {
        let variables = [
            ("PUBSUB_URL", self.nats.url()),
            ("PUBSUB_RECIPIENT_PORT", self.recipient.port().to_string()),
            ("JETSTREAM_DURABLE", INTEGRATION.to_owned()),
            ("DELIVERY_BACKOFF_DELAY", "10ms".to_owned()),
        ];
        variables.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// What stores dead letters in this site's NATS.
    async fn letters(&self) -> DeadLetters {
        self.letters_of(INTEGRATION, &[]).await
    }

    async fn letters_of(&self, integration: &str, variables: &[(&str, &str)]) -> DeadLetters {
        let client = self.nats.client().await.unwrap();
        DeadLetters::new(client, &dead_letter_config(variables), integration)
    }

    /// Stores dead letters, and returns when they are.
    async fn store(&self, letters: impl IntoIterator<Item = DeadLetter>) {
        let place = self.letters().await;
        for letter in letters {
            assert_eq!(place.store(&letter).await.unwrap(), Stored::Nats);
        }
    }

    /// `distributor dead-letter …` in the environment of the sidecar: exit code, standard output, standard error.
    async fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        self.run_with(arguments, &[]).await
    }

    async fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
        let own = self.variables();
        let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let environment: Vec<_> = own.chain(variables.iter().copied()).collect();
        let arguments: Vec<_> = ["dead-letter"].iter().chain(arguments).copied().collect();
        run_to_end(&arguments, &environment).await
    }

    /// Runs a command that has to succeed, and returns its standard output.
    async fn done(&self, arguments: &[&str]) -> String {
        let (exit_code, stdout, stderr) = self.run(arguments).await;
        assert_eq!(exit_code, 0, "{arguments:?}: {stdout}{stderr}");
        stdout
    }

    /// What `list --json` prints with these arguments.
    async fn listed(&self, arguments: &[&str]) -> Vec<Value> {
        let arguments: Vec<_> = ["list", "--json"].iter().chain(arguments).copied().collect();
        let stdout = self.done(&arguments).await;
        stdout.lines().map(|line| json(line.as_bytes())).collect()
    }

    /// The event ids of [`Self::listed`].
    async fn listed_ids(&self, arguments: &[&str]) -> Vec<String> {
        let listed = self.listed(arguments).await;
        listed.iter().map(|entry| text(&entry["event_id"])).collect()
    }

    async fn stream(&self) -> Stream<Info> {
        self.nats.jetstream().await.unwrap().get_stream(STREAM).await.unwrap()
    }

    async fn n_stored(&self) -> u64 {
        self.stream().await.cached_info().state.messages
    }
}

fn dead_letter_config(variables: &[(&str, &str)]) -> DeadLetterConfig {
    let lookup = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    config::from_env(&lookup).unwrap().dead_letter
}

/// A dead letter of [`event`].
fn letter(id: &str) -> DeadLetter {
    letter_in("ctx", id)
}

/// A dead letter of [`event_in`].
fn letter_in(context: &str, id: &str) -> DeadLetter {
    let attempted = SystemTime::UNIX_EPOCH + Duration::from_millis(1_790_000_000_123);
    DeadLetter {
        payload: event_in(context, id).to_bytes(),
        is_child: false,
        event_id: id.to_owned(),
        event_type: TASK_TRIGGERED.to_owned(),
        keptn_context: context.to_owned(),
        reason: Reason::RetriesExhausted,
        status: Some(503),
        error: "answered 503 Service Unavailable".to_owned(),
        attempts: 11,
        first_attempt: Some(attempted),
        last_attempt: Some(attempted + Duration::from_mins(1)),
        stream: Some("keptn".to_owned()),
        sequence: Some(4711),
        subject: TASK_TRIGGERED.to_owned(),
        subscription_id: None,
        plugin: None,
        generation: 1,
        emission: 0,
        message_id: Some(format!("{INTEGRATION}:{id}::0")),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
