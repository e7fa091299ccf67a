"""What must be true for every pod of ours, one rule per sentence, and for each rule ways to break it.

A rule is a function from a DaemonSet to complaints; it is tried on DaemonSets that are spoiled on purpose, because a check that
cannot fail is none. Pure: no files, no engines.
"""

import re
from dataclasses import dataclass
from typing import Callable

# What each program may do beyond what every process may. Everything is dropped first.
CAPABILITIES = {
    "install": [],
    "install --watch": ["NET_ADMIN", "SYS_CHROOT"],
    "uninstall --wait": ["NET_ADMIN", "NET_RAW", "SYS_CHROOT"],
    "uninstall --stay": ["NET_ADMIN", "NET_RAW", "SYS_CHROOT"],
    "dns": ["NET_BIND_SERVICE"],
}
# The one that stays follows what the host mounts and unmounts; the one that ends also starts where / is private.
PROPAGATION = {
    "dns": None,
    "install": None,
    "install --watch": "HostToContainer",
    "uninstall --wait": None,
    "uninstall --stay": "HostToContainer",
}
# CRI-O refuses less (cri-o/cri-o#1722, containers/nri-plugins#805), and runc copies itself into the account.
LEAST_MEMORY = 24 << 20
MOST_MEMORY = 64 << 20
# Host path → further places below /host.
LINKED = {"/run": ["/var/run"]}
# What only the repair of the network needs; and of that, what it must not write to. Whoever can write to all of /proc/sys
# needs no capability to become root of the host.
FOR_THE_WATCH = {"/proc", "/proc/sys/net"}
TO_READ = {"/proc"}
# Where the plugins are elsewhere, /opt is there for a link of the host's that leads to them.
PLUGINS_ELSEWHERE, LINK_TO_PLUGINS = "/usr/libexec/cni", "/opt"
# What the name server reads, each at its own place: which servers the uplinks brought, and the hostnames of pods, which one
# runtime or another keeps. It writes a socket beside the records.
RECORDS = "/run/smarter-cni"
UPSTREAMS = {"/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf"}
HOSTNAMES = {
    "/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes",
    "/var/lib/rancher/k3s/agent/containerd/io.containerd.grpc.v1.cri/sandboxes",
    "/var/snap/microk8s/common/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes",
    "/run/containers/storage/overlay-containers",
}
# And where somebody wants more names, that of a runtime's socket.
RUNTIMES = {"/run/containerd", "/run/k3s/containerd", "/var/snap/microk8s/common/run", "/var/run/crio", "/run/crio"}


@dataclass(frozen=True)
class Rule:
    sentence: str
    complaints: Callable
    spoilers: tuple


def pod(daemonset):
    return daemonset["spec"]["template"]["spec"]


def containers(daemonset):
    return pod(daemonset).get("initContainers", []) + pod(daemonset)["containers"]


def first(daemonset):
    return containers(daemonset)[0]


def last(daemonset):
    return containers(daemonset)[-1]


def program(container):
    """`install`, `install --watch`…: what the container runs, apart from where."""
    words = container.get("command", [])[1:] + container.get("args", [])
    return " ".join(word for word in words if word not in ("--root", "/host"))


def quantity(text):
    """Bytes, or thousandths of a CPU as they come."""
    number, unit = re.fullmatch(r"([0-9.]+)(\w*)", str(text)).groups()
    return float(number) * {"": 1, "m": 0.001, "k": 1e3, "M": 1e6, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}[unit]


def of_each_container(find):
    def complaints(daemonset):
        for container in containers(daemonset):
            for complaint in find(container):
                yield f"{container['name']}: {complaint}"

    return complaints


def is_exactly(wanted, *path):
    """The value at the path within a container's securityContext."""

    def find(container):
        found = container.get("securityContext", {})
        for part in path:
            found = (found or {}).get(part)
        if found != wanted or isinstance(found, bool) != isinstance(wanted, bool):
            yield f"securityContext.{'.'.join(path)} is {found!r}, not {wanted!r}"

    return of_each_container(find)


def pod_is(wanted, field):
    def complaints(daemonset):
        found = pod(daemonset).get(field)
        if found != wanted:
            yield f"{field} is {found!r}, not {wanted!r}"

    return complaints


def spoil_security(*path, value, which=last):
    """Sets a value within a securityContext; None removes it."""

    def spoil(daemonset):
        at = which(daemonset)["securityContext"]
        for part in path[:-1]:
            at = at.setdefault(part, {})
        if value is None:
            del at[path[-1]]
        else:
            at[path[-1]] = value

    return spoil


def spoil_pod(field, value):
    return lambda daemonset: pod(daemonset).update({field: value})


def drop_from_pod(field):
    return lambda daemonset: pod(daemonset).pop(field)


def spoil_container(field, value, which=last):
    return lambda daemonset: which(daemonset).update({field: value})


def drop_from_container(field, which=last):
    return lambda daemonset: which(daemonset).pop(field)


def capabilities(container):
    have = container.get("securityContext", {}).get("capabilities", {})
    if have.get("drop") != ["ALL"]:
        yield f"drops {have.get('drop')}, not ALL"
    wanted = CAPABILITIES.get(program(container))
    if wanted is None:
        yield f"runs {program(container)!r}, which nobody knows"
    elif have.get("add", []) != wanted:
        yield f"adds {have.get('add', [])}, not {wanted}"


def runs_our_program(daemonset):
    programs = [program(container) for container in containers(daemonset)]
    if programs not in (["install", "install --watch"], ["uninstall --wait", "uninstall --stay"]):
        yield f"runs {programs}"
    if len(pod(daemonset).get("initContainers", [])) != 1:
        yield "the one that ends is not the init container"
    for container in containers(daemonset):
        if container.get("command", [])[:1] != ["/smarter-cni"]:
            yield f"{container['name']}: starts {container.get('command')}"
        if container.get("args", [])[-2:] != ["--root", "/host"]:
            yield f"{container['name']}: does not work below /host"


def reads_settings(container):
    if container.get("env"):
        yield "has settings beside the ConfigMap"
    references = [sorted(source) for source in container.get("envFrom", [])]
    if references != ([] if program(container).startswith("uninstall") else [["configMapRef"]]):
        yield f"takes its environment from {references}"


def images(container):
    image = container.get("image", "")
    tag = re.fullmatch(r"[^@]*:([\w.-]+)(@sha256:[0-9a-f]{64})?", image)
    if not tag or tag[1] == "latest":
        yield f"{image} may be another image tomorrow"
    if container.get("imagePullPolicy") != "IfNotPresent":
        yield "asks the registry although the image is there"


def resources(container):
    have = container.get("resources", {})
    limit = quantity(have.get("limits", {}).get("memory", 0))
    if not LEAST_MEMORY <= limit <= MOST_MEMORY:
        yield f"a memory limit of {limit:.0f} bytes"
    if "cpu" in have.get("limits", {}):
        yield "a CPU limit, which some kernels do not have"
    for name in ("cpu", "memory"):
        request = quantity(have.get("requests", {}).get(name, 0))
        if request <= 0:
            yield f"requests no {name}"
        if name in have.get("limits", {}) and request > quantity(have["limits"][name]):
            yield f"requests more {name} than its limit"


def unattended(container):
    for field in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe", "ports", "volumeDevices", "stdin", "tty"):
        if field in container:
            yield f"has {field}"


def mounts(daemonset):
    volumes = {volume["name"]: volume for volume in pod(daemonset).get("volumes", [])}
    if len(volumes) != len(pod(daemonset).get("volumes", [])):
        yield "two volumes have one name"
    for name, volume in volumes.items():
        if sorted(volume) != ["hostPath", "name"]:
            yield f"volume {name} is {sorted(volume)}"
        elif volume["hostPath"].get("type") not in ("Directory", "DirectoryOrCreate"):
            yield f"volume {name} is of type {volume['hostPath'].get('type')}"
    paths = {volume.get("hostPath", {}).get("path") for volume in volumes.values()}
    to_read = TO_READ | ({LINK_TO_PLUGINS} if PLUGINS_ELSEWHERE in paths else set())
    for container in containers(daemonset):
        wanted = set()
        for name, volume in volumes.items():
            path = volume.get("hostPath", {}).get("path", "")
            if path in FOR_THE_WATCH and program(container) != "install --watch":
                continue
            wanted |= {(name, ("/host" + at).rstrip("/")) for at in [path, *LINKED.get(path, [])]}
        found = [(mount["name"], mount["mountPath"]) for mount in container.get("volumeMounts", [])]
        if len(set(found)) != len(found) or set(found) != wanted:
            yield f"{container['name']}: mounts {sorted(set(found) ^ wanted)} do not show the host as it is"
        for mount in container.get("volumeMounts", []):
            if mount.get("mountPropagation") != PROPAGATION.get(program(container)):
                yield f"{container['name']}: {mount['mountPath']} has propagation {mount.get('mountPropagation')}"
            path = volumes.get(mount["name"], {}).get("hostPath", {}).get("path")
            if mount.get("readOnly", False) != (path in to_read):
                yield f"{container['name']}: {mount['mountPath']} has readOnly {mount.get('readOnly')}"
            if set(mount) - {"name", "mountPath", "mountPropagation", "readOnly"}:
                yield f"{container['name']}: {mount['mountPath']} has {sorted(mount)}"


def runs_the_name_server(daemonset):
    programs = [program(container) for container in containers(daemonset)]
    if programs != ["dns"] or pod(daemonset).get("initContainers"):
        yield f"runs {programs}"
    if last(daemonset).get("command", [])[:1] != ["/smarter-cni"]:
        yield f"starts {last(daemonset).get('command')}"


def asks_itself(container):
    probe = container.get("readinessProbe", {})
    words = probe.get("exec", {}).get("command", [])
    if words[:3] != ["/smarter-cni", "dns", "--query"]:
        yield f"is ready when {words} says so"
    # The query itself waits 3 seconds.
    if probe.get("timeoutSeconds", 1) < 4:
        yield "is given up before it can have failed"
    for field in ("lifecycle", "livenessProbe", "startupProbe", "ports", "volumeDevices", "stdin", "tty"):
        if field in container:
            yield f"has {field}"


def sees_what_it_reads(daemonset):
    volumes = {volume["name"]: volume.get("hostPath", {}) for volume in pod(daemonset).get("volumes", [])}
    if len(volumes) != len(pod(daemonset).get("volumes", [])):
        yield "two volumes have one name"
    paths = {path.get("path") for path in volumes.values()}
    if paths - HOSTNAMES - RUNTIMES != {RECORDS, *UPSTREAMS} or len(paths & HOSTNAMES) != 1 or len(paths & RUNTIMES) > 1:
        yield f"sees {sorted(map(str, paths))}"
    for name, path in volumes.items():
        # None of them has to be there before the first pod is.
        if path.get("type") != "DirectoryOrCreate":
            yield f"volume {name} is of type {path.get('type')}"
    found = {mount["name"]: mount for mount in last(daemonset).get("volumeMounts", [])}
    if set(found) != set(volumes) or len(found) != len(last(daemonset).get("volumeMounts", [])):
        yield f"mounts {sorted(found)}"
    for name, mount in found.items():
        path = volumes.get(name, {}).get("path")
        if mount.get("mountPath") != path:
            yield f"{path} is at {mount.get('mountPath')}"
        if mount.get("readOnly", False) != (path != RECORDS):
            yield f"{path} has readOnly {mount.get('readOnly')}"
        # File systems of containers are mounted there, which must not stay when they end.
        if mount.get("mountPropagation") != ("HostToContainer" if path in RUNTIMES else None):
            yield f"{path} has propagation {mount.get('mountPropagation')}"
        if set(mount) - {"name", "mountPath", "readOnly", "mountPropagation"}:
            yield f"{path} has {sorted(mount)}"


def see_a_runtime(daemonset, path, **mount):
    pod(daemonset)["volumes"].append({"name": "runtime", "hostPath": {"path": path, "type": "DirectoryOrCreate"}})
    last(daemonset)["volumeMounts"].append({"name": "runtime", "mountPath": path, **mount})


def hands_over(daemonset):
    wanted = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}}
    if daemonset["spec"].get("updateStrategy") != wanted:
        yield f"updates as {daemonset['spec'].get('updateStrategy')}"


def show(daemonset, path, which):
    """Mounts one more directory in one container, to be written to."""
    pod(daemonset)["volumes"].append({"name": "more", "hostPath": {"path": path, "type": "Directory"}})
    mount = {"name": "more", "mountPath": f"/host{path}"}
    if PROPAGATION[program(which(daemonset))]:
        mount["mountPropagation"] = PROPAGATION[program(which(daemonset))]
    which(daemonset)["volumeMounts"].append(mount)


def tolerations(daemonset):
    if {"operator": "Exists"} not in pod(daemonset).get("tolerations", []):
        yield f"tolerates only {pod(daemonset).get('tolerations')}"


def runs_on_linux(daemonset):
    if pod(daemonset).get("nodeSelector", {}).get("kubernetes.io/os") != "linux":
        yield "may be sent to a Windows node"


def has_no_identity(daemonset):
    if pod(daemonset).get("automountServiceAccountToken") is not False:
        yield "gets a token"
    for field in ("serviceAccountName", "serviceAccount"):
        if field in pod(daemonset):
            yield f"has {field}"


def shares_only_the_network(daemonset):
    if pod(daemonset).get("hostNetwork") is not True:
        yield "does not see the node's network"
    for field in ("hostPID", "hostIPC", "shareProcessNamespace"):
        if pod(daemonset).get(field):
            yield f"has {field}"


def ends_quickly(daemonset):
    if not 1 <= pod(daemonset).get("terminationGracePeriodSeconds", 30) <= 10:
        yield "may hold up a node for longer than ten seconds"


def updates(daemonset):
    wanted = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}}
    if daemonset["spec"].get("updateStrategy") != wanted:
        yield f"updates as {daemonset['spec'].get('updateStrategy')}"


def selector(daemonset):
    wanted = {"k8s-app": daemonset["metadata"]["name"]}
    if daemonset["spec"]["selector"] != {"matchLabels": wanted}:
        yield f"selects {daemonset['spec']['selector']}, not {wanted}"
    labels = daemonset["spec"]["template"]["metadata"]["labels"]
    if not wanted.items() <= labels.items():
        yield f"its pods have {labels}"


# Of every pod.
COMMON = (
    Rule("no container is privileged", is_exactly(False, "privileged"), (
        spoil_security("privileged", value=True),
        spoil_security("privileged", value=True, which=first),
        spoil_security("privileged", value=None),
    )),
    Rule("nothing a container executes gains rights", is_exactly(False, "allowPrivilegeEscalation"), (
        spoil_security("allowPrivilegeEscalation", value=True),
        spoil_security("allowPrivilegeEscalation", value=None, which=first),
    )),
    Rule("capabilities are those of the table", of_each_container(capabilities), (
        spoil_security("capabilities", "add", value=["SYS_ADMIN"]),
        spoil_security("capabilities", "add", value=["NET_ADMIN"], which=first),
        spoil_security("capabilities", "add", value=["SYS_MODULE"], which=first),
        spoil_security("capabilities", "drop", value=["NET_RAW"]),
        spoil_security("capabilities", value=None),
        spoil_container("args", ["--other", "--root", "/host"]),
    )),
    Rule("the root of a container is read-only", is_exactly(True, "readOnlyRootFilesystem"), (
        spoil_security("readOnlyRootFilesystem", value=False),
        spoil_security("readOnlyRootFilesystem", value=None, which=first),
    )),
    Rule("they run as root, who owns the host's directories", is_exactly(0, "runAsUser"), (
        spoil_security("runAsUser", value=65534),
        spoil_security("runAsUser", value=None, which=first),
    )),
    Rule("they run as root's group", is_exactly(0, "runAsGroup"), (spoil_security("runAsGroup", value=1),)),
    Rule("the runtime's seccomp profile is in force", is_exactly({"type": "RuntimeDefault"}, "seccompProfile"), (
        spoil_security("seccompProfile", "type", value="Unconfined"),
        spoil_security("seccompProfile", value=None, which=first),
    )),
    Rule("SELinux lets them write the host's files", is_exactly({"type": "spc_t", "level": "s0"}, "seLinuxOptions"), (
        spoil_security("seLinuxOptions", value=None),
    )),
    Rule("/proc is masked as usual", is_exactly(None, "procMount"), (spoil_security("procMount", value="Unmasked"),)),
    Rule("the pod does not say otherwise for its containers", pod_is(None, "securityContext"), (
        spoil_pod("securityContext", {"runAsUser": 0}),
    )),
    Rule("there is no service account and no token", has_no_identity, (
        spoil_pod("automountServiceAccountToken", True),
        drop_from_pod("automountServiceAccountToken"),
        spoil_pod("serviceAccountName", "admin"),
    )),
    Rule("no names of services are put into the environment", pod_is(False, "enableServiceLinks"), (
        spoil_pod("enableServiceLinks", True),
        drop_from_pod("enableServiceLinks"),
    )),
    Rule("they share the host's network and nothing else", shares_only_the_network, (
        spoil_pod("hostNetwork", False),
        drop_from_pod("hostNetwork"),
        spoil_pod("hostPID", True),
        spoil_pod("hostIPC", True),
    )),
    Rule("they need no cluster DNS", pod_is("Default", "dnsPolicy"), (
        spoil_pod("dnsPolicy", "ClusterFirstWithHostNet"),
        drop_from_pod("dnsPolicy"),
    )),
    Rule("they start on nodes that are not ready", tolerations, (
        spoil_pod("tolerations", [{"operator": "Exists", "effect": "NoSchedule"}]),
        drop_from_pod("tolerations"),
    )),
    Rule("they are evicted last", pod_is("system-node-critical", "priorityClassName"), (
        spoil_pod("priorityClassName", "system-cluster-critical"),
        drop_from_pod("priorityClassName"),
    )),
    Rule("they run on Linux", runs_on_linux, (spoil_pod("nodeSelector", {}),)),
    Rule("they end soon", ends_quickly, (
        spoil_pod("terminationGracePeriodSeconds", 0),
        drop_from_pod("terminationGracePeriodSeconds"),
    )),
    Rule("settings come from the ConfigMap alone", of_each_container(reads_settings), (
        spoil_container("env", [{"name": "subnet", "value": "10.0.0.0/8"}]),
        spoil_container("envFrom", [{"secretRef": {"name": "x"}}]),
    )),
    Rule("images are named by version and fetched once", of_each_container(images), (
        spoil_container("image", "ghcr.io/smarter-project/smarter-cni"),
        spoil_container("image", "ghcr.io/smarter-project/smarter-cni:latest", which=first),
        spoil_container("imagePullPolicy", "Always"),
        drop_from_container("imagePullPolicy", which=first),
    )),
    Rule("they ask for little, and memory is limited", of_each_container(resources), (
        drop_from_container("resources"),
        spoil_container("resources", {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "8Mi"}}, which=first),
        spoil_container("resources", {"requests": {"cpu": "10m", "memory": "48Mi"}, "limits": {"memory": "32Mi"}}),
        spoil_container("resources", {"requests": {"cpu": "1m"}, "limits": {"memory": "32Mi"}}),
        spoil_container("resources", {"requests": {"cpu": "1m", "memory": "16Mi"}, "limits": {"memory": "32Mi", "cpu": "1"}}),
        spoil_container("resources", {"requests": {"cpu": "1m", "memory": "16Mi"}, "limits": {"memory": "2Gi"}}),
    )),
    Rule("the selector is that of Arm's DaemonSet", selector, (
        lambda daemonset: daemonset["spec"]["selector"]["matchLabels"].update({"app": "x"}),
        lambda daemonset: daemonset["spec"]["template"]["metadata"]["labels"].pop("k8s-app"),
    )),
)
# Of those that put the network on a node, and of those that take it away.
RULES = COMMON + (
    Rule("first our program does its work, then our program stays", runs_our_program, (
        spoil_container("command", ["/bin/sh"]),
        spoil_container("args", ["--watch"]),
        spoil_container("args", ["--root", "/host"]),
        drop_from_container("command", which=first),
        drop_from_pod("initContainers"),
    )),
    Rule("nothing happens when they stop, nobody asks them anything", of_each_container(unattended), (
        spoil_container("lifecycle", {"preStop": {"exec": {"command": ["/uninstall.sh"]}}}),
        spoil_container("livenessProbe", {"exec": {"command": ["/smarter-cni"]}}),
        spoil_container("ports", [{"containerPort": 1}]),
    )),
    Rule("directories of the host are below /host where the host has them", mounts, (
        lambda daemonset: pod(daemonset)["volumes"].append({"name": "unused", "hostPath": {"path": "/x", "type": "Directory"}}),
        lambda daemonset: pod(daemonset)["volumes"].append({"name": "tmp", "emptyDir": {}}),
        lambda daemonset: pod(daemonset)["volumes"].append(pod(daemonset)["volumes"][0]),
        lambda daemonset: pod(daemonset)["volumes"][0]["hostPath"].update({"type": "Socket"}),
        lambda daemonset: pod(daemonset)["volumes"][0]["hostPath"].pop("type"),
        lambda daemonset: last(daemonset)["volumeMounts"][0].update({"mountPath": "/mnt"}),
        lambda daemonset: last(daemonset)["volumeMounts"][0].update({"mountPropagation": "Bidirectional"}),
        lambda daemonset: last(daemonset)["volumeMounts"][0].pop("mountPropagation"),
        lambda daemonset: first(daemonset)["volumeMounts"][0].update({"subPath": "etc"}),
        lambda daemonset: first(daemonset)["volumeMounts"].pop(),
        lambda daemonset: first(daemonset)["volumeMounts"][0].update({"readOnly": True}),
        lambda daemonset: show(daemonset, "/proc", last),
        lambda daemonset: show(daemonset, "/proc/sys/net", first),
    )),
    Rule("nodes that are offline hold up nobody's update", updates, (
        lambda daemonset: daemonset["spec"].pop("updateStrategy"),
        lambda daemonset: daemonset["spec"]["updateStrategy"]["rollingUpdate"].update({"maxUnavailable": "10%"}),
        lambda daemonset: daemonset["spec"]["updateStrategy"]["rollingUpdate"].update({"maxSurge": 1}),
    )),
)
# Of the name server.
NAME_RULES = COMMON + (
    Rule("the name server runs and nothing else", runs_the_name_server, (
        spoil_container("command", ["/smarter-cni", "install"]),
        spoil_container("command", ["/bin/sh", "dns"]),
        drop_from_container("command"),
        lambda daemonset: pod(daemonset).update({"initContainers": [dict(last(daemonset))]}),
    )),
    Rule("it is ready when it answers, and nothing ends it", of_each_container(asks_itself), (
        drop_from_container("readinessProbe"),
        lambda daemonset: last(daemonset)["readinessProbe"].update({"exec": {"command": ["/smarter-cni", "--version"]}}),
        lambda daemonset: last(daemonset)["readinessProbe"].update({"timeoutSeconds": 1}),
        spoil_container("livenessProbe", {"exec": {"command": ["/smarter-cni"]}}),
        spoil_container("lifecycle", {"preStop": {"exec": {"command": ["/smarter-cni"]}}}),
        spoil_container("ports", [{"containerPort": 53}]),
    )),
    Rule("it sees what it reads and nothing else", sees_what_it_reads, (
        lambda daemonset: pod(daemonset)["volumes"].append({"name": "unused", "hostPath": {"path": "/x", "type": "Directory"}}),
        lambda daemonset: pod(daemonset)["volumes"].append({"name": "tmp", "emptyDir": {}}),
        lambda daemonset: pod(daemonset)["volumes"].append(pod(daemonset)["volumes"][0]),
        lambda daemonset: pod(daemonset)["volumes"].pop(),
        lambda daemonset: pod(daemonset)["volumes"][0]["hostPath"].update({"type": "Directory"}),
        lambda daemonset: pod(daemonset)["volumes"][0]["hostPath"].update({"path": "/run"}),
        lambda daemonset: pod(daemonset)["volumes"][1]["hostPath"].update({"path": "/var/lib/kubelet/pods"}),
        lambda daemonset: last(daemonset)["volumeMounts"][0].update({"mountPath": "/records"}),
        lambda daemonset: last(daemonset)["volumeMounts"][0].update({"readOnly": True}),
        lambda daemonset: last(daemonset)["volumeMounts"][1].pop("readOnly"),
        lambda daemonset: last(daemonset)["volumeMounts"][1].update({"subPath": "x"}),
        lambda daemonset: last(daemonset)["volumeMounts"][1].update({"mountPropagation": "HostToContainer"}),
        lambda daemonset: see_a_runtime(daemonset, "/run/docker", readOnly=True, mountPropagation="HostToContainer"),
        lambda daemonset: see_a_runtime(daemonset, "/run/containerd", mountPropagation="HostToContainer"),
        lambda daemonset: see_a_runtime(daemonset, "/run/containerd", readOnly=True),
        lambda daemonset: last(daemonset)["volumeMounts"].pop(),
    )),
    Rule("the new one takes over before the old one ends", hands_over, (
        lambda daemonset: daemonset["spec"].pop("updateStrategy"),
        lambda daemonset: daemonset["spec"]["updateStrategy"]["rollingUpdate"].pop("maxSurge"),
        lambda daemonset: daemonset["spec"]["updateStrategy"]["rollingUpdate"].update({"maxUnavailable": 1}),
    )),
)


def is_the_name_server(obj):
    return obj["metadata"].get("labels", {}).get("app.kubernetes.io/component") == "name-server"


def rules_of(daemonset):
    return NAME_RULES if is_the_name_server(daemonset) else RULES


def complaints(objects):
    """What the rules have against all DaemonSets of a set of objects, with the rule."""
    for obj in objects:
        if obj["kind"] == "DaemonSet":
            for rule in rules_of(obj):
                yield from (f"{obj['metadata']['name']}: {rule.sentence}: {said}" for said in rule.complaints(obj))


NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


def do_not_belong_together(objects):
    """What the API server, or a pod that waits for ever, would have against a set of objects that each are valid."""
    identities = [(obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]) for obj in objects]
    if len(set(identities)) != len(identities):
        yield f"one object twice: {identities}"
    for kind, namespace, name in identities:
        if not namespace or not NAME.fullmatch(name):
            yield f"{kind} {namespace}/{name} is no name of an object"
    for obj in objects:
        metadata = [obj["metadata"]]
        if obj["kind"] == "DaemonSet":
            metadata.append(obj["spec"]["template"]["metadata"])
            yield from _references(obj, identities)
        for labels in (data.get("labels", {}) for data in metadata):
            yield from (f"{value!r} is no value of a label" for value in labels.values() if not LABEL_VALUE.fullmatch(value))


def _references(daemonset, identities):
    namespace = daemonset["metadata"]["namespace"]
    names = [container["name"] for container in containers(daemonset)]
    if len(set(names)) != len(names) or not all(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) for name in names):
        yield f"containers are named {names}"
    for container in containers(daemonset):
        for source in container.get("envFrom", []):
            wanted = ("ConfigMap", namespace, source.get("configMapRef", {}).get("name"))
            if wanted not in identities:
                yield f"{container['name']} waits for {wanted}"
