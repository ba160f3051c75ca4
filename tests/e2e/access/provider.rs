//! OAuth with a certified `OpenID` provider, and an API that lets in only whom the provider confirms.

use std::path::{Path, PathBuf};
use std::time::Duration;

use distributor::keptn_api::KeptnApi;
use futures_util::future::join_all;
use serde_json::Value;
use test_support::{ChildProcess, OutputTo, eventually, http_request};
use tokio::process::Command;

use super::rig::{call, client_with};
use crate::harness::SOON;

const BASIC: &str = "basic:1";
const POST: &str = "post:1";

/// `tests/fixtures/identity-provider`, running.
struct Provider {
    port: u16,
    _process: ChildProcess,
}

impl Provider {
    async fn start(format: &str, life: Duration) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        #[expect(clippy::disallowed_methods, reason = "where tools are is not configuration")]
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        let modules = target.join("tools/identity-provider");
        assert!(
            modules.is_dir(),
            "the identity provider is missing: `make setup` installs it"
        );
        let mut command = Command::new("node");
        command
            .arg(root.join("tests/fixtures/identity-provider/server.mjs"))
            .env("MODULES", modules.canonicalize().unwrap())
            .env("FORMAT", format)
            .env("LIFE_SECONDS", life.as_secs().to_string());
        let process = ChildProcess::start(command, OutputTo::Memory).expect("node is there (Node.js 20 or newer)");
        let line = process.output().wait_for("listening on", SOON).await.unwrap();
        Self {
            port: line.rsplit(' ').next().unwrap().parse().unwrap(),
            _process: process,
        }
    }

    fn client(&self, id: &str) -> KeptnApi {
        let base = format!("http://127.0.0.1:{}", self.port);
        client_with(&[
            ("KEPTN_API_ENDPOINT", &format!("{base}/api")),
            ("OAUTH_CLIENT_ID", id),
            ("OAUTH_CLIENT_SECRET", super::rig::SECRET),
            ("OAUTH_SCOPES", "keptn:read, keptn:write"),
            ("OAUTH_DISCOVERY", &format!("{base}/.well-known/openid-configuration")),
        ])
    }

    async fn rotate_keys(&self) {
        assert_eq!(self.ask("POST", "/rotate").await, serde_json::json!({}));
    }

    /// What the provider and the API count.
    async fn n(&self, what: &str) -> u64 {
        self.ask("GET", "/seen").await[what].as_u64().unwrap()
    }

    async fn ask(&self, method: &str, path: &str) -> Value {
        let answer = http_request(([127, 0, 0, 1], self.port).into(), method, path, &[], "").await;
        serde_json::from_slice(&answer.unwrap().body).unwrap()
    }
}

#[tokio::test]
async fn both_ways_to_show_credentials_are_taken() {
    for format in ["opaque", "jwt"] {
        let provider = Provider::start(format, Duration::from_mins(1)).await;
        for id in [BASIC, POST] {
            let api = provider.client(id);
            api.access().discover().await.unwrap();
            for called in join_all((0..20).map(|_| call(&api))).await {
                called.unwrap_or_else(|error| panic!("{format} {id}: {error}"));
            }
        }
        assert_eq!(
            (
                provider.n("accepted").await,
                provider.n("refused").await,
                provider.n("tokens").await
            ),
            (40, 0, 2),
            "{format}"
        );
    }
}

#[tokio::test]
async fn tokens_of_a_short_life_are_renewed_before_the_api_refuses_one() {
    let provider = Provider::start("opaque", Duration::from_secs(4)).await;
    let api = provider.client(BASIC);
    let renewed = eventually(SOON, async || {
        call(&api).await.unwrap();
        provider.n("tokens").await >= 5
    });
    renewed.await.unwrap();
    assert_eq!(provider.n("refused").await, 0);
}

#[tokio::test]
async fn after_a_change_of_keys_one_call_is_refused_and_made_again() {
    for format in ["opaque", "jwt"] {
        let provider = Provider::start(format, Duration::from_hours(1)).await;
        let api = provider.client(POST);
        call(&api).await.unwrap();
        provider.rotate_keys().await;
        for _ in 0..10 {
            call(&api).await.unwrap();
        }
        assert_eq!(
            (
                provider.n("accepted").await,
                provider.n("refused").await,
                provider.n("tokens").await
            ),
            (11, 1, 2),
            "{format}"
        );
    }
}

#[tokio::test]
async fn an_unknown_client_is_told_so() {
    let provider = Provider::start("opaque", Duration::from_mins(1)).await;
    let error = call(&provider.client("stranger")).await.unwrap_err().to_string();
    assert!(error.contains("invalid_client"), "{error}");
    assert_eq!(provider.n("refused").await, 0);
}
