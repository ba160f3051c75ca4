#!/usr/bin/env bash
# Makes a tool of cargo exist in target/tools/bin: what is already there, the one on PATH, or the release from the registry,
# built without optimisation, which takes a minute or two. Called by the Makefile.
#
#   tests/support/install-cargo-tool.sh <name> <version>
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

name="$1"
version="$2"
tools_dir="${CARGO_TARGET_DIR:-target}/tools"
tool="$tools_dir/bin/$name"

if "$tool" --help >/dev/null 2>&1; then
    echo "$name: already in $tools_dir"
    exit 0
fi
mkdir -p "$tools_dir/bin"
if found="$(command -v "$name")"; then
    ln -sf "$found" "$tool"
    echo "$name: linked from $found"
    exit 0
fi
build_dir="$(mktemp -d "$tools_dir/build.XXXXXX")"
trap 'rm -rf "$build_dir"' EXIT
CARGO_TARGET_DIR="$build_dir" CARGO_PROFILE_DEV_DEBUG=0 \
    cargo install --quiet --locked --debug --no-track --root "$tools_dir" "$name@$version"
echo "$name $version: installed from the registry"
