//! Whether a schema is one: each keyword holds what it may hold, and each reference leads somewhere.

use std::collections::{HashMap, HashSet};

use percent_encoding::percent_decode_str;
use regex_lite::Regex;
use serde_json::{Map, Value};

use super::{Schema, step};

/// Nesting of a schema. A deeper one was not written by a person.
const MAX_DEPTH: usize = 64;
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

/// What a keyword holds.
enum Holds {
    Schema,
    Schemas,
    NamedSchemas,
    SchemasByPattern,
    Type,
    Pattern,
    List,
    Names,
    NamesByName,
    Number,
    PositiveNumber,
    Count,
    Boolean,
    Reference,
    Dialect,
    Id,
    /// It asserts something that is not understood here.
    NotSupported,
    /// It asserts nothing.
    Annotation,
}

fn holds(keyword: &str) -> Holds {
    match keyword {
        "additionalProperties"
        | "propertyNames"
        | "unevaluatedProperties"
        | "items"
        | "contains"
        | "unevaluatedItems"
        | "not"
        | "if"
        | "then"
        | "else" => Holds::Schema,
        "allOf" | "anyOf" | "oneOf" | "prefixItems" => Holds::Schemas,
        // `definitions` is how earlier drafts call `$defs`; references into it are common.
        "properties" | "dependentSchemas" | "$defs" | "definitions" => Holds::NamedSchemas,
        "patternProperties" => Holds::SchemasByPattern,
        "type" => Holds::Type,
        "pattern" => Holds::Pattern,
        "enum" => Holds::List,
        "required" => Holds::Names,
        "dependentRequired" => Holds::NamesByName,
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => Holds::Number,
        "multipleOf" => Holds::PositiveNumber,
        "minLength" | "maxLength" | "minItems" | "maxItems" | "minContains" | "maxContains" | "minProperties"
        | "maxProperties" => Holds::Count,
        "uniqueItems" => Holds::Boolean,
        "$ref" => Holds::Reference,
        "$schema" => Holds::Dialect,
        "$id" => Holds::Id,
        "$dynamicRef" | "$recursiveRef" | "dependencies" | "additionalItems" => Holds::NotSupported,
        _ => Holds::Annotation,
    }
}

struct Walk<'a> {
    schema: Schema<'a>,
    seen: HashSet<*const Value>,
}

impl<'a> Schema<'a> {
    /// Checks a schema.
    ///
    /// # Errors
    /// The first thing in it that is not as it should be.
    pub(super) fn new(root: &'a Value) -> Result<Self, String> {
        let mut walk = Walk {
            schema: Schema {
                root,
                patterns: HashMap::new(),
                references: HashMap::new(),
            },
            seen: HashSet::new(),
        };
        walk.subschema(root, "", 0)?;
        Ok(walk.schema)
    }
}

impl<'a> Walk<'a> {
    fn subschema(&mut self, schema: &'a Value, pointer: &str, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("{pointer} is nested more than {MAX_DEPTH} levels deep"));
        }
        if !self.seen.insert(schema) {
            return Ok(());
        }
        let keywords = match schema {
            Value::Bool(_) => return Ok(()),
            Value::Object(keywords) => keywords,
            _ => return Err(unlike(pointer, "an object or a boolean")),
        };
        for (keyword, value) in keywords {
            self.keyword(keyword, value, &step(pointer, keyword), depth)?;
        }
        Ok(())
    }

    fn keyword(&mut self, keyword: &str, value: &'a Value, pointer: &str, depth: usize) -> Result<(), String> {
        let holds_it = |is_so: bool, wanted: &str| if is_so { Ok(()) } else { Err(unlike(pointer, wanted)) };
        match holds(keyword) {
            Holds::Schema => self.subschema(value, pointer, depth + 1),
            Holds::Schemas => {
                let schemas = value.as_array().filter(|schemas| !schemas.is_empty());
                let schemas = schemas.ok_or_else(|| unlike(pointer, "a list with schemas"))?;
                let mut schemas = schemas.iter().enumerate();
                schemas.try_for_each(|(index, schema)| self.subschema(schema, &format!("{pointer}/{index}"), depth + 1))
            }
            Holds::NamedSchemas => self.named(value, pointer, depth).map(|_| ()),
            Holds::SchemasByPattern => {
                for pattern in self.named(value, pointer, depth)?.keys() {
                    self.pattern(pattern, pointer)?;
                }
                Ok(())
            }
            Holds::Type => {
                let names = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
                let is_type = |name: &Value| name.as_str().is_some_and(|name| TYPES.contains(&name));
                holds_it(
                    names.iter().all(is_type) && !names.is_empty(),
                    "the name of a type, or a list of them",
                )
            }
            Holds::Pattern => self.pattern(value.as_str().ok_or_else(|| unlike(pointer, "a text"))?, pointer),
            Holds::List => holds_it(value.is_array(), "a list"),
            Holds::Names => holds_it(is_names(value), "a list of texts"),
            Holds::NamesByName => {
                let members = value.as_object();
                let is_so = members.is_some_and(|members| members.values().all(is_names));
                holds_it(is_so, "an object with lists of texts")
            }
            Holds::Number => holds_it(value.is_number(), "a number"),
            Holds::PositiveNumber => holds_it(value.as_f64().is_some_and(|number| number > 0.0), "a number above 0"),
            Holds::Count => holds_it(count(value).is_some(), "a whole number from 0"),
            Holds::Boolean => holds_it(value.is_boolean(), "`true` or `false`"),
            Holds::Reference => self.reference(value, pointer, depth),
            Holds::Dialect => holds_it(
                value
                    .as_str()
                    .is_some_and(|dialect| dialect.trim_end_matches('#') == DIALECT),
                &format!("{DIALECT:?}, the dialect of the contract"),
            ),
            Holds::Id => holds_it(depth == 0 && value.is_string(), "a text, at the top of the schema only"),
            Holds::NotSupported => Err(format!(
                "{pointer} is not supported; `$ref`, `prefixItems` and `dependent…` are"
            )),
            Holds::Annotation => Ok(()),
        }
    }

    fn named(&mut self, value: &'a Value, pointer: &str, depth: usize) -> Result<&'a Map<String, Value>, String> {
        let schemas = value
            .as_object()
            .ok_or_else(|| unlike(pointer, "an object with schemas"))?;
        for (name, schema) in schemas {
            self.subschema(schema, &step(pointer, name), depth + 1)?;
        }
        Ok(schemas)
    }

    fn pattern(&mut self, pattern: &'a str, pointer: &str) -> Result<(), String> {
        if !self.schema.patterns.contains_key(pattern) {
            let regex = Regex::new(pattern).map_err(|error| format!("{pointer}: {error}"))?;
            self.schema.patterns.insert(pattern, regex);
        }
        Ok(())
    }

    fn reference(&mut self, value: &'a Value, pointer: &str, depth: usize) -> Result<(), String> {
        let reference = value.as_str().ok_or_else(|| unlike(pointer, "a text"))?;
        let own_id = self.schema.root.get("$id").and_then(Value::as_str).unwrap_or_default();
        let fragment = reference.strip_prefix(own_id).unwrap_or(reference);
        let Some(fragment) = fragment.strip_prefix('#').or((fragment.is_empty()).then_some("")) else {
            return Err(format!(
                "{pointer} leads out of the schema, and nothing is fetched; put its target under `$defs`"
            ));
        };
        let fragment = percent_decode_str(fragment).decode_utf8_lossy();
        let target = if fragment.is_empty() || fragment.starts_with('/') {
            self.schema.root.pointer(&fragment)
        } else {
            anchored(self.schema.root, &fragment)
        };
        let target = target.ok_or_else(|| format!("{pointer} leads nowhere"))?;
        self.schema.references.insert(reference, target);
        self.subschema(target, pointer, depth + 1)
    }
}

/// The subschema with this `$anchor`.
fn anchored<'a>(value: &'a Value, anchor: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) if members.get("$anchor").and_then(Value::as_str) == Some(anchor) => Some(value),
        Value::Object(members) => members.values().find_map(|member| anchored(member, anchor)),
        Value::Array(items) => items.iter().find_map(|item| anchored(item, anchor)),
        _ => None,
    }
}

/// A whole number from 0; `3.0` is one as well.
pub(super) fn count(value: &Value) -> Option<u64> {
    let whole = |number: f64| (number >= 0.0 && number.fract() == 0.0).then(|| format!("{number:.0}").parse().ok());
    value.as_u64().or_else(|| value.as_f64().and_then(whole).flatten())
}

fn is_names(value: &Value) -> bool {
    value.as_array().is_some_and(|names| names.iter().all(Value::is_string))
}

fn unlike(pointer: &str, wanted: &str) -> String {
    let pointer = if pointer.is_empty() { "it" } else { pointer };
    format!("{pointer} has to be {wanted}")
}
