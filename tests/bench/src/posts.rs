//! Rounds for what goes the other way: events that the service posts, and that NATS is to have.
//!
//! Called by `rows`. The client is written by hand, as the recipient is, so that it is not what limits a figure.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use test_support::{eventually, http_request};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::events::{EventId, Events, Load, SUBJECT};
use crate::figures::{Figure, Round};
use crate::http;
use crate::measured::Program;
use crate::stage::{Bench, Stage, number, seconds};

/// Requests of each connection before those that count.
const N_WARM_UP: usize = 125;

/// Nothing is published to it: what is posted must not come back to be delivered.
const OTHER_TOPIC: &str = "sh.keptn.event.nothing.triggered";

const PATH: &str = "/event";

impl Bench {
    /// Speed and processor time of requests with one event each; a connection sends the next one when the last one is
    /// answered. Who listens on the other side of NATS counts the events.
    pub(crate) async fn posts(
        &self,
        program: Program<'_>,
        load: Load,
        n_connections: usize,
        n_events: usize,
    ) -> anyhow::Result<Round> {
        let events = Arc::new(Events::render(load, self.clock)?);
        let stage = self.set_up_with(program, OTHER_TOPIC, &[], n_events, &events).await?;
        let _listening = listen(&stage).await?;
        let address = stage.distributor()?.proxy_address();
        wait_until_taken(&stage, &events, address).await?;
        let mut connections = Vec::with_capacity(n_connections);
        for _ in 0..n_connections {
            let mut connection = Connection::open(address).await?;
            for nth in 0..N_WARM_UP {
                connection.post(&events.warm_up(nth)).await?;
            }
            connections.push(connection);
        }
        let stored_before = match stage.stream() {
            Ok(stream) => stream.n_stored().await?,
            Err(_) => 0,
        };

        let process = stage.measured.process();
        let (cpu_before, begun_ns) = (process.cpu_seconds()?, self.clock.nanoseconds());
        let mut posting = JoinSet::new();
        for (nth, mut connection) in connections.into_iter().enumerate() {
            let events = Arc::clone(&events);
            // All events of a key over one connection: otherwise they would have no order.
            let is_ours = move |sequence: &usize| sequence % load.n_keys % n_connections == nth;
            posting.spawn(async move {
                for sequence in (0..n_events).filter(is_ours) {
                    connection.post(&events.counted(sequence)).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(posted) = posting.join_next().await {
            posted??;
        }
        let elapsed_ns = self.clock.nanoseconds() - begun_ns;
        let cpu_seconds = process.cpu_seconds()? - cpu_before;

        let mut round = vec![
            (Figure::EventsPerSecond, number(n_events) / seconds(elapsed_ns)),
            (Figure::CpuSecondsPer100000, cpu_seconds * 100_000.0 / number(n_events)),
            stage.peak_memory()?,
        ];
        stage.tally.wait_until(|tally| tally.delivered() == n_events).await;
        round.extend(stage.failures(n_events));
        if let Ok(stream) = stage.stream() {
            // Every answer said that the stream has the event: no wait.
            let stored = stream.n_stored().await? - stored_before;
            ensure!(
                stored == n_events,
                "{stored} of {n_events} posted events are in the stream"
            );
        }
        Ok(round)
    }
}

/// Counts what is published.
async fn listen(stage: &Stage) -> anyhow::Result<JoinSet<()>> {
    let mut subscriber = stage.client.subscribe(SUBJECT).await?;
    stage.client.flush().await?;
    let tally = Arc::clone(&stage.tally);
    let mut listening = JoinSet::new();
    listening.spawn(async move {
        let finder = EventId::finder();
        while let Some(message) = subscriber.next().await {
            if let Some(id) = EventId::find_in(&message.payload, &finder) {
                tally.record(id);
            }
        }
    });
    Ok(listening)
}

/// Waits until an event is taken: that the listener answers does not mean that there is a connection to NATS.
async fn wait_until_taken(stage: &Stage, events: &Events, address: SocketAddr) -> anyhow::Result<()> {
    const LIMIT: Duration = Duration::from_secs(20);
    let taken = eventually(LIMIT, async || {
        let answer = http_request(address, "POST", PATH, &[], events.warm_up(0)).await;
        answer.is_ok_and(|answer| (200..300).contains(&answer.status))
    })
    .await;
    taken.map_err(|_| stage.measured.fail("it takes no event"))
}

/// One connection of the service.
#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
    head_end: memchr::memmem::Finder<'static>,
}

impl Connection {
    async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: BytesMut::with_capacity(64 * 1024),
            head_end: http::head_end(),
        })
    }

    async fn post(&mut self, event: &Bytes) -> anyhow::Result<()> {
        let mut request = std::mem::take(&mut self.buffer);
        request.clear();
        write!(
            (&mut request).writer(),
            "POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/cloudevents+json\r\n\
             Content-Length: {}\r\n\r\n",
            event.len()
        )?;
        request.extend_from_slice(event);
        self.stream.write_all(&request).await?;
        request.clear();
        self.buffer = request;

        let answer = http::read_message(&mut self.stream, &mut self.buffer, &self.head_end).await?;
        let answer = answer.context("the distributor closed the connection")?;
        let text = String::from_utf8_lossy(&self.buffer[..answer.length]);
        ensure!(text.starts_with("HTTP/1.1 2"), "an event was refused: {text}");
        self.buffer.advance(answer.length);
        Ok(())
    }
}
