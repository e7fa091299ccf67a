use std::net::TcpListener;

use serde_json::json;

use super::faults;
use crate::doctor::node::{Kind, Lab, sh, write};

fn checked() -> Kind {
    Kind { keys: json!({"macspoofchk": true}), ..Kind::default() }
}

faults! {
    the_guard_is_gone: [("table-incomplete", "table ip smarter-cni")] => 1, |_| {
        sh("nft delete chain ip smarter-cni forward_guard");
    };
    nothing_lowers_the_segment_size: [("table-incomplete", "table ip smarter-cni")] => 1, |_| {
        sh("nft delete chain ip smarter-cni mss_clamp");
    };
    a_set_has_an_interface_that_is_gone: [("rules-leftover", "table ip smarter-cni")] => 0, |_| {
        sh("nft add element ip smarter-cni clamped '{ \"old0\" }'");
    };
    somebody_flushed_all_rules: [("table-missing", "table ip smarter-cni")] => 1, |_| sh("nft flush ruleset");
    the_tables_of_both_families_are_gone [kind: super::dual()]: [
        ("table-missing", "table ip smarter-cni"), ("table-missing", "table ip6 smarter-cni"),
    ] => 1, |_| {
        write("/etc/nftables.conf", "flush ruleset\n");
        write("/etc/systemd/system/sysinit.target.wants/nftables.service", "");
        sh("nft flush ruleset");
    };
    a_chain_of_ours_was_flushed: [("table-incomplete", "table ip smarter-cni")] => 1, |_| {
        sh("nft flush chain ip smarter-cni prerouting");
    };
    a_rule_of_ours_is_of_another_version: [("table-incomplete", "table ip smarter-cni")] => 1, |_| {
        sh("nft flush chain ip smarter-cni mss_clamp; nft add rule ip smarter-cni mss_clamp tcp option maxseg size set 1200");
    };
    the_masquerade_rule_is_gone: [("masquerade-missing", "range 10.7.0.0/24")] => 1, |_| {
        sh("nft flush chain ip smarter-cni egress");
    };
    source_addresses_are_not_checked [kind: checked()]: [
        ("spoof-check-missing", "pod default/web-0"), ("spoof-check-missing", "pod default/web-1"),
        ("spoof-check-missing", "pod default/web-2"), ("spoof-check-missing", "table bridge smarter-cni"),
    ] => 0, |_| sh("nft delete table bridge smarter-cni");
    the_go_plugins_left_rules: [("go-leftovers", "chain inet cni_plugins_masquerade masq_checks")] => 0, |_| {
        sh("nft 'table inet cni_plugins_masquerade { chain masq_checks {
            ip saddr 10.7.0.99 ip daddr != 10.7.0.0/24 masquerade comment \"dead\"
        }; }'");
    };
    the_go_plugins_left_chains_of_iptables: [("go-leftovers", "chain ip nat POSTROUTING")] => 0, |_| {
        sh("iptables-nft -t nat -N CNI-0a1b2c3d4e5f
            iptables-nft -t nat -A POSTROUTING -s 10.7.0.99/32 -m comment --comment dead -j CNI-0a1b2c3d4e5f");
    };
    a_port_leads_nowhere: [("hostport-missing", "port 8081/tcp")] => 1, |_| {
        sh("nft delete element ip smarter-cni hostports '{ tcp . 8081 }'");
    };
    a_port_leads_elsewhere: [("hostport-missing", "port 8081/tcp"), ("hostport-stale", "port 8081/tcp")] => 1, |_| {
        sh("nft delete element ip smarter-cni hostports '{ tcp . 8081 }'
            nft add element ip smarter-cni hostports '{ tcp . 8081 comment \"default/old deadbeef\" : 10.7.0.77 . 80 }'");
    };
    a_port_leads_to_a_pod_that_is_gone: [("hostport-stale", "port 9999/tcp")] => 0, |_| {
        sh("nft add element ip smarter-cni hostports '{ tcp . 9999 comment \"default/old deadbeef\" : 10.7.0.77 . 80 }'");
    };
    somebody_else_translates_the_port: [("hostport-shadowed", "port 8082/tcp")] => 1, |_| {
        sh("iptables-nft -t nat -A PREROUTING -p tcp --dport 8082 -j DNAT --to-destination 192.0.2.2:80");
    };
    somebody_redirects_the_port: [("hostport-shadowed", "port 8080/tcp")] => 1, |_| {
        sh("nft 'table ip local { chain pre { type nat hook prerouting priority -100; tcp dport 8080 redirect to :81; }; }'");
    };
    a_process_loses_its_clients: [("hostport-shadows", "port 8081/tcp")] => 0, |_| {
        std::mem::forget(TcpListener::bind("0.0.0.0:8081").unwrap());
    };
    host_ports_do_not_answer_on_localhost: [("hostport-localhost", "bridge smartnet0")] => 0, |_| {
        sh("sysctl -q -w net.ipv4.conf.smartnet0.route_localnet=0");
    };
}

/// Rules of the Go plugins about pods that live belong to whoever uses those plugins beside ours.
#[test]
fn rules_of_go_plugins_about_living_pods_are_nobodys_leftovers() {
    crate::sandbox::sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        let address = &lab.pods[0].address;
        sh(&format!(
            "nft 'table inet cni_plugins_masquerade {{ chain masq_checks {{ ip saddr {address} masquerade; }}; }}'"
        ));
        let found = crate::doctor::diagnose("--strict");
        assert_eq!(found.status, 0, "{}", found.words());
    });
}
