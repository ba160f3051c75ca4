//! Component bytes → a checked plugin that is ready to run, or a reason that says what to do.

use std::fmt::Write;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre};

use super::bindings::exports::keptn::distributor::{filter, lifecycle, transform};
use super::error::LoadError;
use super::host::Host;
use super::imports::kept::Kept;
use super::imports::{Shared, State};
use super::instance::{Hooks, Template};
use super::limits::check_declared;
use super::offer;
use super::plugin::Plugin;
use super::settings::Settings;

/// Version of the contract, as it stands behind the `@` of its interfaces.
pub const CONTRACT_VERSION: &str = "1.0.0";
pub(super) const CONTRACT_PACKAGE: &str = "keptn:distributor/";

/// Makes a plugin of a component: compile, link, describe, and configure a first instance.
///
/// # Errors
/// Why it is not usable, in words for the person who built it.
pub async fn load(host: &Arc<Host>, component: &[u8], settings: Settings) -> Result<Plugin, LoadError> {
    let digest = hex(&Sha256::digest(component));
    start(host, &host.component(component).await?, digest, settings).await
}

/// The same of native code that the operator allows to run.
///
/// # Errors
/// Why it is not usable.
pub(super) async fn load_precompiled(host: &Arc<Host>, native: &[u8], settings: Settings) -> Result<Plugin, LoadError> {
    let digest = hex(&Sha256::digest(native));
    start(host, &host.precompiled(native)?, digest, settings).await
}

/// A plugin of the same component as another, with other settings. They share its code, which costs memory, and processors
/// more time the more of it there is.
///
/// # Errors
/// Why it is not usable.
pub(super) async fn load_again(host: &Arc<Host>, same: &Plugin, settings: Settings) -> Result<Plugin, LoadError> {
    start(host, same.component(), same.digest().to_owned(), settings).await
}

async fn start(
    host: &Arc<Host>,
    component: &Component,
    digest: String,
    settings: Settings,
) -> Result<Plugin, LoadError> {
    let kept = host.keeper.of(&settings.name);
    Plugin::start(template(host, component, settings, &digest, kept)?, digest).await
}

/// What instances of a compiled component are made of. They share what is `kept`.
pub(super) fn template(
    host: &Arc<Host>,
    component: &Component,
    settings: Settings,
    digest: &str,
    kept: Arc<Kept>,
) -> Result<Template, LoadError> {
    let linked = |error: wasmtime::Error| LoadError::Link(format!("{error:#}"));
    check_version(host, component)?;
    check_imports(host, component)?;
    check_declared(component, &settings.limits).map_err(LoadError::TooBig)?;
    let pre = host.linker.instantiate_pre(component).map_err(linked)?;
    Ok(Template {
        hooks: Hooks::of(&pre, &host.engine)?,
        host: Arc::clone(host),
        pre,
        config_text: settings.config.to_string(),
        shared: Arc::new(Shared::new(settings, digest, kept)),
    })
}

/// A component of another major version is wrong in every part: one sentence says it better than a list.
fn check_version(host: &Host, component: &Component) -> Result<(), LoadError> {
    let component_type = component.component_type();
    let imports = component_type.imports(&host.engine).map(|(name, _)| name.to_owned());
    let exports = component_type.exports(&host.engine).map(|(name, _)| name.to_owned());
    let names: Vec<_> = imports.chain(exports).collect();
    let ours = major(CONTRACT_VERSION);
    let versions = names.iter().filter_map(|name| contract_interface(name));
    match versions
        .map(|(_, version)| version)
        .find(|version| major(version) != ours)
    {
        None => Ok(()),
        Some(other) => Err(LoadError::Contract(other.to_owned())),
    }
}

/// The interface and its version, of a name that is one of the contract's.
pub(super) fn contract_interface(name: &str) -> Option<(&str, &str)> {
    let interface = name.strip_prefix(CONTRACT_PACKAGE)?;
    Some(interface.split_once('@').unwrap_or((interface, "without a number")))
}

fn major(version: &str) -> &str {
    version.split('.').next().unwrap_or_default()
}

/// The linker stops at the first import it lacks, and names it in its own terms. Authors want all of them, and
/// what to do.
fn check_imports(host: &Host, component: &Component) -> Result<(), LoadError> {
    let imports = offer::imports(component, &host.engine).into_iter();
    let missing: Vec<_> = imports
        .filter(|import| !import.is_offered)
        .map(|import| import.explanation)
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(LoadError::Imports(missing))
    }
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
