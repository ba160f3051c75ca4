#!/usr/bin/env bash
# Builds the plugins of examples/ and what `distributor plugin new` makes, as their READMEs say, and runs their tests: unit
# tests in the language, and cases in the host. The tests of the distributor load what comes out. Called by the Makefile. A
# machine without a language's compiler gets it from that language's registry; what has to be there is Node.js with npm, and
# Python 3 with venv.
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
for file in wasi.wat plugin.go support/wit/runtime/runtime.go support/wit/types/types.go; do same "templates/go/common/$file" "go/$file"; done
same templates/go/filter/wit_exports.go go/wit_exports.go

target="$(realpath -m "${CARGO_TARGET_DIR:-target}")"
cargo build --quiet -p distributor
# As an author has it: on the path.
bin="$(mktemp -d)"
log="$(mktemp)"
trap 'rm -rf "$bin" "$log"' EXIT
ln -s "$target/debug/distributor" "$bin/distributor"
export PATH="$bin:$PATH"
# An example is built as its author would, not as a part of this workspace; only what cargo makes of the same
# dependencies is kept in one place.
unset CARGO_TARGET_DIR RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET MFLAGS MAKELEVEL
mkdir -p "$target/examples"
export MAKEFLAGS="CARGO_TARGET_DIR=$target/examples/cargo"

# Runs a command in a folder; shows what it printed only if it fails. Ends with the seconds that it took.
run() {
    local folder="$1" command="$2" started=$SECONDS
    if ! (cd "$folder" && eval "$command") >"$log" 2>&1; then
        cat "$log" >&2
        missing "$folder: $command"
    fi
    printf '%s: %s (%s s)\n' "${folder#"$PWD/"}" "$command" "$((SECONDS - started))"
}

# The commands of the README, one after the other.
follow_readme() {
    local folder="$1" command
    while IFS= read -r command; do
        [ -z "$command" ] || run "$folder" "$command"
    done < <(awk '/^```sh$/ { shown = 1; next } /^```$/ { shown = 0 } shown { sub(/ +#.*/, ""); print }' "$folder/README.md")
}

for makefile in examples/*/Makefile; do
    folder="${makefile%/Makefile}"
    follow_readme "$folder"
    for component in "$folder"/*.wasm; do
        run "$folder" "distributor plugin check --strict ${component##*/}"
        echo "$component: $(wc -c <"$component") bytes, $(gzip -9c "$component" | wc -c) compressed"
    done
done

for language in rust js ts python c go; do
    folder="$target/examples/$language"
    for hook in filter transform; do
        # What its tools have installed is kept, in the same place: it takes longer than all the rest.
        tools="$(mktemp -d "$target/examples/tools.XXXXXX")"
        for installed in .venv node_modules; do
            [ ! -d "$folder/$installed" ] || mv "$folder/$installed" "$tools"
        done
        rm -rf "$folder"
        run "$target/examples" "distributor plugin new --lang $language --hook $hook my-$hook --output $language"
        for installed in "$tools"/.venv "$tools"/node_modules; do
            [ ! -d "$installed" ] || { mv "$installed" "$folder/"; touch "$folder/${installed##*/}"; }
        done
        rmdir "$tools"
        follow_readme "$folder"
        # The next hook takes the folder; the benchmarks compare the languages.
        cp "$folder/my-$hook.wasm" "$target/examples/$language-$hook.wasm"
    done
done
