//! Takes requests, answers them, and publishes what follows.
//!
//! Called by the listener. It knows who may in; what a request does, `store` knows.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use tokio::sync::watch;

use super::answer::Answer;
use super::faults::{Effect, Fault, Faults};
use super::identity::Identity;
use super::journal::Journal;
use super::store::{Effects, Store};
use super::target::{Route, Target};
use crate::http_server::{Handler, Outcome, never};
use crate::journal::ReceivedRequest;

/// What answers, and everything that it needs.
#[derive(Default)]
pub(super) struct Shared {
    store: Mutex<Store>,
    pub(super) journal: Journal,
    pub(super) faults: Faults,
    access: Mutex<Access>,
    identity: Mutex<Identity>,
    pub(super) nats: OnceLock<async_nats::Client>,
    /// Goes up with everything that may have changed what is known.
    pub(super) changes: watch::Sender<u64>,
}

/// What the gateway asks for.
#[derive(Default)]
pub(super) struct Access {
    pub(super) token: Option<String>,
    pub(super) bearer_tokens: Option<HashSet<String>>,
}

impl Shared {
    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn access(&self) -> MutexGuard<'_, Access> {
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn identity(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lets_in(&self, request: &ReceivedRequest) -> bool {
        let access = self.access();
        let bearer = request.header(AUTHORIZATION.as_str()).unwrap_or_default();
        let bearer = bearer.strip_prefix("Bearer ").unwrap_or_default();
        let has_token = |token: &String| request.header("x-token") == Some(token);
        access.token.as_ref().is_none_or(has_token)
            && access
                .bearer_tokens
                .as_ref()
                .is_none_or(|tokens| tokens.contains(bearer))
            && self.identity().lets_in(bearer)
    }

    /// Does and answers what is asked for.
    async fn answer(&self, target: &Target, request: &ReceivedRequest) -> Answer {
        match target.route {
            Route::Token => return self.identity().token(request),
            Route::Discovery => return Identity::document(request.header("host").unwrap_or_default()),
            _ if target.is_remote && !self.lets_in(request) => return Answer::unauthenticated(),
            _ => {}
        }
        let nats = self.nats.get().is_some();
        let (answer, effects) = self.store().handle(&request.method, target, &request.body, nats);
        self.publish(effects).await;
        answer
    }

    /// Publishes what follows from something, and wakes those who wait for what is known to change.
    pub(super) async fn publish(&self, effects: Effects) {
        self.changes.send_modify(|n_changes| *n_changes += 1);
        let Some(nats) = self.nats.get() else { return };
        for event in effects.events {
            let subject = event["type"].as_str().unwrap_or_default().to_owned();
            // Core NATS promises nothing, and neither does the server.
            let _ = nats.publish(subject, event.to_string().into()).await;
        }
    }
}

impl Handler for Shared {
    async fn handle(&self, request: Request<Incoming>, connection: usize) -> Outcome {
        let target = Target::of(request.method().as_str(), request.uri(), request.headers());
        let Ok(received) = ReceivedRequest::read(request, connection).await else {
            return Outcome::Close;
        };
        let (nth, number) = self.journal.push(&target, &received);
        let answer = match self.faults.of(target.route, nth).map(Fault::effect) {
            None => self.answer(&target, &received).await,
            Some(Effect::Answer(answer)) => answer,
            Some(Effect::Delay(delay)) => {
                tokio::time::sleep(delay).await;
                self.answer(&target, &received).await
            }
            Some(Effect::Hang) => never().await,
            Some(Effect::Close) => return Outcome::Close,
            Some(Effect::LoseAnswer) => {
                self.answer(&target, &received).await;
                return Outcome::Close;
            }
        };
        self.journal.answered(number, answer.status);
        Outcome::Answer(answer.into_response(target.is_behind_gateway()))
    }
}
