//! What status shows of real pods, also while they come and go, to whoever may read less, and when there is nothing.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::{self, Netns, Node, Output, Place, Plugin, eventually, our_plugins};
use crate::sandbox::{run, sandboxed};

fn network(name: &str, subnet: &str) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": name, "type": "bridge", "bridge": format!("{name}0"), "isDefaultGateway": true,
        "ipam": {"type": "host-local", "dataDir": "/run/cni/networks", "ranges": [[{"subnet": subnet}], [{"subnet": "fd08::/64"}]]}
    })
}

fn plugin(dir: &std::path::Path, name: &str, verb: &str, pod: &Netns, config: &Value) -> Plugin {
    Plugin::new(dir, name)
        .command(verb)
        .container(pod.name())
        .netns(pod)
        .ifname("eth0")
        .env("CNI_ARGS", &format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={}", pod.name()))
        .json(config)
}

fn add(pod: &Netns, config: &Value) -> Value {
    plugin(our_plugins(), "bridge", "ADD", pod, config).succeed().json
}

fn map(pod: &Netns, result: &Value, ports: &Value) {
    let config = json!({"cniVersion": "1.0.0", "name": "net", "type": "portmap", "prevResult": result,
                        "runtimeConfig": {"portMappings": ports}});
    plugin(our_plugins(), "portmap", "ADD", pod, &config).succeed();
}

fn status(arguments: &str) -> Output {
    let out = Node.command(&format!("{} status {arguments}", lab::binary().display())).output().unwrap();
    let stdout = String::from_utf8(out.stdout).unwrap();
    Output {
        status: out.status.code().unwrap_or(-1),
        json: serde_json::from_str(&stdout).unwrap_or(Value::Null),
        stdout,
        stderr: String::from_utf8(out.stderr).unwrap(),
    }
}

/// The rows of a network.
fn rows(shown: &Output, network: &str) -> Vec<Value> {
    let networks = shown.json["networks"].as_array().unwrap_or_else(|| panic!("{shown}"));
    let network = networks.iter().find(|found| found["name"] == network).unwrap_or_else(|| panic!("{shown}"));
    network["attachments"].as_array().unwrap().clone()
}

#[test]
fn pods_are_shown_with_all_that_belongs_to_them() {
    sandboxed(|| {
        let config = network("net", "10.8.0.0/29");
        let (web, db) = (Netns::new("web"), Netns::new("db"));
        let result = add(&web, &config);
        map(
            &web,
            &result,
            &json!([{"hostPort": 8080, "containerPort": 80}, {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "0.0.0.0"}]),
        );
        add(&db, &config);
        let shown = status("--json");
        assert_eq!(
            (shown.status, &shown.json["version"], &shown.json["unread"]),
            (0, &json!(1), &json!([])),
            "{shown}"
        );
        let network = &shown.json["networks"][0];
        assert_eq!(
            (&network["bridge"], &network["gateways"]),
            (&json!("net0"), &json!(["10.8.0.1/29", "fd08::1/64"]))
        );
        assert_eq!(
            network["pools"][0],
            json!({"ranges": "10.8.0.1-10.8.0.6", "size": 5, "used": 2, "free": 3, "reclaimable": 0})
        );
        let row = &rows(&shown, "net")[1];
        let mac = |at: usize| &result["interfaces"][at]["mac"];
        assert_eq!(
            (&row["pod"], &row["container"], &row["interface"]),
            (&json!("shop/web"), &json!("web"), &json!("eth0"))
        );
        assert_eq!((&row["addresses"], &row["mac"]), (&json!(["10.8.0.2", "fd08::2"]), mac(2)));
        assert_eq!(
            (&row["host_interface"], &row["state"]),
            (&result["interfaces"][1]["name"], &json!("attached"))
        );
        assert!(row["since_seconds"].as_u64().unwrap() < 300, "{row}");
        assert_eq!(
            row["host_ports"][1],
            json!({"protocol": "udp", "host_ip": "0.0.0.0", "host_port": 53, "container_port": 53})
        );

        let text = status("").stdout;
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for words in [
            "network net, bridge net0, gateway 10.8.0.1/29",
            "shop/web  ",
            "8080->80/tcp 0.0.0.0:53->53/udp",
            "2 attachments, 1 network",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let other = status("--network other");
        assert_eq!((other.status, other.stdout.as_str()), (2, ""));
    });
}

#[test]
fn what_became_of_pods_is_shown() {
    sandboxed(|| {
        let config = network("net", "10.8.0.0/24");
        let pods: Vec<_> = ["a-well", "b-gone", "c-torn", "d-loose"].map(Netns::new).into();
        let results: Vec<_> = pods.iter().map(|pod| add(pod, &config)).collect();
        let port = |at: usize| results[at]["interfaces"][1]["name"].as_str().unwrap().to_owned();
        run("ip", &["link", "del", &port(2)]);
        run("ip", &["link", "set", &port(3), "nomaster"]);
        let mut pods = pods;
        drop(pods.remove(1));
        lab::taken_down(&port(1));
        // A pod of the Go plugins has a lease and nothing else.
        let theirs = Netns::new("theirs");
        let debian = std::path::Path::new(lab::DEBIAN_PLUGINS);
        let ipam = json!({"cniVersion": "1.0.0", "name": "net", "ipam": config["ipam"]});
        plugin(debian, "host-local", "ADD", &theirs, &ipam).succeed();
        lab::grow_old();
        let shown = status("--json");
        let states: Vec<_> =
            rows(&shown, "net").iter().map(|row| (row["container"].clone(), row["state"].clone())).collect();
        let expected = [
            ("theirs", "not_ours"),
            ("a-well", "attached"),
            ("b-gone", "dead"),
            ("c-torn", "no_link"),
            ("d-loose", "detached"),
        ];
        assert_eq!(states, expected.map(|(id, state)| (json!(id), json!(state))), "{shown}");
        let pool = &shown.json["networks"][0]["pools"][0];
        assert_eq!((&pool["used"], &pool["reclaimable"]), (&json!(5), &json!(1)));
        run(lab::binary().to_str().unwrap(), &["reconcile"]);
        let states: Vec<_> = rows(&status("--json"), "net").iter().map(|row| row["state"].clone()).collect();
        assert_eq!(states, ["not_ours", "attached", "attached", "attached"].map(|state| json!(state)));
    });
}

#[test]
fn a_node_without_pods_is_no_error() {
    sandboxed(|| {
        let shown = status("");
        assert_eq!(
            (shown.status, shown.stdout.as_str()),
            (0, "no pods are attached, and no addresses are leased\n")
        );
        assert_eq!(status("--json").stdout, "{\"version\":1,\"networks\":[],\"unread\":[]}\n");
        assert!(!std::path::Path::new("/run/smarter-cni").exists(), "status made something");
        assert_eq!(status("--nonsense").status, 2);
        assert!(status("--help").stdout.contains("--watch"));
    });
}

/// The links say who is there; everything else is root's.
#[test]
fn an_ordinary_user_sees_what_links_and_names_tell() {
    sandboxed(|| {
        let pod = Netns::new("web");
        add(&pod, &network("net", "10.8.0.0/24"));
        // Without the rights of root its owner is an ordinary user who may not read these.
        run("sh", &["-ec", "chmod 0 /run/smarter-cni/attachments /run/cni/networks/net/10.8.0.2"]);
        let binary = lab::binary();
        let out = Node.command(&format!("unshare --user {} status", binary.display())).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(out.status.success(), "{text}");
        for words in [
            "shop/web",
            "10.8.0.2",
            "no record: known from its link alone",
            "not read: attachment records: open",
            "run as",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
    });
}

#[test]
fn it_works_while_pods_come_and_go() {
    sandboxed(|| {
        let config = network("net", "10.8.0.0/24");
        let pods: Vec<_> = (0..20).map(|n| Netns::new(&format!("pod{n}"))).collect();
        thread::scope(|scope| {
            let turnover = scope.spawn(|| {
                for pod in &pods {
                    add(pod, &config);
                }
                for pod in &pods {
                    plugin(our_plugins(), "bridge", "DEL", pod, &config).succeed();
                }
            });
            while !turnover.is_finished() {
                let shown = status("--json");
                assert_eq!((shown.status, &shown.json["unread"]), (0, &json!([])), "{shown}");
            }
        });
        assert_eq!(status("--json").json["networks"], json!([]));
    });
}

/// Kills what it watches when the test is over.
struct Watch(Child);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn watching_says_every_change_once_and_ends_with_its_reader() {
    sandboxed(|| {
        let config = network("net", "10.8.0.0/24");
        let pod = Netns::new("web");
        let mut command = Node.command(&format!("{} status --watch --json", lab::binary().display()));
        let mut watch = Watch(command.stdout(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(watch.0.stdout.take().unwrap()).lines();
        let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
        assert_eq!(next()["networks"], json!([]));
        add(&pod, &config);
        // It may look while the ADD runs.
        let mut shown = next();
        while shown["networks"][0]["attachments"][0]["state"] != "attached" {
            shown = next();
        }
        plugin(our_plugins(), "bridge", "DEL", &pod, &config).succeed();
        while shown["networks"] != json!([]) {
            shown = next();
        }
        // Nobody reads any more: the next change ends it, and that is no failure.
        drop(lines);
        add(&pod, &config);
        eventually("it ends", Duration::from_secs(20), || watch.0.try_wait().unwrap().is_some());
        assert!(watch.0.wait().unwrap().success());
    });
}

#[test]
fn a_network_that_takes_no_new_pods_says_so() {
    sandboxed(|| {
        let directory = std::path::Path::new("/etc/cni/net.d");
        Node.run("mount -t tmpfs tmpfs /etc/cni");
        std::fs::create_dir_all(directory).unwrap();
        let list = json!({"cniVersion": "1.0.0", "name": "smartnet", "plugins": [{"type": "smarter-bridge", "drain": true}]});
        std::fs::write(directory.join("0-smarter-bridge.conflist"), list.to_string()).unwrap();
        let shown = status("");
        assert!(
            shown.stdout.contains("takes no new pods: /etc/cni/net.d/0-smarter-bridge.conflist has"),
            "{shown}"
        );
        let shown = status("--json");
        let network = &shown.json["networks"][0];
        assert_eq!(network["name"], "smartnet");
        assert_eq!(network["drained_by"], "/etc/cni/net.d/0-smarter-bridge.conflist");
    });
}
