//! The plugins that an entry can speak of: those before it.

use std::sync::Arc;

use super::super::builtins::DEFAULT_FILTER;
use super::fields::nearest;

const MAX_NAME_BYTES: usize = 100;

/// The plugins so far.
#[derive(Debug)]
pub(super) struct Known {
    names: Vec<Arc<str>>,
    /// Those of them that count, and can have candidates beside them.
    enforced: Vec<Arc<str>>,
}

impl Known {
    pub(super) fn new(has_default_filter: bool) -> Self {
        let names: Vec<Arc<str>> = has_default_filter.then(|| DEFAULT_FILTER.into()).into_iter().collect();
        Self {
            enforced: names.clone(),
            names,
        }
    }

    /// Whether a plugin can have this name; the name is then taken.
    pub(super) fn add(&mut self, name: &str) -> Result<(), String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !name.starts_with(|first: char| first.is_ascii_alphanumeric())
            || !name.chars().all(is_plain)
            || name.len() > MAX_NAME_BYTES
        {
            return Err(format!(
                "{name:?} is no name; take letters, digits, `-`, `_` and `.`, a letter or digit first, at most \
                 {MAX_NAME_BYTES} of them"
            ));
        }
        if self.names.iter().any(|other| **other == *name) {
            return Err(format!("{name:?} is given twice; each plugin needs its own"));
        }
        self.names.push(name.into());
        Ok(())
    }

    /// The plugin of this name counts.
    pub(super) fn enforce(&mut self, name: &Arc<str>) {
        self.enforced.push(Arc::clone(name));
    }

    /// Whether a candidate can stand beside the plugin of this name.
    pub(super) fn check_beside(&self, name: &str) -> Result<(), String> {
        if self.enforced.iter().any(|other| **other == *name) {
            return Ok(());
        }
        if self.names.iter().any(|other| **other == *name) {
            return Err(format!("{name:?} does not count itself (`mode`)"));
        }
        let meant = nearest(name, self.enforced.iter().map(|other| &**other));
        let remedy = meant.map_or_else(String::new, |other| format!("; did you mean {other:?}?"));
        Err(format!("no plugin before this one is named {name:?}{remedy}"))
    }
}
