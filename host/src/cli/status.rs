//! `distributor status`: what the status page shows, in a terminal.
//!
//! Asks the control listener of the same configuration, so that it is run in the sidecar's container. Results go to
//! standard output, everything else to standard error.

mod text;

use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::config::ControlConfig;
use crate::status::{Level, Status};

/// Time for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer.
const MAX_BYTES: usize = 16 << 20;
/// From one look to the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// Puts the cursor at the start and clears what is behind it.
const CLEAR: &str = "\x1b[H\x1b[J";
/// Something is stuck.
const EXIT_STUCK: u8 = 2;

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Look again every second, until it is interrupted.
    #[arg(long)]
    watch: bool,
    /// Print the answer of `GET /status` as it is, with `--watch` one line each.
    #[arg(long)]
    json: bool,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
enum StatusError {
    #[error("there is no control listener to ask: CONTROL_BIND is off")]
    Off,
    #[error("CONTROL_BIND={0} does not say which port the sidecar took; choose one")]
    AnyPort(SocketAddr),
    #[error("{0}")]
    Token(String),
    #[error("no distributor answers at {address} (CONTROL_BIND): {error}")]
    Unreachable { address: SocketAddr, error: String },
    #[error("{address} answered {status}: {detail}")]
    Refused {
        address: SocketAddr,
        status: StatusCode,
        detail: String,
    },
    #[error("{0} answered something that is no status; is it a distributor of this version?")]
    Unreadable(SocketAddr),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

/// Runs the command and returns the exit code.
pub async fn run(arguments: &StatusArguments, config: &ControlConfig) -> u8 {
    loop {
        let exit_code = match show(arguments, config).await {
            Ok(Level::Stuck) => EXIT_STUCK,
            Ok(_) => 0,
            // Whoever reads the output has seen enough, as `head` does.
            Err(StatusError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => return 0,
            Err(error) => {
                eprintln!("error: {error}");
                1
            }
        };
        if !arguments.watch {
            return exit_code;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn show(arguments: &StatusArguments, config: &ControlConfig) -> Result<Level, StatusError> {
    let (address, answer) = ask(config).await?;
    let status: Status = serde_json::from_slice(&answer).map_err(|_| StatusError::Unreadable(address))?;
    let first = status.findings.first().ok_or(StatusError::Unreadable(address))?;
    let mut out = io::stdout().lock();
    if arguments.json && arguments.watch {
        let value: Value = serde_json::from_slice(&answer).map_err(|_| StatusError::Unreadable(address))?;
        writeln!(out, "{value}")?;
    } else if arguments.json {
        out.write_all(&answer)?;
    } else {
        if arguments.watch && out.is_terminal() {
            out.write_all(CLEAR.as_bytes())?;
        }
        out.write_all(text::text(&status).as_bytes())?;
    }
    out.flush()?;
    Ok(first.level)
}

async fn ask(config: &ControlConfig) -> Result<(SocketAddr, Bytes), StatusError> {
    let mut address = config.address.ok_or(StatusError::Off)?;
    if address.port() == 0 {
        return Err(StatusError::AnyPort(address));
    }
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let unreachable = |error: String| StatusError::Unreachable { address, error };
    let mut request = Request::get(format!("http://{address}/status")).header(HOST, address.to_string());
    if let Some(token) = &config.token {
        let token = token.current().map_err(|error| StatusError::Token(error.to_string()))?;
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.value.expose_secret()));
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| unreachable(error.to_string()))?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answered = async {
        let answer = client.request(request).await.map_err(|error| with_source(&error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
        body.map(|body| (status, body.to_bytes()))
            .map_err(|error| error.to_string())
    };
    let answered = tokio::time::timeout(TIMEOUT, answered).await;
    let (status, body) = answered
        .unwrap_or_else(|_| Err("no answer in time".to_owned()))
        .map_err(unreachable)?;
    if status != StatusCode::OK {
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        let detail = problem["detail"].as_str().unwrap_or("it is no distributor").to_owned();
        return Err(StatusError::Refused {
            address,
            status,
            detail,
        });
    }
    Ok((address, body))
}

fn with_source(error: &dyn std::error::Error) -> String {
    let innermost = std::iter::successors(Some(error), |error| error.source()).last();
    innermost.map(ToString::to_string).unwrap_or_default()
}
