//! What the guest says about itself.
//!
//! Called by `describe`. It knows nothing of hooks.

use crate::bindings::exports::keptn::distributor::lifecycle::{Descriptor, EventParts};
use crate::in_filter::loop_forever;
use crate::orders::Behaviour;

const HUGE_DESCRIPTION_BYTES: usize = 1 << 20;
const HUGE_SCHEMA_BYTES: usize = 10 << 20;
const BAD_EXAMPLE: &str = r#"{"type":"object","required":["behaviour"],"examples":[{"count":1}]}"#;
const N_EVENT_TYPES: usize = 20_000;

/// Behaves as told; the truth when the order is for another place.
pub(crate) fn behave(behaviour: Behaviour) -> Descriptor {
    let mut descriptor = Descriptor {
        name: "misbehaving".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        description: "Misbehaves as its configuration says".to_owned(),
        config_schema: String::new(),
        event_types: Vec::new(),
        reads: EventParts::OPTIONAL_ATTRIBUTES | EventParts::DATA,
    };
    match behaviour {
        Behaviour::LoopInDescribe => loop_forever(),
        Behaviour::TrapInDescribe => panic!("told to trap in describe"),
        Behaviour::HugeDescription => descriptor.description = "x".repeat(HUGE_DESCRIPTION_BYTES),
        Behaviour::HugeSchema => {
            let title = "x".repeat(HUGE_SCHEMA_BYTES);
            descriptor.config_schema = format!("{{\"title\":\"{title}\"}}");
        }
        Behaviour::ManyEventTypes => descriptor.event_types = vec!["t".to_owned(); N_EVENT_TYPES],
        Behaviour::BadExample => BAD_EXAMPLE.clone_into(&mut descriptor.config_schema),
        Behaviour::ForgedVersion => descriptor.version.push_str("\nINFO forged"),
        Behaviour::BlindSplit => descriptor.reads = EventParts::empty(),
        _ => {}
    }
    descriptor
}
