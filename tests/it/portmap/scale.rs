//! A thousand pods with ports: one element each, and no pod pays for the others.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{Pod, plugin, ports};
use crate::lab::{self, NODE, Node, Place, ask_tcp, our_plugins};
use crate::sandbox::sandboxed;

fn config(n: u32, port: u32) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": super::NETWORK, "type": "portmap",
        "prevResult": {"cniVersion": "1.0.0", "ips": [{"address": format!("10.7.{}.{}/20", n / 250 + 4, n % 250 + 1)}]},
        "runtimeConfig": {"portMappings": [{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]}
    })
}

/// Messages that an ADD sends: what it costs, without a clock.
fn messages(pod: &Pod, config: &Value) -> usize {
    let trace = tempfile::NamedTempFile::new().unwrap();
    let mut child = Command::new("strace")
        .args(["-f", "-e", "trace=sendto,recvfrom,recvmsg", "-o", trace.path().to_str().unwrap()])
        .arg(our_plugins().join("portmap"))
        .env_clear()
        .env("CNI_COMMAND", "ADD")
        .env("CNI_CONTAINERID", &pod.id)
        .env("CNI_NETNS", pod.netns.path())
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", our_plugins())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("strace");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), config.to_string().as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    std::fs::read_to_string(trace.path()).unwrap().lines().count()
}

#[test]
fn a_thousand_pods_are_a_thousand_elements() {
    sandboxed(|| {
        let world = lab::world();
        let pod = Pod::attached("web");
        lab::serve_tcp(&pod.netns, pod.at(false, 80), "web");
        let mapping = || ports(&[("tcp", 8080, 80)]);
        pod.portmap("ADD", mapping()).succeed();
        pod.portmap("DEL", json!({})).succeed();
        let first = messages(&pod, &pod.config(mapping()));
        pod.portmap("DEL", json!({})).succeed();
        for n in 0..1000 {
            plugin("portmap", "ADD", &format!("c{n}"), "/run/netns/web", &config(n, 10_000 + n)).succeed();
        }
        let last = messages(&pod, &pod.config(mapping()));
        assert_eq!(first, last, "the ADD of one among a thousand says as much as that of the only one");
        assert_eq!(ask_tcp(&world, (NODE, 8080)).unwrap().token, "web");
        let count = |set: &str| {
            let text = Node.run(&format!("nft -j list set ip smarter-cni {set}"));
            let listed: Value = serde_json::from_str(&text).unwrap();
            listed["nftables"][1]["set"]["elem"].as_array().map_or(0, Vec::len)
        };
        assert_eq!((count("local_clients"), count("hairpin")), (1001, 1001));
        let map = Node.run("nft list map ip smarter-cni hostports");
        assert_eq!(map.matches(" : 10.7.").count(), 1001);
        let rules = Node.run("nft list table ip smarter-cni");
        let rules = rules.lines().filter(|line| line.contains("masquerade") || line.contains("dnat"));
        assert!(rules.count() < 12, "rules do not grow");
        for n in 0..1000 {
            let bare = json!({"cniVersion": "1.0.0", "name": super::NETWORK, "type": "portmap"});
            plugin("portmap", "DEL", &format!("c{n}"), "", &bare).succeed();
        }
        pod.portmap("DEL", json!({})).succeed();
        assert_eq!(super::elements(), "");
    });
}
