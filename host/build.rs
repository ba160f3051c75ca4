//! Builds the default filter as a component, so that the binary can embed it.
//!
//! A nested cargo for `wasm32-wasip2` with a target directory of its own, shared by all profiles: the outer cargo holds
//! the lock of its own directory. Paths are remapped, so that the same sources give the same bytes in every folder.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to build scripts through the environment"
)]

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const TARGET: &str = "wasm32-wasip2";

fn main() {
    let root = Path::new(&variable("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package is a folder of the workspace")
        .to_owned();
    for input in ["plugins/keptn-filter", "wit", "Cargo.lock", "rust-toolchain.toml"] {
        println!("cargo:rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo:rerun-if-env-changed=CARGO_TARGET_DIR");

    check_target_is_installed();
    let target_directory = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), |directory| root.join(directory))
        .join("components");
    let component = build("keptn-filter", &root, &target_directory);
    println!("cargo:rustc-env=KEPTN_FILTER_COMPONENT={}", component.display());
}

fn build(package: &str, root: &Path, target_directory: &Path) -> PathBuf {
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .current_dir(root)
        .args([
            "build",
            "--locked",
            "--lib",
            "--profile",
            "plugin",
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
    target_directory.join(TARGET).join("plugin").join(file)
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
