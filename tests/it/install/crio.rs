//! What CRI-O asks of the installed network for one pod, call by call, because no Debian has CRI-O: SetUpPod of its ocicni, the check
//! that follows, the files of the sandbox in between, and TearDownPod. What libcni makes of a list is in [`Crio::all`].

use std::fs;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::host::{BIN, Host};
use crate::dns::{Role, answer};
use crate::lab::{Netns, Node, Place as _, Plugin, eventually};
use crate::sandbox::sandboxed;

const SERVER: &str = "169.254.0.2";
const PATIENCE: Duration = Duration::from_secs(20);

/// A pod as CRI-O has it.
struct Crio {
    host: Host,
    id: String,
    netns: Netns,
    arguments: String,
    /// By their names: what ocicni has for plugins that ask.
    capabilities: Map<String, Value>,
}

impl Crio {
    fn pod(host: Host, namespace: &str, name: &str, annotations: &Value) -> Self {
        let id = "c0ffee".repeat(11)[..64].to_owned();
        // buildCNIRuntimeConf of ocicni.
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_INFRA_CONTAINER_ID={id};\
             K8S_POD_UID=2f4ac61c-6a2b-4f43-b8d9-0d4a7b6f4a10"
        );
        let capabilities = json!({
            "io.kubernetes.cri.pod-annotations": annotations,
            "portMappings": [{"hostPort": 1883, "containerPort": 1883, "protocol": "tcp", "hostIP": ""}],
            "cgroupPath": "/kubepods.slice",
        });
        let capabilities = capabilities.as_object().expect("an object").clone();
        Self { host, netns: Netns::new(&format!("pod-{name}")), id, arguments, capabilities }
    }

    /// Where CRI-O keeps what the sandbox's containers see of it.
    fn file(&self, name: &str) -> String {
        format!("/run/containers/storage/overlay-containers/{}/userdata/{name}", self.id)
    }

    /// A verb for each plugin of the list, in the newest version that it is written in. Every plugin gets what it asks for of what
    /// there is, and the result of the one before.
    fn all(&self, verb: &str, mut result: Value) -> Value {
        let list = self.host.conflist();
        let version = list["cniVersions"].as_array().and_then(|all| all.last()).expect("versions").clone();
        let mut plugins: Vec<Value> = list["plugins"].as_array().expect("plugins").clone();
        if verb == "DEL" {
            plugins.reverse();
        }
        for mut config in plugins {
            config["name"] = list["name"].clone();
            config["cniVersion"] = version.clone();
            if !result.is_null() {
                config["prevResult"] = result.clone();
            }
            let asked = config["capabilities"].as_object().cloned().unwrap_or_default();
            let asked = asked.into_iter().filter(|(_, wanted)| *wanted == json!(true));
            let given: Map<_, _> = asked
                .filter_map(|(name, _)| Some((name.clone(), self.capabilities.get(&name)?.clone())))
                .collect();
            if !given.is_empty() {
                config["runtimeConfig"] = given.into();
            }
            let out = Plugin::new(self.host.path(BIN), config["type"].as_str().expect("a type"))
                .command(verb)
                .container(&self.id)
                .netns(&self.netns)
                .ifname("eth0")
                .env("CNI_ARGS", &self.arguments)
                .json(&config)
                .succeed();
            if verb == "ADD" {
                result = out.json;
            }
        }
        result
    }
}

fn is(name: &str, expected: &str) {
    assert_eq!(answer(&Node, &format!("@{SERVER} {name}")), expected, "{name}");
}

#[test]
fn a_pod_of_crio_has_its_hostname_and_the_names_of_its_annotation() {
    sandboxed(|| {
        let host = Host::new();
        host.installed("--subnet 10.38.0.0/16 --dns 169.254.0.2");
        let _role = Role::start(&[]);
        let annotations =
            json!({"kubernetes.io/config.source": "api", "smarter-cni/dns-names": "mqtt,broker"});
        let crio = Crio::pod(host, "shop", "broker-7c9", &annotations);

        // The directory is there before the network, the file after it and before anything runs in the pod.
        fs::create_dir_all(crio.file("")).expect("userdata");
        crio.netns.run("ip link set lo up");
        let added = crio.all("ADD", Value::Null);
        let address =
            added["ips"][0]["address"].as_str().and_then(|at| at.split('/').next()).expect("an address");
        for name in [
            "broker-7c9.shop.svc.cluster.local",
            "mqtt.shop.svc.cluster.local",
            "broker.cluster.local",
            "mqtt",
        ] {
            is(name, address);
        }
        is("edge.shop.svc.cluster.local", "NXDOMAIN");
        crio.all("CHECK", added.clone());
        fs::write(crio.file("hostname"), "Edge\n").expect("the hostname");
        eventually("its hostname is found", PATIENCE, || {
            answer(&crio.netns, &format!("@{SERVER} edge.shop.svc.cluster.local")) == address
        });
        is(
            &format!("-x {address}"),
            &["broker-7c9", "broker", "edge", "mqtt"]
                .map(|name| format!("{name}.shop.pod.cluster.local. {name}.shop.svc.cluster.local."))
                .join(" "),
        );
        crio.all("CHECK", added.clone());

        // A kubelet may end a pod more than once.
        for _ in 0..2 {
            crio.all("DEL", added.clone());
            for name in ["broker-7c9", "mqtt", "broker", "edge"] {
                is(&format!("{name}.shop.svc.cluster.local"), "NXDOMAIN");
            }
        }
    });
}
