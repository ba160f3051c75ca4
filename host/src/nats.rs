//! The one NATS connection of the process: made once, kept for ever, whatever the servers do.

use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Event, HeaderMap};

use crate::config::NatsConfig;

/// Pauses between attempts grow up to this, so that events flow again soon after NATS is back.
const LONGEST_RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// A connection that is dead without having been closed is found after two of these.
const PING_INTERVAL: Duration = Duration::from_secs(10);
/// Messages between the socket and the task that takes them over at once; see [`crate::source::nats`].
const SUBSCRIPTION_CAPACITY: usize = 65_536;

/// Bytes read at once.
const READ_BUFFER_BYTES: u16 = 32 << 10;

/// Starts to connect, and returns without waiting for it: NATS may come up later, go, and come back.
///
/// # Errors
/// When the options are unusable; never because no server answers.
pub async fn connect(config: &NatsConfig) -> Result<Client, async_nats::ConnectError> {
    let servers: Vec<_> = config.servers.iter().map(|server| server.host().to_owned()).collect();
    let servers = servers.join(", ");
    ConnectOptions::new()
        .name("distributor")
        .retry_on_initial_connect()
        .max_reconnects(None)
        .reconnect_delay_callback(pause_before)
        .ping_interval(PING_INTERVAL)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .read_buffer_capacity(READ_BUFFER_BYTES)
        .event_callback(move |event| {
            let servers = servers.clone();
            async move { log(&event, &servers) }
        })
        .connect(config.servers.clone())
        .await
}

/// Whether the connection stands at this moment.
pub fn is_connected(client: &Client) -> bool {
    client.connection_state() == State::Connected
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

fn pause_before(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(8);
    let ceiling = Duration::from_millis(25)
        .saturating_mul(1 << doublings)
        .min(LONGEST_RECONNECT_PAUSE);
    // Many sidecars lose the same server at the same time.
    ceiling.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// One line for each change of state. Single attempts are not logged: they fail every second while NATS is away.
fn log(event: &Event, servers: &str) {
    match event {
        Event::Connected => tracing::info!(servers, "connected to NATS"),
        Event::Disconnected => tracing::warn!(servers, "lost the connection to NATS; trying to get it back"),
        Event::LameDuckMode => tracing::info!(servers, "the NATS server is about to shut down"),
        Event::ServerError(error) => tracing::error!(%error, servers, "NATS refused something"),
        Event::SlowConsumer(_) => tracing::error!("events were lost between socket and memory"),
        Event::Closed | Event::Draining | Event::ClientError(_) => tracing::debug!(%event, "NATS client"),
    }
}
