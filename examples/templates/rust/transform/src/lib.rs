//! A transform: changes events, splits or answers them.
//!
//! This file carries values between the contract and [`rule`], which decides and knows nothing of components.

pub mod rule;

use std::cell::RefCell;

use bindings::exports::keptn::distributor::{lifecycle, {{hook}}};
use bindings::keptn::distributor::config;
use bindings::keptn::distributor::types::{AttributeValue, Extension};
use rule::Rule;
use transform::{CloudEvent, Emission, EventContext, Failure, Outcome};

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "transform-plugin" });

    // Only for the component: a native linker, which builds the unit tests, does not take the exported names.
    #[cfg(target_arch = "wasm32")]
    export!(Plugin);
    #[cfg(target_arch = "wasm32")]
    use super::Plugin;
}

thread_local! {
    /// Set by `configure`, which runs before the first event.
    static RULE: RefCell<Rule> = RefCell::default();
}

struct Plugin;

impl lifecycle::Guest for Plugin {
    fn describe() -> lifecycle::Descriptor {
        lifecycle::Descriptor {
            name: "{{name}}".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
            config_schema: include_str!("../config-schema.json").to_owned(),
            // Empty: events of all types.
            event_types: Vec::new(),
            // Extensions are optional attributes. `EventParts::DATA` asks for the data as well; what is not asked for is
            // not there, and stays with the event.
            reads: lifecycle::EventParts::OPTIONAL_ATTRIBUTES,
        }
    }

    fn configure(_config: String) -> Result<(), Vec<lifecycle::ConfigProblem>> {
        // The host has checked the configuration against the schema.
        RULE.set(Rule {
            extension: config::get("extension").unwrap_or_default(),
            value: config::get("value").unwrap_or_default(),
        });
        Ok(())
    }
}

impl transform::Guest for Plugin {
    fn apply(mut event: CloudEvent, _context: EventContext) -> Result<Outcome, Failure> {
        let names = event.extensions.iter().map(|extension| extension.name.as_str());
        let Some((name, value)) = RULE.with_borrow(|rule| rule.missing_among(names)) else {
            return Ok(Outcome::Keep);
        };
        let value = AttributeValue::Text(value);
        event.extensions.push(Extension { name, value });
        Ok(Outcome::Replace(vec![Emission::Forward(event)]))
    }
}
