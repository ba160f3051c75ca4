//! The bare relay: NATS in, HTTP out, nothing between. Its figures are the floor for anything that does more.
//!
//! Run as a process of its own, `bench relay`, by `measured`. It must not parse, filter, order, retry or log.

use std::sync::Arc;

use anyhow::Context;
use async_nats::ConnectOptions;
use bytes::Bytes;
use clap::Args;
use futures_util::StreamExt;
use http_body_util::{BodyExt, Full};
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Semaphore;

/// Enough for every burst that is measured: async-nats drops what comes above it.
const SUBSCRIPTION_CAPACITY: usize = 1 << 17;

#[derive(Debug, Args)]
pub(crate) struct RelayOptions {
    /// URL of the NATS server
    #[arg(long)]
    nats: String,

    /// Subject to subscribe to
    #[arg(long)]
    subject: String,

    /// URL to post to
    #[arg(long)]
    recipient: Uri,

    /// Deliveries at once
    #[arg(long, default_value_t = 16)]
    concurrency: usize,
}

pub(crate) async fn run(options: &RelayOptions) -> anyhow::Result<()> {
    let nats = ConnectOptions::new()
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .connect(&options.nats)
        .await?;
    let mut messages = nats.subscribe(options.subject.clone()).await?;

    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let http = Client::builder(TokioExecutor::new()).build(connector);

    // A task per delivery was faster than polling all of them from one task, and than as many workers on one channel.
    let permits = Arc::new(Semaphore::new(options.concurrency));
    while let Some(message) = messages.next().await {
        let permit = Arc::clone(&permits).acquire_owned().await?;
        let request = Request::post(options.recipient.clone())
            .header(CONTENT_TYPE, "application/cloudevents+json")
            .body(Full::new(message.payload))?;
        let http = http.clone();
        tokio::spawn(async move {
            if let Err(error) = deliver(&http, request).await {
                eprintln!("relay: {error:#}");
            }
            drop(permit);
        });
    }
    Ok(())
}

async fn deliver(http: &Client<HttpConnector, Full<Bytes>>, request: Request<Full<Bytes>>) -> anyhow::Result<()> {
    let response = http.request(request).await?;
    anyhow::ensure!(response.status().is_success(), "status {}", response.status());
    // Read to its end, or the connection does not go back to the pool.
    response.into_body().collect().await.context("the answer broke off")?;
    Ok(())
}
