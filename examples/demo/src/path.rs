//! One event after the other, on its way: what came in, what became of it, what came back.
//!
//! Called by `main` and the acts. Each step is shown when it has been seen: on NATS, in the service's journal, or in the
//! distributor's log, and where two of them tell of the same thing they must agree. It must not guess.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use test_support::eventually;
use tokio::time::{Instant, timeout};

use crate::events::Publication;
use crate::log::{Entry, Log};
use crate::processes::TOPIC;
use crate::service::{Attempt, Service};
use crate::show::Show;
use crate::tally::Tally;
use crate::watch::{Message, Watch};

/// Everything that is waited for is there within milliseconds, save on a machine that is busy with something else.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// For what only comes when somebody wants it to.
pub(crate) const FOREVER: Duration = Duration::from_hours(24 * 365);

/// Where the evidence is, and what it came to so far.
#[derive(Debug)]
pub(crate) struct Path {
    /// Publishes.
    client: async_nats::Client,
    /// Sees what passes over NATS.
    pub(crate) watch: Watch,
    /// Knows what it was given.
    pub(crate) service: Service,
    /// Says what the distributor decided.
    pub(crate) log: Log,
    /// Where it is shown.
    pub(crate) show: Show,
    /// What was counted.
    pub(crate) tally: Tally,
    /// Messages that nobody listens for. That the distributor did not get them shows when it has decided about a later
    /// one.
    unheard: Vec<Message>,
    /// What was published last, and when: the clock starts here.
    published: Option<(Bytes, Instant)>,
}

impl Path {
    /// Nothing has happened yet.
    pub(crate) fn new(client: async_nats::Client, watch: Watch, service: Service, log: Log, show: Show) -> Self {
        Self {
            client,
            watch,
            service,
            log,
            show,
            tally: Tally::default(),
            unheard: Vec::new(),
            published: None,
        }
    }

    /// Gives a message to NATS.
    ///
    /// # Errors
    /// When the connection is gone.
    pub(crate) async fn publish(&mut self, publication: Publication) -> anyhow::Result<()> {
        self.published = Some((publication.payload.clone(), Instant::now()));
        self.client.publish(publication.subject, publication.payload).await?;
        let flushed = timeout(LIMIT, self.client.flush()).await;
        flushed.context("nats-server does not answer any more")??;
        self.tally.published += 1;
        Ok(())
    }

    /// The next message that came in: answers to an event are taken while it is followed, so what comes first now is
    /// no answer. Nothing is lost when the wait is given up.
    ///
    /// # Errors
    /// When there is none within `within`.
    pub(crate) async fn next(&self, within: Duration) -> anyhow::Result<Message> {
        self.watch.take(within, "a published event", |_| true).await
    }

    /// Follows a message that came in to its end.
    ///
    /// # Errors
    /// When something that must happen was not seen, or two accounts differ.
    pub(crate) async fn follow(&mut self, mut message: Message) -> anyhow::Result<()> {
        self.came_in(&mut message);
        if !matches_topic(&message.subject) {
            self.unheard.push(message);
            return Ok(());
        }
        let followed = self.follow_heard(&message).await;
        followed.with_context(|| format!("an event came in on {}", message.subject))
    }

    /// Counts a message, and lets its clock start where it was published by this program.
    pub(crate) fn came_in(&mut self, message: &mut Message) {
        self.tally.came_in += 1;
        if let Some((_, at)) = self.published.take_if(|(payload, _)| *payload == message.payload) {
            message.since = at;
        }
    }

    async fn follow_heard(&mut self, message: &Message) -> anyhow::Result<()> {
        let mut entry = self.next_entry(message).await?;
        self.settle_unheard()?;
        self.tally.number += 1;
        self.show.came_in(self.tally.number, message)?;
        loop {
            match entry {
                Entry::Dropped { plugin, reason } => {
                    self.show.dropped(&plugin, &reason)?;
                    *self.tally.dropped.entry(reason).or_default() += 1;
                    break;
                }
                Entry::GivenUp { reason, error, .. } if reason == "malformed" => {
                    self.show.malformed(&error)?;
                    self.tally.malformed += 1;
                    break;
                }
                Entry::GivenUp { reason, attempt, error } => {
                    let requested = message.id().and_then(|id| self.service.take_attempt(id));
                    self.show
                        .given_up(message, attempt, &reason, &error, requested.as_ref())?;
                    self.tally.given_up += 1;
                    break;
                }
                Entry::Retried { attempt, error } => {
                    // Without a request in the journal it was the connection that failed.
                    let requested = message.id().and_then(|id| self.service.take_attempt(id));
                    self.show.retried(message, attempt, &error, requested.as_ref())?;
                    self.tally.retried += 1;
                    entry = self.next_entry(message).await?;
                }
                Entry::Delivered { attempt, status } => {
                    let request = self.request(message, attempt, status)?;
                    self.show.delivered(message, &request)?;
                    self.tally.delivered += 1;
                    for answer in self.answers(message).await? {
                        self.show.came_back(message, &answer)?;
                    }
                    break;
                }
                Entry::Lost { line } => bail!("the distributor says: {line}"),
            }
        }
        Ok(self.show.gap()?)
    }

    /// The next line of the distributor's log about this message.
    pub(crate) async fn next_entry(&mut self, message: &Message) -> anyhow::Result<Entry> {
        let log = &mut self.log;
        let mut entry = None;
        let found = eventually(LIMIT, async || {
            entry = log.take(message.id(), &message.subject);
            entry.is_some()
        });
        found
            .await
            .context("the distributor's log does not say what became of it")?;
        entry.context("a line was found")
    }

    /// The service's own account of the delivery that the distributor speaks of.
    pub(crate) fn request(&self, message: &Message, attempt: u64, status: u64) -> anyhow::Result<Attempt> {
        let request = message.id().and_then(|id| self.service.take_attempt(id));
        let request = request.context("the distributor says that it was delivered, the service knows nothing of it")?;
        ensure!(
            request.number == attempt && u64::from(request.status) == status,
            "the distributor speaks of attempt {attempt} and status {status}, the service of attempt {} and status {}",
            request.number,
            request.status
        );
        Ok(request)
    }

    /// What the service sent back through the distributor.
    pub(crate) async fn answers(&mut self, message: &Message) -> anyhow::Result<[Message; 2]> {
        let triggered = message.event["type"].as_str().unwrap_or_default();
        let task = triggered.strip_suffix("triggered").unwrap_or_default();
        let started = self.answer(message, &format!("{task}started")).await?;
        *self.tally.answers.entry("started").or_default() += 1;
        let finished = self.answer(message, &format!("{task}finished")).await?;
        *self.tally.answers.entry("finished").or_default() += 1;
        // The service reads its answer a little after NATS has the event.
        let expected = self.tally.n_from_service();
        eventually(LIMIT, async || self.service.n_sent() >= expected)
            .await
            .context("the service's events are on NATS, but the distributor did not confirm them")?;
        Ok([started, finished])
    }

    /// One of them.
    async fn answer(&self, message: &Message, subject: &str) -> anyhow::Result<Message> {
        let is_answer = |seen: &Message| seen.subject == subject && seen.event["triggeredid"] == message.event["id"];
        let answer = self.watch.take(LIMIT, subject, is_answer).await;
        let answer = answer.with_context(|| match self.service.not_sent().last() {
            Some(error) => format!("the service: {error}"),
            None => "the service knows of no error".to_owned(),
        })?;
        ensure!(
            answer.event["shkeptncontext"] == message.event["shkeptncontext"],
            "{subject} came back with another context"
        );
        Ok(answer)
    }

    /// The distributor has decided about a later message: what it has no line about, it did not get.
    fn settle_unheard(&mut self) -> anyhow::Result<()> {
        for message in std::mem::take(&mut self.unheard) {
            self.tally.number += 1;
            self.show.came_in(self.tally.number, &message)?;
            if let Some(entry) = self.log.take(message.id(), &message.subject) {
                bail!(
                    "{TOPIC} does not match {}, yet the distributor says: {entry:?}",
                    message.subject
                );
            }
            self.show.unheard()?;
            self.show.gap()?;
            self.tally.unheard += 1;
        }
        Ok(())
    }
}

/// Whether NATS gives a message on this subject to the distributor.
fn matches_topic(subject: &str) -> bool {
    let same_length = subject.split('.').count() == TOPIC.split('.').count();
    let mut tokens = TOPIC.split('.').zip(subject.split('.'));
    same_length && tokens.all(|(wanted, token)| wanted == "*" || wanted == token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_matches_tasks_and_not_sequences() {
        let check = |subject: &str, expected| assert_eq!(matches_topic(subject), expected, "{subject}");
        check("sh.keptn.event.test.triggered", true);
        check("sh.keptn.event.test.finished", false);
        check("sh.keptn.event.staging.delivery.triggered", false);
        check("sh.keptn.event.test", false);
    }
}
