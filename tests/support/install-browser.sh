#!/usr/bin/env bash
# Makes Chromium exist, and in target/tools/browser the packages of tests/fixtures/browser that drive it: the tests of the
# status page look at it as an operator does. Called by the Makefile. A browser on PATH is taken; otherwise it is Debian's,
# which needs root. A test never skips because something is missing, so this fails.
set -euo pipefail

workspace_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
fixture="$workspace_root/tests/fixtures/browser"
tools_dir="${CARGO_TARGET_DIR:-$workspace_root/target}/tools"
folder="$tools_dir/browser"

missing() { echo "$1" >&2; exit 1; }

command -v node >/dev/null && command -v npm >/dev/null ||
    missing "node is missing: install Node.js 20 or newer, with npm; it drives the browser of the tests"

if browser="$(command -v chromium || command -v chromium-browser || command -v google-chrome)"; then
    echo "chromium: $browser ($("$browser" --version --no-sandbox 2>/dev/null | sed 's/ *$//'))"
else
    mkdir -p "$tools_dir"
    log="$tools_dir/chromium.log"
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium fonts-dejavu-core; } >"$log" 2>&1; then
        tail -n 3 "$log" >&2
        missing "chromium is missing: install Debian's package chromium, or put a Chromium or Chrome on PATH"
    fi
    echo "chromium: installed from Debian ($(chromium --version --no-sandbox | sed 's/ *$//'))"
fi

version="$(sed -n 's/.*"playwright-core": "\(.*\)".*/\1/p' "$fixture/package.json")"
if cmp -s "$fixture/package-lock.json" "$folder/package-lock.json"; then
    echo "playwright-core: already in $folder ($version)"
    exit
fi
mkdir -p "$tools_dir"
unpacked="$(mktemp -d "$tools_dir/unpack.XXXXXX")"
trap 'rm -rf "$unpacked"' EXIT
cp "$fixture/package.json" "$fixture/package-lock.json" "$unpacked"
if ! (cd "$unpacked" && npm ci --ignore-scripts --no-audit --no-fund) >"$unpacked/npm.log" 2>&1; then
    tail -n 3 "$unpacked/npm.log" >&2
    missing "playwright-core is missing: npm could not get version $version; run npm ci in a copy of $fixture and move it to $folder"
fi
# Whole or not at all: a half-finished folder would pass for an installed one.
rm -rf "$folder"
mv "$unpacked" "$folder"
trap - EXIT
chmod 755 "$folder"
echo "playwright-core: installed from npm ($version)"
