//! `distributor plugin`: the tools of authors, run as the binary is. One module for each command.

mod bench;
mod cases;
mod check;
mod compile;
mod inspect;
mod live;
mod new;
mod pack;
mod replay;
mod run;

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::*;

/// An author's folder, with the misbehaving guest in it as `plugin.wasm`.
struct Desk(TempDir);

/// What a command printed, and how it ended.
#[derive(Debug)]
struct Said {
    exit_code: i32,
    stdout: String,
    stderr: String,
}

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        desk.write("plugin.wasm", guest("guest_misbehaving.wasm"));
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn component(&self) -> String {
        self.path("plugin.wasm").to_str().unwrap().to_owned()
    }

    /// A command about the guest, which behaves like this.
    async fn about(&self, command: &str, behaviour: &str, more: &[&str]) -> Said {
        let (component, config) = (self.component(), format!(r#"{{"behaviour":"{behaviour}"}}"#));
        let mut arguments = vec![command, component.as_str(), "--config", config.as_str()];
        arguments.extend(more);
        said(&arguments).await
    }
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// One JSON object on each line.
    fn lines(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// Runs a command of `distributor plugin`.
async fn said(arguments: &[&str]) -> Said {
    let arguments: Vec<_> = ["plugin"].iter().chain(arguments).copied().collect();
    let (exit_code, stdout, stderr) = run_to_end(&arguments, &[("PLUGINS_CACHE_DIR", "off")]).await;
    Said {
        exit_code,
        stdout,
        stderr,
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures")
        .join(name)
}

fn text_of(event: &test_support::KeptnEvent) -> String {
    String::from_utf8(event.to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn help_has_an_example_for_each_command_and_says_how_it_ends() {
    let help = said(&["--help"]).await;
    assert_eq!(help.exit_code, 0);
    let commands = help
        .stdout
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1);
    let commands: Vec<_> = commands
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .collect();
    let commands: Vec<_> = commands
        .into_iter()
        .filter(|name| !name.is_empty() && *name != "help")
        .collect();
    assert!(commands.len() >= 9, "{commands:?}");
    for command in commands {
        let help = said(&[command, "--help"]).await.stdout;
        let words: Vec<_> = help.split_whitespace().collect();
        let text = words.join(" ");
        assert!(
            text.contains(&format!("Example: `distributor plugin {command}")),
            "{command}: {help}"
        );
        assert!(
            text.contains("Exit code 0: ") && text.contains("--json"),
            "{command}: {help}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_meant_is_said_with_the_remedy() {
    let check = async |arguments: &[&str], expected: &[&str]| {
        let said = said(arguments).await;
        assert_eq!(said.exit_code, 64, "{arguments:?}: {said:?}");
        for text in expected {
            assert!(
                said.stderr.contains(text),
                "{arguments:?}: {text} is missing: {}",
                said.stderr
            );
        }
    };
    check(
        &["check", "nowhere.wasm"],
        &["there is no file nowhere.wasm", "build it first"],
    )
    .await;
    check(&["check", "/tmp"], &["use --chain"]).await;
    check(&["check"], &["which component?", "--chain"]).await;
    check(
        &["inspect", "builtin:other"],
        &["nothing named \"other\"", "keptn-filter"],
    )
    .await;
    check(&["run", "builtin:keptn-filter", "--config", "{"], &["it is no JSON"]).await;
    check(
        &["run", "builtin:keptn-filter", "--config", "nowhere.json"],
        &["cannot read nowhere.json"],
    )
    .await;
    check(
        &["run", "builtin:keptn-filter", "--event", "nowhere.json"],
        &["cannot read nowhere.json"],
    )
    .await;
    check(&["run", "builtin:keptn-filter", "--memory", "much"], &["16MiB"]).await;
}

#[tokio::test]
async fn the_contract_of_the_binary_is_that_of_the_repository() {
    let text = std::fs::read_to_string(fixture("../../wit/world.wit")).unwrap();
    assert_eq!(said(&["wit"]).await.stdout, text);
    let desk = Desk::new();
    let folder = desk.path("new/wit");
    let written = said(&["wit", "--output", folder.to_str().unwrap()]).await;
    assert_eq!(written.exit_code, 0, "{written:?}");
    assert_eq!(std::fs::read_to_string(folder.join("world.wit")).unwrap(), text);
    assert_eq!(said(&["wit", "--json"]).await.json()["version"], "1.0.0");
}

#[tokio::test]
async fn shells_can_complete_commands() {
    for shell in ["bash", "fish", "zsh"] {
        let (exit_code, stdout, _) = run_to_end(&["completions", shell], &[]).await;
        assert_eq!(exit_code, 0, "{shell}");
        assert!(
            stdout.contains("dead-letter") && stdout.contains("inspect"),
            "{shell}: {stdout}"
        );
    }
}
