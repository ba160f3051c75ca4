//! What a request to the Keptn API has to carry to be let in.

use http::{HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::config::ApiConfig;

/// The header with the API token.
const X_TOKEN: &str = "x-token";

/// The tokens of the configuration. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Access {
    token: Option<SecretString>,
}

/// Which token a request was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation(u64);

/// Why no token can be had.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The configured token cannot stand in a header.
    #[error("KEPTN_API_TOKEN holds a character that no HTTP header may have")]
    Token,
}

impl Access {
    /// Nothing is asked for before the first call.
    pub fn new(config: &ApiConfig) -> Self {
        Self {
            token: config.token.clone(),
        }
    }

    /// Puts what is needed into the headers of a request. What it returns says which token that is.
    ///
    /// # Errors
    /// Why no token can be had.
    #[expect(clippy::unused_async, reason = "a token may have to be asked for")]
    pub async fn authorize(&self, headers: &mut HeaderMap) -> Result<Generation, AccessError> {
        if let Some(token) = &self.token {
            let mut value = HeaderValue::from_str(token.expose_secret()).map_err(|_| AccessError::Token)?;
            value.set_sensitive(true);
            headers.insert(X_TOKEN, value);
        }
        Ok(Generation(0))
    }

    /// The API does not take this token. True if another one can be had.
    pub fn refused(&self, _token: Generation) -> bool {
        false
    }
}
