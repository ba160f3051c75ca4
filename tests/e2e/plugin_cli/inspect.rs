//! `plugin inspect`.

use super::*;

#[tokio::test]
async fn everything_about_a_component_is_shown() {
    let said = said(&["inspect", "builtin:keptn-filter", "--json"]).await;
    assert_eq!(said.exit_code, 0, "{said:?}");
    let shown = said.json();
    assert_eq!(shown["descriptor"]["hooks"], serde_json::json!(["filter"]));
    assert_eq!(shown["descriptor"]["name"], "keptn-filter");
    assert_eq!(shown["digest"], digest(distributor::plugins::DEFAULT_FILTER_COMPONENT));
    assert_eq!(shown["config_map"]["fits"], true);
    let compiling = &shown["compiling"];
    assert!(compiling["memory_bytes"].as_u64().unwrap() > 4 << 20, "{compiling}");
    assert!(
        compiling["seconds"].as_f64().unwrap() > 0.0 && compiling["native_bytes"].as_u64().unwrap() > 10_000,
        "{compiling}"
    );
    let imports = shown["imports"].as_array().unwrap();
    assert!(imports.iter().all(|import| import["offered"] == true), "{imports:?}");
}

#[tokio::test]
async fn what_cannot_be_used_is_shown_as_far_as_it_goes() {
    let desk = Desk::new();
    let component = desk.write("wrong.wasm", guest("guest_wrong_world.wasm"));
    let said = said(&["inspect", &component]).await;
    assert_eq!(said.exit_code, 1, "{said:?}");
    for expected in [
        "unusable",
        "import `other:thing/imp@1.0.0` is unknown",
        "exports\n  run",
    ] {
        assert!(said.stdout.contains(expected), "{expected} is missing: {}", said.stdout);
    }
}
