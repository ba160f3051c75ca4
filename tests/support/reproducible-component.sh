#!/usr/bin/env bash
# Builds the plugins that come with the distributor in two folders with paths of different length and fails unless the
# bytes are equal: the digests in the start banner mean something only then. Called by the Makefile.
# The copies stay under target/, sources with their original times, so that a second run builds only what changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

copies="$(mkdir -p "${CARGO_TARGET_DIR:-target}/reproducible" && cd "${CARGO_TARGET_DIR:-target}/reproducible" && pwd)"

# Each with the profile that host/build.rs builds it with.
plugins=(keptn-filter:plugin cel-filter:large-plugin jq-transform:large-plugin)

digests_built_in() {
    local folder="$copies/$1"
    rm -rf "$folder/src"
    mkdir -p "$folder/src"
    tar --exclude=./target --exclude=./.git -cf - . | tar -xf - -C "$folder/src"
    (
        cd "$folder/src"
        component_root="$PWD"
        source tests/support/component-environment.sh
        for built in "${plugins[@]}"; do
            plugin="${built%:*}" profile="${built#*:}"
            CARGO_TARGET_DIR="$folder/target" cargo build --quiet --locked -p "$plugin" --lib --target wasm32-wasip2 --profile "$profile"
            sha256sum <"$folder/target/wasm32-wasip2/$profile/${plugin//-/_}.wasm" | sed "s/ .*/ $plugin/"
        done
    )
}

first="$(digests_built_in one)"
second="$(digests_built_in two-in-a-folder-with-a-longer-name)"
if [ "$first" != "$second" ]; then
    printf 'not reproducible; built in two folders under %s:\n%s\n%s\n' "$copies" "$first" "$second" >&2
    exit 1
fi
printf 'reproducible, sha256:\n%s\n' "$first"
