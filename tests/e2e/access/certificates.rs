//! Certificates: of the service, of the Keptn API, of the identity provider.

use serde_json::json;
use tempfile::TempDir;
use test_support::{Authority, Recipient, Reply, TlsFront};

use super::rig::{Rig, call};
use crate::harness::*;

/// A server with TLS, and the file with the certificate of its CA.
struct Tls {
    front: TlsFront,
    folder: TempDir,
}

impl Tls {
    async fn before(server: &Recipient) -> Self {
        let authority = Authority::new().unwrap();
        let front = TlsFront::start(&authority.issue().unwrap(), server.address()).await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), &authority.certificate).unwrap();
        Self {
            front: front.unwrap(),
            folder,
        }
    }

    fn ca_file(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }

    fn other_ca_file(&self) -> String {
        let path = self.folder.path().join("other.pem");
        std::fs::write(&path, Authority::new().unwrap().certificate).unwrap();
        path.display().to_string()
    }
}

#[tokio::test]
async fn events_are_delivered_over_https_to_a_service_that_proves_who_it_is() {
    let peers = Peers::start().await;
    let tls = Tls::before(&peers.recipient).await;
    let (port, ca) = (tls.front.port().to_string(), tls.ca_file());
    let process = peers
        .process(&[
            ALL_TOPICS,
            ("PUBSUB_RECIPIENT", "https://localhost"),
            ("PUBSUB_RECIPIENT_PORT", &port),
            ("SSL_CERT_FILE", &ca),
        ])
        .await;
    peers.publish_all(events("tls", 3)).await;
    assert_eq!(peers.delivered_ids(3).await, numbered_ids("tls", 3));
    assert_eq!(lines_with(&process, "issuer"), Vec::<String>::new());
}

#[tokio::test]
async fn a_service_whose_ca_is_unknown_gets_nothing_until_that_is_changed() {
    let peers = Peers::start().await;
    let tls = Tls::before(&peers.recipient).await;
    let (port, ca) = (tls.front.port().to_string(), tls.other_ca_file());
    let variables = [
        ALL_TOPICS,
        ("PUBSUB_RECIPIENT", "https://localhost"),
        ("PUBSUB_RECIPIENT_PORT", &port),
        ("SSL_CERT_FILE", &ca),
    ];
    let process = peers.process(&variables).await;
    peers.publish(&event("held-back")).await;
    process.wait_for_log("SSL_CERT_FILE", SOON).await.unwrap();
    let line = process.wait_for_log("HTTP_SSL_VERIFY", SOON).await.unwrap();
    assert!(line.contains("issuer of the server's certificate is unknown"), "{line}");
    assert_eq!(peers.recipient.n_received(), 0);

    let all: Vec<_> = variables.into_iter().chain([("HTTP_SSL_VERIFY", "false")]).collect();
    let _process = peers.process(&all).await;
    peers.publish(&event("taken")).await;
    assert_eq!(peers.delivered_ids(1).await, ["taken"]);
}

#[tokio::test]
async fn without_any_root_certificate_plain_http_works_and_https_says_what_is_missing() {
    let peers = Peers::start().await;
    let tls = Tls::before(&peers.recipient).await;
    let nothing = [("SSL_CERT_FILE", "/nowhere.pem"), ("SSL_CERT_DIR", "/nowhere")];
    let _plain = peers.process(&[ALL_TOPICS, nothing[0], nothing[1]]).await;
    peers.publish(&event("plain")).await;
    assert_eq!(peers.delivered_ids(1).await, ["plain"]);

    let port = tls.front.port().to_string();
    let process = peers
        .process(&[
            ALL_TOPICS,
            ("PUBSUB_RECIPIENT", "https://localhost"),
            ("PUBSUB_RECIPIENT_PORT", &port),
            nothing[0],
            nothing[1],
        ])
        .await;
    peers.publish(&event("over-tls")).await;
    let line = process.wait_for_log("no root certificates", SOON).await.unwrap();
    assert!(line.contains("SSL_CERT_FILE"), "{line}");
}

#[tokio::test]
async fn calls_to_the_api_are_verified_or_not_as_configured() {
    let rig = Rig::start().await;
    let (api_tls, provider_tls) = (Tls::before(&rig.api).await, Tls::before(&rig.provider).await);
    let endpoint = format!("https://localhost:{}/api", api_tls.front.port());
    let token_url = format!("https://127.0.0.1:{}/token", provider_tls.front.port());
    let with_provider = [
        ("KEPTN_API_ENDPOINT", endpoint.as_str()),
        ("OAUTH_TOKEN_URL", token_url.as_str()),
    ];
    let without_provider = [("KEPTN_API_ENDPOINT", endpoint.as_str()), ("OAUTH_CLIENT_ID", "")];
    for variables in [&with_provider[..], &without_provider] {
        let error = call(&rig.client(variables)).await.unwrap_err().to_string();
        assert!(
            error.contains("certificate") && error.contains("SSL_CERT_FILE"),
            "{error}"
        );
        assert_eq!((rig.api.n_received(), rig.provider.n_received()), (0, 0));
    }
    for variables in [&with_provider[..], &without_provider] {
        let variables: Vec<_> = variables
            .iter()
            .copied()
            .chain([("HTTP_SSL_VERIFY", "false")])
            .collect();
        call(&rig.client(&variables)).await.unwrap();
    }
    assert_eq!((rig.api.n_received(), rig.provider.n_received()), (2, 1));
}

#[tokio::test]
async fn discovery_at_start_trusts_whom_the_system_trusts() {
    let peers = Peers::start().await;
    let provider = Recipient::start().await.unwrap();
    provider.respond_with(|_, _| Reply::json(200, &json!({"token_endpoint": "http://localhost/token"})));
    let tls = Tls::before(&provider).await;
    let discovery = format!("https://localhost:{}/discovery", tls.front.port());
    let (ca, other_ca) = (tls.ca_file(), tls.other_ca_file());
    let variables = |ca| {
        [
            ("OAUTH_CLIENT_ID", "id"),
            ("OAUTH_CLIENT_SECRET", "hunter2-secret"),
            ("OAUTH_SCOPES", "a"),
            ("OAUTH_DISCOVERY", discovery.as_str()),
            ("SSL_CERT_FILE", ca),
        ]
    };
    let mut refused = peers.starting_process(&variables(&other_ca));
    assert_eq!(exit_code(&mut refused).await, 1);
    let said = lines_with(&refused, "OAUTH_DISCOVERY").concat();
    assert!(said.contains("SSL_CERT_FILE"), "{said}");

    let _process = peers.process(&variables(&ca)).await;
    assert_eq!(provider.n_received(), 1);
}
