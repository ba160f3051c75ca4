//! What a request to the Keptn API has to carry to be let in.

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use secrecy::ExposeSecret;

use super::oauth::{Oauth, OauthError, OauthReport};
use crate::config::ApiConfig;
use crate::secret::{Secret, SecretError, without_secrets};
use crate::tls::Trust;

/// The header with the API token.
const X_TOKEN: &str = "x-token";

/// The tokens of the configuration. Cheap to clone: clones share them.
#[derive(Debug, Clone)]
pub struct Access {
    token: Option<Secret>,
    oauth: Option<Oauth>,
}

/// Which tokens a request was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    token: u64,
    oauth: u64,
}

/// Why no token can be had.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The configured token cannot stand in a header.
    #[error("KEPTN_API_TOKEN holds a character that no HTTP header may have")]
    Token,
    /// Its file.
    #[error("{0}")]
    Secret(#[from] SecretError),
    /// The identity provider.
    #[error("{0}")]
    Oauth(#[from] OauthError),
}

impl Access {
    /// Nothing is asked for before the first call.
    pub fn new(config: &ApiConfig) -> Self {
        let trust = Trust::verifying(config.verify_certificates);
        let oauth = config.oauth.as_ref();
        Self {
            token: config.token.clone(),
            oauth: oauth.map(|oauth| Oauth::new(oauth, config.timeout, trust)),
        }
    }

    /// Finds out where OAuth tokens come from, if a discovery document has to say so. Without this it is done when the
    /// first token is needed; at start a mistake shows at once.
    ///
    /// # Errors
    /// What is wrong with the document.
    pub async fn discover(&self) -> Result<(), AccessError> {
        match &self.oauth {
            Some(oauth) => Ok(oauth.discover().await?),
            None => Ok(()),
        }
    }

    /// How it is about tokens of OAuth, if there are to be any.
    pub fn oauth_report(&self) -> Option<OauthReport> {
        self.oauth.as_ref().map(Oauth::report)
    }

    /// Puts what is needed into the headers of a request, in place of what stands there. What it returns says which
    /// tokens these are. Only for requests to the API itself.
    ///
    /// # Errors
    /// Why no token can be had.
    pub async fn authorize(&self, headers: &mut HeaderMap) -> Result<Generation, AccessError> {
        let mut generation = Generation { token: 0, oauth: 0 };
        if let Some(oauth) = &self.oauth {
            let (value, number) = oauth.authorization().await?;
            headers.insert(AUTHORIZATION, value);
            generation.oauth = number;
        }
        if let Some(token) = &self.token {
            let token = token.current()?;
            let mut value = HeaderValue::from_str(token.value.expose_secret()).map_err(|_| AccessError::Token)?;
            value.set_sensitive(true);
            headers.insert(X_TOKEN, value);
            generation.token = token.version;
        }
        Ok(generation)
    }

    /// The API does not take these tokens. True if others can be had.
    pub fn refused(&self, used: Generation) -> bool {
        let token = self.token.as_ref();
        let has_other_token = token.is_some_and(|token| token.current_now().is_ok_and(|now| now.version != used.token));
        let has_other_oauth = self.oauth.as_ref().is_some_and(|oauth| oauth.refused(used.oauth));
        has_other_token || has_other_oauth
    }

    /// What the API says, for a log line, unless it repeats one of the tokens.
    pub fn without_tokens(&self, message: String) -> String {
        let message = match self.token.as_ref().map(Secret::current) {
            Some(Ok(token)) => without_secrets(message, &[token.value.expose_secret()]),
            _ => message,
        };
        match &self.oauth {
            Some(oauth) => oauth.without_token(message),
            None => message,
        }
    }
}
