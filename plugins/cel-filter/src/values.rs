//! JSON and text → values of CEL.

use std::collections::HashMap;
use std::sync::Arc;

use cel::objects::{Key, Map};
use cel::{ExecutionError, Value};

/// Takes a JSON document as a value. Whole numbers that fit are `int`, all others `double`.
///
/// # Errors
/// Why the text is not JSON.
pub fn from_json(text: &str) -> Result<Value, String> {
    let json: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format!("the data is not JSON: {error}"))?;
    Ok(value(json))
}

fn value(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(truth) => Value::Bool(truth),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::String(Arc::new(text)),
        serde_json::Value::Array(elements) => Value::List(Arc::new(elements.into_iter().map(value).collect())),
        serde_json::Value::Object(members) => map(members.into_iter().map(|(name, member)| (name, value(member)))),
    }
}

/// A map with text as keys.
pub fn map(members: impl IntoIterator<Item = (String, Value)>) -> Value {
    let members = members
        .into_iter()
        .map(|(name, member)| (Key::String(Arc::new(name)), member));
    Value::Map(Map {
        map: Arc::new(members.collect::<HashMap<_, _>>()),
    })
}

/// A text.
pub fn text(text: String) -> Value {
    Value::String(Arc::new(text))
}

/// What went wrong, without the whole event in it: some messages quote values.
pub fn in_words(error: &ExecutionError) -> String {
    match error {
        ExecutionError::ValuesNotComparable(left, right) => {
            format!("a {} cannot be compared with a {}", left.type_of(), right.type_of())
        }
        ExecutionError::UnsupportedBinaryOperator(operator, left, right) => {
            format!(
                "`{operator}` does not work on a {} and a {}",
                left.type_of(),
                right.type_of()
            )
        }
        ExecutionError::UnsupportedIndex(key, value) => {
            format!("a {} has no element by {}", value.type_of(), key.type_of())
        }
        ExecutionError::UnsupportedTargetType { target } => {
            format!("a function does not work on a {}", target.type_of())
        }
        ExecutionError::NotSupportedAsMethod { method, target } => {
            format!("`{method}` does not work on a {}", target.type_of())
        }
        other => other.to_string(),
    }
}
