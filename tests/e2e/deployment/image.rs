//! The root file system of the image, run as a container engine would: another user, nothing to write to, no privileges,
//! 32 MiB.
//!
//! `make image` makes it, and `tests/support/run-image.sh` runs it. The network is that of the test.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use test_support::{
    DistributorProcess, KeptnEvent, NatsServer, NumberedEvents, OutputTo, Publisher, Rate, Recipient, Verdict,
    create_keptn_stream,
};

use super::memory_group::MemoryGroup;
use super::target;
use crate::harness::{PluginFolder, SOON, TASK_TRIGGERED, exit_code, lines_with};

/// Of the manifests in `deploy/`, for the default filter and a stream.
const MEMORY_LIMIT: u64 = 32 << 20;
/// Long, because these tests run side by side on small machines.
const IN_TIME: Duration = Duration::from_mins(1);

#[tokio::test]
async fn ten_thousand_events_pass_a_container_that_may_do_nothing_in_32_mebibytes() {
    let site = Site::start().await;
    let group = MemoryGroup::create("image", MEMORY_LIMIT);
    let mut options = Vec::new();
    if let Some(group) = &group {
        options.extend(["--memory-group", group.folder()]);
    }
    let mut process = site.container(&options, &[]).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.process().id().unwrap())).unwrap();
    for expected in [
        "Uid:\t65532\t65532\t65532\t65532",
        "Gid:\t65532\t65532\t65532\t65532",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "NoNewPrivs:\t1",
    ] {
        assert!(status.contains(expected), "{expected} in {status}");
    }
    let mounts = std::fs::read_to_string(format!("/proc/{}/mounts", process.process().id().unwrap())).unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap();
    assert!(root.split(' ').nth(3).unwrap().starts_with("ro"), "{root}");

    let pattern = KeptnEvent {
        size_bytes: 1024,
        ..KeptnEvent::of_type(TASK_TRIGGERED)
    };
    let jetstream = site.nats.jetstream().await.unwrap();
    let events = NumberedEvents::new("e", 100, pattern);
    let publisher = Publisher::start(jetstream, events, Rate::Unlimited, Some(10_000));
    let published = publisher.finish(IN_TIME).await.unwrap();
    site.recipient
        .wait_until_accepted(published.len(), IN_TIME)
        .await
        .unwrap();
    let verdict = Verdict::of(&published, &site.recipient.deliveries());
    assert!(verdict.is_perfect(), "{verdict}");

    let resident = process.peak_resident_memory().unwrap();
    let with_files = group.as_ref().and_then(MemoryGroup::peak);
    println!("peak: {resident} bytes resident, {with_files:?} in the container");
    assert!(resident <= MEMORY_LIMIT, "{resident}");
    process.terminate().unwrap();
    assert_eq!(exit_code(&mut process).await, 0);
    assert_eq!(lines_with(&process, " WARN "), [""; 0]);
    assert_eq!(lines_with(&process, "ERROR"), [""; 0]);
}

#[tokio::test]
async fn plugins_of_a_config_map_are_compiled_into_an_empty_dir_and_found_there_by_the_next_container() {
    let site = Site::start().await;
    let manifest = include_str!("../../../deploy/kustomize/components/plugins/plugins.toml");
    let plugins = PluginFolder::with_manifest(manifest);
    let config_map = format!("{}:/etc/distributor/plugins", plugins.path());
    let options = ["--config-map", &config_map, "--empty-dir", "/var/cache/distributor"];
    let variables = [
        ("PLUGINS_DIR", "/etc/distributor/plugins"),
        ("PLUGINS_CACHE_DIR", "/var/cache/distributor/plugins"),
    ];
    let process = site.container(&options, &variables).await;
    process.wait_for_log("plugin loaded plugin=teams", SOON).await.unwrap();
    assert_eq!(lines_with(&process, " WARN "), [""; 0]);
    let kept = format!(
        "/proc/{}/root/var/cache/distributor/plugins/native",
        process.process().id().unwrap()
    );
    let n_kept = std::fs::read_dir(&kept).unwrap().count();
    assert_eq!(n_kept, 2, "the built-in filter and the plugin");
}

#[test]
fn the_image_holds_what_the_dockerfile_copies_and_no_more() {
    let root = image();
    let files = files_below(&root);
    let [authorities, native, binary] = &files[..] else {
        panic!("{files:?}");
    };
    let dockerfile = include_str!("../../../deploy/Dockerfile");
    for (file, folder) in [
        (authorities, "etc"),
        (native, "var/cache/distributor"),
        (binary, "distributor"),
    ] {
        assert!(
            file.strip_prefix(&root).unwrap().starts_with(folder),
            "{}",
            file.display()
        );
        assert!(
            dockerfile.contains(&format!(" /image/{folder} /{folder}\n")),
            "{folder}"
        );
    }
    assert!(dockerfile.contains("ENV PLUGINS_CACHE_DIR=/var/cache/distributor\n"));
    let metadata = native.metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (65532, 0o600));
    let head = std::fs::read(binary).unwrap();
    assert_eq!(&head[..4], b"\x7fELF");
    // What is linked dynamically names its loader.
    let loader = b"/lib64/ld-linux";
    assert!(!head.windows(loader.len()).any(|bytes| bytes == loader));
    assert!(head.len() < 28 << 20, "{} bytes", head.len());
}

/// What the distributor stands between.
struct Site {
    nats: NatsServer,
    recipient: Recipient,
}

impl Site {
    async fn start() -> Self {
        let nats = NatsServer::builder().jetstream(true).start().await.unwrap();
        create_keptn_stream(&nats.jetstream().await.unwrap()).await.unwrap();
        Self {
            nats,
            recipient: Recipient::start_light_on(0).await.unwrap(),
        }
    }

    /// Returns when the stream keeps events for it.
    async fn container(&self, options: &[&str], variables: &[(&str, &str)]) -> DistributorProcess {
        let root = image();
        // Its pages are counted for whoever reads them first.
        let forgotten = Command::new("dd")
            .arg(format!("if={}", root.join("distributor").display()))
            .args(["iflag=nocache", "count=0", "status=none"])
            .status();
        assert!(forgotten.unwrap().success());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/support/run-image.sh");
        let arguments = [&[root.to_str().unwrap()], options, &["--"]].concat();
        let (url, port) = (self.nats.url(), self.recipient.port().to_string());
        let own = [
            ("PUBSUB_URL", url.as_str()),
            ("PUBSUB_RECIPIENT_PORT", &port),
            ("PUBSUB_TOPIC", "sh.keptn.>"),
            ("PUBSUB_GROUP", "group"),
            ("K8S_DEPLOYMENT_NAME", "task-service"),
            ("DISABLE_REGISTRATION", "true"),
            ("PLUGINS_CACHE_DIR", "/var/cache/distributor"),
        ];
        let environment = [&own, variables].concat();
        let process = DistributorProcess::start_with(&script, &arguments, &environment, OutputTo::Memory).unwrap();
        let waiting = process.wait_for_log("durable consumer", SOON).await;
        waiting.expect("the container runs; it needs root, as an engine does");
        process
    }
}

/// The root file system that `make image` has made.
fn image() -> PathBuf {
    let root = target().join("image");
    assert!(
        root.join("distributor").exists(),
        "`make image` makes {}",
        root.display()
    );
    root
}

/// In the order of their paths. What a container engine mounts is left out.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort_by_key(|path| (path.is_file(), path.clone()));
    for path in paths {
        let name = path.file_name().unwrap().to_str().unwrap();
        match name {
            "proc" | "sys" | "dev" => {}
            _ if path.is_dir() => files.extend(files_below(&path)),
            _ => files.push(path),
        }
    }
    files
}
