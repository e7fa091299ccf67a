//! Names of real pods: what a container finds with its first instruction, what twenty find in a burst, and what becomes of names
//! when the server or the pod ends. `dns::many` has as many pods as a node has, without a runtime.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::symlink;
use std::thread;
use std::time::Duration;

use domain::base::iana::Rcode;
use serde_json::json;

use super::{Containerd, Release, on_each};
use crate::cri::{Container, HostPort, Pod, Sandbox};
use crate::deployment::as_a_node;
use crate::dns::Role;
use crate::dns::ask::ask;
use crate::image;
use crate::lab::{self, Answer, Node, UNDER_TEST, eventually};
use crate::labnet::{GATEWAY, assert_nothing_is_left, conflist};

on_each!(
    a_container_finds_names_with_its_first_instruction,
    a_pod_with_host_port_53_does_not_get_what_pods_ask_the_node;
    v2: twenty_pods_in_a_burst_are_found_whoever_is_killed
);

/// What manifests and kubelets say.
const SERVER: &str = "169.254.0.2";
const PATIENCE: Duration = Duration::from_secs(20);
const PODS: usize = 20;

/// A node with the network that is installed, as far as names go, and containerd's directory where it is by default.
fn node(release: Release) -> Containerd {
    as_a_node();
    symlink("/run/lab-containerd/root", "/var/lib/containerd").unwrap();
    let mut list = conflist();
    list["plugins"][0]["nodeDns"] = json!(SERVER);
    list["plugins"][0]["capabilities"] = json!({"io.kubernetes.cri.pod-annotations": true});
    Containerd::start(release, UNDER_TEST.dir(), &list)
}

/// Its hostname is not its name, and all have one name in common.
fn pod(name: &str) -> Pod {
    Pod {
        hostname: format!("host-of-{name}"),
        name_server: SERVER.to_owned(),
        annotations: vec![("smarter-cni/dns-names".to_owned(), "all".to_owned())],
        ..Pod::new(name)
    }
}

fn addresses(pods: &[&Sandbox]) -> Result<Vec<IpAddr>, Rcode> {
    let mut all: Vec<IpAddr> = pods.iter().map(|pod| pod.addresses[0].parse().unwrap()).collect();
    all.sort_unstable();
    if all.is_empty() { Err(Rcode::NXDOMAIN) } else { Ok(all) }
}

/// How a container ends whose only instruction is to send a packet to whom it finds: 0 if there was an answer.
fn finds(containerd: &Containerd, (pod, sandbox): (&Pod, &Sandbox), name: &str) -> u64 {
    let line = format!("ping -c 1 -W 5 {name}");
    let container = Container {
        name: format!("finds-{name}"),
        image: image::NAME.to_owned(),
        command: line.split_whitespace().map(str::to_owned).collect(),
        ..Container::default()
    };
    let id = containerd.cri.run_container(pod, sandbox, &container).unwrap();
    let mut code = None;
    eventually("the container ends", PATIENCE, || {
        code = containerd.cri.exit_code(&id).unwrap();
        code.is_some()
    });
    code.unwrap()
}

/// Through the search list of its kubelet, by the resolver in the image.
fn a_container_finds_names_with_its_first_instruction(release: Release) {
    let containerd = node(release);
    let _role = Role::start(&[]);
    let (one, two) = (pod("one"), pod("two"));
    let (first, second) = (containerd.run_pod(&one), containerd.run_pod(&two));
    for name in ["two", "host-of-two", "host-of-one.default", "one.default.svc.cluster.local"] {
        assert_eq!(finds(&containerd, (&two, &second), name), 0, "{name}");
    }
    assert_ne!(finds(&containerd, (&two, &second), "three"), 0, "nobody is called so");
    containerd.remove_pod(&second);
    for name in ["two", "host-of-two"] {
        let found = ask(&first.network, SERVER, &format!("{name}.default.svc.cluster.local"));
        assert_eq!(found, Err(Rcode::NXDOMAIN), "{name}");
    }
    containerd.remove_pod(&first);
    assert_nothing_is_left(&[first.addresses, second.addresses].concat());
}

fn a_pod_with_host_port_53_does_not_get_what_pods_ask_the_node(release: Release) {
    let world = lab::world();
    let containerd = node(release);
    let _role = Role::start(&[]);
    let port = |udp| HostPort { udp, host: 53, container: 53, address: String::new() };
    let pihole = Pod { host_ports: vec![port(false), port(true)], ..pod("pihole") };
    let (pihole, client) = (containerd.run_pod(&pihole), containerd.run_pod(&pod("client")));
    let inner = SocketAddr::new(pihole.addresses[0].parse().unwrap(), 53);
    lab::serve_tcp(&pihole.network, inner, "pihole");
    lab::serve_udp(&pihole.network, inner, "pihole");
    let expected = addresses(&[&client]);
    for server in [SERVER, GATEWAY] {
        let name = "client.default.svc.cluster.local";
        assert_eq!(ask(&client.network, server, name), expected, "a pod at {server}");
        assert_eq!(ask(&pihole.network, server, name), expected, "the pod itself at {server}");
        assert_eq!(ask(&Node, server, name), expected, "the node at {server}");
    }
    let seen = Answer { token: "pihole".into(), seen_as: lab::WORLD };
    assert_eq!(lab::ask_udp(&world, SocketAddr::new(lab::NODE, 53)).unwrap(), seen);
    assert_eq!(lab::ask_tcp(&world, SocketAddr::new(lab::NODE, 53)).unwrap(), seen);
    containerd.remove_pod(&pihole);
    containerd.remove_pod(&client);
}

/// Every name is asked once in the moment when containerd says that the pod is there, or is gone.
fn twenty_pods_in_a_burst_are_found_whoever_is_killed(release: Release) {
    let mut containerd = node(release);
    let role = Role::start(&[]);
    let full = |name: &str| format!("{name}.default.svc.cluster.local");
    let mut pods: BTreeMap<usize, Sandbox> = thread::scope(|scope| {
        let containerd = &containerd;
        let start = move |number: usize| {
            let sandbox = containerd.run_pod(&pod(&format!("pod{number}")));
            let found = ask(&sandbox.network, SERVER, &full(&format!("pod{number}")));
            assert_eq!(found, addresses(&[&sandbox]), "pod{number}");
            (number, sandbox)
        };
        let starting: Vec<_> = (0..PODS).map(|number| scope.spawn(move || start(number))).collect();
        starting.into_iter().map(|pod| pod.join().expect("every pod is found")).collect()
    });
    let all_are_right = |pods: &BTreeMap<usize, Sandbox>, prefix: &str| {
        for number in 0..PODS {
            let own: Vec<_> = pods.get(&number).into_iter().collect();
            let name = full(&format!("{prefix}pod{number}"));
            assert_eq!(ask(&Node, SERVER, &name), addresses(&own), "{name}");
        }
        assert_eq!(ask(&Node, SERVER, &full("all")), addresses(&pods.values().collect::<Vec<_>>()));
    };
    all_are_right(&pods, "");
    // A hostname is written behind the record, and then looked for.
    for number in 0..PODS {
        let name = full(&format!("host-of-pod{number}"));
        eventually(&name, PATIENCE, || ask(&Node, SERVER, &name) == addresses(&[&pods[&number]]));
    }

    // The server is killed, and containerd as well; meanwhile pods go.
    role.signal("KILL");
    drop(role);
    containerd.crash_and_restart(|| ());
    for number in 0..5 {
        containerd.remove_pod(&pods.remove(&number).unwrap());
    }
    let _role = Role::start(&[]);
    all_are_right(&pods, "");
    all_are_right(&pods, "host-of-");

    thread::scope(|scope| {
        for (number, sandbox) in &pods {
            let containerd = &containerd;
            scope.spawn(move || {
                containerd.remove_pod(sandbox);
                for name in [format!("pod{number}"), format!("host-of-pod{number}")] {
                    assert_eq!(ask(&Node, SERVER, &full(&name)), Err(Rcode::NXDOMAIN), "{name}");
                }
            });
        }
    });
    all_are_right(&BTreeMap::new(), "");
    let gone: Vec<String> = pods.values().flat_map(|pod| pod.addresses.clone()).collect();
    assert_nothing_is_left(&gone);
    assert!(fs::exists("/run/smarter-cni/dns.sock").unwrap(), "it goes on");
}
