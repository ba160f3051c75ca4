//! Questions to the API of `JetStream`, and its answers.
//!
//! Used by [`crate::streams`] and [`crate::source`]. The client's own types for answers refuse what they do not know;
//! here every caller reads the few fields that matter to it, and leaves the others as they are.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{Client, Request};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Time for one answer. A request that the account may not make is not answered at all.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// "`JetStream` not enabled for account" and "`JetStream` not enabled".
const NOT_ENABLED_CODES: [u64; 2] = [10039, 10076];
/// "stream not found" and "consumer not found".
const NOT_FOUND_CODES: [u64; 2] = [10059, 10014];

/// Why a question has no good answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The server has no `JetStream` for us. In a cluster this may be for the moment only.
    #[error("there is no JetStream: {0}")]
    NoJetStream(String),
    /// No such stream or consumer.
    #[error("{0}")]
    NotFound(String),
    /// The server has another reason.
    #[error("{api}: {description}")]
    Refused {
        /// What was asked.
        api: String,
        /// The server's words.
        description: String,
    },
    /// There is no answer, or none that can be read.
    #[error("{0}")]
    Failed(String),
}

/// Asks `$JS.API.<api>`.
///
/// # Errors
/// Why there is no good answer.
pub async fn ask<T: DeserializeOwned>(client: &Client, api: &str, question: String) -> Result<T, ApiError> {
    let subject = format!("$JS.API.{api}");
    let request = Request::new()
        .payload(Bytes::from(question))
        .timeout(Some(ANSWER_TIMEOUT));
    // The time limit of the request does not cover its way to the client's queue, which is full during an outage.
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, client.send_request(subject, request)).await;
    let answer = match answer.map(|answer| answer.map_err(|error| (error.kind(), error))) {
        Ok(Ok(answer)) => answer,
        Ok(Err((RequestErrorKind::NoResponders, _))) => {
            return Err(ApiError::NoJetStream(format!("nobody answers $JS.API.{api}")));
        }
        Err(_) | Ok(Err((RequestErrorKind::TimedOut, _))) => {
            return Err(ApiError::Failed(format!(
                "no answer to $JS.API.{api} within {ANSWER_TIMEOUT:?}; may this account publish there?"
            )));
        }
        Ok(Err((_, error))) => return Err(ApiError::Failed(format!("{api}: {error}"))),
    };
    let answer: Answer<T> = serde_json::from_slice(&answer.payload)
        .map_err(|error| ApiError::Failed(format!("the answer to {api} cannot be read: {error}")))?;
    match answer {
        Answer::Error { error } if NOT_ENABLED_CODES.contains(&error.err_code) => {
            Err(ApiError::NoJetStream(error.description))
        }
        Answer::Error { error } if NOT_FOUND_CODES.contains(&error.err_code) => {
            Err(ApiError::NotFound(error.description))
        }
        Answer::Error { error } => Err(ApiError::Refused {
            api: api.to_owned(),
            description: error.description,
        }),
        Answer::Ok(answer) => Ok(answer),
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer<T> {
    Error { error: ServerError },
    Ok(T),
}

#[derive(Deserialize)]
struct ServerError {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}
