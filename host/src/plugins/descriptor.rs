//! Whether what a plugin says about itself can be used: it goes into logs and messages, and is kept as long as the plugin.
//!
//! Called by [`super::instance`] with every answer of `describe`.

use super::bindings::exports::keptn::distributor::lifecycle::Descriptor;
use super::error::{LoadError, one_line};

const MAX_NAME_BYTES: usize = 100;
const MAX_DESCRIPTION_BYTES: usize = 10_000;
const MAX_SCHEMA_BYTES: usize = 256 << 10;
const MAX_EVENT_TYPES: usize = 1000;
const MAX_EVENT_TYPE_BYTES: usize = 1000;

/// Finds what is too long, or no plain text where that is needed.
///
/// # Errors
/// The first such thing.
pub(super) fn check_descriptor(descriptor: &Descriptor) -> Result<(), LoadError> {
    plain("name", &descriptor.name)?;
    plain("version", &descriptor.version)?;
    at_most(MAX_DESCRIPTION_BYTES, "description", &descriptor.description)?;
    at_most(MAX_SCHEMA_BYTES, "config-schema", &descriptor.config_schema)?;
    let n_types = descriptor.event_types.len();
    if n_types > MAX_EVENT_TYPES {
        return bad(format!(
            "`event-types` has {n_types} items, its limit is {MAX_EVENT_TYPES}"
        ));
    }
    for event_type in &descriptor.event_types {
        at_most(MAX_EVENT_TYPE_BYTES, "event-types", event_type)?;
    }
    Ok(())
}

fn plain(field: &str, text: &str) -> Result<(), LoadError> {
    at_most(MAX_NAME_BYTES, field, text)?;
    if text.chars().any(char::is_control) {
        return bad(format!("`{field}` has control characters in it: {:?}", one_line(text)));
    }
    Ok(())
}

fn at_most(limit: usize, field: &str, text: &str) -> Result<(), LoadError> {
    if text.len() > limit {
        return bad(format!("`{field}` has {} bytes, its limit is {limit}", text.len()));
    }
    Ok(())
}

fn bad<T>(text: String) -> Result<T, LoadError> {
    Err(LoadError::Descriptor(text))
}
