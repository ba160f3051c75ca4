//! A client of the Keptn API, an API, and an identity provider that does as it is told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use distributor::config::{self, ApiService};
use distributor::keptn_api::{Call, CallError, KeptnApi};
use http::Method;
use serde_json::json;
use test_support::{ReceivedRequest, Recipient, Reply};

pub(crate) const ID: &str = "id:1";
pub(crate) const SECRET: &str = "hunter2/s ecret";

/// The API and the provider are both here, in a journal each.
pub(crate) struct Rig {
    pub(crate) api: Recipient,
    pub(crate) provider: Recipient,
}

impl Rig {
    /// An API that lets everybody in, and a provider that gives `token-0`, `token-1` and so on, without an end.
    pub(crate) async fn start() -> Self {
        let rig = Self {
            api: Recipient::start().await.unwrap(),
            provider: Recipient::start().await.unwrap(),
        };
        rig.api.respond_with(|_, _| Reply::json(200, &json!({})));
        rig.give_tokens(&json!({}));
        rig
    }

    /// The provider adds these fields to each answer.
    pub(crate) fn give_tokens(&self, fields: &serde_json::Value) {
        let given = Arc::new(AtomicUsize::new(0));
        let fields = fields.clone();
        self.provider.respond_with(move |_, _| {
            let number = given.fetch_add(1, Ordering::Relaxed);
            Reply::json(200, &token(number, &fields))
        });
    }

    /// The API takes only this token.
    pub(crate) fn accept_only(&self, token: &str) {
        let expected = format!("Bearer {token}");
        self.api.respond_with(move |request, _| {
            let is_in = request.header("authorization") == Some(&expected);
            Reply::json(if is_in { 200 } else { 401 }, &json!({"message": "who are you?"}))
        });
    }

    /// With everything that OAuth needs; later variables win.
    pub(crate) fn client(&self, variables: &[(&str, &str)]) -> KeptnApi {
        let endpoint = format!("http://{}/api", self.api.address());
        let token_url = format!("http://{}/token", self.provider.address());
        let own = [
            ("KEPTN_API_ENDPOINT", endpoint.as_str()),
            ("OAUTH_CLIENT_ID", ID),
            ("OAUTH_CLIENT_SECRET", SECRET),
            ("OAUTH_SCOPES", "a, b"),
            ("OAUTH_TOKEN_URL", &token_url),
        ];
        let all: Vec<_> = own.into_iter().chain(variables.iter().copied()).collect();
        client_with(&all)
    }

    pub(crate) fn discovery_url(&self) -> String {
        format!("http://{}/.well-known/openid-configuration", self.provider.address())
    }

    /// The `Authorization` of every request to the API so far.
    pub(crate) fn shown(&self) -> Vec<String> {
        let shown = |request: &ReceivedRequest| request.header("authorization").unwrap_or_default().to_owned();
        self.api.journal().iter().map(shown).collect()
    }
}

pub(crate) fn token(number: usize, fields: &serde_json::Value) -> serde_json::Value {
    let mut answer = json!({"access_token": format!("token-{number}"), "token_type": "bearer"});
    for (name, value) in fields.as_object().unwrap() {
        answer[name] = value.clone();
    }
    answer
}

/// A client of nothing but these variables.
pub(crate) fn client_with(variables: &[(&str, &str)]) -> KeptnApi {
    let environment: HashMap<_, _> = variables.iter().copied().collect();
    let config = config::from_env(&|name| environment.get(name).map(|value| (*value).to_owned()));
    KeptnApi::new(&config.unwrap().api).unwrap()
}

/// Any call.
pub(crate) async fn call(api: &KeptnApi) -> Result<Bytes, CallError> {
    let url = api.url(ApiService::ControlPlane, "v1/uniform/registration");
    let call = Call {
        method: Method::GET,
        url,
        body: None,
    };
    api.call(call).await
}
