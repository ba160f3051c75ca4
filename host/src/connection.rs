//! What connects the distributor with the control plane: NATS in its cluster, its API from elsewhere.
//!
//! Opened by [`crate::app`], which builds everything that sends or receives from it and does not ask which one it is.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::config::{ApiEndpoint, Config, Ordering};
use crate::dead_letter::DeadLetters;
use crate::dispatch::Dispatcher;
use crate::keptn_api::KeptnApi;
use crate::metrics::Counters;
use crate::nats;
use crate::sink::{ApiSink, NatsSink, Sink};
use crate::source::remote::{self, RemoteSource, Trouble};
use crate::source::{Settling, Sources};
use crate::streams::Streams;
use crate::subscription::Interest;

/// The one way to the control plane.
#[derive(Debug)]
pub enum Connection {
    /// NATS.
    Nats {
        /// The connection.
        nats: nats::Connection,
        /// Finds the stream of a topic.
        streams: Streams,
    },
    /// The Keptn API, without NATS.
    Api {
        /// Its client.
        api: KeptnApi,
        /// Where it is.
        endpoint: Url,
        /// Why polls fail.
        trouble: watch::Sender<Option<Trouble>>,
    },
}

/// What was received, as long as it is not settled.
#[derive(Debug)]
pub enum Received {
    /// From these streams; core NATS keeps nothing.
    Streams(Vec<Settling>),
    /// From the control plane's list of open events.
    Polled(remote::Settling),
}

impl Received {
    /// Says what became of everything. Returns the number of events that are not settled, and that come again.
    pub async fn finish(self) -> usize {
        match self {
            Self::Streams(streams) => {
                let mut unfinished = 0;
                for settling in streams {
                    unfinished += settling.finish().await;
                }
                unfinished
            }
            Self::Polled(settling) => settling.finish().await,
        }
    }
}

impl Connection {
    /// Does not wait until anybody answers: the control plane may come up later, go, and come back.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub async fn open(config: &Config, api: &KeptnApi, counters: &Arc<Counters>) -> Result<Self, String> {
        if let ApiEndpoint::Remote(endpoint) = &config.api.endpoint {
            return Ok(Self::Api {
                api: api.clone(),
                endpoint: endpoint.clone(),
                trouble: watch::Sender::default(),
            });
        }
        let nats = nats::connect(&config.nats, Arc::clone(counters)).await;
        let nats = nats.map_err(|error| format!("cannot use NATS: {error}"))?;
        let streams = Streams::new(nats.client.clone()).unless_denied(Arc::clone(&nats.is_denied_streams));
        Ok(Self::Nats { nats, streams })
    }

    /// Where events go that cannot be delivered.
    pub fn dead_letters(&self, config: &Config) -> DeadLetters {
        let client = match self {
            Self::Nats { nats, .. } => Some(nats.client.clone()),
            Self::Api { .. } => None,
        };
        DeadLetters::new(client, &config.dead_letter, &config.jetstream.durable)
    }

    /// Where events of the service go.
    pub fn sink(&self) -> Sink {
        match self {
            Self::Nats { nats, streams } => Sink::Nats(Box::new(NatsSink::new(nats.client.clone(), streams.clone()))),
            Self::Api { api, endpoint, .. } => Sink::Api(Box::new(ApiSink::new(api.clone(), endpoint))),
        }
    }

    /// Starts to receive, until `shutdown`.
    pub fn receive(
        &self,
        config: &Config,
        interest: watch::Receiver<Arc<Interest>>,
        dispatcher: Arc<Dispatcher>,
        shutdown: CancellationToken,
    ) -> JoinHandle<Result<Received, async_nats::SubscribeError>> {
        match self {
            Self::Nats { nats, streams } => {
                let sources = Sources {
                    client: nats.client.clone(),
                    connections: nats.made.clone(),
                    streams: streams.clone(),
                    group: config.nats.group.clone(),
                    is_strict: config.delivery.ordering == Ordering::Strict,
                    config: config.jetstream.clone(),
                    interest,
                    dispatcher,
                    shutdown,
                };
                tokio::spawn(async move { sources.run().await.map(Received::Streams) })
            }
            Self::Api { api, trouble, .. } => {
                let source = RemoteSource {
                    api: api.clone(),
                    interval: config.api.polling_interval,
                    filter: config.filter.clone(),
                    state_file: config.api.state_file.clone(),
                    max_events: config.jetstream.max_events,
                    max_bytes: config.jetstream.max_bytes,
                    interest,
                    dispatcher,
                    trouble: trouble.clone(),
                    shutdown,
                };
                tokio::spawn(async move { Ok(Received::Polled(source.run().await)) })
            }
        }
    }
}
