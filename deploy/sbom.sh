#!/usr/bin/env bash
# Writes what the image is made of: a bill of materials (CycloneDX, JSON) for the binary, and one for each component in it.
# Without what only builds and tests need.
#
#   deploy/sbom.sh <folder>     needs cargo-cyclonedx on PATH; `make sbom` brings it
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder="${1:?"the folder to write to"}"
mkdir -p "$folder"
# The tool writes one beside the manifest of each package of the workspace, whatever it is told.
name="bill-of-materials-$$"
clean_up() { find . -name "$name.json" -not -path './target/*' -delete; }
trap clean_up EXIT

write() {
    local package="$1" target="$2"
    cargo-cyclonedx cyclonedx --quiet --manifest-path "$package/Cargo.toml" --format json --spec-version 1.5 \
        --no-build-deps --target "$target" --override-filename "$name"
    local file="${package##*/}"
    if [ "$file" = host ]; then file=distributor; fi
    # Where it was built is nobody's business, and differs from machine to machine.
    sed "s|$PWD||g" "$package/$name.json" > "$folder/$file.cdx.json"
    clean_up
    echo "$folder/$file.cdx.json"
}

write host x86_64-unknown-linux-musl
for plugin in plugins/*/; do
    write "${plugin%/}" wasm32-wasip2
done
