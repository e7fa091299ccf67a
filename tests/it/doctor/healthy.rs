//! Healthy nodes: no finding, nothing changed, however many pods.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::ground::Ground;
use super::node::{Kind, Lab, sh, write};
use super::{diagnose, doctor};
use crate::lab::{Node, Place};
use crate::sandbox::sandboxed;

/// Nothing is found, and nothing could not be looked at. Prints how long it took.
fn assert_healthy(pods: usize) {
    let begun = Instant::now();
    let diagnosis = diagnose("--strict");
    let took = begun.elapsed();
    assert!(
        diagnosis.problems().is_empty() && diagnosis.rows("unknown").count() == 0,
        "{}",
        diagnosis.words()
    );
    assert_eq!(diagnosis.status, 0);
    let text = doctor("");
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.starts_with("✓ ") && text.lines().count() == 1, "{text}");
    let begun = Instant::now();
    let probed = diagnose("--strict --probe");
    assert!(probed.problems().is_empty() && probed.rows("unknown").count() == 0, "{}", probed.words());
    eprintln!(
        "doctor with {pods} pods: {} ms, with --probe {} ms",
        took.as_millis(),
        begun.elapsed().as_millis()
    );
}

fn healthy(dual: bool, pods: usize) {
    sandboxed(|| {
        let lab = Lab::new(&Kind { dual, ..Kind::default() }, pods);
        assert_healthy(pods);
        drop(lab);
    });
}

#[test]
fn a_node_without_pods() {
    healthy(false, 0);
}

#[test]
fn a_node_with_one_pod() {
    healthy(false, 1);
}

#[test]
fn a_node_with_one_pod_of_two_families() {
    healthy(true, 1);
}

#[test]
fn a_node_with_a_hundred_pods() {
    healthy(false, 100);
}

#[test]
fn a_node_with_a_hundred_pods_of_two_families() {
    healthy(true, 100);
}

#[test]
fn a_node_whose_network_asks_for_everything() {
    sandboxed(|| {
        let keys = json!({"macspoofchk": true, "portIsolation": true, "mtu": 1400});
        let lab = Lab::new(&Kind { dual: true, keys, ..Kind::default() }, 2);
        assert_healthy(2);
        drop(lab);
    });
}

/// A VPN's default route in pieces, and a company's network around the pods' range: everything flows.
#[test]
fn a_node_with_a_vpn() {
    sandboxed(|| {
        let lab = Lab::new(&Kind { dual: true, ..Kind::default() }, 2);
        for to in ["0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8", "8.0.0.0/5"] {
            Node.run(&format!("ip route add {to} via 192.0.2.2"));
        }
        assert_healthy(2);
        drop(lab);
    });
}

/// Rule sets of others under which every flow works: nobody is blamed.
fn healthy_with(rules: &[&str], files: &[(&str, &str)], scripts: &[&str]) {
    sandboxed(|| {
        let lab = Lab::new(&Kind { dual: true, ..Kind::default() }, 2);
        let ground = Ground::new(&lab);
        let well = ground.alive();
        for table in rules {
            fs::write("/run/rules.nft", table).unwrap();
            Node.run("nft -f /run/rules.nft");
        }
        for (path, text) in files {
            write(path, text);
        }
        for script in scripts {
            sh(script);
        }
        ground.assert_no_worse(&well, "on a node that is called healthy");
        assert_healthy(2);
        drop(lab);
    });
}

const FIREWALLD: &str = "table inet firewalld {
    chain pre { type filter hook prerouting priority -290; policy accept;
        icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
        meta nfproto ipv6 fib saddr . mark . iif oif missing drop
    }
    chain input { type filter hook input priority 10; policy accept;
        ct state established,related accept
        ct status dnat accept
        iifname \"lo\" accept
        ct state invalid drop
        jump zones
        reject with icmpx type admin-prohibited
    }
    chain trusted { accept; }
    chain public {
        meta l4proto { 1, 58 } accept
        tcp dport { 22, 7001 } accept
        udp dport 7001 accept
    }
    chain zones {
        iifname \"smartnet0\" goto trusted
        goto public
    }
    chain forward { type filter hook forward priority 10; policy accept;
        ct state established,related accept
        ct status dnat accept
        iifname \"lo\" accept
        iifname \"smartnet0\" accept
        ct state invalid drop
        reject with icmpx type admin-prohibited
    }
    chain output { type filter hook output priority 10; policy accept;
        ct state established,related accept
        oifname \"lo\" accept
    }
}";

#[test]
fn a_node_with_a_firewall_that_trusts_pods() {
    healthy_with(&[FIREWALLD], &[], &[]);
}

/// As books on nftables have it: verdicts from maps, and lists between braces that are about others.
#[test]
fn a_node_with_a_firewall_of_maps() {
    let maps = "table inet wall {
        chain input { type filter hook input priority 0; policy drop;
            ct state vmap { established : accept, related : accept, invalid : drop }
            iifname vmap { \"lo\" : accept, \"smartnet0\" : accept }
            meta l4proto { icmp, icmpv6 } accept
            tcp dport { 22, 6443 } accept
            ip saddr { 203.0.113.0/24, 198.51.100.7 } drop
        }
        chain forward { type filter hook forward priority 0; policy drop;
            ip saddr { 203.0.113.0/24, 198.51.100.1-198.51.100.9 } drop
            tcp dport { 23, 2323-2325 } drop
            ct state vmap { established : accept, related : accept, invalid : drop }
            iifname \"smartnet0\" accept
            ct status dnat accept
        }
    }";
    healthy_with(&[maps], &[], &[]);
}

/// ufw with a rule for the pods' ranges, fail2ban, and what kube-proxy leaves in filter and mangle.
#[test]
fn a_node_with_many_rules_of_others() {
    let ufw = "iptables-nft -P INPUT DROP; ip6tables-nft -P INPUT DROP
        for p in iptables-nft ip6tables-nft; do
          $p -N ufw-before-input; $p -A INPUT -j ufw-before-input
          $p -A ufw-before-input -i lo -j ACCEPT
          $p -A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
          $p -A ufw-before-input -m conntrack --ctstate INVALID -j DROP
          $p -A ufw-before-input -p tcp -m multiport --dports 22,6443 -j ACCEPT
        done
        ip6tables-nft -A ufw-before-input -p ipv6-icmp -j ACCEPT
        iptables-nft -A INPUT -s 10.7.0.0/16 -j ACCEPT; ip6tables-nft -A INPUT -s fd07::/64 -j ACCEPT
        iptables-nft -N f2b; iptables-nft -I INPUT -p tcp -j f2b
        iptables-nft -A f2b -s 203.0.113.9/32 -j REJECT; iptables-nft -A f2b -j RETURN";
    let kube = "iptables-nft -N KUBE-FIREWALL; iptables-nft -I INPUT -j KUBE-FIREWALL; iptables-nft -I OUTPUT -j KUBE-FIREWALL
        iptables-nft -A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP
        iptables-nft -A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
        iptables-nft -N KUBE-FORWARD; iptables-nft -A FORWARD -j KUBE-FORWARD
        iptables-nft -A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
        iptables-nft -A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
        iptables-nft -t nat -N KUBE-POSTROUTING; iptables-nft -t nat -A POSTROUTING -j KUBE-POSTROUTING
        iptables-nft -t nat -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
        iptables-nft -t nat -A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
        iptables-nft -t nat -A KUBE-POSTROUTING -j MASQUERADE";
    healthy_with(&[], &[], &[ufw, kube]);
}

/// The same port of another address, by another interface, or for somebody else.
#[test]
fn a_node_with_translations_of_the_same_port() {
    let others = "ip link add vpn0 type veth peer name vpn1; ip link set vpn0 up; ip addr add 198.51.100.1/24 dev vpn0
        iptables-nft -t nat -A PREROUTING -d 198.51.100.1/32 -p tcp --dport 8080 -j DNAT --to-destination 192.0.2.2:7001
        iptables-nft -t nat -A PREROUTING -i vpn0 -p tcp --dport 8080 -j DNAT --to-destination 192.0.2.2:7001
        iptables-nft -t nat -A PREROUTING -s 203.0.113.0/24 -p tcp --dport 8080 -j DNAT --to-destination 192.0.2.2:7001";
    let native = "table ip local { set few { type ipv4_addr; elements = { 203.0.113.7 }; }
        chain pre { type nat hook prerouting priority -110;
            ip saddr @few tcp dport 8080 redirect to :81
            ip daddr 198.51.100.1 tcp dport 8081 redirect to :81; }
    }";
    healthy_with(&[native], &[], &[others]);
}

/// What comes behind the network that pods get is somebody's who names it.
#[test]
fn a_node_with_networks_behind_ours() {
    let podman = r#"{"cniVersion":"0.4.0","name":"podman","plugins":[
        {"type":"bridge","bridge":"cni-podman0","isGateway":true,"ipMasq":true,"hairpinMode":true,
         "ipam":{"type":"host-local","routes":[{"dst":"0.0.0.0/0"}],"ranges":[[{"subnet":"10.88.0.0/16","gateway":"10.88.0.1"}]]}},
        {"type":"portmap","capabilities":{"portMappings":true}},{"type":"firewall"},{"type":"tuning"}]}"#;
    let files =
        [("/etc/cni/net.d/87-podman.conflist", podman), ("/etc/cni/net.d/99-old.conflist", "{\"name\":")];
    healthy_with(&[], &files, &[]);
}

/// By which a node reaches containers that have addresses of its uplink's network.
#[test]
fn a_node_with_a_macvlan_shim() {
    let shim = "ip link add shim link up0 type macvlan mode bridge; ip addr add 192.0.2.223/32 dev shim
        ip link set shim up; ip route add 192.0.2.192/27 dev shim";
    healthy_with(&[], &[], &[shim]);
}

#[test]
fn a_node_with_multus_first() {
    let multus = r#"{"cniVersion":"0.3.1","name":"multus-cni-network","type":"multus",
        "kubeconfig":"/etc/cni/net.d/multus.d/multus.kubeconfig","clusterNetwork":"smartnet"}"#;
    let files = [("/etc/cni/net.d/00-multus.conf", multus)];
    healthy_with(
        &[],
        &files,
        &[
            "mv /etc/cni/net.d/0-smarter.conflist /etc/cni/net.d/10-smarter.conflist; ln -s /bin/true /opt/cni/bin/multus",
        ],
    );
}

/// Somebody listed the old tables, which loads them, and lists of iptables have rules.
#[test]
fn a_node_with_old_tables_that_are_empty() {
    let script = "iptables-legacy -S; iptables-legacy -t nat -S; ip6tables-legacy -S
        iptables-nft -A INPUT -i up0 -p tcp --dport 21 -j DROP";
    healthy_with(&[], &[], &[script]);
}

/// Rules by source and mark that lead nobody astray.
#[test]
fn a_node_with_policy_routing() {
    let script = "ip route add default via 192.0.2.2 table 100
        ip rule add from 192.0.2.1 lookup 100 priority 99; ip rule add fwmark 0xca6c lookup 100 priority 98
        ip rule add from all lookup main suppress_prefixlength 0 priority 97";
    healthy_with(&[], &[], &[script]);
}

/// Files below a directory with their contents, links with their targets.
pub(super) fn files(directory: &Path, found: &mut String) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let kind = fs::symlink_metadata(&path).unwrap();
        if kind.is_dir() {
            files(&path, found);
        } else if kind.is_symlink() {
            writeln!(found, "{} -> {}", path.display(), fs::read_link(&path).unwrap().display()).unwrap();
        } else {
            writeln!(found, "{} {:?}", path.display(), fs::read(&path).unwrap_or_default()).unwrap();
        }
    }
}

/// All that could be changed: links, addresses, routes, rules, neighbours, filters, switches, files.
fn snapshot() -> String {
    let mut all = String::new();
    for command in [
        "ip -d link show",
        "ip -4 addr show",
        "ip -4 route show table all",
        "ip -6 route show table all",
        "ip rule show",
        "bridge -d link show",
        "nft -a list ruleset",
        "sysctl -a -r ^net\\.ipv4\\.(ip_forward|conf|neigh)",
        "sysctl -a -r ^net\\.ipv6\\.conf",
        "sysctl -a -r ^net\\.bridge",
    ] {
        let text = Node.run(command);
        for line in text.lines() {
            // Timers run by themselves.
            let mut words = line.split_whitespace();
            while let Some(word) = words.next() {
                write!(all, "{word} ").unwrap();
                if word.ends_with("_timer") || word == "expires" {
                    words.next();
                }
            }
            writeln!(all).unwrap();
        }
    }
    for directory in ["/run", "/etc", "/opt", "/var/lib/cni"] {
        files(Path::new(directory), &mut all);
    }
    all
}

#[test]
fn looking_changes_nothing() {
    sandboxed(|| {
        let lab = Lab::new(&Kind { dual: true, keys: json!({"macspoofchk": true}), ..Kind::default() }, 3);
        let before = snapshot();
        for options in ["", "--verbose", "--json"] {
            assert_eq!(doctor(options).status.code(), Some(0));
        }
        let after = snapshot();
        if before != after {
            let lines = before.lines().zip(after.lines()).find(|(one, other)| one != other);
            panic!("doctor changed something: {lines:?}");
        }
        drop(lab);
    });
}

/// No file is opened for writing, made, renamed or removed. Sockets and namespaces are not files.
#[test]
fn no_file_is_written_to() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 2);
        let binary = crate::lab::binary();
        let calls = "open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,link,linkat,symlink,\
                     symlinkat,truncate,ftruncate,chmod,fchmod,fchmodat,mknod,mknodat,execve,fork,vfork";
        Node.run(&format!("strace -f -qq -o /run/trace -e trace={calls} {} doctor", binary.display()));
        let trace = fs::read_to_string("/run/trace").unwrap();
        let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"];
        let changes = trace.lines().filter(|line| {
            let opens = line.contains("open");
            let execve = line.contains("execve(") && line.contains(&binary.display().to_string());
            !execve && (!opens || writes.iter().any(|flag| line.contains(flag)))
        });
        assert_eq!(changes.collect::<Vec<_>>(), Vec::<&str>::new());
        assert!(trace.lines().count() > 50, "the trace is a trace: {trace}");
        drop(lab);
    });
}

/// A pod that is just being attached or detached looks half made.
#[test]
fn pods_that_come_and_go_are_no_finding() {
    sandboxed(|| {
        let kind = Kind::default();
        let lab = Lab::new(&kind, 3);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let turnover = scope.spawn(|| {
                let mut rounds = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    super::node::Pod::attach(&kind, 7, &format!("container-{rounds}")).detach(&kind);
                    rounds += 1;
                }
                rounds
            });
            for _ in 0..30 {
                let diagnosis = diagnose("--strict");
                if diagnosis.status != 0 {
                    done.store(true, std::sync::atomic::Ordering::Relaxed);
                    panic!("{}", diagnosis.words());
                }
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            let rounds = turnover.join().expect("pods come and go");
            assert!(rounds > 3, "only {rounds} pods came and went");
        });
        drop(lab);
    });
}

/// Nothing but the binary: no PATH, no environment, no other file system than the node's own.
#[test]
fn an_empty_environment_is_enough() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        let out =
            std::process::Command::new(crate::lab::binary()).arg("doctor").env_clear().output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{out:?}");
        drop(lab);
    });
}

/// Without any privilege it says what it could not look at, and does not call it fine.
#[test]
fn without_privileges_it_says_what_it_could_not_see() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        let binary = crate::lab::binary();
        let bare = format!("setpriv --bounding-set -all --inh-caps -all {} doctor --json", binary.display());
        let out = Node.command(&bare).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let status = |id: &str| {
            let rows = json["findings"].as_array().unwrap();
            rows.iter().find(|row| row["id"] == id).unwrap()["status"].clone()
        };
        for id in ["kernel-veth", "table-missing", "hostport-missing", "pod-address"] {
            assert_eq!(status(id), "unknown", "{id}");
        }
        for id in ["forwarding", "bridge-down", "conflist-missing"] {
            assert_eq!(status(id), "ok", "{id}");
        }
        assert_eq!(out.status.code(), Some(0), "not broken, only unseen");
        let blind = format!(
            "setpriv --bounding-set -all --inh-caps -all {} doctor --only kernel-veth",
            binary.display()
        );
        let out = Node.command(&blind).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "nothing could be looked at");
        drop(lab);
    });
}

/// In a container the host's tree is somewhere else, and its links must be followed there.
#[test]
fn the_hosts_tree_may_be_mounted_elsewhere() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        fs::create_dir("/opt/host").unwrap();
        Node.run("mount --rbind / /opt/host");
        assert_eq!(diagnose("--root /opt/host --strict").status, 0);
        fs::write("/etc/cni/net.d/0-other.conflist", r#"{"name":"o","plugins":[{"type":"loopback"}]}"#)
            .unwrap();
        let sick = diagnose("--root /opt/host");
        let expected = ("conflist-not-first".to_owned(), "file /etc/cni/net.d/0-other.conflist".to_owned());
        assert!(sick.problems().contains(&expected), "{}", sick.words());
        drop(lab);
    });
}
