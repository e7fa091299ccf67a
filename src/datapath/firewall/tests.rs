//! The firewall's part of a plan, as text, for the firewalls that edge nodes come with.

use super::rules::Standing;
use super::*;
use crate::datapath::plan::{BridgeHave, plan};
use crate::net::{AttachmentId, Mac, VlanId};
use crate::spec::{Bridge, Firewall, Gateway, Pod, Port, VlanGateway};

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn want(families: &[Family]) -> Attachment {
    Attachment {
        id: AttachmentId { network: "smartnet".into(), container: "c1".into(), if_name: name("eth0") },
        pod_name: None,
        bridge: Bridge {
            name: name("smartnet0"),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            mtu: None,
            vlan_filtering: false,
            promiscuous: false,
        },
        port: Port {
            name: name("veth1"),
            mac: None,
            mtu: None,
            hairpin: false,
            isolated: false,
            vlans: None,
        },
        pod: Pod {
            name: name("eth0"),
            mac: None,
            mtu: None,
            up: true,
            addresses: vec![],
            routes: vec![],
            detect_duplicates: false,
        },
        gateway: Some(Gateway { addresses: vec![], force: false, vlan: None, dns: None, intercept: false }),
        forwarding: families.to_vec(),
        masquerade: vec![],
        spoof_check: false,
        firewall: Firewall { accept: true, guard: true, clamp_mss: true },
    }
}

/// A node where forwarding was on before us and our own chains stand.
fn have() -> Have {
    Have {
        forwarding: vec![Family::V4],
        firewall: FirewallHave { clamped: vec![(Family::V4, name("smartnet0"))], ..FirewallHave::default() },
        ..Have::default()
    }
}

fn steps(want: &Attachment, have: &Have) -> Vec<String> {
    let mut steps = Vec::new();
    plan_before_forwarding(want, have, &mut steps);
    plan_passage(want, have, &mut steps);
    steps.iter().map(ToString::to_string).collect()
}

fn chain(family: Option<Family>, table: &str, chain: &str) -> ChainName {
    ChainName { family, table: table.into(), chain: chain.into() }
}

/// A table of somebody else: its base chain, with rules as `iptables -S` prints them.
fn table(base: ChainName, listing: &str) -> ForwardTable {
    let mut table = legacy::parse(Family::V4, &format!("-N {}\n{listing}", base.chain));
    for (number, rule) in table.chains.rules.values_mut().flatten().enumerate() {
        rule.handle = u64::try_from(number).unwrap() + 7;
    }
    ForwardTable { base, ..table }
}

fn iptables(listing: &str) -> ForwardTable {
    table(chain(Some(Family::V4), "filter", "FORWARD"), listing)
}

#[test]
fn a_node_without_firewalls_needs_nothing() {
    assert_eq!(steps(&want(&[Family::V4]), &have()), Vec::<String>::new());
    let mut open = have();
    open.firewall.foreign.push(iptables("-P FORWARD ACCEPT\n-A FORWARD -s 192.0.2.9/32 -j DROP\n"));
    assert_eq!(steps(&want(&[Family::V4]), &open), Vec::<String>::new());
    assert_eq!(steps(&want(&[]), &Have::default()), Vec::<String>::new());
}

#[test]
fn a_chain_of_iptables_gets_rules_that_iptables_reads() {
    let mut dropping = have();
    dropping.firewall.foreign.push(iptables("-P FORWARD DROP\n-A FORWARD -s 192.0.2.9/32 -j DROP\n"));
    assert_eq!(
        steps(&want(&[Family::V4]), &dropping),
        [
            "node: iptables-nft -A FORWARD -i smartnet0 -m comment --comment \"smarter-cni smartnet0\" -j ACCEPT; \
          iptables-nft -A FORWARD -o smartnet0 -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment \
          \"smarter-cni smartnet0\" -j ACCEPT; iptables-nft -A FORWARD -o smartnet0 -m conntrack --ctstate DNAT -m comment \
          --comment \"smarter-cni smartnet0\" -j ACCEPT"
        ]
    );
    let mut off = want(&[Family::V4]);
    off.firewall.accept = false;
    assert_eq!(steps(&off, &dropping), Vec::<String>::new());
}

#[test]
fn a_chain_of_nftables_gets_rules_that_nft_writes() {
    let mut firewalld = have();
    let name = chain(None, "firewalld", "filter_FORWARD");
    let listing = "-A filter_FORWARD -s 192.0.2.9/32 -j DROP\n-A filter_FORWARD -j REJECT\n";
    firewalld.firewall.foreign.push(table(name, listing));
    assert_eq!(
        steps(&want(&[Family::V4]), &firewalld),
        [
            "node: nft insert rule inet firewalld filter_FORWARD handle 8 iifname \"smartnet0\" accept comment '\"smarter-cni smartnet0\"'; \
          nft insert rule inet firewalld filter_FORWARD handle 8 oifname \"smartnet0\" ct state established,related accept comment \
          '\"smarter-cni smartnet0\"'; nft insert rule inet firewalld filter_FORWARD handle 8 oifname \"smartnet0\" ct status dnat accept \
          comment '\"smarter-cni smartnet0\"'"
        ]
    );
}

#[test]
fn names_that_others_gave_are_typed_between_quotes() {
    let base = chain(None, "x; reboot", "$(id)");
    let change = passage::Change {
        insert: vec![(0, passage::Place { chain: "a b".to_owned(), before: None })],
        ..passage::Change::default()
    };
    assert_eq!(
        crate::datapath::step::accept_commands(&base, &name("smartnet0"), &change),
        [
            "nft add rule inet 'x; reboot' 'a b' iifname \"smartnet0\" accept comment '\"smarter-cni smartnet0\"'"
        ]
    );
}

#[test]
fn every_accept_is_marked_as_ours() {
    for name in [chain(None, "firewalld", "filter_FORWARD"), chain(Some(Family::V6), "filter", "FORWARD")] {
        let accepts = accepts::accepts(&name, &self::name("smartnet0"));
        assert!(accepts.iter().all(|rule| rule.comment.is_some()), "{name}");
    }
}

#[test]
fn the_legacy_table_gets_its_rules_by_the_legacy_program() {
    let mut legacy = have();
    legacy.firewall.legacy.push(iptables("-P FORWARD ACCEPT\n-A FORWARD -j DROP\n"));
    assert_eq!(
        steps(&want(&[Family::V4]), &legacy),
        [
            "node: iptables-legacy -I FORWARD 1 -i smartnet0 -m comment --comment \"smarter-cni smartnet0\" -j ACCEPT; \
          iptables-legacy -I FORWARD 2 -o smartnet0 -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment \
          \"smarter-cni smartnet0\" -j ACCEPT; iptables-legacy -I FORWARD 3 -o smartnet0 -m conntrack --ctstate DNAT -m comment \
          --comment \"smarter-cni smartnet0\" -j ACCEPT"
        ]
    );
}

#[test]
fn whoever_switches_forwarding_on_keeps_strangers_out_first() {
    let mut off = have();
    off.forwarding.clear();
    let all: Vec<_> = plan(&want(&[Family::V4]), &off).iter().map(ToString::to_string).collect();
    let at = |text: &str| all.iter().position(|step| step.contains(text));
    assert!(at("forward_guard").is_some(), "{all:#?}");
    assert!(at("forward_guard") < at("ip_forward=1"), "{all:#?}");

    let mut others = want(&[Family::V4]);
    others.firewall.guard = false;
    assert_eq!(steps(&others, &off), Vec::<String>::new());
}

fn uplinks(names: &[&str]) -> Vec<(Family, BTreeSet<IfName>)> {
    vec![(Family::V4, names.iter().map(|text| name(text)).collect())]
}

#[test]
fn the_guard_comes_back_while_forwarding_is_on_because_of_us() {
    let mut flushed = have();
    flushed.firewall.switched_on.push(Family::V4);
    flushed.firewall.uplinks = uplinks(&["eth0", "wwan0"]);
    assert_eq!(
        steps(&want(&[Family::V4]), &flushed),
        [
            "node: nft add rule ip smarter-cni forward_guard iifname . oifname @uplink_pairs drop; nft add element ip \
          smarter-cni uplink_pairs { \"eth0\" . \"wwan0\", \"wwan0\" . \"eth0\" }"
        ]
    );
}

#[test]
fn the_guard_follows_the_uplinks() {
    let mut guarded = have();
    let apart = pairs(&uplinks(&["eth0", "wwan0"])[0].1);
    guarded.firewall.guards.push((Family::V4, apart));
    guarded.firewall.uplinks = uplinks(&["eth0", "wwan0"]);
    let mut network = want(&[Family::V4]);
    network.firewall.guard = false;
    assert_eq!(steps(&network, &guarded), Vec::<String>::new());
    guarded.firewall.uplinks = uplinks(&["eth0", "usb0"]);
    assert_eq!(
        steps(&network, &guarded),
        [
            "node: nft add element ip smarter-cni uplink_pairs { \"eth0\" . \"usb0\", \"usb0\" . \"eth0\" }; nft delete \
          element ip smarter-cni uplink_pairs { \"eth0\" . \"wwan0\", \"wwan0\" . \"eth0\" }"
        ]
    );
}

#[test]
fn a_gateway_in_a_vlan_is_let_through_by_its_own_name_too() {
    let mut network = want(&[Family::V4]);
    let vlan = VlanGateway { name: name("smartnet0.5"), port: name("veth9"), vlan: VlanId::new(5).unwrap() };
    network.gateway =
        Some(Gateway { addresses: vec![], force: false, vlan: Some(vlan), dns: None, intercept: false });
    assert_eq!(
        steps(&network, &have()),
        [
            "node: nft add element ip smarter-cni clamped { \"smartnet0.5\" }; nft add rule ip smarter-cni mss_clamp iifname \
          @clamped tcp flags syn tcp option maxseg size set rt mtu, and the same with oifname"
        ]
    );
}

#[test]
fn uplinks_go_on_listening_when_the_node_becomes_a_router() {
    let mut off = have();
    off.firewall.listeners.push(name("wwan0"));
    off.firewall.without_nf_tables = true;
    assert_eq!(
        steps(&want(&[Family::V4, Family::V6]), &off),
        ["node: sysctl -w net.ipv6.conf.wwan0.accept_ra=2"]
    );
    off.forwarding.push(Family::V6);
    assert_eq!(steps(&want(&[Family::V4, Family::V6]), &off), Vec::<String>::new());
}

#[test]
fn what_is_committed_reads_as_nft_reads_it() {
    let filter = iptables("-P FORWARD DROP\n-A FORWARD -j DROP\n");
    let traffic = Traffic::of(&name("smartnet0"), &[Family::V4], &[]);
    assert_eq!(
        accepts::transaction(&filter.base, &name("smartnet0"), &filter.change(&traffic).unwrap()).to_string(),
        "insert rule ip filter FORWARD handle 7 iifname \"smartnet0\" counter accept comment \"smarter-cni smartnet0\"
insert rule ip filter FORWARD handle 7 oifname \"smartnet0\" xt match conntrack established,related counter accept comment \"smarter-cni smartnet0\"
insert rule ip filter FORWARD handle 7 oifname \"smartnet0\" xt match conntrack dnat counter accept comment \"smarter-cni smartnet0\"
"
    );
    assert_eq!(
        guard::guard_transaction(
            Family::V4,
            Standing::Missing,
            &pairs(&uplinks(&["eth0", "wwan0"])[0].1),
            &BTreeSet::new()
        )
        .to_string(),
        "add table ip smarter-cni
add set ip smarter-cni uplink_pairs { type ifname . ifname; }
add chain ip smarter-cni forward_guard { type filter hook forward priority 0; policy accept; }
add rule ip smarter-cni forward_guard iifname . oifname @uplink_pairs drop
add element ip smarter-cni uplink_pairs { \"eth0\" . \"wwan0\", \"wwan0\" . \"eth0\" }
"
    );
    assert_eq!(
        rules::clamp_transaction(Family::V6, &name("smartnet0"), Standing::Missing).to_string(),
        "add table ip6 smarter-cni
add set ip6 smarter-cni clamped { type ifname; }
add chain ip6 smarter-cni mss_clamp { type filter hook forward priority -150; policy accept; }
add rule ip6 smarter-cni mss_clamp iifname @clamped tcp flags syn tcp option maxseg size set rt mtu
add rule ip6 smarter-cni mss_clamp oifname @clamped tcp flags syn tcp option maxseg size set rt mtu
add element ip6 smarter-cni clamped { \"smartnet0\" }
"
    );
}

#[test]
fn a_chain_that_lost_its_rules_is_filled_again() {
    let text = |standing| rules::clamp_transaction(Family::V4, &name("smartnet0"), standing).to_string();
    let (whole, broken) = (text(Standing::Whole), text(Standing::Broken));
    assert!(!whole.contains("add rule") && !whole.contains("flush"), "{whole}");
    assert!(
        broken.contains("flush chain ip smarter-cni mss_clamp\nadd rule ip smarter-cni mss_clamp"),
        "{broken}"
    );
}

#[test]
fn a_bridge_that_is_there_changes_nothing_about_it() {
    let mut known = have();
    known.bridge = Some(BridgeHave {
        mac_changed: false,
        mac: None,
        mtu: 1500,
        up: true,
        promiscuous: false,
        accepts_advertisements: false,
        alias: Some("smarter-cni bridge".into()),
        addresses: vec![],
        needed: vec![],
    });
    let nft = plan(&want(&[Family::V4]), &known);
    assert!(nft.iter().all(|step| !step.to_string().contains("nft")), "{nft:?}");
}
