//! The plan as text, for every situation in which an ADD, a CHECK or a repair can find a node.

use std::net::{Ipv4Addr, SocketAddr};

use super::*;
use crate::datapath::claim;
use crate::datapath::step::FilterStep;
use crate::net::AttachmentId;
use crate::spec::{Firewall, Gateway, Pod, Port, VlanGateway};

fn net(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn attachment() -> Attachment {
    Attachment {
        id: AttachmentId { network: "smartnet".into(), container: "c1".into(), if_name: name("eth0") },
        pod_name: Some("default/web".into()),
        bridge: Bridge {
            name: name("smartnet0"),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            mtu: None,
            vlan_filtering: false,
            promiscuous: false,
        },
        port: Port {
            name: name("vethf3a1"),
            mac: None,
            mtu: None,
            hairpin: true,
            isolated: false,
            vlans: None,
        },
        pod: Pod {
            name: name("eth0"),
            mac: None,
            mtu: None,
            up: true,
            addresses: vec![net("172.38.0.7/16")],
            routes: vec![Route::to(net("0.0.0.0/0"), Some("172.38.0.1".parse().unwrap()))],
            detect_duplicates: false,
        },
        gateway: Some(Gateway {
            addresses: vec![net("172.38.0.1/16")],
            force: false,
            vlan: None,
            dns: None,
            intercept: false,
        }),
        forwarding: vec![Family::V4],
        masquerade: vec![net("172.38.0.0/16")],
        spoof_check: false,
        firewall: Firewall::default(),
    }
}

fn bridge() -> BridgeHave {
    BridgeHave {
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        mtu: 1500,
        up: true,
        promiscuous: false,
        accepts_advertisements: false,
        alias: Some("smarter-cni bridge 172.38.0.1/16".into()),
        addresses: vec![net("172.38.0.1/16")],
        mac_changed: false,
        needed: vec![],
    }
}

/// A node that has had pods before.
fn node() -> Have {
    Have {
        bridge: Some(bridge()),
        forwarding: vec![Family::V4],
        masquerade: vec![("smartnet".into(), net("172.38.0.0/16"))],
        ..Have::default()
    }
}

/// The attachment as ADD left it.
fn attached() -> Have {
    Have {
        port: Some(PortHave {
            connected: true,
            on_bridge: true,
            up: true,
            operational: true,
            mtu: 1500,
            hairpin: true,
            isolated: false,
            vlans: vec![],
            alias: Some("smarter-cni smartnet c1 eth0 172.38.0.7/16 pod default/web".into()),
            strange: Strange::default(),
        }),
        pod: Some(PodHave {
            mac: None,
            mtu: 1500,
            up: true,
            addresses: vec![net("172.38.0.7/16")],
            routes: vec![Route {
                table: Some(MAIN_TABLE),
                ..Route::to(net("0.0.0.0/0"), Some("172.38.0.1".parse().unwrap()))
            }],
            direct: vec!["172.38.0.0/16".parse().unwrap()],
            elsewhere: Vec::new(),
        }),
        complete: true,
        ..node()
    }
}

#[track_caller]
fn assert_plan(want: &Attachment, have: &Have, expected: &str) {
    let lines: Vec<_> = plan(want, have).iter().map(ToString::to_string).collect();
    let text = lines.iter().fold(String::new(), |text, line| text + "\n" + line);
    assert_eq!(text, expected, "\n--- planned:{text}\n");
}

const ARRIVAL: &str = "
node: await vethf3a1 up
node: ip neigh del 172.38.0.7 dev smartnet0
pod:  announce the addresses of eth0";

const NEW_POD: &str = "
node: ip link add vethf3a1 master smartnet0 up type veth peer name eth0 netns pod
node: ip link set vethf3a1 alias \"smarter-cni smartnet c1 eth0 172.38.0.7/16 pod default/web\"
node: bridge link set dev vethf3a1 hairpin on
pod:  sysctl -w net.ipv4.conf.eth0.arp_notify=1
pod:  ip addr add 172.38.0.7/16 dev eth0
pod:  ip link set eth0 up
pod:  ip route add default via 172.38.0.1 dev eth0";

#[test]
fn first_pod_on_a_fresh_node() {
    let expected = format!(
        "
node: ip link add smartnet0 address 02:00:00:00:00:01 type bridge
node: ip link set smartnet0 alias \"smarter-cni bridge 172.38.0.1/16\"
node: sysctl -w net.ipv6.conf.smartnet0.accept_ra=0
node: ip link set smartnet0 up{NEW_POD}
node: ip addr add 172.38.0.1/16 dev smartnet0
node: sysctl -w net.ipv4.ip_forward=1{ARRIVAL}
node: nft add rule ip smarter-cni egress ip saddr 172.38.0.0/16 ip daddr != 172.38.0.0/16 ip daddr != 224.0.0.0/4 \
         masquerade comment \"smartnet\""
    );
    assert_plan(&attachment(), &Have::default(), &expected);
}

#[test]
fn next_pod_only_adds_itself() {
    assert_plan(&attachment(), &node(), &format!("{NEW_POD}{ARRIVAL}"));
}

#[test]
fn connections_of_an_earlier_holder_are_looked_for_only_with_a_reason() {
    let have = Have { unclean: true, ..node() };
    let forget = "\nnode: ip neigh del 172.38.0.7 dev smartnet0";
    let more = format!("{forget}\nnode: conntrack -D -s 172.38.0.7; conntrack -D -r 172.38.0.7");
    assert_plan(&attachment(), &have, &format!("{NEW_POD}{ARRIVAL}").replace(forget, &more));
}

#[test]
fn a_complete_attachment_needs_nothing() {
    assert_plan(&attachment(), &attached(), "");
}

#[test]
fn a_crash_at_any_step_leaves_exactly_the_rest() {
    let whole = plan(&attachment(), &node());
    // What the kernel shows after each of the steps that it keeps.
    let mut have = node();
    let mut port = attached().port.unwrap();
    let mut pod = attached().pod.unwrap();
    (port.alias, port.hairpin, port.operational) = (None, false, false);
    (pod.up, pod.addresses, pod.routes) = (false, vec![], vec![]);
    (have.port, have.pod) = (Some(port), Some(pod));
    assert_eq!(plan(&attachment(), &have), whole[1..]);
    have.port.as_mut().unwrap().alias = attached().port.unwrap().alias;
    assert_eq!(plan(&attachment(), &have), whole[2..]);
    have.port.as_mut().unwrap().hairpin = true;
    assert_eq!(plan(&attachment(), &have), whole[3..]);
    have.pod.as_mut().unwrap().addresses = vec![net("172.38.0.7/16")];
    assert_eq!(plan(&attachment(), &have), whole[5..]);
    have.pod.as_mut().unwrap().up = true;
    assert_eq!(plan(&attachment(), &have), whole[6..]);
    have.pod = attached().pod;
    assert_eq!(plan(&attachment(), &have), whole[7..]);
}

#[test]
fn a_host_end_without_its_pod_is_replaced() {
    let mut have = attached();
    (have.port.as_mut().unwrap().connected, have.pod, have.complete) = (false, None, false);
    assert_plan(&attachment(), &have, &format!("\nnode: ip link del vethf3a1{NEW_POD}{ARRIVAL}"));
}

#[test]
fn dual_stack_enables_ipv6_in_the_pod_before_the_addresses_come() {
    let mut want = attachment();
    want.pod.addresses.push(net("fd00::7/64"));
    want.pod.routes.push(Route::to(net("::/0"), Some("fd00::1".parse().unwrap())));
    want.gateway.as_mut().unwrap().addresses.push(net("fd00::1/64"));
    want.forwarding.push(Family::V6);
    want.masquerade.push(net("fd00::/64"));
    assert_plan(
        &want,
        &node(),
        "
node: ip link set smartnet0 alias \"smarter-cni bridge 172.38.0.1/16,fd00::1/64\"
node: ip link add vethf3a1 master smartnet0 up type veth peer name eth0 netns pod
node: ip link set vethf3a1 alias \"smarter-cni smartnet c1 eth0 172.38.0.7/16,fd00::7/64 pod default/web\"
node: bridge link set dev vethf3a1 hairpin on
pod:  sysctl -w net.ipv6.conf.lo.disable_ipv6=0
pod:  sysctl -w net.ipv6.conf.eth0.disable_ipv6=0
pod:  sysctl -w net.ipv6.conf.eth0.keep_addr_on_down=1
pod:  sysctl -w net.ipv6.conf.eth0.accept_dad=0
pod:  sysctl -w net.ipv6.conf.eth0.ndisc_notify=1
pod:  sysctl -w net.ipv4.conf.eth0.arp_notify=1
pod:  ip addr add 172.38.0.7/16 dev eth0
pod:  ip addr add fd00::7/64 dev eth0
pod:  ip link set eth0 up
pod:  await the end of duplicate address detection on eth0
pod:  ip route add default via 172.38.0.1 dev eth0
pod:  ip route add default via fd00::1 dev eth0
node: ip addr add fd00::1/64 dev smartnet0
node: sysctl -w net.ipv6.conf.all.forwarding=1
node: await vethf3a1 up
node: ip neigh del 172.38.0.7 dev smartnet0
node: ip neigh del fd00::7 dev smartnet0
pod:  announce the addresses of eth0
node: nft add rule ip6 smarter-cni egress ip6 saddr fd00::/64 ip6 daddr != fd00::/64 ip6 daddr != ff00::/8 \
         masquerade comment \"smartnet\"",
    );
}

#[test]
fn an_access_vlan_puts_the_gateway_on_a_port_of_its_own() {
    let mut want = attachment();
    want.bridge.vlan_filtering = true;
    want.port.vlans = Some(Vlans { native: VlanId::new(100), tagged: vec![], keep_default: false });
    want.gateway.as_mut().unwrap().vlan = Some(VlanGateway {
        name: name("smartnet0.100"),
        port: name("veth0100"),
        vlan: VlanId::new(100).unwrap(),
    });
    let mut have = node();
    let bridge = have.bridge.as_mut().unwrap();
    (bridge.alias, bridge.addresses) = (Some("smarter-cni bridge -".into()), vec![]);
    assert_plan(
        &want,
        &have,
        "
node: ip link add vethf3a1 master smartnet0 up type veth peer name eth0 netns pod
node: ip link set vethf3a1 alias \"smarter-cni smartnet c1 eth0 172.38.0.7/16 pod default/web\"
node: bridge link set dev vethf3a1 hairpin on
node: bridge vlan del vid 1 dev vethf3a1
node: bridge vlan add vid 100 dev vethf3a1 pvid untagged
pod:  sysctl -w net.ipv4.conf.eth0.arp_notify=1
pod:  ip addr add 172.38.0.7/16 dev eth0
pod:  ip link set eth0 up
pod:  ip route add default via 172.38.0.1 dev eth0
node: ip link add smartnet0.100 mtu 1500 up type veth peer name veth0100 mtu 1500
node: ip link set veth0100 master smartnet0 up
node: bridge vlan del vid 1 dev veth0100
node: bridge vlan add vid 100 dev veth0100 pvid untagged
node: ip addr add 172.38.0.1/16 dev smartnet0.100
node: await vethf3a1 up
node: ip neigh del 172.38.0.7 dev smartnet0
pod:  announce the addresses of eth0",
    );
}

#[test]
fn a_trunk_keeps_vlan_1_as_native_when_it_is_wanted() {
    let mut steps = Vec::new();
    let vlans = Vlans {
        native: VlanId::new(1),
        tagged: [10, 11].into_iter().filter_map(VlanId::new).collect(),
        keep_default: false,
    };
    plan_vlans(&name("veth1"), &vlans, None, &mut steps);
    let text: Vec<_> = steps.iter().map(ToString::to_string).collect();
    assert_eq!(text, ["node: bridge vlan add vid 10 dev veth1", "node: bridge vlan add vid 11 dev veth1"]);
}

#[test]
fn the_gateway_of_an_earlier_subnet_is_replaced_when_no_pod_needs_it() {
    let mut have = attached();
    let bridge = have.bridge.as_mut().unwrap();
    bridge.alias = Some("smarter-cni bridge 10.9.0.1/24".into());
    bridge.addresses = vec![net("10.9.0.1/24")];
    assert_plan(
        &attachment(),
        &have,
        "
node: ip link set smartnet0 alias \"smarter-cni bridge 172.38.0.1/16\"
node: ip addr del 10.9.0.1/24 dev smartnet0
node: ip addr add 172.38.0.1/16 dev smartnet0",
    );
    // A pod that still uses it keeps its gateway.
    have.bridge.as_mut().unwrap().needed = vec![net("10.9.0.1/24")];
    assert_plan(
        &attachment(),
        &have,
        "
node: ip link set smartnet0 alias \"smarter-cni bridge 172.38.0.1/16,10.9.0.1/24\"
node: ip addr add 172.38.0.1/16 dev smartnet0",
    );
}

#[test]
fn what_an_administrator_put_on_the_bridge_goes_only_by_force() {
    let mut have = attached();
    have.bridge.as_mut().unwrap().addresses.push(net("10.9.0.1/24"));
    assert_plan(&attachment(), &have, "");
    let mut want = attachment();
    want.gateway.as_mut().unwrap().force = true;
    assert_plan(&want, &have, "\nnode: ip addr del 10.9.0.1/24 dev smartnet0");
}

#[test]
fn a_foreign_alias_stays() {
    let mut have = attached();
    have.bridge.as_mut().unwrap().alias = Some("the lab's bridge".into());
    assert_plan(&attachment(), &have, "");
}

#[test]
fn the_mac_of_a_bridge_found_is_fixed_when_it_becomes_a_gateway() {
    let planned = |alias: Option<&str>, mac| {
        let mut have = node();
        let bridge = have.bridge.as_mut().unwrap();
        (bridge.alias, bridge.mac) = (alias.map(str::to_owned), Some(Mac(mac)));
        let lines: Vec<_> = plan(&attachment(), &have).iter().map(ToString::to_string).collect();
        lines.into_iter().find(|line| line.starts_with("node: ip link set smartnet0 address"))
    };
    let fixed = |mac| Some(format!("node: ip link set smartnet0 address {mac}"));
    let of_ports = [2, 7, 7, 7, 7, 7];
    assert_eq!(planned(None, of_ports), fixed("02:07:07:07:07:07"));
    assert_eq!(planned(None, [0; 6]), fixed("02:00:00:00:00:01"), "without ports it has none");
    assert_eq!(planned(Some("the lab's bridge"), of_ports), fixed("02:07:07:07:07:07"));
    assert_eq!(planned(Some("smarter-cni bridge -"), of_ports), fixed("02:07:07:07:07:07"));
    assert_eq!(planned(Some("smarter-cni bridge 172.38.0.1/16"), of_ports), None, "it is fixed already");
}

#[test]
fn drift_is_named_piece_by_piece() {
    let mut have = attached();
    have.forwarding.clear();
    have.masquerade.clear();
    have.bridge.as_mut().unwrap().addresses.clear();
    let port = have.port.as_mut().unwrap();
    (port.on_bridge, port.hairpin) = (false, false);
    assert_plan(
        &attachment(),
        &have,
        "
node: ip link set vethf3a1 master smartnet0 up
node: bridge link set dev vethf3a1 hairpin on
node: ip addr add 172.38.0.1/16 dev smartnet0
node: sysctl -w net.ipv4.ip_forward=1
node: nft add rule ip smarter-cni egress ip saddr 172.38.0.0/16 ip daddr != 172.38.0.0/16 ip daddr != 224.0.0.0/4 \
         masquerade comment \"smartnet\"
node: conntrack -D -s 172.38.0.0/16, of the flows that should be masqueraded and are not",
    );
}

#[test]
fn a_bridge_that_was_deleted_comes_back_under_its_ports() {
    let mut have = attached();
    have.bridge = None;
    let port = have.port.as_mut().unwrap();
    (port.on_bridge, port.operational) = (false, false);
    assert_plan(
        &attachment(),
        &have,
        "
node: ip link add smartnet0 address 02:00:00:00:00:01 type bridge
node: ip link set smartnet0 alias \"smarter-cni bridge 172.38.0.1/16\"
node: sysctl -w net.ipv6.conf.smartnet0.accept_ra=0
node: ip link set smartnet0 up
node: ip link set vethf3a1 master smartnet0 up
node: bridge link set dev vethf3a1 hairpin on
node: ip addr add 172.38.0.1/16 dev smartnet0
node: await vethf3a1 up",
    );
}

#[test]
fn a_pair_that_is_gone_is_made_again_with_its_macs() {
    let mut want = attachment();
    (want.port.mac, want.pod.mac) = (Some(Mac([2, 0, 0, 0, 0, 2])), Some(Mac([2, 0, 0, 0, 0, 3])));
    assert_plan(
        &want,
        &Have { complete: true, ..node() },
        "
node: ip link add vethf3a1 address 02:00:00:00:00:02 master smartnet0 up type veth peer name eth0 address \
         02:00:00:00:00:03 netns pod
node: ip link set vethf3a1 alias \"smarter-cni smartnet c1 eth0 172.38.0.7/16 pod default/web\"
node: bridge link set dev vethf3a1 hairpin on
pod:  sysctl -w net.ipv4.conf.eth0.arp_notify=1
pod:  ip addr add 172.38.0.7/16 dev eth0
pod:  ip link set eth0 up
pod:  ip route add default via 172.38.0.1 dev eth0
node: await vethf3a1 up",
    );
}

#[test]
fn what_a_network_manager_put_on_a_host_end_goes() {
    let mut have = attached();
    let default = Route { table: Some(MAIN_TABLE), priority: Some(203), ..Route::to(net("0.0.0.0/0"), None) };
    have.port.as_mut().unwrap().strange =
        Strange { addresses: vec![net("169.254.7.8/16")], routes: vec![default] };
    assert_plan(
        &attachment(),
        &have,
        "
node: ip route del default dev vethf3a1 table 254 metric 203
node: ip addr del 169.254.7.8/16 dev vethf3a1",
    );
}

#[test]
fn a_port_that_comes_back_to_the_bridge_gets_its_vlans_again() {
    let mut want = attachment();
    want.port.vlans = Some(Vlans { native: VlanId::new(100), tagged: vec![], keep_default: false });
    let mut have = attached();
    let port = have.port.as_mut().unwrap();
    (port.on_bridge, port.vlans) = (false, vec![]);
    assert_plan(
        &want,
        &have,
        "
node: ip link set vethf3a1 master smartnet0 up
node: bridge link set dev vethf3a1 hairpin on
node: bridge vlan del vid 1 dev vethf3a1
node: bridge vlan add vid 100 dev vethf3a1 pvid untagged",
    );
}

#[test]
fn a_name_servers_address_that_somebody_uses_is_not_brought() {
    let mut want = attachment();
    let dns = Ipv4Addr::new(169, 254, 0, 2);
    want.gateway.as_mut().unwrap().dns = Some(dns);
    let mut have = attached();
    let names = |have: &Have| {
        let steps = plan(&want, have);
        let words: Vec<_> =
            steps.iter().map(ToString::to_string).filter(|words| words.contains("dns_")).collect();
        (words, steps.iter().any(|step| matches!(step, Step::NameServerAddress { .. })))
    };
    assert!(names(&have).1, "it is free");
    let how = claim::How::Connection { port: 3260 };
    let disk = claim::Use { network: dns.into(), interface: String::new(), how, ours: false };
    have.names.taken = claim::taken(dns, "smartnet0", &[disk]);
    let (rules, comes) = names(&have);
    assert!(!comes);
    let [rules] = rules.as_slice() else { panic!("{rules:?}") };
    assert!(rules.contains("172.38.0.1 . udp . 53") && !rules.contains("169.254"), "{rules}");
    have.names.rules = true;
    assert_eq!(names(&have), (vec![], false));
    have.names.kept_from_others = true;
    let (released, comes) = names(&have);
    assert!(!comes && released[0].starts_with("node: nft delete element"), "{released:?}");
}

#[test]
fn questions_are_led_where_they_are_answered_and_no_longer() {
    let mut want = attachment();
    let (dns, gateway) = (Ipv4Addr::new(169, 254, 0, 2), Ipv4Addr::new(172, 38, 0, 1));
    want.gateway.as_mut().unwrap().dns = Some(dns);
    let mut have = attached();
    have.bridge.as_mut().unwrap().addresses.push(net("169.254.0.2/32"));
    (have.names.rules, have.names.guard) = (true, true);
    assert_eq!(plan(&want, &have), vec![], "it has port 53");
    let lead = |address, port| Step::Filter(FilterStep::LeadNameServer { address, port });
    have.names.said = [(dns, 9053), (gateway, 9053), (Ipv4Addr::new(10, 0, 0, 1), 9053)].into();
    assert_eq!(plan(&want, &have), vec![], "nobody listens there");
    have.names.listening = [(dns, 9053), (gateway, 9053)].map(SocketAddr::from).into();
    assert_eq!(plan(&want, &have), vec![lead(gateway, Some(9053)), lead(dns, Some(9053))]);
    have.names.led_to = [(dns, 9053), (gateway, 9153)].into();
    assert_eq!(plan(&want, &have), vec![lead(gateway, Some(9053))]);
    have.names.listening.extend([(dns, 53), (gateway, 53)].map(SocketAddr::from));
    assert_eq!(plan(&want, &have), vec![lead(gateway, None), lead(dns, None)]);
    let words = lead(dns, None).to_string();
    assert!(words.starts_with("node: nft delete element ip smarter-cni dns_lead"), "{words}");
}

#[test]
fn questions_to_others_are_led_to_every_gateway_that_has_a_name() {
    let mut want = attachment();
    let own = want.gateway.as_mut().unwrap();
    own.addresses.extend([net("fd00:38::1/64"), net("fe80::1/64")]);
    let mut have = attached();
    let bridge = have.bridge.as_mut().unwrap();
    bridge.addresses.extend([net("fd00:38::1/64"), net("fe80::1/64")]);
    bridge.alias = Some("smarter-cni bridge 172.38.0.1/16,fd00:38::1/64,fe80::1/64".into());
    assert_eq!(plan(&want, &have), vec![]);
    want.gateway.as_mut().unwrap().intercept = true;
    let intercept = |gateway| {
        Step::Filter(FilterStep::InterceptNames { link: want.bridge.name.clone(), gateway: net(gateway) })
    };
    let steps = [intercept("172.38.0.1/16"), intercept("fd00:38::1/64")];
    assert_eq!(plan(&want, &have), steps);
    have.names.intercepted.push(net("172.38.0.1/16"));
    assert_eq!(plan(&want, &have), steps[1..]);
    let words = steps[0].to_string();
    assert!(
        words.contains("dns_inside { 172.38.0.0/16 }; nft add element ip smarter-cni dns_intercept"),
        "{words}"
    );
}

#[test]
fn a_lost_address_takes_its_routes_along() {
    let mut have = attached();
    let pod = have.pod.as_mut().unwrap();
    (pod.addresses, pod.routes) = (vec![], vec![]);
    assert_plan(
        &attachment(),
        &have,
        "
pod:  sysctl -w net.ipv4.conf.eth0.arp_notify=1
pod:  ip addr add 172.38.0.7/16 dev eth0
pod:  ip route add default via 172.38.0.1 dev eth0",
    );
}
