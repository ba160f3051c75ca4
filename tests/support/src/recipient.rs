//! The HTTP service that the distributor delivers to: it writes down every request and answers as it is told.
//!
//! Called by tests and the demo. A request is method, path, headers and bytes; what of a CloudEvent is written down is the
//! business of `journal`.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::http_server::{Handler, HttpServer, Outcome, never};
use crate::journal::{Attributes, Delivery, Journal, ReceivedRequest};
use crate::reply::{Reply, response};

type Script = dyn Fn(&ReceivedRequest, usize) -> Reply + Send + Sync;

/// A listening recipient. Dropping it closes its listener and its connections.
pub struct Recipient {
    server: HttpServer<Shared>,
}

struct Shared {
    journal: watch::Sender<Journal>,
    /// Whether whole requests are kept.
    keeps_requests: bool,
    script: Mutex<Arc<Script>>,
}

impl Recipient {
    /// Listens on a free port of 127.0.0.1 and answers 200 to everything.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_on(0).await
    }

    /// Listens on this port of 127.0.0.1: for a recipient that comes up after the distributor.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub async fn start_on(port: u16) -> anyhow::Result<Self> {
        Self::start_keeping(true, port).await
    }

    /// As [`start_on`](Self::start_on), for long runs, and with 0 for any port: of a request only its [`Delivery`] is kept.
    /// [`journal`](Self::journal) and [`wait_for`](Self::wait_for) have nothing to give; scripts see whole requests.
    ///
    /// # Errors
    ///
    /// When the port is taken.
    pub async fn start_light_on(port: u16) -> anyhow::Result<Self> {
        Self::start_keeping(false, port).await
    }

    async fn start_keeping(keeps_requests: bool, port: u16) -> anyhow::Result<Self> {
        let shared = Shared {
            journal: watch::Sender::default(),
            keeps_requests,
            script: Mutex::new(Arc::new(|_, _| Reply::status(200))),
        };
        let server = HttpServer::start_on(port, Arc::new(shared)).await;
        Ok(Self {
            server: server.context("the recipient")?,
        })
    }

    /// Where it listens, or did before it was stopped.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The port of [`address`](Self::address).
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// From now on answers as `script` says. It is given the request and its number in the journal, counted from 0.
    pub fn respond_with(&self, script: impl Fn(&ReceivedRequest, usize) -> Reply + Send + Sync + 'static) {
        *self
            .server
            .handler()
            .script
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(script);
    }

    /// All requests so far, in the order of their arrival, those before a restart included.
    #[must_use]
    pub fn journal(&self) -> Vec<ReceivedRequest> {
        self.server.handler().journal.borrow().requests.clone()
    }

    /// What is known of all requests so far, in the order of their arrival.
    #[must_use]
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.server.handler().journal.borrow().deliveries.clone()
    }

    /// The number of requests so far.
    #[must_use]
    pub fn n_received(&self) -> usize {
        self.server.handler().journal.borrow().deliveries.len()
    }

    /// The number of events that were answered with 2xx so far, each counted once.
    #[must_use]
    pub fn n_accepted(&self) -> usize {
        self.server.handler().journal.borrow().n_accepted()
    }

    /// Waits until at least `n` requests have arrived and returns all there are.
    ///
    /// # Errors
    ///
    /// When fewer have arrived after `within`.
    pub async fn wait_for(&self, n: usize, within: Duration) -> anyhow::Result<Vec<ReceivedRequest>> {
        self.wait_until_received(n, within).await?;
        Ok(self.journal())
    }

    /// Waits until at least `n` requests have arrived.
    ///
    /// # Errors
    ///
    /// When fewer have arrived after `within`.
    pub async fn wait_until_received(&self, n: usize, within: Duration) -> anyhow::Result<()> {
        let mut journal = self.server.handler().journal.subscribe();
        let arrived = journal.wait_for(|journal| journal.deliveries.len() >= n);
        if timeout(within, arrived).await.is_err() {
            bail!("{} of {n} requests arrived within {within:?}", self.n_received());
        }
        Ok(())
    }

    /// Waits until at least `n` different events have been answered with 2xx.
    ///
    /// # Errors
    ///
    /// When there were fewer after `within`.
    pub async fn wait_until_accepted(&self, n: usize, within: Duration) -> anyhow::Result<()> {
        let mut journal = self.server.handler().journal.subscribe();
        let accepted = journal.wait_for(|journal| journal.n_accepted() >= n);
        if timeout(within, accepted).await.is_err() {
            bail!("{} of {n} events were accepted within {within:?}", self.n_accepted());
        }
        Ok(())
    }

    /// Closes the listener and all connections, unanswered requests with them. Connecting is refused from now on.
    pub async fn stop(&mut self) {
        self.server.stop().await;
    }

    /// Listens again on the same port after [`stop`](Self::stop), with the same journal and script.
    ///
    /// # Errors
    ///
    /// When another program has taken the port meanwhile.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.server.start_again().await
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Recipient")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

impl Handler for Shared {
    async fn handle(&self, request: Request<Incoming>, connection: usize) -> Outcome {
        let Ok(received) = ReceivedRequest::read(request, connection).await else {
            return Outcome::Close;
        };
        let attributes = Attributes::of(&received);
        let mut nth = 0;
        self.journal.send_modify(|journal| {
            nth = journal.push(&received, &attributes);
            if self.keeps_requests {
                journal.requests.push(received.clone());
            }
        });
        let script = Arc::clone(&self.script.lock().unwrap_or_else(PoisonError::into_inner));
        let mut reply = script(&received, nth);
        loop {
            match reply {
                Reply::Status(status, headers) => {
                    self.journal.send_modify(|journal| journal.answered(nth, status));
                    return Outcome::Answer(response(status, &headers, Bytes::new()));
                }
                Reply::Body(status, content_type, body) => {
                    self.journal.send_modify(|journal| journal.answered(nth, status));
                    let headers = [("content-type".to_owned(), content_type)];
                    return Outcome::Answer(response(status, &headers, body));
                }
                Reply::Delay(delay, then) => {
                    tokio::time::sleep(delay).await;
                    reply = *then;
                }
                Reply::Hang => never().await,
                Reply::Reset => return Outcome::Reset,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_request;

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn keeps_a_journal_and_answers_as_scripted() {
        let recipient = Recipient::start().await.unwrap();
        recipient.respond_with(|request, nth| match nth {
            0 => Reply::Status(503, vec![("retry-after".into(), "1".into())]).after(Duration::from_millis(1)),
            _ => Reply::status(if request.body == "second" { 202 } else { 500 }),
        });

        let first = http_request(recipient.address(), "POST", "/a//b?c=%2F", &[("ce-id", "1")], "first")
            .await
            .unwrap();
        let second = http_request(recipient.address(), "POST", "/", &[], "second")
            .await
            .unwrap();

        assert_eq!(
            (first.status, &first.headers["retry-after"], second.status),
            (503, &"1".parse().unwrap(), 202)
        );
        let journal = recipient.wait_for(2, SOON).await.unwrap();
        assert_eq!(
            (journal[0].path.as_str(), journal[0].header("ce-id")),
            ("/a//b?c=%2F", Some("1"))
        );
        assert_eq!(
            (journal[1].body.as_ref(), journal[1].connection),
            (b"second".as_slice(), 1)
        );
    }

    #[tokio::test]
    async fn a_light_journal_has_each_delivery_and_its_answer() {
        let recipient = Recipient::start_light_on(0).await.unwrap();
        recipient
            .respond_with(|request, nth| Reply::status(if nth == 0 || request.body.is_empty() { 500 } else { 200 }));
        let event = r#"{"id":"1","shkeptncontext":"key"}"#;
        for body in [event, event, event, ""] {
            let headers = [("distributor-attempt", "1")];
            http_request(recipient.address(), "POST", "/", &headers, body)
                .await
                .unwrap();
        }
        recipient.wait_until_accepted(1, SOON).await.unwrap();
        recipient.wait_until_received(4, SOON).await.unwrap();
        recipient.wait_until_accepted(2, Duration::ZERO).await.unwrap_err();

        assert_eq!(
            (
                recipient.journal().len(),
                recipient.n_received(),
                recipient.n_accepted()
            ),
            (0, 4, 1)
        );
        let deliveries = recipient.deliveries();
        let seen = deliveries
            .iter()
            .map(|delivery| (&*delivery.id, &*delivery.key, delivery.status.unwrap()));
        assert_eq!(
            seen.collect::<Vec<_>>(),
            [("1", "key", 500), ("1", "key", 200), ("1", "key", 200), ("", "", 500)]
        );
        assert!(deliveries.is_sorted_by_key(|delivery| delivery.arrived));
    }

    #[tokio::test]
    async fn a_reset_is_seen_as_one_by_the_client() {
        let recipient = Recipient::start().await.unwrap();
        recipient.respond_with(|_, _| Reply::Reset);
        let error = http_request(recipient.address(), "POST", "/", &[], "")
            .await
            .unwrap_err();
        let cause = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
        assert_eq!(
            cause.map(std::io::Error::kind),
            Some(std::io::ErrorKind::ConnectionReset),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn a_stopped_recipient_refuses_and_comes_back_on_its_port() {
        let mut recipient = Recipient::start().await.unwrap();
        recipient.respond_with(|_, nth| if nth == 0 { Reply::Hang } else { Reply::status(200) });
        let address = recipient.address();
        let hanging = tokio::spawn(http_request(address, "POST", "/", &[], ""));
        recipient.wait_for(1, SOON).await.unwrap();

        recipient.stop().await;
        assert!(timeout(SOON, hanging).await.unwrap().unwrap().is_err());
        assert!(http_request(address, "POST", "/", &[], "").await.is_err());

        recipient.start_again().await.unwrap();
        assert_eq!(http_request(address, "POST", "/", &[], "").await.unwrap().status, 200);
        assert_eq!(recipient.journal().len(), 2);
    }
}
