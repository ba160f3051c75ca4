#!/usr/bin/env bash
# Makes the Python client of NATS exist in target/tools/python, with which the quick start of README.md creates a stream and
# publishes; its test types the same commands. Called by the Makefile. Python is here because nats-server comes by way of
# it. The user's own Python stays as it was. A test never skips because something is missing, so this fails.
set -euo pipefail

client=2.16.0
workspace_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
tools_dir="${CARGO_TARGET_DIR:-$workspace_root/target}/tools"
python_dir="$tools_dir/python"

if [ -d "$python_dir/nats_py-$client.dist-info" ]; then
    echo "nats-py: already in $python_dir ($client)"
    exit
fi
mkdir -p "$tools_dir"
unpacked="$(mktemp -d "$tools_dir/unpack.XXXXXX")"
trap 'rm -rf "$unpacked"' EXIT
if ! PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-deps \
    --target "$unpacked/python" "nats-py==$client" 2>"$unpacked/pip.log"; then
    tail -n 3 "$unpacked/pip.log" >&2
    echo "nats-py is missing: pip could not get nats-py $client; unpack its wheel into $python_dir" >&2
    exit 1
fi
# Whole or not at all: a half-finished folder would pass for an installed one.
rm -rf "$python_dir"
mv "$unpacked/python" "$python_dir"
echo "nats-py: installed from PyPI ($client)"
