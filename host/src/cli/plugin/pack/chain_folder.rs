//! The files of a chain folder: of one that is there, or of one that is made for a single component.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::super::target::{Target, TargetArguments};
use super::super::{CommandError, Desk};
use super::compressed;
use crate::config;
use crate::plugins::workbench::chain_entries;
use crate::plugins::{Direction, Host, OnFailure, Settings, Source, build_chain};

const CHAIN_FILE: &str = "plugins.toml";

/// A file of the folder.
#[derive(Debug)]
pub(super) struct PackedFile {
    pub(super) name: String,
    pub(super) content: Vec<u8>,
}

/// The files of what the arguments name, after it was loaded as the sidecar does it.
pub(super) async fn files(arguments: &TargetArguments, desk: &Desk) -> Result<Vec<PackedFile>, CommandError> {
    match (&arguments.component, &arguments.settings.chain) {
        (None, Some(folder)) => of_folder(folder, desk).await,
        _ => of_component(&arguments.target()?, desk).await,
    }
}

/// A whole folder, as it is.
async fn of_folder(folder: &Path, desk: &Desk) -> Result<Vec<PackedFile>, CommandError> {
    let failed = |problem: String| CommandError::Failed(problem);
    // Nothing of the environment: what is packed is to be good everywhere.
    let config = config::from_env(&|_| None).map_err(|error| failed(error.to_string()))?;
    let host = Host::new(desk.compiler.clone());
    let host = Arc::new(host.map_err(|error| failed(format!("cannot set up WebAssembly: {error:#}")))?);
    let chain = build_chain(&host, &config, Some(folder), 1, None).await;
    chain.map_err(|error| failed(error.to_string()))?;
    let entries = chain_entries(folder).map_err(|error| failed(error.to_string()))?;
    for file in entries.iter().flat_map(|entry| &entry.files) {
        let is_below = file
            .strip_prefix(folder)
            .is_ok_and(|path| path.components().count() > 1);
        if is_below {
            return Err(failed(format!(
                "{} is in a folder of its own, and a ConfigMap has no folders: put it beside {CHAIN_FILE}, and correct its name there",
                file.display()
            )));
        }
    }
    let unreadable = |error: std::io::Error| failed(format!("cannot read {}: {error}", folder.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.starts_with('.') || !entry.path().is_file() {
            continue;
        }
        if !name.chars().all(is_key) {
            return Err(failed(format!(
                "{name:?} cannot be a key of a ConfigMap: rename it with letters, digits, `-`, `_` and `.`"
            )));
        }
        let content = std::fs::read(entry.path()).map_err(unreadable)?;
        files.push(PackedFile { name, content });
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

/// One component, compressed, with a chain file for it.
async fn of_component(target: &Target, desk: &Desk) -> Result<Vec<PackedFile>, CommandError> {
    let component = match &target.source {
        Source::Builtin(builtin) => format!("builtin:{}", builtin.name),
        Source::File(_) => format!("{}.wasm.gz", target.settings.name),
    };
    let workbench = desk.workbench()?;
    let piece = desk.piece(&workbench, target).await?;
    let plugin = piece.plugin(&target.settings).await;
    plugin.map_err(|error| CommandError::Failed(format!("{} {error}", target.shown)))?;
    let mut files = vec![PackedFile {
        name: CHAIN_FILE.to_owned(),
        content: chain_file(&target.settings, &component)?.into_bytes(),
    }];
    if target.source.file().is_some() {
        files.push(PackedFile {
            name: component,
            content: compressed(&target.component().await?.bytes),
        });
    }
    Ok(files)
}

/// A chain file with one entry.
fn chain_file(settings: &Settings, component: &str) -> Result<String, CommandError> {
    use std::fmt::Write;

    let defaults = Settings::named(&settings.name);
    let quoted = |text: &str| toml(&text.into()).unwrap_or_default();
    let mut text = format!(
        "# Made by `distributor plugin pack`. The built-in filter stands before this plugin.\n\
         [[plugin]]\nname = {}\ncomponent = {}\n",
        quoted(&settings.name),
        quoted(component)
    );
    let mut line =
        |key: &str, value: String| writeln!(text, "{key} = {value}").expect("writing to a String cannot fail");
    if settings.directions != defaults.directions {
        let directions = settings.directions.iter().map(|direction| match direction {
            Direction::Incoming => "\"incoming\"",
            Direction::Outgoing => "\"outgoing\"",
        });
        line("on", format!("[{}]", directions.collect::<Vec<_>>().join(", ")));
    }
    if !settings.event_types.is_empty() {
        let types: Vec<_> = settings.event_types.iter().map(|glob| quoted(glob)).collect();
        line("events", format!("[{}]", types.join(", ")));
    }
    match settings.on_failure {
        OnFailure::RetryThenDeadLetter => {}
        OnFailure::DeadLetter => line("on_failure", quoted("dead-letter")),
        OnFailure::Pass => line("on_failure", quoted("pass")),
        OnFailure::Drop => line("on_failure", quoted("drop")),
    }
    if settings.limits.call_time != defaults.limits.call_time {
        line(
            "timeout",
            quoted(&humantime::format_duration(settings.limits.call_time).to_string()),
        );
    }
    if settings.limits.memory_bytes != defaults.limits.memory_bytes {
        line("memory", quoted(&settings.limits.memory_bytes.to_string()));
    }
    let grants = [
        (settings.grants.publish, "\"publish\""),
        (settings.grants.state, "\"state\""),
    ];
    let grants: Vec<_> = grants.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
    if !grants.is_empty() {
        line("grants", format!("[{}]", grants.join(", ")));
    }
    if settings.isolation != defaults.isolation {
        line("isolation", quoted("per-event"));
    }
    if let Value::Object(config) = &settings.config
        && !config.is_empty()
    {
        text.push_str("\n[plugin.config]\n");
        for (key, value) in config {
            let value = toml(value).ok_or_else(|| {
                CommandError::Failed(format!(
                    "`{key}` of the configuration has null in it, which TOML does not have: leave it out"
                ))
            })?;
            let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            let key = if !key.is_empty() && key.chars().all(is_bare) {
                key.clone()
            } else {
                quoted(key)
            };
            writeln!(text, "{key} = {value}").expect("writing to a String cannot fail");
        }
    }
    Ok(text)
}

/// A value as TOML, on one line. None: it has null in it.
fn toml(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        // The escapes of JSON are some of TOML's, which wants one more.
        Value::String(_) => value.to_string().replace('\u{7f}', "\\u007F"),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(toml).collect();
            format!("[{}]", items?.join(", "))
        }
        Value::Object(members) => {
            let members = members
                .iter()
                .map(|(key, value)| Some(format!("{} = {}", toml(&key.as_str().into())?, toml(value)?)));
            let members: Option<Vec<_>> = members.collect();
            format!("{{ {} }}", members?.join(", "))
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn any_configuration_survives_the_chain_file() {
        let config = json!({
            "a": ["x", 1, 2.5, true, {"b c": "d\"\\\n\u{7f}\u{1}ü"}],
            "e.f": {}, "g": {"h": [[]]}
        });
        let settings = Settings {
            config: config.clone(),
            ..Settings::named("a-plugin")
        };
        let text = chain_file(&settings, "a-plugin.wasm.gz").unwrap();
        let parsed: Value = toml::from_str(&text).unwrap();
        assert_eq!(parsed["plugin"][0]["config"], config, "{text}");
        assert_eq!(parsed["plugin"][0]["component"], "a-plugin.wasm.gz");
        let settings = Settings {
            config: json!({"a": [null]}),
            ..settings
        };
        assert!(chain_file(&settings, "x").is_err());
    }
}
