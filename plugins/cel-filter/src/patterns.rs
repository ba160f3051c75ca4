//! The function `matches` of CEL.
//!
//! With `regex-lite`: the crate that the CEL library would bring makes the component twice as large, for tables of
//! Unicode. `\w`, `\d`, `\s` and `(?i)` are about ASCII here.

use std::cell::RefCell;
use std::collections::HashMap;

use cel::common::types::{CelBool, CelString};
use cel::{Env, ExecutionError, add_member_overload, add_overload};
use regex_lite::{Regex, RegexBuilder};

/// Its name.
pub(crate) const MATCHES: &str = "matches";

/// Beyond this a pattern is refused: it would take most of the memory of an instance.
const MAX_PATTERN_BYTES: usize = 1 << 20;

/// An expression has few patterns, unless it takes them from events.
const MAX_KEPT: usize = 64;

thread_local! {
    /// Compiled patterns. A function of the library is a plain function, so they cannot stand beside the expression.
    static KEPT: RefCell<HashMap<String, Regex>> = RefCell::new(HashMap::new());
}

/// Gives an environment the function.
pub(crate) fn add_to(environment: &mut Env) {
    let added = add_overload!(environment, fn matches: (CelString, CelString) -> Result<CelBool>, id = "matches")
        .and_then(|()| add_member_overload!(environment, fn matches: (CelString, CelString) -> Result<CelBool>));
    added.expect("the library has no `matches` of its own without its feature `regex`");
}

fn matches(text: &CelString<'_>, pattern: &CelString<'_>) -> Result<CelBool, ExecutionError> {
    let (text, pattern) = (text.inner(), pattern.inner());
    KEPT.with_borrow_mut(|kept| {
        if let Some(regex) = kept.get(pattern) {
            return Ok(CelBool::from(regex.is_match(text)));
        }
        let regex = compile(pattern).map_err(|message| ExecutionError::FunctionError {
            function: MATCHES.to_owned(),
            message,
        })?;
        let is_match = regex.is_match(text);
        if kept.len() < MAX_KEPT {
            kept.insert(pattern.to_owned(), regex);
        }
        Ok(CelBool::from(is_match))
    })
}

/// Takes a text as a pattern.
///
/// # Errors
/// Why it is none.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(MAX_PATTERN_BYTES)
        .build()
        .map_err(|error| format!("not a pattern that `matches` can use: {error}"))
}
