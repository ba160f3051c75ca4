#!/usr/bin/env bash
# Makes what a static binary is built with exist: the Rust target, and musl-gcc for what is written in C, on PATH or in
# target/tools/musl/bin (the packages of Debian, unpacked and not installed). Called by the Makefile before
# deploy/image.sh.
set -euo pipefail

target=x86_64-unknown-linux-musl
workspace_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
tools_dir="${CARGO_TARGET_DIR:-$workspace_root/target}/tools"
mkdir -p "$tools_dir"
tools_dir="$(cd "$tools_dir" && pwd)"
folder="$tools_dir/musl"

missing() { echo "$1" >&2; exit 1; }
has_target() { libraries="$(rustc --print target-libdir --target "$target" 2>/dev/null)" && [ -d "$libraries" ]; }

cd "$workspace_root"
if ! has_target; then
    command -v rustup >/dev/null && rustup target add "$target" ||
        missing "the Rust target $target is missing: rustup target add $target"
fi
if [ "${1:-}" != --unpack ] && found="$(command -v musl-gcc)"; then
    echo "musl-gcc: $found"
    exit
fi
if [ -x "$folder/bin/musl-gcc" ]; then
    echo "musl-gcc: already in $folder/bin"
    exit
fi
unpacked="$(mktemp -d "$tools_dir/unpack.XXXXXX")"
trap 'rm -rf "$unpacked"' EXIT
packages=(musl musl-dev musl-tools)
(
    cd "$unpacked"
    # A fresh machine has no list of packages yet; only root may fetch it.
    apt-get download -qq "${packages[@]}" || { apt-get update -qq && apt-get download -qq "${packages[@]}"; }
    for package in *.deb; do dpkg-deb -x "$package" .; done
) >"$unpacked/log" 2>&1 || { tail -n 3 "$unpacked/log" >&2; missing "musl-gcc is missing: apt-get install musl-tools"; }
# The compiler of this machine with other headers and libraries; the file that says which has their places.
mkdir "$unpacked/bin"
sed -i "s#/usr/\(include\|lib\)/x86_64-linux-musl#$folder/usr/\1/x86_64-linux-musl#g" "$unpacked/usr/lib/x86_64-linux-musl/musl-gcc.specs"
printf '#!/bin/sh\nexec gcc "$@" -specs "%s"\n' "$folder/usr/lib/x86_64-linux-musl/musl-gcc.specs" >"$unpacked/bin/musl-gcc"
chmod +x "$unpacked/bin/musl-gcc"
rm "$unpacked"/*.deb
# Whole or not at all: a half-finished folder would pass for an installed one.
rm -rf "$folder"
mv "$unpacked" "$folder"
trap - EXIT
chmod 755 "$folder"
echo "musl-gcc: installed from Debian"
