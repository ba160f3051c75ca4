//! What these tests are written with: a server with a stream, events, and what the service is told.

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::{self, stream::Config};
use bytes::Bytes;
use test_support::{HttpResponse, KeptnEvent, NatsServer, NatsServerBuilder, Recipient, keptn_stream};

use crate::harness::*;

pub(super) const TASK_FINISHED: &str = "sh.keptn.event.task.finished";
/// No stream has it.
pub(super) const UNCOVERED: &str = "my.own.event";

/// Peers with the stream of a Keptn control plane.
pub(super) struct Stored {
    pub(super) peers: Peers,
    pub(super) jetstream: jetstream::Context,
}

impl Stored {
    pub(super) async fn start() -> Self {
        Self::start_with(NatsServer::builder(), keptn_stream("keptn", &["sh.keptn.>"], 1)).await
    }

    pub(super) async fn start_with(server: NatsServerBuilder, stream: Config) -> Self {
        let nats = server.jetstream(true).start().await.unwrap();
        let jetstream = nats.jetstream().await.unwrap();
        jetstream.create_stream(stream).await.unwrap();
        let peers = Peers {
            control_plane: nats.client().await.unwrap(),
            nats,
            recipient: Recipient::start().await.unwrap(),
        };
        Self { peers, jetstream }
    }

    /// The ids of the events in the stream, in its order.
    pub(super) async fn ids(&self) -> Vec<String> {
        ids_in_stream(&self.jetstream).await
    }

    pub(super) async fn messages(&self) -> Vec<StreamMessage> {
        messages_in_stream(&self.jetstream).await
    }

    /// How many requests JetStream has had.
    pub(super) async fn n_api_requests(&self) -> u64 {
        let (_, jetstream) = self.peers.nats.monitoring("/jsz").await.unwrap();
        jetstream["api"]["total"].as_u64().unwrap()
    }
}

pub(super) fn of_type(ty: &str, id: &str) -> Bytes {
    let event = KeptnEvent {
        id: id.to_owned(),
        ..KeptnEvent::of_type(ty)
    };
    event.to_bytes()
}

pub(super) fn finished(id: &str) -> Bytes {
    of_type(TASK_FINISHED, id)
}

pub(super) async fn post_batch(app: &App, events: &[Bytes]) -> HttpResponse {
    let batch = [b"[", events.join(&b","[..]).as_slice(), b"]"].concat();
    app.post_with(&[("content-type", "application/cloudevents-batch+json")], batch)
        .await
}

/// Asserts that the service is told to try again later, and returns why.
pub(super) fn try_again(response: &HttpResponse) -> String {
    let (status, detail) = problem(response);
    assert_eq!(status, 503, "{detail}");
    let seconds: u64 = response.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=5).contains(&seconds), "{seconds}");
    detail
}

pub(super) async fn ids_in_stream(jetstream: &jetstream::Context) -> Vec<String> {
    let ids = messages_in_stream(jetstream).await.into_iter();
    ids.map(|message| json(&message.payload)["id"].as_str().unwrap().to_owned())
        .collect()
}

async fn messages_in_stream(jetstream: &jetstream::Context) -> Vec<StreamMessage> {
    let mut stream = jetstream.get_stream("keptn").await.unwrap();
    let state = stream.info().await.unwrap().state.clone();
    let mut messages = Vec::new();
    // Empty, it is said to go from 0 to 0.
    for sequence in state.first_sequence.max(1)..=state.last_sequence {
        messages.push(stream.get_raw_message(sequence).await.unwrap());
    }
    messages
}
