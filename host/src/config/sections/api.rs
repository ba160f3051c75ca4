//! The Keptn API, and who lets us in there.
//!
//! Called by [`super::super::from_env`].

use std::time::Duration;

use url::Url;

use super::super::read::Reader;
use super::super::report::without_password;
use super::super::variables as var;
use super::super::{ApiConfig, ApiEndpoint, OauthConfig, TokenSource};
use super::secret;

pub(in crate::config) fn endpoint(reader: &mut Reader<'_>) -> ApiEndpoint {
    let text = reader.text(&var::KEPTN_API_ENDPOINT);
    ApiEndpoint::parse(&text).unwrap_or_else(|problem| {
        reader.problem(
            &var::KEPTN_API_ENDPOINT,
            format!("{:?} {problem}", without_password(&text)),
        );
        ApiEndpoint::InCluster
    })
}

pub(in crate::config) fn api(reader: &mut Reader<'_>, endpoint: ApiEndpoint, verify_certificates: bool) -> ApiConfig {
    let timeout = u64::try_from(reader.seconds(&var::API_PROXY_HTTP_TIMEOUT)).unwrap_or(0);
    let polling_interval = u64::try_from(reader.seconds(&var::HTTP_POLLING_INTERVAL)).unwrap_or(0);
    ApiConfig {
        endpoint,
        token: secret(reader, &var::KEPTN_API_TOKEN, &var::KEPTN_API_TOKEN_FILE),
        timeout: (timeout > 0).then(|| Duration::from_secs(timeout)),
        // The original polls in a busy loop when it is 0.
        polling_interval: Duration::from_secs(polling_interval.max(1)),
        state_file: Some(reader.text(&var::DEDUPE_STATE_FILE))
            .filter(|path| !path.is_empty())
            .map(Into::into),
        verify_certificates,
        oauth: oauth(reader),
    }
}

/// As in the original, OAuth is on when everything it needs is there, and otherwise off.
fn oauth(reader: &mut Reader<'_>) -> Option<OauthConfig> {
    let client_id = reader.text(&var::OAUTH_CLIENT_ID);
    let scopes = reader.list(&var::OAUTH_SCOPES);
    let client_secret = secret(reader, &var::OAUTH_CLIENT_SECRET, &var::OAUTH_CLIENT_SECRET_FILE);
    let tokens = oauth_url(reader, &var::OAUTH_TOKEN_URL).map(TokenSource::Url);
    let tokens = tokens.or_else(|| oauth_url(reader, &var::OAUTH_DISCOVERY).map(TokenSource::Discovery));
    let (Some(client_secret), Some(tokens)) = (client_secret, tokens) else {
        return None;
    };
    (!client_id.is_empty() && !scopes.is_empty()).then_some(OauthConfig {
        client_id,
        client_secret,
        tokens,
        scopes,
    })
}

fn oauth_url(reader: &mut Reader<'_>, variable: &var::Variable) -> Option<Url> {
    let text = reader.text(variable);
    if text.is_empty() {
        return None;
    }
    let url = Url::parse(&text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"));
    if url.is_none() {
        reader.problem(
            variable,
            format!("{:?} is no http or https URL", without_password(&text)),
        );
    }
    url
}
