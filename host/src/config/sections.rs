//! Reads the variables that belong together into the parts of [`super::Config`].
//!
//! Called by [`super::from_env`]; what is wrong stays with the reader.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use async_nats::ServerAddr;
use http::Uri;
use sha2::{Digest, Sha256};
use url::Url;

use super::read::Reader;
use super::report::without_password;
use super::variables as var;
use super::{
    ApiConfig, ApiEndpoint, DeadLetterConfig, DeadLetterSink, DeliveryConfig, DeliveryMode, JetStreamConfig,
    NatsConfig, NatsCredentials, OauthConfig, OnTimeout, Ordering, RegistrationConfig, RetryOn, ServerConfig,
    TokenSource, Workload,
};
use crate::secret::Secret;
use crate::subject::Subject;
use crate::tls::ClientCertificate;

/// Services that ship with Keptn and never registered as integrations.
pub(super) const CORE_SERVICES: [&str; 6] = [
    "statistics-service",
    "api-service",
    "mongodb-datastore",
    "resource-service",
    "secret-service",
    "shipyard-controller",
];

pub(super) fn nats(reader: &mut Reader<'_>) -> NatsConfig {
    let mut servers = Vec::new();
    let text = reader.text(&var::PUBSUB_URL);
    for server in text.split(',').map(str::trim).filter(|server| !server.is_empty()) {
        match server.parse::<ServerAddr>() {
            Ok(address) => servers.push(address),
            // The text may hold a password: it is not repeated.
            Err(error) => reader.problem(
                &var::PUBSUB_URL,
                format!("server {} of the list: {error}", servers.len() + 1),
            ),
        }
    }
    if servers.is_empty() && reader.problems.is_empty() {
        reader.problem(&var::PUBSUB_URL, "names no server");
    }
    let mut topics: Vec<Subject> = Vec::new();
    for topic in reader.list(&var::PUBSUB_TOPIC).iter().filter(|topic| !topic.is_empty()) {
        match Subject::pattern(topic) {
            Ok(topic) if topics.contains(&topic) => {}
            Ok(topic) => topics.push(topic),
            Err(error) => reader.problem(&var::PUBSUB_TOPIC, format!("{topic:?} {error}")),
        }
    }
    let group = reader.text(&var::PUBSUB_GROUP);
    if group.chars().any(char::is_whitespace) {
        reader.problem(&var::PUBSUB_GROUP, format!("{group:?} contains white space"));
    }
    NatsConfig {
        servers,
        group: Some(group).filter(|group| !group.is_empty()),
        topics,
        credentials: nats_credentials(reader),
        client_certificate: client_certificate(reader),
    }
}

fn nats_credentials(reader: &mut Reader<'_>) -> Option<NatsCredentials> {
    let name = reader.text(&var::NATS_USER);
    let password = secret(reader, &var::NATS_PASSWORD, &var::NATS_PASSWORD_FILE);
    let token = secret(reader, &var::NATS_TOKEN, &var::NATS_TOKEN_FILE);
    let file = Some(reader.text(&var::NATS_CREDS_FILE)).filter(|path| !path.is_empty());
    let file = file.map(|path| Secret::in_file(var::NATS_CREDS_FILE.name, path.into()));
    let user = match (name.is_empty(), password) {
        (true, None) => None,
        (false, Some(password)) => Some(NatsCredentials::User { name, password }),
        (false, None) => {
            reader.problem(&var::NATS_USER, "needs NATS_PASSWORD or NATS_PASSWORD_FILE");
            None
        }
        (true, Some(_)) => {
            reader.problem(&var::NATS_PASSWORD, "needs NATS_USER");
            None
        }
    };
    let mut given = [user, token.map(NatsCredentials::Token), file.map(NatsCredentials::File)]
        .into_iter()
        .flatten();
    let first = given.next();
    if given.next().is_some() {
        reader.problem(
            &var::NATS_USER,
            "only one of a user, NATS_TOKEN and NATS_CREDS_FILE can count",
        );
    }
    first
}

fn client_certificate(reader: &mut Reader<'_>) -> Option<ClientCertificate> {
    let certificate = reader.text(&var::NATS_TLS_CERT_FILE);
    let key = reader.text(&var::NATS_TLS_KEY_FILE);
    match (certificate.is_empty(), key.is_empty()) {
        (true, true) => None,
        (false, false) => Some(ClientCertificate {
            certificate: certificate.into(),
            key: key.into(),
        }),
        _ => {
            reader.problem(
                &var::NATS_TLS_CERT_FILE,
                "needs NATS_TLS_KEY_FILE, and that one needs this",
            );
            None
        }
    }
}

pub(super) fn delivery(reader: &mut Reader<'_>, verify_certificates: bool) -> DeliveryConfig {
    let recipient = recipient(reader).unwrap_or_else(|(variable, problem)| {
        reader.problem(variable, problem);
        Uri::default()
    });
    let timeout = reader.positive_duration(&var::DELIVERY_TIMEOUT, "gives the service no time at all");
    DeliveryConfig {
        recipient,
        verify_certificates,
        concurrency: reader.count(&var::DELIVERY_CONCURRENCY, 1) as usize,
        ordering: reader.choice(
            &var::DELIVERY_ORDERING,
            &[
                ("key", Ordering::Key),
                ("none", Ordering::None),
                ("strict", Ordering::Strict),
            ],
        ),
        timeout,
        on_timeout: reader.choice(
            &var::DELIVERY_ON_TIMEOUT,
            &[
                ("auto", OnTimeout::Auto),
                ("retry", OnTimeout::Retry),
                ("accept", OnTimeout::Accept),
            ],
        ),
        retries: reader.count(&var::DELIVERY_RETRY, 0),
        retry_on: retry_on(reader),
        first_pause: reader.positive_duration(&var::DELIVERY_BACKOFF_DELAY, "would try again without a pause"),
        longest_pause: reader.positive_duration(&var::DELIVERY_BACKOFF_MAX, "would try again without a pause"),
        max_age: reader.positive_duration(
            &var::DELIVERY_MAX_AGE,
            "would never try again; DELIVERY_RETRY=0 does that",
        ),
    }
}

fn retry_on(reader: &mut Reader<'_>) -> RetryOn {
    let items = reader.list(&var::DELIVERY_RETRY_ON);
    RetryOn::parse(items.iter().map(String::as_str)).unwrap_or_else(|problem| {
        reader.problem(&var::DELIVERY_RETRY_ON, problem);
        RetryOn::parse([]).expect("nothing is wrong with nothing")
    })
}

pub(super) fn jetstream(reader: &mut Reader<'_>, group: Option<&str>, recipient: &Uri) -> JetStreamConfig {
    let name = |reader: &mut Reader<'_>, variable: &var::Variable| {
        let name = reader.text(variable);
        if name.contains(|c: char| c.is_whitespace() || c.is_control() || "./\\*>".contains(c)) {
            reader.problem(
                variable,
                format!("{name:?} contains white space or one of `. / \\ * >`"),
            );
        }
        Some(name).filter(|name| !name.is_empty())
    };
    let stream = name(reader, &var::JETSTREAM_STREAM);
    let durable = name(reader, &var::JETSTREAM_DURABLE);
    JetStreamConfig {
        mode: reader.choice(
            &var::DELIVERY_MODE,
            &[
                ("auto", DeliveryMode::Auto),
                ("jetstream", DeliveryMode::JetStream),
                ("core", DeliveryMode::Core),
            ],
        ),
        stream,
        is_shared: group.is_some() || durable.is_some(),
        durable: durable.unwrap_or_else(|| durable_name(reader, group, recipient)),
        ack_wait: reader.positive_duration(&var::JETSTREAM_ACK_WAIT, "would give every event to everybody"),
        max_events: reader.count(&var::DELIVERY_MAX_INFLIGHT, 1) as usize,
        max_bytes: reader.bytes(&var::DELIVERY_MAX_INFLIGHT_BYTES),
    }
}

/// A name that the replicas of one service share, and nobody else has. Where nothing tells services apart, the host does,
/// and so it does where every instance is to get every event.
fn durable_name(reader: &Reader<'_>, group: Option<&str>, recipient: &Uri) -> String {
    let deployment = reader.text(&var::K8S_DEPLOYMENT_NAME);
    let host = || {
        let pod = reader.text(&var::K8S_POD_NAME);
        if pod.is_empty() {
            rustix::system::uname().nodename().to_string_lossy().into_owned()
        } else {
            pod
        }
    };
    let instance = if deployment.is_empty() || group.is_none() {
        host()
    } else {
        String::new()
    };
    let parts = [
        reader.text(&var::K8S_NAMESPACE),
        deployment.clone(),
        group.unwrap_or_default().to_owned(),
        recipient.to_string(),
        instance.clone(),
    ];
    let digest = Sha256::digest(parts.join("\0"));
    let readable = if deployment.is_empty() { instance } else { deployment };
    let readable: String = readable
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' })
        .take(32)
        .collect();
    format!(
        "{readable}-{:x}",
        u64::from_be_bytes(digest[..8].try_into().expect("a digest is longer"))
    )
}

pub(super) fn dead_letter(reader: &mut Reader<'_>, endpoint: &ApiEndpoint) -> DeadLetterConfig {
    let text = reader.text(&var::DEAD_LETTER);
    let has_nats = *endpoint == ApiEndpoint::InCluster;
    let sink = match (text.as_str(), text.strip_prefix("file:")) {
        ("" | "auto", _) if has_nats => DeadLetterSink::Auto,
        ("" | "auto", _) => {
            let warning = "DEAD_LETTER is not set, and there is no NATS in a remote execution plane: events that cannot be \
                           delivered are only logged; `file:<directory>` keeps them";
            reader.warnings.push(warning.to_owned());
            DeadLetterSink::Log
        }
        ("nats", _) if has_nats => DeadLetterSink::Nats,
        ("nats", _) => {
            let problem = "needs NATS, which a remote execution plane (KEPTN_API_ENDPOINT) does not have; use \
                           `file:<directory>` or `log`";
            reader.problem(&var::DEAD_LETTER, problem);
            DeadLetterSink::Log
        }
        ("log", _) => DeadLetterSink::Log,
        (_, Some(directory)) if !directory.is_empty() => DeadLetterSink::Directory(directory.into()),
        _ => {
            let problem = format!("{text:?} is none of `auto`, `nats`, `log`, `file:<directory>`");
            reader.problem(&var::DEAD_LETTER, problem);
            DeadLetterSink::Auto
        }
    };
    DeadLetterConfig {
        sink,
        creates_stream: reader.boolean(&var::DEAD_LETTER_CREATE_STREAM),
        max_age: reader.positive_duration(&var::DEAD_LETTER_MAX_AGE, "would keep nothing"),
        max_bytes: reader.bytes(&var::DEAD_LETTER_MAX_BYTES),
    }
}

/// `PUBSUB_RECIPIENT`, `_PORT` and `_PATH` put together as the original does.
fn recipient(reader: &Reader<'_>) -> Result<Uri, (&'static var::Variable, String)> {
    let host = reader.text(&var::PUBSUB_RECIPIENT);
    let host = host.trim_end_matches('/');
    if host.is_empty() {
        return Err((
            &var::PUBSUB_RECIPIENT,
            "is empty, but events need a recipient".to_owned(),
        ));
    }
    let shown = without_password(host);
    let base = if host.starts_with("http://") || host.starts_with("https://") {
        host.to_owned()
    } else {
        format!("http://{host}")
    };
    let parsed: Uri = base
        .parse()
        .map_err(|error| (&var::PUBSUB_RECIPIENT, format!("{shown:?} is no host or URL: {error}")))?;
    if parsed.port().is_some() {
        let problem = format!(
            "{shown:?} has a port already; it belongs into {}",
            var::PUBSUB_RECIPIENT_PORT.name
        );
        return Err((&var::PUBSUB_RECIPIENT, problem));
    }
    if parsed.path() != "/" || parsed.query().is_some() {
        let problem = format!(
            "{shown:?} has a path; it belongs into {}",
            var::PUBSUB_RECIPIENT_PATH.name
        );
        return Err((&var::PUBSUB_RECIPIENT, problem));
    }
    let port = reader.text(&var::PUBSUB_RECIPIENT_PORT);
    let port: u16 = match port.as_str() {
        "" => 8080,
        port => port.parse().map_err(|_| {
            (
                &var::PUBSUB_RECIPIENT_PORT,
                format!("{port:?} is not a port from 1 to 65535"),
            )
        })?,
    };
    let path = reader.text(&var::PUBSUB_RECIPIENT_PATH);
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{base}:{port}{slash}{path}")
        .parse()
        .map_err(|error| (&var::PUBSUB_RECIPIENT_PATH, format!("{path:?} is no path: {error}")))
}

pub(super) fn server(reader: &mut Reader<'_>) -> ServerConfig {
    let port = u16::try_from(reader.integer(&var::API_PROXY_PORT)).unwrap_or_else(|_| {
        reader.problem(&var::API_PROXY_PORT, "is not a port from 0 to 65535");
        0
    });
    let event_path = reader.text(&var::EVENT_FORWARDING_PATH);
    let proxy_path = Some(reader.text(&var::API_PROXY_PATH))
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| "/".to_owned());
    for (variable, path) in [
        (&var::EVENT_FORWARDING_PATH, &event_path),
        (&var::API_PROXY_PATH, &proxy_path),
    ] {
        if !path.starts_with('/') {
            reader.problem(variable, format!("{path:?} does not start with `/`"));
        } else if path == "/health" {
            reader.problem(variable, "`/health` is taken by the health check");
        }
    }
    if event_path == proxy_path {
        reader.problem(
            &var::EVENT_FORWARDING_PATH,
            format!("{event_path:?} is also {}", var::API_PROXY_PATH.name),
        );
    }
    let max_kilobytes = reader.integer(&var::API_PROXY_MAX_PAYLOAD_BYTES_KB);
    ServerConfig {
        address: bind_address(reader),
        port,
        event_path,
        proxy_path,
        max_body_bytes: usize::try_from(max_kilobytes)
            .ok()
            .filter(|&kilobytes| kilobytes > 0)
            .map(|kilobytes| kilobytes.saturating_mul(1024)),
    }
}

pub(super) fn endpoint(reader: &mut Reader<'_>) -> ApiEndpoint {
    let text = reader.text(&var::KEPTN_API_ENDPOINT);
    ApiEndpoint::parse(&text).unwrap_or_else(|problem| {
        reader.problem(
            &var::KEPTN_API_ENDPOINT,
            format!("{:?} {problem}", without_password(&text)),
        );
        ApiEndpoint::InCluster
    })
}

fn bind_address(reader: &mut Reader<'_>) -> IpAddr {
    let text = reader.text(&var::PROXY_BIND);
    let text = Some(text.as_str()).filter(|text| !text.is_empty() && *text != "localhost");
    text.unwrap_or(var::PROXY_BIND.default).parse().unwrap_or_else(|_| {
        reader.problem(
            &var::PROXY_BIND,
            format!("{:?} is not an IP address", text.unwrap_or_default()),
        );
        Ipv4Addr::LOCALHOST.into()
    })
}

pub(super) fn api(reader: &mut Reader<'_>, endpoint: ApiEndpoint, verify_certificates: bool) -> ApiConfig {
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

pub(super) fn workload(reader: &Reader<'_>) -> Workload {
    Workload {
        deployment: reader.text(&var::K8S_DEPLOYMENT_NAME),
        namespace: reader.text(&var::K8S_NAMESPACE),
        pod: reader.text(&var::K8S_POD_NAME),
        node: reader.text(&var::K8S_NODE_NAME),
    }
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

/// The integration to register; none when registration is off, for any of the reasons that the original has.
pub(super) fn registration(
    reader: &mut Reader<'_>,
    endpoint: &ApiEndpoint,
    workload: &Workload,
) -> Option<RegistrationConfig> {
    // Everything is read, so that every problem is reported, before it is known whether anything is needed.
    let disabled = reader.boolean(&var::DISABLE_REGISTRATION);
    let text = |variable: &var::Variable, default: &str| {
        let text = reader.text(variable);
        if text.is_empty() { default.to_owned() } else { text }
    };
    let default_location = match endpoint {
        ApiEndpoint::InCluster => "control-plane",
        ApiEndpoint::Remote(_) => "remote-execution-plane",
    };
    let registration = RegistrationConfig {
        location: text(&var::LOCATION, default_location),
        distributor_version: text(&var::DISTRIBUTOR_VERSION, env!("CARGO_PKG_VERSION")),
        version: text(&var::VERSION, ""),
        interval: reader.duration(&var::REGISTRATION_INTERVAL),
        max_attempts: reader.integer(&var::MAX_REGISTRATION_RETRIES),
        heartbeat_interval: reader.duration(&var::HEARTBEAT_INTERVAL),
        max_failed_heartbeats: reader.integer(&var::MAX_HEARTBEAT_RETRIES),
    };
    let wanted = !disabled
        && !workload.deployment.is_empty()
        && !workload.namespace.is_empty()
        && !CORE_SERVICES.contains(&workload.deployment.as_str());
    wanted.then_some(registration)
}

pub(super) fn log_level(reader: &mut Reader<'_>) -> String {
    let text = reader.text(&var::LOG_LEVEL);
    let text = if text.is_empty() {
        var::LOG_LEVEL.default.to_owned()
    } else {
        text
    };
    for directive in text.split(',') {
        // A single word that is no level would be taken for a module, and everything else would fall silent.
        let level = directive.rsplit('=').next().unwrap_or_default().trim();
        if level.parse::<tracing::Level>().is_err() {
            reader.problem(
                &var::LOG_LEVEL,
                format!("{directive:?} is neither a level (error, warn, info, debug, trace) nor `module=level`"),
            );
        }
    }
    text
}

/// A secret as a value or in a file.
fn secret(reader: &mut Reader<'_>, value: &var::Variable, file: &var::Variable) -> Option<Secret> {
    let (text, path) = (reader.text(value), reader.text(file));
    match (text.is_empty(), path.is_empty()) {
        (true, true) => None,
        (true, false) => Some(Secret::in_file(file.name, path.into())),
        (false, true) => Some(Secret::fixed(text)),
        (false, false) => {
            reader.problem(
                file,
                format!("{} is set as well; only one of them can count", value.name),
            );
            None
        }
    }
}
