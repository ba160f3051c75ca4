//! Component bytes → a checked plugin that is ready to run, or a reason that says what to do.

use std::fmt::Write;
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker, types::ComponentItem};

use super::bindings::exports::keptn::distributor::{filter, lifecycle, transform};
use super::compile::{CompileError, Compiler, engine_config};
use super::imports::{Shared, State, add_to_linker};
use super::instance::{Direction, Plugin};
use super::limits::{Limits, Ticker};

/// Version of the contract, as it stands behind the `@` of its interfaces.
pub const CONTRACT_VERSION: &str = "1.0.0";
const CONTRACT_PACKAGE: &str = "keptn:distributor/";

/// What turns components into plugins: one engine, one linker, one ticker for the whole process.
pub struct Host {
    pub(super) engine: Engine,
    linker: Linker<State>,
    pub(super) ticker: Ticker,
    compiler: Compiler,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Host")
            .field("compiler", &self.compiler)
            .finish_non_exhaustive()
    }
}

/// How one plugin is to be run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Unique in its chain.
    pub name: Arc<str>,
    /// Which events it sees.
    pub directions: Vec<Direction>,
    /// What it may use.
    pub limits: Limits,
    /// Handed to `configure` as JSON.
    pub config: Value,
}

/// Why a component is not usable.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not compiled.
    #[error("cannot be compiled: {0}")]
    Compile(#[from] CompileError),
    /// Imports that nobody provides.
    #[error("wants what this host does not have: {}", .0.join("; "))]
    Imports(Vec<String>),
    /// It does not export what a plugin has to.
    #[error("{0}")]
    Exports(String),
    /// The engine refused it.
    #[error("cannot be linked: {0}")]
    Link(String),
    /// A call at load time failed.
    #[error("{0}")]
    Call(String),
    /// `configure` found faults.
    #[error("does not accept its configuration: {}", .0.join("; "))]
    Config(Vec<String>),
}

impl Host {
    /// Sets the engine up.
    ///
    /// # Errors
    /// When the machine cannot run WebAssembly, e.g. for lack of threads.
    pub fn new(compiler: Compiler) -> wasmtime::Result<Self> {
        let engine = Engine::new(&engine_config())?;
        let mut linker = Linker::new(&engine);
        add_to_linker(&mut linker)?;
        Ok(Self {
            ticker: Ticker::start(engine.clone())?,
            engine,
            linker,
            compiler,
        })
    }

    /// Makes a plugin of a component: compile, link, describe, and configure a first instance.
    ///
    /// # Errors
    /// Why it is not usable, in words for the person who built it.
    pub async fn load(self: &Arc<Self>, component: &[u8], settings: Settings) -> Result<Plugin, LoadError> {
        let native = self.compiler.compile(component).await?;
        let digest = hex(&Sha256::digest(component));
        let component = self
            .deserialize(&native)
            .map_err(|error| LoadError::Link(format!("{error:#}")))?;
        drop(native);
        self.check_imports(&component)?;
        let pre = self
            .linker
            .instantiate_pre(&component)
            .map_err(|error| LoadError::Link(format!("{error:#}")))?;
        let hooks = Hooks::of(&pre, &self.engine)?;
        let shared = Arc::new(Shared::new(settings.name, settings.limits, settings.config));
        Plugin::start(Arc::clone(self), pre, hooks, shared, settings.directions, digest).await
    }

    #[expect(unsafe_code, reason = "native code is loaded in this one place")]
    fn deserialize(&self, native: &[u8]) -> wasmtime::Result<Component> {
        // SAFETY: `native` was made a moment ago by `Compiler` from a component, in this process or by our own
        // executable over a pipe. It never comes from a file or from outside.
        unsafe { Component::deserialize(&self.engine, native) }
    }

    /// The linker stops at the first import it lacks, and names it in its own terms. Authors want all of them, and
    /// what to do.
    fn check_imports(&self, component: &Component) -> Result<(), LoadError> {
        let mut missing = Vec::new();
        for (name, item) in component.component_type().imports(&self.engine) {
            if !matches!(item.ty, ComponentItem::ComponentInstance(_) | ComponentItem::Type(_)) {
                missing.push(format!("import `{name}` is not an interface of the contract"));
            } else if let Some(remedy) = missing_import(name) {
                missing.push(remedy);
            }
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(LoadError::Imports(missing))
        }
    }
}

/// What to say about an import that the host does not provide; none when it does.
fn missing_import(name: &str) -> Option<String> {
    let interface = name.split_once('@').map_or(name, |(interface, _)| interface);
    if let Some(ours) = interface.strip_prefix(CONTRACT_PACKAGE) {
        let version = name.split_once('@').map_or("", |(_, version)| version);
        return match (ours, version.split('.').next()) {
            ("types" | "logging" | "config" | "metrics" | "state", Some("1")) => None,
            (_, Some("1")) => Some(format!("import `{name}` is not part of contract {CONTRACT_VERSION}")),
            _ => Some(wrong_version(name)),
        };
    }
    match interface.split('/').next() {
        Some("wasi:io" | "wasi:cli" | "wasi:clocks" | "wasi:random" | "wasi:filesystem" | "wasi:sockets") => None,
        Some("wasi:http") => Some(format!(
            "import `{name}`: plugins have no network; build without HTTP (for componentize-js: `disableFeatures: [\"http\", \"fetch-event\"]`)"
        )),
        _ => Some(format!(
            "import `{name}` is unknown; a plugin may import `keptn:distributor` and WASI 0.2 only"
        )),
    }
}

fn wrong_version(name: &str) -> String {
    format!(
        "`{name}` is of another version of the contract; this host speaks {CONTRACT_VERSION}: rebuild against its wit/world.wit"
    )
}

/// Which hooks a component has.
#[derive(Clone)]
pub(super) struct Hooks {
    pub(super) lifecycle: lifecycle::GuestIndices,
    pub(super) filter: Option<filter::GuestIndices>,
    pub(super) transform: Option<transform::GuestIndices>,
}

impl Hooks {
    fn of(pre: &InstancePre<State>, engine: &Engine) -> Result<Self, LoadError> {
        let filter = filter::GuestIndices::new(pre).ok();
        let transform = transform::GuestIndices::new(pre).ok();
        let lifecycle = lifecycle::GuestIndices::new(pre).ok();
        match (lifecycle, &filter, &transform) {
            (Some(lifecycle), Some(_), _) | (Some(lifecycle), _, Some(_)) => Ok(Self {
                lifecycle,
                filter,
                transform,
            }),
            (lifecycle, ..) => Err(missing_exports(pre, engine, lifecycle.is_some())),
        }
    }
}

fn missing_exports(pre: &InstancePre<State>, engine: &Engine, has_lifecycle: bool) -> LoadError {
    let component_type = pre.component().component_type();
    let exports: Vec<_> = component_type
        .exports(engine)
        .map(|(name, _)| name.to_owned())
        .collect();
    if let Some(other) = exports
        .iter()
        .find(|name| name.strip_prefix(CONTRACT_PACKAGE).is_some() && !name.ends_with(&format!("@{CONTRACT_VERSION}")))
    {
        return LoadError::Exports(wrong_version(other));
    }
    let mut text = if has_lifecycle {
        "exports `lifecycle`, but neither `filter` nor `transform`, so there is nothing it could do".to_owned()
    } else {
        format!("does not export `{CONTRACT_PACKAGE}lifecycle@{CONTRACT_VERSION}`, which every plugin has to")
    };
    let exports = if exports.is_empty() {
        "nothing".to_owned()
    } else {
        exports.join(", ")
    };
    write!(
        text,
        " (it exports {exports}); build it for the world `filter-plugin`, `transform-plugin` or `plugin`"
    )
    .expect("writing to a String cannot fail");
    LoadError::Exports(text)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}
