//! Every update that cannot be used is refused in one line (which plugin, which file, why, and what to do), and events go
//! on through the plugins that were there.
//!
//! The table of these lines in `wit/refused.md` is what this test saw; `UPDATE_DOCS=1` writes it anew.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use distributor::plugins::{Compiler, DEFAULT_FILTER_COMPONENT, Host, Settings, load};
use test_support::{eventually, padded_component};

use super::rig::{Rig, texts};
use crate::compiling::cgroup_with_used;
use crate::harness::*;

/// What was to be loaded, under the name `suspect`.
struct Update {
    /// For the table.
    title: &'static str,
    component: Vec<u8>,
    /// Lines of its configuration.
    config: &'static str,
    /// What its line has to say: the reason, and then the remedy.
    words: [&'static str; 2],
}

fn museum(version: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/museum");
    std::fs::read(path.join(version).join("component.wasm")).unwrap()
}

/// The component with a name in it replaced by one of the same length.
fn renamed(mut component: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut n_replaced = 0;
    for at in 0..component.len() - from.len() {
        if component[at..].starts_with(from.as_bytes()) {
            component[at..at + to.len()].copy_from_slice(to.as_bytes());
            n_replaced += 1;
        }
    }
    assert!(n_replaced > 0, "{from} stands nowhere in it");
    component
}

fn updates() -> Vec<Update> {
    let good = || guest("guest_misbehaving.wasm");
    let update = |title, component, config, words| Update {
        title,
        component,
        config,
        words,
    };
    // The message has its size, so it is one that stays.
    let mut cut = museum("1.0.0");
    cut.truncate(cut.len() / 2);
    vec![
        update("zero bytes", Vec::new(), "", ["empty", "copy the whole file"]),
        update("cut off", cut, "", ["cut off", "copy the whole file"]),
        update(
            "text",
            b"plugins are welcome here".to_vec(),
            "",
            ["not WebAssembly", "wasm32-wasip2"],
        ),
        update(
            "core module",
            b"\0asm\x01\0\0\0".to_vec(),
            "",
            ["core module", "wasm-tools component new"],
        ),
        update(
            "another major version of the contract",
            museum("2.0.0"),
            "",
            ["built for contract 2.0.0", "rebuild it"],
        ),
        update(
            "function with another signature",
            renamed(museum("2.0.0"), "@2.0.0", "@1.0.0"),
            "",
            ["another signature", "rebuild it"],
        ),
        update(
            "missing export",
            renamed(
                museum("1.0.0"),
                "keptn:distributor/filter@",
                "keptn:distributor/folter@",
            ),
            "",
            ["neither `filter` nor `transform`", "build it for the world"],
        ),
        update(
            "unknown import",
            guest("guest_wrong_world.wasm"),
            "",
            ["`other:thing/imp@1.0.0`", "build it without"],
        ),
        update(
            "import of a later minor version",
            museum("1.1.0-in-use"),
            "",
            ["newer than this host", "update the distributor"],
        ),
        update(
            "trap in `configure`",
            good(),
            "behaviour = \"trap-in-configure\"",
            ["told to trap in configure", "mend"],
        ),
        update(
            "endless loop in `configure`",
            good(),
            "behaviour = \"loop-in-configure\"",
            ["used up its 5s", "mend"],
        ),
        update(
            "configuration that the plugin refuses",
            good(),
            "behaviour = \"dance\"",
            ["/behaviour: \"dance\" means nothing here", "line 6, column 13"],
        ),
        update(
            "configuration that the schema refuses",
            DEFAULT_FILTER_COMPONENT.to_vec(),
            "stages = \"dev\"",
            ["does not accept its configuration", "/stages"],
        ),
        update(
            "self-test that fails",
            good(),
            "behaviour = \"drop\"\nonly = \"bad\"\n[[plugin.selftest]]\nevent = \"event.json\"\nexpect = \"drop\"",
            ["self-test with /plugins/event.json", "mend the plugin, or `expect`"],
        ),
        update(
            "native code",
            wasmtime::Engine::default().precompile_component(&good()).unwrap(),
            "",
            ["is native code", "mount the component"],
        ),
    ]
}

impl Update {
    fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let config = self.config;
        let manifest = format!(
            "default_filter = false\n[[plugin]]\nname = \"suspect\"\ncomponent = \"suspect.wasm\"\n[plugin.config]\n{config}\n"
        );
        vec![
            ("plugins.toml", manifest.into_bytes()),
            ("suspect.wasm", self.component.clone()),
            ("event.json", event("good").to_bytes().to_vec()),
        ]
    }

    /// Its line in the table, after it was refused by a distributor that goes on as before.
    async fn refused_by(&self, rig: &mut Rig) -> String {
        let n_before = rig.refusals().len();
        rig.volume.write(&self.files()).unwrap();
        let is_refused = async || rig.refusals().len() > n_before;
        let refused = eventually(SOON, is_refused).await;
        refused.unwrap_or_else(|_| panic!("{} is not refused", self.title));
        let lines = rig.refusals();
        assert_eq!(rig.tag().await, "good", "{}", self.title);

        let problems = texts(&rig.status().await["refused"]["problems"]);
        let n_lines = lines.len() - n_before;
        assert_eq!(n_lines, problems.len(), "{}: {lines:?} {problems:?}", self.title);
        let [problem] = problems.as_slice() else {
            panic!("{}: one problem is expected: {problems:?}", self.title)
        };
        let line = problem.replace(&rig.volume.path().display().to_string(), "/plugins");
        assert!(
            line.contains("plugin \"suspect\"") && line.contains("/plugins/"),
            "{line}"
        );
        for words in self.words {
            assert!(line.contains(words), "{}: {words} in {line}", self.title);
        }
        row(self.title, &line)
    }
}

fn row(title: &str, line: &str) -> String {
    format!("| {title} | {} |\n", line.replace('|', "\\|"))
}

#[tokio::test]
async fn every_bad_update_is_refused_in_one_line_that_is_in_the_docs() {
    let mut rig = Rig::tagging("good", &[]).await;
    let mut table = "| update | message |\n|---|---|\n".to_owned();
    for update in updates() {
        table.push_str(&update.refused_by(&mut rig).await);
    }
    assert_eq!(rig.generation().await, 1);
    table.push_str(&row("too big for the memory limit", &without_room().await));
    compare_with_docs(&table);
}

/// What is said where the memory limit of the container leaves no room for compiling. Not every machine has limits, so
/// those are files here, and the binary is not asked.
async fn without_room() -> String {
    let folder = tempfile::tempdir().unwrap();
    let compiler = Compiler::child(BINARY.into()).within(cgroup_with_used(folder.path(), 50));
    let host = Arc::new(Host::new(compiler).unwrap());
    let component = padded_component(&museum("1.0.0"), 1 << 20);
    let error = load(&host, &component, Settings::named("suspect")).await.unwrap_err();
    let line = format!("plugin \"suspect\" (/plugins/suspect.wasm) {error}");
    assert!(
        line.contains("memory") && line.contains("make the component smaller"),
        "{line}"
    );
    line
}

/// The table of the docs is what was seen.
fn compare_with_docs(table: &str) {
    const START: &str = "<!-- made by tests/e2e/plugin_swaps/bad_updates.rs -->\n";
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/refused.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, documented) = text.split_once(START).expect("the table has a mark before it");
    #[expect(
        clippy::disallowed_methods,
        reason = "a request to write the docs, not configuration"
    )]
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{head}{START}{table}")).unwrap();
        return;
    }
    assert_eq!(
        documented, table,
        "UPDATE_DOCS=1 cargo test --test e2e bad_updates writes wit/refused.md anew"
    );
}
