//! Builds the plugins that come with the distributor as components, so that the binary can embed them.
//!
//! A nested cargo for `wasm32-wasip2` with a target directory of its own, shared by all profiles: the outer cargo holds
//! the lock of its own directory. Paths are remapped, so that the same sources give the same bytes in every folder.
//! Each is built on its own: built together, one would get the features of crates that another asks for.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to build scripts through the environment"
)]

use std::env;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

use flate2::{Compression, GzBuilder};

const TARGET: &str = "wasm32-wasip2";

/// In every chain, and small: it lies in the binary as it is, and nothing has to be inflated at the start.
const DEFAULT_FILTER: &str = "keptn-filter";

/// Wanted by few and large: they lie in the binary compressed.
const ON_REQUEST: [&str; 2] = ["cel-filter", "jq-transform"];

/// What `distributor plugin new` makes plugins of.
const TEMPLATES: &str = "examples/templates";

fn main() {
    let root = Path::new(&variable("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package is a folder of the workspace")
        .to_owned();
    for input in ["plugins", "wit", "Cargo.lock", "Cargo.toml", "rust-toolchain.toml"] {
        println!("cargo:rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo:rerun-if-env-changed=CARGO_TARGET_DIR");

    list_templates(&root.join(TEMPLATES));
    check_target_is_installed();
    let target_directory = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |directory| root.join(directory))
        .join("components");
    embed(
        DEFAULT_FILTER,
        &build(DEFAULT_FILTER, "plugin", &root, &target_directory),
    );
    for package in ON_REQUEST {
        let component = build(package, "large-plugin", &root, &target_directory);
        let compressed = Path::new(&variable("OUT_DIR")).join(format!("{package}.wasm.gz"));
        if let Err(error) = compress(&component, &compressed) {
            fail(&format!("cannot compress the component {package}: {error}"));
        }
        embed(package, &compressed);
    }
}

/// Writes the Rust source of a list of all templates, by their names below the folder.
fn list_templates(folder: &Path) {
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    if let Err(error) = find_files(folder, &mut files) {
        fail(&format!("cannot read the templates in {}: {error}", folder.display()));
    }
    files.sort();
    let lines = files.iter().map(|file| {
        let name = file.strip_prefix(folder).unwrap_or(file).to_string_lossy();
        format!("    ({name:?}, include_bytes!({:?})),\n", file.to_string_lossy())
    });
    let lines: Vec<_> = lines.collect();
    let source = format!(
        "/// The templates of plugins: names and contents.\nconst TEMPLATES: &[(&str, &[u8])] = &[\n{}];\n",
        lines.concat()
    );
    if let Err(error) = std::fs::write(Path::new(&variable("OUT_DIR")).join("templates.rs"), source) {
        fail(&format!("cannot write the list of templates: {error}"));
    }
}

fn find_files(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_files(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// Tells the crate where a component is.
fn embed(package: &str, file: &Path) {
    let name = package.replace('-', "_").to_uppercase();
    println!("cargo:rustc-env={name}_COMPONENT={}", file.display());
}

/// Without name and time, so that the same component gives the same bytes.
fn compress(from: &Path, to: &Path) -> io::Result<()> {
    let component = std::fs::read(from)?;
    let mut writer = GzBuilder::new().write(File::create(to)?, Compression::best());
    writer.write_all(&component)?;
    writer.finish()?.flush()
}

fn build(package: &str, profile: &str, root: &Path, target_directory: &Path) -> PathBuf {
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(root)
        .args([
            "build",
            "--locked",
            "--lib",
            "--profile",
            profile,
            "--target",
            TARGET,
            "-p",
            package,
        ])
        .arg("--target-dir")
        .arg(target_directory)
        .env("CARGO_ENCODED_RUSTFLAGS", remapped_paths(root))
        // What clippy, a compiler cache or a coverage tool set for the outer build is not for the component.
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTFLAGS");
    match cargo.status() {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!(
            "building the component {package} ended with {status}; see above"
        )),
        Err(error) => fail(&format!("cannot run cargo for the component {package}: {error}")),
    }
    let file = format!("{}.wasm", package.replace('-', "_"));
    target_directory.join(TARGET).join(profile).join(file)
}

fn remapped_paths(root: &Path) -> String {
    let cargo_home = env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    );
    [(cargo_home.as_path(), "/cargo"), (root, "/src")]
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
        .join("\u{1f}")
}

fn check_target_is_installed() {
    let output = Command::new(variable("RUSTC"))
        .args(["--print", "target-libdir", "--target", TARGET])
        .output();
    let is_there = output.is_ok_and(|output| {
        output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).exists()
    });
    if !is_there {
        fail(&format!(
            "the Rust target {TARGET} is missing; install it with `rustup target add {TARGET}` or `make setup`"
        ));
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| fail(&format!("cargo did not set {name}")))
}

fn fail(message: &str) -> ! {
    eprintln!("error: {message}");
    exit(1)
}
