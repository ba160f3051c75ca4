//! One component by itself, loaded and called exactly as the sidecar does it: for the tools of its author.
//!
//! Used by [`crate::cli`]. It must not load or call plugins in a way of its own, or what the tools say would mean
//! nothing; what it adds is that each step can be made, and looked at, by itself.

mod observation;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;

pub use self::observation::Observation;
use super::bindings::exports::keptn::distributor::lifecycle::{Descriptor, EventParts};
use super::compile::{self, CompileError, Compiler};
use super::component::{self, Source};
use super::error::LoadError;
use super::host::Host;
use super::imports::kept::Kept;
use super::instance::Template;
use super::load::{hex, template};
use super::manifest;
pub use super::offer::Import;
use super::plugin::Plugin;
use super::problem::ChainError;
use super::settings::Settings;
use super::{blocking, limits, offer, schema};

/// Where components are looked at.
#[derive(Debug)]
pub struct Workbench {
    host: Arc<Host>,
}

/// The bytes of a component.
#[derive(Debug)]
pub struct ComponentBytes {
    /// Inflated, if they were compressed.
    pub bytes: Vec<u8>,
    /// SHA-256 of them, in hexadecimal.
    pub digest: String,
}

/// A compiled component. Nothing of it has run.
pub struct Workpiece {
    host: Arc<Host>,
    component: Component,
    digest: String,
}

/// What a component says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Its name for itself.
    pub name: String,
    /// Its version.
    pub version: String,
    /// In words.
    pub description: String,
    /// JSON Schema of its configuration, or nothing.
    pub config_schema: String,
    /// Types of events that it wants; empty: all.
    pub event_types: Vec<String>,
    /// Whether it looks at the optional attributes.
    pub reads_attributes: bool,
    /// Whether it looks at the data.
    pub reads_data: bool,
    /// Its hooks.
    pub hooks: Vec<&'static str>,
}

/// What an entry of a chain file asks for.
#[derive(Debug)]
pub struct ChainEntry {
    /// Where the component is.
    pub source: Source,
    /// SHA-256 that its file has to have.
    pub pin: Option<String>,
    /// How it is run.
    pub settings: Settings,
    /// The files that it names.
    pub files: Vec<PathBuf>,
}

impl std::fmt::Debug for Workpiece {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Workpiece")
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl Workbench {
    /// Sets the engine up.
    ///
    /// # Errors
    /// When the machine cannot run WebAssembly.
    pub fn new(compiler: Compiler) -> wasmtime::Result<Self> {
        Ok(Self {
            host: Arc::new(Host::new(compiler)?),
        })
    }

    /// Compiles a component, or takes it from the cache.
    ///
    /// # Errors
    /// Why it cannot be compiled.
    pub async fn take(&self, component: &ComponentBytes) -> Result<Workpiece, LoadError> {
        Ok(Workpiece {
            component: self.host.component(&component.bytes).await?,
            host: Arc::clone(&self.host),
            digest: component.digest.clone(),
        })
    }
}

impl Workpiece {
    /// SHA-256 of the component, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Everything that it imports, and what that means here.
    pub fn imports(&self) -> Vec<Import> {
        offer::imports(&self.component, &self.host.engine)
    }

    /// The names of what it exports.
    pub fn exports(&self) -> Vec<String> {
        let component_type = self.component.component_type();
        let exports = component_type.exports(&self.host.engine);
        exports.map(|(name, _)| name.to_owned()).collect()
    }

    /// The memory that it cannot start without, in bytes.
    pub fn least_memory(&self) -> usize {
        limits::least_memory(&self.component)
    }

    /// Asks a new instance who it is.
    ///
    /// # Errors
    /// Why it is not usable.
    pub async fn describe(&self, settings: &Settings) -> Result<Description, LoadError> {
        let template = self.template(settings)?;
        let descriptor = template.instantiate().await?.describe().await?;
        let hooks = [
            template.hooks.filter.as_ref().map(|_| "filter"),
            template.hooks.transform.as_ref().map(|_| "transform"),
        ];
        Ok(Description::new(descriptor, hooks.into_iter().flatten().collect()))
    }

    /// Makes a plugin of it that shares nothing with any other, neither instances nor state.
    ///
    /// # Errors
    /// Why it is not usable.
    pub async fn plugin(&self, settings: &Settings) -> Result<Plugin, LoadError> {
        Plugin::start(self.template(settings)?, self.digest.clone()).await
    }

    fn template(&self, settings: &Settings) -> Result<Template, LoadError> {
        let kept = Arc::new(Kept::new(&settings.name));
        template(&self.host, &self.component, settings.clone(), &self.digest, kept)
    }
}

impl Description {
    fn new(descriptor: Descriptor, hooks: Vec<&'static str>) -> Self {
        Self {
            reads_attributes: descriptor.reads.contains(EventParts::OPTIONAL_ATTRIBUTES),
            reads_data: descriptor.reads.contains(EventParts::DATA),
            name: descriptor.name,
            version: descriptor.version,
            description: descriptor.description,
            config_schema: descriptor.config_schema,
            event_types: descriptor.event_types,
            hooks,
        }
    }
}

/// Reads a component as the sidecar does; signatures are not looked at.
///
/// # Errors
/// Why there is none, in words that follow on its name.
pub async fn read(source: &Source, pin: Option<&str>) -> Result<ComponentBytes, String> {
    let (source, pin) = (source.clone(), pin.map(str::to_owned));
    let read = blocking(move || component::read(&source, pin.as_deref(), None)).await;
    let component = read.map_err(|error| error.to_string())?;
    Ok(ComponentBytes {
        bytes: component.bytes.into_owned(),
        digest: component.digest,
    })
}

/// What a directory asks for, but for the built-in filter that stands before it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn chain_entries(directory: &Path) -> Result<Vec<ChainEntry>, ChainError> {
    let manifest = manifest::read(directory);
    if !manifest.problems.is_empty() {
        return Err(ChainError {
            problems: manifest.problems,
        });
    }
    let entries = manifest.entries.into_iter().map(|entry| ChainEntry {
        files: entry.files(),
        source: entry.source,
        pin: entry.pin,
        settings: entry.settings,
    });
    Ok(entries.collect())
}

/// Compiles a component in this process, for the engine of the sidecar.
///
/// # Errors
/// Why it cannot be compiled.
pub fn native_code(component: &[u8]) -> Result<Vec<u8>, CompileError> {
    compile::here(component, false)
}

/// SHA-256, in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Checks a configuration against a JSON Schema, as it is done before `configure`.
///
/// # Errors
/// The schema is none, or everything that does not fit it.
pub fn check_config(schema: &str, config: &Value) -> Result<(), LoadError> {
    schema::check(schema, config)
}
