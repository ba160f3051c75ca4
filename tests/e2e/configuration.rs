//! What a user sees of the configuration: refusals, `check`, the banner.

use distributor::plugins::DEFAULT_FILTER_COMPONENT;
use test_support::Stream;

use crate::harness::*;

#[tokio::test]
async fn every_problem_of_a_configuration_is_listed_at_once() {
    let wrong = [
        ("DELIVERY_TIMEOUT", "soon"),
        ("PUBSUB_TOPIC", "sh..keptn,>.b"),
        ("LOG_LEVEL", "loud"),
        ("PUBSUB_RECIPIENT", "http://service:80"),
        ("HTTP_SSL_VERIFY", "yes"),
    ];
    for arguments in [&[][..], &["run"], &["check"]] {
        let (exit_code, stdout, stderr) = run_to_end(arguments, &wrong).await;
        assert_eq!((exit_code, stdout.as_str()), (64, ""), "{stderr}");
        assert!(stderr.starts_with("the configuration has 6 problem(s):\n"), "{stderr}");
        for (variable, value) in wrong {
            let line = stderr
                .lines()
                .find(|line| line.trim_start().starts_with(variable))
                .unwrap();
            let first_value = value.split(',').next().unwrap();
            assert!(line.contains(first_value), "{line}");
        }
    }
}

#[tokio::test]
async fn the_endpoint_chooses_where_events_come_from_and_has_to_be_a_url() {
    for (endpoint, is_remote, shown) in [
        ("", "false", "unknown"),
        ("http://127.0.0.1:1", "true", "http://127.0.0.1:1/"),
        (
            "https://127.0.0.1:1/api/controlPlane",
            "true",
            "https://127.0.0.1:1/api",
        ),
    ] {
        let process = start_process(&[("KEPTN_API_ENDPOINT", endpoint), ("PUBSUB_URL", "nats://127.0.0.1:1")]);
        process.wait_for_log("K8S pod name", SOON).await.unwrap();
        let banner = process.output().text(Stream::Stdout);
        let value = |label: &str| {
            let line = banner.lines().find(|line| line.starts_with(label)).unwrap();
            line[label.len()..].trim_start_matches('.').to_owned()
        };
        assert_eq!(value("Remote execution plane"), is_remote, "{endpoint}");
        assert_eq!(value("Keptn API endpoint"), shown);
    }
    for endpoint in ["ssh://keptn", ":///MALFORMED", "foo"] {
        let (exit_code, stdout, stderr) = run_to_end(&[], &[("KEPTN_API_ENDPOINT", endpoint)]).await;
        assert_eq!((exit_code, stdout.as_str()), (64, ""), "{stderr}");
        assert!(
            stderr.contains("KEPTN_API_ENDPOINT") && stderr.contains(endpoint),
            "{stderr}"
        );
    }
}

#[tokio::test]
async fn a_port_that_is_taken_ends_the_start_with_the_name_of_its_variable() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (exit_code, _, stderr) = run_to_end(&[], &[("API_PROXY_PORT", &port)]).await;
    assert_eq!(exit_code, 1);
    assert!(stderr.contains(&port) && stderr.contains("API_PROXY_PORT"), "{stderr}");
}

#[tokio::test]
async fn check_shows_what_is_in_force_and_keeps_secrets() {
    let variables = [
        (
            "PUBSUB_URL",
            "nats://user:hunter2@nats.example,tls://:hunter3@other.example:4333",
        ),
        (
            "PUBSUB_TOPIC",
            "sh.keptn.event.task.triggered, sh.keptn.event.*.triggered",
        ),
        ("PUBSUB_RECIPIENT", "lighthouse-service"),
        ("PROJECT_FILTER", "p1, p2"),
        ("KEPTN_API_TOKEN", "hunter4"),
        ("OAUTH_CLIENT_SECRET", "hunter5"),
    ];
    let (exit_code, stdout, stderr) = run_to_end(&["check"], &variables).await;

    assert_eq!((exit_code, stderr.as_str()), (0, ""));
    assert!(!stdout.contains("hunter"), "{stdout}");
    let value = |name: &str| {
        let line = stdout.lines().find_map(|line| line.trim_start().strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} is missing: {stdout}"))
            .trim()
            .to_owned()
    };
    assert_eq!(
        value("PUBSUB_URL"),
        "nats://***@nats.example,tls://***@other.example:4333"
    );
    assert_eq!(value("KEPTN_API_TOKEN"), "***");
    assert_eq!(value("API_PROXY_MAX_PAYLOAD_BYTES_KB"), "64  (default)");
    assert_eq!(value("recipient"), "http://lighthouse-service:8080/");
    assert_eq!(value("subjects received"), "sh.keptn.event.*.triggered");
    assert_eq!(value("projects"), "p1 | p2");
    let filter = value("keptn-filter");
    assert!(
        filter.ends_with(&format!(
            "filter on incoming, sha256 {}",
            digest(DEFAULT_FILTER_COMPONENT)
        )),
        "{filter}"
    );
}

#[tokio::test]
async fn a_secret_in_a_refused_value_is_not_repeated() {
    let variables = [
        ("PUBSUB_URL", "nats://user:hunter2@:bad:port"),
        ("KEPTN_API_TOKEN", "hunter3"),
    ];
    let (exit_code, stdout, stderr) = run_to_end(&[], &variables).await;
    assert_eq!(exit_code, 64);
    assert!(
        stderr.contains("PUBSUB_URL") && !(stdout + &stderr).contains("hunter"),
        "{stderr}"
    );
}

#[tokio::test]
async fn the_banner_is_that_of_the_original() {
    let peers = Peers::start().await;
    let url = peers.nats.url().replace("nats://", "nats://user:hunter2@");
    let process = peers
        .process(&[
            ("PUBSUB_URL", &url),
            ("PUBSUB_GROUP", "my-svc"),
            ("K8S_DEPLOYMENT_NAME", "my-svc"),
            ("K8S_NAMESPACE", "ns"),
            ("K8S_POD_NAME", "my-svc-0"),
        ])
        .await;

    process.wait_for_log("K8S pod name", SOON).await.unwrap();
    let banner = process.output().text(Stream::Stdout);
    let lines: Vec<_> = banner.lines().map(|line| line.split_at(40)).collect();
    let labels: Vec<_> = lines.iter().map(|(label, _)| label.trim_end_matches('.')).collect();
    let expected = [
        "Git commit",
        "Build time",
        "Start time",
        "Remote execution plane",
        "Oauth enabled",
        "Keptn API endpoint",
        "Api proxy path",
        "Api proxy port",
        "PubSub URL",
        "PubSub group",
        "K8S node name",
        "K8S namespace",
        "K8S deployment name",
        "K8S pod name",
    ];
    assert_eq!(labels, expected);
    let value = |label: &str| {
        lines[expected.iter().position(|other| *other == label).unwrap()]
            .1
            .to_owned()
    };
    assert!(
        lines
            .iter()
            .all(|(label, value)| label.ends_with('.') && !value.is_empty()),
        "{banner}"
    );
    assert_eq!(value("Start time").len(), "2026-11-22T14:47:44Z".len());
    assert_eq!(
        (value("Remote execution plane"), value("Oauth enabled")),
        ("false".into(), "false".into())
    );
    assert_eq!(
        (value("Keptn API endpoint"), value("Api proxy path")),
        ("unknown".into(), "/".into())
    );
    assert_eq!(value("Api proxy port"), process.proxy_address().port().to_string());
    assert_eq!(value("PubSub URL"), url.replace("user:hunter2", "***"));
    assert_eq!(
        (value("PubSub group"), value("K8S namespace")),
        ("my-svc".into(), "ns".into())
    );
    assert_eq!(
        (value("K8S pod name"), value("K8S node name")),
        ("my-svc-0".into(), "unknown".into())
    );
}

#[tokio::test]
async fn the_listener_is_bound_to_loopback_only() {
    let peers = Peers::start().await;
    let process = peers.process(&[]).await;
    let line = process.wait_for_log("listening", SOON).await.unwrap();
    assert!(
        line.contains(&format!("address=127.0.0.1:{}", process.proxy_address().port())),
        "{line}"
    );
}

#[tokio::test]
async fn help_names_every_variable_that_check_shows() {
    let (_, help, _) = run_to_end(&["--help"], &[]).await;
    let (_, checked, _) = run_to_end(&["check"], &[]).await;
    let variables: Vec<_> = checked
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|word| {
            word.len() > 3
                && word
                    .chars()
                    .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
        })
        .collect();
    assert!(variables.len() > 35, "{checked}");
    for variable in variables {
        assert!(help.contains(variable), "{variable}");
    }
}
