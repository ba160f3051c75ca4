//! `plugins.toml` and what lies beside it: everything that is wrong is said in one start, and what is not trusted or
//! fails its self-test does not run.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use distributor::config;
use distributor::event::Event;
use distributor::plugins::{Chain, ChainError, Compiler, Context, Direction, Fate, Host, Metric, build_chain};
use flate2::Compression;
use flate2::write::GzEncoder;
use minisign::KeyPair;

use crate::harness::*;

const ENTRY: &str = "[[plugin]]\nname = \"mine\"\ncomponent = \"guest.wasm\"\n";

/// What a start with these variables and this folder fails with: one line for each problem, without the folder's path.
async fn refusal(folder: &PluginFolder, variables: &[(&str, &str)]) -> Vec<String> {
    let variables = [variables, &[folder.variable()]].concat();
    let (exit_code, _, stderr) = run_to_end(&["run"], &variables).await;
    assert_eq!(exit_code, 1, "{stderr}");
    let (_, error) = stderr.split_once("error: ").expect("the reason is printed");
    let error = error.replace(&format!("{}/", folder.path()), "");
    error.lines().map(|line| line.trim_start().to_owned()).collect()
}

/// What `distributor check` says of the chain.
async fn checked(folder: &PluginFolder, variables: &[(&str, &str)]) -> String {
    let variables = [variables, &[folder.variable()]].concat();
    let (exit_code, stdout, stderr) = run_to_end(&["check"], &variables).await;
    assert_eq!(exit_code, 0, "{stderr}");
    let (_, chain) = stdout.split_once("Chain\n").expect("the chain is printed");
    chain.to_owned()
}

#[tokio::test]
async fn everything_that_is_wrong_is_said_in_one_start() {
    let manifest = "defaultfilter = true\n\
                    [[plugin]]\nname = \"text\"\ncomponent = \"text.wasm\"\n\
                    [[plugin]]\nname = \"missing\"\ncomponent = \"missing.wasm\"\ntimeout = \"0s\"\n\
                    [[plugin]]\nname = \"foreign\"\ncomponent = \"foreign.wasm\"\n\
                    [[plugin]]\nname = \"sound\"\ncomponent = \"guest.wasm\"\n\
                    [[plugin]]\nname = \"filter\"\ncomponent = \"builtin:keptn-filter\"\n\
                    [plugin.config]\nservices = [\"a\", 5]\nproject = \"p\"\n";
    let folder = PluginFolder::with_manifest(manifest)
        .file("text.wasm", "plugins are welcome here")
        .file("foreign.wasm", guest("guest_wrong_world.wasm"));
    let lines = refusal(&folder, &[]).await;

    let starts = [
        "the plugins have 7 problems:",
        "plugins.toml, line 1, column 1: unknown key `defaultfilter`; did you mean `default_filter`?",
        "plugins.toml, line 8, column 11: plugin \"missing\": `timeout`: \"0s\" is not a duration of more than 0",
        "plugin \"text\" (text.wasm) cannot be compiled: ",
        "plugin \"missing\" (missing.wasm) cannot be read: No such file",
        "plugin \"foreign\" (foreign.wasm) wants what this host does not have: import `other:thing/imp@1.0.0`",
        "plugins.toml, line 19, column 18: plugin \"filter\": does not accept its configuration: /services/1: has to be of \
         the type string",
        "plugins.toml, line 20, column 11: plugin \"filter\": does not accept its configuration: /project: is unknown",
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:#?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{start} is expected: {line}");
    }
}

#[tokio::test]
async fn a_compressed_component_is_the_same_plugin() {
    let component = guest("guest_misbehaving.wasm");
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&component).unwrap();
    let packed = encoder.finish().unwrap();
    let pinned = format!(
        "[[plugin]]\nname = \"mine\"\ncomponent = \"guest.wasm.gz\"\nsha256 = \"{}\"\n",
        digest(&packed)
    );
    let folder = PluginFolder::new()
        .file("guest.wasm.gz", &packed)
        .file("plugins.toml", &pinned);
    let chain = checked(&folder, &[]).await;
    assert!(chain.contains(&digest(&component)), "{chain}");

    let folder = folder.file("guest.wasm.gz", &packed[..packed.len() / 2]);
    let lines = refusal(&folder, &[]).await;
    let expected = format!("and its entry asks for sha256 {}", digest(&packed));
    assert!(lines[0].contains(&expected), "{lines:?}");
    let folder = folder.file("plugins.toml", pinned.replace("sha256", "# sha256"));
    let lines = refusal(&folder, &[]).await;
    assert!(lines[0].contains("is no gzip file that can be inflated"), "{lines:?}");
}

#[tokio::test]
async fn once_keys_are_named_only_what_they_signed_is_loaded() {
    let keys = KeyPair::generate_unencrypted_keypair().unwrap();
    let stranger = KeyPair::generate_unencrypted_keypair().unwrap();
    let signed_by = |keys: &KeyPair, content: &[u8]| {
        let signature = minisign::sign(Some(&keys.pk), &keys.sk, content, None, None);
        signature.unwrap().into_string()
    };
    let public = keys.pk.to_base64();
    let trusted = [("PLUGINS_TRUSTED_KEYS", public.as_str())];
    let component = guest("guest_misbehaving.wasm");
    let folder = PluginFolder::with_manifest(ENTRY);
    let lines = refusal(&folder, &trusted).await;
    assert!(
        lines[0].starts_with("plugin \"mine\" (guest.wasm) is not signed: there is no guest.wasm.minisig"),
        "{lines:?}"
    );

    let folder = folder.file("guest.wasm.minisig", signed_by(&stranger, &component));
    let lines = refusal(&folder, &trusted).await;
    assert!(lines[0].contains("is signed by another key"), "{lines:?}");
    let folder = folder.file("guest.wasm.minisig", signed_by(&keys, b"another component"));
    let lines = refusal(&folder, &trusted).await;
    assert!(lines[0].contains("does not match its signature"), "{lines:?}");

    let folder = folder.file("guest.wasm.minisig", signed_by(&keys, &component));
    assert!(checked(&folder, &trusted).await.contains("mine "));
    let folder = folder.file("trusted.pub", keys.pk.to_box().unwrap().into_string());
    let file = format!("{}/trusted.pub", folder.path());
    let chain = checked(&folder, &[("PLUGINS_TRUSTED_KEYS_FILE", &file)]).await;
    assert!(chain.contains("keptn-filter ") && chain.contains("mine "), "{chain}");
}

#[tokio::test]
async fn a_plugin_that_fails_its_self_test_does_not_run() {
    let event = event("bad-1").to_bytes();
    let with_tests = |behaviour: &str, tests: &str| {
        let manifest = format!(
            "{ENTRY}config = {{ behaviour = \"{behaviour}\", only = \"bad\" }}\nselftest = [{tests}]\n[[plugin]]\nname = \
             \"lists\"\ncomponent = \"builtin:keptn-filter\"\nconfig = {{ projects = [\"none\"] }}\n\
             [[plugin.selftest]]\nevent = \"event.json\"\nexpect = \"drop\"\n"
        );
        PluginFolder::with_manifest(&manifest).file("event.json", &event)
    };
    let test = |rest: &str| format!("{{ event = \"event.json\", {rest} }}");
    let check = async |behaviour: &str, tests: &str, expected: &[&str]| {
        let folder = with_tests(behaviour, tests);
        if expected.is_empty() {
            checked(&folder, &[]).await;
            return;
        }
        let lines = refusal(&folder, &[]).await;
        let problems = &lines[usize::from(expected.len() > 1)..];
        assert_eq!(problems.len(), expected.len(), "{lines:#?}");
        for (line, expected) in problems.iter().zip(expected) {
            assert!(
                line.starts_with("plugins.toml, line 5, column ") && line.contains(expected),
                "{line}"
            );
        }
    };
    check("drop", &test("expect = \"drop\""), &[]).await;
    check(
        "keep",
        &[test("expect = \"pass\""), test("expect = \"keep\"")].join(", "),
        &[],
    )
    .await;
    check("split", &test("expect = \"replace\", events = 3"), &[]).await;
    check("split", &test("expect = \"replace\""), &[]).await;
    check(
        "split",
        &[test("expect = \"keep\""), test("expect = \"replace\", events = 2"), test("expect = \"pass\"")].join(", "),
        &[
            "plugin \"mine\": fails its self-test with event.json: `keep` was expected, and it replaced it by 3 event(s)",
            "`replace` by 2 event(s) was expected, and it replaced it by 3",
        ],
    )
    .await;
    check(
        "drop",
        &test("expect = \"pass\""),
        &["`pass` was expected, and it dropped it"],
    )
    .await;
    check("trap", &test("expect = \"pass\""), &["panicked"]).await;
    let missing = "{ event = \"gone.json\", expect = \"pass\" }";
    check("keep", missing, &["cannot read the event gone.json: No such file"]).await;
    let text = "{ event = \"plugins.toml\", expect = \"pass\" }";
    check("keep", text, &["plugins.toml is no event: "]).await;
}

/// Builds the chain of a folder as a reload does.
async fn built(host: &Arc<Host>, folder: &PluginFolder, previous: Option<&Chain>) -> Result<Chain, ChainError> {
    let config = config::from_env(&|_| None).unwrap();
    let generation = previous.map_or(1, |previous| previous.generation + 1);
    build_chain(host, &config, Some(Path::new(folder.path())), generation, previous).await
}

#[tokio::test]
async fn a_self_test_leaves_nothing_in_the_state_of_the_plugin() {
    let manifest = format!(
        "default_filter = false\n{ENTRY}grants = [\"state\"]\nconfig = {{ behaviour = \"state-count\" }}\n\
         selftest = [{{ event = \"event.json\", expect = \"drop\" }}]\n"
    );
    let folder = PluginFolder::with_manifest(&manifest).file("event.json", event("e").to_bytes());
    let host = Arc::new(Host::new(Compiler::in_process()).unwrap());
    let chain = built(&host, &folder, None).await.unwrap();
    let context = Context {
        direction: Direction::Incoming,
        subscription: None,
        received_on: TASK_TRIGGERED,
        receipt: 1,
        span: None,
    };
    let event = Event::parse(event("e").to_bytes()).unwrap();
    let Fate::Dropped { reason, .. } = chain.run(&event, &context).await.unwrap().fate else {
        panic!("it drops what it counts")
    };
    assert_eq!(reason, "event 1");
    assert_eq!(chain.plugins[0].metrics()["events_total"], Metric::Counter(1));
}

#[tokio::test]
async fn plugins_of_the_previous_chain_are_taken_over_when_nothing_of_theirs_changed() {
    let entry = |name: &str, behaviour: &str| {
        format!(
            "[[plugin]]\nname = \"{name}\"\ncomponent = \"guest.wasm\"\nconfig = {{ behaviour = \"{behaviour}\" }}\n"
        )
    };
    let folder = PluginFolder::with_manifest(&(entry("a", "keep") + &entry("b", "keep")));
    let host = Arc::new(Host::new(Compiler::in_process()).unwrap());
    let first = built(&host, &folder, None).await.unwrap();
    let folder = folder.file("plugins.toml", entry("b", "drop") + &entry("a", "keep"));
    let second = built(&host, &folder, Some(&first)).await.unwrap();

    let names: Vec<_> = second.plugins.iter().map(|plugin| plugin.name().to_string()).collect();
    assert_eq!(names, ["keptn-filter", "b", "a"]);
    assert_eq!(second.generation, 2);
    let is_taken_over = |new: usize, old: usize| Arc::ptr_eq(&second.plugins[new], &first.plugins[old]);
    assert!(is_taken_over(0, 0) && is_taken_over(2, 1), "they are as they were");
    assert!(!is_taken_over(1, 2), "its configuration changed");

    let folder = folder.file("guest.wasm", guest("guest_wrong_world.wasm"));
    let refused = built(&host, &folder, Some(&second)).await.unwrap_err();
    assert_eq!(refused.problems.len(), 2, "{refused}");
    let third = built(&host, &folder.file("plugins.toml", ""), Some(&second))
        .await
        .unwrap();
    assert!(Arc::ptr_eq(&third.plugins[0], &first.plugins[0]));
}
