//! The bills of materials that `make sbom` has made: what is in the image stands in them, and nothing that only tests need.

use std::collections::BTreeMap;

use serde_json::Value;

use super::target;
use crate::harness::json;

/// Names and versions of what a binary or component is made of.
fn materials(of: &str) -> BTreeMap<String, String> {
    let path = target().join("sbom").join(format!("{of}.cdx.json"));
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("`make sbom` makes {}: {error}", path.display()));
    let bill = json(&text);
    assert_eq!(
        (&bill["bomFormat"], &bill["metadata"]["component"]["name"]),
        (&"CycloneDX".into(), &of.into())
    );
    assert_eq!(bill["metadata"]["component"]["version"], env!("CARGO_PKG_VERSION"));
    let text = |value: &Value| value.as_str().expect("it is a text").to_owned();
    let components = bill["components"].as_array().unwrap().iter();
    components
        .map(|component| (text(&component["name"]), text(&component["version"])))
        .collect()
}

#[test]
fn everything_that_is_shipped_has_a_bill_of_materials() {
    let distributor = materials("distributor");
    for shipped in ["wasmtime", "tokio", "async-nats", "rustls", "mimalloc"] {
        let version = &distributor[shipped];
        let locked = format!("name = \"{shipped}\"\nversion = \"{version}\"");
        assert!(include_str!("../../../Cargo.lock").contains(&locked), "{locked}");
    }
    for others in ["test-support", "criterion", "proptest", "rcgen", "opentelemetry-proto"] {
        assert!(!distributor.contains_key(others), "{others} is not in the binary");
    }
    assert!(materials("jq-transform").contains_key("jaq-core"));
    assert!(materials("cel-filter").contains_key("wit-bindgen"));
    assert!(materials("keptn-filter").contains_key("wit-bindgen"));
}
