#!/usr/bin/env bash
# Runs cargo deny over deny.toml: banned crates, licences, sources, and known vulnerabilities where their list can be
# fetched. Called by the Makefile. What it cannot check it says loudly, so that a green run is not mistaken for a checked one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

cargo_deny="${CARGO_TARGET_DIR:-target}/tools/bin/cargo-deny"

"$cargo_deny" --log-level error check bans licenses sources

# Fetched apart from the check: no network is then a different thing from a vulnerability found.
if timeout 120 "$cargo_deny" fetch db >/dev/null 2>&1; then
    "$cargo_deny" --log-level error check --disable-fetch advisories
else
    echo "SKIPPED cargo deny check advisories: the advisory database could not be fetched"
fi
