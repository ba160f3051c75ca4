//! `plugin compile`.

use super::*;

#[tokio::test]
async fn native_code_runs_with_the_entry_that_is_printed() {
    let desk = Desk::new();
    let native = desk.path("guest.cwasm").to_str().unwrap().to_owned();
    let said = said(&["compile", &desk.component(), "--output", &native]).await;
    assert_eq!(said.exit_code, 0, "{said:?}");
    let entry = &said.stdout[said.stdout.find("[[plugin]]").expect("an entry is printed")..];
    assert!(entry.contains("allow_precompiled = true"), "{entry}");
    let folder = PluginFolder::new()
        .file("plugins.toml", format!("default_filter = false\n{entry}"))
        .file("guest.cwasm", std::fs::read(&native).unwrap());
    let (exit_code, stdout, stderr) = run_to_end(&["check"], &[folder.variable()]).await;
    assert_eq!(exit_code, 0, "{stderr}");
    assert!(stdout.contains("filter+transform"), "{stdout}");
}

#[tokio::test]
async fn what_is_no_component_is_refused() {
    let desk = Desk::new();
    let file = desk.write("text.wasm", "text");
    let said = said(&["compile", &file, "--json"]).await;
    assert_eq!(said.exit_code, 1, "{said:?}");
    assert!(said.stderr.contains("not WebAssembly at all"), "{}", said.stderr);
}
