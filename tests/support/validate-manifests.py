"""Checks rendered manifests: against the schemas of Kubernetes and of the Prometheus operator, against the rules that
every pod of ours keeps, and those of kustomize against those of Helm. Called by check-deploy.sh.

    validate-manifests.py <schemas of the operator> <rendered manifest>... [--same <manifest> <manifest>]...
    validate-manifests.py --self-test <schemas of the operator> <rendered manifest>
"""

import copy
import pathlib
import re
import sys

import jsonschema
import kubernetes_validate
import yaml

# The oldest with sidecars among the init containers, and the newest that there are schemas of.
KUBERNETES = ["1.29", kubernetes_validate.latest_version()]
README = pathlib.Path(__file__).parents[2] / "README.md"


def variables():
    return set(re.findall(r"^\| `([A-Z0-9_]+)` \|", README.read_text(), re.MULTILINE))


def closed(schema):
    """A schema that takes nothing it does not know, as `kubectl` does with a strict validation."""
    if isinstance(schema, dict):
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            closed(value)
    elif isinstance(schema, list):
        for value in schema:
            closed(value)
    return schema


def operator_schemas(folder):
    schemas = {}
    for file in pathlib.Path(folder).glob("*.yaml"):
        definition = yaml.safe_load(file.read_text())["spec"]
        for version in definition["versions"]:
            schema = closed(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            schemas[f"{definition['group']}/{version['name']}", definition["names"]["kind"]] = schema
    return schemas


def schema_problems(manifest, operator):
    schema = operator.get((manifest["apiVersion"], manifest["kind"]))
    if schema:
        for error in jsonschema.Draft7Validator(schema).iter_errors(manifest):
            yield f"{error.json_path}: {error.message}"
        return
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(part) for part in error.path)
            yield f"Kubernetes {version}: {path}: {error.message}"
        except Exception as error:  # a kind that there is no schema of
            yield f"Kubernetes {version}: {getattr(error, 'message', error)}"


def distributor(manifest):
    """The container, and whether it is a native sidecar."""
    pod = manifest["spec"]["template"]["spec"]
    for place in ("initContainers", "containers"):
        for container in pod.get(place, []):
            if container["name"] == "distributor":
                return container, place == "initContainers"
    return None, False


def seconds(duration):
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|s|m|h)", duration))


def pod_problems(manifest, known_variables):
    pod = manifest["spec"]["template"]["spec"]
    container, is_native = distributor(manifest)
    if container is None:
        yield "there is no container named distributor"
        return
    if pod.get("automountServiceAccountToken") is not False:
        yield "the pod has a service-account token"
    if is_native and container.get("restartPolicy") != "Always":
        yield "an init container without restartPolicy Always ends before the service starts"
    secure = {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    for key, value in secure.items():
        if container.get("securityContext", {}).get(key) != value:
            yield f"securityContext.{key} is not {value}"
    if "memory" not in container["resources"]["limits"] or "memory" not in container["resources"]["requests"]:
        yield "there is no limit or request of memory"
    if "cpu" in container["resources"]["limits"]:
        yield "a CPU limit slows down the start"

    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    if ports != {"admin": 8091}:
        yield f"other ports than the admin port are open: {ports}"
    for probe, path in [("startupProbe", "/startupz"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")]:
        if probe == "readinessProbe" and probe not in container:
            continue
        get = container.get(probe, {}).get("httpGet", {})
        if (get.get("path"), get.get("port")) != (path, "admin"):
            yield f"{probe} does not ask the admin port for {path}"

    environment = {variable["name"]: variable.get("value") for variable in container["env"]}
    if len(environment) != len(container["env"]):
        yield "a variable is set twice"
    for name in environment.keys() - known_variables:
        yield f"{name} is no variable of the README's table"
    if "KEPTN_API_ENDPOINT" not in environment and "PUBSUB_GROUP" not in environment:
        yield "without PUBSUB_GROUP events are lost while no replica runs"
    for name, value in environment.items():
        if re.search(r"TOKEN$|PASSWORD$|SECRET$", name) and value is not None:
            yield f"{name} stands in the manifest"
    pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    needed = pause + seconds(environment["SHUTDOWN_DRAIN_TIMEOUT"]) + 5
    if pod["terminationGracePeriodSeconds"] < needed:
        yield f"terminationGracePeriodSeconds is less than {needed:g}: pause, drain and 5 s"

    mounts = {mount["mountPath"]: mount for mount in container.get("volumeMounts", [])}
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    for path, mount in mounts.items():
        if "subPath" in mount or "subPathExpr" in mount:
            yield f"{path} is mounted with subPath, and would never change"
        if mount["name"] not in volumes:
            yield f"{path} is mounted from {mount['name']}, which is no volume"
        elif "emptyDir" in volumes[mount["name"]] and "sizeLimit" not in volumes[mount["name"]]["emptyDir"]:
            yield f"{mount['name']} has no limit"
    for name in ["PLUGINS_DIR", "PLUGINS_CACHE_DIR", "KEPTN_API_TOKEN_FILE", "DEDUPE_STATE_FILE"]:
        path = environment.get(name)
        if path and not any(path.startswith(mount) for mount in mounts):
            yield f"{name} is in no volume: {path}"


def documents(file):
    return [manifest for manifest in yaml.safe_load_all(pathlib.Path(file).read_text()) if manifest]


def problems(manifests, operator):
    known_variables = variables()
    for manifest in manifests:
        name = f"{manifest.get('kind')} {manifest.get('metadata', {}).get('name')}"
        found = list(schema_problems(manifest, operator))
        if manifest["kind"] == "Deployment" and not found:
            found = list(pod_problems(manifest, known_variables))
        for problem in found:
            yield f"{name}: {problem}"


def comparable(file):
    """What kustomize and Helm have to agree on."""
    (deployment,) = [manifest for manifest in documents(file) if manifest["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    container, is_native = copy.deepcopy(distributor(deployment))
    container.pop("imagePullPolicy", None)
    container["env"].sort(key=lambda variable: variable["name"])
    volumes = copy.deepcopy(pod.get("volumes", []))
    for volume in volumes:
        volume.get("configMap", {}).pop("name", None)
    context, grace = pod["securityContext"], pod["terminationGracePeriodSeconds"]
    return yaml.safe_dump([is_native, container, volumes, context, grace])


def self_test(operator, file):
    """Every rule has to find what it is for."""
    good = documents(file)
    assert not list(problems(good, operator)), "the manifest is not good to begin with"
    (index,) = [index for index, manifest in enumerate(good) if manifest["kind"] == "Deployment"]

    def broken(change, expected):
        manifests = copy.deepcopy(good)
        pod = manifests[index]["spec"]["template"]["spec"]
        change(pod, distributor(manifests[index])[0])
        found = list(problems(manifests, operator))
        assert any(expected in problem for problem in found), f"{expected!r} is not in {found}"

    broken(lambda pod, _: pod.update(restartpolicy="Always"), "restartpolicy")
    broken(lambda pod, _: pod.update(automountServiceAccountToken=True), "service-account token")
    broken(lambda pod, _: pod.update(terminationGracePeriodSeconds=20), "terminationGracePeriodSeconds is less")
    broken(lambda pod, _: pod.update(volumes=[]), "which is no volume")
    broken(lambda _, container: container.pop("restartPolicy"), "ends before the service")
    broken(lambda _, container: container.update(name="other"), "no container named")
    broken(lambda _, container: container["securityContext"].pop("readOnlyRootFilesystem"), "readOnlyRootFilesystem")
    broken(lambda _, container: container["resources"]["limits"].update(cpu="1"), "CPU limit")
    broken(lambda _, container: container["resources"]["limits"].pop("memory"), "memory")
    broken(lambda _, container: container["ports"].append({"name": "proxy", "containerPort": 8081}), "other ports")
    broken(lambda _, container: container.pop("livenessProbe"), "livenessProbe")
    broken(lambda _, container: container["env"].append({"name": "PUBSUB_TOPICS", "value": "a"}), "no variable")
    broken(lambda _, container: container["env"].append({"name": "NATS_TOKEN", "value": "a"}), "stands in the manifest")
    broken(lambda _, container: container["env"].append(container["env"][0]), "set twice")
    broken(lambda _, container: container["volumeMounts"][0].update(subPath="x"), "subPath")
    broken(lambda _, container: container["volumeMounts"].clear(), "in no volume")
    without_group = lambda _, container: container.update(
        env=[variable for variable in container["env"] if variable["name"] != "PUBSUB_GROUP"]
    )
    broken(without_group, "PUBSUB_GROUP")

    monitor = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PodMonitor", "metadata": {"name": "m"}}
    monitor["spec"] = {"selector": {}, "podMetricsEndpoint": []}
    assert any("podMetricsEndpoint" in problem for problem in problems([monitor], operator))
    print("every rule finds what it is for")


def main(arguments):
    if arguments[0] == "--self-test":
        self_test(operator_schemas(arguments[1]), arguments[2])
        return 0
    operator, files, pairs = operator_schemas(arguments[0]), [], []
    rest = iter(arguments[1:])
    for argument in rest:
        if argument == "--same":
            pairs.append((next(rest), next(rest)))
        else:
            files.append(argument)
    found = []
    for file in files:
        found += [f"{pathlib.Path(file).name}: {problem}" for problem in problems(documents(file), operator)]
    for first, second in pairs:
        if comparable(first) != comparable(second):
            found.append(f"{first} and {second} have different distributors:\n{comparable(first)}\n{comparable(second)}")
    for problem in found:
        print(problem, file=sys.stderr)
    count = sum(len(documents(file)) for file in files)
    print(f"{count} manifests in {len(files)} files, Kubernetes {' and '.join(KUBERNETES)}: {len(found)} problems")
    return 1 if found else 0


sys.exit(main(sys.argv[1:]))
