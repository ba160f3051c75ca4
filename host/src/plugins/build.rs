//! Makes a chain of what a directory asks for, or says everything that is in the way.
//!
//! Called at the start, by the commands, and for each new generation. It puts nothing in force.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::blocking;
use super::builtins::{BUILTINS, DEFAULT_FILTER};
use super::chain::Chain;
use super::component::{self, Source};
use super::error::LoadError;
use super::host::{Host, is_native};
use super::load::{load, load_again, load_precompiled};
use super::manifest::{self, Entry, Manifest};
use super::plugin::Plugin;
use super::problem::{ChainError, ChainProblem};
use super::selftest;
use super::settings::Settings;
use crate::config::{Config, FilterLists};

/// Builds the chain that `directory` asks for; without one it is the built-in filter alone.
///
/// Plugins of the `previous` chain are taken over when neither their component nor anything in their entry is different:
/// they are not compiled, and their instances stay warm.
///
/// # Errors
/// Everything that is wrong with the directory and with each plugin. The previous chain is as it was.
pub async fn build_chain(
    host: &Arc<Host>,
    config: &Config,
    directory: Option<&Path>,
    generation: u64,
    previous: Option<&Chain>,
) -> Result<Chain, ChainError> {
    let manifest = match directory.map(Path::to_owned) {
        Some(directory) => blocking(move || manifest::read(&directory)).await,
        None => Manifest::default(),
    };
    let default_filter = || Entry::named(DEFAULT_FILTER, Source::Builtin(&BUILTINS[0]));
    let default_filter = manifest.default_filter.then(default_filter);
    let mut problems = manifest.problems;
    let mut plugins = Vec::with_capacity(manifest.entries.len() + 1);
    for mut entry in default_filter.into_iter().chain(manifest.entries) {
        if entry.source == Source::Builtin(&BUILTINS[0]) && entry.config_places.is_none() {
            entry.settings.config = filter_config(&config.filter);
        }
        match plugin(host, config, entry, previous, &plugins).await {
            Ok(plugin) => plugins.push(plugin),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() {
        Ok(Chain::new(generation, plugins).captured_by(Arc::clone(host.capture())))
    } else {
        Err(ChainError { problems })
    }
}

/// The plugin of one entry, or what is wrong with it. `earlier` stand before it.
async fn plugin(
    host: &Arc<Host>,
    config: &Config,
    entry: Entry,
    previous: Option<&Chain>,
    earlier: &[Arc<Plugin>],
) -> Result<Arc<Plugin>, Vec<ChainProblem>> {
    let problem = |reason: String| ChainProblem {
        plugin: Some(Arc::clone(&entry.settings.name)),
        file: entry.source.file().map(Path::to_owned),
        place: None,
        reason,
    };
    let (source, pin, trusted_keys) = (entry.source.clone(), entry.pin.clone(), config.trusted_keys.clone());
    let component = blocking(move || component::read(&source, pin.as_deref(), trusted_keys.as_ref())).await;
    let component = component.map_err(|error| vec![problem(error.to_string())])?;
    let unchanged = previous.and_then(|previous| {
        let mut plugins = previous.plugins.iter();
        plugins.find(|plugin| plugin.digest() == component.digest && *plugin.settings() == entry.settings)
    });
    let plugin = if let Some(plugin) = unchanged {
        Arc::clone(plugin)
    } else {
        let mut known = earlier
            .iter()
            .chain(previous.iter().flat_map(|previous| &previous.plugins));
        let loaded = match known.find(|plugin| plugin.digest() == component.digest) {
            // What may run as native code is for its own entry to say.
            Some(same) if !is_native(&component.bytes) => load_again(host, same, entry.settings.clone()).await,
            _ => loaded(host, config, &entry, &component.bytes).await,
        };
        Arc::new(loaded.map_err(|error| match error {
            LoadError::Config(problems) => problems.iter().map(|found| entry.config_problem(found)).collect(),
            other => vec![problem(other.to_string())],
        })?)
    };
    if entry.self_tests.is_empty() {
        return Ok(plugin);
    }
    let trial = plugin.for_self_tests().await;
    let trial = trial.map_err(|error| vec![problem(error.to_string())])?;
    let mut problems = Vec::new();
    for test in &entry.self_tests {
        if let Err(error) = selftest::run(&trial, test).await {
            problems.push(entry.problem_at(Some(test.place), error.to_string()));
        }
    }
    if problems.is_empty() { Ok(plugin) } else { Err(problems) }
}

/// The plugin of these bytes. Native code that does not run here, because the distributor was updated or moved to another
/// processor, is no reason to be without the plugin while the component is there: that is compiled instead.
async fn loaded(host: &Arc<Host>, config: &Config, entry: &Entry, bytes: &[u8]) -> Result<Plugin, LoadError> {
    if !(entry.allow_precompiled && is_native(bytes)) {
        return load(host, bytes, entry.settings.clone()).await;
    }
    let error = match load_precompiled(host, bytes, entry.settings.clone()).await {
        Err(error @ LoadError::OtherEngine(_)) => error,
        loaded => return loaded,
    };
    let Some(source) = entry.source.of_native() else {
        return Err(error);
    };
    tracing::warn!(
        plugin = %entry.settings.name, component = %source.file().unwrap_or(Path::new("")).display(), %error,
        "the component is compiled in place of native code"
    );
    let trusted_keys = config.trusted_keys.clone();
    let component = blocking(move || component::read(&source, None, trusted_keys.as_ref())).await;
    let component = component.map_err(|error| LoadError::Link(error.to_string()))?;
    load(host, &component.bytes, entry.settings.clone()).await
}

/// How the built-in filter is run: with the lists of the environment.
pub fn default_filter_settings(lists: &FilterLists) -> Settings {
    Settings {
        config: filter_config(lists),
        ..Settings::named(DEFAULT_FILTER)
    }
}

fn filter_config(lists: &FilterLists) -> Value {
    json!({"projects": lists.projects, "stages": lists.stages, "services": lists.services})
}
