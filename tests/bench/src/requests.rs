//! Rounds for the API proxy: requests of the service, through the distributor or straight to the control plane.
//!
//! Called by `rows`. Client and control plane are written by hand, as the recipient is, so that neither is what limits a
//! figure. They share no thread, as service and control plane do not: otherwise a direct request would be the only one
//! that wakes nobody up, and on an idle machine that is most of the time there is.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::{Buf, Bytes, BytesMut};
use test_support::{DistributorProcess, OutputTo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{self, Runtime};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::figures::{Figure, Round};
use crate::http;
use crate::measured::Program;
use crate::stage::{Bench, mebibytes, number, seconds};

/// Requests of each connection before those that count.
const N_WARM_UP: usize = 200;

const REQUEST: &[u8] = b"GET /resource-service/v1/project/sockshop/resource/shipyard.yaml HTTP/1.1\r\n\
    Host: 127.0.0.1\r\nUser-Agent: bench\r\nAccept: application/json\r\n\r\n";

impl Bench {
    /// Speed, latency and processor time of requests whose answers have so many bytes; a connection sends the next one
    /// when the last one is answered. Where the others have a relay, there is nothing between the two sides.
    pub(crate) async fn requests(
        &self,
        program: Program<'_>,
        answer_bytes: usize,
        n_connections: usize,
        n_requests: usize,
    ) -> anyhow::Result<Round> {
        let control_plane = ControlPlane::start(answer_bytes)?;
        let distributor = match program {
            Program::Relay { .. } => None,
            Program::Distributor(distributor) => {
                let nats = self.nats(program.mode()).url();
                // In the cluster its services have fixed names; this is the way to them here.
                let proxy = format!("http://{}", control_plane.address);
                let environment = [("PUBSUB_URL", nats.as_str()), ("HTTP_PROXY", proxy.as_str())];
                let log = self.log();
                let output = OutputTo::File(&log);
                let mut started = DistributorProcess::start_with(distributor.binary, &[], &environment, output)?;
                started.wait_until_ready(Duration::from_secs(20)).await?;
                Some(started)
            }
        };
        let address = distributor
            .as_ref()
            .map_or(control_plane.address, DistributorProcess::proxy_address);
        let cpu_seconds = || distributor.as_ref().map_or(Ok(0.0), DistributorProcess::cpu_seconds);

        let mut connections = Vec::with_capacity(n_connections);
        for _ in 0..n_connections {
            let mut connection = Connection::open(address, answer_bytes).await?;
            connection.ask(N_WARM_UP, self.clock).await?;
            connections.push(connection);
        }
        let (cpu_before, begun_ns) = (cpu_seconds()?, self.clock.nanoseconds());
        let mut asking = JoinSet::new();
        for mut connection in connections {
            let clock = self.clock;
            asking.spawn(async move { connection.ask(n_requests / n_connections, clock).await });
        }
        let mut latencies = Vec::with_capacity(n_requests);
        while let Some(asked) = asking.join_next().await {
            latencies.append(&mut asked??);
        }
        let elapsed_ns = self.clock.nanoseconds() - begun_ns;
        let cpu_seconds = cpu_seconds()? - cpu_before;

        latencies.sort_unstable();
        let percentile = |percent: usize| {
            let place = latencies.len().saturating_sub(1) * percent / 100;
            seconds(latencies.get(place).copied().unwrap_or(0)) * 1e6
        };
        let mut round = vec![
            (Figure::RequestsPerSecond, number(latencies.len()) / seconds(elapsed_ns)),
            (Figure::LatencyP50Microseconds, percentile(50)),
            (Figure::LatencyP99Microseconds, percentile(99)),
        ];
        if let Some(distributor) = &distributor {
            let per_100_000 = cpu_seconds * 100_000.0 / number(latencies.len());
            round.push((Figure::CpuSecondsPer100000Requests, per_100_000));
            let memory = distributor.process().resident_memory()?;
            round.push((Figure::PeakMemoryMebibytes, mebibytes(memory.peak)));
        }
        Ok(round)
    }
}

/// Answers every request with the same bytes.
#[derive(Debug)]
struct ControlPlane {
    address: SocketAddr,
    /// Its threads; taken when it ends.
    runtime: Option<Runtime>,
}

impl ControlPlane {
    fn start(answer_bytes: usize) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {answer_bytes}\r\n\r\n");
        let answer = Bytes::from([head.into_bytes(), vec![b'x'; answer_bytes]].concat());
        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_io()
            .build()?;
        runtime.spawn(accept_all(listener, answer));
        Ok(Self {
            address,
            runtime: Some(runtime),
        })
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Until the runtime ends.
async fn accept_all(listener: std::net::TcpListener, answer: Bytes) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        connections.spawn(answer_all(stream, answer.clone()));
    }
}

/// Until the other side closes the connection.
async fn answer_all(mut stream: TcpStream, answer: Bytes) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let head_end = http::head_end();
    let mut buffer = BytesMut::with_capacity(4096);
    loop {
        while let Some(end) = head_end.find(&buffer) {
            buffer.advance(end + head_end.needle().len());
            stream.write_all(&answer).await?;
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// One connection of the service.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
    head_end: memchr::memmem::Finder<'static>,
    answer_bytes: usize,
}

impl Connection {
    async fn open(address: SocketAddr, answer_bytes: usize) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: BytesMut::with_capacity(128 * 1024),
            head_end: http::head_end(),
            answer_bytes,
        })
    }

    /// Asks one after the other. Returns how long each took, in nanoseconds.
    async fn ask(&mut self, n_requests: usize, clock: Clock) -> anyhow::Result<Vec<u64>> {
        let mut latencies = Vec::with_capacity(n_requests);
        for _ in 0..n_requests {
            let begun_ns = clock.nanoseconds();
            self.stream.write_all(REQUEST).await?;
            let answer = http::read_message(&mut self.stream, &mut self.buffer, &self.head_end).await?;
            let answer = answer.context("the connection was closed")?;
            latencies.push(clock.nanoseconds() - begun_ns);
            ensure!(
                self.buffer.starts_with(b"HTTP/1.1 200 ") && answer.length - answer.head_length == self.answer_bytes,
                "not the answer of the control plane: {}",
                String::from_utf8_lossy(&self.buffer[..answer.head_length])
            );
            self.buffer.advance(answer.length);
        }
        Ok(latencies)
    }
}
