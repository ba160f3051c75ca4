#!/usr/bin/env bash
# Checks that what the build needs is on this machine and adds the WebAssembly target where rustup can.
# Called by the Makefile before anything is built, so that a missing piece is one line here and not a page of compiler
# errors ("can't find crate for `core`") in a nested build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

target=wasm32-wasip2
channel="$(sed -n 's/^channel = "\(.*\)"$/\1/p' rust-toolchain.toml)"

missing() { echo "$1" >&2; exit 1; }
has_target() { libraries="$(rustc --print target-libdir --target "$target" 2>/dev/null)" && [ -d "$libraries" ]; }

command -v cargo >/dev/null || missing "cargo is missing: install Rust $channel, for example with rustup (https://rustup.rs)"
command -v python3 >/dev/null || missing "python3 is missing: install Python 3; it is how nats-server gets here"

if ! has_target; then
    # rustup installs what rust-toolchain.toml lists by itself, except where automatic installs are switched off.
    command -v rustup >/dev/null ||
        missing "the Rust target $target is missing: install it for $(rustc --version), or use rustup: rustup target add $target"
    rustup toolchain install "$channel" --no-self-update --profile minimal --component clippy --component rustfmt --target "$target" ||
        missing "the Rust target $target is missing: rustup target add --toolchain $channel $target"
    has_target || missing "the Rust target $target is still missing after rustup added it: is $(command -v rustc) rustup's?"
fi
echo "toolchain: $(rustc --version), $target"
