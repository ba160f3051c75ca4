//! What these tests are written with: a server with the control plane's stream, a service that keeps a journal, and the
//! real binary between them.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{self, Consumer};
use futures_util::TryStreamExt;
use test_support::{
    DistributorProcess, KeptnEvent, NatsServer, NatsServerBuilder, NatsVersion, NumberedEvents, OutputTo,
    PublishedEvent, Publisher, Rate, Recipient, Reply, Verdict, create_keptn_stream, eventually,
};

use crate::harness::{BINARY, TASK_TRIGGERED, run_to_end};
pub(super) use crate::harness::{extent, is_soak};

/// The stream that a Keptn control plane has.
pub(super) const STREAM: &str = "keptn";
/// Whatever is waited for comes within this, or the test fails. Long, because these tests run side by side on small
/// machines.
pub(super) const IN_TIME: Duration = Duration::from_mins(1);

/// The peers of the distributor.
pub(super) struct Rig {
    pub(super) nats: NatsServer,
    pub(super) jetstream: Context,
    pub(super) recipient: Recipient,
}

impl Rig {
    pub(super) async fn start() -> Self {
        Self::start_with(NatsServer::builder()).await
    }

    pub(super) async fn start_version(version: NatsVersion) -> Self {
        Self::start_with(NatsServer::builder().version(version)).await
    }

    pub(super) async fn start_with(builder: NatsServerBuilder) -> Self {
        let rig = Self::without_stream(builder).await;
        let created = create_keptn_stream(&rig.jetstream).await;
        created.expect("the stream can be created");
        rig
    }

    pub(super) async fn without_stream(builder: NatsServerBuilder) -> Self {
        let nats = builder.jetstream(true).start().await.expect("nats-server starts");
        let jetstream = nats.jetstream().await.expect("nats-server takes clients");
        Self {
            nats,
            jetstream,
            recipient: Recipient::start_light_on(0).await.expect("the recipient starts"),
        }
    }

    /// The binary, as one replica of a deployment. Returns when the stream keeps events for it.
    pub(super) async fn process(&self, variables: &[(&str, &str)]) -> DistributorProcess {
        let process = self.starting_process(variables);
        let waiting = process.wait_for_log("durable consumer", IN_TIME).await;
        waiting.expect("the distributor gets its consumer");
        process
    }

    /// The same, of which nothing is known but that it was started.
    pub(super) fn starting_process(&self, variables: &[(&str, &str)]) -> DistributorProcess {
        let own = self.variables();
        let environment = merged(&own, variables);
        let started = DistributorProcess::start_with(Path::new(BINARY), &["run"], &environment, OutputTo::Memory);
        started.expect("the binary starts")
    }

    /// `distributor dead-letter …` in the environment of the process: exit code, standard output, standard error.
    pub(super) async fn dead_letter(&self, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
        let own = self.variables();
        let arguments = [&["dead-letter"], arguments].concat();
        run_to_end(&arguments, &merged(&own, variables)).await
    }

    fn variables(&self) -> [(&'static str, String); 6] {
        [
            ("PUBSUB_URL", self.nats.url()),
            ("PUBSUB_RECIPIENT_PORT", self.recipient.port().to_string()),
            ("PUBSUB_TOPIC", "sh.keptn.>".to_owned()),
            ("PUBSUB_GROUP", "group".to_owned()),
            ("K8S_DEPLOYMENT_NAME", "task-service".to_owned()),
            ("DISABLE_REGISTRATION", "true".to_owned()),
        ]
    }

    /// Publishes numbered events over so many keys.
    pub(super) fn publish(&self, name: &str, n_keys: usize, rate: Rate, n: Option<usize>) -> Publisher {
        Publisher::start(self.jetstream.clone(), numbered(name, n_keys), rate, n)
    }

    /// Publishes numbered events, and waits until the stream has them.
    pub(super) async fn published(&self, name: &str, n_keys: usize, n: usize) -> Vec<PublishedEvent> {
        let publisher = self.publish(name, n_keys, Rate::Unlimited, Some(n));
        publisher.finish(IN_TIME).await.expect("the stream takes the events")
    }

    /// Publishes one event as it is.
    pub(super) async fn publish_bytes(&self, subject: &str, payload: impl Into<bytes::Bytes>) {
        let sent = self.jetstream.publish(subject.to_owned(), payload.into()).await;
        let acknowledgement = sent.expect("the stream takes the event").await;
        acknowledgement.expect("the stream has the event");
    }

    /// Waits until the service has taken everything and the stream knows it.
    pub(super) async fn everything_settled(&self, published: &[PublishedEvent]) -> Verdict {
        let accepted = self.recipient.wait_until_accepted(published.len(), IN_TIME).await;
        let verdict = self.verdict(published);
        accepted.unwrap_or_else(|error| panic!("{error}: {verdict}"));
        self.acknowledged().await;
        verdict
    }

    pub(super) fn verdict(&self, published: &[PublishedEvent]) -> Verdict {
        Verdict::of(published, &self.recipient.deliveries())
    }

    /// Waits until nothing in the stream is owed to the service.
    pub(super) async fn acknowledged(&self) {
        let is_done = async || {
            let info = self.consumer().await;
            info.num_pending == 0 && info.num_ack_pending == 0
        };
        if eventually(IN_TIME, is_done).await.is_err() {
            let info = self.consumer().await;
            panic!(
                "{} to be acknowledged, {} to be sent",
                info.num_ack_pending, info.num_pending
            );
        }
    }

    /// The one durable consumer of the stream.
    pub(super) async fn consumer(&self) -> consumer::Info {
        let mut consumers = self.consumers().await;
        assert_eq!(consumers.len(), 1, "{consumers:?}");
        consumers.remove(0)
    }

    pub(super) async fn consumers(&self) -> Vec<consumer::Info> {
        let stream = self.jetstream.get_stream(STREAM).await.expect("there is the stream");
        stream
            .consumers()
            .try_collect()
            .await
            .expect("the server lists consumers")
    }

    /// What the dead letters of all services hold: headers and payload.
    pub(super) async fn dead_letters(&self) -> Vec<async_nats::Message> {
        let Ok(stream) = self.jetstream.get_stream("DISTRIBUTOR_DLQ").await else {
            return Vec::new();
        };
        let n = usize::try_from(stream.cached_info().state.messages).unwrap_or(usize::MAX);
        let config = consumer::pull::Config::default();
        let consumer: Consumer<_> = stream.create_consumer(config).await.expect("dead letters can be read");
        let messages = consumer.fetch().max_messages(n).messages().await;
        let messages: Vec<_> = messages.expect("dead letters can be read").try_collect().await.unwrap();
        messages.into_iter().map(|message| message.message).collect()
    }

    /// The service answers events of these keys like this, and all others with 200.
    pub(super) fn answer_keys(&self, is_special: impl Fn(&str) -> bool + Send + Sync + 'static, status: u16) {
        self.recipient.respond_with(move |request, _| {
            let is_special = is_special(key_in(&request.body));
            Reply::status(if is_special { status } else { 200 })
        });
    }
}

/// An environment. Later variables win, as in a shell.
fn merged<'a>(own: &'a [(&'a str, String)], variables: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let own = own.iter().map(|(name, value)| (*name, value.as_str()));
    own.chain(variables.iter().copied()).collect()
}

/// The Keptn context of an event.
pub(super) fn key_in(event: &[u8]) -> &str {
    let text = std::str::from_utf8(event).unwrap_or_default();
    let rest = text.split("\"shkeptncontext\":\"").nth(1).unwrap_or_default();
    rest.split('"').next().unwrap_or_default()
}

/// A header of a dead letter, empty if it is not there.
pub(super) fn header_of<'a>(letter: &'a async_nats::Message, name: &str) -> &'a str {
    let value = letter.headers.as_ref().and_then(|headers| headers.get(name));
    value.map_or("", async_nats::HeaderValue::as_str)
}

/// The most memory a process has used, in MiB. The goal of 32 holds for the release build, alone on a machine.
pub(super) fn peak_mebibytes(process: &DistributorProcess) -> u64 {
    let peak = process.peak_resident_memory().expect("the kernel knows the process") >> 20;
    let limit = if is_soak() { 32 } else { 96 };
    assert!(peak <= limit, "{peak} MiB");
    peak
}

/// Numbered events of the size of real ones.
pub(super) fn numbered(name: &str, n_keys: usize) -> NumberedEvents {
    let pattern = KeptnEvent {
        size_bytes: 1024,
        ..KeptnEvent::of_type(TASK_TRIGGERED)
    };
    NumberedEvents::new(name, n_keys, pattern)
}
