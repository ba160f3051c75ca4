//! What a schema says of a value as a whole, and when two values are equal.
//!
//! Called by [`super::apply`].

use serde_json::{Map, Value};

use super::apply::Outcome;

/// Keywords about the value as a whole.
pub(super) fn assert_itself(keywords: &Map<String, Value>, value: &Value, pointer: &str, outcome: &mut Outcome) {
    if let Some(types) = keywords.get("type") {
        let names = types.as_array().map_or(std::slice::from_ref(types), Vec::as_slice);
        if !names
            .iter()
            .filter_map(Value::as_str)
            .any(|name| is_of_type(value, name))
        {
            let names: Vec<_> = names.iter().filter_map(Value::as_str).collect();
            let message = format!(
                "has to be of the type {}, and is of the type {}",
                names.join(" or "),
                type_of(value)
            );
            outcome.add(pointer, &message);
        }
    }
    if let Some(choices) = keywords.get("enum").and_then(Value::as_array)
        && !choices.iter().any(|choice| is_equal(choice, value))
    {
        let choices: Vec<_> = choices.iter().map(ToString::to_string).collect();
        outcome.add(pointer, &format!("is none of {}", choices.join(", ")));
    }
    if let Some(constant) = keywords.get("const")
        && !is_equal(constant, value)
    {
        outcome.add(pointer, &format!("has to be {constant}"));
    }
    let Some(number) = value.as_f64() else {
        return;
    };
    let limit = |keyword: &str| keywords.get(keyword).and_then(Value::as_f64);
    let mut refuse = |is_wrong: bool, keyword: &str, words: &str| {
        if is_wrong {
            outcome.add(pointer, &format!("has to be {words} {}", keywords[keyword]));
        }
    };
    refuse(
        limit("minimum").is_some_and(|limit| number < limit),
        "minimum",
        "at least",
    );
    refuse(
        limit("maximum").is_some_and(|limit| number > limit),
        "maximum",
        "at most",
    );
    let is_low = limit("exclusiveMinimum").is_some_and(|limit| number <= limit);
    refuse(is_low, "exclusiveMinimum", "more than");
    let is_high = limit("exclusiveMaximum").is_some_and(|limit| number >= limit);
    refuse(is_high, "exclusiveMaximum", "less than");
    let is_between = limit("multipleOf").is_some_and(|unit| !is_multiple(number, unit));
    refuse(is_between, "multipleOf", "a multiple of");
}

/// Decimal fractions such as 0.1 are not exact, so that the quotient is only nearly whole.
fn is_multiple(number: f64, unit: f64) -> bool {
    let quotient = number / unit;
    (quotient - quotient.round()).abs() <= quotient.abs().max(1.0) * 1e-12
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) if is_of_type(value, "integer") => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match (name, value) {
        ("number", Value::Number(_))
        | ("null", Value::Null)
        | ("boolean", Value::Bool(_))
        | ("string", Value::String(_))
        | ("array", Value::Array(_))
        | ("object", Value::Object(_)) => true,
        // 1.0 is an integer as well.
        ("integer", Value::Number(number)) => !number.is_f64() || number.as_f64().is_some_and(|n| n.fract() == 0.0),
        _ => false,
    }
}

/// Equal in the sense of JSON Schema: 1 and 1.0 are.
pub(super) fn is_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || (x.is_f64() != y.is_f64() && x.as_f64() == y.as_f64()),
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| is_equal(x, y)),
        (Value::Object(x), Value::Object(y)) => {
            let is_in_y = |(name, x): (&String, &Value)| y.get(name).is_some_and(|y| is_equal(x, y));
            x.len() == y.len() && x.iter().all(is_in_y)
        }
        _ => a == b,
    }
}
