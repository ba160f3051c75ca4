//! What a worker does with a delivery: tries its parts in order, and decides what comes next.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use http::StatusCode;
use tokio::time::Instant;

use super::part::{GivenUp, Part};
use super::preparation::{Pending, Prepared};
use super::{AttemptError, Deliveries, Delivery, Key, Verdict};
use crate::dead_letter::{Reason, Stored, one_line};
use crate::metrics::AttemptResult;
use crate::recent_events::StepKind;
use crate::trace::{Kind, Span};

/// A service may ask for a longer pause, but not for any length.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(5);
/// Shortest and longest pause between attempts to store a dead letter, or what a plugin answers.
const FIRST_PAUSE_TO_STORE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE_TO_STORE: Duration = Duration::from_secs(30);

/// Of an error, as much is shown.
const MAX_ERROR_BYTES: usize = 512;

/// How an attempt ended, once the service was there.
enum Reached {
    Taken(StatusCode),
    /// With what it means.
    Failed(AttemptError, Verdict),
    /// The service was not there, and the distributor is about to end.
    Abandoned,
}

impl Deliveries {
    /// Works on everything that can be done now. A part that has to wait holds back the next event of its key, but not
    /// the other parts of its own.
    pub(super) async fn work_on(&self, key: Key, mut delivery: Box<Delivery>) {
        while let Some(number) = delivery.next_part(Instant::now()) {
            let is_abandoned = self.work_on_part(&mut delivery, number).await;
            if is_abandoned {
                break;
            }
        }
        match delivery.due() {
            None => {
                delivery.receipt.settle();
                self.lanes.done(key);
            }
            Some(_) if self.is_ending.is_cancelled() && delivery.receipt.can_be_given_back() => {
                delivery.leave();
                self.lanes.done(key);
            }
            Some(moment) => self.lanes.wait_until(moment, key, delivery),
        }
    }

    /// True if the event has to be given back.
    async fn work_on_part(&self, delivery: &mut Delivery, number: usize) -> bool {
        if delivery.parts[number].is_given_up() {
            self.store(delivery, number).await;
            return false;
        }
        if delivery.parts[number].is_unprepared() {
            return self.prepare(delivery, number).await;
        }
        let can_be_given_back = delivery.receipt.can_be_given_back();
        if delivery.parts[number].to_publish().is_some() {
            self.publish(&mut delivery.parts[number]).await;
            return false;
        }
        let received = delivery.receipt.received();
        let Delivery { parts, span, .. } = delivery;
        let part = &mut parts[number];
        if part.attempts == 0 && part.subscription.is_some() && !part.event.can_be_marked() {
            self.counters.unmarked.increment();
        }
        part.attempts += 1;
        let start = Instant::now();
        match self.reach(part, span.as_deref(), can_be_given_back).await {
            Reached::Taken(status) => self.delivered(part, Some(status), start, received),
            Reached::Failed(_, Verdict::Delivered) => self.delivered(part, None, start, received),
            Reached::Failed(error, verdict) => {
                self.failed(part, &error, verdict);
                // At once, so that nothing is forgotten between the two.
                if part.is_given_up() {
                    self.store(delivery, number).await;
                }
            }
            Reached::Abandoned => {
                part.attempts -= 1;
                return true;
            }
        }
        false
    }

    /// Finds out what there is to deliver. True if the event has to be given back.
    async fn prepare(&self, delivery: &mut Delivery, number: usize) -> bool {
        let can_be_given_back = delivery.receipt.can_be_given_back();
        let Some(pending) = delivery.parts[number].trouble().pending.take() else {
            return false;
        };
        let Pending {
            preparation,
            progress,
            place,
        } = *pending;
        let (start, start_time) = (Instant::now(), SystemTime::now());
        let prepared = if can_be_given_back {
            tokio::select! {
                biased;
                () = self.is_ending.cancelled() => return true,
                prepared = preparation.run() => prepared,
            }
        } else {
            preparation.run().await
        };
        let part = &mut delivery.parts[number];
        let (preparation, due) = match prepared {
            Prepared::Parts(made) => {
                delivery.expand(number, made, &progress);
                return false;
            }
            Prepared::NotBefore(moment, preparation) => (preparation, moment),
            Prepared::Failed {
                error,
                generation,
                again,
            } => {
                part.generation = generation;
                part.attempts += 1;
                part.reached(start, start_time);
                let is_last = part.attempts > self.max_retries || part.age() >= self.max_age;
                let Some(preparation) = again.filter(|_| !is_last) else {
                    part.give_up(error);
                    self.store(delivery, number).await;
                    return false;
                };
                let pause = pause_after(part.attempts, self.first_pause, self.longest_pause, fastrand::f64());
                self.counters.retried.increment();
                let attempt = part.attempts;
                self.note_failure(part, StepKind::PluginFailed, attempt, &error.error, pause);
                tracing::warn!(
                    event_id = &*part.event.id(),
                    event_type = &*part.event.ty(),
                    subscription_id = part.subscription_id().unwrap_or_default(),
                    attempt = part.attempts,
                    plugin = error.plugin,
                    error = error.error,
                    next_attempt_ms = pause.as_millis(),
                    "a plugin failed; trying again"
                );
                (preparation, Instant::now() + pause)
            }
        };
        let trouble = part.trouble();
        trouble.due = Some(due);
        trouble.pending = Some(Box::new(Pending {
            preparation,
            progress,
            place,
        }));
        false
    }

    fn delivered(&self, part: &mut Part, status: Option<StatusCode>, start: Instant, received: Instant) {
        part.settle(true);
        self.counters.delivered.increment();
        let now = Instant::now();
        self.counters.times.latency.observe(now - received);
        let generation = part.generation;
        let event = &part.event;
        let subscription_id = part.subscription_id().unwrap_or_default();
        let elapsed_ms = (now - start).as_millis();
        let what = || {
            let answer = status.map_or_else(
                || "the service works on it, but did not answer in time".to_owned(),
                |status| format!("the service answered {} in {elapsed_ms} ms", status.as_u16()),
            );
            format!(
                "{answer}, attempt {}, plugins of generation {generation}",
                part.attempts
            )
        };
        if part.trouble.is_none() {
            self.recent.delivered(|| (part.names(), what()));
        } else {
            self.recent.in_trouble(part.names(), StepKind::Delivered, &what());
        }
        if let Some(status) = status {
            tracing::info!(
                event_id = &*event.id(),
                event_type = &*event.ty(),
                subscription_id,
                keptn_context = &*event.keptn_context(),
                status = status.as_u16(),
                attempt = part.attempts,
                elapsed_ms,
                generation,
                "delivered"
            );
        } else {
            self.counters.unconfirmed.increment();
            tracing::info!(
                event_id = &*event.id(),
                event_type = &*event.ty(),
                subscription_id,
                keptn_context = &*event.keptn_context(),
                attempt = part.attempts,
                elapsed_ms,
                generation,
                "delivered; the service works on it, but did not answer in time"
            );
        }
    }

    fn failed(&self, part: &mut Part, error: &AttemptError, verdict: Verdict) {
        let age = part.age();
        let reason = match verdict {
            Verdict::GiveUp(reason) => Some(reason),
            _ if part.attempts > self.max_retries => Some(Reason::RetriesExhausted),
            _ if age >= self.max_age => Some(Reason::Expired),
            _ => None,
        };
        let attempt = part.attempts;
        if let Some(reason) = reason {
            part.give_up(GivenUp {
                reason,
                status: error.status().map(|status| status.as_u16()),
                error: error.to_string(),
                plugin: None,
            });
            return;
        }
        self.counters.retried.increment();
        let wanted = error.retry_after().unwrap_or_default().min(LONGEST_RETRY_AFTER);
        let pause = pause_after(attempt, self.first_pause, self.longest_pause, fastrand::f64()).max(wanted);
        part.trouble().due = Some(Instant::now() + pause);
        self.note_failure(part, StepKind::AttemptFailed, attempt, &error.to_string(), pause);
        let event = &part.event;
        tracing::warn!(
            event_id = &*event.id(), event_type = &*event.ty(),
            subscription_id = part.subscription_id().unwrap_or_default(), attempt, %error,
            next_attempt_ms = pause.as_millis(), "delivery failed; trying again"
        );
    }

    /// Sends what a plugin answers to the control plane. As long as that cannot store it, the part waits, and with it the
    /// event and those behind it: what a plugin has said is not lost.
    async fn publish(&self, part: &mut Part) {
        let generation = part.generation;
        let Some(published) = part.to_publish() else { return };
        let (by, event) = (Arc::clone(&published.by), published.event.clone());
        let Err(error) = self.outside.publish(published).await else {
            part.settle(true);
            self.counters.published.increment();
            let what = || format!("plugin {by} answered with {} {}", event.ty(), event.id());
            if part.trouble.is_none() {
                self.recent.dropped(StepKind::Published, || (part.names(), what()));
            } else {
                self.recent.in_trouble(part.names(), StepKind::Published, &what());
            }
            tracing::info!(
                event_id = &*event.id(),
                event_type = &*event.ty(),
                keptn_context = &*event.keptn_context().unwrap_or_default(),
                triggered_id = &*event.triggered_id().unwrap_or_default(),
                answered_id = &*part.event.id(),
                plugin = %by,
                generation,
                "published"
            );
            return;
        };
        if error.status().is_client_error() {
            part.give_up(GivenUp {
                reason: Reason::Plugin,
                status: None,
                error: format!(
                    "plugin {by:?} publishes event {:?} of type {:?}, which cannot be sent: {error}",
                    event.id(),
                    event.ty()
                ),
                plugin: Some(by.to_string()),
            });
            return;
        }
        part.attempts += 1;
        let attempt = part.attempts;
        let pause = pause_after(attempt, FIRST_PAUSE_TO_STORE, LONGEST_PAUSE_TO_STORE, 1.0);
        part.trouble().due = Some(Instant::now() + pause);
        self.counters.publish_failures.increment();
        self.note_failure(part, StepKind::NotPublished, attempt, &error.to_string(), pause);
        tracing::warn!(
            event_id = &*event.id(), event_type = &*event.ty(), answered_id = &*part.event.id(), plugin = %by, attempt,
            %error, next_attempt_ms = pause.as_millis(),
            "cannot publish the event of a plugin; the event that it answers is held back"
        );
    }

    /// Stores a part that is given up as a dead letter; if that fails, it waits and is stored later.
    async fn store(&self, delivery: &mut Delivery, number: usize) {
        let Some(letter) = delivery.dead_letter(number) else {
            return;
        };
        let part = &mut delivery.parts[number];
        match self.outside.store(&letter).await {
            Ok(stored) => {
                part.settle(false);
                if let Some(span) = &delivery.span {
                    span.fail();
                }
                if letter.reason == Reason::Malformed {
                    self.counters.malformed.increment();
                }
                let why = format!("{}: {}", letter.reason, letter.error);
                if stored == Stored::Log {
                    self.counters.undelivered.increment(letter.reason);
                    self.recent.in_trouble(part.names(), StepKind::Lost, &why);
                } else {
                    self.recent.in_trouble(part.names(), StepKind::DeadLettered, &why);
                    self.counters.dead_lettered.increment(letter.reason);
                    tracing::error!(
                        event_id = letter.event_id,
                        event_type = letter.event_type,
                        subscription_id = letter.subscription_id,
                        subject = letter.subject,
                        attempt = letter.attempts,
                        reason = letter.reason.as_str(),
                        plugin = letter.plugin,
                        error = letter.error,
                        "not delivered; the event is in the dead letters"
                    );
                }
            }
            Err(error) => {
                let trouble = part.trouble();
                trouble.n_not_stored += 1;
                let pause = pause_after(trouble.n_not_stored, FIRST_PAUSE_TO_STORE, LONGEST_PAUSE_TO_STORE, 1.0);
                trouble.due = Some(Instant::now() + pause);
                self.counters.dead_letter_failures.increment();
                let attempt = trouble.n_not_stored;
                let why = format!("cannot be stored as a dead letter: {error}");
                self.note_failure(part, StepKind::NotStored, attempt, &why, pause);
                tracing::error!(
                    event_id = letter.event_id, event_type = letter.event_type, reason = letter.reason.as_str(),
                    %error, next_attempt_ms = pause.as_millis(),
                    "cannot store a dead letter; the event is held back"
                );
            }
        }
    }

    /// Keeps what went wrong, for whoever looks.
    fn note_failure(&self, part: &mut Part, step: StepKind, attempt: u32, error: &str, pause: Duration) {
        let again_in = if pause < Duration::from_secs(10) {
            format!("{:.1} s", pause.as_secs_f64())
        } else {
            humantime::format_duration(Duration::from_secs(pause.as_secs())).to_string()
        };
        let what = format!("attempt {attempt}: {error}; again in {again_in}");
        self.recent.in_trouble(part.names(), step, &what);
        part.trouble().last_error = Some(one_line(error, MAX_ERROR_BYTES).into());
    }

    /// One attempt that the service answers, or fails to: as long as it is not ready, the delivery waits here, at the
    /// gate, and the others wait behind it.
    async fn reach(&self, part: &mut Part, span: Option<&Span>, can_be_given_back: bool) -> Reached {
        let ending = self.is_ending.clone();
        let ends = async move {
            if can_be_given_back {
                ending.cancelled().await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::pin!(ends);
        let mut probe = None;
        if self.gate.is_closed() {
            probe = tokio::select! {
                biased;
                () = &mut ends => return Reached::Abandoned,
                probe = self.gate.turn() => probe,
            };
        }
        loop {
            let (start, start_time) = (Instant::now(), SystemTime::now());
            let result = self.deliver(part, span).await;
            self.counters.times.attempt.observe(start.elapsed());
            self.counters.attempts.increment(match &result {
                Ok(status) => AttemptResult::of(*status),
                Err(error) => error.kind(),
            });
            let was_ready = self.was_ready.load(Ordering::Relaxed);
            let failure = result.map_err(|error| {
                let is_answered = || self.answers.contains(&part.event.id());
                let verdict = self.policy.judge(&error, was_ready, is_answered);
                (error, verdict)
            });
            let error = match failure {
                Err((error, Verdict::NotReady)) => error,
                reached => {
                    if self.gate.open() {
                        tracing::info!("the service is ready; deliveries go on");
                    }
                    return match reached {
                        Ok(status) => {
                            if !was_ready {
                                self.was_ready.store(true, Ordering::Relaxed);
                            }
                            Reached::Taken(status)
                        }
                        Err((error, verdict)) => {
                            part.reached(start, start_time);
                            Reached::Failed(error, verdict)
                        }
                    };
                }
            };
            if self.gate.close(&error) {
                tracing::warn!(%error, "the service is not ready; deliveries wait");
            }
            if let Some(probe) = probe.take() {
                self.gate.probe_failed(probe);
            }
            let go_on = async {
                probe = self.gate.turn().await;
                if probe.is_some() {
                    tokio::time::sleep(self.gate.pause(fastrand::f64())).await;
                }
            };
            tokio::select! {
                biased;
                () = &mut ends => return Reached::Abandoned,
                () = go_on => {}
            }
        }
    }
}

impl Deliveries {
    /// One request, which is a step of its own.
    async fn deliver(&self, part: &mut Part, span: Option<&Span>) -> Result<StatusCode, AttemptError> {
        let mut request = span.and_then(|span| span.child(Kind::Client, || "POST".to_owned()));
        let context = request.as_ref().or(span).map(Span::context);
        let result = self
            .outside
            .deliver(&part.event, part.subscription_id(), part.attempts, context)
            .await;
        if let Some(request) = &mut request {
            request.set("http.request.method", "POST");
            request.set("attempt", part.attempts);
            request.set("subscription_id", part.subscription_id().unwrap_or_default());
            let status = match &result {
                Ok(status) => Some(*status),
                Err(error) => {
                    request.fail_with(error);
                    error.status()
                }
            };
            if let Some(status) = status {
                request.set("http.response.status_code", status.as_u16());
            }
        }
        result
    }
}

/// Exponential with full jitter: somewhere between nothing and twice the pause before, so that many events that failed
/// together do not come back together.
fn pause_after(attempt: u32, first: Duration, longest: Duration, random: f64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(20);
    first.saturating_mul(1 << doublings).min(longest).mul_f64(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_are_random_below_that() {
        let check = |attempt: u32, random: f64, expected_ms: u128| {
            let pause = pause_after(attempt, Duration::from_millis(500), Duration::from_mins(1), random);
            assert_eq!(pause.as_millis(), expected_ms, "attempt {attempt}");
        };
        check(1, 1.0, 500);
        check(2, 1.0, 1000);
        check(5, 1.0, 8000);
        check(8, 1.0, 60_000);
        check(1000, 1.0, 60_000);
        check(8, 0.0, 0);
        check(8, 0.5, 30_000);
    }
}
