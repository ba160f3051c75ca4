//! Which `nats-server` is run, and how it tells that it listens.
//!
//! Called by `nats_server`. It must not know how the server is configured.

use std::path::PathBuf;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

/// The versions of `nats-server` that `make setup` gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NatsVersion {
    /// The newest there was.
    #[default]
    Newest,
    /// 2.9, the oldest that is supported.
    V2_9,
}

impl NatsVersion {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Newest, Self::V2_9];

    /// The variable of this version, else where `make setup` puts it, else the one on `PATH`.
    pub(crate) fn path(self) -> PathBuf {
        let (name, file) = match self {
            Self::Newest => ("NATS_SERVER", "nats-server"),
            Self::V2_9 => ("NATS_SERVER_2_9", "nats-server-2.9"),
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "where tools are is the harness' business, not configuration"
        )]
        let variable = std::env::var_os;
        if let Some(path) = variable(name) {
            return PathBuf::from(path);
        }
        let target = variable("CARGO_TARGET_DIR").map_or_else(
            || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target")),
            PathBuf::from,
        );
        let installed = target.join("tools").join(file);
        if installed.exists() {
            installed
        } else {
            PathBuf::from(file)
        }
    }
}

/// The client and the monitoring port in a ports file, `{"nats":["nats://127.0.0.1:40001"],"monitoring":["http://…"]}`;
/// nothing while it is half written.
pub(crate) fn ports_in(ports_file: &[u8]) -> Option<(u16, u16)> {
    let ports: serde_json::Value = serde_json::from_slice(ports_file).ok()?;
    let port = |service: &str| ports[service][0].as_str()?.rsplit_once(':')?.1.parse().ok();
    Some((port("nats")?, port("monitoring")?))
}

/// Whether a server greets at this port: it listens a little before it serves.
pub(crate) async fn answers(port: u16) -> bool {
    let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await else {
        return false;
    };
    let mut greeting = String::new();
    BufReader::new(stream).read_line(&mut greeting).await.is_ok() && greeting.starts_with("INFO ")
}
