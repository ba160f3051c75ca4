#!/usr/bin/env bash
# Builds the default filter in two folders with paths of different length and fails unless the bytes are equal: the
# digest in the start banner means something only then. Called by the Makefile.
# The copies stay under target/, sources with their original times, so that a second run builds only what changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

copies="$(mkdir -p "${CARGO_TARGET_DIR:-target}/reproducible" && cd "${CARGO_TARGET_DIR:-target}/reproducible" && pwd)"

digest_built_in() {
    local folder="$copies/$1"
    rm -rf "$folder/src"
    mkdir -p "$folder/src"
    tar --exclude=./target --exclude=./.git -cf - . | tar -xf - -C "$folder/src"
    (
        cd "$folder/src"
        component_root="$PWD"
        source tests/support/component-environment.sh
        CARGO_TARGET_DIR="$folder/target" cargo build --quiet --locked -p keptn-filter --lib --target wasm32-wasip2 --profile plugin
        sha256sum <"$folder/target/wasm32-wasip2/plugin/keptn_filter.wasm" | cut -d ' ' -f 1
    )
}

first="$(digest_built_in one)"
second="$(digest_built_in two-in-a-folder-with-a-longer-name)"
if [ "$first" != "$second" ]; then
    echo "keptn-filter is not reproducible: $first and $second, built in two folders under $copies" >&2
    exit 1
fi
echo "keptn-filter is reproducible: sha256 $first"
