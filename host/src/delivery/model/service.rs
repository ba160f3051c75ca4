//! The service and the place for dead letters, as a script: what they answer depends on the scenario, the event and the
//! moment.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use http::StatusCode;
use tokio::time::sleep;

use super::journal::{Journal, Outcome};
use super::scenario::{Kind, Refusal, Scenario};
use crate::answers::Answers;
use crate::config::OnTimeout;
use crate::dead_letter::{DeadLetter, StoreError, Stored};
use crate::delivery::{AttemptError, Outgoing};

/// Ids of the subscriptions, by the number of the part.
pub(super) const SUBSCRIPTIONS: [&str; 2] = ["s1", "s2"];
/// What may be asked for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);
/// Time to store a dead letter, both ways.
const STORING: Duration = Duration::from_millis(5);

/// What one process sees of them.
#[derive(Debug)]
pub(in crate::delivery) struct Script {
    pub(super) scenario: Arc<Scenario>,
    pub(super) journal: Arc<Journal>,
    pub(super) answers: Arc<Answers>,
    pub(super) life: usize,
}

/// An attempt that has begun. It ends when this is dropped.
struct UnderWay<'a> {
    script: &'a Script,
    sequence: u64,
    part: usize,
    number: u32,
    outcome: Option<Outcome>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let script = self.script;
        script
            .journal
            .outcome(script.life, self.sequence, self.part, self.number, self.outcome);
    }
}

impl Script {
    pub(in crate::delivery) async fn deliver(
        &self,
        event: &Outgoing,
        subscription_id: Option<&str>,
        attempt: u32,
    ) -> Result<StatusCode, AttemptError> {
        let id = event.id();
        let sequence = id.parse().expect("ids are sequences");
        let part = part(subscription_id);
        self.journal.attempt(self.life, sequence, part, attempt);
        let mut under_way = UnderWay {
            script: self,
            sequence,
            part,
            number: attempt,
            outcome: None,
        };
        let after = self.scenario.config.timeout;
        let answer = tokio::time::timeout(after, self.answer(sequence, part, &id)).await;
        let result = answer.unwrap_or(Err(AttemptError::Timeout { after, was_sent: true }));
        under_way.outcome = Some(self.meaning(&result, &id));
        if result.is_ok() {
            self.journal.is_ready(self.life);
        }
        result
    }

    pub(in crate::delivery) async fn store(&self, letter: &DeadLetter) -> Result<Stored, StoreError> {
        let sequence = letter.sequence.expect("everything comes from the stream");
        let part = letter.subscription_id.as_deref().map_or(0, |id| part(Some(id)));
        self.journal.stores(self.life, sequence, part);
        sleep(STORING).await;
        if !self.scenario.takes_letters(self.journal.now()) {
            self.journal.not_stored(self.life, sequence, part);
            return Err(StoreError::NotConnected);
        }
        self.journal.stored(self.life, sequence, part, letter);
        sleep(STORING).await;
        Ok(Stored::Nats)
    }

    async fn answer(&self, sequence: u64, part: usize, id: &str) -> Result<StatusCode, AttemptError> {
        let now = self.journal.now();
        let mut rng = Rng::with_seed(self.scenario.seed ^ (sequence << 32) ^ ((part as u64) << 60));
        rng.seed(rng.get_seed() ^ u64::try_from(now.as_millis()).expect("hours"));
        sleep(Duration::from_millis(rng.u64(1..30))).await;
        let was_ready = self.journal.was_ready(self.life);
        match self.scenario.refusal(now) {
            Some(Refusal::Connection) => return Err(AttemptError::Connect("refused".to_owned())),
            Some(Refusal::Status(code)) if !was_ready => return status(code, None),
            _ => {}
        }
        let planned = self.scenario.event(sequence);
        if let Kind::Refused(code) = planned.kind {
            return status(code, None);
        }
        let Some(key) = planned.key.map(|key| self.scenario.keys[key]) else {
            return Ok(StatusCode::OK);
        };
        if now < key.healed {
            return match rng.u8(..8) {
                0 if was_ready => status(503, Some(rng.u64(1..400))),
                _ => status(500, None),
            };
        }
        if rng.u8(..100) < key.troubled_percent {
            return self.trouble(&mut rng, id).await;
        }
        Ok(StatusCode::OK)
    }

    async fn trouble(&self, rng: &mut Rng, id: &str) -> Result<StatusCode, AttemptError> {
        match rng.u8(..8) {
            0 => status(500, None),
            1 => status(429, Some(rng.u64(..20))),
            2 => status(503, None),
            3 => status(404, None),
            4 => Err(AttemptError::Broken("reset".to_owned())),
            5 | 6 => {
                sleep(Duration::from_millis(rng.u64(500..50_000))).await;
                Ok(StatusCode::ACCEPTED)
            }
            _ => {
                if rng.bool() {
                    self.answers.record(id);
                }
                std::future::pending().await
            }
        }
    }

    /// What the specification says about such an answer.
    fn meaning(&self, result: &Result<StatusCode, AttemptError>, id: &str) -> Outcome {
        let was_ready = self.journal.was_ready(self.life);
        match result {
            Ok(_) => Outcome::Settled,
            Err(AttemptError::Connect(_)) => Outcome::NotReady,
            Err(AttemptError::Broken(_)) => Outcome::TryAgain(Duration::ZERO),
            Err(AttemptError::Timeout { .. }) => match self.scenario.config.on_timeout {
                OnTimeout::Accept => Outcome::Settled,
                OnTimeout::Auto if self.answers.contains(id) => Outcome::Settled,
                _ => Outcome::TryAgain(Duration::ZERO),
            },
            Err(AttemptError::Status {
                status, retry_after, ..
            }) => match status.as_u16() {
                404 | 503 if !was_ready => Outcome::NotReady,
                404 | 429 | 500 | 503 => Outcome::TryAgain(retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER)),
                _ => Outcome::Final,
            },
        }
    }
}

fn part(subscription_id: Option<&str>) -> usize {
    let part = SUBSCRIPTIONS.iter().position(|&id| Some(id) == subscription_id);
    part.expect("it is one of ours")
}

fn status(code: u16, retry_after: Option<u64>) -> Result<StatusCode, AttemptError> {
    Err(AttemptError::Status {
        status: StatusCode::from_u16(code).expect("a status"),
        excerpt: String::new(),
        retry_after: retry_after.map(Duration::from_secs),
    })
}
