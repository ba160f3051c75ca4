//! The identity provider: gives tokens to clients that show their credentials (RFC 6749, section 4.4).
//!
//! Called by `gateway`. It must not know what tokens are used for.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use tokio::time::Instant;

use super::answer::Answer;
use super::ids::new_id;
use super::target::decoded;
use crate::journal::ReceivedRequest;

/// Who gets tokens, and which there are.
#[derive(Debug, Default)]
pub(super) struct Identity {
    client: Option<Client>,
    /// Until when each counts.
    tokens: HashMap<String, Instant>,
}

#[derive(Debug)]
struct Client {
    id: String,
    secret: String,
    life: Duration,
}

impl Identity {
    pub(super) fn require(&mut self, id: &str, secret: &str, life: Duration) {
        self.client = Some(Client {
            id: id.to_owned(),
            secret: secret.to_owned(),
            life,
        });
    }

    pub(super) fn revoke(&mut self) {
        self.tokens.clear();
    }

    /// Whether this token counts, if one is needed at all.
    pub(super) fn lets_in(&self, token: &str) -> bool {
        self.client.is_none() || self.tokens.get(token).is_some_and(|end| Instant::now() < *end)
    }

    /// The discovery document of a provider at this host and port.
    pub(super) fn document(host: &str) -> Answer {
        let issuer = format!("http://{host}");
        let document = json!({
            "issuer": issuer,
            "token_endpoint": format!("{issuer}/token"),
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        });
        Answer::json(200, &document)
    }

    /// Answers a request for a token.
    pub(super) fn token(&mut self, request: &ReceivedRequest) -> Answer {
        let refused = |status, error: &str| Answer::json(status, &json!({ "error": error }));
        let body = String::from_utf8_lossy(&request.body);
        let field = |wanted: &str| {
            let fields = body.split('&').filter_map(|field| field.split_once('='));
            let mut values = fields.filter(|(name, _)| *name == wanted);
            values.next().map(|(_, value)| decoded(value, true))
        };
        let shown = in_header(request).or_else(|| Some((field("client_id")?, field("client_secret")?)));
        let known = self.client.as_ref();
        let Some(client) = known.filter(|known| shown == Some((known.id.clone(), known.secret.clone()))) else {
            return refused(401, "invalid_client");
        };
        if field("grant_type").as_deref() != Some("client_credentials") {
            return refused(400, "unsupported_grant_type");
        }
        let token = new_id();
        self.tokens.insert(token.clone(), Instant::now() + client.life);
        let mut answer = json!({
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": client.life.as_secs(),
        });
        if let Some(scope) = field("scope") {
            answer["scope"] = scope.into();
        }
        Answer::json(200, &answer)
    }
}

/// Both parts are escaped before they are put together.
fn in_header(request: &ReceivedRequest) -> Option<(String, String)> {
    let encoded = request.header("authorization")?.strip_prefix("Basic ")?;
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((decoded(id, true), decoded(secret, true)))
}
