use std::collections::BTreeSet;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{Fault, faults, usual};
use crate::doctor::diagnose;
use crate::doctor::node::{Kind, Lab, sh, write};
use crate::lab::{self, Node, Place as _};
use crate::sandbox::{sandboxed, sandboxed_daemons};
use crate::stranger::Stranger;

fn with_name_server() -> Kind {
    Kind { keys: json!({"nodeDns": "169.254.0.2"}), ..Kind::default() }
}

/// It came while the bridge had lost the address.
fn instead(stranger: Stranger, lab: &Lab) {
    sh("ip addr del 169.254.0.2/32 dev smartnet0");
    stranger.comes(&lab.world);
}

/// The address, and what is still dropped of the packets that are for it.
const TAKEN: &[(&str, &str)] =
    &[("dns-taken", "address 169.254.0.2"), ("rules-leftover", "table ip smarter-cni")];

faults! {
    a_route_leads_to_the_name_servers_address [kind: with_name_server()]: [TAKEN[0], TAKEN[1]] => 1, |lab: &Lab| {
        instead(Stranger::Route, lab);
    };
    a_neighbour_has_the_name_servers_address [kind: with_name_server()]: [TAKEN[0], TAKEN[1]] => 1, |lab: &Lab| {
        instead(Stranger::Neighbour, lab);
    };
    another_link_has_the_name_servers_address [kind: with_name_server()]: [TAKEN[0], TAKEN[1]] => 1, |lab: &Lab| {
        instead(Stranger::Address, lab);
    };
    a_connection_leads_to_the_name_servers_address [kind: with_name_server()]: [TAKEN[0], TAKEN[1]] => 1, |lab: &Lab| {
        instead(Stranger::Connection, lab);
    };
    somebody_uses_the_address_that_pods_have [kind: with_name_server()]: [("dns-taken", "address 169.254.0.2")] => 1, |lab: &Lab| {
        Stranger::Route.comes(&lab.world);
    };
    somebody_uses_the_address_before_the_first_pod [kind: with_name_server(), pods: 0]: [
        ("dns-taken", "address 169.254.0.2"),
    ] => 1, |lab: &Lab| Stranger::Neighbour.comes(&lab.world);
}

/// Kept as long as the test.
fn keep<T: Send + 'static>(it: T) {
    thread::spawn(move || {
        let _it = it;
        loop {
            thread::park();
        }
    });
}

/// As programs do that listen everywhere.
fn hold_port_53() {
    keep((UdpSocket::bind("0.0.0.0:53").unwrap(), TcpListener::bind("0.0.0.0:53").unwrap()));
}

/// A process of that name and with these arguments; it ends with the test.
fn kubelet(name: &str, arguments: &[&str]) {
    let mut command = Command::new("sh");
    command.arg0(name).args(["-c", "read x"]).args(arguments).stdin(Stdio::piped());
    keep(command.spawn().unwrap());
}

fn upstreams() -> String {
    let status = Node.run(&format!("{} status --json", lab::binary().display()));
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    status["dns"]["forwarding"]["upstreams"].to_string()
}

fn nobody_to_ask(resolv_conf: &str) {
    write("/etc/resolv.conf", resolv_conf);
    lab::eventually("the name server has read it", Duration::from_secs(10), || upstreams() == "[]");
}

/// What is printed starts one, which stays.
#[test]
fn nobody_serves_names() {
    sandboxed_daemons(|| {
        let fault = Fault {
            kind: with_name_server(),
            inject: &Lab::end_names,
            expect: &[("dns-silent", "address 169.254.0.2")],
            status: 1,
            ..usual()
        };
        fault.prove();
        assert!(upstreams().contains("192.0.2.2"), "it serves now");
    });
}

faults! {
    the_name_server_serves_elsewhere [kind: with_name_server()]: [("dns-silent", "address 169.254.0.2")] => 1, |lab: &Lab| {
        lab.end_names();
        lab.serve_names(&[("DNS_ADDRESS", "169.254.0.3")]);
    };
    somebody_has_port_53_and_the_name_server_another [kind: with_name_server()]: [
        ("dns-lead", "address 10.7.0.1"), ("dns-lead", "address 169.254.0.2"),
    ] => 1, |lab: &Lab| {
        lab.end_names();
        hold_port_53();
        lab.serve_names(&[]);
    };
    somebody_has_port_53_and_no_name_server_runs [kind: with_name_server(), by_hand: false]: [
        ("dns-port", "port 53"), ("dns-silent", "address 169.254.0.2"),
    ] => 1, |lab: &Lab| {
        lab.end_names();
        hold_port_53();
    };
    no_file_names_an_upstream_server [kind: with_name_server()]: [("dns-upstream", "name server")] => 0, |_| {
        nobody_to_ask("# none\n");
    };
    the_upstream_server_is_the_name_server_itself [kind: with_name_server()]: [("dns-upstream", "name server")] => 0, |_| {
        nobody_to_ask("nameserver 169.254.0.2\n");
    };
    a_kubelet_sends_pods_elsewhere [kind: with_name_server()]: [("dns-kubelet", "kubelet")] => 0, |_| {
        kubelet("/usr/bin/kubelet", &["--cluster-dns=10.96.0.10"]);
    };
    a_kubelet_sends_pods_to_several [kind: with_name_server()]: [("dns-kubelet", "kubelet")] => 0, |_| {
        kubelet("kubelet", &["--cluster-dns", "169.254.0.2,192.0.2.2"]);
    };
    a_kubelets_file_says_nothing [kind: with_name_server()]: [("dns-kubelet", "kubelet")] => 0, |_| {
        write("/etc/kubelet.yaml", "kind: KubeletConfiguration\n");
        kubelet("/usr/bin/kubelet", &["--config=/etc/kubelet.yaml"]);
    };
    k3s_sends_pods_to_its_own [kind: with_name_server()]: [("dns-kubelet", "kubelet of k3s")] => 0, |_| {
        kubelet("/usr/local/bin/k3s", &["agent"]);
    };
    an_edgecore_sends_pods_elsewhere [kind: with_name_server()]: [("dns-kubelet", "kubelet of KubeEdge")] => 0, |_| {
        write("/etc/kubeedge/config/edgecore.yaml", "modules:\n  edged:\n    clusterDNS:\n    - 169.254.96.16\n");
        kubelet("edgecore", &[]);
    };
}

fn nft(rules: &str) {
    write("/run/rules.nft", rules);
    sh("nft -f /run/rules.nft");
}

faults! {
    input_drops_what_pods_ask [kind: with_name_server()]: [("input-drop", "chain inet filter input")] => 0, |_| {
        nft("table inet filter { chain input { type filter hook input priority 0;
            iifname smartnet0 udp dport 53 drop; tcp dport 53 drop; }; }");
    };
    input_drops_it_between_braces [kind: with_name_server()]: [("input-drop", "chain inet filter input")] => 0, |_| {
        nft("table inet filter { chain input { type filter hook input priority 0;
            iifname smartnet0 udp dport { 53, 5353-5355 } drop; }; }");
    };
    input_drops_it_in_iptables [kind: with_name_server()]: [("input-drop", "chain ip filter INPUT")] => 0, |_| {
        sh("iptables-nft -A INPUT -i smartnet0 -p udp --dport 53 -j DROP");
    };
    input_accepts_all_but_what_pods_ask [kind: with_name_server()]: [("input-drop", "chain inet filter input")] => 0, |_| {
        nft("table inet filter { chain input { type filter hook input priority 0; policy drop; iif lo accept;
            ct state established,related accept; iifname smartnet0 icmp type echo-request accept;
            iifname smartnet0 tcp dport { 53, 6443 } accept; }; }");
    };
    input_of_iptables_accepts_all_but_what_pods_ask [kind: with_name_server()]: [("input-drop", "chain ip filter INPUT")] => 0, |_| {
        sh("iptables-nft -A INPUT -i lo -j ACCEPT
            iptables-nft -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
            iptables-nft -A INPUT -i smartnet0 -p tcp --dport 6443 -j ACCEPT
            iptables-nft -P INPUT DROP");
    };
    output_lets_only_connections_out [kind: with_name_server()]: [("packet-drop", "chain inet filter output")] => 1, |_| {
        nft("table inet filter { chain output { type filter hook output priority 0; policy drop; oif lo accept;
            ct state new,established,related accept; }; }");
    };
}

/// As CRI-O keeps it, which is where a test may write.
fn resolver(container: &str, server: &str) {
    let place = format!("/run/containers/storage/overlay-containers/{container}/userdata/resolv.conf");
    write(&place, &format!("search default.svc.cluster.local\nnameserver {server}\n"));
}

#[test]
fn pods_that_ask_somebody_else_are_a_note() {
    sandboxed(|| {
        let lab = Lab::new(&with_name_server(), 3);
        kubelet("/usr/bin/kubelet", &["--cluster-dns=169.254.0.2"]);
        resolver("web-0", "169.254.0.2");
        resolver("web-1", "10.7.0.1");
        resolver("web-2", "169.254.0.2");
        let healthy = diagnose("--strict");
        assert_eq!((healthy.status, healthy.rows("note").count()), (0, 0), "{}", healthy.words());
        resolver("web-1", "10.43.0.10");
        let found = diagnose("--strict");
        assert_eq!((found.status, found.problems()), (0, BTreeSet::new()), "{}", found.words());
        let notes: Vec<_> = found.rows("note").collect();
        let [row] = notes.as_slice() else { panic!("{notes:?}") };
        assert_eq!(row["id"], "dns-pods");
        assert_eq!(row["found"], "these ask somebody else: default/web-1 (10.43.0.10)");
        fs::remove_dir_all("/run/containers").unwrap();
        assert_eq!(diagnose("--strict").rows("note").count(), 0);
        drop(lab);
    });
}
