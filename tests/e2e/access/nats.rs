//! How NATS servers let the distributor in: credentials in files, TLS, certificates of clients.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::{Authority, Certificate, DistributorProcess, NatsServer, NatsVersion, eventually};

use crate::harness::*;

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn certificate(&self, name: &str, certificate: &Certificate) -> [String; 2] {
        [
            self.write(&format!("{name}.pem"), &certificate.certificate),
            self.write(&format!("{name}.key"), &certificate.key),
        ]
    }
}

fn start(url: &str, variables: &[(&str, &str)]) -> DistributorProcess {
    let environment: Vec<_> = variables.iter().copied().chain([("PUBSUB_URL", url)]).collect();
    DistributorProcess::start(Path::new(BINARY), &environment).unwrap()
}

async fn connects(process: &DistributorProcess) {
    process.wait_for_log("connected to NATS", SOON).await.unwrap();
}

async fn is_refused(process: &DistributorProcess, why: &str) {
    let line = process.wait_for_log("cannot connect to NATS", SOON).await.unwrap();
    assert!(line.to_lowercase().contains(why), "{line}");
}

#[tokio::test]
async fn a_password_that_is_replaced_on_disk_counts_from_the_next_connection_on() {
    let files = Files::new();
    let password = files.write("password", "wrong-password\n");
    let builder = NatsServer::builder().config_lines("authorization { user: sidecar, password: right-password }");
    let server = builder.start().await.unwrap();
    let process = start(
        &server.url(),
        &[("NATS_USER", "sidecar"), ("NATS_PASSWORD_FILE", &password)],
    );
    is_refused(&process, "authorization").await;
    files.write("password", "right-password\n");
    connects(&process).await;
}

#[tokio::test]
async fn a_token_is_shown_in_place_of_what_the_url_says() {
    let builder = NatsServer::builder().config_lines("authorization { token: right-token }");
    let server = builder.start().await.unwrap();
    let url = server.url().replace("nats://", "nats://user:wrong@");
    connects(&start(&url, &[("NATS_TOKEN", "right-token")])).await;
    is_refused(&start(&url, &[("NATS_TOKEN", "other-token")]), "authorization").await;
}

#[tokio::test]
async fn a_server_with_tls_is_trusted_by_its_ca() {
    let (files, authority) = (Files::new(), Authority::new().unwrap());
    let [certificate, key] = files.certificate("server", &authority.issue().unwrap());
    let lines = format!("tls {{ cert_file: '{certificate}', key_file: '{key}' }}");
    let ca = files.write("ca.pem", &authority.certificate);
    let other_ca = files.write("other.pem", &Authority::new().unwrap().certificate);

    for (version, scheme) in NatsVersion::ALL
        .into_iter()
        .flat_map(|version| [(version, "tls"), (version, "nats")])
    {
        let builder = NatsServer::builder().version(version).config_lines(&lines);
        let server = builder.start().await.unwrap();
        let url = format!("{scheme}://localhost:{}", server.port());
        connects(&start(&url, &[("SSL_CERT_FILE", &ca)])).await;
        // NATS is verified whatever HTTP_SSL_VERIFY says.
        let variables = [("SSL_CERT_FILE", other_ca.as_str()), ("HTTP_SSL_VERIFY", "false")];
        is_refused(&start(&url, &variables), "").await;
    }
}

#[tokio::test]
async fn a_client_certificate_is_read_again_for_each_connection() {
    let (files, authority) = (Files::new(), Authority::new().unwrap());
    let [certificate, key] = files.certificate("server", &authority.issue().unwrap());
    let ca = files.write("ca.pem", &authority.certificate);
    let lines = format!("tls {{ cert_file: '{certificate}', key_file: '{key}', ca_file: '{ca}', verify: true }}");
    for version in NatsVersion::ALL {
        let builder = NatsServer::builder().version(version).config_lines(&lines);
        let server = builder.start().await.unwrap();
        let stranger = Authority::new().unwrap().issue().unwrap();
        let [client, client_key] = files.certificate("client", &stranger);
        let variables = [
            ("SSL_CERT_FILE", ca.as_str()),
            ("NATS_TLS_CERT_FILE", &client),
            ("NATS_TLS_KEY_FILE", &client_key),
        ];
        let process = start(&format!("tls://localhost:{}", server.port()), &variables);
        is_refused(&process, "").await;
        files.certificate("client", &authority.issue().unwrap());
        connects(&process).await;
    }
}

#[tokio::test]
async fn a_password_that_is_replaced_here_and_there_costs_one_connection() {
    let lines = |password: &str| format!("authorization {{ user: sidecar, password: {password} }}");
    for version in NatsVersion::ALL {
        let files = Files::new();
        let password = files.write("password", "first-password\n");
        let builder = NatsServer::builder().version(version);
        let mut server = builder.config_lines(&lines("first-password")).start().await.unwrap();
        let variables = [("NATS_USER", "sidecar"), ("NATS_PASSWORD_FILE", password.as_str())];
        let process = start(&server.url(), &variables);
        connects(&process).await;

        files.write("password", "second-password\n");
        let changed = lines("second-password");
        // The server closes the connections of those whose password it changes.
        let reloaded = server.reload_with(|settings| settings.config_lines(&changed)).await;
        reloaded.unwrap();
        let is_back = async || lines_with(&process, "connected to NATS").len() == 2;
        eventually(SOON, is_back).await.unwrap();
    }
}

#[tokio::test]
async fn a_credentials_file_lets_in_and_a_broken_one_says_so() {
    let (files, operator, account) = (Files::new(), KeyPair::new_operator(), KeyPair::new_account());
    let operator_jwt = jwt(&operator, &operator, &json!({"type": "operator", "version": 2}));
    let limits = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
        "wildcards": true, "conn": -1, "leaf": -1});
    let claims = json!({"type": "account", "version": 2, "limits": limits});
    let account_jwt = jwt(&operator, &account, &claims);
    let user = KeyPair::new_user();
    let claims = json!({"type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1});
    let (user_jwt, seed) = (jwt(&account, &user, &claims), user.seed().unwrap());
    let lines = format!(
        "operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{ {}: {account_jwt} }}",
        account.public_key()
    );
    let content = format!(
        "-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    for version in NatsVersion::ALL {
        let builder = NatsServer::builder().version(version).config_lines(&lines);
        let server = builder.start().await.unwrap();
        let creds = files.write("user.creds", "nothing of use");
        let process = start(&server.url(), &[("NATS_CREDS_FILE", &creds)]);
        is_refused(&process, "").await;
        process.wait_for_log("holds no JWT", SOON).await.unwrap();
        files.write("user.creds", &content);
        connects(&process).await;
    }
}

fn jwt(issuer: &KeyPair, subject: &KeyPair, claims: &Value) -> String {
    let encoded = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let header = encoded(&json!({"typ": "JWT", "alg": "ed25519-nkey"}));
    let body = encoded(&json!({
        "jti": subject.public_key(),
        "iat": 1_700_000_000,
        "iss": issuer.public_key(),
        "sub": subject.public_key(),
        "name": "test",
        "nats": claims,
    }));
    let signed = format!("{header}.{body}");
    let signature = BASE64_URL_SAFE_NO_PAD.encode(issuer.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}
