//! Turns environment variables into a valid [`Config`], or into every reason why not.
//!
//! Called by `main` and `distributor check` through a lookup closure. It opens nothing and starts nothing.

mod api;
mod read;
pub mod report;
mod retry_on;
mod sections;
pub mod variables;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::ServerAddr;
use http::{HeaderMap, Uri};
use url::Url;

pub use self::api::{ApiEndpoint, ApiService};
use self::read::Reader;
pub use self::read::{Lookup, byte_size};
pub use self::retry_on::RetryOn;
pub use self::sections::cache_dir;
pub use self::sections::check_log_level;
use self::variables as var;
use crate::plugins::TrustedKeys;
use crate::secret::{Secret, SecretError};
use crate::subject::Subject;
use crate::tls::ClientCertificate;
use crate::trace::Sampler;

/// Everything that was configured, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where events come from.
    pub nats: NatsConfig,
    /// How events are received where a stream stores them.
    pub jetstream: JetStreamConfig,
    /// Where events go to.
    pub delivery: DeliveryConfig,
    /// Where events go that cannot be delivered.
    pub dead_letter: DeadLetterConfig,
    /// The lists of the environment for the built-in filter.
    pub filter: FilterLists,
    /// Directory with further plugins.
    pub plugins_dir: Option<PathBuf>,
    /// Pause between two looks at that directory.
    pub plugins_poll_interval: Duration,
    /// Private directory for what plugins leave behind; none when nothing is to be kept.
    pub plugins_cache_dir: Option<PathBuf>,
    /// The listener for probes and metrics.
    pub admin: AdminConfig,
    /// The listener for whoever operates the distributor.
    pub control: ControlConfig,
    /// Who may sign plugins; none: nobody has to.
    pub trusted_keys: Option<TrustedKeys>,
    /// The listener for the service next to the distributor.
    pub server: ServerConfig,
    /// How to reach the Keptn API.
    pub api: ApiConfig,
    /// Where the distributor runs.
    pub workload: Workload,
    /// The integration, unless it is not to be registered.
    pub registration: Option<RegistrationConfig>,
    /// Threads for events and requests, where their number is given.
    pub worker_threads: Option<NonZeroUsize>,
    /// Time that events in flight get after SIGTERM.
    pub drain_timeout: Duration,
    /// Where spans go.
    pub traces: Option<TracesConfig>,
    /// Filter directives of the log.
    pub log_level: String,
    /// What a line of the log looks like.
    pub log_format: LogFormat,
    /// Oddities that stop nothing.
    pub warnings: Vec<String>,
}

/// Where spans go, and which.
#[derive(Debug, Clone)]
pub struct TracesConfig {
    /// Of the collector, for traces.
    pub endpoint: Url,
    /// Sent with each request; not shown.
    pub headers: HeaderMap,
    /// For one request.
    pub timeout: Duration,
    /// What is said about this process.
    pub resource: Vec<(String, String)>,
    /// Which traces are recorded.
    pub sampler: Sampler,
    /// Whether the parent's decision counts where there is one.
    pub is_parent_based: bool,
}

/// What a line of the log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object.
    Json,
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
    /// Who we are, where no URL says it.
    pub credentials: Option<NatsCredentials>,
    /// Shown to servers that ask for one.
    pub client_certificate: Option<ClientCertificate>,
}

/// Who we are to NATS.
#[derive(Debug, Clone)]
pub enum NatsCredentials {
    /// A user with a password.
    User {
        /// Its name.
        name: String,
        /// Its password.
        password: Secret,
    },
    /// A token.
    Token(Secret),
    /// A credentials file: a JWT and the seed of a key.
    File(Secret),
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
            .field("credentials", &self.credentials)
            .field("client_certificate", &self.client_certificate)
            .finish()
    }
}

/// Which topics are received from streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryMode {
    /// Those that a stream stores.
    Auto,
    /// All; those that no stream stores wait for one.
    JetStream,
    /// None.
    Core,
}

/// Receiving from JetStream.
#[derive(Debug, Clone)]
pub struct JetStreamConfig {
    /// Which topics.
    pub mode: DeliveryMode,
    /// The only stream to use.
    pub stream: Option<String>,
    /// Name of the durable consumer.
    pub durable: String,
    /// Whether all replicas of the service use the same durable. Otherwise every instance has its own, and gets every
    /// event.
    pub is_shared: bool,
    /// Time after which the server gives an event to somebody else.
    pub ack_wait: Duration,
    /// Events in memory.
    pub max_events: usize,
    /// Bytes of them.
    pub max_bytes: usize,
}

/// Delivery to the service.
#[derive(Debug, Clone)]
pub struct DeliveryConfig {
    /// Full URL.
    pub recipient: Uri,
    /// Whether its certificate is verified, if it has one.
    pub verify_certificates: bool,
    /// Deliveries at the same time.
    pub concurrency: usize,
    /// What keeps them in order.
    pub ordering: Ordering,
    /// Time for one request.
    pub timeout: Duration,
    /// What no answer in that time means.
    pub on_timeout: OnTimeout,
    /// Attempts after the first.
    pub retries: u32,
    /// Statuses to try again on.
    pub retry_on: RetryOn,
    /// Longest pause before the second attempt.
    pub first_pause: Duration,
    /// Longest pause of all.
    pub longest_pause: Duration,
    /// Time after the first attempt that reached the service.
    pub max_age: Duration,
}

/// What it means that the service does not answer in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTimeout {
    /// Delivered if the service has shown otherwise that it works on the event.
    Auto,
    /// Not delivered.
    Retry,
    /// Delivered.
    Accept,
}

/// Where events go that cannot be delivered.
#[derive(Debug, Clone)]
pub struct DeadLetterConfig {
    /// The place.
    pub sink: DeadLetterSink,
    /// Whether a missing stream is created.
    pub creates_stream: bool,
    /// Age at which a dead letter is deleted.
    pub max_age: Duration,
    /// Room for dead letters.
    pub max_bytes: usize,
}

/// The kinds of places for dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetterSink {
    /// The stream if JetStream is available, otherwise the log.
    Auto,
    /// The stream.
    Nats,
    /// This directory.
    Directory(PathBuf),
    /// A line without the event.
    Log,
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
    /// Where to listen.
    pub address: IpAddr,
    /// 0 takes a free port.
    pub port: u16,
    /// Takes events of the service.
    pub event_path: String,
    /// Prefix of the API proxy.
    pub proxy_path: String,
    /// Largest request body in bytes.
    pub max_body_bytes: Option<usize>,
}

/// The listener for probes and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where to listen; none when it is off.
    pub address: Option<SocketAddr>,
    /// Whether nobody has asked for this address, so that it may be taken by another sidecar of the pod.
    pub is_default: bool,
}

/// The control listener.
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// Where to listen; none when it is off.
    pub address: Option<SocketAddr>,
    /// Whether nobody has asked for this address, so that it may be taken by another sidecar of the pod.
    pub is_default: bool,
    /// What requests have to bring.
    pub token: Option<Secret>,
}

/// The Keptn API.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// In the cluster, or somewhere else.
    pub endpoint: ApiEndpoint,
    /// `x-token`.
    pub token: Option<Secret>,
    /// Time for one call.
    pub timeout: Option<Duration>,
    /// Pause between polls.
    pub polling_interval: Duration,
    /// Where polling remembers which open events are settled.
    pub state_file: Option<PathBuf>,
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
    pub client_secret: Secret,
    /// Where tokens come from.
    pub tokens: TokenSource,
    /// Scopes to ask for.
    pub scopes: Vec<String>,
}

/// Where OAuth tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// This URL.
    Url(Url),
    /// What this discovery document says.
    Discovery(Url),
}

/// Where the distributor runs in Kubernetes, as far as it was told.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Deployment name: the name of the integration.
    pub deployment: String,
    /// Namespace.
    pub namespace: String,
    /// Pod.
    pub pod: String,
    /// Node.
    pub node: String,
}

/// The integration.
#[derive(Debug, Clone)]
pub struct RegistrationConfig {
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
    let endpoint = sections::endpoint(&mut reader);
    let nats = sections::nats(&mut reader);
    let verify_certificates = reader.boolean(&var::HTTP_SSL_VERIFY);
    let delivery = sections::delivery(&mut reader, verify_certificates);
    let workload = sections::workload(&reader);
    let config = Config {
        jetstream: sections::jetstream(&mut reader, nats.group.as_deref(), &delivery.recipient),
        nats,
        delivery,
        dead_letter: sections::dead_letter(&mut reader, &endpoint),
        filter: FilterLists {
            projects: reader.list(&var::PROJECT_FILTER),
            stages: reader.list(&var::STAGE_FILTER),
            services: reader.list(&var::SERVICE_FILTER),
        },
        plugins_dir: Some(reader.text(&var::PLUGINS_DIR))
            .filter(|text| !text.is_empty())
            .map(PathBuf::from),
        plugins_poll_interval: reader.positive_duration(&var::PLUGINS_POLL_INTERVAL, "would look all the time"),
        plugins_cache_dir: sections::plugins_cache_dir(&reader),
        admin: sections::admin(&mut reader),
        control: sections::control(&mut reader),
        trusted_keys: sections::trusted_keys(&mut reader),
        server: sections::server(&mut reader),
        registration: sections::registration(&mut reader, &endpoint, &workload),
        workload,
        api: sections::api(&mut reader, endpoint, verify_certificates),
        worker_threads: sections::worker_threads(&mut reader),
        drain_timeout: reader.duration(&var::SHUTDOWN_DRAIN_TIMEOUT),
        traces: sections::traces(&mut reader),
        log_level: sections::log_level(&mut reader),
        log_format: sections::log_format(&mut reader),
        warnings: std::mem::take(&mut reader.warnings),
    };
    if reader.problems.is_empty() {
        Ok(config)
    } else {
        Err(ConfigErrors(reader.problems))
    }
}

/// Where the admin listener is: for those who need nothing else.
///
/// # Errors
/// What is wrong with that.
pub fn admin_from_env(lookup: Lookup<'_>) -> Result<AdminConfig, ConfigErrors> {
    let mut reader = Reader::new(lookup);
    let admin = sections::admin(&mut reader);
    if reader.problems.is_empty() {
        Ok(admin)
    } else {
        Err(ConfigErrors(reader.problems))
    }
}

impl NatsCredentials {
    fn secret(&self) -> &Secret {
        match self {
            Self::User { password: secret, .. } | Self::Token(secret) | Self::File(secret) => secret,
        }
    }
}

impl Config {
    /// Which files with secrets cannot be read. The one thing here that looks at files: at start such a mistake should
    /// show, and later the last good value stays in use.
    pub fn unreadable_secrets(&self) -> Vec<Problem> {
        let oauth = self.api.oauth.as_ref().map(|oauth| &oauth.client_secret);
        let nats = self.nats.credentials.as_ref().map(NatsCredentials::secret);
        let secrets = self
            .api
            .token
            .iter()
            .chain(oauth)
            .chain(nats)
            .chain(&self.control.token);
        let problem = |SecretError { variable, problem }| Problem { variable, problem };
        let mut problems: Vec<_> = secrets
            .filter_map(|secret| secret.current().err().map(problem))
            .collect();
        if let Some(Err(problem)) = self.nats.client_certificate.as_ref().map(ClientCertificate::read) {
            let variable = var::NATS_TLS_CERT_FILE.name;
            problems.push(Problem { variable, problem });
        }
        problems
    }
}

#[cfg(test)]
mod tests;
