//! Rounds in which something goes away and comes back while events are published at a steady rate.
//!
//! Called by `row`. The publisher is the one of the tests: an event counts as published when a stream has confirmed it,
//! and is sent again until then. So what is missing in the end was lost behind it.

use std::time::Duration;

use test_support::{
    KeptnEvent, NatsServer, NumberedEvents, Publisher, Rate, Recipient, Verdict, create_keptn_stream, eventually,
    recovery_time,
};
use tokio::time::Instant;

use crate::Effort;
use crate::events::{Load, SUBJECT};
use crate::figures::{Figure, Round};
use crate::measured::{Measured, Mode, Program, Surroundings, TOPIC};
use crate::stage::{Bench, number};

/// What goes away.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outage {
    /// The recipient closes its connections and its listener for a while.
    Recipient,
    /// NATS is killed and started again.
    Nats,
}

impl Outage {
    pub(crate) fn lasts(self, effort: &Effort) -> Duration {
        match self {
            Self::Recipient => effort.closed,
            // As long as the original took to be back.
            Self::Nats => Duration::from_secs(2),
        }
    }
}

/// Before it goes away, and after it has come back.
const STEADY: Duration = Duration::from_secs(2);

impl Bench {
    /// What is lost, and how soon events flow again.
    pub(crate) async fn outage(
        &self,
        program: Program<'_>,
        load: Load,
        outage: Outage,
        per_second: u32,
        away: Duration,
    ) -> anyhow::Result<Round> {
        let mut nats = NatsServer::builder().jetstream(true).start().await?;
        let jetstream = nats.jetstream().await?;
        create_keptn_stream(&jetstream).await?;
        let mut recipient = Recipient::start_light_on(0).await?;
        let surroundings = Surroundings {
            nats_url: &nats.url(),
            topic: TOPIC,
            recipient_port: recipient.port(),
            log: &self.log(),
            folder: self.folder(),
            more: match program.mode() {
                // There is a stream for the publisher's sake.
                Mode::Core => &[("DELIVERY_MODE", "core")],
                Mode::JetStream => &[],
            },
        };
        let mut measured = Measured::start(program, surroundings)?;
        measured.wait_until_ready().await?;
        let client = nats.client().await?;
        let events = |name: &str| {
            let pattern = KeptnEvent {
                size_bytes: load.size_bytes,
                ..KeptnEvent::of_type(SUBJECT)
            };
            NumberedEvents::new(name, load.n_keys, pattern)
        };
        let first = events("first");
        let mut probes = 0..;
        let arrives = async || {
            let (_, probe) = first.get(probes.next().unwrap_or_default());
            let published = client.publish(SUBJECT, probe.to_bytes()).await;
            published.is_ok() && recipient.n_accepted() > 0
        };
        if eventually(Duration::from_secs(20), arrives).await.is_err() {
            return Err(measured.fail("no event was delivered"));
        }

        let n_events = usize::try_from(u64::from(per_second) * (2 * STEADY + away).as_secs())?;
        let rate = Rate::PerSecond(f64::from(per_second));
        let publisher = Publisher::start(jetstream, events("run"), rate, Some(n_events));
        // The spans of the measurement: there is no condition to wait for.
        tokio::time::sleep(STEADY).await;
        match outage {
            Outage::Recipient => {
                recipient.stop().await;
                tokio::time::sleep(away).await;
                recipient.start_again().await?;
            }
            Outage::Nats => {
                nats.stop().await?;
                tokio::time::sleep(away).await;
                nats.restart().await?;
            }
        }
        let back = Instant::now();
        let confirmed = publisher.finish(away + Duration::from_mins(1)).await?;
        // Who keeps nothing needs no time for it.
        let settles_within = match (&measured, program.mode(), outage) {
            (Measured::Relay(_), ..) | (_, Mode::Core, Outage::Nats) => STEADY,
            _ => Duration::from_mins(2),
        };
        let verdict = || Verdict::of(&confirmed, &recipient.deliveries());
        // What is still missing then is lost, and counted so.
        let _ = eventually(settles_within, async || verdict().lost.is_empty()).await;
        let verdict = verdict();
        let recovery = recovery_time(&recipient.deliveries(), back);
        let recovery = recovery.map(|recovery| (Figure::RecoveryMilliseconds, recovery.as_secs_f64() * 1e3));
        let mut round = Vec::from_iter(recovery);
        round.extend([
            (Figure::Lost, number(verdict.lost.len())),
            (Figure::Doubled, number(verdict.n_duplicates)),
        ]);
        if matches!(measured, Measured::Distributor(_)) {
            round.push((Figure::MisorderedInKey, number(verdict.inversions.len())));
        }
        nats.stop().await?;
        Ok(round)
    }
}
