//! Each keyword, and schemas that are none.

use serde_json::{Value, json};

use super::check;
use crate::plugins::error::LoadError;

/// What is said of a configuration, each as `pointer: message`.
fn problems(schema: &Value, config: &Value) -> Vec<String> {
    match check(&schema.to_string(), config) {
        Ok(()) => Vec::new(),
        Err(LoadError::Config(problems)) => problems.iter().map(ToString::to_string).collect(),
        Err(other) => panic!("{schema}: {other}"),
    }
}

fn schema_fault(schema: &str) -> String {
    match check(schema, &json!({})) {
        Err(LoadError::Schema(reason)) => reason,
        other => panic!("{schema} is refused: {other:?}"),
    }
}

#[test]
fn every_violation_is_named_with_its_pointer_and_without_its_value() {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "required": ["services", "team"],
        "properties": {
            "services": {"type": "array", "items": {"type": "string"}},
            "a/b": {"properties": {"c~d": {"minimum": 5}}},
            "token": {"type": "string", "maxLength": 3}
        },
        "additionalProperties": false
    });
    let config = json!({"services": ["x", 5, null], "a/b": {"c~d": 4}, "token": "hunter2", "colour": 1});
    assert_eq!(
        problems(&schema, &config),
        [
            "needs `team`",
            "/services/1: has to be of the type string, and is of the type integer",
            "/services/2: has to be of the type string, and is of the type null",
            "/a~1b/c~0d: has to be at least 5",
            "/token: has 7 characters, and may have at most 3",
            "/colour: is unknown",
        ]
    );
}

/// Checks configurations that fit and others that do not.
fn check_keyword(schema: &Value, fits: &[Value], fits_not: &[Value]) {
    for config in fits {
        assert_eq!(problems(schema, config), [""; 0], "{schema} {config}");
    }
    for config in fits_not {
        assert_ne!(problems(schema, config), [""; 0], "{schema} {config}");
    }
}

#[test]
fn keywords_for_any_value_let_pass_what_fits_and_nothing_else() {
    let check = |schema: Value, fits: &[Value], fits_not: &[Value]| check_keyword(&schema, fits, fits_not);
    check(json!(true), &[json!(1)], &[]);
    check(json!(false), &[], &[json!(1)]);
    check(
        json!({"type": ["integer", "null"]}),
        &[json!(1), json!(1.0), json!(null)],
        &[json!(1.5), json!("1")],
    );
    check(json!({"type": "number"}), &[json!(1), json!(1.5)], &[json!(true)]);
    check(
        json!({"enum": [1, "a", [2]]}),
        &[json!(1.0), json!("a"), json!([2.0])],
        &[json!(2), json!([])],
    );
    check(
        json!({"const": {"a": 1}}),
        &[json!({"a": 1.0})],
        &[json!({"a": 1, "b": 2}), json!({})],
    );
    check(
        json!({"multipleOf": 0.1}),
        &[json!(0.3), json!(7), json!("x")],
        &[json!(0.35)],
    );
    check(json!({"multipleOf": 3}), &[json!(9), json!(0)], &[json!(10)]);
    check(json!({"maximum": 3}), &[json!(3), json!("x")], &[json!(3.5)]);
    check(json!({"exclusiveMaximum": 3}), &[json!(2)], &[json!(3)]);
    check(json!({"exclusiveMinimum": 3}), &[json!(4)], &[json!(3)]);
    check(
        json!({"minLength": 2, "maxLength": 3}),
        &[json!("üü"), json!(1)],
        &[json!("ü"), json!("abcd")],
    );
    check(
        json!({"pattern": "^a+$"}),
        &[json!("aa"), json!(1)],
        &[json!("ab"), json!("")],
    );
}

#[test]
fn keywords_for_lists_let_pass_what_fits_and_nothing_else() {
    let check = |schema: Value, fits: &[Value], fits_not: &[Value]| check_keyword(&schema, fits, fits_not);
    check(
        json!({"minItems": 1, "maxItems": 2.0}),
        &[json!([1])],
        &[json!([]), json!([1, 2, 3])],
    );
    check(json!({"uniqueItems": true}), &[json!([1, "1"])], &[json!([1, 2, 1.0])]);
    check(
        json!({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}),
        &[json!(["a", 1, 2]), json!([])],
        &[json!([1]), json!(["a", "b"])],
    );
    check(
        json!({"contains": {"type": "string"}}),
        &[json!([1, "a"])],
        &[json!([1]), json!([])],
    );
    check(
        json!({"contains": {"type": "string"}, "minContains": 0, "maxContains": 1}),
        &[json!([]), json!(["a", 1])],
        &[json!(["a", "b"])],
    );
    check(
        json!({"prefixItems": [true], "contains": {"type": "string"}, "unevaluatedItems": false}),
        &[json!([1, "a"])],
        &[json!([1, "a", 2])],
    );
}

#[test]
fn keywords_for_objects_let_pass_what_fits_and_nothing_else() {
    let check = |schema: Value, fits: &[Value], fits_not: &[Value]| check_keyword(&schema, fits, fits_not);
    check(
        json!({"minProperties": 1, "maxProperties": 1}),
        &[json!({"a": 1})],
        &[json!({}), json!({"a": 1, "b": 2})],
    );
    check(
        json!({"dependentRequired": {"a": ["b"]}}),
        &[json!({"c": 1}), json!({"a": 1, "b": 1})],
        &[json!({"a": 1})],
    );
    check(
        json!({"dependentSchemas": {"a": {"required": ["b"]}}}),
        &[json!({}), json!({"a": 1, "b": 1})],
        &[json!({"a": 1})],
    );
    check(
        json!({"patternProperties": {"^x-": {"type": "string"}}, "additionalProperties": {"type": "integer"}}),
        &[json!({"x-a": "b", "c": 1})],
        &[json!({"x-a": 1}), json!({"c": "d"})],
    );
    check(
        json!({"propertyNames": {"maxLength": 2}}),
        &[json!({"ab": 1})],
        &[json!({"abc": 1})],
    );
    check(
        json!({"allOf": [{"properties": {"a": true}}], "properties": {"b": true}, "unevaluatedProperties": false}),
        &[json!({"a": 1, "b": 2})],
        &[json!({"c": 3})],
    );
}

#[test]
fn keywords_that_combine_schemas_let_pass_what_fits_and_nothing_else() {
    let check = |schema: Value, fits: &[Value], fits_not: &[Value]| check_keyword(&schema, fits, fits_not);
    check(
        json!({"allOf": [{"minimum": 1}, {"maximum": 2}]}),
        &[json!(1)],
        &[json!(0), json!(3)],
    );
    check(
        json!({"anyOf": [{"type": "string"}, {"minimum": 5}]}),
        &[json!("a"), json!(5)],
        &[json!(4)],
    );
    check(
        json!({"oneOf": [{"minimum": 1}, {"minimum": 5}]}),
        &[json!(3)],
        &[json!(0), json!(6)],
    );
    check(json!({"not": {"type": "string"}}), &[json!(1)], &[json!("a")]);
    check(
        json!({"if": {"required": ["a"]}, "then": {"required": ["b"]}, "else": {"required": ["c"]}}),
        &[json!({"a": 1, "b": 1}), json!({"c": 1})],
        &[json!({"a": 1}), json!({})],
    );
    check(
        json!({"format": "date", "title": "anything", "x-mine": 7}),
        &[json!("no date")],
        &[],
    );
}

#[test]
fn references_within_the_schema_are_followed() {
    let tree = json!({
        "$id": "https://example.com/tree",
        "$ref": "#/$defs/node",
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "children": {"items": {"$ref": "https://example.com/tree#/$defs/node"}},
                    "size": {"$ref": "#size"},
                    "odd": {"$ref": "#/$defs/odd%20name"}
                }
            },
            "positive": {"$anchor": "size", "minimum": 1},
            "odd name": {"const": 1}
        }
    });
    assert_eq!(
        problems(&tree, &json!({"children": [{"children": [], "size": 1, "odd": 1}]})),
        [""; 0]
    );
    assert_eq!(
        problems(&tree, &json!({"children": [{"children": [{"size": 0}, {"odd": 2}]}]})),
        [
            "/children/0/children/0/size: has to be at least 1",
            "/children/0/children/1/odd: has to be 1"
        ]
    );
}

#[test]
fn alternatives_that_do_not_fit_say_why() {
    let schema = json!({"properties": {"limit": {"anyOf": [{"type": "integer"}, {"const": "none"}]}}});
    assert_eq!(
        problems(&schema, &json!({"limit": "some"})),
        [
            "/limit: fits none of the alternatives (/limit: has to be of the type integer, and is of the type string; or \
             /limit: has to be \"none\")"
        ]
    );
}

#[test]
fn a_schema_that_is_none_is_refused_with_the_place() {
    let check = |schema: &str, expected: &str| {
        let reason = schema_fault(schema);
        assert!(reason.contains(expected), "{schema}: {reason}");
    };
    check("{", "it is no JSON");
    check("5", "it has to be an object or a boolean");
    check(r#"{"type": "text"}"#, "/type has to be the name of a type");
    check(
        r#"{"properties": {"a/b": 5}}"#,
        "/properties/a~1b has to be an object or a boolean",
    );
    check(r#"{"items": [{}]}"#, "/items has to be an object or a boolean");
    check(r#"{"anyOf": []}"#, "/anyOf has to be a list with schemas");
    check(r#"{"required": "a"}"#, "/required has to be a list of texts");
    check(r#"{"minLength": -1}"#, "/minLength has to be a whole number from 0");
    check(r#"{"multipleOf": 0}"#, "/multipleOf has to be a number above 0");
    check(r#"{"pattern": "("}"#, "/pattern: ");
    check(r#"{"patternProperties": {"(": true}}"#, "/patternProperties: ");
    check(r##"{"$ref": "#/$defs/none"}"##, "/$ref leads nowhere");
    check(
        r##"{"$ref": "#/$defs/x", "$defs": {"x": 5}}"##,
        "has to be an object or a boolean",
    );
    check(r#"{"$ref": "https://example.com/other"}"#, "nothing is fetched");
    check(r#"{"$ref": "other.json"}"#, "nothing is fetched");
    check(r##"{"$dynamicRef": "#a"}"##, "/$dynamicRef is not supported");
    check(
        r#"{"$schema": "http://json-schema.org/draft-07/schema#"}"#,
        "the dialect of the contract",
    );
    let deep = format!("{}true{}", "{\"not\":".repeat(70), "}".repeat(70));
    check(&deep, "nested more than 64 levels deep");
}

#[test]
fn a_schema_without_end_is_refused() {
    assert!(schema_fault(r##"{"$ref": "#"}"##).contains("takes too long"));
    let mut definitions = serde_json::Map::new();
    for level in 0..30 {
        let next = json!({"$ref": format!("#/$defs/{}", level + 1)});
        definitions.insert(level.to_string(), json!({"allOf": [next, next]}));
    }
    definitions.insert("30".to_owned(), json!(true));
    let doubling = json!({"$ref": "#/$defs/0", "$defs": definitions}).to_string();
    assert!(schema_fault(&doubling).contains("takes too long"));
}

#[test]
fn only_so_many_violations_are_named() {
    let found = problems(&json!({"items": {"type": "string"}}), &json!(vec![1; 1000]));
    assert_eq!(found.len(), 51);
    assert_eq!(found[50], "and 950 more");
}

#[test]
fn without_a_schema_every_configuration_fits() {
    for schema in ["", " ", "true", "{}"] {
        assert!(check(schema, &json!({"any": "thing"})).is_ok(), "{schema:?}");
    }
}
