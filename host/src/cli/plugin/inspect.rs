//! `distributor plugin inspect`.

use std::fmt::Write;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::compile::{self, Cost};
use super::pack::{self, Fit};
use super::shown::{Paint, size, time};
use super::target::{Target, TargetArguments};
use super::{CommandError, Desk, print, print_json};
use crate::plugins::workbench::{ComponentBytes, Description, Import, Workpiece};
use crate::plugins::{LoadError, Settings};

/// Options of `inspect`.
#[derive(Debug, Args)]
pub struct InspectArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What there is to know of a component.
struct Inspected<'a> {
    target: &'a Target,
    component: &'a ComponentBytes,
    /// Compressed, in bytes.
    packed: usize,
    imports: Vec<Import>,
    exports: Vec<String>,
    least_memory: usize,
    described: Result<Description, LoadError>,
    cost: Result<Cost, String>,
}

pub(super) async fn run(arguments: &InspectArguments, desk: &Desk) -> Result<bool, CommandError> {
    let target = arguments.target.target()?;
    let component = target.component().await?;
    let workbench = desk.workbench()?;
    let failed = |error: LoadError| CommandError::Failed(format!("{} {error}", target.shown));
    let piece: Workpiece = desk.take(&workbench, &component).await.map_err(failed)?;
    desk.progress.show("compiling, to see what that takes");
    let cost = compile::measured(&target).await;
    desk.progress.clear();
    let inspected = Inspected {
        packed: pack::compressed(&component.bytes).len(),
        imports: piece.imports(),
        exports: piece.exports(),
        least_memory: piece.least_memory(),
        described: piece.describe(&target.settings).await,
        cost,
        target: &target,
        component: &component,
    };
    if arguments.json {
        print_json(&inspected.to_json())?;
    } else {
        print(&inspected.shown(desk.paint))?;
    }
    Ok(inspected.described.is_ok())
}

impl Inspected<'_> {
    fn fit(&self) -> Fit {
        Fit::of([self.packed])
    }

    fn shown(&self, paint: Paint) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            writeln!(text, "{name:<18}{value}").expect("writing to a String cannot fail");
        };
        line("component", &self.target.shown);
        line("sha256", &self.component.digest);
        let sizes = format!("{}, compressed {}", size(self.component.bytes.len()), size(self.packed));
        line("size", &sizes);
        match &self.described {
            Ok(description) => {
                line("name", &format!("{} {}", description.name, description.version));
                line("description", description.description.lines().next().unwrap_or("-"));
                line("hooks", &description.hooks.join(", "));
                let types = description.event_types.join(", ");
                line("event types", if types.is_empty() { "all" } else { &types });
                line("reads", &reads(description));
                let schema = description.config_schema.trim();
                line(
                    "configuration",
                    &if schema.is_empty() {
                        "none".to_owned()
                    } else {
                        schema_in_words(schema)
                    },
                );
            }
            Err(error) => line("unusable", &paint.bad(&error.to_string())),
        }
        let Settings { limits, grants, .. } = &self.target.settings;
        let limits = format!(
            "{} a call, {} of memory (it declares {}), {} handed over, {} events returned",
            time(limits.call_time),
            size(limits.memory_bytes),
            size(self.least_memory),
            size(limits.output_bytes),
            limits.output_events
        );
        line("limits", &limits);
        let granted = [(grants.publish, "publish"), (grants.state, "state")];
        let granted: Vec<_> = granted.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
        line(
            "grants",
            &if granted.is_empty() {
                "none".to_owned()
            } else {
                granted.join(", ")
            },
        );
        let cost = match &self.cost {
            Ok(cost) => format!(
                "{}, {} of memory, {} of native code",
                time(Duration::from_secs_f64(cost.seconds)),
                size(usize::try_from(cost.memory_bytes).unwrap_or(usize::MAX)),
                size(cost.native_bytes)
            ),
            Err(error) => error.clone(),
        };
        line("compiling", &cost);
        line("ConfigMap", &self.fit().in_words());
        text.push_str("imports\n");
        for import in &self.imports {
            let explanation = if import.is_offered {
                paint.faint(&import.explanation)
            } else {
                paint.bad(&import.explanation)
            };
            writeln!(text, "  {:<42} {explanation}", import.name).expect("writing to a String cannot fail");
        }
        text.push_str("exports\n");
        for export in &self.exports {
            writeln!(text, "  {export}").expect("writing to a String cannot fail");
        }
        text
    }

    fn to_json(&self) -> Value {
        let imports = self.imports.iter().map(|import| {
            json!({
                "name": import.name,
                "functions": import.functions,
                "offered": import.is_offered,
                "explanation": import.explanation,
            })
        });
        let described = match &self.described {
            Ok(description) => json!({
                "name": description.name,
                "version": description.version,
                "description": description.description,
                "hooks": description.hooks,
                "event_types": description.event_types,
                "reads": {"optional_attributes": description.reads_attributes, "data": description.reads_data},
                "config_schema": serde_json::from_str::<Value>(&description.config_schema).ok(),
            }),
            Err(error) => json!({"error": error.to_string()}),
        };
        let limits = &self.target.settings.limits;
        json!({
            "component": self.target.shown,
            "digest": self.component.digest,
            "bytes": self.component.bytes.len(),
            "compressed_bytes": self.packed,
            "descriptor": described,
            "imports": imports.collect::<Vec<_>>(),
            "exports": self.exports,
            "least_memory_bytes": self.least_memory,
            "limits": {
                "call_time_ms": limits.call_time.as_millis(),
                "memory_bytes": limits.memory_bytes,
                "output_bytes": limits.output_bytes,
                "output_events": limits.output_events,
                "host_calls": limits.host_calls,
            },
            "compiling": self.cost.as_ref().map_or_else(|error| json!({"error": error}), |cost| json!(cost)),
            "config_map": self.fit().to_json(),
        })
    }
}

fn reads(description: &Description) -> String {
    match (description.reads_attributes, description.reads_data) {
        (false, false) => "required attributes and the context",
        (true, false) => "all attributes and the context, not the data",
        (false, true) => "required attributes, the context and the data",
        (true, true) => "everything",
    }
    .to_owned()
}

/// The keys that a configuration may have.
fn schema_in_words(schema: &str) -> String {
    let root: Value = serde_json::from_str(schema).unwrap_or_default();
    let Some(properties) = root["properties"].as_object() else {
        return "as its JSON Schema says (--json shows it)".to_owned();
    };
    let required: Vec<_> = root["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let keys = properties.keys().map(|key| {
        if required.contains(&key.as_str()) {
            format!("{key} (required)")
        } else {
            key.clone()
        }
    });
    keys.collect::<Vec<_>>().join(", ")
}
