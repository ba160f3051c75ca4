//! Which component a command is about, and how it is run: from the command line, or from an entry of a chain file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::CommandError;
use crate::config::byte_size;
use crate::plugins::workbench::{self, ChainEntry, ComponentBytes};
use crate::plugins::{BUILTINS, Settings, Source};

const CHAIN_FILE: &str = "plugins.toml";

/// The component, and how it is run.
#[derive(Debug, Args)]
pub(super) struct TargetArguments {
    /// The component: a file (.wasm, .wasm.gz), or `builtin:NAME`. With --chain it may be left out.
    #[arg(value_name = "COMPONENT")]
    pub(super) component: Option<String>,
    #[command(flatten)]
    pub(super) settings: SettingsArguments,
}

/// How components are run.
#[derive(Debug, Default, Args)]
pub(super) struct SettingsArguments {
    /// Configuration of the plugin: JSON, or a file with JSON, TOML or YAML in it.
    #[arg(long, value_name = "JSON|FILE")]
    config: Option<String>,
    /// Run it as its entry in the plugins.toml of this directory says. Without it that is done where a plugins.toml with
    /// such an entry lies beside the component.
    #[arg(long, value_name = "DIR")]
    pub(super) chain: Option<PathBuf>,
    /// Name of the entry, where there are several.
    #[arg(long, value_name = "NAME", requires = "chain")]
    entry: Option<String>,
    /// What it may do beyond looking at events.
    #[arg(long, value_enum)]
    grant: Vec<Grant>,
    /// Time for a call, e.g. `500ms`. Without it 1s, as in the sidecar.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// Memory of an instance, e.g. `32MiB`. Without it 16MiB, as in the sidecar.
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Grant {
    /// Send events of its own.
    Publish,
    /// Keep state.
    State,
}

/// A component that is named, and how it is run.
#[derive(Debug)]
pub(super) struct Target {
    /// As it was named.
    pub(super) shown: String,
    pub(super) source: Source,
    pub(super) settings: Settings,
    /// Whether there is a configuration, if only an empty one.
    pub(super) has_config: bool,
    pin: Option<String>,
}

impl TargetArguments {
    /// What they name.
    pub(super) fn target(&self) -> Result<Target, CommandError> {
        self.settings.target(self.component.as_deref())
    }
}

impl SettingsArguments {
    /// The component of this name, run as these arguments say.
    pub(super) fn target(&self, component: Option<&str>) -> Result<Target, CommandError> {
        let mut target = match (&self.chain, component) {
            (Some(directory), component) => self.of_chain(directory, component)?,
            (None, Some(component)) => named(component)?,
            (None, None) => {
                return Err(CommandError::Usage(
                    "which component? Name its file, or `builtin:NAME`, or a directory with a plugins.toml (--chain)"
                        .to_owned(),
                ));
            }
        };
        if let Some(config) = &self.config {
            target.settings.config = read_config(config)?;
            target.has_config = true;
        }
        target.settings.grants.publish |= self.grant.contains(&Grant::Publish);
        target.settings.grants.state |= self.grant.contains(&Grant::State);
        if let Some(timeout) = self.timeout {
            target.settings.limits.call_time = timeout;
        }
        if let Some(memory) = self.memory {
            target.settings.limits.memory_bytes = memory;
        }
        Ok(target)
    }

    fn of_chain(&self, directory: &Path, component: Option<&str>) -> Result<Target, CommandError> {
        let entries = workbench::chain_entries(directory);
        let entries = entries.map_err(|error| CommandError::Failed(error.to_string()))?;
        let names = entries.iter().map(|entry| entry.settings.name.to_string());
        let names = names.collect::<Vec<_>>().join(", ");
        let mut matching: Vec<_> = entries
            .into_iter()
            .filter(|entry| match (&self.entry, component) {
                (Some(name), _) => *entry.settings.name == **name,
                (None, Some(component)) => is_of(entry, Path::new(component)),
                (None, None) => true,
            })
            .collect();
        let (Some(entry), true) = (matching.pop(), matching.is_empty()) else {
            return Err(CommandError::Usage(format!(
                "which entry of {}? Name one with --entry: {names}",
                directory.join(CHAIN_FILE).display()
            )));
        };
        let mut target = Target::of(entry);
        // A new build is tried out with the entry of the old one.
        if let Some(component) = component {
            target.source = source(component)?;
            target.pin = None;
            component.clone_into(&mut target.shown);
        }
        Ok(target)
    }
}

impl Target {
    fn of(entry: ChainEntry) -> Self {
        Self {
            shown: format!("plugin {:?}", &*entry.settings.name),
            source: entry.source,
            settings: entry.settings,
            has_config: true,
            pin: entry.pin,
        }
    }

    /// The bytes.
    pub(super) async fn component(&self) -> Result<ComponentBytes, CommandError> {
        let read = workbench::read(&self.source, self.pin.as_deref()).await;
        read.map_err(|reason| CommandError::Failed(format!("{} {reason}", self.shown)))
    }

    /// Where the files of the plugin are: the folder of the component.
    pub(super) fn folder(&self) -> PathBuf {
        let parent = self.source.file().and_then(Path::parent);
        let parent = parent.filter(|parent| !parent.as_os_str().is_empty());
        parent.map_or_else(|| PathBuf::from("."), Path::to_owned)
    }
}

/// A component that is named by itself. An entry for it in the chain file beside it says how it is run.
fn named(component: &str) -> Result<Target, CommandError> {
    let source = source(component)?;
    let own = Target {
        shown: component.to_owned(),
        settings: Settings::named(&plugin_name(component)),
        has_config: false,
        pin: None,
        source,
    };
    let folder = own.folder();
    if own.source.file().is_none() || !folder.join(CHAIN_FILE).is_file() {
        return Ok(own);
    }
    let entries = workbench::chain_entries(&folder).unwrap_or_else(|error| {
        eprintln!("warning: {CHAIN_FILE} beside {component} is not used: {error}");
        Vec::new()
    });
    let mut matching = entries.into_iter().filter(|entry| is_of(entry, Path::new(component)));
    let Some(entry) = matching.next() else {
        return Ok(own);
    };
    Ok(Target {
        shown: own.shown,
        source: own.source,
        ..Target::of(entry)
    })
}

/// Whether an entry is about a component of this name; in the entry it may be compressed.
fn is_of(entry: &ChainEntry, component: &Path) -> bool {
    let plain = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.strip_suffix(".gz").map(str::to_owned).unwrap_or(name)
    };
    entry.source.file().is_some_and(|file| plain(file) == plain(component))
}

fn source(component: &str) -> Result<Source, CommandError> {
    if let Some(name) = component.strip_prefix("builtin:") {
        let found = BUILTINS.iter().find(|builtin| builtin.name == name);
        let known: Vec<_> = BUILTINS.iter().map(|builtin| builtin.name).collect();
        return found.map(Source::Builtin).ok_or_else(|| {
            CommandError::Usage(format!(
                "nothing named {name:?} is built in; there is {}",
                known.join(", ")
            ))
        });
    }
    let path = Path::new(component);
    if path.is_file() {
        return Ok(Source::File(path.to_owned()));
    }
    let hint = if path.is_dir() {
        "; that is a directory: name the component in it, or use --chain"
    } else {
        "; build it first, or correct the path"
    };
    Err(CommandError::Usage(format!("there is no file {component}{hint}")))
}

/// A name for the chain, of the name of a file.
pub(super) fn plugin_name(component: &str) -> String {
    let file = Path::new(component).file_name().unwrap_or_default().to_string_lossy();
    let stem = file.strip_suffix(".gz").unwrap_or(&file);
    let stem = stem.strip_suffix(".wasm").unwrap_or(stem);
    let stem = stem.strip_prefix("builtin:").unwrap_or(stem);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = stem.chars().map(|c| if is_plain(c) { c } else { '-' }).collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.is_empty() {
        "plugin".to_owned()
    } else {
        name.to_owned()
    }
}

/// A configuration that stands on the command line, or in a file that is named there.
fn read_config(text: &str) -> Result<Value, CommandError> {
    let usage = |problem: String| CommandError::Usage(format!("--config: {problem}"));
    let trimmed = text.trim_start();
    if trimmed.starts_with('{') {
        return serde_json::from_str(trimmed).map_err(|error| usage(format!("it is no JSON: {error}")));
    }
    let content = std::fs::read_to_string(text);
    let content = content.map_err(|error| usage(format!("cannot read {text}: {error}; JSON begins with a brace")))?;
    let parsed = match Path::new(text).extension().and_then(|suffix| suffix.to_str()) {
        Some("toml") => toml::from_str(&content).map_err(|error| error.to_string()),
        Some("yaml" | "yml") => super::test::yaml(&content),
        _ => serde_json::from_str(&content).map_err(|error| error.to_string()),
    };
    parsed.map_err(|error| usage(format!("{text}: {error}")))
}

fn memory(text: &str) -> Result<usize, String> {
    byte_size(text).ok_or_else(|| "that is not a size, e.g. `512KiB` or `16MiB`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::plugin_name;

    #[test]
    fn a_plugin_is_named_after_its_file() {
        let check = |file: &str, expected: &str| assert_eq!(plugin_name(file), expected, "{file}");
        check("dir/my-filter.wasm", "my-filter");
        check("my_filter.wasm.gz", "my_filter");
        check("builtin:cel-filter", "cel-filter");
        check("_ödd name.wasm", "dd-name");
        check(".wasm", "plugin");
    }
}
