//! Files with every key, and with every mistake.

use std::time::Duration;

use serde_json::json;

use super::super::builtins::BUILTINS;
use super::super::context::Direction;
use super::super::selftest::Expected;
use super::super::settings::{Grants, Isolation, Mode, OnFailure};
use super::*;

fn parsed(text: &str) -> Manifest {
    parse(Path::new("dir"), Path::new("dir/plugins.toml"), text)
}

/// The lines an operator reads, without the name of the file.
fn problems_in(text: &str) -> Vec<String> {
    let problems = parsed(text).problems.into_iter();
    problems
        .map(|problem| problem.to_string().replacen("dir/plugins.toml, ", "", 1))
        .collect()
}

/// An entry that is right but for these lines, which begin in line 4.
fn problems_of_entry(lines: &str) -> Vec<String> {
    problems_in(&format!("[[plugin]]\nname = \"a\"\ncomponent = \"a.wasm\"\n{lines}\n"))
}

#[test]
fn reads_every_key_of_an_entry() {
    let text = r#"
        default_filter = false
        [[plugin]]
        name = "keptn-filter"
        component = "builtin:keptn-filter"
        [[plugin]]
        name = "a"
        component = "a.wasm.gz"
        sha256 = "ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef0123456789"
        allow_precompiled = true
        on = ["incoming", "outgoing"]
        events = ["sh.keptn.event.*.triggered", "*"]
        on_failure = "pass"
        mode = "canary"
        percent = 5
        timeout = "50ms"
        memory = "2MiB"
        grants = ["publish", "state"]
        isolation = "per-event"
        [plugin.config]
        services = ["checkout"]
        [[plugin.selftest]]
        event = "split.json"
        expect = "replace"
        events = 2
        [[plugin.selftest]]
        event = "/mnt/image/other.json"
        expect = "drop"
        [[plugin]]
        name = "b"
        component = "/mnt/image/b.wasm"
        mode = "shadow"
        beside = "keptn-filter"
    "#;
    let manifest = parsed(text);
    assert_eq!(manifest.problems, []);
    assert!(!manifest.default_filter);
    let [c, a, b] = manifest.entries.as_slice() else {
        panic!("three entries are expected")
    };
    assert_eq!(a.source, Source::File("dir/a.wasm.gz".into()));
    let pin = "abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789";
    assert_eq!(a.pin.as_deref(), Some(pin));
    assert!(a.allow_precompiled && !b.allow_precompiled);
    assert_eq!(b.settings.beside.as_deref(), Some("keptn-filter"));
    let expected = Settings {
        directions: vec![Direction::Incoming, Direction::Outgoing],
        event_types: vec!["sh.keptn.event.*.triggered".to_owned(), "*".to_owned()],
        on_failure: OnFailure::Pass,
        mode: Mode::Canary { percent: 5 },
        grants: Grants {
            publish: true,
            state: true,
        },
        isolation: Isolation::PerEvent,
        config: json!({"services": ["checkout"]}),
        limits: crate::plugins::Limits {
            call_time: Duration::from_millis(50),
            memory_bytes: 2 << 20,
            ..crate::plugins::Limits::default()
        },
        ..Settings::named("a")
    };
    assert_eq!(a.settings, expected);
    let tests: Vec<_> = a
        .self_tests
        .iter()
        .map(|test| (test.event.to_str().unwrap(), test.expected))
        .collect();
    assert_eq!(
        tests,
        [
            ("dir/split.json", Expected::Replace(Some(2))),
            ("/mnt/image/other.json", Expected::Drop)
        ]
    );
    assert_eq!(b.source, Source::File("/mnt/image/b.wasm".into()));
    assert_eq!(b.settings.mode, Mode::Shadow);
    assert_eq!(c.source, Source::Builtin(&BUILTINS[0]));
    assert_eq!(c.settings, Settings::named("keptn-filter"));
}

#[test]
fn all_mistakes_are_found_at_once_in_the_order_of_the_file() {
    let text = r#"
defaultfilter = false
[[plugin]]
name = "a"
component = "a.wasm"
timeout = "soon"
[[plugin]]
componnent = "b.wasm"
on = "incoming"
[[plugin]]
name = "a"
component = "builtin:kepn-filter"
percent = 5
"#;
    assert_eq!(
        problems_in(text),
        [
            "line 2, column 1: unknown key `defaultfilter`; did you mean `default_filter`?",
            "line 6, column 11: plugin \"a\": `timeout`: \"soon\" is not a duration of more than 0 and at most 1h, e.g. \
             \"500ms\" or \"1s\"",
            "line 7, column 1: an entry needs `name`",
            "line 7, column 1: an entry needs `component`",
            "line 8, column 1: unknown key `componnent`; did you mean `component`?",
            "line 9, column 6: `on` has to be a list of texts, and is \"incoming\"",
            "line 11, column 8: `name`: \"a\" is given twice; each plugin needs its own",
            "line 12, column 13: `component`: nothing named \"kepn-filter\" is built in; did you mean \
             `builtin:keptn-filter`?",
            "line 13, column 11: `percent`: only a canary has one (`mode = \"canary\"`)",
        ]
    );
    let entries = parsed(text).entries;
    assert_eq!(entries.len(), 1, "what can be understood can be loaded: {entries:?}");
}

#[test]
fn each_key_says_what_it_takes() {
    let check = |line: &str, expected: &str| {
        let problems = problems_of_entry(line);
        let [problem] = problems.as_slice() else {
            panic!("one problem is expected with {line}: {problems:?}")
        };
        assert!(
            problem.starts_with("line 4, ") && problem.contains("plugin \"a\""),
            "{problem}"
        );
        assert!(
            problem.contains(expected),
            "{expected} is expected with {line}: {problem}"
        );
    };
    check("sha256 = \"abc\"", "`sha256`: \"abc\" is no SHA-256");
    check(
        "on = [\"inbound\"]",
        "`on`: \"inbound\" is none of `incoming`, `outgoing`",
    );
    check("on = [1]", "`on` has to be a list of texts, and is 1");
    check("on = []", "`on` is empty");
    check("events = [\"sh.keptn.>\"]", "`*` stands for any text");
    check("events = [\"\"]", "matches no event");
    check("events = [\"a b\"]", "has blanks in it");
    check(
        "on_failure = \"ignore\"",
        "`retry-then-dead-letter`, `dead-letter`, `pass`, `drop`",
    );
    check("mode = \"dark\"", "`enforce`, `shadow`, `canary`");
    check("mode = \"canary\"", "a canary needs `percent`");
    check(
        "percent = 101\nmode = \"canary\"",
        "a whole number from 0 to 100, and is 101",
    );
    check("percent = 5\nmode = \"shadow\"", "only a canary has one");
    check("percent = 5", "only a canary has one");
    let beside = |mode: &str, name: &str| format!("beside = \"{name}\"\n{mode}");
    check(&beside("", "keptn-filter"), "only a candidate stands beside another");
    let shadow = "mode = \"shadow\"";
    check(&beside(shadow, "a"), "\"a\" does not count itself");
    check(&beside(shadow, "keptn-filer"), "did you mean \"keptn-filter\"?");
    check("allow_precompiled = true", "its entry needs `sha256`");
    check("allow_precompiled = \"yes\"", "`true` or `false`");
    check("timeout = \"0s\"", "`timeout`: \"0s\" is not a duration of more than 0");
    check("timeout = \"2h\"", "at most 1h");
    check("timeout = 5", "`timeout` has to be a text in quotation marks, and is 5");
    check("memory = \"16MB\"", "`memory`: \"16MB\" is not a size");
    check("grants = [\"root\"]", "`publish`, `state`");
    check("isolation = \"none\"", "`warm`, `per-event`");
    let selftest = "selftest = [{ event = \"e.json\", ";
    check(
        &format!("{selftest}expect = \"lose\" }}]"),
        "`pass`, `drop`, `keep`, `replace`",
    );
    check(
        &format!("{selftest}expected = \"drop\", expect = \"drop\" }}]"),
        "did you mean `expect`?",
    );
    check(&format!("{selftest}}}]"), "a self-test needs `expect`");
    check(
        &format!("{selftest}expect = \"drop\", events = 2 }}]"),
        "only `expect = \"replace\"` makes any",
    );
    check(
        "selftest = [{ event = \"../e.json\", expect = \"drop\" }]",
        "\"../e.json\" is no file in this directory",
    );
    check("config = 5", "`config` has to be a table, and is 5");
    check("config = { size = nan }", "/size is a number that JSON does not have");
    check(
        "config = { size = 99999999999999999999 }",
        "/size is larger than any number of 64 bits",
    );
    check(
        "colour = \"red\"",
        "unknown key `colour`; an entry knows `name`, `component`",
    );
}

#[test]
fn names_and_components_are_checked() {
    let entry = |name: &str, component: &str| {
        problems_in(&format!("[[plugin]]\nname = \"{name}\"\ncomponent = \"{component}\"\n"))
    };
    for name in ["", "a b", "-a", "a\\n", "ü", &"a".repeat(101)] {
        let problems = entry(name, "a.wasm");
        assert!(
            problems.len() == 1 && problems[0].contains("is no name; take letters"),
            "{problems:?}"
        );
    }
    let problems = entry("keptn-filter", "a.wasm");
    assert!(problems[0].contains("\"keptn-filter\" is given twice"), "{problems:?}");
    for component in ["", "../a.wasm", "x/../../a.wasm"] {
        let problems = entry("a", component);
        assert!(
            problems.len() == 1 && problems[0].contains("is no file in this directory, no absolute path"),
            "{problems:?}"
        );
    }
    assert_eq!(entry("a-1_b.c", "sub/a.wasm"), [""; 0]);
}

#[test]
fn mistakes_in_the_syntax_are_all_that_is_said_of_a_file() {
    let problems = problems_in("[[plugin]]\nname = \"a\nsize == 3\ncolour = 1\n");
    assert!(
        problems[0].starts_with("line 2, ") && problems[0].contains("this is no TOML"),
        "{problems:?}"
    );
    assert!(
        problems.iter().any(|problem| problem.starts_with("line 3, ")),
        "{problems:?}"
    );
    assert!(
        problems.iter().all(|problem| problem.contains("this is no TOML")),
        "{problems:?}"
    );
    let twice = problems_of_entry("on = []\non = []");
    assert!(twice.len() == 1 && twice[0].starts_with("line 5, "), "{twice:?}");
}

#[test]
fn each_part_of_a_configuration_has_a_place() {
    let text = "[[plugin]]\nname = \"a\"\ncomponent = \"a.wasm\"\n[plugin.config]\nlist = [1, 2]\n\"a/b\" = { since = \
                2026-11-23 }\n[plugin.config.inner]\nx = 0x10\n";
    let manifest = parsed(text);
    assert_eq!(manifest.problems, []);
    let [entry] = manifest.entries.as_slice() else {
        panic!("one entry is expected")
    };
    let config = json!({"list": [1, 2], "a/b": {"since": "2026-11-23"}, "inner": {"x": 16}});
    assert_eq!(entry.settings.config, config);
    let places = entry.config_places.as_ref().unwrap();
    let check = |pointer: &str, line: usize, column: usize| {
        assert_eq!(places.nearest(pointer), Place { line, column }, "{pointer}");
    };
    check("", 4, 1);
    check("/list", 5, 8);
    check("/list/1", 5, 12);
    check("/list/2", 5, 8);
    check("/a~1b/since", 6, 19);
    check("/inner/x", 8, 5);
    check("/inner/missing", 7, 1);
    check("nonsense", 4, 1);
}

#[test]
fn without_a_file_every_component_counts_in_the_order_of_names() {
    let folder = tempfile::tempdir().unwrap();
    let touch = |name: &str| std::fs::write(folder.path().join(name), "").unwrap();
    for name in [
        "b.wasm",
        "a.wasm.gz",
        "c.cwasm",
        "readme.txt",
        ".a.wasm",
        "a b.wasm",
        "b.wasm.gz",
    ] {
        touch(name);
    }
    let manifest = read(folder.path());
    assert!(manifest.default_filter);
    let names: Vec<_> = manifest.entries.iter().map(|entry| &*entry.settings.name).collect();
    assert_eq!(names, ["a", "b"]);
    let problems: Vec<_> = manifest.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("a b.wasm: \"a b\" is no name"), "{problems:?}");
    assert!(problems[1].contains("b.wasm.gz: \"b\" is given twice"), "{problems:?}");

    touch("plugins.toml");
    let manifest = read(folder.path());
    assert!(
        manifest.entries.is_empty() && manifest.problems.is_empty(),
        "{manifest:?}"
    );
}
