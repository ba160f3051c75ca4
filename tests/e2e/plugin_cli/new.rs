//! `plugin new`. That what it makes builds is shown by `make examples`.

use super::*;

#[tokio::test]
async fn a_folder_is_made_for_each_language_and_hook() {
    let desk = Desk::new();
    for lang in ["rust", "js", "ts", "python", "c", "go"] {
        for hook in ["filter", "transform"] {
            let folder = desk.path(&format!("{lang}-{hook}"));
            let arguments = [
                "new",
                "--lang",
                lang,
                "--hook",
                hook,
                "my-plugin",
                "--output",
                folder.to_str().unwrap(),
            ];
            let made = said(&arguments).await;
            assert_eq!(made.exit_code, 0, "{made:?}");
            assert!(made.stdout.contains("  make test\n"), "{}", made.stdout);
            let entry = std::fs::read_to_string(folder.join("plugins.toml")).unwrap();
            assert!(entry.contains("component = \"my-plugin.wasm\""), "{entry}");
            assert!(folder.join("wit/world.wit").is_file() && folder.join("tests/cases.yaml").is_file());
            let again = said(&arguments).await;
            assert_eq!(again.exit_code, 1, "what is there is not overwritten: {again:?}");
        }
    }
}

#[tokio::test]
async fn a_name_that_not_every_language_takes_is_refused() {
    let refused = said(&["new", "--lang", "rust", "--hook", "filter", "My_Plugin"]).await;
    assert_eq!(refused.exit_code, 64, "{refused:?}");
    assert!(refused.stderr.contains("e.g. `only-checkout`"), "{}", refused.stderr);
}
