//! One round of each kind of row with events that are published while the program runs: start it, warm it up, load it,
//! read the figures.
//!
//! Called by `rows`. It must not know which rows there are.

use std::time::Duration;

use test_support::http_request;
use tokio::time::Instant;

use crate::events::{Events, Load};
use crate::figures::{Figure, Round};
use crate::measured::{Measured, Program};
use crate::publisher::Pace;
use crate::stage::{Bench, Stage, mebibytes, number, seconds};

/// Events before those that count, where speed is measured.
const N_WARM_UP: usize = 2_000;

/// When a program that started is at rest.
const AFTER_START: Duration = Duration::from_secs(3);

impl Bench {
    /// Speed, processor time, and what was lost on the way.
    pub(crate) async fn throughput(&self, program: Program<'_>, load: Load, n_events: usize) -> anyhow::Result<Round> {
        let events = Events::render(load, self.clock)?;
        let mut stage = self.set_up(program, n_events, &events).await?;
        self.throughput_of(&mut stage, &events, n_events).await
    }

    /// The same on a stage that is set up.
    pub(crate) async fn throughput_of(
        &self,
        stage: &mut Stage,
        events: &Events,
        n_events: usize,
    ) -> anyhow::Result<Round> {
        stage.warm_up(events, N_WARM_UP).await?;

        let process = stage.measured.process();
        let cpu_before = process.cpu_seconds()?;
        let begun_ns = self.clock.nanoseconds();
        let passing = stage.publish(events, n_events, Pace::Windowed).await?;
        let cpu_seconds = process.cpu_seconds()? - cpu_before;
        let elapsed_ns = stage.tally.last_arrival_ns().saturating_sub(begun_ns);

        let mut round = vec![
            (Figure::EventsPerSecond, number(n_events) / seconds(elapsed_ns)),
            (Figure::CpuSecondsPer100000, cpu_seconds * 100_000.0 / number(n_events)),
            stage.peak_memory()?,
        ];
        round.extend(stage.failures(passing));
        Ok(round)
    }

    /// From publishing to arrival, at a rate that is no strain.
    pub(crate) async fn latency(
        &self,
        program: Program<'_>,
        load: Load,
        per_second: u32,
        observed: Duration,
    ) -> anyhow::Result<Round> {
        let n_events = usize::try_from(u64::from(per_second) * observed.as_secs())?;
        let events = Events::render(load, self.clock)?;
        let mut stage = self.set_up(program, n_events, &events).await?;
        stage.warm_up(&events, N_WARM_UP).await?;

        let passing = stage.publish(&events, n_events, Pace::PerSecond(per_second)).await?;

        let latencies = stage.tally.sorted_latencies_ns();
        let percentile = |percent: usize| {
            let place = latencies.len().saturating_sub(1) * percent / 100;
            seconds(latencies.get(place).copied().unwrap_or(0)) * 1e6
        };
        let mut round = vec![
            (Figure::LatencyP50Microseconds, percentile(50)),
            (Figure::LatencyP99Microseconds, percentile(99)),
        ];
        round.extend(stage.failures(passing));
        Ok(round)
    }

    /// The memory that it takes to hold what arrives faster than it can be delivered.
    pub(crate) async fn burst(&self, program: Program<'_>, load: Load, n_events: usize) -> anyhow::Result<Round> {
        let events = Events::render(load, self.clock)?;
        let mut stage = self.set_up(program, n_events, &events).await?;
        stage.warm_up(&events, 1).await?;
        // Bursts come to what has been there for long.
        tokio::time::sleep(AFTER_START).await;

        let passing = stage.publish(&events, n_events, Pace::Burst).await?;

        let mut round = vec![stage.peak_memory()?];
        round.extend(stage.failures(passing));
        Ok(round)
    }

    /// What it takes when nothing happens, after it has delivered something.
    pub(crate) async fn idle(&self, program: Program<'_>, load: Load, observed: Duration) -> anyhow::Result<Round> {
        let events = Events::render(load, self.clock)?;
        let mut stage = self.set_up(program, 0, &events).await?;
        stage.warm_up(&events, 1).await?;
        // What a start leaves for later is done by then.
        tokio::time::sleep(AFTER_START).await;

        let process = stage.measured.process();
        let cpu_before = process.cpu_seconds_of_threads()?;
        // The span of the measurement: there is no condition to wait for.
        tokio::time::sleep(observed).await;
        let cpu_seconds = process.cpu_seconds_of_threads()? - cpu_before;
        let memory = process.resident_memory()?;
        Ok(vec![
            (Figure::MemoryMebibytes, mebibytes(memory.now)),
            (Figure::AnonymousMemoryMebibytes, mebibytes(memory.anonymous)),
            (
                Figure::IdleCpuMillisecondsPerSecond,
                cpu_seconds * 1e3 / observed.as_secs_f64(),
            ),
        ])
    }

    /// From exec to the answer of its listener and to the first delivery, the median of several starts.
    pub(crate) async fn start_up(&self, program: Program<'_>, load: Load, n_starts: usize) -> anyhow::Result<Round> {
        let events = Events::render(load, self.clock)?;
        let mut starts = Vec::with_capacity(n_starts);
        for _ in 0..n_starts {
            starts.push(self.one_start(program, &events).await?);
        }
        let figures = [Figure::HealthMilliseconds, Figure::FirstDeliveredMilliseconds];
        Ok(figures
            .into_iter()
            .filter_map(|figure| Some((figure, figure.combine(&starts)?)))
            .collect())
    }

    async fn one_start(&self, program: Program<'_>, events: &Events) -> anyhow::Result<Round> {
        const LIMIT: Duration = Duration::from_secs(20);
        const BETWEEN_PROBES: Duration = Duration::from_millis(1);

        let begun = Instant::now();
        let stage = self.set_up(program, 0, events).await?;
        let health = async {
            let Measured::Distributor(distributor) = &stage.measured else {
                return None;
            };
            let address = distributor.proxy_address();
            // Asked without a pause: any pause would be as long as what is measured.
            while http_request(address, "GET", "/health", &[], "")
                .await
                .map_or(0, |response| response.status)
                != 200
            {
                tokio::task::yield_now().await;
            }
            Some((Figure::HealthMilliseconds, begun.elapsed().as_secs_f64() * 1e3))
        };
        let first_delivered = async {
            let mut published = 0;
            let mut between_probes = tokio::time::interval(BETWEEN_PROBES);
            while stage.tally.warmed_up() == 0 {
                let event = events.warm_up(published);
                stage.client.publish(crate::events::SUBJECT, event).await?;
                published += 1;
                tokio::select! {
                    _ = between_probes.tick() => {}
                    _ = stage.tally.wait_until(|tally| tally.warmed_up() > 0) => {}
                }
            }
            anyhow::Ok((Figure::FirstDeliveredMilliseconds, begun.elapsed().as_secs_f64() * 1e3))
        };
        match tokio::time::timeout(LIMIT, async { tokio::join!(health, first_delivered) }).await {
            Ok((health, first_delivered)) => Ok(health.into_iter().chain([first_delivered?]).collect()),
            Err(_) => Err(stage.measured.fail("it did not start in time")),
        }
    }
}
