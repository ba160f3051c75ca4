//! Rounds without NATS: a control plane that is polled for open events.
//!
//! Called by `row`. What counts is a poll that finds nothing new: all events were delivered before.

use std::time::Duration;

use test_support::{ControlPlane, DistributorProcess, KeptnEvent, OutputTo, Recipient, Route, eventually};

use crate::events::{Load, SUBJECT};
use crate::figures::{Figure, Round};
use crate::measured::Program;
use crate::stage::{Bench, mebibytes, number};

const N_EVENTS: usize = 10_000;
const N_CYCLES: usize = 5;
const LIMIT: Duration = Duration::from_mins(2);

impl Bench {
    /// Requests and processor time of one look at all open events.
    pub(crate) async fn polling(&self, program: Program<'_>, load: Load) -> anyhow::Result<Round> {
        let Program::Distributor(distributor) = program else {
            anyhow::bail!("the relay does not poll");
        };
        let (control_plane, recipient) = (ControlPlane::start().await?, Recipient::start_light_on(0).await?);
        control_plane.open_events((0..N_EVENTS).map(|nth| KeptnEvent {
            id: format!("event-{nth}"),
            keptn_context: format!("context-{nth}"),
            size_bytes: load.size_bytes,
            ..KeptnEvent::of_type(SUBJECT)
        }));
        let (endpoint, port) = (control_plane.endpoint() + "/", recipient.port().to_string());
        let environment = [
            ("KEPTN_API_ENDPOINT", endpoint.as_str()),
            ("KEPTN_API_TOKEN", "token"),
            ("HTTP_POLLING_INTERVAL", "1"),
            ("DISABLE_REGISTRATION", "true"),
            ("PUBSUB_TOPIC", SUBJECT),
            ("PUBSUB_RECIPIENT_PORT", port.as_str()),
        ];
        let log = self.log();
        let process = DistributorProcess::start_with(distributor.binary, &[], &environment, OutputTo::File(&log))?;
        recipient.wait_until_accepted(N_EVENTS, LIMIT).await?;

        let polls = || control_plane.requests_to(Route::OpenEvents);
        let n_begun = || {
            let polls = polls();
            let is_first = |query: &Option<String>| !query.as_deref().unwrap_or_default().contains("nextPageKey");
            polls.iter().filter(|poll| is_first(&poll.query)).count()
        };
        // From the begin of one cycle to the begin of another. The first has found some of them new.
        let first = n_begun() + 2;
        eventually(LIMIT, async || n_begun() >= first).await?;
        let (cpu_before, n_before, n_cycles) = (process.cpu_seconds()?, polls().len(), n_begun());
        eventually(LIMIT, async || n_begun() >= n_cycles + N_CYCLES).await?;
        let cpu_seconds = process.cpu_seconds()? - cpu_before;
        let (n_requests, n_cycles) = (polls().len() - n_before, n_begun() - n_cycles);
        let n_accepted = recipient.n_accepted();
        Ok(vec![
            (Figure::RequestsPerCycle, number(n_requests) / number(n_cycles)),
            (Figure::CpuSecondsPerCycle, cpu_seconds / number(n_cycles)),
            (Figure::PeakMemoryMebibytes, mebibytes(process.peak_resident_memory()?)),
            (Figure::Lost, number(N_EVENTS.saturating_sub(n_accepted))),
            (Figure::Doubled, number(n_accepted.saturating_sub(N_EVENTS))),
        ])
    }
}
