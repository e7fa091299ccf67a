//! What an owner refuses stays refused when pods are let through, and pods are let through wherever the end of the way is.

use std::net::IpAddr;

use serde_json::json;

use super::{forwarding, network, pod, reaches, serve};
use crate::lab::{self, Netns, Node, Place, WORLD};
use crate::sandbox::{run, sandboxed};

const BANNED: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 9));

/// The world, which answers under an address that nobody minds and under one that is banned.
fn world() -> Netns {
    let world = lab::world();
    world.run(&format!("ip addr add {BANNED}/32 dev world0"));
    serve(&world, WORLD);
    serve(&world, BANNED);
    forwarding(true);
    world
}

fn load(script: &str) {
    std::fs::write("/run/script.nft", script).unwrap();
    run("nft", &["-f", "/run/script.nft"]);
}

fn typed(program: &str, lines: &[&str]) {
    for line in lines {
        Node.run(&format!("{program} {line}"));
    }
}

/// Pods get out, the ban holds before and afterwards, a second pod changes nothing, and everything is given back.
fn assert_through(list: impl Fn() -> String) {
    let _world = world();
    let before = list();
    let config = network(&json!({}));
    let first = pod("first", &config);
    assert!(reaches(&first, WORLD), "{}", list());
    assert!(!reaches(&first, BANNED), "{}", list());
    let helped = list();
    assert_ne!(helped, before, "the accepts would not be needed");
    let second = pod("second", &config);
    assert!(reaches(&second, WORLD) && !reaches(&second, BANNED));
    assert_eq!(list(), helped);
    let socket = &mut smarter_cni::kernel::NetfilterSocket::open().unwrap();
    smarter_cni::datapath::firewall::accepts::withdraw_accepts(socket).unwrap();
    if !helped.contains("legacy") {
        assert_eq!(list(), before);
    }
}

fn nft_list() -> String {
    run("nft", &["-s", "-a", "list", "table", "inet", "wall"])
}

/// The words of a person who closes everything, in nftables.
fn wall(body: &str) {
    load(&format!("table inet wall {{\n{body}\n}}\n"));
}

#[test]
fn a_policy_that_drops() {
    sandboxed(|| {
        wall(
            "set bans { type ipv4_addr; elements = { 203.0.113.9 }; }
            chain forward { type filter hook forward priority 0; policy drop;
                ip saddr @bans drop
                ip daddr @bans drop
            }",
        );
        assert_through(nft_list);
    });
}

#[test]
fn a_rule_in_the_middle_that_drops_everything() {
    sandboxed(|| {
        wall(
            "chain forward { type filter hook forward priority 0; policy accept;
                ip daddr 203.0.113.0/28 reject
                log prefix \"dropped\" counter drop
                iifname \"docker0\" accept
            }",
        );
        assert_through(nft_list);
    });
}

fn assert_through_a_chain_that_ends(way: &str) {
    wall(&format!(
        "chain bans {{ ip daddr 203.0.113.9 drop; }}
        chain end {{ ct state established,related accept; jump bans; meta nfproto ipv4 reject; drop; }}
        chain forward {{ type filter hook forward priority 0; policy accept;
            ct state invalid drop
            {way} end
        }}"
    ));
    assert_through(nft_list);
}

#[test]
fn drops_behind_a_jump() {
    sandboxed(|| assert_through_a_chain_that_ends("jump"));
}

#[test]
fn drops_behind_a_goto() {
    sandboxed(|| assert_through_a_chain_that_ends("goto"));
}

#[test]
fn a_goto_that_ends_in_the_policy() {
    sandboxed(|| {
        wall(
            "chain bans { ip daddr 203.0.113.9 drop; }
            chain forward { type filter hook forward priority 0; policy drop; goto bans; }",
        );
        assert_through(nft_list);
    });
}

/// What leads into the same chain from elsewhere must not be opened with it.
#[test]
fn an_end_that_is_shared_with_bans() {
    sandboxed(|| {
        wall(
            "chain end { counter reject with icmpx admin-prohibited; }
            chain input { type filter hook input priority 0; policy accept; tcp dport 23 jump end; }
            chain forward { type filter hook forward priority 0; policy accept;
                ip daddr 203.0.113.9 jump end
                jump end
            }",
        );
        assert_through(nft_list);
    });
}

#[test]
fn zones_that_end_in_the_same_chain() {
    sandboxed(|| {
        wall(
            "chain zone { jump denied; reject with icmpx admin-prohibited; }
            chain denied { ip daddr 203.0.113.9 drop; }
            chain forward { type filter hook forward priority 10; policy accept;
                ct state established,related accept
                ct status dnat accept
                iifname \"up0\" goto zone
                goto zone
            }",
        );
        assert_through(nft_list);
    });
}

#[test]
fn names_of_interfaces_in_a_set() {
    sandboxed(|| {
        wall(
            "chain forward { type filter hook forward priority 0; policy accept;
                ip daddr 203.0.113.9 drop
                iifname { \"lan0\", \"lan1\" } accept
                iifname != { \"docker0\", \"smartnet0\" } ct state new drop
                reject
            }",
        );
        assert_through(nft_list);
    });
}

/// As books on nftables have it.
#[test]
fn verdicts_by_the_state_of_the_connection() {
    sandboxed(|| {
        wall(
            "chain fresh { ip daddr { 198.51.100.0/24, 203.0.113.0-203.0.113.15 } reject; counter drop; }
            chain forward { type filter hook forward priority 0; policy drop;
                ct state vmap { established : accept, related : accept, invalid : drop, new : jump fresh }
            }",
        );
        assert_through(nft_list);
    });
}

#[test]
fn states_between_braces_are_dropped() {
    sandboxed(|| {
        wall(
            "chain forward { type filter hook forward priority 0; policy accept;
                ct state { established, related } accept
                ip daddr { 203.0.113.8, 203.0.113.9 } drop
                ct state { new, untracked } drop
            }",
        );
        assert_through(nft_list);
    });
}

#[test]
fn verdicts_by_the_interface() {
    sandboxed(|| {
        wall(
            "chain world { ip daddr 203.0.113.9 drop; ct state established,related accept; drop; }
            chain pods { ip daddr 203.0.113.9 drop; tcp dport 25 drop; drop; }
            chain forward { type filter hook forward priority 0; policy drop;
                iifname vmap { \"docker0\" : accept, \"smartnet0\" : goto pods, \"up0\" : goto world }
            }",
        );
        assert_through(nft_list);
    });
}

const WALL: &[&str] = &[
    "-N f2b",
    "-A f2b -d 203.0.113.9 -j REJECT",
    "-A f2b -j RETURN",
    "-N wall",
    "-A FORWARD -j f2b",
    "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
    "-A FORWARD -g wall",
    "-A wall -i docker0 -j ACCEPT",
    "-A wall -m limit --limit 5/min -j LOG",
    "-A wall -j DROP",
];

/// Docker's chains as its version 28 writes them, with a ban by the node's owner.
const DOCKER: &[&str] = &[
    "-P FORWARD DROP",
    "-N DOCKER",
    "-N DOCKER-BRIDGE",
    "-N DOCKER-CT",
    "-N DOCKER-FORWARD",
    "-N DOCKER-USER",
    "-A FORWARD -j DOCKER-USER",
    "-A FORWARD -j DOCKER-FORWARD",
    "-A DOCKER ! -i docker0 -o docker0 -j DROP",
    "-A DOCKER-BRIDGE -o docker0 -j DOCKER",
    "-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A DOCKER-FORWARD -j DOCKER-CT",
    "-A DOCKER-FORWARD -j DOCKER-BRIDGE",
    "-A DOCKER-FORWARD -i docker0 -j ACCEPT",
    "-A DOCKER-USER -d 203.0.113.9 -j DROP",
];

fn assert_through_iptables(program: &str, lines: &[&str]) {
    typed(program, lines);
    assert_through(|| format!("{program}\n{}", run(program, &["-S"])));
}

#[test]
fn a_wall_behind_a_goto_of_iptables() {
    sandboxed(|| assert_through_iptables("iptables-nft", WALL));
}

#[test]
fn a_wall_behind_a_goto_of_legacy_iptables() {
    sandboxed(|| assert_through_iptables("iptables-legacy", WALL));
}

#[test]
fn dockers_user_chain_holds_for_pods() {
    sandboxed(|| assert_through_iptables("iptables-nft", DOCKER));
}

#[test]
fn dockers_user_chain_holds_for_pods_in_the_legacy_table() {
    sandboxed(|| assert_through_iptables("iptables-legacy", DOCKER));
}

/// Whoever closes the way of some pods, of all of them, or all ways but one, meant it.
#[test]
fn what_is_meant_for_pods_stays() {
    sandboxed(|| {
        let _world = world();
        for (number, rules) in [
            "iifname \"smartnet0\" drop",
            "ip saddr 10.77.0.0/16 reject",
            "iifname != \"lan0\" drop",
            "oifname != { \"wg0\", \"lo\" } drop",
            "iifname \"smartnet0\" jump refused",
        ]
        .into_iter()
        .enumerate()
        {
            for policy in ["accept", "drop"] {
                load("table inet wall\ndelete table inet wall\n");
                wall(&format!(
                    "chain refused {{ reject; }}
                    chain forward {{ type filter hook forward priority 0; policy {policy}; {rules}; }}"
                ));
                let pod = pod(&format!("{policy}{number}"), &network(&json!({})));
                assert!(!reaches(&pod, WORLD), "{rules}: {}", nft_list());
            }
        }
    });
}

#[test]
fn accepts_that_stand_in_front_of_a_new_ban_move_behind_it() {
    sandboxed(|| {
        Node.run("iptables-nft -P FORWARD DROP");
        let _world = world();
        let config = network(&json!({}));
        let first = pod("first", &config);
        assert!(reaches(&first, WORLD) && reaches(&first, BANNED));
        Node.run("iptables-nft -A FORWARD -d 203.0.113.9 -j DROP");
        let second = pod("second", &config);
        assert!(reaches(&second, WORLD) && reaches(&first, WORLD));
        assert!(!reaches(&first, BANNED) && !reaches(&second, BANNED), "{}", run("iptables-nft", &["-S"]));
        assert_eq!(run("iptables-nft", &["-S"]).matches("smarter-cni").count(), 3);
    });
}

/// A restart of a firewall that saves what it finds keeps our rules in its own words.
#[test]
fn accepts_that_somebody_saved_and_restored_are_still_ours() {
    sandboxed(|| {
        Node.run("iptables-nft -P FORWARD DROP");
        let before = run("iptables-nft", &["-S"]);
        let _world = world();
        let config = network(&json!({}));
        let _first = pod("first", &config);
        run("sh", &["-c", "iptables-nft-save > /run/saved && iptables-nft-restore < /run/saved"]);
        let second = pod("second", &config);
        assert!(reaches(&second, WORLD));
        assert_eq!(run("iptables-nft", &["-S"]).matches("smarter-cni").count(), 3);
        let socket = &mut smarter_cni::kernel::NetfilterSocket::open().unwrap();
        smarter_cni::datapath::firewall::accepts::withdraw_accepts(socket).unwrap();
        assert_eq!(run("iptables-nft", &["-S"]), before);
    });
}

/// Ten thousand rules of somebody else are read once, and again when they changed.
#[test]
fn many_rules_of_somebody_else_are_not_read_for_every_pod() {
    sandboxed(|| {
        let _world = world();
        let config = network(&json!({}));
        let bans =
            (0..10_000).map(|number| format!("ip daddr 198.18.{}.{} drop", number / 250, number % 250));
        let bans = bans.collect::<Vec<_>>().join("\n");
        wall(&format!("chain forward {{\ntype filter hook forward priority 0; policy drop;\n{bans}\n}}"));
        let calls = |name: &str| {
            let netns = Netns::new(name);
            let call = super::plugin(&netns, name, &config).command("ADD");
            call.under(&["strace", "-f", "-qq", "-e", "trace=recvfrom", "-o", "/run/trace"]).succeed();
            assert!(reaches(&netns, WORLD), "{name}");
            std::fs::read_to_string("/run/trace").unwrap().lines().count()
        };
        let (_first, second, third) = (calls("first"), calls("second"), calls("third"));
        assert!(third * 2 < second, "{second} answers of the kernel, and then {third}");
        // A ban that comes behind our accepts, a wall in front of them, and accepts that are gone.
        run("nft", &["add rule inet wall forward ip daddr 203.0.113.9 drop"]);
        let fourth = pod("fourth", &config);
        assert!(reaches(&fourth, WORLD) && !reaches(&fourth, BANNED));
        run("nft", &["insert rule inet wall forward drop"]);
        let fifth = pod("fifth", &config);
        assert!(reaches(&fifth, WORLD));
        load("flush chain inet wall forward\n");
        let sixth = pod("sixth", &config);
        assert!(reaches(&sixth, WORLD));
    });
}
