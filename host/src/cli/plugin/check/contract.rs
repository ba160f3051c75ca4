//! The static parts: what a component imports and exports, what it says about itself, and its configuration.

use serde_json::{Map, Value};

use super::super::target::Target;
use super::{Report, place};
use crate::plugins::workbench::{Description, Workpiece, check_config};
use crate::plugins::{CONTRACT_VERSION, LoadError, Settings};

const SCHEMA: &str = "schema";
const CONFIGURATION: &str = "configuration";
/// A key that no schema names.
const UNKNOWN_KEY: &str = "distributor-check-unknown-key";

/// The component cannot be used, and why.
pub(super) fn cannot_be_loaded(error: &LoadError, report: &mut Report) {
    let (part, fix) = place(error);
    report.fail(part, error.to_string(), fix);
}

/// Looks at imports and exports, and asks the component who it is. None: it cannot be used.
pub(super) async fn check(piece: &Workpiece, settings: &Settings, report: &mut Report) -> Option<Description> {
    for import in piece.imports() {
        let text = format!("{}: {}", import.name, import.explanation);
        if import.is_offered {
            report.good("imports", text);
        } else {
            let (_, fix) = place(&LoadError::Imports(Vec::new()));
            report.fail("imports", import.explanation, fix);
        }
    }
    let exports = piece.exports();
    let described = piece.describe(settings).await;
    let description = match described {
        Ok(description) => description,
        // Each was said by itself.
        Err(LoadError::Imports(_)) => {
            let has_lifecycle = exports
                .iter()
                .any(|name| name.starts_with("keptn:distributor/lifecycle@"));
            if !has_lifecycle {
                let (_, fix) = place(&LoadError::Exports(String::new()));
                let exports = if exports.is_empty() {
                    "nothing".to_owned()
                } else {
                    exports.join(", ")
                };
                let text =
                    format!("does not export `keptn:distributor/lifecycle@{CONTRACT_VERSION}` (it exports {exports})");
                report.fail("contract", text, fix);
            }
            return None;
        }
        Err(error) => {
            cannot_be_loaded(&error, report);
            return None;
        }
    };
    let hooks = description.hooks.join(" and ");
    report.good(
        "contract",
        format!("it has the hook {hooks} of contract {CONTRACT_VERSION}"),
    );
    describes_itself(piece, settings, &description, report).await;
    Some(description)
}

async fn describes_itself(piece: &Workpiece, settings: &Settings, description: &Description, report: &mut Report) {
    const PART: &str = "describe";
    match piece.describe(settings).await {
        Ok(again) if again == *description => {}
        Ok(_) => {
            report.fail(
                PART,
                "two instances describe themselves differently",
                "return constants: `describe` must not depend on time, random numbers or the configuration",
            );
            return;
        }
        Err(error) => return cannot_be_loaded(&error, report),
    }
    let Description { name, version, .. } = description;
    let is_kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || !name.chars().all(is_kebab) {
        report.warn(
            PART,
            format!("its name is {name:?}"),
            "take a stable identifier in kebab-case, e.g. `only-checkout`",
        );
    }
    let core = version.split(['-', '+']).next().unwrap_or_default();
    if core.split('.').count() != 3 || !core.split('.').all(|part| part.parse::<u32>().is_ok()) {
        report.warn(
            PART,
            format!("its version is {version:?}"),
            "take a semantic version, e.g. `1.0.0`, so that people can tell builds apart",
        );
    }
    report.good(PART, format!("{name} {version}, the same each time"));
}

/// Checks the schema and finds a configuration to go on with. None: there is none that the plugin accepts.
pub(super) async fn configured(
    target: &Target,
    piece: &Workpiece,
    description: &Description,
    report: &mut Report,
) -> Option<Settings> {
    let schema = description.config_schema.as_str();
    let examples = schema_is_sound(schema, report)?;
    let with = |config: &Value| Settings {
        config: config.clone(),
        ..target.settings.clone()
    };
    for example in &examples {
        if let Err(error) = check_config(schema, example) {
            report.fail(
                SCHEMA,
                format!("it rejects its own example {example}: {}", reason(&error)),
                "correct the example in `examples`, or what the schema asks for",
            );
        } else if let Err(error) = piece.plugin(&with(example)).await {
            report.fail(
                SCHEMA,
                format!(
                    "`configure` does not accept the schema's example {example}: {}",
                    reason(&error)
                ),
                "let schema and `configure` agree: put into the schema what `configure` asks for",
            );
        }
    }
    if !examples.is_empty() && !report.has_failed(SCHEMA) {
        report.good(
            SCHEMA,
            format!(
                "it accepts its own examples, and so does `configure` ({})",
                examples.len()
            ),
        );
    }
    let own = target.settings.config.clone();
    let Err(error) = piece.plugin(&target.settings).await else {
        let which = if target.has_config {
            "the configuration given"
        } else {
            "an empty configuration"
        };
        report.good(CONFIGURATION, format!("it accepts {which}"));
        refuses_unknown_keys(schema, &own, report);
        return Some(target.settings.clone());
    };
    if !target.has_config && matches!(error, LoadError::Config(_)) {
        for example in &examples {
            if piece.plugin(&with(example)).await.is_ok() {
                report.good(
                    CONFIGURATION,
                    format!(
                        "it needs one ({}); the schema's example {example} is used",
                        reason(&error)
                    ),
                );
                refuses_unknown_keys(schema, example, report);
                return Some(with(example));
            }
        }
    }
    let (part, fix) = place(&error);
    report.fail(part, error.to_string(), fix);
    None
}

/// Its examples, or nothing if the schema is none.
fn schema_is_sound(schema: &str, report: &mut Report) -> Option<Vec<Value>> {
    if schema.trim().is_empty() {
        report.good(SCHEMA, "none: any configuration is passed on as it is");
        return Some(Vec::new());
    }
    if let Err(error @ LoadError::Schema(_)) = check_config(schema, &Value::Object(Map::new())) {
        cannot_be_loaded(&error, report);
        return None;
    }
    let root: Value = serde_json::from_str(schema).unwrap_or_default();
    let examples = root["examples"].as_array().cloned().unwrap_or_default();
    properties_are_sound(&root, report);
    if examples.is_empty() {
        report.warn(
            SCHEMA,
            "it has no example",
            "add `examples` with a configuration that works: people copy it, and this command tries it",
        );
    }
    Some(examples)
}

/// Whether the properties accept their own examples and defaults, where they say all about themselves.
fn properties_are_sound(root: &Value, report: &mut Report) {
    let Some(properties) = root["properties"].as_object() else {
        return;
    };
    for (name, property) in properties {
        let text = property.to_string();
        if text.contains("\"$ref\"") {
            continue;
        }
        let examples = property["examples"].as_array().into_iter().flatten();
        for value in examples.chain(property.get("default")) {
            if let Err(error @ LoadError::Config(_)) = check_config(&text, value) {
                report.fail(
                    SCHEMA,
                    format!(
                        "`{name}` rejects its own example or default {value}: {}",
                        reason(&error)
                    ),
                    "correct the example, or what the schema asks for",
                );
            }
        }
    }
}

fn refuses_unknown_keys(schema: &str, config: &Value, report: &mut Report) {
    let Value::Object(config) = config else { return };
    let mut config = config.clone();
    config.insert(UNKNOWN_KEY.to_owned(), true.into());
    if !schema.trim().is_empty() && check_config(schema, &Value::Object(config)).is_ok() {
        report.warn(
            SCHEMA,
            "it accepts keys that it does not name, so that a misspelt key has no effect",
            "add `\"additionalProperties\": false`",
        );
    }
}

/// The problems alone, without the advice that is for operators.
fn reason(error: &LoadError) -> String {
    match error {
        LoadError::Config(problems) => {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            problems.join("; ")
        }
        other => other.to_string(),
    }
}
