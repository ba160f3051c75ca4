#!/usr/bin/env bash
# Runs all tests of the workspace and ends with one line, the total over all test binaries: cargo itself ends with the
# line of whichever binary came last, usually documentation tests with nothing in them. Called by the Makefile, which
# sets NATS_SERVER and GUESTS_DIR.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

log="$(mktemp)"
trap 'rm -f "$log"' EXIT

# --no-fail-fast: the total is of all tests, also when an early binary fails.
cargo test --workspace --no-fail-fast "$@" 2>&1 | tee "$log"
cargo_status=$?

read -r passed failed < <(awk '/^test result: / { passed += $4; failed += $6 } END { print passed + 0, failed + 0 }' "$log")
if [ "$cargo_status" -ne 0 ] && [ "$failed" -eq 0 ]; then
    echo "cargo test failed before or outside of a test" >&2
fi
echo "$passed passed, $failed failed"
if [ "$cargo_status" -ne 0 ] || [ "$failed" -ne 0 ] || [ "$passed" -eq 0 ]; then exit 1; fi
