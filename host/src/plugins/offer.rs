//! What a component may import, and what each import means here, in words for its author.
//!
//! Used by [`super::load`], which refuses what is not offered, and by the tools of authors.

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use super::load::{CONTRACT_VERSION, contract_interface};

/// What a component may import of the contract: interfaces and their functions. A later minor version has more.
pub(super) const OFFERED: [(&str, &[&str]); 5] = [
    ("types", &[]),
    ("logging", &["enabled", "log"]),
    ("config", &["get", "get-list"]),
    ("metrics", &["add", "set"]),
    ("state", &["get", "set", "delete", "increment", "set-if-absent"]),
];

/// An import of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// With its version.
    pub name: String,
    /// What it imports of it.
    pub functions: Vec<String>,
    /// Whether it is there.
    pub is_offered: bool,
    /// What it is for, or what to do.
    pub explanation: String,
}

/// Everything that a component imports.
pub(super) fn imports(component: &Component, engine: &Engine) -> Vec<Import> {
    let component_type = component.component_type();
    let mut imports = Vec::new();
    for (name, item) in component_type.imports(engine) {
        let (functions, missing) = match item.ty {
            ComponentItem::ComponentInstance(instance) => {
                let items = instance.exports(engine);
                let functions = items.filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
                let functions: Vec<_> = functions.map(|(function, _)| function.to_owned()).collect();
                let missing = missing_import(name, functions.iter().map(String::as_str));
                (functions, missing)
            }
            ComponentItem::Type(_) => continue,
            _ => {
                let missing = format!("import `{name}` is not an interface of the contract; build it without");
                (Vec::new(), Some(missing))
            }
        };
        imports.push(Import {
            is_offered: missing.is_none(),
            explanation: missing.unwrap_or_else(|| meaning(name).to_owned()),
            name: name.to_owned(),
            functions,
        });
    }
    imports
}

/// What to say about an import that the host does not provide; nothing when it does.
fn missing_import<'a>(name: &str, mut functions: impl Iterator<Item = &'a str>) -> Option<String> {
    if let Some((interface, _)) = contract_interface(name) {
        let newer = |what: &str| {
            format!(
                "{what} is newer than this host, which speaks {CONTRACT_VERSION}: update the distributor, or build the plugin \
                 without it"
            )
        };
        let Some((_, known)) = OFFERED.iter().find(|(offered, _)| *offered == interface) else {
            return Some(newer(&format!("import `{name}`")));
        };
        let unknown = functions.find(|function| !known.contains(function))?;
        return Some(newer(&format!("`{unknown}` of `{name}`")));
    }
    match name.split('/').next() {
        Some("wasi:io" | "wasi:cli" | "wasi:clocks" | "wasi:random" | "wasi:filesystem" | "wasi:sockets") => None,
        Some("wasi:http") => Some(format!(
            "import `{name}`: plugins have no network; build without HTTP (for componentize-js: `disableFeatures: [\"http\", \"fetch-event\"]`)"
        )),
        _ => Some(format!(
            "import `{name}` is unknown; a plugin may import `keptn:distributor` and WASI 0.2 only: build it without"
        )),
    }
}

/// What an import that is there does.
fn meaning(name: &str) -> &'static str {
    if let Some((interface, _)) = contract_interface(name) {
        return match interface {
            "logging" => "lines of the distributor's log",
            "config" => "the configuration, key by key",
            "metrics" => "counters and gauges with the plugin's name",
            "state" => "a key-value store; every function answers `denied` without the grant `state`",
            _ => "types of the contract",
        };
    }
    let name = name.split('@').next().unwrap_or_default();
    match name {
        "wasi:cli/stdout" | "wasi:cli/stderr" => "each printed line goes to the log",
        "wasi:cli/stdin" => "there, and empty",
        "wasi:cli/environment" => "there, and empty: no variables, no arguments",
        "wasi:cli/exit" => "there; ending the process counts as a failure",
        "wasi:clocks/wall-clock" | "wasi:clocks/monotonic-clock" => "the clock; waiting counts as time of the call",
        _ => match name.split('/').next().unwrap_or_default() {
            "wasi:cli" => "there; no terminal is ever connected",
            "wasi:random" => "random numbers, at most 64 KiB at once",
            "wasi:filesystem" => "there, and empty: no file can be opened",
            "wasi:sockets" => "there, and closed: no connection can be made",
            _ => "streams and waiting, which other imports are made of",
        },
    }
}
