//! OAuth client credentials: one token for all callers, asked for when it is needed and renewed before it expires.
//!
//! Called by [`super::access`]. It knows nothing of the API that the token is for. What goes over the wire is in
//! [`request`].

mod answer;
mod request;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::watch;
use tokio::time::Instant;

use self::answer::Token;
use self::request::TokenRequests;
use crate::config::OauthConfig;
use crate::tls::Trust;

/// A token is renewed this long before it expires, a token of a short life after a quarter of it.
const RENEWED_BEFORE_EXPIRY: Duration = Duration::from_secs(10);
/// Of that time, up to so much more, so that many sidecars do not renew at the same moment.
const RENEWAL_JITTER: f64 = 0.5;
/// After a failure nobody asks for so long; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why there is no token.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OauthError {
    /// The discovery document.
    #[error("OAUTH_DISCOVERY: {0}")]
    Discovery(String),
    /// The request for a token.
    #[error("no OAuth token: {0}")]
    Token(String),
}

/// The token. Cheap to clone: clones share it.
#[derive(Debug, Clone)]
pub(super) struct Oauth(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    requests: TokenRequests,
    state: Mutex<State>,
    /// Counts the requests for a token that have ended.
    ended: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    token: Option<Held>,
    n_tokens: u64,
    n_failures: u64,
    is_asking: bool,
    failure: Option<Failure>,
    /// A token that is refused is dropped when it is older than this: an API that refuses every token must not cause a
    /// request for another one with each call.
    dropped_from_age: Duration,
}

#[derive(Debug)]
struct Held {
    header: HeaderValue,
    number: u64,
    came: Instant,
    renewed_from: Option<Instant>,
    expires: Option<Instant>,
}

#[derive(Debug)]
struct Failure {
    error: OauthError,
    n: u32,
    until: Instant,
}

enum Now {
    Token(HeaderValue, u64),
    Failed(OauthError),
    Asking,
}

/// How it is about tokens of OAuth.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct OauthReport {
    /// Tokens that the identity provider gave.
    pub tokens: u64,
    /// Requests for one that failed.
    pub failures: u64,
    /// Time until the one in use ends; none: there is none, or it does not say.
    pub expires_in_seconds: Option<f64>,
    /// Why there is no new one, as long as that is so.
    pub last_error: Option<String>,
}

impl Oauth {
    /// How it is about tokens.
    pub(super) fn report(&self) -> OauthReport {
        let state = self.0.lock();
        let expires = state.token.as_ref().and_then(|held| held.expires);
        OauthReport {
            tokens: state.n_tokens,
            failures: state.n_failures,
            expires_in_seconds: expires.map(|expires| expires.saturating_duration_since(Instant::now()).as_secs_f64()),
            last_error: state.failure.as_ref().map(|failure| failure.error.to_string()),
        }
    }

    /// Asks nobody yet.
    pub(super) fn new(config: &OauthConfig, timeout: Option<Duration>, trust: Trust) -> Self {
        Self(Arc::new(Shared {
            requests: TokenRequests::new(config, timeout, trust),
            state: Mutex::default(),
            ended: watch::Sender::default(),
        }))
    }

    /// Finds out where tokens come from.
    pub(super) async fn discover(&self) -> Result<(), OauthError> {
        self.0.requests.endpoint().await.map(drop)
    }

    /// The value of `Authorization`, and which token that is. While one is valid this does not wait.
    pub(super) async fn authorization(&self) -> Result<(HeaderValue, u64), OauthError> {
        let mut ended = self.0.ended.subscribe();
        loop {
            match self.0.look() {
                Now::Token(header, number) => return Ok((header, number)),
                Now::Failed(error) => return Err(error),
                // The sender is ours, so that this ends only with a change.
                Now::Asking => ended.changed().await.unwrap_or_default(),
            }
        }
    }

    /// The API does not take this token: true if another one can be had.
    pub(super) fn refused(&self, number: u64) -> bool {
        let mut state = self.0.lock();
        let Some(held) = &state.token else { return true };
        if held.number != number {
            return true;
        }
        let age = held.came.elapsed();
        if age < state.dropped_from_age {
            return false;
        }
        state.dropped_from_age = if age < LONGEST_PAUSE {
            (state.dropped_from_age * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE)
        } else {
            Duration::ZERO
        };
        state.token = None;
        true
    }

    /// A message of somebody else, unless it repeats the token.
    pub(super) fn without_token(&self, message: String) -> String {
        let state = self.0.lock();
        let token = state.token.as_ref().and_then(|held| held.header.to_str().ok());
        let token = token.map(|header| header.split_once(' ').map_or(header, |(_, token)| token));
        crate::secret::without_secrets(message, token.as_slice())
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What there is now. Starts a request where one is due.
    fn look(self: &Arc<Self>) -> Now {
        let now = Instant::now();
        let mut state = self.lock();
        let is_pausing = state.failure.as_ref().is_some_and(|failure| failure.until > now);
        let valid = state
            .token
            .as_ref()
            .filter(|held| held.expires.is_none_or(|expires| expires > now));
        let found = valid.map(|held| {
            let is_due = held.renewed_from.is_some_and(|from| from <= now);
            (is_due, Now::Token(held.header.clone(), held.number))
        });
        match (found, &state.failure) {
            (Some((is_due, found)), _) => {
                if is_due && !is_pausing && !state.is_asking {
                    self.ask(&mut state);
                }
                found
            }
            (None, Some(failure)) if is_pausing && !state.is_asking => Now::Failed(failure.error.clone()),
            (None, _) => {
                if !state.is_asking {
                    self.ask(&mut state);
                }
                Now::Asking
            }
        }
    }

    /// A task of its own: a caller that goes away must not take the request of all others with it. It has time-outs.
    fn ask(self: &Arc<Self>, state: &mut State) {
        state.is_asking = true;
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let end = AtEnd(&shared);
            let asked = shared.requests.token().await;
            shared.lock().take(asked);
            drop(end);
        });
    }
}

/// Whatever happens to a request, those who wait for it go on.
struct AtEnd<'a>(&'a Shared);

impl Drop for AtEnd<'_> {
    fn drop(&mut self) {
        self.0.lock().is_asking = false;
        self.0.ended.send_modify(|n_ended| *n_ended += 1);
    }
}

impl State {
    fn take(&mut self, asked: Result<Token, OauthError>) {
        let now = Instant::now();
        match asked {
            Ok(token) => {
                self.n_tokens += 1;
                let life = token.life;
                tracing::debug!(
                    seconds = life.map(|life| life.as_secs()),
                    "the identity provider gave a token"
                );
                self.token = Some(Held {
                    header: token.header,
                    number: self.n_tokens,
                    came: now,
                    renewed_from: life.map(|life| now + renewed_after(life)),
                    expires: life.map(|life| now + life),
                });
                self.failure = None;
            }
            Err(error) => {
                self.n_failures += 1;
                let n = self.failure.as_ref().map_or(0, |failure| failure.n + 1);
                let pause = FIRST_PAUSE.saturating_mul(1 << n.min(8)).min(LONGEST_PAUSE);
                let is_first = n == 0;
                if is_first && self.token.is_some() {
                    tracing::warn!(%error, "the OAuth token cannot be renewed; the one there is stays in use");
                }
                self.failure = Some(Failure {
                    error,
                    n,
                    until: now + pause.mul_f64(0.5 + fastrand::f64() / 2.0),
                });
            }
        }
    }
}

fn renewed_after(life: Duration) -> Duration {
    let before = RENEWED_BEFORE_EXPIRY.min(life.mul_f64(0.75));
    let latest = life.saturating_sub(before);
    latest.saturating_sub(latest.min(before).mul_f64(RENEWAL_JITTER * fastrand::f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_ten_seconds_before_its_end_or_a_little_earlier() {
        let check = |life: f64, earliest: f64, latest: f64| {
            for _ in 0..200 {
                let after = renewed_after(Duration::from_secs_f64(life)).as_secs_f64();
                assert!((earliest..=latest).contains(&after), "{life}: {after}");
            }
        };
        check(3600.0, 3585.0, 3590.0);
        check(60.0, 45.0, 50.0);
        check(13.0, 1.6, 3.25);
        check(2.0, 0.25, 0.5);
    }
}
