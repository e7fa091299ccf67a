//! What each contestant is told, in its own language: a program, words, environment, standard input.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::contestant::{Contestant, Kind, POD_PORT, Pod, Step};
use crate::peers;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Del,
}

#[derive(Debug)]
pub(crate) struct Call {
    /// For errors.
    pub(crate) title: String,
    pub(crate) program: PathBuf,
    pub(crate) words: Vec<String>,
    pub(crate) environment: Vec<(&'static str, String)>,
    pub(crate) stdin: Vec<u8>,
}

impl Contestant {
    pub(crate) fn call(&self, step: Step, verb: Verb, pod: &Pod, previous: &Value) -> Call {
        let netns = format!("/run/netns/{}", self.network(pod));
        // What it executes itself is searched among its own files first. With nftables only there: where the Go plugins find
        // iptables, too, their DEL calls it in any case, and fails when it does not know the chain (1.9.1 with iptables 1.8.9).
        let mut path = self.stage.directory().display().to_string();
        if self.kind != Kind::GoNftables {
            path = format!("{path}:{}", peers::search_path());
        }
        let mut call = Call {
            title: format!("{} {verb:?} {step:?}", self.title),
            program: PathBuf::new(),
            words: Vec::new(),
            environment: vec![("PATH", path)],
            stdin: Vec::new(),
        };
        match self.kind {
            Kind::Ours | Kind::GoIptables | Kind::GoNftables => {
                call.program = self.stage.file(if step == Step::Port { "portmap" } else { "bridge" });
                call.environment.extend([
                    ("CNI_COMMAND", if verb == Verb::Add { "ADD" } else { "DEL" }.to_owned()),
                    ("CNI_CONTAINERID", self.network(pod)),
                    ("CNI_NETNS", netns),
                    ("CNI_IFNAME", "eth0".to_owned()),
                    ("CNI_PATH", self.stage.directory().display().to_string()),
                ]);
                call.stdin = self.plugin_configuration(step, pod, previous).to_string().into_bytes();
            }
            Kind::Netavark => {
                call.program = self.stage.file("netavark");
                let verb = if verb == Verb::Add { "setup" } else { "teardown" };
                let line = format!("--config /run/{} --rootless false {verb} {netns}", self.name);
                call.words = words(&line);
                call.environment.push(("NETAVARK_FW", "nftables".to_owned()));
                call.stdin = self.netavark_options(step, pod).to_string().into_bytes();
            }
            Kind::Floor => {
                call.program = self.stage.file("floor");
                call.words = words(&floor_line(step, verb, pod, &netns));
            }
        }
        call
    }

    fn plugin_configuration(&self, step: Step, pod: &Pod, previous: &Value) -> Value {
        let network = format!("bench-{}", self.name);
        let mut config = if step == Step::Port {
            json!({
                "cniVersion": "1.0.0", "name": network, "type": "portmap", "capabilities": { "portMappings": true },
                "runtimeConfig": {
                    "portMappings": [{ "hostPort": pod.port, "containerPort": POD_PORT, "protocol": "tcp" }],
                },
            })
        } else {
            json!({
                "cniVersion": "1.0.0", "name": network, "type": "bridge", "bridge": "br-bench",
                "isGateway": true, "isDefaultGateway": true, "ipMasq": true,
                "ipam": { "type": "host-local", "subnet": "10.97.0.0/24" },
            })
        };
        if self.kind == Kind::GoNftables {
            config[if step == Step::Port { "backend" } else { "ipMasqBackend" }] = json!("nftables");
        }
        if !previous.is_null() {
            config["prevResult"] = previous.clone();
        }
        config
    }

    /// What podman writes. It chooses addresses itself, so netavark leases none here.
    fn netavark_options(&self, step: Step, pod: &Pod) -> Value {
        let ports = match step {
            Step::Bridge => json!([]),
            Step::Port | Step::Both => json!([{
                "container_ip": "", "container_port": POD_PORT, "host_ip": "", "host_port": pod.port,
                "protocol": "tcp", "range": 1,
            }]),
        };
        json!({
            "container_id": self.network(pod), "container_name": pod.name, "port_mappings": ports,
            "networks": {
                "bench": { "interface_name": "eth0", "static_ips": [format!("10.97.0.{}", pod.host)] },
            },
            "network_info": { "bench": {
                "name": "bench", "id": format!("{:064x}", 97), "driver": "bridge", "network_interface": "br-bench",
                "subnets": [{ "subnet": "10.97.0.0/24", "gateway": "10.97.0.1" }],
                "ipv6_enabled": false, "internal": false, "dns_enabled": false,
                "ipam_options": { "driver": "host-local" },
            } },
        })
    }
}

fn floor_line(step: Step, verb: Verb, pod: &Pod, netns: &str) -> String {
    let Pod { name, host, port } = pod;
    match (step, verb) {
        (Step::Port, Verb::Add) => format!("map floor {port} 10.97.0.{host} {POD_PORT} /run/{name}.ports"),
        (Step::Port, Verb::Del) => format!("unmap floor {port} 10.97.0.{host} {POD_PORT} /run/{name}.ports"),
        (_, verb) => format!(
            "{} br-bench {netns} eth0 veth{name} 10.97.0.{host} 24 10.97.0.1 floor /var/lib/cni/{name}.lease /run/{name}.record",
            if verb == Verb::Add { "add" } else { "del" },
        ),
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}
