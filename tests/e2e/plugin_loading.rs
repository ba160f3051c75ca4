//! `PLUGINS_DIR`: what is loaded, and how a plugin that cannot be is refused.

use crate::harness::*;

/// Starts with one plugin, which is not usable: exit code 1 and one line that says which, where and why.
async fn check_refused(component: &[u8], config: &str, reasons: &[&str]) {
    let manifest = format!(
        "default_filter = false\n[[plugin]]\nname = \"suspect\"\ncomponent = \"guest.wasm\"\n[plugin.config]\n{config}"
    );
    let folder = PluginFolder::new()
        .file("plugins.toml", manifest)
        .file("guest.wasm", component);
    let (exit_code, _, stderr) = run_to_end(&["run"], &[folder.variable()]).await;

    assert_eq!(exit_code, 1, "{stderr}");
    let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let [line] = errors.as_slice() else {
        panic!("one line is expected: {stderr}")
    };
    let plugin = format!("plugin \"suspect\" ({}/guest.wasm)", folder.path());
    assert_eq!(line.matches(&plugin).count(), 1, "{line}");
    for reason in reasons {
        assert!(line.contains(reason), "{reason} is missing: {line}");
    }
}

#[tokio::test]
async fn a_component_of_another_world_is_refused_with_what_it_wants() {
    check_refused(&guest("guest_wrong_world.wasm"), "", &["`other:thing/imp@1.0.0`"]).await;
}

#[tokio::test]
async fn what_is_no_component_is_refused_with_what_it_is() {
    check_refused(b"\0asm\x01\0\0\0", "", &["core module", "wasm32-wasip2"]).await;
    check_refused(b"plugins are welcome here", "", &["not WebAssembly"]).await;
    check_refused(b"", "", &["empty"]).await;
    let component = guest("guest_misbehaving.wasm");
    check_refused(&component[..component.len() / 2], "", &["cut off"]).await;
}

#[tokio::test]
async fn every_problem_that_a_plugin_finds_in_its_configuration_is_listed_with_its_place() {
    let folder = PluginFolder::behaving("reject-config");
    let (exit_code, _, stderr) = run_to_end(&["run"], &[folder.variable()]).await;
    assert_eq!(exit_code, 1, "{stderr}");
    let (_, problems) = stderr.split_once("error: the plugins have 2 problems:\n").unwrap();
    let line = |line: usize, column: usize, problem: &str| {
        format!(
            "  {}/plugins.toml, line {line}, column {column}: plugin \"suspect\": does not accept its configuration: \
             {problem}\n",
            folder.path()
        )
    };
    let expected = [
        line(8, 13, "/behaviour: told to reject"),
        line(9, 8, "/only: told to reject this as well"),
    ];
    assert_eq!(problems, expected.concat());

    let folder = PluginFolder::behaving("dance");
    let (_, _, stderr) = run_to_end(&["run"], &[folder.variable()]).await;
    assert!(stderr.contains("/behaviour: \"dance\" means nothing here"), "{stderr}");
}

#[tokio::test]
async fn a_plugin_that_panics_while_it_is_configured_is_refused() {
    let reasons = ["failed in `configure`", "panicked", "told to trap in configure"];
    check_refused(
        &guest("guest_misbehaving.wasm"),
        "behaviour = \"trap-in-configure\"",
        &reasons,
    )
    .await;
}

#[tokio::test]
async fn a_plugin_that_loops_while_it_is_configured_is_refused() {
    let reasons = ["failed in `configure`", "used up its 5s"];
    check_refused(
        &guest("guest_misbehaving.wasm"),
        "behaviour = \"loop-in-configure\"",
        &reasons,
    )
    .await;
}

#[tokio::test]
async fn a_directory_or_file_that_cannot_be_used_is_named() {
    let check = async |folder: &PluginFolder, reasons: &[&str]| {
        let (exit_code, _, stderr) = run_to_end(&["check"], &[folder.variable()]).await;
        assert_eq!(exit_code, 1);
        for reason in reasons {
            assert_eq!(stderr.matches(reason).count(), 1, "{reason}: {stderr}");
        }
    };
    let entry = "[[plugin]]\nname = \"a\"\ncomponent = \"missing.wasm\"\n";
    check(
        &PluginFolder::new().file("plugins.toml", entry),
        &["missing.wasm", "No such file"],
    )
    .await;
    let misspelt = "[[plugin]]\nname = \"a\"\ncomponnent = \"a.wasm\"\n";
    check(
        &PluginFolder::new().file("plugins.toml", misspelt),
        &["unknown key `componnent`; did you mean `component`?", "line 3"],
    )
    .await;
    let folder = PluginFolder::new();
    std::fs::remove_dir(folder.path()).unwrap();
    check(&folder, &["PLUGINS_DIR", folder.path(), "No such file"]).await;
    let text = PluginFolder::new().file("a.wasm", "plugins are welcome here");
    check(&text, &["plugin \"a\"", "a.wasm", "not WebAssembly"]).await;
}

#[tokio::test]
async fn without_a_file_every_component_is_loaded_in_order_of_names_after_the_default_filter() {
    let component = guest("guest_misbehaving.wasm");
    let folder = PluginFolder::new()
        .file("b.wasm", &component)
        .file("a.wasm", &component)
        .file("readme.txt", "no component");
    let (exit_code, stdout, stderr) = run_to_end(&["check"], &[folder.variable()]).await;
    assert_eq!(exit_code, 0, "{stderr}");

    let (_, chain) = stdout.split_once("Chain\n").unwrap();
    let chain: Vec<_> = chain
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let of_guest = |name: &str| {
        format!(
            "{name} 0.1.0 filter+transform on incoming, sha256 {}",
            digest(&component)
        )
    };
    assert_eq!(chain.len(), 3, "{chain:?}");
    assert!(chain[0].starts_with("keptn-filter"), "{chain:?}");
    assert_eq!(chain[1..], [of_guest("a"), of_guest("b")]);
}
