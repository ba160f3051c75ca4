//! What tests, the demo and the benchmarks share: the peers of the distributor, over real sockets and processes.
//!
//! Called by `tests/e2e`, `examples/demo` and `tests/bench`; never linked into the product. It must not know the
//! distributor's code: to it the distributor is a binary, a port and an environment. Nothing here is simulated; what
//! cannot be started is an error, never a skipped test.
//!
//! - [`NatsServer`]: a `nats-server` child process that can be stopped and started again on its port, of the newest or
//!   the oldest version; [`NatsCluster`]: three of them with replicated streams.
//! - [`TcpProxy`]: a network between two programs that can fail.
//! - [`TlsFront`], [`Authority`]: TLS before a server that has none, with the certificates of a private CA.
//! - [`TunnelProxy`]: an HTTP proxy that leads to names that exist nowhere.
//! - [`Recipient`]: the HTTP service next to the distributor; it keeps a journal and answers as scripted.
//! - [`ControlPlane`]: a Keptn control plane, with its registrations, open events, sequences, and failures as scripted.
//! - [`Collector`]: where OpenTelemetry sends spans.
//! - [`DistributorProcess`], [`ChildProcess`]: a program under test, what it prints, the memory and CPU it uses.
//! - [`ConfigMapVolume`]: a mounted `ConfigMap`, changed as the kubelet does it.
//! - [`KeptnEvent`]: realistic events as bytes.
//! - [`NumberedEvents`], [`Publisher`], [`Verdict`]: events published through a fault, and what is wrong with what arrived.
//! - [`eventually`], [`http_request`], [`free_port`]: waiting, asking, and finding a place to listen.

mod child_process;
mod collector;
mod config_map_volume;
mod control_plane;
mod distributor_process;
mod eventually;
mod http_request;
mod http_server;
mod journal;
mod keptn_event;
mod nats_binary;
mod nats_cluster;
mod nats_server;
mod nats_server_builder;
mod nats_stream;
mod numbered_events;
mod output;
mod padded_component;
mod proxy_pump;
mod publisher;
mod recipient;
mod reply;
mod tcp_proxy;
mod tls_front;
mod tunnel_proxy;
mod verdict;

pub use child_process::{ChildProcess, OutputTo, ResidentMemory};
pub use collector::{CollectedSpan, Collector};
pub use config_map_volume::ConfigMapVolume;
pub use control_plane::{ApiRequest, ControlPlane, Fault, Integration, KubernetesMetadata, Metadata, Route};
pub use distributor_process::DistributorProcess;
pub use eventually::eventually;
pub use http_request::{HttpResponse, http_request};
pub use journal::{Delivery, ReceivedRequest};
pub use keptn_event::KeptnEvent;
pub use nats_binary::NatsVersion;
pub use nats_cluster::NatsCluster;
pub use nats_server::{NatsClient, NatsServer};
pub use nats_server_builder::NatsServerBuilder;
pub use nats_stream::{create_keptn_stream, keptn_stream};
pub use numbered_events::{NumberedEvents, PublishedEvent};
pub use output::{Line, Output, Stream};
pub use padded_component::padded_component;
pub use proxy_pump::Direction;
pub use publisher::{Publisher, Rate};
pub use recipient::Recipient;
pub use reply::Reply;

pub use rustix::process::Signal;
pub use tcp_proxy::{ProxyMode, TcpProxy};
pub use tls_front::{Authority, Certificate, TlsFront};
pub use tunnel_proxy::{TunnelProxy, TunnelRequest};
pub use verdict::{Verdict, recovery_time};

use std::net::TcpListener;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::bail;

/// A port on loopback that nothing listens on at this moment, another one at each call.
///
/// Only for programs that must be told their port, or for a listener that comes up later: another process can take the
/// port in between. What can listen on port 0 should.
///
/// # Errors
///
/// When there is none.
pub fn free_port() -> anyhow::Result<u16> {
    // Below the ports that Linux serves to listeners on port 0 and to outgoing connections (from 32768 on): those are
    // taken all the time by whatever runs beside.
    const FIRST: u16 = 20_000;
    const N_PORTS: u16 = 12_000;
    static N_CALLS: AtomicU32 = AtomicU32::new(0);
    for _ in 0..N_PORTS {
        // Processes that run at the same time start at different places.
        let n_calls = N_CALLS.fetch_add(1, Ordering::Relaxed);
        let offset = process::id().wrapping_mul(101).wrapping_add(n_calls) % u32::from(N_PORTS);
        let port = FIRST + u16::try_from(offset)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port on 127.0.0.1 from {FIRST} to {}", FIRST + N_PORTS - 1)
}
