#!/usr/bin/env bash
# Makes the packages of tests/fixtures/identity-provider exist in target/tools/identity-provider: a certified OpenID
# provider that the tests of OAuth start with Node.js. Called by the Makefile. A test never skips because something is
# missing, so this fails.
set -euo pipefail

workspace_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
fixture="$workspace_root/tests/fixtures/identity-provider"
tools_dir="${CARGO_TARGET_DIR:-$workspace_root/target}/tools"
folder="$tools_dir/identity-provider"

missing() { echo "$1" >&2; exit 1; }

command -v node >/dev/null && command -v npm >/dev/null ||
    missing "node is missing: install Node.js 20 or newer, with npm; the identity provider of the tests runs on it"
major="$(node --version | sed 's/^v\([0-9]*\).*/\1/')"
[ "$major" -ge 20 ] || missing "node is $(node --version): install Node.js 20 or newer; the identity provider of the tests runs on it"

version="$(sed -n 's/.*"oidc-provider": "\(.*\)".*/\1/p' "$fixture/package.json")"
if cmp -s "$fixture/package-lock.json" "$folder/package-lock.json"; then
    echo "oidc-provider: already in $folder ($version)"
    exit
fi
mkdir -p "$tools_dir"
unpacked="$(mktemp -d "$tools_dir/unpack.XXXXXX")"
trap 'rm -rf "$unpacked"' EXIT
cp "$fixture/package.json" "$fixture/package-lock.json" "$unpacked"
if ! (cd "$unpacked" && npm ci --ignore-scripts --no-audit --no-fund) >"$unpacked/npm.log" 2>&1; then
    tail -n 3 "$unpacked/npm.log" >&2
    missing "oidc-provider is missing: npm could not get version $version; run npm ci in a copy of $fixture and move it to $folder"
fi
# Whole or not at all: a half-finished folder would pass for an installed one.
rm -rf "$folder"
mv "$unpacked" "$folder"
trap - EXIT
chmod 755 "$folder"
echo "oidc-provider: installed from npm ($version)"
