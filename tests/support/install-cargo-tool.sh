#!/usr/bin/env bash
# Makes cargo-deny exist in target/tools/bin: what is already there, the one on PATH, or the release from the registry,
# built without optimisation, which takes a minute or two. Called by the Makefile.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=0.20.2
tools_dir="${CARGO_TARGET_DIR:-target}/tools"
cargo_deny="$tools_dir/bin/cargo-deny"

if "$cargo_deny" --version >/dev/null 2>&1; then
    echo "cargo-deny: already in $tools_dir ($("$cargo_deny" --version))"
    exit 0
fi
mkdir -p "$tools_dir/bin"
if found="$(command -v cargo-deny)"; then
    ln -sf "$found" "$cargo_deny"
    echo "cargo-deny: linked from $found ($("$found" --version))"
    exit 0
fi
build_dir="$(mktemp -d "$tools_dir/build.XXXXXX")"
trap 'rm -rf "$build_dir"' EXIT
CARGO_TARGET_DIR="$build_dir" CARGO_PROFILE_DEV_DEBUG=0 \
    cargo install --quiet --locked --debug --no-track --root "$tools_dir" "cargo-deny@$version"
echo "cargo-deny: installed from the registry ($("$cargo_deny" --version))"
