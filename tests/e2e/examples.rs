//! The plugins of `examples/`, as their authors ship them: the component that their Makefile builds, with the entry of
//! their `plugins.toml`, in the real binary. Each does what its README says to its fixture event, and then gets thousands
//! of large events without failing on one and without growing.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json as value};
use test_support::{DistributorProcess, Stream, eventually};

use crate::harness::*;

/// Compiling an interpreter takes its time on a loaded machine.
const COMPILED: Duration = Duration::from_mins(3);
const TOPIC: &str = "sh.keptn.event.build.triggered";
const ROUNDS: usize = 50;
/// Events between two that are delivered.
const ROUND: usize = 100;
const LARGE: usize = 64 << 10;
/// What an allocator may keep of so many events in flight, on a machine where they wait: a tenth of what would be there if
/// each event stayed.
const ALLOWED_GROWTH: u64 = 24 << 20;

/// An example that runs, with a last entry behind it that drops what is of the project `bulk`: what the recipient gets
/// is kept in memory, and is not what this is about.
struct Example {
    peers: Peers,
    process: DistributorProcess,
    fixtures: PathBuf,
    _folder: PluginFolder,
}

impl Example {
    async fn start(name: &str) -> Self {
        let example = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
        let read = |file: &str| {
            let path = example.join(file);
            std::fs::read(&path).unwrap_or_else(|error| panic!("`make examples` builds {}: {error}", path.display()))
        };
        let mut manifest = String::from_utf8(read("plugins.toml")).unwrap();
        let component = manifest.lines().find_map(|line| line.strip_prefix("component = \""));
        let component = component.unwrap().trim_end_matches('"').to_owned();
        write!(
            manifest,
            "\n[[plugin]]\nname = \"last\"\ncomponent = \"builtin:keptn-filter\"\n[plugin.config]\nprojects = [\"rigproj\"]\n"
        )
        .unwrap();
        let fixtures = example.join("fixtures");
        let folder = PluginFolder::new()
            .file("plugins.toml", manifest)
            .file(&component, read(&component));
        let in_folder = PathBuf::from(folder.path()).join("fixtures");
        std::fs::create_dir(&in_folder).unwrap();
        for file in std::fs::read_dir(&fixtures).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), in_folder.join(file.file_name())).unwrap();
        }

        let peers = Peers::start().await;
        let mut process = peers.starting_process(&[("PUBSUB_TOPIC", TOPIC), folder.variable()]);
        if let Err(error) = process.wait_until_ready(COMPILED).await {
            panic!("{name}: {error}: {}", process.output().text(Stream::Stderr));
        }
        peers.wait_for_listening(TOPIC, 1).await;
        Self {
            peers,
            process,
            fixtures,
            _folder: folder,
        }
    }

    fn fixture(&self, file: &str) -> Value {
        json(&std::fs::read(self.fixtures.join(file)).unwrap())
    }

    async fn publish(&self, event: &Value) {
        self.peers.publish_bytes(TOPIC, event.to_string()).await;
    }

    /// The data of the first events that the service gets of this one.
    async fn data_of_first(&self, event: &Value, n: usize) -> Vec<Value> {
        self.publish(event).await;
        let journal = self.peers.delivered(n).await;
        journal
            .iter()
            .map(|request| json(&request.body)["data"].take())
            .collect()
    }

    /// Thousands of large events like this one, and one that is delivered behind each hundred.
    async fn take_many(mut self, like: &Value) {
        let before = self.peers.recipient.journal().len();
        let mut bulk = like.clone();
        bulk["data"]["project"] = value!("bulk");
        bulk["data"]["labels"]["large"] = value!("x".repeat(LARGE));
        let mut at_first = 0;
        for round in 0..ROUNDS {
            for number in 0..ROUND {
                bulk["id"] = value!(format!("bulk-{round}-{number}"));
                self.publish(&bulk).await;
            }
            let mut last = like.clone();
            last["id"] = value!(format!("last-{round}"));
            last["data"]["service"] = value!(format!("service-{round}"));
            last["data"]["stage"] = value!("last");
            self.publish(&last).await;
            let is_through = async || self.peers.recipient.journal().len() > before + round;
            eventually(COMPILED, is_through).await.unwrap();
            if round == ROUNDS / 5 {
                at_first = self.process.resident_memory().unwrap().now;
            }
        }
        let at_end = self.process.resident_memory().unwrap().now;
        println!("{} MiB after a fifth, {} MiB at the end", at_first >> 20, at_end >> 20);
        self.process.terminate().unwrap();
        assert_eq!(exit_code(&mut self.process).await, 0);
        let log = self.process.output().text(Stream::Stderr);
        for counter in ["plugin_failures=0", "undelivered=0"] {
            assert!(log.contains(&format!(" {counter}")), "{counter} is missing: {log}");
        }
        assert!(
            at_end < at_first + ALLOWED_GROWTH,
            "{at_first} bytes at first, {at_end} at the end"
        );
    }
}

#[tokio::test]
async fn the_rust_example_answers_tasks_of_a_stage_under_maintenance() {
    let example = Example::start("rust").await;
    let task = example.fixture("build.triggered.json");
    let mut started = example.peers.listen("sh.keptn.event.build.started").await;
    let mut finished = example.peers.listen("sh.keptn.event.build.finished").await;

    example.publish(&task).await;

    let (started, finished) = (json(&started.next().await), json(&finished.next().await));
    for answer in [&started, &finished] {
        assert_eq!(answer["triggeredid"], task["id"]);
        assert_eq!(answer["shkeptncontext"], task["shkeptncontext"]);
        assert_eq!(answer["gitcommitid"], task["gitcommitid"]);
        assert_eq!(answer["data"]["labels"], task["data"]["labels"]);
    }
    assert_eq!(finished["data"]["result"], "pass");
    assert_eq!(finished["data"]["message"], "database upgrade");
    example.take_many(&task).await;
}

#[tokio::test]
async fn the_javascript_example_adds_labels_from_its_table() {
    let example = Example::start("javascript").await;
    let task = example.fixture("build.triggered.json");
    let data = example.data_of_first(&task, 1).await;
    let labels = value!({"k": "v", "team": "checkout", "oncall": "+49 30 1234"});
    assert_eq!(data[0]["labels"], labels);
    example.take_many(&task).await;
}

#[tokio::test]
async fn the_typescript_example_makes_an_event_of_each_item() {
    let example = Example::start("typescript").await;
    let mut task = example.fixture("build.triggered.json");
    task["data"]["services"] = value!(["carts", "orders"]);
    let data = example.data_of_first(&task, 2).await;
    let services: Vec<_> = data.iter().map(|data| &data["service"]).collect();
    assert_eq!(services, ["carts", "orders"]);
    assert_eq!(data[1]["services"], Value::Null);
    task["data"]["services"] = value!(["carts"]);
    example.take_many(&task).await;
}

#[tokio::test]
async fn the_python_example_redacts_secrets() {
    let example = Example::start("python").await;
    let task = example.fixture("build.secrets.json");
    let data = example.data_of_first(&task, 1).await;
    assert_eq!(data[0]["repository"], "https://***@git.example.com/shop/carts.git");
    assert_eq!(data[0]["env"], value!({"LOG_LEVEL": "info", "DB_PASSWORD": "***"}));
    example.take_many(&task).await;
}

#[tokio::test]
async fn the_c_example_lets_so_many_events_of_a_service_through() {
    let example = Example::start("c").await;
    let task = example.fixture("build.triggered.json");
    let mut other = task.clone();
    other["data"]["service"] = value!("other");
    for _ in 0..150 {
        example.publish(&task).await;
    }
    example.publish(&other).await;
    let data = example.data_of_first(&other, 102).await;
    let of_service = |service: &str| data.iter().filter(|data| data["service"] == service).count();
    assert_eq!((of_service("svc-a"), of_service("other")), (100, 2));
    example.take_many(&task).await;
}

#[tokio::test]
async fn the_go_example_passes_events_with_a_label() {
    let example = Example::start("go").await;
    let task = example.fixture("build.triggered.json");
    let mut other = task.clone();
    other["data"]["labels"] = value!({"k": "other"});
    example.publish(&other).await;
    let data = example.data_of_first(&task, 1).await;
    assert_eq!(data[0]["labels"], value!({"k": "v"}));
    example.take_many(&task).await;
}
