#!/usr/bin/env bash
# Runs cargo deny over deny.toml: banned crates, licences, sources, and known vulnerabilities where their list can be
# fetched. Called by the Makefile. What it cannot check it says loudly, so that a green run is not mistaken for a checked one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

if ! cargo deny --version >/dev/null 2>&1; then
    echo "SKIPPED cargo deny: not installed; cargo install cargo-deny --locked"
    exit 0
fi
cargo deny --log-level error check bans licenses sources

# Fetched apart from the check: no network is then a different thing from a vulnerability found.
if cargo deny fetch db >/dev/null 2>&1; then
    cargo deny --log-level error check --disable-fetch advisories
else
    echo "SKIPPED cargo deny check advisories: the advisory database could not be fetched"
fi
