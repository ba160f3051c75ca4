#!/usr/bin/env bash
# Builds the plugins of examples/, each with the one command that its README names, and runs their unit tests. The tests
# of the distributor load what comes out. Called by the Makefile. A machine without a language's compiler gets it from
# that language's registry; what has to be there is Node.js with npm, and Python 3 with venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

missing() { echo "$1" >&2; exit 1; }
command -v npm >/dev/null || missing "npm is missing: install Node.js 20 or newer, with npm; examples/javascript needs it"
python3 -c 'import ensurepip, venv' 2>/dev/null || missing "python3 has no venv: install it (Debian: python3-venv); examples/python needs it"

if ! sha256sum --check --quiet --strict examples/contract.sha256 2>/dev/null; then
    missing "wit/world.wit is not what the bindings in examples/ were made of: look at distributor.d.ts, run tests/support/generate-bindings.sh"
fi
# What is the same in several places, because each of them is copied as a whole.
same() { cmp -s "examples/$1" "examples/$2" || missing "examples/$1 and examples/$2 have to be the same"; }
for other in templates/ts/common javascript typescript; do same templates/js/common/types/distributor.d.ts "$other/types/distributor.d.ts"; done
for file in filter_plugin.c filter_plugin.h filter_plugin_component_type.o; do same "templates/c/filter/bindings/$file" "c/bindings/$file"; done
for file in wasi.wat support/wit/runtime/runtime.go support/wit/types/types.go; do same "templates/go/common/$file" "go/$file"; done
same templates/go/filter/wit_exports.go go/wit_exports.go

# An example is built as its author would, not as a part of this workspace.
unset CARGO_TARGET_DIR RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET MAKEFLAGS MFLAGS MAKELEVEL

for makefile in examples/*/Makefile; do
    folder="${makefile%/Makefile}"
    log="$(mktemp)"
    started=$SECONDS
    if ! make --no-print-directory -C "$folder" all unit >"$log" 2>&1; then
        cat "$log" >&2
        missing "$folder cannot be built: see above, and repeat it with make -C $folder all unit"
    fi
    rm "$log"
    for component in "$folder"/*.wasm; do
        echo "$component: $(wc -c <"$component") bytes, $(gzip -9c "$component" | wc -c) compressed, $((SECONDS - started)) s"
    done
done
