"""The programs that a cluster's admin uses, as libraries: kustomize, Helm, and the API server's schemas.

Nothing is imitated here. Refuses to judge: what the results must be is for the tests to say.
"""

import functools
import json
import os
import re
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

import helm_python
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
CHART = K8S / "chart" / "smarter-cni"


class Refused(Exception):
    """What an engine said when it did not do what it was asked."""


class CouldNotRun(Exception):
    """An engine that is not there; a test that needs it must not look like one that passed."""


def documents(text):
    """Every object in the text of YAML documents."""
    return [document for document in yaml.safe_load_all(text) if document is not None]


def manifest(name):
    return documents((K8S / name).read_text())


@functools.cache
def _kustomized(directory):
    # A process of its own: two Go runtimes do not belong into one.
    program = Path(__file__).with_name("kustomize.py")
    library = Path(util.find_spec("pykustomize").submodule_search_locations[0]) / "_lib/linux-amd64/libpykustomize.so"
    return _output([sys.executable, str(program), str(library), str(directory)])


def kustomized(directory):
    """The objects that `kubectl apply -k` would send."""
    return documents(_kustomized(directory))


def kubectl():
    """Today's kubectl, which tests/peers/fetch unpacks: not this machine's, which may be of any year or none at all."""
    peers = os.environ.get("SMARTER_CNI_PEERS")
    if not peers:
        raise CouldNotRun("COULD NOT RUN: SMARTER_CNI_PEERS does not say where today's kubectl is; tests/peers/fetch prints it")
    program = Path(peers) / "usr/bin/kubectl"
    if not os.access(program, os.X_OK):
        raise CouldNotRun(f"COULD NOT RUN: SMARTER_CNI_PEERS names a directory without usr/bin/kubectl: {peers}")
    return program


@functools.cache
def kubectl_version():
    """Of kubectl and of the kustomize in it, as (major, minor)."""
    told = json.loads(_output([kubectl(), "version", "--client", "--output", "json"]))
    version = re.match(r"v(\d+)\.(\d+)", told["clientVersion"]["gitVersion"])
    return (int(version[1]), int(version[2])), told["kustomizeVersion"]


@functools.cache
def _kustomized_by_kubectl(directory):
    return _output([kubectl(), "kustomize", str(directory)])


def kustomized_by_kubectl(directory):
    return documents(_kustomized_by_kubectl(directory))


def understood_by_kubectl(obj):
    """An object with pods as kubectl's own types hold it: what these do not know is dropped. `create --dry-run=client` would
    ask a server what there is; `set serviceaccount` needs none, and does no more to a pod than its name says."""
    command = [kubectl(), "set", "serviceaccount", "--local", "-f", "-", "nobody", "-o", "yaml"]
    (understood,) = documents(_output(command, yaml.safe_dump(obj)))
    return understood


def _output(command, stdin=""):
    # No server and nobody's configuration: what kubectl does here it does by itself.
    environment = os.environ | {"KUBECONFIG": "/dev/null", "HOME": "/nonexistent"}
    run = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    if run.returncode != 0:
        raise Refused(run.stderr.strip() or run.stdout.strip())
    return run.stdout


def lint(values=None):
    """What `helm lint --strict` says for the newest Kubernetes, one line per finding."""
    report = helm_python.lint(str(CHART), values, strict=True, kube_version=f"v{newest_kubernetes()}")
    if report["total_charts_linted"] != 1:
        raise Refused(f"Helm did not lint the chart: {report}")
    return [f"{message['path']}: {message['error']}" for message in report["messages"]] + report["errors"]


def rendered_text(values=None, namespace="kube-system"):
    """`helm template`: the text of each template by its name."""
    try:
        with helm_python.Chart.load(str(CHART)) as chart:
            chart.validate_schema(values or {})
            return chart.render(values or {}, name="test", namespace=namespace)
    except helm_python.HelmError as refusal:
        raise Refused(str(refusal)) from refusal


def rendered(values=None, namespace="kube-system"):
    """The objects that `helm install` would send."""
    texts = rendered_text(values, namespace)
    return [obj for name, text in sorted(texts.items()) if not name.endswith("NOTES.txt") for obj in documents(text)]


def notes(values=None):
    return rendered_text(values)["smarter-cni/templates/NOTES.txt"]


def values_of(name):
    """A file of values in the chart's directory."""
    return yaml.safe_load((CHART / name).read_text())


def newest_kubernetes():
    return kubernetes_validate.latest_version()


def against_schema(obj, version=None):
    """What the API server's schema has against an object; unknown fields count. Empty: nothing."""
    try:
        kubernetes_validate.validate(json.loads(json.dumps(obj)), version or newest_kubernetes(), strict=True)
    except kubernetes_validate.ValidationError as error:
        return f"{'.'.join(str(part) for part in error.path)}: {error.message}"
    except kubernetes_validate.SchemaNotFoundError as error:
        return error.message
    return ""


def engine_versions():
    return (
        f"kustomize (library of pykustomize {_installed('pykustomize')}), Helm {helm_python.helm_sdk_version()}, "
        f"schemas of Kubernetes {newest_kubernetes()}"
    )


def _installed(package):
    return metadata.version(package)
