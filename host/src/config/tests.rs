use std::collections::HashMap;

use secrecy::ExposeSecret;

use super::sections::CORE_SERVICES;
use super::*;

fn lookup_in<'a>(variables: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + use<'a> {
    let variables: HashMap<_, _> = variables.iter().copied().collect();
    move |name| variables.get(name).map(|value| (*value).to_owned())
}

fn config(variables: &[(&str, &str)]) -> Config {
    from_env(&lookup_in(variables)).unwrap_or_else(|errors| panic!("{errors}"))
}

fn problems(variables: &[(&str, &str)]) -> Vec<&'static str> {
    let ConfigErrors(problems) = from_env(&lookup_in(variables)).expect_err("this configuration should be refused");
    problems.into_iter().map(|problem| problem.variable).collect()
}

#[test]
fn nothing_set_is_a_valid_configuration() {
    let config = config(&[]);
    assert_eq!(config.delivery.recipient, "http://127.0.0.1:8080/");
    assert_eq!(config.server.port, 8081);
    assert_eq!(config.server.max_body_bytes, Some(65_536));
    assert_eq!(config.nats.topics, []);
    assert_eq!(config.api.timeout, Some(Duration::from_secs(30)));
    assert!(config.registration.is_none());
    assert!(config.warnings.is_empty());
}

#[test]
fn the_recipient_is_put_together_from_its_parts() {
    let check = |variables: &[(&str, &str)], expected: &str| assert_eq!(config(variables).delivery.recipient, expected);
    check(
        &[("PUBSUB_RECIPIENT", "lighthouse-service")],
        "http://lighthouse-service:8080/",
    );
    check(
        &[
            ("PUBSUB_RECIPIENT", "lighthouse-service"),
            ("PUBSUB_RECIPIENT_PATH", "/event"),
        ],
        "http://lighthouse-service:8080/event",
    );
    check(
        &[
            ("PUBSUB_RECIPIENT", "lighthouse-service"),
            ("PUBSUB_RECIPIENT_PATH", "event"),
        ],
        "http://lighthouse-service:8080/event",
    );
    check(
        &[
            ("PUBSUB_RECIPIENT", "lighthouse-service"),
            ("PUBSUB_RECIPIENT_PORT", "666"),
        ],
        "http://lighthouse-service:666/",
    );
    check(&[("PUBSUB_RECIPIENT_PORT", "666")], "http://127.0.0.1:666/");
    check(
        &[("PUBSUB_RECIPIENT", "https://lighthouse-service")],
        "https://lighthouse-service:8080/",
    );
    check(&[("PUBSUB_RECIPIENT", "http://svc/")], "http://svc:8080/");
    for bad in ["", "http://svc:9000", "http://svc/path", "a b"] {
        assert_eq!(problems(&[("PUBSUB_RECIPIENT", bad)]), ["PUBSUB_RECIPIENT"], "{bad:?}");
    }
    assert_eq!(
        problems(&[("PUBSUB_RECIPIENT_PORT", "http")]),
        ["PUBSUB_RECIPIENT_PORT"]
    );
}

#[test]
fn topics_are_trimmed_and_each_counts_once() {
    let check = |text: &str, expected: &[&str]| {
        let topics = config(&[("PUBSUB_TOPIC", text)]).nats.topics;
        let topics: Vec<_> = topics.iter().map(Subject::as_str).collect();
        assert_eq!(topics, expected, "{text:?}");
    };
    check("", &[]);
    check("a,b,c", &["a", "b", "c"]);
    check(" sh.keptn.> ,, a", &["sh.keptn.>", "a"]);
    check("b,a,b", &["b", "a"]);
    assert_eq!(
        problems(&[("PUBSUB_TOPIC", "a..b,ok,>.c")]),
        ["PUBSUB_TOPIC", "PUBSUB_TOPIC"]
    );
}

#[test]
fn filter_items_are_trimmed_and_an_empty_item_keeps_its_meaning() {
    let check = |text: &str, expected: &[&str]| {
        assert_eq!(
            config(&[("PROJECT_FILTER", text)]).filter.projects,
            expected,
            "{text:?}"
        );
    };
    check("", &[]);
    check("  ", &[]);
    check("p1, p2 ", &["p1", "p2"]);
    check("a,", &["a", ""]);
}

#[test]
fn an_empty_number_or_boolean_counts_as_unset() {
    let config = config(&[
        ("API_PROXY_PORT", ""),
        ("HTTP_SSL_VERIFY", ""),
        ("HEARTBEAT_INTERVAL", ""),
        ("API_PROXY_HTTP_TIMEOUT", ""),
        ("PUBSUB_RECIPIENT_PORT", ""),
    ]);
    assert_eq!(config.server.port, 8081);
    assert!(config.api.verify_certificates);
    assert!(config.warnings.is_empty());
}

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let found = problems(&[
        ("API_PROXY_PORT", "70000"),
        ("HTTP_SSL_VERIFY", "yes"),
        ("HEARTBEAT_INTERVAL", "10"),
        ("MAX_HEARTBEAT_RETRIES", "ten"),
        ("KEPTN_API_ENDPOINT", "ssh://x"),
        ("PUBSUB_URL", "nats://a:b:c"),
        ("EVENT_FORWARDING_PATH", "event"),
        ("DELIVERY_CONCURRENCY", "0"),
        ("DELIVERY_ORDERING", "fifo"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
    ]);
    let mut expected = [
        "API_PROXY_PORT",
        "HTTP_SSL_VERIFY",
        "HEARTBEAT_INTERVAL",
        "MAX_HEARTBEAT_RETRIES",
        "KEPTN_API_ENDPOINT",
        "PUBSUB_URL",
        "EVENT_FORWARDING_PATH",
        "DELIVERY_CONCURRENCY",
        "DELIVERY_ORDERING",
        "LOG_LEVEL",
        "LOG_FORMAT",
    ];
    let mut found = found;
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn the_number_of_threads_is_left_open_or_given() {
    let threads = |value: &'static str| {
        config(&[("WORKER_THREADS", value)])
            .worker_threads
            .map_or(0, NonZeroUsize::get)
    };
    assert_eq!((threads(""), threads("0"), threads("4")), (0, 0, 4));
    for value in ["65", "-1", "two"] {
        assert_eq!(problems(&[("WORKER_THREADS", value)]), ["WORKER_THREADS"], "{value:?}");
    }
}

#[test]
fn paths_must_not_collide() {
    assert_eq!(problems(&[("EVENT_FORWARDING_PATH", "")]), ["EVENT_FORWARDING_PATH"]);
    assert_eq!(
        problems(&[("EVENT_FORWARDING_PATH", "/health")]),
        ["EVENT_FORWARDING_PATH"]
    );
    assert_eq!(
        problems(&[("EVENT_FORWARDING_PATH", "/x"), ("API_PROXY_PATH", "/x")]),
        ["EVENT_FORWARDING_PATH"]
    );
    assert_eq!(config(&[("API_PROXY_PATH", "")]).server.proxy_path, "/");
}

#[test]
fn the_listener_is_on_this_machine_unless_an_address_says_otherwise() {
    let check = |text: &str, expected: &str| {
        let address = config(&[("PROXY_BIND", text)]).server.address;
        assert_eq!(address.to_string(), expected, "{text:?}");
    };
    assert_eq!(config(&[]).server.address.to_string(), "127.0.0.1");
    check("", "127.0.0.1");
    check("localhost", "127.0.0.1");
    check("0.0.0.0", "0.0.0.0");
    check("::1", "::1");
    for wrong in ["0.0.0.0:80", "my-pod", "*"] {
        assert_eq!(problems(&[("PROXY_BIND", wrong)]), ["PROXY_BIND"], "{wrong}");
    }
}

#[test]
fn seconds_fall_back_to_the_default_with_a_warning() {
    let check = |text: &str, expected: Option<u64>, warned: bool| {
        let config = config(&[("API_PROXY_HTTP_TIMEOUT", text)]);
        assert_eq!(config.api.timeout, expected.map(Duration::from_secs), "{text:?}");
        assert_eq!(!config.warnings.is_empty(), warned, "{text:?}");
    };
    check("5", Some(5), false);
    check("invalid", Some(30), true);
    check("0", None, false);
    check("-1", None, false);
    // A poll in a busy loop helps nobody.
    assert_eq!(
        config(&[("HTTP_POLLING_INTERVAL", "0")]).api.polling_interval,
        Duration::from_secs(1)
    );
}

#[test]
fn the_body_limit_is_in_units_of_1024_bytes_and_can_be_lifted() {
    let check = |text: &str, expected: Option<usize>| {
        assert_eq!(
            config(&[("API_PROXY_MAX_PAYLOAD_BYTES_KB", text)])
                .server
                .max_body_bytes,
            expected
        );
    };
    check("64", Some(65_536));
    check("0", None);
    check("-1", None);
}

#[test]
fn oauth_is_on_when_everything_it_needs_is_there() {
    let check = |variables: &[(&str, &str)], expected: bool| {
        assert_eq!(config(variables).api.oauth.is_some(), expected, "{variables:?}");
    };
    let id = ("OAUTH_CLIENT_ID", "id");
    let secret = ("OAUTH_CLIENT_SECRET", "secret");
    let scopes = ("OAUTH_SCOPES", "a,b");
    let discovery = ("OAUTH_DISCOVERY", "http://idp/.well-known");
    let url = ("OAUTH_TOKEN_URL", "http://idp/token");
    check(&[id], false);
    check(&[id, secret], false);
    check(&[id, secret, scopes], false);
    check(&[id, secret, discovery], false);
    check(&[id, secret, scopes, discovery], true);
    check(&[id, secret, scopes, url], true);
    let both = config(&[id, secret, scopes, discovery, url]).api.oauth.unwrap();
    assert_eq!(both.tokens, TokenSource::Url("http://idp/token".parse().unwrap()));
    assert_eq!(both.client_secret.current().unwrap().value.expose_secret(), "secret");
}

#[test]
fn a_secret_is_a_value_or_a_file_and_oauth_needs_urls() {
    let file = ("KEPTN_API_TOKEN_FILE", "/secrets/token");
    assert_eq!(
        problems(&[file, ("KEPTN_API_TOKEN", "token")]),
        ["KEPTN_API_TOKEN_FILE"]
    );
    let secret_file = ("OAUTH_CLIENT_SECRET_FILE", "/secrets/secret");
    assert_eq!(
        problems(&[secret_file, ("OAUTH_CLIENT_SECRET", "secret")]),
        ["OAUTH_CLIENT_SECRET_FILE"]
    );
    assert_eq!(problems(&[("OAUTH_TOKEN_URL", "idp/token")]), ["OAUTH_TOKEN_URL"]);
    assert_eq!(problems(&[("OAUTH_DISCOVERY", "file:///idp")]), ["OAUTH_DISCOVERY"]);

    let user = ("NATS_USER", "user");
    let password = ("NATS_PASSWORD", "password");
    assert_eq!(problems(&[user]), ["NATS_USER"]);
    assert_eq!(problems(&[password]), ["NATS_PASSWORD"]);
    assert_eq!(problems(&[user, password, ("NATS_TOKEN", "token")]), ["NATS_USER"]);
    assert_eq!(problems(&[("NATS_TLS_KEY_FILE", "/key")]), ["NATS_TLS_CERT_FILE"]);
    assert!(config(&[user, password]).nats.credentials.is_some());
    let certificate = [("NATS_TLS_CERT_FILE", "/cert"), ("NATS_TLS_KEY_FILE", "/key")];
    assert_eq!(
        config(&certificate).unreadable_secrets()[0].variable,
        "NATS_TLS_CERT_FILE"
    );

    let unreadable = config(&[file]).unreadable_secrets();
    assert_eq!(unreadable[0].variable, "KEPTN_API_TOKEN_FILE");
    assert!(unreadable[0].problem.contains("/secrets/token"), "{unreadable:?}");
    assert!(config(&[("KEPTN_API_TOKEN", "token")]).unreadable_secrets().is_empty());
}

#[test]
fn an_integration_needs_a_name_and_a_namespace_and_is_no_core_service() {
    let check = |variables: &[(&str, &str)], expected: Option<&str>| {
        let location = config(variables).registration.map(|registration| registration.location);
        assert_eq!(location.as_deref(), expected, "{variables:?}");
    };
    let name = ("K8S_DEPLOYMENT_NAME", "my-svc");
    let namespace = ("K8S_NAMESPACE", "ns");
    check(&[name], None);
    check(&[namespace], None);
    check(&[name, namespace], Some("control-plane"));
    check(
        &[name, namespace, ("KEPTN_API_ENDPOINT", "http://x/api")],
        Some("remote-execution-plane"),
    );
    check(&[name, namespace, ("LOCATION", "edge")], Some("edge"));
    check(&[name, namespace, ("DISABLE_REGISTRATION", "true")], None);
    for core in CORE_SERVICES {
        check(&[("K8S_DEPLOYMENT_NAME", core), namespace], None);
    }
}

#[test]
fn several_nats_servers_with_credentials_are_taken() {
    let servers = config(&[("PUBSUB_URL", "nats://user:secret@a, b:4333,tls://c")])
        .nats
        .servers;
    let addresses: Vec<_> = servers
        .iter()
        .map(|server| format!("{}:{}", server.host(), server.port()))
        .collect();
    assert_eq!(addresses, ["a:4222", "b:4333", "c:4222"]);
    assert_eq!(problems(&[("PUBSUB_URL", "")]), ["PUBSUB_URL"]);
}

#[test]
fn the_effective_configuration_shows_no_secret() {
    let variables = [
        ("KEPTN_API_TOKEN", "token-secret"),
        ("OAUTH_CLIENT_SECRET", "oauth-secret"),
        ("PUBSUB_URL", "nats://user:nats-secret@a,nats://user:nats-secret@b"),
        ("KEPTN_API_ENDPOINT", "https://user:api-secret@keptn/api"),
    ];
    let config = config(&variables);
    for text in [
        report::effective(&config, &lookup_in(&variables)),
        format!("{config:?}"),
        crate::telemetry::banner(&config, "now"),
    ] {
        assert!(!text.contains("-secret"), "{text}");
    }
}

#[test]
fn every_variable_stands_in_the_help_and_in_the_readme() {
    let table = variables::markdown_table();
    let help = variables::help_text();
    for variable in variables::all() {
        assert!(
            help.contains(variable.name) && table.contains(variable.name),
            "{}",
            variable.name
        );
    }
    let readme = include_str!("../../../README.md");
    assert!(
        readme.contains(&table),
        "the table of variables in README.md is not the current one; it should be:\n\n{table}"
    );
}

#[test]
fn the_durable_consumer_is_shared_by_replicas_and_by_nobody_else() {
    let durable = |changes: &[(&str, &str)]| {
        let mut variables = vec![
            ("K8S_NAMESPACE", "keptn"),
            ("K8S_DEPLOYMENT_NAME", "helm-service"),
            ("K8S_POD_NAME", "helm-service-1"),
            ("PUBSUB_GROUP", "helm"),
        ];
        variables.extend(changes);
        config(&variables).jetstream
    };
    let base = durable(&[]);
    assert!(base.is_shared);
    assert!(base.durable.starts_with("helm-service-"), "{}", base.durable);
    assert_eq!(durable(&[("K8S_POD_NAME", "helm-service-2")]).durable, base.durable);
    for other in [
        ("K8S_NAMESPACE", "keptn2"),
        ("K8S_DEPLOYMENT_NAME", "helm-service-canary"),
        ("PUBSUB_GROUP", "other"),
        ("PUBSUB_RECIPIENT_PORT", "9090"),
        ("PUBSUB_RECIPIENT_PATH", "/v2"),
    ] {
        assert_ne!(durable(&[other]).durable, base.durable, "{other:?}");
    }
    let alone = durable(&[("PUBSUB_GROUP", "")]);
    assert!(!alone.is_shared, "without a group every instance gets every event");
    let sibling = durable(&[("PUBSUB_GROUP", ""), ("K8S_POD_NAME", "helm-service-2")]);
    assert_ne!(alone.durable, sibling.durable);
    let named = durable(&[("PUBSUB_GROUP", ""), ("JETSTREAM_DURABLE", "mine")]);
    assert_eq!((named.durable.as_str(), named.is_shared), ("mine", true));
}

#[test]
fn what_delivery_settings_refuse_is_named() {
    let check = |name: &'static str, value: &str| assert_eq!(problems(&[(name, value)]), [name], "{value:?}");
    check("DELIVERY_MODE", "nats");
    check("DELIVERY_ON_TIMEOUT", "ignore");
    check("DELIVERY_RETRY_ON", "404,abc");
    check("DELIVERY_BACKOFF_DELAY", "0s");
    check("DELIVERY_MAX_AGE", "0");
    check("DELIVERY_MAX_INFLIGHT", "0");
    check("DELIVERY_MAX_INFLIGHT_BYTES", "16MB");
    check("JETSTREAM_DURABLE", "a.b");
    check("JETSTREAM_ACK_WAIT", "0s");
    check("DEAD_LETTER", "file:");
    check("DEAD_LETTER", "s3");
    assert_eq!(
        config(&[("DEAD_LETTER", "file:/var/dlq")]).dead_letter.sink,
        DeadLetterSink::Directory("/var/dlq".into())
    );
}

#[test]
fn a_remote_execution_plane_has_no_nats_for_its_dead_letters() {
    let remote = ("KEPTN_API_ENDPOINT", "http://x/api");
    let remote_config = config(&[remote]);
    assert_eq!(remote_config.dead_letter.sink, DeadLetterSink::Log);
    assert!(
        remote_config.warnings[0].contains("DEAD_LETTER"),
        "{:?}",
        remote_config.warnings
    );
    let with_folder = config(&[remote, ("DEAD_LETTER", "file:/var/dlq")]);
    assert_eq!(
        with_folder.dead_letter.sink,
        DeadLetterSink::Directory("/var/dlq".into())
    );
    assert!(with_folder.warnings.is_empty());
    assert_eq!(problems(&[remote, ("DEAD_LETTER", "nats")]), ["DEAD_LETTER"]);
}
