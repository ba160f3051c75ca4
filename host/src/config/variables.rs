//! Every environment variable: the one table behind the parser, `--help`, `distributor check` and the README.

/// How the text of a variable is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As it is.
    Text,
    /// As it is, and shown only as `***`.
    Secret,
    /// An integer in Go's notation: decimal, `0x…`, `0o…`, `0b…`, `_` between digits.
    Integer,
    /// A number of seconds.
    Seconds,
    /// `true`, `false`, `1`, `0`, `t`, `f` and their capitals.
    Boolean,
    /// `10s`, `1m30s`, `500ms`.
    Duration,
    /// A number of bytes, or one with `KiB`, `MiB` or `GiB`.
    Bytes,
    /// Items between commas.
    List,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Secret => "secret",
            Self::Integer => "integer",
            Self::Seconds => "seconds",
            Self::Boolean => "boolean",
            Self::Duration => "duration",
            Self::Bytes => "bytes",
            Self::List => "list",
        }
    }
}

/// One environment variable.
#[derive(Debug)]
pub struct Variable {
    /// Its exact name.
    pub name: &'static str,
    /// How it is read.
    pub kind: Kind,
    /// What counts when it is not set.
    pub default: &'static str,
    /// What it does, in one sentence.
    pub help: &'static str,
}

macro_rules! variables {
    ($($title:literal: [$($constant:ident $kind:ident $default:literal $help:literal)*])*) => {
        $($(
            #[doc = $help]
            pub const $constant: Variable = Variable {
                name: stringify!($constant),
                kind: Kind::$kind,
                default: $default,
                help: $help,
            };
        )*)*
        /// All variables in groups, in the order they are documented.
        pub const GROUPS: &[(&str, &[Variable])] = &[$(($title, &[$($constant),*])),*];
    };
}

variables! {
    "Receiving events": [
        PUBSUB_URL Text "nats://keptn-nats" "NATS servers, separated by commas; `user:password@` may stand before a host, the port defaults to 4222."
        NATS_USER Text "" "User on the NATS servers; wins over the URL."
        NATS_PASSWORD Secret "" "Password of that user."
        NATS_PASSWORD_FILE Text "" "File with the password, in place of the value; read again when it changes."
        NATS_TOKEN Secret "" "Token for the NATS servers, in place of a user."
        NATS_TOKEN_FILE Text "" "File with the token, in place of the value; read again when it changes."
        NATS_CREDS_FILE Text "" "Credentials file of NATS (a JWT and a key), in place of a user; read again when it changes."
        NATS_TLS_CERT_FILE Text "" "File with a client certificate (PEM) for NATS servers that ask for one; read at each connection. A private CA goes into `SSL_CERT_FILE`."
        NATS_TLS_KEY_FILE Text "" "File with the key of that certificate (PEM)."
        PUBSUB_TOPIC List "" "Subjects (event types) to receive; the wildcards `*` and `>` are allowed."
        PUBSUB_GROUP Text "" "Queue group: of all instances with the same group one gets each event. Empty: every instance gets every event."
        DELIVERY_MODE Text "auto" "`auto`: JetStream for every topic that a stream stores, core NATS for the others. `jetstream`: wait until a stream stores them. `core`: core NATS only, which keeps no copy of an event."
        JETSTREAM_STREAM Text "" "The only stream to receive from. Empty: whichever stores the topic."
        JETSTREAM_DURABLE Text "" "Name of the durable consumer. Empty: made from namespace, deployment, group and recipient, so that the replicas of one service share it and no others do."
        JETSTREAM_ACK_WAIT Duration "30s" "Time after which the server gives an event to another replica when this one has fallen silent."
    ]
    "Delivering to the service": [
        PUBSUB_RECIPIENT Text "http://127.0.0.1" "Host of the service, with or without `http://` or `https://`."
        PUBSUB_RECIPIENT_PORT Text "8080" "Port of the service."
        PUBSUB_RECIPIENT_PATH Text "" "Path of the service."
        DELIVERY_CONCURRENCY Integer "16" "Deliveries at the same time."
        DELIVERY_ORDERING Text "key" "`key`: events of one `shkeptncontext` are delivered one after the other, in order. `none`: in no order. `strict`: all events one after the other."
        DELIVERY_MAX_INFLIGHT Integer "256" "Events from JetStream or from polling that are in memory at the same time; the rest stays where it is."
        DELIVERY_MAX_INFLIGHT_BYTES Bytes "16MiB" "Bytes of events from JetStream or from polling that are in memory at the same time."
        DELIVERY_TIMEOUT Duration "60s" "Time the service has to answer one request."
        DELIVERY_ON_TIMEOUT Text "auto" "What no answer in time means. `auto`: delivered if the service has sent a `.started` or `.finished` for the event, otherwise try again. `retry`: try again. `accept`: delivered."
        DELIVERY_RETRY Integer "10" "Attempts after the first one, before the event goes to the dead letters."
        DELIVERY_RETRY_ON List "404,408,409,425,429,500,502-599" "Statuses to try again on: single ones, ranges, and classes like `5xx`. Others from 300 on are final."
        DELIVERY_BACKOFF_DELAY Duration "500ms" "Longest pause before the second attempt; doubled for each further one. The pause is random from 0 to that."
        DELIVERY_BACKOFF_MAX Duration "1m" "Longest pause between two attempts. A service that sends `Retry-After` gets up to 5 min."
        DELIVERY_MAX_AGE Duration "1h" "Time after the first attempt that reached the service, after which an event goes to the dead letters whatever attempts are left."
    ]
    "Dead letters": [
        DEAD_LETTER Text "auto" "Where events go that cannot be delivered. `nats`: a JetStream stream. `file:<directory>`: files. `log`: an error line, and the event is lost. `auto`: `nats` where JetStream is available, otherwise `log`, which is also what a remote execution plane does."
        DEAD_LETTER_CREATE_STREAM Boolean "true" "Create the stream `DISTRIBUTOR_DLQ` when it is missing."
        DEAD_LETTER_MAX_AGE Duration "14d" "Time after which a dead letter is deleted; used when the stream is created."
        DEAD_LETTER_MAX_BYTES Bytes "64MiB" "Room for dead letters; when it is used up, events are held back rather than lost. Used when the stream is created, and for the directory."
    ]
    "Filtering": [
        PROJECT_FILTER List "" "Projects whose events are delivered; empty: all. Applies to events that no subscription of the control plane matched."
        STAGE_FILTER List "" "Stages whose events are delivered; empty: all."
        SERVICE_FILTER List "" "Services whose events are delivered; empty: all."
        PLUGINS_DIR Text "" "Directory with `plugins.toml` and WebAssembly components, run after the built-in filter. Changes take effect while it runs. Empty: the built-in filter alone."
        PLUGINS_POLL_INTERVAL Duration "30s" "Pause between two looks at that directory, for file systems and nodes that do not tell of changes."
        PLUGINS_CACHE_DIR Text "" "Private directory for the native code of plugins, so that they are compiled once, and for the last plugins that worked, so that a restart comes up while those in `PLUGINS_DIR` are broken. Best on a volume that outlives the container. Empty: one in the system's folder for temporary files; `off`: none."
        PLUGINS_TRUSTED_KEYS List "" "Public keys of minisign (`RW…`). Set: every component in a file needs a signature `<file>.minisig` by one of them. Empty: none does."
        PLUGINS_TRUSTED_KEYS_FILE Text "" "File with such keys, one in each line, in place of the list; read again whenever plugins are loaded."
    ]
    "Listening on localhost": [
        API_PROXY_PORT Integer "8081" "Port for the service next to the distributor; `0` takes a free one."
        PROXY_BIND Text "127.0.0.1" "IP address to listen on. Whatever can reach it can use the token of the Keptn API."
        EVENT_FORWARDING_PATH Text "/event" "Path that takes events of the service and sends them to the control plane."
        API_PROXY_PATH Text "/" "Path prefix of the API proxy; it is taken off before the path is looked at."
        API_PROXY_MAX_PAYLOAD_BYTES_KB Integer "64" "Largest request body, in units of 1024 bytes, on every path; `0` or less: no limit."
        API_PROXY_HTTP_TIMEOUT Seconds "30" "Time a call to the Keptn API may take; through the API proxy, time until the answer begins and longest pause in it. `0` or less: no limit."
    ]
    "Probes, metrics and control": [
        ADMIN_BIND Text "0.0.0.0:8091" "IP address and port for the probes `/livez`, `/readyz` and `/startupz` and for `/metrics`, and nothing else. `off` or empty: none."
        CONTROL_BIND Text "127.0.0.1:8092" "IP address and port of the control listener: the status page, plugins in force, reload, rollback, dead letters. `off` or empty: none. An address that others can reach needs a token."
        CONTROL_TOKEN Secret "" "Token that requests to the control listener have to bring (`Authorization: Bearer …`)."
        CONTROL_TOKEN_FILE Text "" "File with that token, in place of the value; read again when it changes."
    ]
    "Keptn API": [
        KEPTN_API_ENDPOINT Text "" "URL of the Keptn API. Set: remote execution plane, events are polled over HTTP. Empty: in the cluster, events come over NATS."
        KEPTN_API_TOKEN Secret "" "Token of the Keptn API, sent as `x-token`."
        KEPTN_API_TOKEN_FILE Text "" "File with the token, in place of the value; read again when it changes."
        HTTP_POLLING_INTERVAL Seconds "10" "Pause between two polls of the Keptn API, at least 1, give or take a fifth."
        DEDUPE_STATE_FILE Text "" "Remote execution plane: file that remembers which open events were delivered, so that a restart does not deliver them again; it should be on a volume that outlives the container. Empty: memory only."
        HTTP_SSL_VERIFY Boolean "true" "Whether certificates are verified: of the Keptn API, of the identity provider, and of the service. `SSL_CERT_FILE` and `SSL_CERT_DIR` name authorities in place of the system's."
        OAUTH_CLIENT_ID Text "" "OAuth client id."
        OAUTH_CLIENT_SECRET Secret "" "OAuth client secret."
        OAUTH_CLIENT_SECRET_FILE Text "" "File with the client secret, in place of the value; read again when it changes."
        OAUTH_DISCOVERY Text "" "URL of the discovery document of the identity provider."
        OAUTH_TOKEN_URL Text "" "URL that gives tokens; wins over discovery."
        OAUTH_SCOPES List "" "Scopes to ask for."
    ]
    "Registration": [
        DISABLE_REGISTRATION Boolean "false" "Do not register an integration at the control plane."
        REGISTRATION_INTERVAL Duration "10s" "Pause between attempts to register, at least 1s."
        MAX_REGISTRATION_RETRIES Integer "10" "Attempts to register at start; when they are used up, the process ends with 1. A negative number: no end."
        HEARTBEAT_INTERVAL Duration "10s" "Pause between heartbeats, at least 1s. Subscriptions come with their answers."
        MAX_HEARTBEAT_RETRIES Integer "10" "Failed heartbeats in a row after which the integration is registered anew, with growing pauses."
        LOCATION Text "" "Where the integration runs. Empty: `control-plane` or `remote-execution-plane`."
        DISTRIBUTOR_VERSION Text "" "Version of the distributor in the registration. Empty: its own."
        VERSION Text "" "Version of the integration."
        K8S_DEPLOYMENT_NAME Text "" "Deployment of the integration; its name in Keptn."
        K8S_POD_NAME Text "" "Pod of the integration."
        K8S_NAMESPACE Text "" "Namespace of the integration."
        K8S_NODE_NAME Text "" "Node the integration runs on. Empty: `keptn-node`."
    ]
    "Traces": [
        OTEL_EXPORTER_OTLP_ENDPOINT Text "" "URL of a collector that takes spans over HTTP, e.g. `http://collector:4318`. Empty: none are made; the `traceparent` of an event is passed on all the same."
        OTEL_EXPORTER_OTLP_HEADERS Secret "" "Headers for the collector: `name=value` between commas."
        OTEL_EXPORTER_OTLP_TIMEOUT Integer "10000" "Milliseconds that the collector has to answer."
        OTEL_SERVICE_NAME Text "" "Name under which the spans are shown. Empty: `distributor`."
        OTEL_RESOURCE_ATTRIBUTES Text "" "More about this process: `name=value` between commas."
        OTEL_TRACES_SAMPLER Text "parentbased_always_on" "Which traces are recorded: `always_on`, `always_off`, `traceidratio`, or `parentbased_` before one of them, where the event's own context decides if it has one."
        OTEL_TRACES_SAMPLER_ARG Text "" "Share for `traceidratio`, from 0 to 1. Empty: 1."
        OTEL_SDK_DISABLED Boolean "false" "Make no spans, whatever else is set."
    ]
    "Operation": [
        LOG_LEVEL Text "info" "`error`, `warn`, `info`, `debug`, `trace`, or a list like `info,distributor::delivery=debug`. Logs go to standard error."
        LOG_FORMAT Text "text" "`text`: for people. `json`: each line is an object with `timestamp`, `level`, `target`, `message` and the fields."
        WORKER_THREADS Integer "0" "Threads for events and requests, 64 at most. `0`: as many as the CPU limit allows, but no more than 2, which carry 100,000 events a second. Plugins that take long have a thread of their own."
        SHUTDOWN_DRAIN_TIMEOUT Duration "25s" "Time that attempts under way get to end after SIGTERM. What comes from JetStream and was not started goes back to the stream."
    ]
}

/// All variables in the order they are documented.
pub fn all() -> impl Iterator<Item = &'static Variable> {
    GROUPS.iter().flat_map(|(_, variables)| variables.iter())
}

/// The table for `--help`.
pub fn help_text() -> String {
    let group = |(title, variables): &(&str, &[Variable])| {
        let lines = variables.iter().map(|variable| {
            let default = variable.default_in(" [default: ", "]");
            let (name, kind, help) = (variable.name, variable.kind.name(), variable.help);
            format!("  {name} ({kind}){default}\n          {help}\n")
        });
        format!("\n{title}:\n{}", lines.collect::<Vec<_>>().concat())
    };
    let groups: Vec<_> = GROUPS.iter().map(group).collect();
    format!(
        "The configuration is read from environment variables:\n{}",
        groups.concat()
    )
}

/// The table for the README, in Markdown.
pub fn markdown_table() -> String {
    let group = |(title, variables): &(&str, &[Variable])| {
        let rows = variables.iter().map(|variable| {
            let default = variable.default_in("`", "`");
            let (name, kind, help) = (variable.name, variable.kind.name(), variable.help);
            format!("| `{name}` | {kind} | {default} | {help} |\n")
        });
        format!("| **{title}** | | | |\n{}", rows.collect::<Vec<_>>().concat())
    };
    let groups: Vec<_> = GROUPS.iter().map(group).collect();
    format!(
        "| variable | kind | default | meaning |\n|---|---|---|---|\n{}",
        groups.concat()
    )
}

impl Variable {
    fn default_in(&self, before: &str, after: &str) -> String {
        if self.default.is_empty() {
            String::new()
        } else {
            format!("{before}{}{after}", self.default)
        }
    }
}
