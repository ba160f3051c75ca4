#!/usr/bin/env bash
# Makes the root file system of the image in a folder: the static binary, certificate authorities, and the native code of
# the built-in filter. deploy/Dockerfile calls it, and so does whoever has no container engine.
#
#   deploy/image.sh <folder> [<binary>]     without a binary it is built
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

user=65532
target=x86_64-unknown-linux-musl
authorities=/etc/ssl/certs/ca-certificates.crt

missing() { echo "$1" >&2; exit 1; }

root="${1:?"the folder to make it in"}"
binary="${2:-}"
if [ -z "$binary" ]; then
    command -v musl-gcc >/dev/null || missing "musl-gcc is missing: apt-get install musl-tools"
    cargo build --locked --release --target "$target" -p distributor
    binary="${CARGO_TARGET_DIR:-target}/$target/release/distributor"
fi
[ -r "$authorities" ] || missing "$authorities is missing: apt-get install ca-certificates"

rm -rf "$root"
# Names of functions are a fifth of the file, and nobody looks for them here.
mkdir -p "$root"
strip --strip-all -o "$root/distributor" "$binary"
chmod 0755 "$root/distributor"
install -D -m 0644 "$authorities" "$root$authorities"
# What runs natively is used only from a directory of the user's own. It fits processors with the features of this one;
# elsewhere the filter is compiled at the start, in some 60 ms.
cache="$root/var/cache/distributor"
mkdir -p "$cache"
PLUGINS_CACHE_DIR="$(cd "$cache" && pwd)" "$root/distributor" check >/dev/null
[ -n "$(find "$cache" -name '*.cwasm')" ] || missing "the built-in filter was not compiled"
if [ "$(id -u)" -eq 0 ]; then
    chown -R "$user:$user" "$cache"
fi
chmod -R u=rwX,go= "$cache"
du -sh "$root" | cut -f 1
