//! Component bytes → a checked plugin that is ready to run, or a reason that says what to do.

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, types::ComponentItem};

use super::bindings::exports::keptn::distributor::{filter, lifecycle, transform};
use super::error::LoadError;
use super::host::Host;
use super::imports::{Shared, State};
use super::instance::{Hooks, Template};
use super::limits::check_declared;
use super::plugin::Plugin;
use super::settings::Settings;

/// Version of the contract, as it stands behind the `@` of its interfaces.
pub const CONTRACT_VERSION: &str = "1.0.0";
const CONTRACT_PACKAGE: &str = "keptn:distributor/";

/// Makes a plugin of a component: compile, link, describe, and configure a first instance.
///
/// # Errors
/// Why it is not usable, in words for the person who built it.
pub async fn load(host: &Arc<Host>, component: &[u8], settings: Settings) -> Result<Plugin, LoadError> {
    let linked = |error: wasmtime::Error| LoadError::Link(format!("{error:#}"));
    let native = host.compiler.compile(component).await?;
    let digest = hex(&Sha256::digest(component));
    let component = host.deserialize(&native).map_err(linked)?;
    drop(native);
    check_imports(host, &component)?;
    check_declared(&component, &settings.limits).map_err(LoadError::TooBig)?;
    let pre = host.linker.instantiate_pre(&component).map_err(linked)?;
    let kept = host.keeper.of(&settings.name);
    let template = Template {
        hooks: Hooks::of(&pre, &host.engine)?,
        host: Arc::clone(host),
        pre,
        config_text: settings.config.to_string(),
        shared: Arc::new(Shared::new(settings, &digest, kept)),
    };
    Plugin::start(template, digest).await
}

/// The linker stops at the first import it lacks, and names it in its own terms. Authors want all of them, and
/// what to do.
fn check_imports(host: &Host, component: &Component) -> Result<(), LoadError> {
    let mut missing = Vec::new();
    for (name, item) in component.component_type().imports(&host.engine) {
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

pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}
