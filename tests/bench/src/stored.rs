//! Rounds with events that are in a stream before the distributor runs.
//!
//! Called by `rows`, with the distributor in JetStream mode only: without a stream nothing waits for it.

use std::time::Duration;

use tokio::time::Instant;

use crate::events::{Events, Load};
use crate::figures::{Figure, Round};
use crate::measured::Program;
use crate::stage::{Bench, Stage, number, seconds};

/// Events that are delivered before those that count.
const N_WARM_UP: usize = 2_000;

/// How long the recipient takes for one event while there is more than it can take.
const SLOW: Duration = Duration::from_millis(50);

impl Bench {
    /// Speed and processor time for events that are there already: nobody publishes meanwhile.
    pub(crate) async fn stored(
        &self,
        program: Program<'_>,
        load: Load,
        n_replicas: usize,
        n_events: usize,
    ) -> anyhow::Result<Round> {
        let n_all = n_events + N_WARM_UP;
        let events = Events::render(load, self.clock)?;
        let mut stage = self.set_up_filled(program, n_all, &events).await?;

        self.start_again(program, &mut stage)?;
        let others = (1..n_replicas).map(|_| self.start_another(program, &stage));
        let others = others.collect::<anyhow::Result<Vec<_>>>()?;
        let cpu_seconds = || {
            let all = std::iter::once(&stage.measured).chain(&others);
            all.map(|replica| replica.process().cpu_seconds())
                .sum::<anyhow::Result<f64>>()
        };
        // What follows begins with the newest that has arrived: which ones a filter drops before it does not matter.
        stage.tally.wait_until(|tally| tally.newest() >= N_WARM_UP).await;
        let (cpu_before, begun_ns, newest) = (cpu_seconds()?, self.clock.nanoseconds(), stage.tally.newest());
        let passing = events.n_passing(n_all);
        stage.tally.wait_until(|tally| tally.delivered() == passing).await;
        let cpu_seconds = cpu_seconds()? - cpu_before;
        let elapsed_ns = stage.tally.last_arrival_ns().saturating_sub(begun_ns);

        let n_measured = number(n_all - newest);
        let mut round = vec![
            (Figure::EventsPerSecond, n_measured / seconds(elapsed_ns)),
            (Figure::CpuSecondsPer100000, cpu_seconds * 100_000.0 / n_measured),
            stage.peak_memory()?,
        ];
        round.extend(stage.failures(passing));
        if n_replicas > 1 {
            // Across replicas events of a key are in no order.
            round.retain(|(figure, _)| *figure != Figure::MisorderedInKey);
        }
        Ok(round)
    }

    /// More than a slow recipient can take: what is delivered and held in memory meanwhile, and whether a second run
    /// delivers all that the first one left.
    pub(crate) async fn backlog(
        &self,
        program: Program<'_>,
        load: Load,
        n_events: usize,
        observed: Duration,
    ) -> anyhow::Result<Round> {
        let events = Events::render(load, self.clock)?;
        let mut stage = self.set_up_filled(program, n_events, &events).await?;

        stage.recipient.answer_after(SLOW);
        self.start_again(program, &mut stage)?;
        if !stage.tally.wait_until(|tally| tally.delivered() > 0).await {
            return Err(stage.measured.fail("no event was delivered"));
        }
        let (begun, delivered) = (Instant::now(), stage.tally.delivered());
        // The span of the measurement: there is no condition to wait for.
        tokio::time::sleep(observed).await;
        let per_second = number(stage.tally.delivered() - delivered) / begun.elapsed().as_secs_f64();
        let peak_memory = stage.peak_memory()?;

        let begun = Instant::now();
        stage.measured.terminate().await?;
        let exit = begun.elapsed();

        stage.recipient.answer_after(Duration::ZERO);
        self.start_again(program, &mut stage)?;
        let begun = Instant::now();
        deliver_the_rest(&stage, n_events).await?;
        let mut round = vec![
            (Figure::DeliveredPerSecond, per_second),
            peak_memory,
            (Figure::ExitMilliseconds, exit.as_secs_f64() * 1e3),
            (Figure::RestDeliveredSeconds, begun.elapsed().as_secs_f64()),
        ];
        round.extend(stage.failures(n_events));
        Ok(round)
    }

    /// A stage where the program has run and ended, and the stream has events for it since.
    async fn set_up_filled(&self, program: Program<'_>, n_events: usize, events: &Events) -> anyhow::Result<Stage> {
        let mut stage = self.set_up(program, n_events, events).await?;
        stage.wait_for_durable().await?;
        stage.measured.terminate().await?;
        stage.stream()?.fill(events, n_events).await?;
        Ok(stage)
    }
}

/// Waits until all `n_events` have arrived at least once, or the stream has nothing more to give.
async fn deliver_the_rest(stage: &Stage, n_events: usize) -> anyhow::Result<()> {
    // Each try gives up after some seconds without any arrival; together longer than the time after which the server
    // gives an event once more that it has heard nothing of.
    const N_TRIES: usize = 12;
    for _ in 0..N_TRIES {
        if stage.tally.wait_until(|tally| tally.delivered() == n_events).await
            || stage.stream()?.n_outstanding().await? == 0
        {
            break;
        }
    }
    Ok(())
}
