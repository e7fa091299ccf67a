use std::process::Command;

use serde_json::json;

use super::faults;
use crate::doctor::node::{Kind, Lab, sh, write};
use crate::lab;
use crate::sandbox::sandboxed;

/// Hides a file of /proc/sys behind one that says something else: most limits can only be set for the whole machine.
fn pretend(switch: &str, value: &str) {
    let fake = format!("/run/pretend-{}", switch.replace('/', "-"));
    write(&fake, value);
    sh(&format!("mount --bind {fake} /proc/sys/{switch}"));
}

faults! {
    the_table_of_connections_is_nearly_full: [("conntrack-full", "sysctl net.netfilter.nf_conntrack_max")] => 0, |_| {
        pretend("net/netfilter/nf_conntrack_count", "60000\n");
        pretend("net/netfilter/nf_conntrack_max", "65536\n");
    };
    the_table_of_neighbours_is_nearly_full: [
        ("neighbours-full", "sysctl net.ipv4.neigh.default.gc_thresh3"),
    ] => 0, |_| {
        sh("for n in 100 101 102 103 104; do ip neigh add 192.0.2.$n lladdr 02:00:00:00:00:01 dev up0; done
            mkdir -p /run/neigh/default; echo 6 > /run/neigh/default/gc_thresh3
            mount --bind /run/neigh /proc/sys/net/ipv4/neigh");
    };
    br_netfilter_is_off: [("kernel-br-netfilter", "sysctl net.bridge.bridge-nf-call-iptables")] => 0, |_| {
        sh("sysctl -q -w net.bridge.bridge-nf-call-iptables=0");
    };
    br_netfilter_is_not_loaded [by_hand: false]: [("kernel-br-netfilter", "module br_netfilter")] => 0, |_| {
        sh("mkdir /run/empty; mount --bind /run/empty /proc/sys/net/bridge");
    };
    br_netfilter_is_blocked [by_hand: false]: [
        ("kernel-br-netfilter", "module br_netfilter"), ("kernel-module-blocked", "module br_netfilter"),
    ] => 0, |_| {
        sh("mkdir /run/empty; mount --bind /run/empty /proc/sys/net/bridge");
        write("/etc/modprobe.d/hardening.conf", "install br_netfilter /bin/false\n");
    };
}

/// The place of each trial among the messages that are sent in the throw-away namespace, counted from one. Trials of links
/// take eight messages.
const NF_TABLES: usize = 9;
const NAT_V4: usize = 10;
const MASQUERADE_V4: usize = 12;
const DNAT_V4: usize = 14;
const FIB_V4: usize = 16;
const CONNTRACK: usize = 18;
const CLAMP: usize = 19;
const BRIDGE_FILTER: usize = 20;
/// The last but one of the trials of links: the flag itself.
const ISOLATED: usize = 7;

/// What `doctor` finds when the kernel refuses one message of a trial with that error.
fn refused(message: usize, error: &str) -> (String, Option<i32>) {
    let injection = format!("inject=sendto:error={error}:when={message}");
    // Every other thread sends messages too; the trials alone are run, so that only theirs are counted.
    let checks = "kernel-veth,kernel-bridge,kernel-nftables,kernel-nat,kernel-masquerade,kernel-fib,kernel-conntrack,\
                  kernel-mss-clamp,kernel-bridge-filter,kernel-isolation,kernel-module-blocked";
    let out = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto", "-e", &injection])
        .arg(lab::binary())
        .args(["doctor", "--only", checks])
        .output()
        .unwrap();
    (String::from_utf8(out.stdout).unwrap(), out.status.code())
}

#[test]
fn a_kernel_that_refuses_a_feature_is_named_with_its_module() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        for (message, error, id, module) in [
            (1, "EOPNOTSUPP", "kernel-veth", "veth"),
            (2, "EOPNOTSUPP", "kernel-bridge", "bridge"),
            (NF_TABLES, "EOPNOTSUPP", "kernel-nftables", "nf_tables"),
            (NAT_V4, "ENOENT", "kernel-nat", "nft_chain_nat"),
            (MASQUERADE_V4, "ENOENT", "kernel-masquerade", "nft_masq"),
            (DNAT_V4, "ENOENT", "kernel-nat", "nft_nat"),
            (FIB_V4, "ENOENT", "kernel-fib", "nft_fib_ipv4"),
            (CONNTRACK, "ENOENT", "kernel-conntrack", "nft_ct"),
            (CLAMP, "ENOENT", "kernel-mss-clamp", "nf_tables"),
        ] {
            let (text, status) = refused(message, error);
            let line = text.lines().find(|line| line.contains(id)).unwrap_or_else(|| panic!("{id}: {text}"));
            assert!(line.contains(&format!("module {module}:")), "{text}");
            let named =
                text.lines().filter(|line| line.starts_with("  ✗") || line.starts_with("  !")).count();
            assert_eq!(named, 1, "{id}: {text}");
            let broken = id != "kernel-mss-clamp";
            assert_eq!(status, Some(i32::from(broken)), "{text}");
        }
        drop(lab);
    });
}

/// What only some networks ask for.
#[test]
fn a_feature_is_missed_where_pods_were_promised_it() {
    sandboxed(|| {
        let keys = json!({"macspoofchk": true, "portIsolation": true});
        let lab = Lab::new(&Kind { keys, ..Kind::default() }, 1);
        for (message, id, module) in
            [(BRIDGE_FILTER, "kernel-bridge-filter", "nf_tables"), (ISOLATED, "kernel-isolation", "bridge")]
        {
            let (text, status) = refused(message, "EOPNOTSUPP");
            assert!(text.contains(&format!("! {id}  module {module}:")), "{text}");
            assert_eq!(status, Some(0), "pods work, without what they were promised: {text}");
        }
        drop(lab);
    });
}

#[test]
fn a_feature_that_no_pod_was_promised_is_not_missed() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        for message in [BRIDGE_FILTER, ISOLATED] {
            let (text, _) = refused(message, "EOPNOTSUPP");
            assert!(text.starts_with('✓'), "{text}");
        }
        drop(lab);
    });
}

/// Without the ends of lines that only the terminal's width makes.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_module_that_is_blocked_is_named_with_the_file() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        write("/etc/modprobe.d/hardening.conf", "blacklist nft-masq\n");
        let (text, _) = refused(1000, "ENOENT");
        assert!(text.starts_with('✓'), "what works cannot be blocked: {text}");
        let (text, status) = refused(MASQUERADE_V4, "ENOENT");
        assert!(
            unwrapped(&text).contains(
                "fix: /etc/modprobe.d/hardening.conf keeps module nft_masq from being loaded: remove that line there"
            ),
            "{text}"
        );
        assert!(text.contains("! kernel-module-blocked  module nft_masq:"), "{text}");
        assert_eq!(status, Some(1));
        drop(lab);
    });
}
