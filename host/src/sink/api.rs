//! Sends events of the service to the Keptn API: one request for each.
//!
//! Called by [`super`]. The API has its own form of an event, which holds less than a `CloudEvent` may; what is left out
//! is named in the log. It knows neither plugins nor who sent the event.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, StatusCode};
use url::Url;

use crate::event::{ApiForm, Event, NoApiForm};
use crate::keptn_api::{Call, CallError, KeptnApi};

/// Names of attributes that are remembered as reported. Whoever sends more kinds than that reads no log.
const MAX_REPORTED: usize = 64;

/// The way to a control plane elsewhere.
#[derive(Debug, Clone)]
pub struct ApiSink {
    api: KeptnApi,
    url: Url,
    /// The attributes of which it was said that the API does not take them.
    reported: Arc<Mutex<BTreeSet<String>>>,
}

/// An event and what is sent of it.
#[derive(Debug)]
pub(super) struct ApiEvent {
    pub(super) event: Event,
    body: Bytes,
}

/// Why an event was not sent.
#[derive(Debug, thiserror::Error)]
pub enum ApiSinkError {
    /// It cannot be written in the API's form.
    #[error("{0}")]
    Form(#[from] NoApiForm),
    /// The API did not take it, or did not confirm that.
    #[error("the Keptn API did not take the event: {0}")]
    Call(#[from] CallError),
}

impl ApiSink {
    /// Sends to the API behind `endpoint`, a URL without a slash at its end.
    pub fn new(api: KeptnApi, endpoint: &Url) -> Self {
        let mut url = endpoint.clone();
        url.set_path(&format!("{}/v1/event", endpoint.path().trim_end_matches('/')));
        Self {
            api,
            url,
            reported: Arc::default(),
        }
    }

    /// Writes an event in the API's form.
    pub(super) fn prepare(&self, event: Event) -> Result<ApiEvent, ApiSinkError> {
        let ApiForm { body, left_out } = ApiForm::of(&event, SystemTime::now())?;
        for attribute in left_out {
            let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            if reported.len() < MAX_REPORTED && reported.insert(attribute.clone()) {
                tracing::warn!(
                    event_id = &*event.id(),
                    event_type = &*event.ty(),
                    attribute,
                    "the Keptn API has no place for this attribute; it is left out, here and in later events"
                );
            }
        }
        Ok(ApiEvent { event, body })
    }

    /// Sends one after the other, until one fails.
    pub(super) async fn send(&self, events: &[ApiEvent]) -> Result<(), ApiSinkError> {
        for event in events {
            let call = Call {
                method: Method::POST,
                url: self.url.clone(),
                body: Some(event.body.clone()),
            };
            self.api.call(call).await?;
        }
        Ok(())
    }
}

impl ApiSinkError {
    /// What the API says about the event is for the service; what it says about us, or does not say, may be better later.
    pub(super) fn status(&self) -> StatusCode {
        let Self::Call(CallError::Status { status, .. }) = self else {
            return match self {
                Self::Form(_) => StatusCode::BAD_REQUEST,
                Self::Call(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
        };
        match *status {
            StatusCode::PAYLOAD_TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
            StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::PROXY_AUTHENTICATION_REQUIRED
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_EARLY
            | StatusCode::TOO_MANY_REQUESTS => StatusCode::SERVICE_UNAVAILABLE,
            status if status.is_client_error() => StatusCode::BAD_REQUEST,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Call(CallError::Status { retry_after, .. }) => *retry_after,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_answers_about_the_event_is_final_and_all_else_is_not() {
        let check = |answered: u16, expected: u16| {
            let error = ApiSinkError::Call(CallError::Status {
                status: StatusCode::from_u16(answered).unwrap(),
                message: String::new(),
                retry_after: Some(Duration::from_secs(7)),
            });
            assert_eq!(error.status().as_u16(), expected, "{answered}");
            assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        };
        for answered in [400, 404, 405, 409, 415, 422] {
            check(answered, 400);
        }
        check(413, 413);
        // These are about our token, our pace, or nothing in particular.
        for answered in [206, 302, 401, 403, 407, 408, 425, 429, 500, 502, 503, 504] {
            check(answered, 503);
        }
        let unreachable = ApiSinkError::Call(CallError::Unreachable("connection refused".to_owned()));
        assert_eq!(unreachable.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(unreachable.retry_after(), None);
    }
}
