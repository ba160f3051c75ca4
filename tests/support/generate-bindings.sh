#!/usr/bin/env bash
# Makes the bindings that examples/ ships for C and Go anew, after a change of the contract. `make examples` says when that
# has to be done. JavaScript's types are written by hand: examples/templates/js/common/types.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

version=0.63.0
[ "$(wit-bindgen --version 2>/dev/null)" = "wit-bindgen-cli $version" ] ||
    { echo "wit-bindgen $version is missing: cargo install wit-bindgen-cli --version $version --locked" >&2; exit 1; }
command -v gofmt >/dev/null || { echo "gofmt is missing: install Go, which formats the bindings" >&2; exit 1; }

for hook in filter transform; do
    made="$(mktemp -d)"
    wit-bindgen c wit --world "$hook-plugin" --out-dir "$made/c"
    wit-bindgen go wit --world "$hook-plugin" --out-dir "$made/go"
    rm "$made/go/go.mod"
    cp -r "$made/c/." "examples/templates/c/$hook/bindings/"
    cp -r "$made/go/." "examples/templates/go/$hook/"
    rm -r "$made"
done
cp -r examples/templates/c/filter/bindings/. examples/c/bindings/
cp -r examples/templates/go/filter/{wit_exports.go,keptn_distributor_*} examples/go/
sha256sum wit/world.wit >examples/contract.sha256
