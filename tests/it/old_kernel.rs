//! Kernels that lack something: what the plugins need and do not get is either made up for, or the pod is refused with an
//! error that says what the kernel lacks and what to do, and nothing stays behind.
//!
//! The kernel here has it all. `pretend` stands between the plugin and the kernel, changes what the plugin asks so that the
//! kernel must refuse it, or gives the answer of an older one itself.

use std::fs;

use serde_json::{Value, json};

use crate::lab::{self, Netns, Node, Output, Place, Plugin, ask_udp, our_plugins, serve_udp};
use crate::sandbox::sandboxed;

const PRETEND: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/old_kernel/pretend");
const COUNT: &str = "/run/pretend-count";

/// A node whose kernel lacks something.
struct Lacking(&'static str);

impl Lacking {
    fn call(&self, plugin: &str, verb: &str, pod: &Netns, config: &Value) -> Output {
        let _ = fs::remove_file(COUNT);
        let call = Plugin::new(our_plugins(), plugin).command(verb).container(pod.name()).netns(pod);
        let out = call.ifname("eth0").env("PRETEND_COUNT", COUNT).json(config);
        let out = out.under(&["python3", PRETEND, self.0]).run();
        assert!(fs::exists(COUNT).is_ok_and(|there| there), "{PRETEND} did not see the end: {out}");
        out
    }

    /// The same, and the plugin came to need what is lacking: a pretence that nobody met proves nothing.
    fn meets(&self, plugin: &str, verb: &str, pod: &Netns, config: &Value) -> Output {
        let out = self.call(plugin, verb, pod, config);
        let met = fs::read_to_string(COUNT).unwrap_or_default();
        assert!(met.parse::<u32>().is_ok_and(|met| met > 0), "{} was not asked for: {out}", self.0);
        out
    }
}

fn network(keys: &Value) -> Value {
    let mut config = json!({
        "cniVersion": "1.0.0", "name": "old", "type": "bridge", "bridge": "br0",
        "ipam": {"type": "host-local", "dataDir": "/run/cni/networks", "ranges": [[{"subnet": "10.98.0.0/24"}]]},
    });
    for (key, value) in keys.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    config
}

fn both_families() -> Value {
    json!({
        "isDefaultGateway": true, "ipMasq": true,
        "ipam": {"type": "host-local", "dataDir": "/run/cni/networks",
                 "ranges": [[{"subnet": "10.98.0.0/24"}], [{"subnet": "fd98::/64"}]]},
    })
}

fn ports(result: &Value) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "old", "type": "portmap", "snat": true, "prevResult": result,
        "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "udp"}]},
    })
}

fn succeeds(out: Output) -> Value {
    assert_eq!(out.status, 0, "{out}");
    out.json
}

/// What people read: `msg` and `details`.
fn refused(out: &Output) -> String {
    assert_eq!(out.status, 1, "{out}");
    format!(
        "{}\n{}",
        out.json["msg"].as_str().unwrap_or_default(),
        out.json["details"].as_str().unwrap_or_default()
    )
}

/// No interface, no lease, no record; what all pods share may stay.
fn assert_nothing_of_a_pod(pod: &Netns) {
    assert_eq!(pod.link("eth0"), None);
    let veths = Node.ip("link show type veth");
    let veths = veths.as_array().into_iter().flatten().filter(|link| link["ifname"] != "up0");
    assert_eq!(veths.count(), 0);
    let leases = lab::files("/run/cni/networks/old").into_iter();
    assert_eq!(leases.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).count(), 0);
    let records = lab::files("/run/smarter-cni/attachments").into_iter();
    assert_eq!(records.filter(|name| name.contains(".json")).count(), 0);
}

#[test]
fn without_tables_of_bridges_a_spoof_check_is_refused_and_everything_else_works() {
    sandboxed(|| {
        let (kernel, pod) = (Lacking("no-bridge-tables"), Netns::new("pod"));
        let checked = network(&json!({"isDefaultGateway": true, "ipMasq": true, "macspoofchk": true}));
        let words = refused(&kernel.meets("bridge", "ADD", &pod, &checked));
        for wanted in [
            "nft add table bridge smarter-cni",
            "not supported",
            "CONFIG_NF_TABLES_BRIDGE",
            "without macspoofchk",
        ] {
            assert!(words.contains(wanted), "{words}");
        }
        assert_nothing_of_a_pod(&pod);
        succeeds(kernel.call("bridge", "DEL", &pod, &checked));

        let plain = network(&json!({"isDefaultGateway": true, "ipMasq": true}));
        let result = succeeds(kernel.call("bridge", "ADD", &pod, &plain));
        succeeds(kernel.call("portmap", "ADD", &pod, &ports(&result)));
        succeeds(kernel.call("portmap", "DEL", &pod, &ports(&result)));
        succeeds(kernel.call("bridge", "DEL", &pod, &plain));
        assert_nothing_of_a_pod(&pod);
    });
}

#[test]
fn without_tables_of_ipv6_a_pod_with_ipv6_is_refused_and_one_without_works() {
    sandboxed(|| {
        let (kernel, pod) = (Lacking("no-ip6-tables"), Netns::new("pod"));
        let words = refused(&kernel.meets("bridge", "ADD", &pod, &network(&both_families())));
        for wanted in
            ["nft add table ip6 smarter-cni", "not supported", "CONFIG_NF_TABLES_IPV6", "without IPv6"]
        {
            assert!(words.contains(wanted), "{words}");
        }
        assert_nothing_of_a_pod(&pod);

        let plain = network(&json!({"isDefaultGateway": true, "ipMasq": true}));
        let result = succeeds(kernel.call("bridge", "ADD", &pod, &plain));
        succeeds(kernel.call("portmap", "ADD", &pod, &ports(&result)));
        succeeds(kernel.call("portmap", "DEL", &pod, &ports(&result)));
        succeeds(kernel.call("bridge", "DEL", &pod, &plain));
        assert_nothing_of_a_pod(&pod);
    });
}

#[test]
fn without_nf_tables_pods_reach_each_other_and_what_needs_rules_is_refused() {
    sandboxed(|| {
        let (kernel, pod) = (Lacking("no-nf-tables"), Netns::new("pod"));
        let masqueraded = network(&json!({"isDefaultGateway": true, "ipMasq": true}));
        let words = refused(&kernel.meets("bridge", "ADD", &pod, &masqueraded));
        assert!(
            words.contains("does this kernel have nf_tables? module nf_tables, CONFIG_NF_TABLES"),
            "{words}"
        );
        assert_nothing_of_a_pod(&pod);
        succeeds(kernel.call("bridge", "DEL", &pod, &masqueraded));

        let (plain, other) = (network(&json!({"isGateway": true})), Netns::new("other"));
        let result = succeeds(kernel.meets("bridge", "ADD", &pod, &plain));
        let neighbour = succeeds(kernel.meets("bridge", "ADD", &other, &plain));
        assert!(reaches(&pod, &other, &neighbour));

        let words = refused(&kernel.meets("portmap", "ADD", &pod, &ports(&result)));
        assert!(
            words.contains("does this kernel have nf_tables? module nf_tables, CONFIG_NF_TABLES"),
            "{words}"
        );
        // The runtime takes the pod down, and must not be kept from it.
        succeeds(kernel.meets("portmap", "DEL", &pod, &ports(&result)));
        for pod in [&pod, &other] {
            succeeds(kernel.call("bridge", "DEL", pod, &plain));
        }
        assert_nothing_of_a_pod(&pod);
    });
}

fn reaches(from: &Netns, to: &Netns, result: &Value) -> bool {
    let address = result["ips"][0]["address"].as_str().and_then(|text| text.split('/').next());
    let address: std::net::IpAddr = address.and_then(|text| text.parse().ok()).expect("an address");
    let server = serve_udp(to, (address, 0), "there");
    ask_udp(from, server).is_ok_and(|answer| answer.token == "there")
}

#[test]
fn without_lookups_of_single_elements_everything_works() {
    sandboxed(|| {
        let (kernel, pod) = (Lacking("no-element-lookups"), Netns::new("pod"));
        let world = lab::world();
        let config = network(&json!({"isDefaultGateway": true, "ipMasq": true, "macspoofchk": true}));
        let result = succeeds(kernel.call("bridge", "ADD", &pod, &config));
        succeeds(kernel.meets("portmap", "ADD", &pod, &ports(&result)));
        let address = result["ips"][0]["address"].as_str().and_then(|text| text.split('/').next());
        let address: std::net::IpAddr = address.and_then(|text| text.parse().ok()).expect("an address");
        serve_udp(&pod, (address, 80), "pod");
        assert_eq!(ask_udp(&world, (lab::NODE, 8080)).expect("an answer").token, "pod");

        let mut checked = config.clone();
        checked["prevResult"] = result.clone();
        succeeds(kernel.meets("bridge", "CHECK", &pod, &checked));
        succeeds(kernel.meets("portmap", "CHECK", &pod, &ports(&result)));
        // Somebody else's port is seen, too.
        let other = Netns::new("other");
        let second = succeeds(kernel.call("bridge", "ADD", &other, &config));
        let words = refused(&kernel.meets("portmap", "ADD", &other, &ports(&second)));
        assert!(words.contains("8080"), "{words}");

        succeeds(kernel.meets("portmap", "DEL", &pod, &ports(&result)));
        for pod in [&pod, &other] {
            succeeds(kernel.call("bridge", "DEL", pod, &config));
        }
        assert_nothing_of_a_pod(&pod);
        let rules = Node.run("nft list ruleset");
        assert!(!rules.contains(&address.to_string()), "{rules}");
    });
}

#[test]
fn a_kernel_that_does_not_look_at_the_bridge_of_a_new_link_is_told_again() {
    sandboxed(|| {
        let (kernel, pod, other) = (Lacking("no-master-at-birth"), Netns::new("pod"), Netns::new("other"));
        let config = network(&json!({"hairpinMode": true}));
        let results = [&pod, &other].map(|pod| {
            let result = succeeds(kernel.meets("bridge", "ADD", pod, &config));
            let port =
                Node.link(result["interfaces"][1]["name"].as_str().expect("a port")).expect("the port");
            assert_eq!((&port["master"], &port["operstate"]), (&json!("br0"), &json!("UP")), "{port}");
            result
        });
        assert!(reaches(&pod, &other, &results[1]));
        for pod in [&pod, &other] {
            succeeds(kernel.call("bridge", "DEL", pod, &config));
        }
        assert_nothing_of_a_pod(&pod);
    });
}
