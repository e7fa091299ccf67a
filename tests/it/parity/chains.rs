//! Chains of our plugins and those of the Go project that we do not replace, called as the runtimes' library calls them.
//!
//! Whoever stands before or behind us speaks for itself in the result, in every layout that results have. What is
//! compared with the Go plugins of the same name in the same place: which calls succeed.

use std::fs;
use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use crate::lab::{self, NODE, Netns, Node, Output, Place, Plugin, Plugins, UNDER_TEST, ask_tcp};
use crate::labnet::assert_nothing_is_left;

const NETWORK: &str = "labnet";
const LEASES: &str = "/run/cni/networks";
const PORT: u16 = 8080;
/// With a result of each layout that names interfaces; CHECK is from 0.4.0 on, GC and STATUS from 1.1.0.
const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// A network's list of plugins, and the one pod that is on it.
struct Chain<'a> {
    version: &'static str,
    plugins: Vec<(Plugins, Value)>,
    pod: &'a Netns,
    /// What the last plugin answered to ADD.
    result: Value,
}

impl<'a> Chain<'a> {
    fn new(version: &'static str, pod: &'a Netns, plugins: Vec<(Plugins, Value)>) -> Self {
        Self { version, plugins, pod, result: Value::Null }
    }

    fn call(&self, nth: usize, verb: &str, more: &[(&str, &Value)]) -> Plugin {
        let (whose, part) = &self.plugins[nth];
        let mut config = part.clone();
        config["cniVersion"] = self.version.into();
        config["name"] = NETWORK.into();
        for (key, value) in more {
            config[*key] = (*value).clone();
        }
        // Its own kind first, as on a node that has only these.
        let mut path = vec![whose.dir().display().to_string()];
        path.extend(self.plugins.iter().map(|(other, _)| other.dir().display().to_string()));
        let name = part["type"].as_str().expect("a type");
        let plugin =
            Plugin::new(whose.dir(), name).command(verb).env("CNI_PATH", &path.join(":")).json(&config);
        if matches!(verb, "GC" | "STATUS") {
            return plugin;
        }
        plugin.container(self.pod.name()).netns(self.pod).ifname("eth0")
    }

    /// In order, each with the result of the one before.
    fn add(&mut self) {
        let mut result = Value::Null;
        for nth in 0..self.plugins.len() {
            let more: &[(&str, &Value)] = &[("prevResult", &result)];
            let out = self.call(nth, "ADD", if nth == 0 { &[] } else { more }).succeed();
            assert_eq!(out.json["cniVersion"], self.version, "{out}");
            result = out.json;
        }
        self.result = result;
    }

    fn each(&self, verb: &str, more: &[(&str, &Value)]) -> Vec<Output> {
        (0..self.plugins.len()).map(|nth| self.call(nth, verb, more).run()).collect()
    }

    fn all(&self, verb: &str, more: &[(&str, &Value)]) {
        for (out, (whose, part)) in self.each(verb, more).iter().zip(&self.plugins) {
            let old = *whose != UNDER_TEST && !whose.speak_1_1();
            if old && verb == "CHECK" && part["type"] == "portmap" {
                // It asks ip6tables for the rules of IPv4.
                assert!(out.stdout.contains("could not check ipv6 dnat"), "{out}");
                continue;
            }
            assert_eq!(out.status, 0, "{verb} {} of {whose:?} ({}): {out}", part["type"], self.version);
        }
    }

    /// As soon as its version has these verbs.
    fn look(&self) {
        if self.version != "0.3.1" {
            self.all("CHECK", &[("prevResult", &self.result)]);
        }
        if self.version == "1.1.0" {
            self.all("STATUS", &[]);
            let valid = json!([{"containerID": self.pod.name(), "ifname": "eth0"}]);
            self.all("GC", &[("cni.dev/valid-attachments", &valid)]);
            self.all("CHECK", &[("prevResult", &self.result)]);
        }
    }

    /// Backwards, and with the last result from 0.4.0 on.
    fn del(&self) {
        let more: &[(&str, &Value)] = &[("prevResult", &self.result)];
        let more = if self.version == "0.3.1" { &[] } else { more };
        for nth in (0..self.plugins.len()).rev() {
            self.call(nth, "DEL", more).succeed();
        }
    }

    fn addresses(&self) -> Vec<String> {
        let all = self.result["ips"].as_array().into_iter().flatten().filter_map(|ip| ip["address"].as_str());
        all.filter_map(|text| text.split('/').next()).map(str::to_owned).collect()
    }

    /// The IPv4 address.
    fn address(&self) -> String {
        self.addresses().first().expect("an address").clone()
    }

    fn serve(&self) {
        let at = SocketAddr::new(self.address().parse().expect("an address"), 80);
        lab::serve_tcp(self.pod, at, self.pod.name());
    }

    fn assert_gone(&self) {
        assert!(self.pod.link("eth0").is_none(), "the interface is still in the pod");
        assert_nothing_is_left(&self.addresses());
        let links = Node.ip("link show type ifb");
        assert_eq!(links, json!([]), "of bandwidth");
    }
}

fn versions(peer: Plugins) -> impl Iterator<Item = &'static str> {
    let newest = peer.speak_1_1() && UNDER_TEST.speak_1_1();
    VERSIONS.into_iter().filter(move |version| newest || *version != "1.1.0")
}

/// Of both families.
fn ipam() -> Value {
    json!({"type": "host-local", "dataDir": LEASES, "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd00:77::/64"}]]})
}

fn bridge(changes: Value) -> Value {
    let mut config = json!({
        "type": "bridge", "bridge": "lab0", "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": ipam()
    });
    super::merge(&mut config, changes);
    config
}

fn portmap() -> Value {
    let mappings = json!([{"hostPort": PORT, "containerPort": 80, "protocol": "tcp"}]);
    json!({"type": "portmap", "snat": true, "runtimeConfig": {"portMappings": mappings}})
}

/// From outside and from the node, by its address and by 127.0.0.1; and the pod gets out.
fn reached(chain: &Chain, world: &Netns) {
    let pod = chain.pod.name();
    for (place, at) in
        [("world", (NODE, PORT)), ("node", (NODE, PORT)), ("node", ([127, 0, 0, 1].into(), PORT))]
    {
        let answer = if place == "world" { ask_tcp(world, at) } else { ask_tcp(&Node, at) };
        let answer = answer.unwrap_or_else(|e| panic!("{at:?} from the {place} ({}): {e}", chain.version));
        assert_eq!(answer.token, pod, "{at:?} from the {place}");
    }
    out(chain);
}

fn out(chain: &Chain) {
    let answer = ask_tcp(chain.pod, (lab::WORLD, 7000)).expect("the pod reaches the world");
    assert_eq!((answer.token.as_str(), answer.seen_as), ("world", NODE), "masqueraded");
}

fn outside() -> Netns {
    let world = lab::world();
    lab::serve_tcp(&world, (lab::WORLD, 7000), "world");
    world
}

/// Everything that an administrator may chain behind our bridge, at once.
pub(super) fn others_behind_our_bridge(peer: Plugins) {
    let world = outside();
    for version in versions(peer) {
        let pod = Netns::new(&format!("pod-{}", version.replace('.', "-")));
        let tuning =
            json!({"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.log_martians": "1"}, "mtu": 1400});
        let rate = 8_000_000;
        let bandwidth = json!({
            "type": "bandwidth", "ingressRate": rate, "ingressBurst": rate, "egressRate": rate, "egressBurst": rate
        });
        let plugins =
            vec![(UNDER_TEST, bridge(json!({}))), (peer, tuning), (peer, bandwidth), (peer, portmap())];
        // It is the only one that begins with 0.4.0.
        let firewall =
            (version != "0.3.1").then(|| (peer, json!({"type": "firewall", "backend": "iptables"})));
        let plugins = plugins.into_iter().chain(firewall).collect();
        let mut chain = Chain::new(version, &pod, plugins);
        chain.add();
        chain.serve();
        reached(&chain, &world);
        let martians = pod.inside(|| fs::read_to_string("/proc/sys/net/ipv4/conf/eth0/log_martians"));
        assert_eq!(martians.expect("a sysctl").trim(), "1", "tuning did its work");
        assert_eq!(pod.link("eth0").expect("eth0")["mtu"], 1400);
        assert_ne!(Node.ip("link show type ifb"), json!([]), "bandwidth did its work");
        let filtered = Node.run("iptables -S").contains(&chain.address());
        assert_eq!(filtered, version != "0.3.1", "firewall did its work");
        chain.look();
        chain.del();
        chain.assert_gone();
    }
}

/// Our portmap takes the result of whoever attached the pod.
pub(super) fn our_portmap_behind_others(peer: Plugins) {
    let world = outside();
    let ptp = json!({"type": "ptp", "ipMasq": true, "ipam": {
        "type": "host-local", "dataDir": LEASES, "subnet": "10.77.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]
    }});
    for version in versions(peer) {
        for (kind, attaches) in [("ptp", ptp.clone()), ("bridge", bridge(json!({})))] {
            let pod = Netns::new(&format!("{kind}-{}", version.replace('.', "-")));
            let mut chain = Chain::new(version, &pod, vec![(peer, attaches), (UNDER_TEST, portmap())]);
            chain.add();
            chain.serve();
            reached(&chain, &world);
            chain.look();
            chain.del();
            assert!(ask_tcp(&world, (NODE, PORT)).is_err(), "the port is closed behind {kind}");
            chain.assert_gone();
        }
    }
}

/// An IPAM plugin of somebody else, which lives in another directory.
pub(super) fn static_addresses_under_our_bridge(peer: Plugins) {
    let _world = outside();
    for version in versions(peer) {
        let pod = Netns::new("pod");
        let ipam = json!({"ipam": null});
        let mut config = bridge(ipam);
        config["ipam"] = json!({
            "type": "static", "addresses": [{"address": "10.77.0.9/24", "gateway": "10.77.0.1"}],
            "dns": {"nameservers": ["10.77.0.1"]}
        });
        let plugins = vec![(UNDER_TEST, config), (peer, json!({"type": "tuning"}))];
        let mut chain = Chain::new(version, &pod, plugins);
        chain.add();
        assert_eq!(chain.address(), "10.77.0.9");
        assert_eq!(chain.result["dns"], json!({"nameservers": ["10.77.0.1"]}));
        out(&chain);
        chain.look();
        chain.del();
        chain.assert_gone();
    }
}

/// sbr moves the pod's routes to a table of its own, behind the back of the bridge plugin: whatever CHECK makes of that, it
/// makes with either.
pub(super) fn source_based_routing(peer: Plugins) {
    let _world = outside();
    for version in versions(peer) {
        let mut answers = Map::new();
        for (side, whose) in [("theirs", peer), ("ours", UNDER_TEST)] {
            let pod = Netns::new(&format!("{side}-{}", version.replace('.', "-")));
            let plugins =
                vec![(whose, bridge(json!({"bridge": format!("{side}0")}))), (peer, json!({"type": "sbr"}))];
            let mut chain = Chain::new(version, &pod, plugins);
            chain.add();
            let rules = pod.run("ip rule");
            assert!(rules.contains(&format!("from {}", chain.address())), "sbr did its work: {rules}");
            // Its table is for packets with the pod's address.
            pod.run(&format!("ping -c 1 -W 2 -I {} {}", chain.address(), lab::WORLD));
            let checks = chain.each("CHECK", &[("prevResult", &chain.result)]);
            let statuses: Vec<i32> = checks.iter().map(|out| out.status).collect();
            eprintln!("CHECK of {side} bridge and sbr ({version}): {statuses:?}");
            answers.insert(side.to_owned(), statuses.into());
            chain.del();
            assert!(pod.link("eth0").is_none());
            Node.run(&format!("ip link del {side}0"));
        }
        assert_eq!(answers["ours"], answers["theirs"], "CHECK of bridge and sbr ({version})");
    }
}

/// GC frees the parts of a pod whose DEL never came, each plugin its own.
pub(super) fn nothing_is_left_of_a_forgotten_pod(peer: Plugins) {
    if !peer.speak_1_1() {
        eprintln!("{peer:?} has no GC: only ours is called");
    }
    let world = outside();
    let pod = Netns::new("forgotten");
    let bandwidth = json!({"type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 8_000_000});
    let theirs = peer.speak_1_1().then_some((peer, bandwidth));
    let plugins =
        [(UNDER_TEST, bridge(json!({})))].into_iter().chain(theirs).chain([(UNDER_TEST, portmap())]);
    let mut chain = Chain::new("1.1.0", &pod, plugins.collect());
    chain.add();
    chain.serve();
    reached(&chain, &world);
    // The runtimes' library writes an empty list so.
    chain.all("GC", &[("cni.dev/valid-attachments", &Value::Null)]);
    chain.assert_gone();
}
