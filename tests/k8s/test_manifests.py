"""What `kubectl apply -f` and `kubectl apply -k` send."""

import copy
import functools
import itertools
import os
import re
import tempfile
import tomllib
import unittest
from concurrent import futures
from pathlib import Path

import engines
import rules

VARIANTS = ("k3s", "microk8s", "yocto", "labelled", "crio")
# Those that differ in the nodes or in the name server alone.
WITH_ALL_OF_THE_HOST = ("labelled", "crio")
DIRECTORIES = {
    "microk8s": ("/var/snap/microk8s/current/opt/cni/bin", "/var/snap/microk8s/current/args/cni-network"),
    "yocto": ("/usr/libexec/cni", "/etc/cni/net.d"),
}
# What every variant must be able to reach: the record of the installation, libcni's cache, state and sockets, and what the
# repair of the network looks at and switches.
ALWAYS = {"/var/lib/smarter-cni", "/var/lib/cni", "/run", "/proc", "/proc/sys/net"}
MANIFESTS = ("smarter.yaml", "smartercni_ds.yaml", "smarterdns_ds.yaml", "uninstall.yaml")
# What is added to a variant, and never applied alone.
COMPONENTS = ("repair-pods", "without-names", "host-network-names")
# Where a runtime has the hostnames of its pods, if it is not containerd's own place.
HOSTNAMES = {
    "k3s": "/var/lib/rancher/k3s/agent/containerd/io.containerd.grpc.v1.cri/sandboxes",
    "microk8s": "/var/snap/microk8s/common/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes",
    "crio": "/run/containers/storage/overlay-containers",
}
CONTAINERD = "/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes"


def plain():
    """Network and names."""
    return engines.manifest("smarter.yaml")


def variant(name):
    return engines.kustomized(engines.K8S / name)


def with_pods_repaired(name, engine):
    return with_component("repair-pods", name, engine)


def with_component(component, name, engine):
    """The variant with the component, as docs/kubernetes.md says it, by one of the engines."""
    with tempfile.TemporaryDirectory() as directory:
        here = Path(os.path.realpath(directory))
        k8s = os.path.relpath(engines.K8S, here)
        (here / "kustomization.yaml").write_text(
            f"resources: [{k8s}/{name}]\ncomponents: [{k8s}/{component}]\n"
        )
        return engine(here)


def one(kind, objects):
    """That of the network."""
    (found,) = (obj for obj in objects if obj["kind"] == kind and not rules.is_the_name_server(obj))
    return found


def of_names(kind, objects):
    """That of the name server."""
    (found,) = (obj for obj in objects if obj["kind"] == kind and rules.is_the_name_server(obj))
    return found


def daemonsets(objects):
    return [obj for obj in objects if obj["kind"] == "DaemonSet"]


def by_identity(objects):
    """In whatever order they came."""
    return {(obj["apiVersion"], obj["kind"], obj["metadata"]["name"]): obj for obj in objects}


def all_sets():
    """Every set of objects that somebody applies, by where it comes from."""
    sets = {name: engines.manifest(name) for name in MANIFESTS}
    return sets | {f"{name}/": variant(name) for name in (".", "base", *VARIANTS)}


class EveryManifest(unittest.TestCase):
    def test_is_valid_for_the_newest_and_the_oldest_known_kubernetes(self):
        for name, objects in all_sets().items():
            self.assertTrue(objects, name)
            for obj in objects:
                for version in (engines.newest_kubernetes(), "1.25.0"):
                    self.assertEqual(engines.against_schema(obj, version), "", f"{name} {obj['kind']} {version}")

    def test_has_objects_that_belong_together(self):
        for name, objects in all_sets().items():
            self.assertEqual(list(rules.do_not_belong_together(objects)), [], name)

    def test_has_pods_that_may_do_what_they_must_and_no_more(self):
        for name, objects in all_sets().items():
            self.assertTrue(daemonsets(objects), name)
            self.assertEqual(list(rules.complaints(objects)), [], name)

    def test_is_in_kube_system(self):
        for name, objects in all_sets().items():
            for obj in objects:
                self.assertEqual(obj["metadata"]["namespace"], "kube-system", name)


class ThePlainManifest(unittest.TestCase):
    def test_is_a_config_map_and_a_daemon_set_for_network_and_for_names(self):
        self.assertEqual([obj["kind"] for obj in plain()], ["ConfigMap", "DaemonSet"] * 2)
        names = [[found(kind, plain())["metadata"]["name"] for kind in ("ConfigMap", "DaemonSet")] for found in (one, of_names)]
        self.assertEqual(names, [["smartercniconfig", "smarter-cni"], ["smarterdnsconfig", "smarter-dns"]])

    def test_is_the_other_two_letter_by_letter(self):
        def without_head(name):
            lines = (engines.K8S / name).read_text().splitlines(keepends=True)
            return "".join(itertools.dropwhile(lambda line: line.startswith("#"), lines))

        network, names = without_head("smartercni_ds.yaml"), without_head("smarterdns_ds.yaml")
        self.assertEqual(without_head("smarter.yaml"), f"{network}---\n{names}", "copy them one after the other")

    def test_has_the_settings_of_smarter_dns(self):
        source = (engines.ROOT / "src/dns/settings.rs").read_text()
        domain = re.search(r'const DOMAIN: &str = "([^"]+)"', source)[1]
        address = re.search(r"ADDRESS: IpAddr = IpAddr::V4\(Ipv4Addr::new\(([^)]+)\)", source)[1].replace(", ", ".")
        self.assertEqual(of_names("ConfigMap", plain())["data"], {
            "CLUSTER_DNS": address, "CLUSTER_DOMAIN": domain, "DNS_LOGGING": "False",
        })

    def test_has_the_default_network_of_the_program(self):
        source = (engines.ROOT / "src/conflist.rs").read_text()
        subnet = re.search(r'pub const SUBNET: &str = "([^"]+)"', source)[1]
        gateway = re.sub(r"0/\d+$", "1", subnet)
        self.assertEqual(one("ConfigMap", plain())["data"], {
            "subnet": subnet, "gateway": gateway, "dns": of_names("ConfigMap", plain())["data"]["CLUSTER_DNS"],
        })

    def test_shows_all_of_the_host(self):
        volumes = rules.pod(one("DaemonSet", plain()))["volumes"]
        self.assertEqual([volume["hostPath"]["path"] for volume in volumes], ["/"])

    def test_is_of_the_version_that_is_built(self):
        version = tomllib.loads((engines.ROOT / "Cargo.toml").read_text())["package"]["version"]
        for name in MANIFESTS:
            for obj in engines.manifest(name):
                self.assertEqual(obj["metadata"]["labels"]["app.kubernetes.io/version"], version, name)
            for container in (container for found in daemonsets(engines.manifest(name)) for container in rules.containers(found)):
                self.assertEqual(container["image"], f"ghcr.io/smarter-project/smarter-cni:{version}", name)

    def test_is_there_for_the_variants_letter_by_letter(self):
        for name in ("smartercni_ds.yaml", "smarterdns_ds.yaml"):
            copied = engines.K8S / "base" / name
            self.assertEqual(copied.read_text(), (engines.K8S / name).read_text(), "copy one over the other")

    def test_is_what_the_kustomizations_without_a_change_make(self):
        for name in (".", "base"):
            self.assertEqual(by_identity(variant(name)), by_identity(plain()), name)

    def test_does_not_select_the_pods_that_uninstall(self):
        labels = one("DaemonSet", engines.manifest("uninstall.yaml"))["spec"]["template"]["metadata"]["labels"]
        for found in (one, of_names):
            selector = found("DaemonSet", plain())["spec"]["selector"]["matchLabels"]
            self.assertFalse(selector.items() <= labels.items())


class Variants(unittest.TestCase):
    def test_every_directory_with_a_kustomization_is_known_here(self):
        found = {path.parent.name for path in engines.K8S.glob("*/kustomization.yaml")}
        self.assertEqual(found, {"base", *VARIANTS, *COMPONENTS})

    def test_differ_from_the_plain_manifest_only_in_directories_and_nodes(self):
        for name in VARIANTS:
            objects = copy.deepcopy(variant(name))
            template = rules.pod(one("DaemonSet", objects))
            original = rules.pod(one("DaemonSet", plain()))
            template["volumes"] = original["volumes"]
            template["nodeSelector"] = original["nodeSelector"]
            for kind in ("initContainers", "containers"):
                template[kind][0]["volumeMounts"] = original[kind][0]["volumeMounts"]
            for key in ("bin_dir", "conf_dir"):
                one("ConfigMap", objects)["data"].pop(key, None)
            template = rules.pod(of_names("DaemonSet", objects))
            original = rules.pod(of_names("DaemonSet", plain()))
            template["volumes"][1] = original["volumes"][1]
            template["nodeSelector"] = original["nodeSelector"]
            template["containers"][0]["volumeMounts"][1] = original["containers"][0]["volumeMounts"][1]
            self.assertEqual(by_identity(objects), by_identity(plain()), name)

    def test_name_the_directories_of_their_runtime(self):
        for name in VARIANTS:
            data = one("ConfigMap", variant(name))["data"]
            self.assertEqual((data.get("bin_dir"), data.get("conf_dir")), DIRECTORIES.get(name, (None, None)), name)

    def test_name_the_hostnames_of_their_runtime(self):
        for name in VARIANTS:
            paths = {volume["hostPath"]["path"] for volume in rules.pod(of_names("DaemonSet", variant(name)))["volumes"]}
            self.assertIn(HOSTNAMES.get(name, CONTAINERD), paths, name)

    def test_can_leave_the_names_away(self):
        for name in (".", *VARIANTS):
            kept = copy.deepcopy([obj for obj in variant(name) if not rules.is_the_name_server(obj)])
            one("ConfigMap", kept)["data"].pop("dns")
            self.assertEqual(by_identity(with_component("without-names", name, engines.kustomized)), by_identity(kept), name)

    def test_can_ask_the_runtime_for_more_names(self):
        for name in (".", *VARIANTS):
            objects = with_component("host-network-names", name, engines.kustomized)
            self.assertEqual(list(rules.complaints(objects)), [], name)
            self.assertEqual(of_names("ConfigMap", objects)["data"].pop("dns-host-network-names"), "true", name)
            spec = rules.pod(of_names("DaemonSet", objects))
            self.assertEqual(spec["volumes"].pop()["hostPath"]["path"], "/run/containerd", name)
            self.assertEqual(rules.last(of_names("DaemonSet", objects))["volumeMounts"].pop()["name"], "runtime", name)
            self.assertEqual(by_identity(objects), by_identity(variant(name)), name)

    def test_mount_what_they_need_and_not_all_of_the_host(self):
        for name in VARIANTS:
            if name in WITH_ALL_OF_THE_HOST:
                continue
            paths = {volume["hostPath"]["path"] for volume in rules.pod(one("DaemonSet", variant(name)))["volumes"]}
            self.assertNotIn("/", paths, name)
            self.assertLessEqual(ALWAYS, paths, name)
            for directory in DIRECTORIES.get(name, ()):
                above = [path for path in paths if f"{directory}/".startswith(f"{path}/")]
                self.assertEqual(len(above), 1, f"{name}: {directory} is in {above}")

    def test_may_look_into_pods_only_with_the_component(self):
        for name in (".", *VARIANTS):
            objects = with_pods_repaired(name, engines.kustomized)
            added = rules.last(one("DaemonSet", objects))["securityContext"]["capabilities"]["add"]
            self.assertEqual(added.pop(), "SYS_ADMIN", name)
            self.assertEqual(by_identity(objects), by_identity(variant(name)), name)

    def test_follow_the_link_of_microk8s_when_it_turns(self):
        paths = {volume["hostPath"]["path"] for volume in rules.pod(one("DaemonSet", variant("microk8s")))["volumes"]}
        self.assertFalse([path for path in paths if "/current" in path], "a volume behind a link stays with its old target")

    def test_let_the_program_find_out_how_k3s_was_started(self):
        paths = {volume["hostPath"]["path"] for volume in rules.pod(one("DaemonSet", variant("k3s")))["volumes"]}
        self.assertEqual(paths - ALWAYS, {
            "/var/lib/rancher/k3s/agent/etc", "/var/lib/rancher/k3s/data", "/opt/cni", "/etc/cni",
        })

    def test_select_labelled_nodes(self):
        for found in daemonsets(variant("labelled")):
            self.assertEqual(rules.pod(found)["nodeSelector"], {"kubernetes.io/os": "linux", "smarter.cni": "enabled"})

    def test_that_cannot_be_built_are_refused(self):
        for missing in (engines.K8S / "no-such-variant", engines.K8S / "chart"):
            with self.assertRaises(engines.Refused):
                engines.kustomized(missing)


@functools.cache
def by_both_engines():
    """Every variant, also with the component: its name, what kubectl makes of it, and what kustomize's library does."""

    def made(name, engine):
        return engine(engines.K8S / name), with_pods_repaired(name, engine)

    names = (".", "base", *VARIANTS)
    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        by_kubectl = [pool.submit(made, name, engines.kustomized_by_kubectl) for name in names]
        by_library = [pool.submit(made, name, engines.kustomized) for name in names]
    together = [
        ((name, f"{name} with repair-pods"), left.result(), right.result())
        for name, left, right in zip(names, by_kubectl, by_library)
    ]
    return [row for labels, left, right in together for row in zip(labels, left, right)]


class TheRealKubectl(unittest.TestCase):
    """What an admin types, in the program that they type it to."""

    def test_is_of_these_years(self):
        version, kustomize = engines.kubectl_version()
        print(f"kubectl {version[0]}.{version[1]} with kustomize {kustomize}", end=" ", flush=True)
        self.assertGreaterEqual(version, (1, 32))

    def test_makes_the_same_of_every_variant_in_the_same_order(self):
        for name, by_kubectl, by_the_library in by_both_engines():
            self.assertTrue(by_kubectl, name)
            self.assertEqual(by_kubectl, by_the_library, name)

    def test_makes_what_the_rules_and_schemas_allow(self):
        for name, objects, _ in by_both_engines():
            for obj in objects:
                self.assertEqual(engines.against_schema(obj), "", f"{name} {obj['kind']}")
            self.assertEqual(list(rules.do_not_belong_together(objects)), [], name)
            if "repair-pods" in name:
                continue  # It is there to add what a rule forbids to all others.
            self.assertEqual(list(rules.complaints(objects)), [], name)

    def test_knows_every_field_of_what_is_applied(self):
        for name, objects in all_sets().items():
            for wanted in daemonsets(objects):
                self.assertEqual(lost(wanted, engines.understood_by_kubectl(wanted)), [], name)

    def test_would_lose_a_field_that_kubernetes_does_not_have(self):
        spoiled = copy.deepcopy(one("DaemonSet", plain()))
        rules.pod(spoiled)["hostNetworks"] = True
        self.assertEqual(lost(spoiled, engines.understood_by_kubectl(spoiled)), ["spec.template.spec.hostNetworks"])

    def test_refuses_what_cannot_be_built(self):
        for missing in (engines.K8S / "no-such-variant", engines.K8S / "chart"):
            with self.assertRaises(engines.Refused):
                engines.kustomized_by_kubectl(missing)


def lost(wanted, understood, path=""):
    """Fields of the first that the second does not have, or not with that value. `set serviceaccount` sets one."""
    if isinstance(wanted, dict) and isinstance(understood, dict):
        fields = (key for key in wanted if key not in ("serviceAccount", "serviceAccountName"))
        return [field for key in fields for field in lost(wanted[key], understood.get(key), f"{path}.{key}".lstrip("."))]
    if isinstance(wanted, list) and isinstance(understood, list) and len(wanted) == len(understood):
        pairs = enumerate(zip(wanted, understood))
        return [field for at, (left, right) in pairs for field in lost(left, right, f"{path}[{at}]")]
    return [] if wanted == understood else [path]


class TheDocumentation(unittest.TestCase):
    PAGES = (engines.ROOT / "docs/kubernetes.md", engines.CHART / "README.md")

    def test_names_only_files_that_are_there(self):
        for page in self.PAGES:
            names = set(re.findall(r"(?<![\w/])k8s/[\w./-]*\w", page.read_text()))
            self.assertTrue(names, page)
            for name in names:
                self.assertTrue((engines.ROOT / name).exists(), f"{page}: {name}")

    def build(self, example):
        with tempfile.TemporaryDirectory() as directory:
            example = example.replace("smarter-cni/k8s/", os.path.relpath(engines.K8S, os.path.realpath(directory)) + "/")
            (Path(directory) / "kustomization.yaml").write_text(example)
            return engines.kustomized(Path(os.path.realpath(directory)))

    def test_has_kustomizations_that_can_be_built(self):
        with_pods, more_names, without_names, combined = re.findall(r"```yaml\n(resources:.*?)```", self.PAGES[0].read_text(), re.DOTALL)
        watch = rules.last(one("DaemonSet", self.build(with_pods)))
        self.assertIn("SYS_ADMIN", watch["securityContext"]["capabilities"]["add"])
        self.assertEqual([obj for obj in self.build(without_names) if rules.is_the_name_server(obj)], [])
        objects = self.build(more_names)
        self.assertEqual(list(rules.complaints(objects)), [])
        volumes = rules.pod(of_names("DaemonSet", objects))["volumes"]
        self.assertEqual(volumes[-1]["hostPath"]["path"], "/run/k3s/containerd")
        objects = self.build(combined)
        self.assertEqual(one("ConfigMap", objects)["data"], {
            "subnet": "10.38.0.0/16", "gateway": "10.38.0.1", "dns": "169.254.0.2",
        })
        spec = rules.pod(one("DaemonSet", objects))
        self.assertEqual(spec["nodeSelector"]["smarter.cni"], "enabled")
        self.assertIn("/opt/cni", [volume["hostPath"]["path"] for volume in spec["volumes"]])
