//! What a round is played on: the program measured, a server, a recipient, and the tally of what arrives.
//!
//! Called by the rounds. Each has a stage of its own, so that nothing of one round can be counted in the next. It must
//! not know what is measured.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use async_nats::Client;
use test_support::{DistributorProcess, NatsServer, eventually};

use crate::clock::Clock;
use crate::events::Events;
use crate::figures::{Figure, Round};
use crate::measured::{self, Measured, Mode, Program, Surroundings, TOPIC};
use crate::publisher::{self, Pace};
use crate::recipient::Recipient;
use crate::storage::{EventStream, Storage};
use crate::tally::Tally;

/// What all rounds share.
#[derive(Debug)]
pub(crate) struct Bench {
    nats: NatsServer,
    client: Client,
    /// Beside the other, so that there is a server without JetStream.
    storage: Storage,
    folder: tempfile::TempDir,
    pub(crate) clock: Clock,
}

/// A program under measurement, with a recipient of its own.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) measured: Measured,
    pub(crate) tally: Arc<Tally>,
    pub(crate) recipient: Recipient,
    /// Connected to the server that it receives from.
    pub(crate) client: Client,
    stream: Option<EventStream>,
    clock: Clock,
}

impl Bench {
    pub(crate) async fn start(clock: Clock) -> anyhow::Result<Self> {
        let nats = NatsServer::start().await?;
        Ok(Self {
            client: nats.client().await?,
            nats,
            storage: Storage::start().await?,
            folder: tempfile::tempdir()?,
            clock,
        })
    }

    /// Removes what a round leaves behind.
    pub(crate) async fn clear(&self) -> anyhow::Result<()> {
        self.storage.clear().await
    }

    /// Ends the servers; dropping this would leave processes behind that nobody waits for.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.storage.server.stop().await?;
        self.nats.stop().await
    }

    /// The server of this mode.
    pub(crate) fn nats(&self, mode: Mode) -> &NatsServer {
        match mode {
            Mode::Core => &self.nats,
            Mode::JetStream => &self.storage.server,
        }
    }

    /// Connected to it.
    pub(crate) fn client(&self, mode: Mode) -> &Client {
        match mode {
            Mode::Core => &self.client,
            Mode::JetStream => &self.storage.client,
        }
    }

    /// An empty stream, where the mode has one.
    pub(crate) async fn new_stream(&self, mode: Mode) -> anyhow::Result<Option<EventStream>> {
        Ok(match mode {
            Mode::Core => None,
            Mode::JetStream => Some(self.storage.new_stream().await?),
        })
    }

    /// Where what a program prints goes.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Where programs keep what they make, and find what is made for them.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Compiles the program's plugins, if the row wants that done beforehand.
    pub(crate) async fn compile(&self, program: Program<'_>) -> anyhow::Result<()> {
        match program {
            Program::Relay { .. } => Ok(()),
            Program::Distributor(distributor) => measured::compile(distributor, &self.log(), self.folder()).await,
        }
    }

    /// Starts the program, which receives the events of this load.
    pub(crate) async fn set_up(&self, program: Program<'_>, n_events: usize, events: &Events) -> anyhow::Result<Stage> {
        self.set_up_with(program, TOPIC, &[], n_events, events).await
    }

    /// The same for another topic, and with more variables.
    pub(crate) async fn set_up_with(
        &self,
        program: Program<'_>,
        topic: &str,
        more: &[(&str, &str)],
        n_events: usize,
        events: &Events,
    ) -> anyhow::Result<Stage> {
        let tally = Arc::new(Tally::new(n_events, events.passing_by_key(), self.clock));
        let recipient = Recipient::start(Arc::clone(&tally)).await?;
        let stream = self.new_stream(program.mode()).await?;
        Ok(Stage {
            measured: self.start_program(program, topic, more, &recipient)?,
            tally,
            recipient,
            client: self.client(program.mode()).clone(),
            stream,
            clock: self.clock,
        })
    }

    /// Starts the program once more on a stage where it was ended.
    pub(crate) fn start_again(&self, program: Program<'_>, stage: &mut Stage) -> anyhow::Result<()> {
        stage.measured = self.start_another(program, stage)?;
        Ok(())
    }

    /// Starts one more beside those that run on a stage.
    pub(crate) fn start_another(&self, program: Program<'_>, stage: &Stage) -> anyhow::Result<Measured> {
        self.start_program(program, TOPIC, &[], &stage.recipient)
    }

    fn start_program(
        &self,
        program: Program<'_>,
        topic: &str,
        more: &[(&str, &str)],
        recipient: &Recipient,
    ) -> anyhow::Result<Measured> {
        let surroundings = Surroundings {
            nats_url: &self.nats(program.mode()).url(),
            topic,
            recipient_port: recipient.port,
            log: &self.log(),
            folder: self.folder(),
            more,
        };
        Measured::start(program, surroundings)
    }
}

impl Stage {
    /// Sends events that are not counted through it until so many have arrived.
    pub(crate) async fn warm_up(&mut self, events: &Events, n_events: usize) -> anyhow::Result<()> {
        self.measured.wait_until_ready().await?;
        if !publisher::warm_up(&self.client, events, n_events, &self.tally).await? {
            return Err(self.measured.fail("no event was delivered"));
        }
        if let Some(stream) = &self.stream {
            ensure!(stream.has_durable().await, "it does not receive from the stream");
        }
        Ok(())
    }

    /// Publishes and waits for what is to be delivered, see [`publisher::publish`]. Returns how much that is.
    pub(crate) async fn publish(&self, events: &Events, n_events: usize, pace: Pace) -> anyhow::Result<usize> {
        const STORED_WITHIN: Duration = Duration::from_secs(5);
        let Some(stream) = &self.stream else {
            let published = publisher::publish(&self.client, events, n_events, pace, &self.tally, self.clock).await?;
            return Ok(published.passing);
        };
        if matches!(pace, Pace::Burst) {
            stream.fill(events, n_events).await?;
            let passing = events.n_passing(n_events);
            self.tally.wait_until(|tally| tally.delivered() == passing).await;
            return Ok(passing);
        }
        let before = stream.n_stored().await?;
        let published = publisher::publish(&self.client, events, n_events, pace, &self.tally, self.clock).await?;
        // Nobody confirms what was published; what a filter drops is not seen at the recipient either.
        let wanted = before + published.events;
        let stored = eventually(STORED_WITHIN, async || {
            stream.n_stored().await.is_ok_and(|n| n == wanted)
        })
        .await;
        stored.with_context(|| format!("the stream does not have the {} events", published.events))?;
        Ok(published.passing)
    }

    /// The stream that it receives from.
    pub(crate) fn stream(&self) -> anyhow::Result<&EventStream> {
        self.stream.as_ref().context("there is no stream in this mode")
    }

    /// Waits until it has made its durable consumer: what is stored from then on waits for it.
    pub(crate) async fn wait_for_durable(&self) -> anyhow::Result<()> {
        const LIMIT: Duration = Duration::from_secs(20);
        let stream = self.stream()?;
        let made = eventually(LIMIT, async || stream.has_durable().await).await;
        made.map_err(|_| self.measured.fail("it made no durable consumer"))
    }

    /// The distributor; the relay cannot do everything.
    pub(crate) fn distributor(&self) -> anyhow::Result<&DistributorProcess> {
        match &self.measured {
            Measured::Distributor(distributor) => Ok(distributor),
            Measured::Relay(_) => anyhow::bail!("the relay has no listener"),
        }
    }

    /// What should be 0. The relay promises no order, so it is not counted against it.
    pub(crate) fn failures(&self, passing: usize) -> Round {
        let tally = &self.tally;
        let mut failures = vec![
            (Figure::Lost, number(passing.saturating_sub(tally.delivered()))),
            (Figure::Doubled, number(tally.doubled())),
            (Figure::Unwanted, number(tally.unwanted())),
        ];
        if matches!(self.measured, Measured::Distributor(_)) {
            failures.push((Figure::MisorderedInKey, number(tally.misordered())));
        }
        failures
    }

    /// The most memory that the program has had so far.
    pub(crate) fn peak_memory(&self) -> anyhow::Result<(Figure, f64)> {
        let memory = self.measured.process().resident_memory()?;
        Ok((Figure::PeakMemoryMebibytes, mebibytes(memory.peak)))
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^53")]
pub(crate) fn number(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "2^53 nanoseconds are a hundred days")]
pub(crate) fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "memory is far below 2^53 bytes")]
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
