#!/usr/bin/env bash
# Builds the components of tests/fixtures/museum, one for each text of the contract. What was built from a released text
# stays as it is: it stands for what authors have built. So an argument is needed: the folders to build, or --all.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

component_root="$PWD"
source tests/support/component-environment.sh
museum=tests/fixtures/museum
target="${CARGO_TARGET_DIR:-target}/components"

build() { # folder, features
    cargo build --locked -p guest-museum --features "$2" --lib --target wasm32-wasip2 --profile plugin --target-dir "$target"
    mkdir -p "$museum/$1"
    cp "$target/wasm32-wasip2/plugin/guest_museum.wasm" "$museum/$1/component.wasm"
}

if [ "$#" -eq 0 ]; then
    echo "usage: $0 --all | <folder of $museum>..." >&2
    exit 64
fi
if [ "$1" = --all ]; then set -- 1.0.0 1.0.3 1.1.0 1.1.0-in-use 2.0.0; fi
for folder in "$@"; do
    case "$folder" in
    1.0.0) build "$folder" "" ;;
    1.1.0-in-use) build "$folder" calls-new ;;
    1.0.3 | 1.1.0 | 2.0.0) build "$folder" "${folder//./_}" ;;
    *)
        echo "there is no $folder in $museum" >&2
        exit 64
        ;;
    esac
done
