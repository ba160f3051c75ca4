//! `config`: the plugin's configuration, key by key.

use serde_json::Value;

use super::State;
use crate::plugins::bindings::keptn::distributor::config;

impl config::Host for State {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<String>> {
        self.count_call()?;
        Ok(find(&self.shared.settings.config, &key).and_then(scalar_text))
    }

    fn get_list(&mut self, key: String) -> wasmtime::Result<Vec<String>> {
        self.count_call()?;
        Ok(find(&self.shared.settings.config, &key).map_or_else(Vec::new, list))
    }
}

/// The value of a key; `a.b` reaches into objects. A key with a dot in it is found where nothing else is.
fn find<'a>(config: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.')
        .try_fold(config, |value, part| value.get(part))
        .or_else(|| config.get(key))
}

/// Scalars as text, objects and lists as JSON, nothing for `null`.
fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn list(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().filter_map(scalar_text).collect(),
        Value::String(text) if !text.is_empty() => text.split(',').map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config() -> Value {
        json!({
            "text": "x", "number": 1.5, "flag": false, "nothing": null,
            "a": {"b": {"c": "deep"}, "list": [1, "two", null, {"x": 1}]},
            "a.b": "shadowed", "with.dot": "found",
            "commas": "p1,p2,, p3", "empty": "",
        })
    }

    #[test]
    fn a_key_is_looked_up_as_a_path_and_given_as_text() {
        let check = |key: &str, expected: Option<&str>| {
            let found = find(&config(), key).and_then(scalar_text);
            assert_eq!(found.as_deref(), expected, "{key:?}");
        };
        check("text", Some("x"));
        check("number", Some("1.5"));
        check("flag", Some("false"));
        check("nothing", None);
        check("absent", None);
        check("a.b.c", Some("deep"));
        check("a.b", Some(r#"{"c":"deep"}"#));
        check("a.b.c.d", None);
        check("text.x", None);
        check("with.dot", Some("found"));
        check("", None);
        check(".", None);
    }

    #[test]
    fn a_list_is_a_json_list_or_a_text_with_commas() {
        let check = |key: &str, expected: &[&str]| {
            assert_eq!(find(&config(), key).map_or_else(Vec::new, list), expected, "{key:?}");
        };
        check("a.list", &["1", "two", r#"{"x":1}"#]);
        check("commas", &["p1", "p2", "", " p3"]);
        check("empty", &[]);
        check("number", &[]);
        check("nothing", &[]);
        check("absent", &[]);
    }
}
