//! What the tests are written with: the peers of the distributor, the distributor in this process or as one of its own,
//! and short ways to make events and to read what arrived.
//!
//! Used by every module. What goes wrong in here ends the test with a message, so that test bodies stay stories.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Request, Subscriber};
use bytes::Bytes;
use distributor::app::{self, Listeners, RunError, Signals};
use distributor::config::{self, Config};
use distributor::plugins::Compiler;
use distributor::subject::{self, Subject};
use distributor::subscription::{Interest, Subscription};
use futures_util::StreamExt;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use test_support::{
    DistributorProcess, HttpResponse, KeptnEvent, NatsClient, NatsServer, ReceivedRequest, Recipient, Stream,
    eventually, http_request,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long something may take that should happen at once: only a failing test waits this long.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_distributor");

/// The type of [`event`].
pub(crate) const TASK_TRIGGERED: &str = "sh.keptn.event.task.triggered";

/// Listens to everything of Keptn.
pub(crate) const ALL_TOPICS: (&str, &str) = ("PUBSUB_TOPIC", "sh.keptn.>");

/// What the distributor stands between.
pub(crate) struct Peers {
    pub(crate) nats: NatsServer,
    pub(crate) recipient: Recipient,
    /// The control plane's connection. What it publishes, the server handles in order.
    pub(crate) control_plane: Client,
}

impl Peers {
    pub(crate) async fn start() -> Self {
        let nats = NatsServer::start().await.expect("nats-server starts");
        Self {
            control_plane: nats.client().await.expect("nats-server takes clients"),
            nats,
            recipient: Recipient::start().await.expect("the recipient starts"),
        }
    }

    /// A distributor in this process, with the variables of the environment given. Returns when it listens.
    pub(crate) async fn app(&self, variables: &[(&str, &str)]) -> App {
        let topics = self.config(variables).nats.topics;
        self.app_interested_in(Interest::topics(topics), variables).await
    }

    /// A distributor in this process that a control plane has told what to listen for. Returns when it does.
    pub(crate) async fn app_interested_in(&self, interest: Interest, variables: &[(&str, &str)]) -> App {
        let config = self.config(variables);
        let (event_path, subjects) = (config.server.event_path.clone(), subject::cover(&interest.patterns()));
        let already = self.n_listening(&subjects).await;
        let app = App::start(config, interest).await;
        self.wait_until_connected(app.address, &event_path).await;
        self.wait_until_listening(&subjects, already + 1).await;
        app
    }

    /// The distributor as a process. Returns when it listens, over HTTP and NATS.
    pub(crate) async fn process(&self, variables: &[(&str, &str)]) -> DistributorProcess {
        let config = self.config(variables);
        let subjects = subject::cover(&config.nats.topics);
        let already = self.n_listening(&subjects).await;
        let mut process = self.starting_process(variables);
        process
            .wait_until_ready(SOON)
            .await
            .expect("the distributor gets ready");
        self.wait_until_connected(process.proxy_address(), &config.server.event_path)
            .await;
        self.wait_until_listening(&subjects, already + 1).await;
        process
    }

    /// The distributor as a process of which nothing is known but that it was started.
    pub(crate) fn starting_process(&self, variables: &[(&str, &str)]) -> DistributorProcess {
        let own = self.variables();
        let own = own.iter().map(|(name, value)| (*name, value.as_str()));
        // Later ones win, as in a shell.
        let environment: Vec<_> = own.chain(variables.iter().copied()).collect();
        start_process(&environment)
    }

    pub(crate) fn config(&self, variables: &[(&str, &str)]) -> Config {
        let mut environment: HashMap<String, String> = HashMap::new();
        for (name, value) in self.variables() {
            environment.insert(name.to_owned(), value);
        }
        environment.insert("API_PROXY_PORT".to_owned(), "0".to_owned());
        environment.insert("PLUGINS_CACHE_DIR".to_owned(), "off".to_owned());
        for (name, value) in variables {
            environment.insert((*name).to_owned(), (*value).to_owned());
        }
        config::from_env(&|name| environment.get(name).cloned()).expect("the configuration is valid")
    }

    /// Publishes an event on its type.
    pub(crate) async fn publish(&self, event: &KeptnEvent) {
        self.publish_bytes(&event.ty, event.to_bytes()).await;
    }

    pub(crate) async fn publish_all(&self, events: impl IntoIterator<Item = KeptnEvent>) {
        for event in events {
            self.publish(&event).await;
        }
    }

    pub(crate) async fn publish_bytes(&self, subject: &str, payload: impl Into<Bytes>) {
        let published = self.control_plane.publish(subject.to_owned(), payload.into()).await;
        published.expect("the control plane can publish");
    }

    /// Waits until the server has handed on everything published so far.
    pub(crate) async fn everything_is_sent(&self) {
        round_trip(&self.control_plane).await;
    }

    /// Waits for `n` deliveries and returns their event ids, in the order of arrival.
    pub(crate) async fn delivered_ids(&self, n: usize) -> Vec<String> {
        self.delivered(n).await.iter().map(event_id).collect()
    }

    /// Waits for `n` deliveries.
    pub(crate) async fn delivered(&self, n: usize) -> Vec<ReceivedRequest> {
        match self.recipient.wait_for(n, SOON).await {
            Ok(journal) => journal,
            Err(error) => {
                let ids: Vec<_> = self.recipient.journal().iter().map(event_id).collect();
                panic!("{error}: {ids:?}")
            }
        }
    }

    /// What the control plane gets from now on.
    pub(crate) async fn listen(&self, subject: &str) -> Listener {
        let subscriber = self.control_plane.subscribe(subject.to_owned()).await;
        round_trip(&self.control_plane).await;
        Listener(subscriber.expect("the control plane can subscribe"))
    }

    /// Waits until `n` distributors listen to `subject`, a subject or pattern that they asked for.
    pub(crate) async fn wait_for_listening(&self, subject: &str, n: usize) {
        let subjects = BTreeSet::from([Subject::pattern(subject).expect("the subject is one")]);
        self.wait_until_listening(&subjects, n).await;
    }

    /// What distributors are subscribed to, in order: subjects, and what tells a subscription from the one before.
    pub(crate) async fn subscriptions_on_nats(&self) -> Vec<(String, String)> {
        let clients = self.nats.clients().await.expect("nats-server answers");
        let distributors = clients.into_iter().filter(|client| client.name == "distributor");
        let mut subscriptions: Vec<_> = distributors.flat_map(|client| client.subscriptions).collect();
        subscriptions.sort();
        subscriptions
    }

    async fn wait_until_listening(&self, subjects: &BTreeSet<Subject>, n: usize) {
        let result = eventually(SOON, async || self.n_listening(subjects).await == n).await;
        let clients = self.nats.clients().await;
        result.unwrap_or_else(|_| panic!("{n} distributors were to listen to {subjects:?}: {clients:?}"));
    }

    /// How many distributors listen to all of `subjects`.
    async fn n_listening(&self, subjects: &BTreeSet<Subject>) -> usize {
        let clients = self.nats.clients().await.unwrap_or_default();
        let listens_to_all = |client: &NatsClient| {
            let listens_to = |subject: &str| client.subscriptions.iter().any(|(other, _)| other == subject);
            client.name == "distributor" && subjects.iter().all(|subject| listens_to(subject.as_str()))
        };
        clients.iter().filter(|&client| listens_to_all(client)).count()
    }

    /// Its own view counts: it may learn that it is connected later than the server does.
    async fn wait_until_connected(&self, distributor: SocketAddr, event_path: &str) {
        let knock = r#"{"specversion":"1.0","id":"knock","source":"harness","type":"harness.knock"}"#;
        let is_connected = async || {
            let answer = http_request(distributor, "POST", event_path, &[], knock).await;
            answer.is_ok_and(|answer| answer.status == 200)
        };
        let result = eventually(SOON, is_connected).await;
        result.expect("the distributor gets a connection to NATS");
    }

    fn variables(&self) -> [(&'static str, String); 2] {
        [
            ("PUBSUB_URL", self.nats.url()),
            ("PUBSUB_RECIPIENT_PORT", self.recipient.port().to_string()),
        ]
    }
}

/// A distributor in this process.
pub(crate) struct App {
    /// Its listener for the service.
    pub(crate) address: SocketAddr,
    /// What it listens for: the place of the control plane.
    pub(crate) interest: watch::Sender<Arc<Interest>>,
    signals: Signals,
    running: JoinHandle<Result<(), RunError>>,
}

impl App {
    /// Starts it and does not wait for anything.
    pub(crate) async fn start(config: Config, interest: Interest) -> Self {
        let service = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = service.local_addr().expect("a listener has an address");
        let interest = watch::Sender::new(Arc::new(interest));
        let signals = Signals::default();
        let listeners = Listeners {
            service,
            admin: None,
            control: None,
        };
        let running = app::run(
            config,
            listeners,
            interest.clone(),
            Compiler::in_process(),
            signals.clone(),
        );
        Self {
            address,
            interest,
            signals,
            running: tokio::spawn(running),
        }
    }

    /// The control plane wants something else from now on.
    pub(crate) fn change_interest(&self, interest: Interest) {
        self.interest.send_replace(Arc::new(interest));
    }

    /// `POST /event` with an event in structured mode.
    pub(crate) async fn post(&self, body: impl Into<Bytes>) -> HttpResponse {
        post(self.address, body).await
    }

    /// `POST /event` with these headers.
    pub(crate) async fn post_with(&self, headers: &[(&str, &str)], body: impl Into<Bytes>) -> HttpResponse {
        let response = http_request(self.address, "POST", "/event", headers, body).await;
        response.expect("the distributor answers")
    }

    /// Lets it end and returns how it did.
    pub(crate) async fn shut_down(self) -> Result<(), RunError> {
        self.signals.shutdown.cancel();
        let ended = timeout(SOON, self.running).await.expect("the distributor ends soon");
        ended.expect("the distributor does not panic")
    }
}

/// What the control plane gets.
pub(crate) struct Listener(Subscriber);

impl Listener {
    /// The payload of the next message.
    pub(crate) async fn next(&mut self) -> Bytes {
        let message = timeout(SOON, self.0.next()).await.expect("a message comes soon");
        message.expect("the subscription stays").payload
    }

    /// The event ids of the next `n` messages.
    pub(crate) async fn next_ids(&mut self, n: usize) -> Vec<String> {
        let mut ids = Vec::with_capacity(n);
        for _ in 0..n {
            ids.push(id_in(&self.next().await));
        }
        ids
    }
}

/// A directory for `PLUGINS_DIR`, deleted when dropped.
pub(crate) struct PluginFolder(TempDir);

impl PluginFolder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("there is a folder for temporary files"))
    }

    /// With this `plugins.toml`, and the misbehaving guest as `guest.wasm`.
    pub(crate) fn with_manifest(manifest: &str) -> Self {
        Self::new()
            .file("plugins.toml", manifest)
            .file("guest.wasm", guest("guest_misbehaving.wasm"))
    }

    /// With one plugin, named `suspect`, that behaves like this for events whose id starts with `bad`.
    pub(crate) fn behaving(behaviour: &str) -> Self {
        Self::behaving_with(behaviour, "", "")
    }

    /// The same with more lines for the plugin's entry and for its configuration. Where the entry does not say otherwise
    /// failures are final, so that tests need not wait for the last attempt.
    pub(crate) fn behaving_with(behaviour: &str, entry: &str, config: &str) -> Self {
        let on_failure = if entry.contains("on_failure") {
            ""
        } else {
            "on_failure = \"dead-letter\"\n"
        };
        Self::with_manifest(&format!(
            "default_filter = false\n\
             [[plugin]]\nname = \"suspect\"\ncomponent = \"guest.wasm\"\n{on_failure}{entry}\n\
             [plugin.config]\nbehaviour = \"{behaviour}\"\nonly = \"bad\"\n{config}\n"
        ))
    }

    pub(crate) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.0.path().join(name), content).expect("the folder can be written to");
        self
    }

    /// The variable that makes a distributor use it.
    pub(crate) fn variable(&self) -> (&'static str, &str) {
        ("PLUGINS_DIR", self.path())
    }

    pub(crate) fn path(&self) -> &str {
        self.0.path().to_str().expect("temporary folders have plain names")
    }
}

/// The bytes of a component of `tests/guests`.
pub(crate) fn guest(file: &str) -> Vec<u8> {
    let path = guests_dir().join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("`make guests` builds {}: {error}", path.display()))
}

/// Where `make guests` puts components.
pub(crate) fn guests_dir() -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "where the guests are is the test command's business, not configuration"
    )]
    let variable = std::env::var_os;
    variable("GUESTS_DIR").map_or_else(
        || {
            let target = variable("CARGO_TARGET_DIR").map_or_else(
                || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
                PathBuf::from,
            );
            target.join("components/wasm32-wasip2/plugin")
        },
        PathBuf::from,
    )
}

/// How much of something a test does: little in `make test`, much in `make soak`.
pub(crate) fn extent<T>(short: T, long: T) -> T {
    if is_soak() { long } else { short }
}

/// Whether `make soak` runs the tests.
pub(crate) fn is_soak() -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "how long tests run is the test command's business, not configuration"
    )]
    let soak = std::env::var_os("SOAK");
    soak.is_some()
}

/// As the distributor shows it.
pub(crate) fn digest(component: &[u8]) -> String {
    format!("{:x}", Sha256::digest(component))
}

/// Runs a command of the binary to its end and returns its exit code, standard output and standard error.
pub(crate) async fn run_to_end(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    let output_to = test_support::OutputTo::Memory;
    let process = DistributorProcess::start_with(Path::new(BINARY), arguments, variables, output_to);
    let mut process = process.expect("the binary starts");
    let exit_code = exit_code(&mut process).await;
    let text = |stream| process.output().text(stream);
    (exit_code, text(Stream::Stdout), text(Stream::Stderr))
}

pub(crate) fn start_process(environment: &[(&str, &str)]) -> DistributorProcess {
    DistributorProcess::start(Path::new(BINARY), environment).expect("the binary starts")
}

pub(crate) async fn exit_code(process: &mut DistributorProcess) -> i32 {
    let status = process.wait_exit(SOON).await.expect("the process ends");
    status.code().expect("no signal ends it")
}

/// The lines a process printed so far that contain `wanted`.
pub(crate) fn lines_with(process: &DistributorProcess, wanted: &str) -> Vec<String> {
    let lines = process.output().lines().into_iter().map(|line| line.text);
    lines.filter(|line| line.contains(wanted)).collect()
}

/// How many lines it says were left out.
pub(crate) fn left_out(lines: &[String]) -> u64 {
    let numbers = lines.iter().filter_map(|line| {
        let (_, rest) = line.split_once("left_out=")?;
        rest.split(' ').next()?.parse::<u64>().ok()
    });
    numbers.sum()
}

pub(crate) async fn post(address: SocketAddr, body: impl Into<Bytes>) -> HttpResponse {
    let response = http_request(address, "POST", "/event", &[], body).await;
    response.expect("the distributor answers")
}

pub(crate) async fn health(address: SocketAddr) -> u16 {
    let response = http_request(address, "GET", "/health", &[], "").await;
    response.expect("the distributor answers").status
}

/// A triggered event with this id. All of them are of one Keptn context, and so delivered in order.
pub(crate) fn event(id: &str) -> KeptnEvent {
    KeptnEvent {
        id: id.to_owned(),
        ..KeptnEvent::of_type(TASK_TRIGGERED)
    }
}

/// Events with the ids `<name>-0`, `<name>-1` and so on.
pub(crate) fn events(name: &str, n: usize) -> impl Iterator<Item = KeptnEvent> {
    (0..n).map(move |number| event(&format!("{name}-{number}")))
}

/// The ids of [`events`].
pub(crate) fn numbered_ids(name: &str, n: usize) -> Vec<String> {
    (0..n).map(|number| format!("{name}-{number}")).collect()
}

/// A triggered event of this Keptn context.
pub(crate) fn event_in(context: &str, id: &str) -> KeptnEvent {
    KeptnEvent {
        keptn_context: context.to_owned(),
        ..event(id)
    }
}

/// A subscription that accepts every project, stage and service.
pub(crate) fn subscription(id: &str, subject: &str) -> Subscription {
    Subscription {
        id: id.to_owned(),
        event: Subject::pattern(subject).expect("the subject is one"),
        projects: Vec::new(),
        stages: Vec::new(),
        services: Vec::new(),
    }
}

/// Subscriptions of ids and subjects.
pub(crate) fn subscriptions(list: &[(&str, &str)]) -> Interest {
    Interest::subscriptions(list.iter().map(|(id, subject)| subscription(id, subject)))
}

pub(crate) fn event_id(request: &ReceivedRequest) -> String {
    id_in(&request.body)
}

/// The subscription that an event was delivered for.
pub(crate) fn subscription_id(request: &ReceivedRequest) -> Value {
    json(&request.body)["data"]["temporaryData"]["distributor"]["subscriptionID"].take()
}

/// Event and subscription of each delivery.
pub(crate) fn ids_and_subscriptions(journal: &[ReceivedRequest]) -> Vec<(String, String)> {
    let subscription = |request| subscription_id(request).as_str().unwrap_or_default().to_owned();
    journal
        .iter()
        .map(|request| (event_id(request), subscription(request)))
        .collect()
}

pub(crate) fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(bytes)))
}

/// The status and the `detail` of an answer that has to be an `application/problem+json`.
pub(crate) fn problem(response: &HttpResponse) -> (u16, String) {
    assert_eq!(response.headers["content-type"], "application/problem+json");
    let problem = json(&response.body);
    assert_eq!(problem["status"], response.status);
    (
        response.status,
        problem["detail"].as_str().unwrap_or_default().to_owned(),
    )
}

/// Compares long lists of ids, and says no more than what differs.
pub(crate) fn assert_same(delivered: &[String], expected: &[String]) {
    let count = |list: &[String], id: &String| list.iter().filter(|other| *other == id).count();
    let of = |list: &[String], other: &[String]| -> Vec<String> {
        list.iter()
            .filter(|id| count(list, id) > count(other, id))
            .cloned()
            .collect()
    };
    let (lost, too_many) = (of(expected, delivered), of(delivered, expected));
    assert!(
        lost.is_empty() && too_many.is_empty(),
        "lost {lost:?}, too many {too_many:?}"
    );
    let first_difference = delivered
        .iter()
        .zip(expected)
        .find(|(delivered, expected)| delivered != expected);
    assert_eq!(first_difference, None, "delivered in another order");
}

fn id_in(event: &[u8]) -> String {
    json(event)["id"].as_str().unwrap_or_default().to_owned()
}

/// A server handles what one connection sends in order: when a message to ourselves comes back, everything sent before is
/// done.
async fn round_trip(client: &Client) {
    let inbox = client.new_inbox();
    let echo = client.send_request(inbox.clone(), Request::new().inbox(inbox));
    echo.await.expect("the server answers");
}
