//! The quick start of the README: its commands, typed into a shell one block after the other, do what it says.
//!
//! A block marked `bash` is typed. What a block marked `text` behind it says has to be seen before the next one is typed,
//! as a reader would wait for it; `…` stands for anything there.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use test_support::{eventually, free_port};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use crate::harness::*;

const README: &str = include_str!("../../README.md");
const HEADING: &str = "\n## Quick start: plain NATS to an HTTP service\n";

/// What is typed, and the lines that are seen then.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    commands: String,
    shown: Vec<String>,
}

#[tokio::test]
async fn the_quick_start_does_what_it_says() {
    let (_, section) = README.split_once(HEADING).expect("the README has the section");
    let steps = steps(section.split("\n## ").next().unwrap_or_default());
    let shown: Vec<_> = steps.iter().flat_map(|step| &step.shown).collect();
    for id in ["a1", "a2", "a3"] {
        let is_delivered =
            |line: &&String| line.starts_with("service took") && line.contains(&format!("\"id\":\"{id}\""));
        assert!(shown.iter().any(is_delivered), "{id} in {shown:?}");
    }

    let mut terminal = Terminal::open();
    // For when nobody is left to end what runs: with the test, the input of the shell ends.
    terminal.type_in("trap 'kill $(jobs -p) 2> /dev/null' EXIT\n").await;
    for step in &steps {
        terminal.follow(step).await;
    }
    // The last step ends all that the others have started.
    let ended = Step {
        commands: "wait; echo nothing runs\n".to_owned(),
        shown: vec!["nothing runs".to_owned()],
    };
    terminal.follow(&ended).await;
    terminal.close().await;
}

#[test]
fn blocks_are_found_and_lines_compared() {
    let found = steps("a\n```sh\nno\n```\n```bash\none\n\ntwo\n```\n```text\n… 1\n2\n```\nb\n```bash\nthree\n```\n");
    let step = |commands: &str, shown: &[&str]| Step {
        commands: commands.to_owned(),
        shown: shown.iter().map(|&line| line.to_owned()).collect(),
    };
    assert_eq!(found, [step("one\n\ntwo\n", &["… 1", "2"]), step("three\n", &[])]);

    let check = |line: &str, pattern: &str, expected| assert_eq!(says(line, pattern), expected, "{line} {pattern}");
    check("abc", "abc", true);
    check("abcd", "abc", false);
    check("abc", "…bc", true);
    check("abc", "…b", false);
    check("abcb", "a…c…b", true);
    check("ab", "a…b…b", false);
    check("a{b}{c}", "a{…}", true);
}

/// A shell in a folder that looks like that of the repository. All it has started ends when this is dropped.
struct Terminal {
    shell: Child,
    input: Option<ChildStdin>,
    folder: TempDir,
}

impl Terminal {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for directory in ["target/tools", "target/release", "tmp"] {
            std::fs::create_dir_all(path(directory)).unwrap();
        }
        symlink(BINARY, path("target/release/distributor")).unwrap();
        for tool in ["nats-server", "python"] {
            symlink(installed(tool), path("target/tools").join(tool)).unwrap();
        }
        let output = std::fs::File::create(path("output")).unwrap();
        let mut command = Command::new("bash");
        command.current_dir(folder.path()).env_clear();
        #[expect(
            clippy::disallowed_methods,
            reason = "handed on to the child, not read as configuration"
        )]
        let inherited = ["PATH", "HOME"].map(|name| (name, std::env::var_os(name).unwrap_or_default()));
        command
            .envs(inherited)
            .env("TMPDIR", path("tmp"))
            .env("NATS_PORT", free_port().unwrap().to_string())
            .env("SERVICE_PORT", free_port().unwrap().to_string())
            .env("API_PROXY_PORT", "0")
            .stdin(Stdio::piped())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .process_group(0);
        let mut shell = command.spawn().expect("there is a bash");
        Self {
            input: shell.stdin.take(),
            shell,
            folder,
        }
    }

    /// Types the commands of a step, and waits until all is seen that it says.
    async fn follow(&mut self, step: &Step) {
        let n_before = self.lines().len();
        self.type_in(&step.commands).await;
        for pattern in &step.shown {
            let is_seen = async || self.lines().iter().skip(n_before).any(|line| says(line, pattern));
            let seen = eventually(SOON, is_seen).await;
            seen.unwrap_or_else(|_| {
                panic!(
                    "{pattern:?} is not seen after\n{}{}",
                    step.commands,
                    self.lines().join("\n")
                )
            });
        }
    }

    async fn type_in(&mut self, commands: &str) {
        let input = self.input.as_mut().expect("the shell is open");
        input.write_all(commands.as_bytes()).await.expect("the shell reads");
        input.flush().await.expect("the shell reads");
    }

    fn lines(&self) -> Vec<String> {
        let output = std::fs::read(self.folder.path().join("output")).unwrap();
        // What was not written to its end is no line yet.
        let output = String::from_utf8_lossy(&output);
        let whole = output.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(str::to_owned).collect()
    }

    /// Waits until the shell has ended; an error in its last command would be its own.
    async fn close(mut self) {
        self.input = None;
        let ended = timeout(SOON, self.shell.wait()).await.expect("the shell ends");
        assert!(ended.unwrap().success(), "{:?}", self.lines());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // As long as the shell was not waited for, its group cannot be another's.
        if let Some(id) = self.shell.id() {
            let kill = format!("kill -KILL -- -{id}");
            let _ = std::process::Command::new("bash").args(["-c", &kill]).status();
        }
    }
}

/// The blocks marked `bash`, each with the ones marked `text` behind it.
fn steps(section: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut block = None;
    for line in section.lines() {
        match (block, line.strip_prefix("```")) {
            (None, Some(mark)) => {
                block = Some(mark);
                if mark == "bash" {
                    steps.push(Step {
                        commands: String::new(),
                        shown: Vec::new(),
                    });
                }
            }
            (Some(_), Some(_)) => block = None,
            (Some("bash"), None) => {
                let step = steps.last_mut().expect("the block has made one");
                step.commands.extend([line, "\n"]);
            }
            (Some("text"), None) => {
                let step = steps.last_mut().expect("what is shown follows what is typed");
                step.shown.push(line.to_owned());
            }
            _ => {}
        }
    }
    steps
}

/// Whether a line is as the pattern says, in which `…` stands for anything.
fn says(line: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('…') else {
        return line == pattern;
    };
    let (between, last) = rest.rsplit_once('…').unwrap_or(("", rest));
    let inner = line.strip_prefix(first).and_then(|line| line.strip_suffix(last));
    let Some(mut inner) = inner else { return false };
    between.split('…').all(|part| {
        let found = inner.find(part).map(|index| &inner[index + part.len()..]);
        inner = found.unwrap_or_default();
        found.is_some()
    })
}

/// What `make setup` has put into `target/tools`.
fn installed(tool: &str) -> PathBuf {
    #[expect(
        clippy::disallowed_methods,
        reason = "where tools are is the test command's business, not configuration"
    )]
    let variable = std::env::var_os;
    let target = variable("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    let path = match (tool, variable("NATS_SERVER")) {
        ("nats-server", Some(path)) => PathBuf::from(path),
        _ => target.join("tools").join(tool),
    };
    let path = std::path::absolute(path).unwrap();
    assert!(path.exists(), "`make setup` gets {}", path.display());
    path
}
