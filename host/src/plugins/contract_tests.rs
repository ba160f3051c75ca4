//! The text of the contract against what was released and what the host offers.

use std::path::Path;

use super::CONTRACT_VERSION;
use super::offer::OFFERED;

const CURRENT: &str = include_str!("../../../wit/world.wit");

/// The names of the functions of an interface, in order.
fn functions_of<'a>(text: &'a str, interface: &str) -> Vec<&'a str> {
    let start = format!("\ninterface {interface} {{\n");
    let (_, body) = text.split_once(&start).expect("the interface is there");
    let (body, _) = body.split_once("\n}\n").expect("it has an end");
    let function = |line: &'a str| line.trim().split_once(": func(").map(|(name, _)| name);
    body.lines().filter_map(function).collect()
}

/// There is one text of this version, and authors have it. A change needs a new version, and a folder of its own among
/// the released texts.
#[test]
fn the_published_contract_has_not_changed() {
    let released = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/released");
    let text = std::fs::read_to_string(released.join(CONTRACT_VERSION).join("world.wit"));
    assert_eq!(
        CURRENT,
        text.unwrap(),
        "wit/world.wit differs from what was released as {CONTRACT_VERSION}"
    );
    assert!(CURRENT.contains(&format!("package keptn:distributor@{CONTRACT_VERSION};")));
}

#[test]
fn what_the_host_offers_is_what_the_contract_says() {
    for (interface, functions) in OFFERED {
        assert_eq!(functions_of(CURRENT, interface), functions, "{interface}");
    }
}
