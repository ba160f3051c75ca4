//! The requests to an identity provider: the discovery document, and a token with the client's credentials.
//!
//! Called by [`super`], one request at a time. The order in which credentials are tried, and what the requests look like,
//! byte for byte, are the original's. The crate `oauth2` does not read answers in the form that the original accepts and
//! escapes credentials in another way.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::OnceCell;
use url::Url;

use super::OauthError;
use super::answer::{self, Token};
use crate::config::{OauthConfig, TokenSource, report};
use crate::keptn_api::client;
use crate::secret::{query_escaped, without_secrets};
use crate::tls::Trust;

const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(10);
/// For a token, where API calls have no limit: others wait for it.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Of what a provider says, so much is shown.
const MAX_MESSAGE_CHARS: usize = 200;

/// Where the credentials stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Header,
    Body,
}

#[derive(Debug)]
pub(super) struct TokenRequests {
    config: OauthConfig,
    timeout: Duration,
    trust: Trust,
    endpoint: OnceCell<Endpoint>,
    /// The one that worked.
    style: Mutex<Option<Style>>,
}

/// Where tokens come from.
#[derive(Debug)]
pub(super) struct Endpoint {
    client: reqwest::Client,
    url: Url,
}

#[derive(Deserialize)]
struct Discovery {
    token_endpoint: Option<String>,
}

impl TokenRequests {
    pub(super) fn new(config: &OauthConfig, timeout: Option<Duration>, trust: Trust) -> Self {
        Self {
            config: config.clone(),
            timeout: timeout.unwrap_or(LONGEST_WAIT),
            trust,
            endpoint: OnceCell::new(),
            style: Mutex::default(),
        }
    }

    /// Looks the token endpoint up, once it works never again.
    pub(super) async fn endpoint(&self) -> Result<&Endpoint, OauthError> {
        let found = self.endpoint.get_or_try_init(async || {
            let url = match &self.config.tokens {
                TokenSource::Url(url) => url.clone(),
                TokenSource::Discovery(url) => self.discover(url).await.map_err(|problem| {
                    let url = report::without_password(url.as_str());
                    OauthError::Discovery(format!("{url} {problem}"))
                })?,
            };
            let client = client::new(Some(&url), self.trust).map_err(|error| OauthError::Token(error.to_string()))?;
            Ok(Endpoint { client, url })
        });
        found.await
    }

    async fn discover(&self, url: &Url) -> Result<Url, String> {
        let client = client::new(Some(url), self.trust).map_err(|error| error.to_string())?;
        let request = client.get(url.clone()).timeout(DISCOVERY_TIMEOUT);
        let answer = exchange(request).await?;
        if answer.status != StatusCode::OK {
            return Err(format!("answered {} instead of 200", answer.status));
        }
        let document: Discovery =
            serde_json::from_slice(&answer.body).map_err(|error| format!("is no discovery document: {error}"))?;
        let endpoint = document.token_endpoint.filter(|endpoint| !endpoint.is_empty());
        let endpoint = endpoint.ok_or("has no token_endpoint")?;
        let problem = || format!("has a token_endpoint that is no http or https URL: {endpoint:?}");
        Url::parse(&endpoint)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(problem)
    }

    /// Asks for a token: in the style that worked before, or else in both, one after the other.
    pub(super) async fn token(&self) -> Result<Token, OauthError> {
        let endpoint = self.endpoint().await?;
        let secret = self.config.client_secret.current();
        let secret = secret.map_err(|error| OauthError::Token(error.to_string()))?.value;
        let known = *self.style.lock().unwrap_or_else(PoisonError::into_inner);
        let styles = known.map_or(vec![Style::Header, Style::Body], |style| vec![style]);
        let mut problems: Vec<String> = Vec::new();
        for style in styles {
            match self.ask(endpoint, style, &secret).await {
                Ok(token) => {
                    *self.style.lock().unwrap_or_else(PoisonError::into_inner) = Some(style);
                    return Ok(token);
                }
                Err(problem) if problems.contains(&problem) => {}
                Err(problem) => problems.push(problem),
            }
        }
        let url = report::without_password(endpoint.url.as_str());
        let problems = problems.join("; with the credentials in the body it ");
        Err(OauthError::Token(format!("{url} {problems}")))
    }

    async fn ask(&self, endpoint: &Endpoint, style: Style, secret: &SecretString) -> Result<Token, String> {
        let (headers, body) = self.credentials(style, secret);
        let request = endpoint.client.post(endpoint.url.clone()).timeout(self.timeout);
        let answer = exchange(request.headers(headers).body(body)).await?;
        let said = if answer.status.is_success() {
            answer::token(&answer.content_type, &answer.body)
        } else {
            let reason = answer::reason(&answer.content_type, &answer.body);
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            Err(format!("answered {}{reason}", answer.status))
        };
        said.map_err(|problem| {
            let credentials = self.basic(secret);
            let shown = without_secrets(problem, &[secret.expose_secret(), credentials.expose_secret()]);
            let shown = shown.chars().map(|c| if c.is_control() { ' ' } else { c });
            shown.take(MAX_MESSAGE_CHARS).collect()
        })
    }

    /// Header and body as the original writes them: the names in the order of the alphabet.
    fn credentials(&self, style: Style, secret: &SecretString) -> (HeaderMap, String) {
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        let scope = query_escaped(&self.config.scopes.join(" "));
        let grant = format!("grant_type=client_credentials&scope={scope}");
        match style {
            Style::Header => {
                let encoded = BASE64_STANDARD.encode(self.basic(secret).expose_secret());
                let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).expect("base64 is plain ASCII");
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
                (headers, grant)
            }
            Style::Body => {
                let id = query_escaped(&self.config.client_id);
                let secret = query_escaped(secret.expose_secret());
                (headers, format!("client_id={id}&client_secret={secret}&{grant}"))
            }
        }
    }

    fn basic(&self, secret: &SecretString) -> SecretString {
        let id = query_escaped(&self.config.client_id);
        SecretString::from(format!("{id}:{}", query_escaped(secret.expose_secret())))
    }
}

struct Answer {
    status: StatusCode,
    content_type: String,
    body: Vec<u8>,
}

async fn exchange(request: reqwest::RequestBuilder) -> Result<Answer, String> {
    let mut response = request.send().await.map_err(unreachable)?;
    let content_type = response.headers().get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (status, content_type) = (response.status(), content_type.to_owned());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(format!("answered {status} with more than {MAX_ANSWER_BYTES} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer {
        status,
        content_type,
        body,
    })
}

fn unreachable(error: reqwest::Error) -> String {
    format!("gave no answer: {}", client::reason(error))
}
