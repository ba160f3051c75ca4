//! Turns environment variables into a valid [`Config`], or into every reason why not.
//!
//! Called by `main` and `distributor check` through a lookup closure. It opens nothing and starts nothing.

mod api;
mod read;
pub mod report;
pub mod variables;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::ServerAddr;
use http::Uri;
use secrecy::SecretString;

pub use self::api::{ApiEndpoint, ApiService};
pub use self::read::Lookup;
use self::read::Reader;
use self::variables as var;
use crate::subject::Subject;

/// Services that ship with Keptn and never registered as integrations.
const CORE_SERVICES: [&str; 6] = [
    "statistics-service",
    "api-service",
    "mongodb-datastore",
    "resource-service",
    "secret-service",
    "shipyard-controller",
];

/// Everything that was configured, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where events come from.
    pub nats: NatsConfig,
    /// Where events go to.
    pub delivery: DeliveryConfig,
    /// The lists of the environment for the built-in filter.
    pub filter: FilterLists,
    /// Directory with further plugins.
    pub plugins_dir: Option<PathBuf>,
    /// The listener for the service next to the distributor.
    pub server: ServerConfig,
    /// How to reach the Keptn API.
    pub api: ApiConfig,
    /// The integration, unless it is not to be registered.
    pub registration: Option<RegistrationConfig>,
    /// Time that events in flight get after SIGTERM.
    pub drain_timeout: Duration,
    /// Filter directives of the log.
    pub log_level: String,
    /// Oddities that stop nothing.
    pub warnings: Vec<String>,
}

/// NATS.
#[derive(Clone)]
pub struct NatsConfig {
    /// At least one server.
    pub servers: Vec<ServerAddr>,
    /// Queue group.
    pub group: Option<String>,
    /// What to listen for without registration, each once.
    pub topics: Vec<Subject>,
}

impl fmt::Debug for NatsConfig {
    /// Without the passwords that the URLs may hold.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.servers.iter().map(ServerAddr::host).collect();
        formatter
            .debug_struct("NatsConfig")
            .field("servers", &hosts)
            .field("group", &self.group)
            .field("topics", &self.topics)
            .finish()
    }
}

/// Delivery to the service.
#[derive(Debug, Clone)]
pub struct DeliveryConfig {
    /// Full URL.
    pub recipient: Uri,
    /// Deliveries at the same time.
    pub concurrency: usize,
    /// What keeps them in order.
    pub ordering: Ordering,
    /// Time for one request.
    pub timeout: Duration,
    /// Attempts after the first.
    pub retries: u32,
}

/// Which events wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordering {
    /// Those of one `shkeptncontext`.
    Key,
    /// None.
    None,
    /// All.
    Strict,
}

/// The lists of `PROJECT_FILTER`, `STAGE_FILTER` and `SERVICE_FILTER`, items trimmed.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct FilterLists {
    /// Accepted projects.
    pub projects: Vec<String>,
    /// Accepted stages.
    pub stages: Vec<String>,
    /// Accepted services.
    pub services: Vec<String>,
}

/// The listener on localhost.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// 0 takes a free port.
    pub port: u16,
    /// Takes events of the service.
    pub event_path: String,
    /// Prefix of the API proxy.
    pub proxy_path: String,
    /// Largest request body in bytes.
    pub max_body_bytes: Option<usize>,
}

/// The Keptn API.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// In the cluster, or somewhere else.
    pub endpoint: ApiEndpoint,
    /// `x-token`.
    pub token: Option<SecretString>,
    /// Time for one call.
    pub timeout: Option<Duration>,
    /// Pause between polls.
    pub polling_interval: Duration,
    /// Whether certificates are verified.
    pub verify_certificates: bool,
    /// Client credentials, if all that is needed is there.
    pub oauth: Option<OauthConfig>,
}

/// OAuth client credentials.
#[derive(Debug, Clone)]
pub struct OauthConfig {
    /// Client id.
    pub client_id: String,
    /// Client secret.
    pub client_secret: SecretString,
    /// Where tokens come from.
    pub tokens: TokenSource,
    /// Scopes to ask for.
    pub scopes: Vec<String>,
}

/// Where OAuth tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// This URL.
    Url(String),
    /// What this discovery document says.
    Discovery(String),
}

/// The integration.
#[derive(Debug, Clone)]
pub struct RegistrationConfig {
    /// Deployment name: the name of the integration.
    pub deployment: String,
    /// Namespace.
    pub namespace: String,
    /// Pod.
    pub pod: String,
    /// Node.
    pub node: String,
    /// Location to report.
    pub location: String,
    /// Version of the distributor to report.
    pub distributor_version: String,
    /// Version of the integration to report.
    pub version: String,
    /// Pause between attempts.
    pub interval: Duration,
    /// Attempts at start; a negative number never gives up.
    pub max_attempts: i64,
    /// Pause between heartbeats.
    pub heartbeat_interval: Duration,
    /// Failed heartbeats in a row before giving up.
    pub max_failed_heartbeats: i64,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The variable.
    pub variable: &'static str,
    /// What is wrong with its value.
    pub problem: String,
}

/// Everything that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<Problem>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "the configuration has {} problem(s):", self.0.len())?;
        for Problem { variable, problem } in &self.0 {
            writeln!(formatter, "  {variable}: {problem}")?;
        }
        write!(formatter, "`distributor --help` explains every variable")
    }
}

/// Reads the configuration.
///
/// # Errors
/// Everything that is wrong with it, not only the first thing.
pub fn from_env(lookup: Lookup<'_>) -> Result<Config, ConfigErrors> {
    let mut reader = Reader::new(lookup);
    let endpoint = endpoint(&mut reader);
    let config = Config {
        nats: nats(&mut reader),
        delivery: delivery(&mut reader),
        filter: FilterLists {
            projects: reader.list(&var::PROJECT_FILTER),
            stages: reader.list(&var::STAGE_FILTER),
            services: reader.list(&var::SERVICE_FILTER),
        },
        plugins_dir: Some(reader.text(&var::PLUGINS_DIR))
            .filter(|text| !text.is_empty())
            .map(PathBuf::from),
        server: server(&mut reader),
        registration: registration(&mut reader, &endpoint),
        api: api(&mut reader, endpoint),
        drain_timeout: reader.duration(&var::SHUTDOWN_DRAIN_TIMEOUT),
        log_level: log_level(&mut reader),
        warnings: std::mem::take(&mut reader.warnings),
    };
    if reader.problems.is_empty() {
        Ok(config)
    } else {
        Err(ConfigErrors(reader.problems))
    }
}

impl Config {
    /// What the configuration asks for and this version does not do yet. Nobody must believe that it does.
    pub fn unavailable(&self) -> Vec<Problem> {
        let mut unavailable = Vec::new();
        if let ApiEndpoint::Remote(_) = self.api.endpoint {
            unavailable.push(Problem {
                variable: var::KEPTN_API_ENDPOINT.name,
                problem: "this version has no remote execution plane yet; leave it empty to use NATS".to_owned(),
            });
        }
        if self.delivery.recipient.scheme_str() == Some("https") {
            unavailable.push(Problem {
                variable: var::PUBSUB_RECIPIENT.name,
                problem: "this version does not deliver over https yet; use http".to_owned(),
            });
        }
        unavailable
    }
}

fn nats(reader: &mut Reader<'_>) -> NatsConfig {
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
    }
}

fn delivery(reader: &mut Reader<'_>) -> DeliveryConfig {
    let recipient = recipient(reader).unwrap_or_else(|(variable, problem)| {
        reader.problem(variable, problem);
        Uri::default()
    });
    let concurrency = reader.count(&var::DELIVERY_CONCURRENCY, 1);
    let timeout = reader.duration(&var::DELIVERY_TIMEOUT);
    if timeout.is_zero() {
        reader.problem(&var::DELIVERY_TIMEOUT, "0 gives the service no time at all");
    }
    DeliveryConfig {
        recipient,
        concurrency: concurrency as usize,
        ordering: ordering(reader),
        timeout,
        retries: reader.count(&var::DELIVERY_RETRY, 0),
    }
}

fn ordering(reader: &mut Reader<'_>) -> Ordering {
    match reader.text(&var::DELIVERY_ORDERING).as_str() {
        "" | "key" => Ordering::Key,
        "none" => Ordering::None,
        "strict" => Ordering::Strict,
        other => {
            let problem = format!("{other:?} is neither `key`, `none` nor `strict`");
            reader.problem(&var::DELIVERY_ORDERING, problem);
            Ordering::Key
        }
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
    let base = if host.starts_with("http://") || host.starts_with("https://") {
        host.to_owned()
    } else {
        format!("http://{host}")
    };
    let parsed: Uri = base
        .parse()
        .map_err(|error| (&var::PUBSUB_RECIPIENT, format!("{host:?} is no host or URL: {error}")))?;
    if parsed.port().is_some() {
        let problem = format!(
            "{host:?} has a port already; it belongs into {}",
            var::PUBSUB_RECIPIENT_PORT.name
        );
        return Err((&var::PUBSUB_RECIPIENT, problem));
    }
    if parsed.path() != "/" || parsed.query().is_some() {
        let problem = format!(
            "{host:?} has a path; it belongs into {}",
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

fn server(reader: &mut Reader<'_>) -> ServerConfig {
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
        port,
        event_path,
        proxy_path,
        max_body_bytes: usize::try_from(max_kilobytes)
            .ok()
            .filter(|&kilobytes| kilobytes > 0)
            .map(|kilobytes| kilobytes.saturating_mul(1024)),
    }
}

fn endpoint(reader: &mut Reader<'_>) -> ApiEndpoint {
    let text = reader.text(&var::KEPTN_API_ENDPOINT);
    ApiEndpoint::parse(&text).unwrap_or_else(|problem| {
        reader.problem(&var::KEPTN_API_ENDPOINT, format!("{text:?} {problem}"));
        ApiEndpoint::InCluster
    })
}

fn api(reader: &mut Reader<'_>, endpoint: ApiEndpoint) -> ApiConfig {
    let timeout = u64::try_from(reader.seconds(&var::API_PROXY_HTTP_TIMEOUT)).unwrap_or(0);
    let polling_interval = u64::try_from(reader.seconds(&var::HTTP_POLLING_INTERVAL)).unwrap_or(0);
    ApiConfig {
        endpoint,
        token: secret(reader, &var::KEPTN_API_TOKEN),
        timeout: (timeout > 0).then(|| Duration::from_secs(timeout)),
        // The original polls in a busy loop when it is 0.
        polling_interval: Duration::from_secs(polling_interval.max(1)),
        verify_certificates: reader.boolean(&var::HTTP_SSL_VERIFY),
        oauth: oauth(reader),
    }
}

/// As in the original, OAuth is on when everything it needs is there, and otherwise off.
fn oauth(reader: &Reader<'_>) -> Option<OauthConfig> {
    let client_id = reader.text(&var::OAUTH_CLIENT_ID);
    let scopes = reader.list(&var::OAUTH_SCOPES);
    let tokens = match (reader.text(&var::OAUTH_TOKEN_URL), reader.text(&var::OAUTH_DISCOVERY)) {
        (url, _) if !url.is_empty() => TokenSource::Url(url),
        (_, url) if !url.is_empty() => TokenSource::Discovery(url),
        _ => return None,
    };
    let client_secret = secret(reader, &var::OAUTH_CLIENT_SECRET)?;
    (!client_id.is_empty() && !scopes.is_empty()).then_some(OauthConfig {
        client_id,
        client_secret,
        tokens,
        scopes,
    })
}

/// The integration to register; none when registration is off, for any of the reasons that the original has.
fn registration(reader: &mut Reader<'_>, endpoint: &ApiEndpoint) -> Option<RegistrationConfig> {
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
        deployment: text(&var::K8S_DEPLOYMENT_NAME, ""),
        namespace: text(&var::K8S_NAMESPACE, ""),
        pod: text(&var::K8S_POD_NAME, ""),
        node: text(&var::K8S_NODE_NAME, "keptn-node"),
        location: text(&var::LOCATION, default_location),
        distributor_version: text(&var::DISTRIBUTOR_VERSION, env!("CARGO_PKG_VERSION")),
        version: text(&var::VERSION, ""),
        interval: reader.duration(&var::REGISTRATION_INTERVAL),
        max_attempts: reader.integer(&var::MAX_REGISTRATION_RETRIES),
        heartbeat_interval: reader.duration(&var::HEARTBEAT_INTERVAL),
        max_failed_heartbeats: reader.integer(&var::MAX_HEARTBEAT_RETRIES),
    };
    let wanted = !disabled
        && !registration.deployment.is_empty()
        && !registration.namespace.is_empty()
        && !CORE_SERVICES.contains(&registration.deployment.as_str());
    wanted.then_some(registration)
}

fn log_level(reader: &mut Reader<'_>) -> String {
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

fn secret(reader: &Reader<'_>, variable: &var::Variable) -> Option<SecretString> {
    Some(reader.text(variable))
        .filter(|text| !text.is_empty())
        .map(SecretString::from)
}

#[cfg(test)]
mod tests;
