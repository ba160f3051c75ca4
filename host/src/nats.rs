//! The one NATS connection of the process: made once, kept for ever, whatever the servers do.

mod credentials;
mod echo;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_nats::connection::State;
use async_nats::{Client, Event, HeaderMap, Request, ServerAddr};
use tokio::sync::watch;

pub use self::echo::Echo;
use crate::config::NatsConfig;
use crate::metrics::Counters;
use crate::tls::{self, Trust};

/// Pauses between attempts grow up to this, so that events flow again soon after NATS is back.
const LONGEST_RECONNECT_PAUSE: Duration = Duration::from_millis(500);
/// A connection that is dead without having been closed is given up when the third of these goes out unanswered: after 15
/// seconds at most.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Messages between the socket and the task that takes them over at once; see [`crate::source::core`].
const SUBSCRIPTION_CAPACITY: usize = 65_536;

/// Bytes read at once. A message of 32 KiB fits with its subject: one that does not is copied when the rest of it comes.
const READ_BUFFER_BYTES: u16 = 63 << 10;

/// The connection, and what is known about it besides.
#[derive(Debug)]
pub struct Connection {
    /// Sends and receives.
    pub client: Client,
    /// Counts the connections that were made.
    pub made: watch::Receiver<u64>,
    /// Whether the server has refused to let this account look for streams.
    pub is_denied_streams: Arc<AtomicBool>,
    /// What happened to it.
    pub log: Arc<ConnectionLog>,
}

/// The connection as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionReport {
    /// Hosts and ports.
    pub servers: String,
    /// Whether it stands.
    pub is_connected: bool,
    /// Since when that has been so.
    pub since: SystemTime,
    /// What went wrong last, unless everything is well since.
    pub last_error: Option<String>,
}

/// Starts to connect, and returns without waiting for it: NATS may come up later, go, and come back.
///
/// # Errors
/// When the options are unusable; never because no server answers.
pub async fn connect(config: &NatsConfig, counters: Arc<Counters>) -> Result<Connection, async_nats::ConnectError> {
    let (connected, made) = watch::channel(0);
    let is_denied_streams = Arc::new(AtomicBool::new(false));
    let address = |server: &ServerAddr| format!("{}:{}", server.host(), server.port());
    let servers: Vec<_> = config.servers.iter().map(address).collect();
    let log = Arc::new(ConnectionLog {
        servers: servers.join(", "),
        last_error: Mutex::default(),
        since: Mutex::new(SystemTime::now()),
        connected,
        is_denied_streams: Arc::clone(&is_denied_streams),
        counters,
    });
    // NATS carries the events themselves: its servers always have to prove who they are.
    let tls = match &config.client_certificate {
        Some(certificate) => tls::client_config_showing(certificate.clone(), Trust::System),
        None => tls::client_config(Trust::System),
    };
    let client = credentials::options(config)
        .tls_client_config(tls)
        .name("distributor")
        .retry_on_initial_connect()
        .max_reconnects(None)
        .reconnect_delay_callback(pauses())
        .ping_interval(PING_INTERVAL)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .read_buffer_capacity(READ_BUFFER_BYTES)
        .event_callback({
            let log = Arc::clone(&log);
            move |event| {
                let log = Arc::clone(&log);
                async move { log.take(&event) }
            }
        })
        .connect(config.servers.iter().map(without_credentials).collect::<Vec<_>>())
        .await?;
    Ok(Connection {
        client,
        made,
        is_denied_streams,
        log,
    })
}

/// They are with the options; the client would write them into its own log.
fn without_credentials(server: &ServerAddr) -> ServerAddr {
    let mut url = server.clone().into_inner();
    // Only a URL without a host could not be without them.
    let _ = (url.set_username(""), url.set_password(None));
    ServerAddr::from_url(url).unwrap_or_else(|_| server.clone())
}

/// Whether the connection stands at this moment.
pub fn is_connected(client: &Client) -> bool {
    client.connection_state() == State::Connected
}

/// Waits until the server has handled everything that this connection sent before, and what it had sent has come; the
/// error says why that is not known.
///
/// The client's own flush ends at the socket. A server handles what one connection sends in order, so a message to
/// ourselves shows it when it comes back. A request to a subject without listeners would be answered as well, but not
/// where somebody listens to every subject.
///
/// # Errors
/// When the message does not come back in time.
pub async fn round_trip(client: &Client, limit: Duration) -> Result<(), String> {
    let inbox = client.new_inbox();
    let echo = client.send_request(inbox.clone(), Request::new().inbox(inbox));
    match tokio::time::timeout(limit, echo).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

/// A message whose headers make it a `CloudEvent` in binary mode (NATS protocol binding, section 3.1).
pub fn binary_attributes(headers: &HeaderMap) -> Option<Vec<(String, String)>> {
    let mut attributes = Vec::new();
    let mut is_event = false;
    for (name, values) in headers.iter() {
        let name = name.to_string().to_ascii_lowercase();
        let Some(value) = values.first() else { continue };
        if name == "content-type" {
            attributes.push(("datacontenttype".to_owned(), value.to_string()));
        } else if let Some(attribute) = name.strip_prefix("ce-") {
            is_event |= attribute == "specversion";
            attributes.push((attribute.to_owned(), value.to_string()));
        }
    }
    is_event.then_some(attributes)
}

/// The client asks before the first attempt as well, which starts at once: events may wait for it.
fn pauses() -> impl Fn(usize) -> Duration {
    let is_first = AtomicBool::new(true);
    move |attempt| {
        if is_first.swap(false, Ordering::Relaxed) {
            Duration::ZERO
        } else {
            pause_before(attempt)
        }
    }
}

fn pause_before(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(8);
    let ceiling = Duration::from_millis(25)
        .saturating_mul(1 << doublings)
        .min(LONGEST_RECONNECT_PAUSE);
    // Many sidecars lose the same server at the same time.
    ceiling.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// One line for each change of state. While NATS is away attempts fail all the time; the reason is logged when it is
/// another than before.
#[derive(Debug)]
pub struct ConnectionLog {
    servers: String,
    last_error: Mutex<Option<String>>,
    /// Since when it has stood, or has not.
    since: Mutex<SystemTime>,
    connected: watch::Sender<u64>,
    is_denied_streams: Arc<AtomicBool>,
    counters: Arc<Counters>,
}

impl ConnectionLog {
    /// How the connection of this client is.
    pub fn report(&self, client: &Client) -> ConnectionReport {
        ConnectionReport {
            servers: self.servers.clone(),
            is_connected: is_connected(client),
            since: *self.since(),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    fn since(&self) -> MutexGuard<'_, SystemTime> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, event: &Event) {
        let servers = &self.servers;
        match event {
            Event::Connected => {
                self.replace_last_error(None);
                *self.since() = SystemTime::now();
                tracing::info!(servers, "connected to NATS");
                self.is_denied_streams.store(false, Ordering::Release);
                self.connected.send_modify(|n_connections| *n_connections += 1);
            }
            Event::Disconnected => {
                *self.since() = SystemTime::now();
                self.counters.disconnects.increment();
                tracing::warn!(servers, "lost the connection to NATS; trying to get it back");
            }
            Event::LameDuckMode => tracing::info!(servers, "the NATS server is about to shut down"),
            Event::ServerError(error) => {
                let error = error.to_string();
                if error.to_ascii_lowercase().contains("permissions violation") && error.contains("$JS.API.STREAM.") {
                    self.is_denied_streams.store(true, Ordering::Release);
                }
                self.log_error(&error, "NATS refused something");
            }
            Event::ClientError(error) => self.log_error(&error.to_string(), "cannot connect to NATS; trying again"),
            // Between the socket and the readers of `source::core`, which take everything at once: hardly ever.
            Event::SlowConsumer(_) => {
                self.counters.received.increment();
                self.counters.lost.increment();
                self.log_error("the client's buffer is full", "events are lost");
            }
            Event::Closed | Event::Draining => tracing::debug!(%event, "NATS client"),
        }
    }

    fn log_error(&self, error: &str, what: &str) {
        if self.replace_last_error(Some(error.to_owned())).as_deref() != Some(error) {
            tracing::warn!(error, servers = self.servers, "{what}");
        }
    }

    fn replace_last_error(&self, error: Option<String>) -> Option<String> {
        let mut last_error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut last_error, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_attempt_of_all_starts_at_once() {
        let pause = pauses();
        assert_eq!(pause(1), Duration::ZERO);
        // After a loss the client counts from 1 again.
        for attempt in [1, 1, 20] {
            assert!(pause(attempt) >= Duration::from_millis(12), "attempt {attempt}");
        }
    }
}
