//! Every command in the documentation is run.
//!
//! A block marked `sh` in any Markdown file of the repository is typed into a shell here, at a site with NATS, a service and a
//! distributor, and all its commands have to succeed. What takes too long for that, or needs what is not here, has an entry
//! in [`ELSEWHERE`], which names what runs the same. Blocks marked `bash` are those of the quick start, which has a test of
//! its own.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use test_support::{DistributorProcess, NatsServer, Recipient, Reply, create_keptn_stream, eventually};
use tokio::process::Command;
use tokio::time::timeout;

use crate::harness::*;

/// Blocks that are not typed here: file, first line, and what runs them: a target of the Makefile that `make test` makes,
/// or a file of the tests with one of its functions.
const ELSEWHERE: &[(&str, &str, &str)] = &[
    ("README.md", "make demo", "examples/demo/tests/once.rs"),
    ("README.md", "make test", "test"),
    ("README.md", "make setup", "setup"),
    (
        "README.md",
        "minisign -G",
        "tests/e2e/plugin_chain_file.rs once_keys_are_named_only_what_they_signed_is_loaded",
    ),
    ("examples/c/README.md", "make\nmake test", "examples"),
    ("examples/go/README.md", "make\nmake test", "examples"),
    ("examples/javascript/README.md", "make\nmake test", "examples"),
    ("examples/python/README.md", "make\nmake test", "examples"),
    ("examples/rust/README.md", "make\nmake test", "examples"),
    ("examples/typescript/README.md", "make\nmake test", "examples"),
];

#[test]
fn what_is_run_elsewhere_is_there_and_is_run() {
    let makefile = std::fs::read_to_string(repository().join("Makefile")).unwrap();
    let made = makefile.lines().find(|line| line.starts_with("test: setup")).unwrap();
    let blocks = blocks();
    for (file, first, what) in ELSEWHERE {
        let n_blocks = blocks
            .iter()
            .filter(|(other, block)| other == file && block.starts_with(first));
        assert_eq!(n_blocks.count(), 1, "{file}: {first}");
        let (file, function) = what.split_once(' ').unwrap_or((what, ""));
        let is_target = made.split(' ').any(|target| target.trim_end_matches(':') == file);
        let is_test = || {
            let text = std::fs::read_to_string(repository().join(file)).unwrap_or_default();
            text.contains("#[test]") || text.contains("#[tokio::test]") && text.contains(&format!("fn {function}("))
        };
        assert!(
            is_target || is_test(),
            "{what} is neither made by `make test` nor a test"
        );
    }
}

#[tokio::test]
async fn the_commands_work() {
    let mut n_typed = 0;
    for (file, block) in blocks() {
        let is_it = |(other, first, _): &(&str, &str, &str)| *other == file && block.starts_with(first);
        if !ELSEWHERE.iter().any(is_it) {
            Site::start().await.run(&file, &block).await;
            n_typed += 1;
        }
    }
    assert!(n_typed >= 5, "{n_typed}");
}

/// A folder that looks like the repository, commands as an operator has them, and what they are about.
struct Site {
    folder: TempDir,
    _process: DistributorProcess,
    nats: NatsServer,
    recipient: Recipient,
    control: String,
    _plugins: PluginFolder,
}

impl Site {
    /// With dead letters, and with plugins that were replaced once.
    async fn start() -> Self {
        let nats = NatsServer::builder().jetstream(true).start().await.unwrap();
        let jetstream = nats.jetstream().await.unwrap();
        create_keptn_stream(&jetstream).await.unwrap();
        let recipient = Recipient::start().await.unwrap();
        recipient.respond_with(|_, _| Reply::status(400));
        let plugins = PluginFolder::new().file("plugins.toml", "default_filter = false\n");
        let (url, port) = (nats.url(), recipient.port().to_string());
        let process = start_process(&[
            ("PUBSUB_URL", &url),
            ("PUBSUB_RECIPIENT_PORT", &port),
            ("PUBSUB_TOPIC", "sh.keptn.>"),
            ("PUBSUB_GROUP", "group"),
            ("DISABLE_REGISTRATION", "true"),
            ("CONTROL_BIND", "127.0.0.1:0"),
            plugins.variable(),
        ]);
        process.wait_for_log("durable consumer", SOON).await.unwrap();
        for event in events("e", 20) {
            let sent = jetstream.publish(event.ty.clone(), event.to_bytes()).await;
            sent.unwrap().await.unwrap();
        }
        let are_dead = async || {
            let stream = jetstream.get_stream("DISTRIBUTOR_DLQ").await;
            stream.is_ok_and(|stream| stream.cached_info().state.messages == 20)
        };
        eventually(SOON, are_dead).await.expect("20 dead letters");
        recipient.respond_with(|_, _| Reply::status(200));
        let plugins = plugins.file("plugins.toml", "default_filter = true\n");
        process.wait_for_log("generation=2", SOON).await.unwrap();
        Self {
            folder: folder(),
            control: process.control_address(SOON).await.unwrap().to_string(),
            _process: process,
            nats,
            recipient,
            _plugins: plugins,
        }
    }

    /// Types a block. All its commands have to succeed, but for a distributor, which goes on until it is ended.
    async fn run(&self, file: &str, block: &str) {
        let path = |name: &str| self.folder.path().join(name);
        #[expect(
            clippy::disallowed_methods,
            reason = "handed on to the child, not read as configuration"
        )]
        let inherited = std::env::var("PATH").unwrap();
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", block])
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", format!("{}:{inherited}", path("commands").display()))
            .env("HOME", path("home"))
            .env("PUBSUB_URL", self.nats.url())
            .env("PUBSUB_RECIPIENT_PORT", self.recipient.port().to_string())
            .env("PUBSUB_GROUP", "group")
            .env("DISABLE_REGISTRATION", "true")
            .env("API_PROXY_PORT", "0")
            .env("ADMIN_BIND", "127.0.0.1:0")
            .env("CONTROL", &self.control)
            .kill_on_drop(true);
        let output = timeout(Duration::from_mins(1), command.output()).await;
        let output = output
            .unwrap_or_else(|_| panic!("this does not end, {file}:\n{block}"))
            .unwrap();
        assert!(
            output.status.success(),
            "{file}:\n{block}\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// What the commands find: `deploy/`, the binary where a release build puts it, and in `commands` what stands in for
/// programs with fixed ports, long builds, and clusters.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for name in ["commands", "home", "target/release"] {
        std::fs::create_dir_all(path(name)).unwrap();
    }
    symlink(repository().join("deploy"), path("deploy")).unwrap();
    symlink(BINARY, path("commands/distributor")).unwrap();
    let tools = tools();
    symlink(tools.join("helm"), path("commands/helm")).unwrap();
    let command = |name: &str, text: &str| {
        std::fs::write(path(name), format!("#!/usr/bin/env bash\nset -euo pipefail\n{text}\n")).unwrap();
        std::fs::set_permissions(path(name), Permissions::from_mode(0o755)).unwrap();
    };
    // The build is that of the test; the distributor is ended when it runs.
    command("commands/cargo", "[ \"$*\" = 'build --release -p distributor' ]");
    command(
        "target/release/distributor",
        &format!("timeout --foreground --preserve-status 1 {BINARY}"),
    );
    command(
        "commands/kubectl",
        &format!(
            "[ \"$1\" = kustomize ]; exec {}/kustomize build \"$2\"",
            tools.display()
        ),
    );
    command(
        "commands/curl",
        "exec /usr/bin/curl --fail --silent --show-error \"${@/localhost:8092/$CONTROL}\"",
    );
    folder
}

/// All blocks marked `sh`, with their files.
fn blocks() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in markdown_files(&repository()) {
        let name = file.strip_prefix(repository()).unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let mut parts = text.split("\n```");
        while let Some(part) = parts.find(|part| part.starts_with(|first: char| first.is_ascii_alphabetic())) {
            let (mark, block) = part.split_once('\n').unwrap_or((part, ""));
            match mark.trim() {
                "sh" => found.push((name.clone(), block.to_owned())),
                "bash" if name == "README.md" => {}
                "bash" | "shell" | "console" => panic!("{name}: commands are marked `sh`:\n{block}"),
                _ => {}
            }
            // Its end, which may be followed by text.
            parts.next();
        }
    }
    found
}

fn markdown_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_str().unwrap();
        // What `distributor plugin new` writes is a project of its own, with tests of its own.
        let is_ours = !name.starts_with('.') && !["target", "node_modules", "templates"].contains(&name);
        if path.is_symlink() || !is_ours {
            continue;
        }
        if path.is_dir() {
            files.extend(markdown_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
    files
}

fn repository() -> PathBuf {
    std::path::absolute(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap()
}

fn tools() -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "where tools are is the test command's business, not configuration"
    )]
    let target = std::env::var_os("CARGO_TARGET_DIR");
    let tools = target
        .map_or_else(|| repository().join("target"), PathBuf::from)
        .join("tools");
    assert!(
        tools.join("helm").exists(),
        "`make deploy-check` fills {}",
        tools.display()
    );
    std::path::absolute(tools).unwrap()
}
