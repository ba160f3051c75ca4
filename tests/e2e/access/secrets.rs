//! Secrets never appear in anything that the distributor prints.

use std::net::SocketAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use test_support::{Collector, NatsServer, Recipient, Reply, Stream, free_port, http_request};

use crate::harness::*;

const API_TOKEN: &str = "apitoken/hunter2 x";
const CLIENT_SECRET: &str = "clientsecret/hunter3 y";
const BEARER: &str = "bearertoken.hunter4";
const NATS_PASSWORD: &str = "natspassword/hunter5";
const URL_PASSWORD: &str = "urlpassword-hunter6";
const PROXY_PASSWORD: &str = "proxypassword-hunter7";
const CONTROL_TOKEN: &str = "controltoken-hunter8";
const COLLECTOR_TOKEN: &str = "collectortoken-hunter9";

/// Each secret as it is, percent-encoded, and in base64, wherever in a longer text it may stand there.
fn forms() -> Vec<String> {
    let secrets = [
        API_TOKEN,
        CLIENT_SECRET,
        BEARER,
        NATS_PASSWORD,
        URL_PASSWORD,
        PROXY_PASSWORD,
        CONTROL_TOKEN,
        COLLECTOR_TOKEN,
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

/// Probes, metrics, status, page, commands, spans and JSON lines, while things go wrong.
#[tokio::test]
async fn nothing_that_operators_are_shown_has_a_secret() {
    let collector = Collector::start().await.unwrap();
    let (provider, recipient) = (Recipient::start().await.unwrap(), Recipient::start().await.unwrap());
    provider.respond_with(|request, _| {
        if request.path.ends_with("/token") {
            Reply::json(200, &json!({"access_token": BEARER}))
        } else {
            echo(401, request)
        }
    });
    recipient.respond_with(|_, _| Reply::status(500));
    let lines = format!("authorization {{ user: sidecar, password: '{NATS_PASSWORD}' }}");
    let nats = NatsServer::builder().config_lines(&lines).start().await.unwrap();
    let servers = nats.url().replace("nats://", &format!("nats://user:{URL_PASSWORD}@"));
    let token_url = format!("http://user:{URL_PASSWORD}@127.0.0.1:{}/token", provider.port());
    let (service, port) = (
        format!("http://user:{URL_PASSWORD}@127.0.0.1"),
        recipient.port().to_string(),
    );
    // Their lines are JSON here, in which nothing looks for an address.
    let [admin, control] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port().unwrap())));
    let (admin_text, control_text) = (admin.to_string(), control.to_string());
    let headers = format!("authorization=Bearer {COLLECTOR_TOKEN}");
    let traces = collector.endpoint();
    let common = [
        ("LOG_LEVEL", "trace"),
        ("LOG_FORMAT", "json"),
        ("PUBSUB_URL", servers.as_str()),
        ("PUBSUB_TOPIC", "sh.keptn.>"),
        ("PUBSUB_RECIPIENT", &service),
        ("PUBSUB_RECIPIENT_PORT", &port),
        ("NATS_USER", "sidecar"),
        ("NATS_PASSWORD", NATS_PASSWORD),
        ("KEPTN_API_TOKEN", API_TOKEN),
        ("OAUTH_CLIENT_ID", "id"),
        ("OAUTH_CLIENT_SECRET", CLIENT_SECRET),
        ("OAUTH_SCOPES", "a"),
        ("OAUTH_TOKEN_URL", &token_url),
        ("CONTROL_TOKEN", CONTROL_TOKEN),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &traces),
        ("OTEL_EXPORTER_OTLP_HEADERS", &headers),
        ("ADMIN_BIND", &admin_text),
        ("CONTROL_BIND", &control_text),
        ("DISABLE_REGISTRATION", "true"),
        ("DELIVERY_BACKOFF_DELAY", "1ms"),
        ("DELIVERY_RETRY", "2"),
    ];
    let mut process = start_process(&common);
    process.wait_for_log("subscribed", SOON).await.unwrap();
    let client = nats.client_as("sidecar", NATS_PASSWORD).await.unwrap();
    client.publish(TASK_TRIGGERED, event("e").to_bytes()).await.unwrap();
    process.wait_for_log("dead letter", SOON).await.unwrap();

    for path in ["/metrics", "/livez?verbose", "/readyz?verbose", "/startupz?verbose"] {
        let answer = http_request(admin, "GET", path, &[], "").await.unwrap();
        assert_nothing_leaks(path, &String::from_utf8_lossy(&answer.body));
    }
    let bearer = format!("Bearer {CONTROL_TOKEN}");
    for path in [
        "/",
        "/status",
        "/events",
        "/subscriptions",
        "/plugins",
        "/dead-letters",
        "/log-level",
    ] {
        let answer = http_request(control, "GET", path, &[("authorization", &bearer)], "")
            .await
            .unwrap();
        assert!([200, 404].contains(&answer.status), "{path}: {}", answer.status);
        assert_nothing_leaks(path, &String::from_utf8_lossy(&answer.body));
        let refused = http_request(control, "GET", path, &[], "").await.unwrap();
        assert!(path == "/" || refused.status == 401, "{path}: {}", refused.status);
        assert_nothing_leaks(path, &String::from_utf8_lossy(&refused.body));
    }
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["healthcheck"],
        &["plugin", "inspect", "builtin:keptn-filter"],
    ] {
        let (_, stdout, stderr) = run_to_end(arguments, &common).await;
        assert_nothing_leaks(&arguments.join(" "), &(stdout + &stderr));
    }
    process.terminate().unwrap();
    exit_code(&mut process).await;
    let spans = collector.spans().unwrap();
    assert!(!spans.is_empty());
    assert_nothing_leaks("spans", &format!("{spans:?}"));
    let printed = process.output().text(Stream::Stdout) + &process.output().text(Stream::Stderr);
    assert_nothing_leaks("the log", &printed);
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
