#!/usr/bin/env bash
# Makes what the files of deploy/ are checked with exist in target/tools: helm and kustomize (from PATH, else as Go
# modules), prometheus with promtool (from PATH, else the package of Debian, unpacked and not installed), the schemas of
# Kubernetes (PyPI) and those of the Prometheus operator (its Go module). Called by the Makefile. A check never skips
# because something is missing, so this fails.
set -euo pipefail

helm=3.22.0
kustomize=5.8.2
kubernetes_validate=1.37.0
prometheus_operator=0.85.0
workspace_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
tools_dir="${CARGO_TARGET_DIR:-$workspace_root/target}/tools"
mkdir -p "$tools_dir"
tools_dir="$(cd "$tools_dir" && pwd)" # go takes no relative GOBIN
unpacked="$(mktemp -d "$tools_dir/unpack.XXXXXX")"
# Modules are read-only.
trap 'chmod -R u+w "$unpacked"; rm -rf "$unpacked"' EXIT

missing() {
    tail -n 3 "$unpacked/log" >&2 2>/dev/null || true
    echo "$1" >&2
    exit 1
}

is_helm() { [[ "$("$1" version --short 2>/dev/null)" == v3.* ]]; }
is_kustomize() { [[ "$("$1" version 2>/dev/null)" =~ v5\.|devel ]]; }
# The oldest that knows the functions in our rules.
is_promtool() { [[ "$("$1" --version 2>&1)" =~ version\ (2\.[4-9][0-9]|[3-9]\.) ]]; }
is_prometheus() { is_promtool "$1"; }

from_go() { # name, module with its version
    if "is_$1" "$tools_dir/$1"; then
        echo "$1: already in $tools_dir"
        return
    fi
    rm -f "$tools_dir/$1"
    local found
    if found="$(command -v "$1")" && "is_$1" "$found"; then
        ln -s "$found" "$tools_dir/$1"
        echo "$1: linked from $found"
        return
    fi
    command -v go >/dev/null && GOBIN="$unpacked" GOFLAGS=-modcacherw go install -ldflags '-s -w' "$2" >"$unpacked/log" 2>&1 ||
        missing "$1 is missing: go could not get $2; put it on PATH, or at $tools_dir/$1"
    mv "$unpacked/$1" "$tools_dir/$1"
    echo "$1: installed from go (${2##*@})"
}

from_debian() { # package, its programs in /usr/bin
    local package="$1" program found missing_one=""
    shift
    for program in "$@"; do
        if "is_$program" "$tools_dir/$program"; then continue; fi
        rm -f "$tools_dir/$program"
        if found="$(command -v "$program")" && "is_$program" "$found"; then
            ln -s "$found" "$tools_dir/$program"
        else
            missing_one="$program"
        fi
    done
    if [ -z "$missing_one" ]; then
        echo "$package: already in $tools_dir"
        return
    fi
    (
        cd "$unpacked"
        # A fresh machine has no list of packages yet; only root may fetch it.
        apt-get download -qq "$package" || { apt-get update -qq && apt-get download -qq "$package"; }
        dpkg-deb -x "$package"_*.deb .
    ) >"$unpacked/log" 2>&1 || missing "$missing_one is missing: apt-get could not get $package; put it on PATH, or at $tools_dir/$missing_one"
    for program in "$@"; do
        [ -x "$tools_dir/$program" ] || mv "$unpacked/usr/bin/$program" "$tools_dir/$program"
    done
    echo "$package: installed from Debian"
}

kubernetes_schemas() {
    local folder="$tools_dir/kubernetes-validate"
    if [ -d "$folder/kubernetes_validate-$kubernetes_validate.dist-info" ]; then
        echo "kubernetes-validate: already in $folder ($kubernetes_validate)"
        return
    fi
    PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check \
        --target "$unpacked/python" "kubernetes-validate==$kubernetes_validate" 2>"$unpacked/log" ||
        missing "kubernetes-validate is missing: pip could not get $kubernetes_validate; install it into $folder"
    # Whole or not at all: a half-finished folder would pass for an installed one.
    rm -rf "$folder"
    mv "$unpacked/python" "$folder"
    echo "kubernetes-validate: installed from PyPI ($kubernetes_validate)"
}

operator_schemas() {
    local folder="$tools_dir/prometheus-operator-$prometheus_operator" module="github.com/prometheus-operator/prometheus-operator" kind cached
    if [ -d "$folder" ]; then
        echo "prometheus-operator: already in $folder"
        return
    fi
    cached="$(cd "$unpacked" && GOFLAGS=-modcacherw go mod download -json "$module@v$prometheus_operator" 2>"$unpacked/log" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')" && [ -n "$cached" ] ||
        missing "the schemas of the Prometheus operator are missing: go could not get $module@v$prometheus_operator"
    mkdir "$unpacked/schemas"
    for kind in podmonitors prometheusrules; do
        cp "$cached/example/prometheus-operator-crd/monitoring.coreos.com_$kind.yaml" "$unpacked/schemas"
    done
    mv "$unpacked/schemas" "$folder"
    echo "prometheus-operator: schemas from go (v$prometheus_operator)"
}

from_go helm "helm.sh/helm/v3/cmd/helm@v$helm"
from_go kustomize "sigs.k8s.io/kustomize/kustomize/v5@v$kustomize"
from_debian prometheus prometheus promtool
kubernetes_schemas
operator_schemas
