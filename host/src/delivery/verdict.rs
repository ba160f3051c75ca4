//! What the result of an attempt means: one place for the whole table.

use http::StatusCode;

use super::recipient::AttemptError;
use crate::config::{DeliveryConfig, OnTimeout, RetryOn};
use crate::dead_letter::Reason;

/// What to do after an attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was delivered after all.
    Delivered,
    /// The service is not there yet. The attempt does not count.
    NotReady,
    /// Try again.
    TryAgain,
    /// Trying again cannot help.
    GiveUp(Reason),
}

/// The settings that the verdict depends on.
#[derive(Debug)]
pub(crate) struct Policy {
    retry_on: RetryOn,
    on_timeout: OnTimeout,
}

impl Policy {
    /// From the configuration.
    pub(crate) fn new(config: &DeliveryConfig) -> Self {
        Self {
            retry_on: config.retry_on.clone(),
            on_timeout: config.on_timeout,
        }
    }

    /// Judges a failed attempt. `was_ready`: the service has taken an event before. `is_answered`: it has shown on
    /// another way that it works on this one.
    pub(crate) fn judge(&self, error: &AttemptError, was_ready: bool, is_answered: impl FnOnce() -> bool) -> Verdict {
        match error {
            AttemptError::Connect(_) => Verdict::NotReady,
            AttemptError::Broken(_) => Verdict::TryAgain,
            AttemptError::Timeout { was_sent, .. } => match self.on_timeout {
                OnTimeout::Accept if *was_sent => Verdict::Delivered,
                OnTimeout::Auto if is_answered() => Verdict::Delivered,
                _ => Verdict::TryAgain,
            },
            // What listens may be a proxy in front of a service that is not there yet.
            AttemptError::Status {
                status: StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE,
                ..
            } if !was_ready => Verdict::NotReady,
            AttemptError::Status { status, .. } if self.retry_on.contains(*status) => Verdict::TryAgain,
            AttemptError::Status {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                ..
            } => Verdict::GiveUp(Reason::TooLarge),
            AttemptError::Status { .. } => Verdict::GiveUp(Reason::PermanentStatus),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config;

    fn policy(variables: &[(&str, &str)]) -> Policy {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Policy::new(&config::from_env(&lookup).unwrap().delivery)
    }

    fn status(status: u16) -> AttemptError {
        AttemptError::Status {
            status: StatusCode::from_u16(status).unwrap(),
            excerpt: String::new(),
            retry_after: None,
        }
    }

    #[test]
    fn every_status_has_its_verdict() {
        let policy = policy(&[]);
        for code in (100..200).chain(300..600) {
            let expected = match code {
                413 => Verdict::GiveUp(Reason::TooLarge),
                404 | 408 | 409 | 425 | 429 | 500 | 502..=599 => Verdict::TryAgain,
                _ => Verdict::GiveUp(Reason::PermanentStatus),
            };
            assert_eq!(policy.judge(&status(code), true, || false), expected, "{code}");
        }
    }

    #[test]
    fn before_the_first_success_404_and_503_mean_not_ready() {
        let policy = policy(&[]);
        assert_eq!(policy.judge(&status(404), false, || false), Verdict::NotReady);
        assert_eq!(policy.judge(&status(503), false, || false), Verdict::NotReady);
        assert_eq!(policy.judge(&status(500), false, || false), Verdict::TryAgain);
        let refused = AttemptError::Connect(String::new());
        assert_eq!(policy.judge(&refused, true, || false), Verdict::NotReady);
    }

    #[test]
    fn the_operator_can_choose_the_statuses() {
        let policy = policy(&[("DELIVERY_RETRY_ON", "418,5xx")]);
        assert_eq!(policy.judge(&status(418), true, || false), Verdict::TryAgain);
        assert_eq!(policy.judge(&status(501), true, || false), Verdict::TryAgain);
        let give_up = Verdict::GiveUp(Reason::PermanentStatus);
        assert_eq!(policy.judge(&status(404), true, || false), give_up);
    }

    #[test]
    fn no_answer_in_time_means_what_is_configured() {
        let check = |mode: &str, was_sent: bool, is_answered: bool, expected: Verdict| {
            let timeout = AttemptError::Timeout {
                after: Duration::from_mins(1),
                was_sent,
            };
            let verdict = policy(&[("DELIVERY_ON_TIMEOUT", mode)]).judge(&timeout, true, || is_answered);
            assert_eq!(verdict, expected, "{mode}, sent: {was_sent}, answered: {is_answered}");
        };
        check("auto", true, true, Verdict::Delivered);
        check("auto", true, false, Verdict::TryAgain);
        check("retry", true, true, Verdict::TryAgain);
        check("accept", true, false, Verdict::Delivered);
        check("accept", false, false, Verdict::TryAgain);
    }
}
