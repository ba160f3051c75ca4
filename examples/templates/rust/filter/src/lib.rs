//! A filter: decides which events go on.
//!
//! This file carries values between the contract and [`rule`], which decides and knows nothing of components.

pub mod rule;

use std::cell::RefCell;

use bindings::exports::keptn::distributor::{lifecycle, {{hook}}};
use bindings::keptn::distributor::config;
use filter::{CloudEvent, EventContext, Failure, Verdict};
use rule::Rule;

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "filter-plugin" });

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
            // The context is enough. `EventParts::DATA` asks for the data as well, `OPTIONAL_ATTRIBUTES` for extensions
            // and the like; what is not asked for is not there.
            reads: lifecycle::EventParts::empty(),
        }
    }

    fn configure(_config: String) -> Result<(), Vec<lifecycle::ConfigProblem>> {
        // The host has checked the configuration against the schema.
        RULE.set(Rule {
            services: config::get_list("services"),
        });
        Ok(())
    }
}

impl filter::Guest for Plugin {
    fn evaluate(_event: CloudEvent, context: EventContext) -> Result<Verdict, Failure> {
        let is_wanted = RULE.with_borrow(|rule| rule.is_wanted(context.service.as_deref()));
        Ok(if is_wanted {
            Verdict::Pass
        } else {
            Verdict::Drop("another service".to_owned())
        })
    }
}
