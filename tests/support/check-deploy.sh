#!/usr/bin/env bash
# Renders what is in deploy/ with kustomize and Helm and checks it. What comes out stays in target/deploy, to be looked
# at. Called by the Makefile, after install-deploy-tools.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

target="${CARGO_TARGET_DIR:-target}"
tools="$target/tools" rendered="$target/deploy"
schemas="$(echo "$tools"/prometheus-operator-*)"
# What the chart is checked as if for; Helm compiled from source takes itself for a very old one.
kubernetes=1.29.0
rm -rf "$rendered"
mkdir -p "$rendered"

quietly() { # says something only when it fails
    local output
    output="$("$@" 2>&1)" || { echo "$output" >&2; return 1; }
}

for overlay in deploy/kustomize/overlays/*/; do
    "$tools/kustomize" build "$overlay" >"$rendered/kustomize-$(basename "$overlay").yaml"
done
for values in deploy/helm/ci/*.yaml; do
    quietly "$tools/helm" lint --strict --kube-version "$kubernetes" deploy/helm --values "$values"
    # Rules and dashboard are links to where kustomize finds them, which Helm remarks on every time.
    "$tools/helm" template my-service deploy/helm --kube-version "$kubernetes" --values "$values" \
        2> >(grep -v 'found symbolic link' >&2) >"$rendered/helm-$(basename "$values")"
done

# What promtool takes is in the PrometheusRule, two columns to the right.
sed "1,/^spec:/d; s/^  //" deploy/monitoring/prometheus-rule.yaml >"$rendered/rules.yaml"
cp deploy/monitoring/prometheus-rule.test.yaml "$rendered/rules.test.yaml"
quietly "$tools/promtool" check rules "$rendered/rules.yaml"
quietly "$tools/promtool" test rules "$rendered/rules.test.yaml"

for alert in $(sed -n 's/.*- alert: //p' deploy/monitoring/prometheus-rule.yaml); do
    grep --quiet "^### $alert\$" deploy/README.md || { echo "deploy/README.md has no section $alert" >&2; exit 1; }
done

validate() { PYTHONPATH="$tools/kubernetes-validate" python3 tests/support/validate-manifests.py "$@"; }
validate --self-test "$schemas" "$rendered/kustomize-plugins.yaml"
same=()
for values in native:native-sidecar classic:classic-sidecar remote-plane:remote-plane plugins:plugins; do
    same+=(--same "$rendered/helm-${values%:*}.yaml" "$rendered/kustomize-${values#*:}.yaml")
done
validate "$schemas" "$rendered"/{helm,kustomize}-*.yaml "${same[@]}"
