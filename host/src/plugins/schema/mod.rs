//! Whether a configuration fits the JSON Schema (2020-12) of its plugin.
//!
//! Called by [`super::plugin`] before `configure`, so that plugins need no checks of their own. It is written out here
//! because the crates for it bring 2 to 6 MB with them, most of it for formats and remote references that have no place
//! here: nothing is ever fetched. Every keyword that asserts something is understood or refused, none is passed over.
//! `format` is an annotation, as the specification has it by default.

mod apply;
mod shape;
mod values;

use std::collections::HashMap;

use regex_lite::Regex;
use serde_json::Value;

use self::apply::Applying;
use super::error::{ConfigProblem, LoadError};

/// Violations that are named.
const MAX_PROBLEMS: usize = 50;

/// A schema that has been found sound.
#[derive(Debug)]
struct Schema<'a> {
    root: &'a Value,
    /// What the patterns in it come to.
    patterns: HashMap<&'a str, Regex>,
    /// What the references in it lead to.
    references: HashMap<&'a str, &'a Value>,
}

/// Checks a configuration.
///
/// # Errors
/// The schema is none, or everything in the configuration that does not fit it.
pub(super) fn check(schema: &str, config: &Value) -> Result<(), LoadError> {
    if schema.trim().is_empty() {
        return Ok(());
    }
    let root: Value =
        serde_json::from_str(schema).map_err(|error| LoadError::Schema(format!("it is no JSON: {error}")))?;
    let schema = Schema::new(&root).map_err(LoadError::Schema)?;
    let mut problems = Applying::to(config, &schema).map_err(LoadError::Schema)?;
    if problems.is_empty() {
        return Ok(());
    }
    if problems.len() > MAX_PROBLEMS {
        let message = format!("and {} more", problems.len() - MAX_PROBLEMS);
        problems.truncate(MAX_PROBLEMS);
        problems.push(ConfigProblem {
            pointer: String::new(),
            message,
        });
    }
    Err(LoadError::Config(problems))
}

/// One more step of a JSON pointer.
fn step(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests;
