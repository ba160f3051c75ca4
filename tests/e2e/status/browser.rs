//! Chromium, driven by `tests/fixtures/browser` through names that people see.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::harness::*;

/// A window of the size of a desktop's.
pub(super) const DESKTOP: (u32, u32) = (1280, 900);
/// The same of a phone.
pub(super) const PHONE: (u32, u32) = (390, 844);

/// How a page is opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) size: (u32, u32),
    pub(super) is_dark: bool,
    pub(super) has_scripts: bool,
}

/// A browser with one window.
pub(super) struct Browser {
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Look {
    pub(super) const DESKTOP: Self = Self {
        size: DESKTOP,
        is_dark: false,
        has_scripts: true,
    };
}

impl Browser {
    pub(super) async fn start() -> Self {
        let modules = target().join("tools/browser");
        assert!(modules.is_dir(), "the browser is missing: `make setup` installs it");
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut process = Command::new("node")
            .arg(root.join("tests/fixtures/browser/driver.mjs"))
            .env("MODULES", modules.canonicalize().unwrap())
            .env("CHROMIUM", chromium())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node is there (Node.js 20 or newer)");
        let mut browser = Self {
            input: process.stdin.take().unwrap(),
            output: BufReader::new(process.stdout.take().unwrap()).lines(),
            _process: process,
        };
        let ready = browser.answer().await;
        assert_eq!(ready["ready"], true, "{ready}");
        browser
    }

    pub(super) async fn open(&mut self, url: &str, look: Look) {
        let (width, height) = look.size;
        let how =
            json!({"url": url, "width": width, "height": height, "dark": look.is_dark, "scripts": look.has_scripts});
        self.tell("open", how).await;
    }

    /// Waits until the part of the page with this heading says `text`, a regular expression, and returns how long it took.
    pub(super) async fn see(&mut self, heading: &str, text: &str) -> Duration {
        let seen = self
            .tell("see", json!({"where": heading, "text": text, "within": within()}))
            .await;
        Duration::from_millis(seen["ms"].as_u64().unwrap())
    }

    /// What the part of the page with this heading says.
    pub(super) async fn text(&mut self, heading: &str) -> String {
        let seen = self
            .tell("see", json!({"where": heading, "text": "", "within": within()}))
            .await;
        seen["text"].as_str().unwrap().to_owned()
    }

    /// Waits until the part of the page with this heading does not say `text` any more.
    pub(super) async fn see_gone(&mut self, heading: &str, text: &str) {
        self.tell("gone", json!({"where": heading, "text": text, "within": within()}))
            .await;
    }

    pub(super) async fn press(&mut self, heading: &str, button: &str) {
        self.tell("press", json!({"where": heading, "name": button, "within": within()}))
            .await;
    }

    /// Presses a button of the dialogue.
    pub(super) async fn confirm(&mut self, button: &str) {
        self.tell("press", json!({"where": "", "name": button, "within": within()}))
            .await;
    }

    pub(super) async fn check(&mut self, label: &str) {
        self.tell("check", json!({"name": label, "within": within()})).await;
    }

    pub(super) async fn fill(&mut self, label: &str, text: &str) {
        self.tell("fill", json!({"name": label, "text": text, "within": within()}))
            .await;
    }

    pub(super) async fn key(&mut self, name: &str) {
        self.tell("key", json!({"name": name})).await;
    }

    pub(super) async fn focused(&mut self) -> String {
        self.tell("focused", json!({})).await.as_str().unwrap().to_owned()
    }

    pub(super) async fn evaluate(&mut self, script: &str) -> Value {
        self.tell("evaluate", json!({"script": script})).await
    }

    /// Writes what is seen to `target/screenshots`, for people.
    pub(super) async fn screenshot(&mut self, name: &str) {
        let folder = target().join("screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        self.tell("screenshot", json!({"path": folder.join(format!("{name}.png"))}))
            .await;
    }

    /// Nothing that a program finds keeps anybody from using the page: contrast, names, order, width.
    pub(super) async fn assert_accessible(&mut self) {
        let violations = self.tell("audit", json!({})).await;
        assert_eq!(violations, json!([]), "{violations:#}");
        assert_eq!(
            self.tell("overflow", json!({})).await,
            0,
            "the page is wider than the window"
        );
    }

    /// Nothing was said on the console.
    pub(super) async fn assert_silent(&mut self) {
        assert_eq!(self.tell("errors", json!({})).await, json!([]));
    }

    async fn tell(&mut self, command: &str, mut options: Value) -> Value {
        options["command"] = command.into();
        self.input.write_all(format!("{options}\n").as_bytes()).await.unwrap();
        let mut answer = self.answer().await;
        assert!(answer.get("error").is_none(), "{options}: {}", answer["error"]);
        answer["result"].take()
    }

    async fn answer(&mut self) -> Value {
        let line = tokio::time::timeout(SOON * 2, self.output.next_line()).await;
        let line = line.expect("the browser answers").unwrap();
        json(line.expect("the browser runs").as_bytes())
    }
}

fn within() -> u64 {
    u64::try_from(SOON.as_millis()).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "where tools are is not configuration")]
fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR");
    target.map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    )
}

#[expect(clippy::disallowed_methods, reason = "where tools are is not configuration")]
fn chromium() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|file| file.is_file());
    found.expect("Chromium is missing: `make setup` installs it")
}
