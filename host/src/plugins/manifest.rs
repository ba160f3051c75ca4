//! The plugins of a directory: `plugins.toml`, or every component in name order.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::builtins::{self, BUILTINS};
use super::context::Direction;
use super::limits::Limits;
use super::settings::{Grants, Isolation, Mode, OnFailure, Settings};

/// File that describes the chain.
pub(super) const FILE_NAME: &str = "plugins.toml";

/// One plugin of the chain.
#[derive(Debug)]
pub(super) struct Entry {
    /// The file.
    pub(super) component: PathBuf,
    pub(super) settings: Settings,
}

/// What a directory asks for.
#[derive(Debug)]
pub(super) struct Manifest {
    /// Whether the built-in filter stands first.
    pub(super) default_filter: bool,
    pub(super) entries: Vec<Entry>,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not readable.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Not as it should be; the text names line and column.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "yes")]
    default_filter: bool,
    #[serde(default, rename = "plugin")]
    plugins: Vec<FileEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEntry {
    name: String,
    component: PathBuf,
    #[serde(default = "incoming")]
    on: Vec<Direction>,
    #[serde(default)]
    events: Vec<String>,
    #[serde(default)]
    on_failure: OnFailure,
    #[serde(default)]
    mode: FileMode,
    percent: Option<u8>,
    #[serde(default)]
    grants: Vec<Grant>,
    #[serde(default)]
    isolation: Isolation,
    #[serde(default, deserialize_with = "duration")]
    timeout: Option<Duration>,
    #[serde(default, deserialize_with = "byte_size")]
    memory: Option<usize>,
    #[serde(default)]
    config: Option<toml::Table>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FileMode {
    #[default]
    Enforce,
    Shadow,
    Canary,
}

#[derive(PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Grant {
    Publish,
    State,
}

fn yes() -> bool {
    true
}

fn incoming() -> Vec<Direction> {
    vec![Direction::Incoming]
}

/// Reads what a directory asks for; components are not opened.
pub(super) fn read(directory: &Path) -> Result<Manifest, ManifestError> {
    let path = directory.join(FILE_NAME);
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(directory, &path, &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => every_component(directory),
        Err(error) => Err(ManifestError::Read { path, error }),
    }
}

fn parse(directory: &Path, path: &Path, text: &str) -> Result<Manifest, ManifestError> {
    let content = |problem: String| ManifestError::Content {
        path: path.to_owned(),
        problem,
    };
    let file: File = toml::from_str(text).map_err(|error| content(error.to_string().trim_end().to_owned()))?;
    let mut entries: Vec<Entry> = Vec::with_capacity(file.plugins.len());
    for entry in file.plugins {
        if entries.iter().any(|other| *other.settings.name == *entry.name) || entry.name == super::DEFAULT_FILTER {
            return Err(content(format!(
                "the name {:?} is given twice; each plugin needs its own",
                entry.name
            )));
        }
        let mode = match (entry.mode, entry.percent) {
            (FileMode::Enforce, None) => Mode::Enforce,
            (FileMode::Shadow, None) => Mode::Shadow,
            (FileMode::Canary, Some(percent @ 0..=100)) => Mode::Canary { percent },
            (FileMode::Canary, _) => {
                return Err(content(format!(
                    "plugin {:?}: a canary needs `percent`, 0 to 100",
                    entry.name
                )));
            }
            (_, Some(_)) => {
                return Err(content(format!(
                    "plugin {:?}: only a canary has a `percent`",
                    entry.name
                )));
            }
        };
        let component = component(directory, &entry.component).map_err(content)?;
        let defaults = Limits::default();
        let config = serde_json::to_value(entry.config.unwrap_or_default())
            .map_err(|error| content(format!("a configuration that JSON cannot express: {error}")))?;
        entries.push(Entry {
            component,
            settings: Settings {
                directions: entry.on,
                event_types: entry.events,
                on_failure: entry.on_failure,
                mode,
                grants: Grants {
                    publish: entry.grants.contains(&Grant::Publish),
                    state: entry.grants.contains(&Grant::State),
                },
                isolation: entry.isolation,
                limits: Limits {
                    call_time: entry.timeout.unwrap_or(defaults.call_time),
                    memory_bytes: entry.memory.unwrap_or(defaults.memory_bytes),
                    ..defaults
                },
                config,
                ..Settings::named(&entry.name)
            },
        });
    }
    Ok(Manifest {
        default_filter: file.default_filter,
        entries,
    })
}

/// A file, or the name of a component that is built in, which stays as it is written.
fn component(directory: &Path, component: &Path) -> Result<PathBuf, String> {
    let text = component.to_string_lossy();
    if !text.starts_with(builtins::PREFIX) {
        return Ok(directory.join(component));
    }
    if builtins::named(&text).is_none() {
        let known: Vec<_> = BUILTINS.iter().map(|builtin| builtin.name).collect();
        return Err(format!(
            "nothing named {text:?} is built in; there is {}",
            known.join(", ")
        ));
    }
    Ok(component.to_owned())
}

fn every_component(directory: &Path) -> Result<Manifest, ManifestError> {
    let failed = |error| ManifestError::Read {
        path: directory.to_owned(),
        error,
    };
    let mut entries = Vec::new();
    for file in std::fs::read_dir(directory).map_err(failed)? {
        let path = file.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            let settings = Settings::named(&path.file_stem().unwrap_or_default().to_string_lossy());
            entries.push(Entry {
                component: path,
                settings,
            });
        }
    }
    entries.sort_by(|a: &Entry, b| a.settings.name.cmp(&b.settings.name));
    Ok(Manifest {
        default_filter: true,
        entries,
    })
}

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match humantime::parse_duration(&text) {
        Ok(duration) if !duration.is_zero() => Ok(Some(duration)),
        _ => Err(serde::de::Error::custom(format!(
            "{text:?} is not a duration, e.g. \"500ms\" or \"1s\""
        ))),
    }
}

fn byte_size<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match crate::config::byte_size(&text) {
        Some(bytes) => Ok(Some(bytes)),
        None => Err(serde::de::Error::custom(format!(
            "{text:?} is not a size, e.g. \"512KiB\" or \"16MiB\""
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem_in(text: &str) -> String {
        parse(Path::new("dir"), Path::new("dir/plugins.toml"), text)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn reads_every_key_of_an_entry() {
        let text = r#"
            default_filter = false
            [[plugin]]
            name = "a"
            component = "a.wasm"
            on = ["incoming", "outgoing"]
            timeout = "50ms"
            memory = "2MiB"
            [plugin.config]
            services = ["checkout"]
        "#;
        let manifest = parse(Path::new("dir"), Path::new("dir/plugins.toml"), text).unwrap();
        assert!(!manifest.default_filter);
        let [entry] = manifest.entries.as_slice() else {
            panic!("one entry is expected")
        };
        assert_eq!(entry.component, Path::new("dir/a.wasm"));
        assert_eq!(entry.settings.directions, [Direction::Incoming, Direction::Outgoing]);
        assert_eq!(entry.settings.limits.call_time, Duration::from_millis(50));
        assert_eq!(entry.settings.limits.memory_bytes, 2 << 20);
        assert_eq!(entry.settings.config, serde_json::json!({"services": ["checkout"]}));
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let text = "[[plugin]]\nname = \"a\"\ncomponent = \"a.wasm\"\ntimeout = \"soon\"\n";
        let problem = problem_in(text);
        assert!(
            problem.contains("line 4, column 11") && problem.contains("not a duration"),
            "{problem}"
        );
        let problem = problem_in("[[plugin]]\nname = \"a\"\ncomponnent = \"a.wasm\"\n");
        assert!(
            problem.contains("unknown field `componnent`") && problem.contains("line 3"),
            "{problem}"
        );
        let twice = "[[plugin]]\nname = \"a\"\ncomponent = \"a.wasm\"\n".repeat(2);
        assert!(problem_in(&twice).contains("\"a\" is given twice"));
    }
}
