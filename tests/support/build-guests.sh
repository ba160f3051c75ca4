#!/usr/bin/env bash
# Builds the components of tests/guests, which the tests of the plugin host load.
# Called by the Makefile. Shares its target folder with the nested build in host/build.rs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

component_root="$PWD"
source tests/support/component-environment.sh
cargo build --locked -p guest-misbehaving -p guest-parsing -p guest-tagging -p guest-wrong-world --lib --target wasm32-wasip2 --profile plugin \
    --target-dir "${CARGO_TARGET_DIR:-target}/components"
