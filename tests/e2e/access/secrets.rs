//! Secrets never appear in anything that the distributor prints.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use test_support::{NatsServer, Recipient, Reply, Stream};

use crate::harness::*;

const API_TOKEN: &str = "apitoken/hunter2 x";
const CLIENT_SECRET: &str = "clientsecret/hunter3 y";
const BEARER: &str = "bearertoken.hunter4";
const NATS_PASSWORD: &str = "natspassword/hunter5";
const URL_PASSWORD: &str = "urlpassword-hunter6";
const PROXY_PASSWORD: &str = "proxypassword-hunter7";

/// Each secret as it is, percent-encoded, and in base64, wherever in a longer text it may stand there.
fn forms() -> Vec<String> {
    let secrets = [
        API_TOKEN,
        CLIENT_SECRET,
        BEARER,
        NATS_PASSWORD,
        URL_PASSWORD,
        PROXY_PASSWORD,
    ];
    let mut forms = Vec::new();
    for secret in secrets {
        let percent = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
        forms.extend([secret.to_owned(), percent.replace("%20", "+"), percent]);
        for n_before in 0..3 {
            let encoded = BASE64_STANDARD.encode("x".repeat(n_before) + secret);
            // The first and the last characters depend on what stands beside.
            forms.push(encoded[4..encoded.len() - 4].to_owned());
        }
    }
    forms
}

fn assert_nothing_leaks(what: &str, printed: &str) {
    assert!(!printed.is_empty(), "{what} printed nothing");
    for form in forms() {
        for line in printed.lines() {
            assert!(!line.contains(&form), "{what} printed {form}: {line}");
        }
    }
}

/// All of it repeats what it was sent.
fn echo(status: u16, request: &test_support::ReceivedRequest) -> Reply {
    let said = format!("{:?} {}", request.headers, String::from_utf8_lossy(&request.body));
    Reply::json(
        status,
        &json!({"error": "invalid_client", "error_description": said, "message": said}),
    )
}

#[tokio::test]
async fn nothing_that_goes_wrong_prints_a_secret() {
    let lines = format!("authorization {{ user: sidecar, password: '{NATS_PASSWORD}' }}");
    let nats = NatsServer::builder().config_lines(&lines).start().await.unwrap();
    let (recipient, provider) = (Recipient::start().await.unwrap(), Recipient::start().await.unwrap());
    let port = recipient.port().to_string();
    // In the cluster's way the services are reached by name, here through a proxy that is none.
    let proxy = format!("http://proxy:{PROXY_PASSWORD}@127.0.0.1:{}", provider.port());
    let token_url = format!("http://user:{URL_PASSWORD}@127.0.0.1:{}/token", provider.port());
    let url_with_password = nats.url().replace("nats://", &format!("nats://user:{URL_PASSWORD}@"));
    let common = [
        ("LOG_LEVEL", "trace,async_nats=trace"),
        ("PUBSUB_URL", url_with_password.as_str()),
        ("PUBSUB_TOPIC", "sh.keptn.>"),
        ("PUBSUB_RECIPIENT_PORT", &port),
        ("KEPTN_API_TOKEN", API_TOKEN),
        ("OAUTH_CLIENT_ID", "id"),
        ("OAUTH_CLIENT_SECRET", CLIENT_SECRET),
        ("OAUTH_SCOPES", "a"),
        ("OAUTH_TOKEN_URL", &token_url),
        ("K8S_DEPLOYMENT_NAME", "my-svc"),
        ("K8S_NAMESPACE", "ns"),
        ("REGISTRATION_INTERVAL", "100ms"),
        ("MAX_REGISTRATION_RETRIES", "4"),
        ("HTTP_PROXY", &proxy),
        ("NATS_USER", "sidecar"),
    ];
    let run = async |what: &str, more: &[(&str, &str)]| {
        let environment: Vec<_> = common.iter().copied().chain(more.iter().copied()).collect();
        let mut process = start_process(&environment);
        exit_code(&mut process).await;
        let printed = process.output().text(Stream::Stdout) + &process.output().text(Stream::Stderr);
        assert_nothing_leaks(what, &printed);
        printed
    };

    // The provider refuses us, and repeats the request.
    provider.respond_with(|request, _| echo(401, request));
    let printed = run("a provider that refuses", &[("NATS_PASSWORD", NATS_PASSWORD)]).await;
    assert!(
        printed.contains("invalid_client") || printed.contains("is not shown"),
        "{printed}"
    );
    // The API refuses our tokens, and repeats them; NATS does not take the password.
    provider.respond_with(|request, _| {
        if request.path.ends_with("/token") {
            Reply::json(200, &json!({"access_token": BEARER}))
        } else {
            echo(401, request)
        }
    });
    let printed = run("an API that refuses", &[("NATS_PASSWORD", CLIENT_SECRET)]).await;
    assert!(printed.contains("401") && printed.contains("is not shown"), "{printed}");
    // Nobody is there.
    let nobody = format!("http://proxy:{PROXY_PASSWORD}@127.0.0.1:1");
    let nobody = [("HTTP_PROXY", nobody.as_str()), ("NATS_PASSWORD", NATS_PASSWORD)];
    run("nobody there", &nobody).await;
    // Discovery ends the start.
    let discovery = format!("http://user:{URL_PASSWORD}@127.0.0.1:1/discovery");
    let discovery = [
        ("OAUTH_TOKEN_URL", ""),
        ("OAUTH_DISCOVERY", discovery.as_str()),
        ("NATS_PASSWORD", NATS_PASSWORD),
    ];
    let printed = run("discovery", &discovery).await;
    assert!(printed.contains("OAUTH_DISCOVERY"), "{printed}");
    // The configuration is wrong.
    let bad_url = format!("ftp://user:{URL_PASSWORD}@idp");
    let bad = [
        ("OAUTH_TOKEN_URL", bad_url.as_str()),
        ("KEPTN_API_ENDPOINT", &bad_url),
        ("NATS_PASSWORD", NATS_PASSWORD),
        ("NATS_TOKEN", BEARER),
        ("PUBSUB_RECIPIENT", &format!("http://user:{URL_PASSWORD}@host/path")),
        ("PUBSUB_URL", &format!("nats://user:{URL_PASSWORD}@:bad:port")),
    ];
    let printed = run("a wrong configuration", &bad).await;
    assert!(printed.contains("problem(s)"), "{printed}");

    let check: Vec<_> = common.into_iter().chain([("NATS_PASSWORD", NATS_PASSWORD)]).collect();
    let (exit_code, stdout, stderr) = run_to_end(&["check"], &check).await;
    assert_eq!(exit_code, 0, "{stderr}");
    assert_nothing_leaks("check", &(stdout + &stderr));
}

#[tokio::test]
async fn a_file_that_is_missing_at_start_is_a_mistake_in_the_configuration() {
    for variable in ["KEPTN_API_TOKEN_FILE", "NATS_TOKEN_FILE", "NATS_CREDS_FILE"] {
        let (exit_code, _, stderr) = run_to_end(&[], &[(variable, "/nowhere/secret")]).await;
        assert_eq!(exit_code, 64, "{stderr}");
        assert!(
            stderr.contains(variable) && stderr.contains("/nowhere/secret"),
            "{stderr}"
        );
    }
}
