#!/usr/bin/env bash
# Builds the plugins of examples/, each with the one command that its README names, and runs their unit tests. The tests
# of the distributor load what comes out. Called by the Makefile. A machine without a language's compiler gets it from
# that language's registry; what has to be there is Node.js with npm, and Python 3 with venv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

missing() { echo "$1" >&2; exit 1; }
command -v npm >/dev/null || missing "npm is missing: install Node.js 20 or newer, with npm; examples/javascript needs it"
python3 -c 'import ensurepip, venv' 2>/dev/null || missing "python3 has no venv: install it (Debian: python3-venv); examples/python needs it"

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
