"""What `helm install` sends."""

import copy
import json
import os
import re
import subprocess
import tomllib
import unittest

import engines
import rules
from test_manifests import by_identity, daemonsets, of_names, one, plain, variant, with_component

# As in charts/smarter-cni of Arm's repository, version 0.0.4.
OLD_VALUES = {
    "application": {"appName": "smarter-cni", "configMapName": "smarter-cni-config"},
    "image": {"repository": "ghcr.io/smarter-project/smarter-cni", "tag": "", "pullPolicy": "IfNotPresent"},
    "configuration": {"nodeSelector": {"smarter.cni": "enabled"}},
}
# Every setting that can be said, and what becomes of it in the ConfigMap.
SETTINGS = {
    "subnet": ("10.38.0.0/16, fd00:38::/64", "subnet", "10.38.0.0/16, fd00:38::/64"),
    "gateway": ("10.38.0.9,fd00:38::9", "gateway", "10.38.0.9,fd00:38::9"),
    "mtu": (1400, "mtu", "1400"),
    "hairpin": (False, "hairpin", "false"),
    "masquerade": (True, "masquerade", "true"),
    "forwardOthers": (True, "forward_others", "true"),
    "dnsIntercept": (True, "dns_intercept", "true"),
    "hostPorts": (True, "host_ports", "true"),
    "hostPortSnat": (False, "host_port_snat", "false"),
    "hostPortStrict": (True, "host_port_strict", "true"),
    "hostPortInterfaces": (["lan*", "eth0"], "host_port_interfaces", "lan*,eth0"),
    "denyHostPortInterfaces": (["wwan*"], "deny_host_port_interfaces", "wwan*"),
    "network": ("edge", "network", "edge"),
    "bridge": ("edge0", "bridge", "edge0"),
    "binDir": ("/opt/cni/bin,/usr/lib/cni", "bin_dir", "/opt/cni/bin,/usr/lib/cni"),
    "confDir": ("/etc/cni/net.d", "conf_dir", "/etc/cni/net.d"),
    "takeOver": (True, "take_over", "true"),
    "logLevel": ("warn", "log_level", "warn"),
}
# The same of the name server.
NAMES = {
    "address": ("169.254.1.2", "CLUSTER_DNS", "169.254.1.2"),
    "domain": ("edge.example", "CLUSTER_DOMAIN", "edge.example"),
    "logging": (True, "DNS_LOGGING", "True"),
    "upstream": (["192.0.2.1:5353", "fe80::1%eth0"], "dns-upstream", "192.0.2.1:5353,fe80::1%eth0"),
    "clusterUpstream": (["10.43.0.10"], "dns-cluster-upstream", "10.43.0.10"),
    "hosts": (["192.0.2.9 printer printer.lan", "fd00::5 nas"], "dns-hosts", "192.0.2.9 printer printer.lan;fd00::5 nas"),
    "ttl": (0, "dns-ttl", "0"),
    "cache": ("512Ki", "dns-cache", "512Ki"),
    "stale": (86400, "dns-stale", "86400"),
    "singleLabels": ("forward", "dns-single-labels", "forward"),
    "fallbackPort": (9153, "dns-fallback-port", "9153"),
    "runtimeSocket": ("/run/k3s/containerd/containerd.sock", "dns-host-network-names", "/run/k3s/containerd/containerd.sock"),
}
NONSENSE = (
    {"names": {"enabled": "no"}},
    {"names": {"address": "the gateway"}},
    {"names": {"address": "127.0.0.1"}},
    {"names": {"domain": "cluster..local"}},
    {"names": {"logging": "True"}},
    {"names": {"hostDns": "cluster.local"}},
    {"names": {"upstream": "192.0.2.1"}},
    {"names": {"upstream": ["dns.example"]}},
    {"names": {"upstream": ["192.0.2.1"] * 9}},
    {"names": {"hosts": ["printer 192.0.2.9"]}},
    {"names": {"hosts": ["192.0.2.9 a;192.0.2.10 b"]}},
    {"names": {"ttl": 86400}},
    {"names": {"cache": "1Gi"}},
    {"names": {"stale": "1y"}},
    {"names": {"singleLabels": "yes"}},
    {"names": {"fallbackPort": 53}},
    {"names": {"sandboxes": "/"}},
    {"names": {"sandboxes": "/var/lib/../x"}},
    {"names": {"runtimeSocket": True}},
    {"names": {"runtimeSocket": "/containerd.sock"}},
    {"names": {"runtimeSocket": "/run/containerd"}},
    {"names": {"upstreams": []}},
    {"subnet": "10.0.0.0/8"},
    {"configuration": {"subnet": "10.38.0.0"}},
    {"configuration": {"subnet": "ten/8"}},
    {"configuration": {"subnet": None}},
    {"configuration": {"subnet": "10.0.0.0/8,11.0.0.0/8,12.0.0.0/8"}},
    {"configuration": {"gateway": "the first"}},
    {"configuration": {"mtu": 67}},
    {"configuration": {"mtu": "1400"}},
    {"configuration": {"mtu": "Auto"}},
    {"configuration": {"hairpin": "yes"}},
    {"configuration": {"hostPortInterfaces": "lan0"}},
    {"configuration": {"hostPortInterfaces": ["l*n"]}},
    {"configuration": {"denyHostPortInterfaces": ["a,b"]}},
    {"configuration": {"network": "../x"}},
    {"configuration": {"bridge": "sixteencharacter"}},
    {"configuration": {"bridge": ".."}},
    {"configuration": {"binDir": "opt/cni/bin"}},
    {"configuration": {"logLevel": "loud"}},
    {"configuration": {"bindir": "/opt/cni/bin"}},
    {"configuration": {"nodeSelector": {"smarter.cni": True}}},
    {"image": {"tag": "0.1.0 "}},
    {"image": {"tag": "0.1.0@sha256:12"}},
    {"image": {"repository": "https://ghcr.io/x"}},
    {"image": {"pullPolicy": "Sometimes"}},
    {"application": {"appName": "Smarter_CNI"}},
    {"application": {"appName": "install"}},
    {"application": {"appName": "x" * 64}},
    {"application": {"namespace": "smarter"}},
    {"host": {"mounts": []}},
    {"host": {"mounts": [{"name": "x", "path": "x", "type": "Directory"}]}},
    {"host": {"mounts": [{"name": "x", "path": "/a/../b", "type": "Directory"}]}},
    {"host": {"mounts": [{"name": "x", "path": "/x/", "type": "Directory"}]}},
    {"host": {"mounts": [{"name": "x", "path": "/x", "type": "Socket"}]}},
    {"host": {"mounts": [{"name": "x", "path": "/x"}]}},
    {"resources": {"limits": {"memory": "32 MiB"}}},
    {"resources": {"claims": []}},
    {"updateStrategy": {"type": "Recreate"}},
    {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}},
    {"updateStrategy": {"rollingUpdate": {"maxUnavailable": "101%"}}},
    {"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}},
    {"host": {"mounts": [{"name": "x", "path": "/x", "type": "Directory", "only": "install"}]}},
    {"repairPods": "yes"},
    {"terminationGracePeriodSeconds": 0},
    {"podLabels": {"a": 1}},
)


def daemonset(values=None, **how):
    return one("DaemonSet", engines.rendered(values, **how))


def data(values=None):
    return one("ConfigMap", engines.rendered(values))["data"]


def names(values=None):
    """What the name server is told."""
    return of_names("ConfigMap", engines.rendered({"names": values or {}}))["data"]


def everything():
    return {
        "application": {"appName": "pods", "configMapName": "pods-config"},
        "image": {
            "repository": "registry.example:5000/edge/smarter-cni",
            "tag": "0.2.0@sha256:" + "0" * 64,
            "pullSecrets": ["registry"],
        },
        "configuration": {value: said for value, (said, _, _) in SETTINGS.items()},
        "names": {
            "appName": "names",
            "configMapName": "names-config",
            "hostDns": True,
            "sandboxes": "/var/lib/rancher/k3s/agent/containerd/io.containerd.grpc.v1.cri/sandboxes",
            **{value: said for value, (said, _, _) in NAMES.items()},
        },
        "affinity": {"nodeAffinity": {}},
        "podAnnotations": {"example.org/a": "b"},
        "podLabels": {"example.org/c": "d", "k8s-app": "stolen"},
        "global": {"anything": True},
        "enabled": True,
    }


WITH_VALUES_OF_THEIR_OWN = ("k3s", "microk8s", "yocto", "crio")


def various():
    """Values from nothing to everything."""
    return [None, OLD_VALUES, everything(), *(engines.values_of(f"values-{name}.yaml") for name in WITH_VALUES_OF_THEIR_OWN)]


class TheChart(unittest.TestCase):
    def test_is_linted_without_a_word(self):
        for values in various():
            self.assertEqual(engines.lint(values), [])

    def test_renders_the_plain_manifest_with_default_values(self):
        self.assertEqual(by_identity(engines.rendered()), by_identity(plain()))

    def test_renders_the_variants_with_their_values(self):
        for name in WITH_VALUES_OF_THEIR_OWN:
            found = by_identity(engines.rendered(engines.values_of(f"values-{name}.yaml")))
            for obj in found.values():
                network = obj is one("DaemonSet", found.values()) if obj["kind"] == "DaemonSet" else False
                if network and "bin_dir" in one("ConfigMap", found.values())["data"]:
                    # Only helm needs it: pods start anew when a setting changes.
                    self.assertEqual(list(obj["spec"]["template"]["metadata"].pop("annotations")), ["checksum/config"])
            self.assertEqual(found, by_identity(variant(name)), name)

    def test_may_look_into_pods_only_when_that_is_said(self):
        found = engines.rendered({"repairPods": True})
        added = rules.last(one("DaemonSet", found))["securityContext"]["capabilities"]["add"]
        self.assertEqual(added.pop(), "SYS_ADMIN")
        self.assertEqual(by_identity(found), by_identity(plain()))

    def test_names_pods_of_the_host_s_network_as_the_component_does(self):
        found = engines.rendered({"names": {"runtimeSocket": "/run/containerd/containerd.sock"}})
        of_names("DaemonSet", found)["spec"]["template"]["metadata"].pop("annotations")
        # The socket is said, because it may be one that nobody would look for.
        said = of_names("ConfigMap", found)["data"]
        self.assertEqual(said["dns-host-network-names"], "/run/containerd/containerd.sock")
        said["dns-host-network-names"] = "true"
        wanted = with_component("host-network-names", "base", engines.kustomized)
        self.assertEqual(by_identity(found), by_identity(wanted))

    def test_renders_the_labelled_variant_with_the_values_of_arms_chart(self):
        found = json.loads(json.dumps(engines.rendered(OLD_VALUES)).replace("smarter-cni-config", "smartercniconfig"))
        self.assertEqual(by_identity(found), by_identity(variant("labelled")))

    def test_is_valid_for_the_newest_and_the_oldest_known_kubernetes_whatever_is_said(self):
        for values in various():
            for obj in engines.rendered(values):
                for version in (engines.newest_kubernetes(), "1.25.0"):
                    self.assertEqual(engines.against_schema(obj, version), "", f"{obj['kind']} {version}")

    def test_has_pods_that_may_do_what_they_must_and_no_more_whatever_is_said(self):
        for values in various():
            objects = engines.rendered(values)
            self.assertEqual(list(rules.do_not_belong_together(objects)), [])
            self.assertEqual(len(daemonsets(objects)), 2)
            self.assertEqual(list(rules.complaints(objects)), [])

    def test_renders_the_network_alone_when_names_are_not_wanted(self):
        found = engines.rendered({"names": {"enabled": False}})
        self.assertNotIn("dns", one("ConfigMap", found)["data"])
        one("ConfigMap", found)["data"]["dns"] = "169.254.0.2"
        one("DaemonSet", found)["spec"]["template"]["metadata"].pop("annotations")
        self.assertEqual(by_identity(found), by_identity(obj for obj in plain() if not rules.is_the_name_server(obj)))
        self.assertNotIn("cluster-dns", engines.notes({"names": {"enabled": False}}))

    def test_is_in_the_namespace_of_the_release(self):
        for obj in engines.rendered(namespace="edge"):
            self.assertEqual(obj["metadata"]["namespace"], "edge")

    def test_is_of_the_version_that_is_built(self):
        version = tomllib.loads((engines.ROOT / "Cargo.toml").read_text())["package"]["version"]
        chart = engines.values_of("Chart.yaml")
        self.assertEqual((chart["version"], chart["appVersion"]), (version, version))


class Values(unittest.TestCase):
    def test_every_setting_reaches_the_program(self):
        wanted = {setting: text for _, setting, text in SETTINGS.values()}
        told = {"dns": NAMES["address"][0], "host_dns": NAMES["domain"][0]}
        self.assertEqual(data(everything()), wanted | told)

    def test_every_setting_reaches_the_name_server(self):
        found = of_names("ConfigMap", engines.rendered(everything()))["data"]
        self.assertEqual(found, {setting: text for _, setting, text in NAMES.values()})
        self.assertEqual(names(), {"CLUSTER_DNS": "169.254.0.2", "CLUSTER_DOMAIN": "cluster.local", "DNS_LOGGING": "False"})
        source = (engines.ROOT / "src/dns/settings.rs").read_text()
        for _, setting, _ in NAMES.values():
            self.assertIn(f'"{setting}"', source)

    def test_the_name_server_starts_anew_when_its_settings_change_and_the_network_does_not(self):
        found = engines.rendered({"names": {"ttl": 30}})
        self.assertIn("checksum/config", of_names("DaemonSet", found)["spec"]["template"]["metadata"]["annotations"])
        self.assertEqual(one("DaemonSet", found), one("DaemonSet", plain()))

    def test_every_setting_of_the_chart_is_tried(self):
        known = set(engines.values_of("values.yaml")["names"])
        self.assertEqual(known - {"enabled", "appName", "configMapName", "hostDns", "sandboxes", "resources"}, set(NAMES))
        known = set(engines.values_of("values.yaml")["configuration"]) - {"nodeSelector"}
        self.assertEqual(known, set(SETTINGS))

    def test_the_program_knows_every_setting(self):
        # tests/run says where the binary is. Without it the source of the command line must do.
        binary = os.environ.get("SMARTER_CNI_BINARY")
        if binary:
            text = subprocess.run([binary, "install", "--help"], capture_output=True, text=True, check=True).stdout
        else:
            text = (engines.ROOT / "src/install/cli.rs").read_text()
        for setting in ["dns", "host_dns", *(setting for _, setting, _ in SETTINGS.values())]:
            self.assertRegex(text, rf"\b{setting.upper()}\b")

    def test_what_is_not_said_is_left_to_the_program(self):
        self.assertEqual(set(data()), {"subnet", "gateway", "dns"})
        self.assertEqual(set(data({"names": {"address": "fd00::2"}})), {"subnet", "gateway"}, "the program takes IPv4 alone")
        silent = {value: None for value in SETTINGS if value not in ("subnet", "hostPortInterfaces", "denyHostPortInterfaces")}
        self.assertEqual(data({"configuration": silent}), data())

    def test_the_nodes_own_resolver_is_told_where_there_is_an_address_to_ask(self):
        self.assertEqual(data({"names": {"hostDns": True}})["host_dns"], "cluster.local")
        self.assertEqual(data({"names": {"hostDns": True, "domain": "edge.lan"}})["host_dns"], "edge.lan")
        for without in ({"enabled": False}, {"address": "fd00::2"}):
            self.assertNotIn("host_dns", data({"names": {"hostDns": True, **without}}))

    def test_the_gateway_is_the_first_address_unless_somebody_says_otherwise(self):
        for subnet, gateway in (
            ("10.38.0.0/16", "10.38.0.1"),
            ("10.38.0.128/25", "10.38.0.129"),
            ("10.38.0.252/30", "10.38.0.253"),
            ("fd00:38::/64", None),
            ("auto", None),
            ("10.38.0.0/16,fd00:38::/64", None),
        ):
            self.assertEqual(data({"configuration": {"subnet": subnet}}).get("gateway"), gateway, subnet)
        self.assertEqual(data({"configuration": {"gateway": "172.38.0.9"}})["gateway"], "172.38.0.9")

    def test_pods_start_anew_when_a_setting_changes(self):
        def annotations(values):
            return daemonset(values)["spec"]["template"]["metadata"].get("annotations", {})

        sums = [annotations({"configuration": values}).get("checksum/config") for values in (
            {}, {"mtu": 1400}, {"mtu": 1401}, {"gateway": "172.38.0.9"},
        )]
        self.assertEqual(len(set(sums)), len(sums), sums)
        self.assertIsNone(sums[0])

    def test_everything_else_reaches_its_place(self):
        values = everything()
        found = daemonset(values)
        template = found["spec"]["template"]
        self.assertEqual(found["metadata"]["name"], "pods")
        self.assertEqual(found["spec"]["selector"]["matchLabels"], {"k8s-app": "pods"})
        self.assertEqual(template["metadata"]["labels"]["k8s-app"], "pods", "a label of the selector cannot be replaced")
        self.assertEqual(template["metadata"]["labels"]["example.org/c"], "d")
        self.assertEqual(template["metadata"]["annotations"]["example.org/a"], "b")
        self.assertEqual(template["spec"]["imagePullSecrets"], [{"name": "registry"}])
        self.assertEqual(template["spec"]["affinity"], {"nodeAffinity": {}})
        server = of_names("DaemonSet", engines.rendered(values))
        self.assertEqual(server["metadata"]["name"], "names")
        self.assertEqual(server["spec"]["selector"]["matchLabels"], {"k8s-app": "names"})
        self.assertEqual(server["spec"]["template"]["metadata"]["labels"]["k8s-app"], "names")
        self.assertEqual(rules.pod(server)["affinity"], {"nodeAffinity": {}})
        for container in rules.containers(found) + rules.containers(server):
            self.assertEqual(container["image"], f"{values['image']['repository']}:{values['image']['tag']}")
        scheduling = daemonset({
            "tolerations": [{"key": "edge", "operator": "Exists"}],
            "priorityClassName": "",
            "seLinuxOptions": None,
            "terminationGracePeriodSeconds": 7,
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": 3}},
            "resources": {"requests": {"cpu": "5m"}, "limits": {"memory": "48Mi"}},
            "configuration": {"nodeSelector": {"kubernetes.io/os": None, "smarter.cni": "enabled"}},
        })
        spec = rules.pod(scheduling)
        self.assertEqual(spec["tolerations"], [{"key": "edge", "operator": "Exists"}])
        self.assertNotIn("priorityClassName", spec)
        self.assertEqual(spec["terminationGracePeriodSeconds"], 7)
        self.assertEqual(spec["nodeSelector"], {"smarter.cni": "enabled"})
        self.assertEqual(scheduling["spec"]["updateStrategy"]["rollingUpdate"], {"maxUnavailable": 3})
        for container in rules.containers(scheduling):
            self.assertNotIn("seLinuxOptions", container["securityContext"])
            self.assertEqual(container["resources"]["requests"], {"cpu": "5m", "memory": "16Mi"})

    def test_nonsense_is_refused(self):
        for values in NONSENSE:
            with self.assertRaises(engines.Refused, msg=values):
                engines.rendered(values)
            self.assertTrue(engines.lint(values), values)

    def test_the_schema_has_every_value_and_no_other(self):
        schema = json.loads((engines.CHART / "values.schema.json").read_text())
        self.assertEqual(named(schema) - {("global",), ("enabled",)}, keys(engines.values_of("values.yaml")))

    def test_the_readme_has_every_value_with_its_default_and_no_other(self):
        rows = re.findall(r"^\| `([^`]+)` \| (?:`([^`]*)`)?", (engines.CHART / "README.md").read_text(), re.MULTILINE)
        wanted = {".".join(key): at(engines.values_of("values.yaml"), key) for key in leaves(engines.values_of("values.yaml"))}
        self.assertEqual({name: json.loads(default or "null") for name, default in rows}, wanted)

    def test_the_notes_say_what_was_installed(self):
        for values, words in (
            (None, ("172.38.0.0/16", "kubernetes.io/os=linux", "daemonset smarter-cni", "uninstall.yaml", "--cluster-dns=169.254.0.2")),
            (everything(), ("10.38.0.0/16", "daemonset pods", "k8s-app=pods", "--cluster-dns=169.254.1.2", "daemonset names")),
        ):
            for word in words:
                self.assertIn(word, engines.notes(values))


# Where people write their own keys, and lists: one value each.
FREE = (
    ("configuration", "nodeSelector"), ("resources",), ("names", "resources"), ("affinity",), ("podAnnotations",), ("podLabels",), ("seLinuxOptions",),
    ("updateStrategy",),
)


def keys(values, above=()):
    """Every key of a tree of values, as tuples, without those within a free one."""
    found = set()
    for key, value in values.items():
        path = (*above, key)
        found.add(path)
        if isinstance(value, dict) and path not in FREE:
            found |= keys(value, path)
    return found


def leaves(values):
    found = keys(values)
    return {key for key in found if not any(other[:-1] == key for other in found)}


def named(schema, above=()):
    """Every key that a schema names."""
    found = set()
    for key, below in schema.get("properties", {}).items():
        path = (*above, key)
        found.add(path)
        if path not in FREE:
            found |= named(below, path)
    return found


def at(values, path):
    for key in path:
        values = values[key]
    return copy.deepcopy(values)
