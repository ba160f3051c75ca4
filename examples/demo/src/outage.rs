//! An act: the service goes away while events keep coming, and gets all of them when it is back.
//!
//! Called by `main`. As everywhere, each step is shown when it has been seen.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use test_support::eventually;
use tokio::time::{Instant, interval};

use crate::events;
use crate::log::Entry;
use crate::path::{LIMIT, Path};
use crate::processes::Processes;
use crate::service::Attempt;
use crate::show::Colour;
use crate::watch::Message;

const N_EVENTS: usize = 30;
/// Events keep coming: a burst would be over before the distributor has found out that nobody listens.
const BETWEEN_EVENTS: Duration = Duration::from_millis(100);

impl Path {
    /// Shows it from end to end.
    ///
    /// # Errors
    /// When an event is missing, is there twice, or came in another order.
    pub(crate) async fn outage(&mut self, processes: &Processes) -> anyhow::Result<()> {
        self.show.headline("The service is down, and events keep coming")?;
        self.service.stop().await;
        let down = Instant::now();
        self.say(
            Colour::Red,
            "down",
            "nobody listens on the service's port any more",
            None,
        )?;

        let messages = self.publish_slowly().await?;
        let published = Some((down, Instant::now()));
        let text = format!("{N_EVENTS} events of one context");
        self.say(Colour::Blue, "published", &text, published)?;
        let waits = " the service is not ready; deliveries wait ";
        processes.distributor.wait_for_log(waits, LIMIT).await?;
        self.wait_for_unsettled(processes, N_EVENTS).await?;
        let text = format!("the stream keptn keeps {N_EVENTS} of {N_EVENTS} until they are delivered");
        self.say(Colour::Yellow, "waiting", &text, None)?;

        self.service.start_again().await?;
        let up = Instant::now();
        self.say(Colour::Green, "up", "the service listens again", Some((down, up)))?;
        let last = self.all_delivered_in_order(&messages).await?;
        let text = format!("{N_EVENTS} of {N_EVENTS}, in order, each at its first attempt");
        self.say(Colour::Green, "delivered", &text, Some((up, last.arrived)))?;
        self.wait_for_unsettled(processes, 0).await?;
        self.say(
            Colour::Green,
            "settled",
            "the stream keeps none of them for the distributor",
            None,
        )?;
        for message in &messages {
            self.answers(message).await?;
        }
        let text = format!("{N_EVENTS} times .started and {N_EVENTS} times .finished");
        self.say(Colour::Green, "came back", &text, Some((up, Instant::now())))?;
        Ok(self.show.gap()?)
    }

    /// A step, as what it is.
    pub(crate) fn say(
        &mut self,
        colour: Colour,
        label: &str,
        text: &str,
        since: Option<(Instant, Instant)>,
    ) -> anyhow::Result<()> {
        Ok(self.show.step(colour, label, text, since)?)
    }

    async fn publish_slowly(&mut self) -> anyhow::Result<Vec<Message>> {
        let mut messages = Vec::with_capacity(N_EVENTS);
        let mut ticks = interval(BETWEEN_EVENTS);
        for publication in events::in_order(N_EVENTS)? {
            ticks.tick().await;
            self.publish(publication).await?;
            let mut message = self.next(LIMIT).await?;
            self.came_in(&mut message);
            messages.push(message);
        }
        self.tally.number += messages.len() as u64;
        Ok(messages)
    }

    async fn wait_for_unsettled(&self, processes: &Processes, n: usize) -> anyhow::Result<()> {
        let mut found = Ok(0);
        let settled = eventually(LIMIT, async || {
            found = processes.n_unsettled().await;
            found.as_ref().is_ok_and(|found| *found == n as u64)
        });
        if settled.await.is_err() {
            bail!("the stream keeps {} events for the distributor, not {n}", found?);
        }
        Ok(())
    }

    /// The last request; that nothing came twice shows in the end, when no request is left.
    async fn all_delivered_in_order(&mut self, messages: &[Message]) -> anyhow::Result<Attempt> {
        let mut last: Option<Attempt> = None;
        for (number, message) in (1..).zip(messages) {
            let request = match self.next_entry(message).await? {
                Entry::Delivered { attempt: 1, status } => self.request(message, 1, status)?,
                other => bail!("event {number} after the outage: {other:?}"),
            };
            let is_later = last.as_ref().is_none_or(|last| last.arrived < request.arrived);
            ensure!(
                is_later,
                "event {number} arrived before the one that was published before it"
            );
            self.tally.delivered += 1;
            last = Some(request);
        }
        last.context("nothing was published")
    }
}
