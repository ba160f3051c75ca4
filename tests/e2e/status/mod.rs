//! What an operator sees of a running distributor, and what can be done about it: the endpoints of the control listener,
//! `distributor status`, and the status page in a browser.

mod browser;
mod command;
mod endpoints;
mod page;
mod repairs;

use std::net::SocketAddr;

use serde_json::{Value, json};
use test_support::{
    DistributorProcess, HttpResponse, NatsServer, Recipient, Reply, create_keptn_stream, eventually, http_request,
};

use crate::harness::*;

/// The name of the service among consumers and dead letters.
const INTEGRATION: &str = "task-service";

/// A distributor between a stream and a service, and its control listener.
struct Site {
    peers: Peers,
    process: DistributorProcess,
    control: SocketAddr,
}

impl Site {
    async fn start(variables: &[(&str, &str)]) -> Self {
        let nats = NatsServer::builder().jetstream(true).start().await.unwrap();
        create_keptn_stream(&nats.jetstream().await.unwrap()).await.unwrap();
        let peers = Peers {
            control_plane: nats.client().await.unwrap(),
            nats,
            recipient: Recipient::start().await.unwrap(),
        };
        let own = [
            ALL_TOPICS,
            ("JETSTREAM_DURABLE", INTEGRATION),
            ("CONTROL_BIND", "127.0.0.1:0"),
            ("DELIVERY_BACKOFF_DELAY", "1ms"),
        ];
        let process = peers.starting_process(&[&own, variables].concat());
        process.wait_for_log("durable consumer", SOON).await.unwrap();
        let control = process.control_address(SOON).await.unwrap();
        Self {
            peers,
            process,
            control,
        }
    }

    /// `GET` of something in JSON.
    async fn get(&self, path: &str) -> Value {
        let answer = http_request(self.control, "GET", path, &[], "").await.unwrap();
        assert_eq!(answer.status, 200, "{path}");
        json(&answer.body)
    }

    /// `POST` with the header that changes need.
    async fn post(&self, path: &str, body: &Value) -> HttpResponse {
        let headers = [("distributor-control", "1")];
        http_request(self.control, "POST", path, &headers, body.to_string())
            .await
            .unwrap()
    }

    /// Waits until `is_so` holds for what `path` answers, and returns that.
    async fn wait_for(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let waited = eventually(SOON, async || {
            last = self.get(path).await;
            is_so(&last)
        });
        let waited = waited.await;
        assert!(waited.is_ok(), "{path}: {last:#}");
        last
    }

    /// Lets the service refuse an event for good, and waits until it is a dead letter.
    async fn make_dead_letters(&self, ids: &[&str]) {
        self.peers.recipient.respond_with(|_, _| Reply::status(400));
        for id in ids {
            self.peers.publish(&event(id)).await;
        }
        let n = ids.len() as u64;
        self.wait_for("/dead-letters", |listing| listing["total"] == n).await;
        self.peers.recipient.respond_with(|_, _| Reply::status(200));
    }

    /// Waits until the last job has ended, and returns its report.
    async fn job(&self) -> Value {
        let listing = self.wait_for("/dead-letters", |listing| listing["job"]["ended"].is_string());
        listing.await["job"].take()
    }
}

/// The most serious thing that the status says.
fn headline(status: &Value) -> &str {
    status["findings"][0]["title"].as_str().unwrap()
}

fn all() -> Value {
    json!({"all": true})
}
