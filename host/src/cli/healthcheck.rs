//! `distributor healthcheck`: a probe for whoever can start a command and not ask over HTTP.
//!
//! One connection, one request, and neither a runtime nor the rest of the configuration: it is started every few seconds,
//! in the memory of the sidecar's container.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use clap::Args;

use crate::config::AdminConfig;

/// Largest answer that is looked at.
const MAX_BYTES: u64 = 64 << 10;

/// Options of `healthcheck`.
#[derive(Debug, Args)]
pub struct HealthcheckArguments {
    /// Whether a restart could help; the default.
    #[arg(long, group = "probe")]
    live: bool,
    /// Whether events are, or were, received.
    #[arg(long, group = "probe")]
    ready: bool,
    /// Whether plugins are loaded.
    #[arg(long, group = "probe")]
    startup: bool,
    /// Time for the answer.
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HealthcheckError {
    /// Nobody is to be asked.
    #[error("there is no admin listener to ask: ADMIN_BIND is off")]
    Off,
    /// Nobody knows where to ask.
    #[error("ADMIN_BIND={0} does not say which port the sidecar took; choose one")]
    AnyPort(SocketAddr),
    /// Nobody answers.
    #[error("no distributor answers at {address} (ADMIN_BIND): {error}")]
    Unreachable {
        /// Who was asked.
        address: SocketAddr,
        /// What happened.
        error: std::io::Error,
    },
    /// Somebody else does.
    #[error("{0} answered something that is no probe; is it a distributor?")]
    Unreadable(SocketAddr),
}

impl HealthcheckError {
    /// Whether the configuration is at fault.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Off | Self::AnyPort(_))
    }
}

/// Asks once. Whether the probe succeeds, and all its checks.
///
/// # Errors
/// Why that is not known.
pub fn run(arguments: &HealthcheckArguments, config: AdminConfig) -> Result<(bool, String), HealthcheckError> {
    let mut address = config.address.ok_or(HealthcheckError::Off)?;
    if address.port() == 0 {
        return Err(HealthcheckError::AnyPort(address));
    }
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let path = match (arguments.ready, arguments.startup) {
        (true, _) => "/readyz",
        (_, true) => "/startupz",
        _ => "/livez",
    };
    let answer = ask(address, path, arguments.timeout);
    let answer = answer.map_err(|error| HealthcheckError::Unreachable { address, error })?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(HealthcheckError::Unreadable(address))?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    match status {
        "200" => Ok((true, body.to_owned())),
        "503" => Ok((false, body.to_owned())),
        _ => Err(HealthcheckError::Unreadable(address)),
    }
}

fn ask(address: SocketAddr, path: &str, timeout: Duration) -> std::io::Result<String> {
    // A time of 0 would be none.
    let timeout = timeout.max(Duration::from_millis(1));
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let request = format!("GET {path}?verbose HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
