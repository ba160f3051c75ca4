//! `distributor plugin pack`: the way into a cluster, or the reason why there is none and which way is left.

mod chain_folder;
mod manifests;

use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};

use self::chain_folder::PackedFile;
use super::shown::size;
use super::target::TargetArguments;
use super::{CommandError, Desk, print, print_json};

/// What the API server takes: all values of a `ConfigMap` together, as they are and not in Base64.
const MAX_CONFIG_MAP_BYTES: usize = 1 << 20;
/// What `kubectl apply` writes into an annotation unless it is told not to: the whole object as JSON.
const MAX_ANNOTATION_BYTES: usize = 262_144;
/// What the object has beside its values, generously.
const OBJECT_BYTES: usize = 1024;

/// Options of `pack`.
#[derive(Debug, Args)]
pub struct PackArguments {
    #[command(flatten)]
    target: TargetArguments,
    /// Print a `ConfigMap` of this name.
    #[arg(long, value_name = "NAME", conflicts_with = "kustomize", value_parser = kubernetes_name)]
    configmap: Option<String>,
    /// Namespace of the `ConfigMap`. Without it, that of whoever applies it.
    #[arg(long, value_name = "NAME", requires = "configmap", value_parser = kubernetes_name)]
    namespace: Option<String>,
    /// Write a folder that kustomize makes the `ConfigMap` of.
    #[arg(long, value_name = "DIR")]
    kustomize: Option<PathBuf>,
    /// Name of the `ConfigMap` that kustomize makes.
    #[arg(long, value_name = "NAME", requires = "kustomize", default_value = "distributor-plugins", value_parser = kubernetes_name)]
    name: String,
    /// Print one JSON object that says how it fits, and with --configmap the `ConfigMap` in it.
    #[arg(long)]
    json: bool,
}

/// How values fit into a `ConfigMap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fit {
    /// Bytes of all values.
    pub(super) bytes: usize,
    /// The same in Base64.
    base64_bytes: usize,
}

impl Fit {
    /// Of values of so many bytes.
    pub(super) fn of(sizes: impl IntoIterator<Item = usize>) -> Self {
        let (mut bytes, mut base64_bytes) = (0, 0);
        for size in sizes {
            bytes += size;
            base64_bytes += size.div_ceil(3) * 4;
        }
        Self { bytes, base64_bytes }
    }

    pub(super) fn fits(self) -> bool {
        self.bytes <= MAX_CONFIG_MAP_BYTES
    }

    /// Whether `kubectl apply` takes it without `--server-side`.
    pub(super) fn fits_client_side(self) -> bool {
        self.base64_bytes + OBJECT_BYTES <= MAX_ANNOTATION_BYTES
    }

    pub(super) fn in_words(self) -> String {
        let sizes = format!("{} ({} in Base64)", size(self.bytes), size(self.base64_bytes));
        match (self.fits(), self.fits_client_side()) {
            (false, _) => format!("does not fit: {sizes}, and all values of one may have 1.0 MiB together"),
            (true, true) => format!("fits: {sizes}"),
            (true, false) => format!(
                "fits: {sizes}; with `kubectl apply --server-side` only, as without it the limit is {}",
                size(MAX_ANNOTATION_BYTES)
            ),
        }
    }

    pub(super) fn to_json(self) -> Value {
        json!({
            "bytes": self.bytes,
            "base64_bytes": self.base64_bytes,
            "limit_bytes": MAX_CONFIG_MAP_BYTES,
            "fits": self.fits(),
            "needs_server_side_apply": self.fits() && !self.fits_client_side(),
        })
    }
}

pub(super) async fn run(arguments: &PackArguments, desk: &Desk) -> Result<bool, CommandError> {
    let files = chain_folder::files(&arguments.target, desk).await?;
    let fit = Fit::of(files.iter().map(|file| file.content.len()));
    if !fit.fits() {
        if arguments.json {
            print_json(&json!({"config_map": fit.to_json(), "alternatives": ALTERNATIVES}))?;
        }
        return Err(CommandError::Failed(refusal(fit, &files)));
    }
    let config_map = arguments.configmap.as_ref();
    let config_map = config_map.map(|name| manifests::config_map(name, arguments.namespace.as_deref(), &files));
    if let Some(folder) = &arguments.kustomize {
        let written = manifests::write_kustomization(folder, &arguments.name, &files);
        written.map_err(|error| CommandError::Failed(format!("cannot write {}: {error}", folder.display())))?;
    }
    if arguments.json {
        let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
        print_json(&json!({"config_map": fit.to_json(), "files": names, "object": config_map}))?;
        return Ok(true);
    }
    match config_map {
        Some(config_map) => print(&manifests::yaml(&config_map))?,
        None if arguments.kustomize.is_none() => {
            let names: Vec<_> = files
                .iter()
                .map(|file| format!("  {} {}\n", file.name, size(file.content.len())))
                .collect();
            print(&format!("{}{}\n", names.concat(), fit.in_words()))?;
            return Ok(true);
        }
        None => {}
    }
    eprintln!("{}", fit.in_words());
    if !fit.fits_client_side() {
        eprintln!(
            "apply it with: kubectl apply --server-side{}",
            if arguments.kustomize.is_some() { " -k" } else { " -f -" }
        );
    }
    Ok(true)
}

/// Ways that are left for what is too large.
const ALTERNATIVES: [&str; 4] = [
    "make it smaller: for Rust `opt-level = \"s\"`, `lto = true`, `strip = \"debuginfo\"`; for JavaScript the QuickJS backend \
     (componentize-qjs) in the place of StarlingMonkey; C in the place of Go or Python",
    "mount it as an image volume (Kubernetes 1.36, or 1.33 with the feature gate): put the component into an image, name it by \
     its absolute path in `component`, and leave plugins.toml alone in the ConfigMap, so that configurations change while \
     events flow",
    "put it on another volume, a PersistentVolumeClaim or an emptyDir that an init container fills, and let PLUGINS_DIR or an \
     absolute path in `component` name the place",
    "spread several plugins over several ConfigMaps, which one projected volume mounts together",
];

fn refusal(fit: Fit, files: &[PackedFile]) -> String {
    let list = files.iter().map(|file| {
        let hint = match file.name.strip_suffix(".wasm") {
            Some(name) => format!(
                " (compressed {}: gzip it, and name {name}.wasm.gz in plugins.toml)",
                size(compressed(&file.content).len())
            ),
            None => String::new(),
        };
        format!("\n    {} {}{hint}", file.name, size(file.content.len()))
    });
    let list: String = list.collect();
    let ways = ALTERNATIVES.map(|way| format!("\n  - {way}")).concat();
    format!("it {}{list}\n  what is left to do:{ways}", fit.in_words())
}

/// As gzip does it at its best, without name and time: the same bytes for the same component.
pub(super) fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut writer = GzBuilder::new().write(Vec::with_capacity(bytes.len() / 2), Compression::best());
    let written = writer.write_all(bytes).and_then(|()| writer.finish());
    written.expect("writing to memory cannot fail")
}

/// A name as Kubernetes has them, so that nothing in it can be anything else in YAML.
fn kubernetes_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let is_end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if text.len() > 253 || !text.chars().all(is_plain) || !text.starts_with(is_end) || !text.ends_with(is_end) {
        return Err("that is no name: take lower-case letters, digits, `-` and `.`".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_what_fits_and_how() {
        let check = |sizes: &[usize], fits: bool, client_side: bool| {
            let fit = Fit::of(sizes.iter().copied());
            assert_eq!((fit.fits(), fit.fits_client_side()), (fits, client_side), "{sizes:?}");
        };
        check(&[60_000, 500], true, true);
        check(&[195_000], true, true);
        check(&[197_000], true, false);
        check(&[1_000_000, 40_000], true, false);
        check(&[1 << 20], true, false);
        check(&[(1 << 20) + 1], false, false);
        check(&[600_000, 600_000], false, false);
    }

    #[test]
    fn names_are_those_of_kubernetes() {
        assert!(kubernetes_name("my-plugins.v1").is_ok());
        for name in ["", "My", "a b", "-a", "a-", "a:b", "a\nb"] {
            assert!(kubernetes_name(name).is_err(), "{name:?}");
        }
    }
}
