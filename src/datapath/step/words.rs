//! A step as the command a person would type.
//!
//! Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

use ipnetwork::IpNetwork;

use super::{FilterStep, PodStep, Step};
use crate::datapath::firewall::passage::Change;
use crate::datapath::firewall::uplinks::Pair;
use crate::datapath::firewall::{ChainName, legacy};
use crate::datapath::mark::OWNER;
use crate::net::{DNS_INTERCEPT_PORT, DNS_PORT, Family, IfName, Route, network_of};
use crate::text::typed;

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateBridge { name, mac, mtu, vlan_filtering } => {
                write!(f, "node: ip link add {name} address {mac}{} type bridge", mtu_words(*mtu))?;
                f.write_str(if *vlan_filtering { " vlan_filtering 1" } else { "" })
            }
            Self::Mark { link, alias } => write!(f, "node: ip link set {link} alias \"{alias}\""),
            Self::FixMac { link, mac } => write!(f, "node: ip link set {link} address {mac}"),
            Self::Promiscuous { link } => write!(f, "node: ip link set {link} promisc on"),
            Self::RefuseAdvertisements { link } => {
                write!(f, "node: sysctl -w net.ipv6.conf.{link}.accept_ra=0")
            }
            Self::Up { link } => write!(f, "node: ip link set {link} up"),
            Self::CreateVlanGateway { name, port, mtu } => {
                let mtu = mtu_words(*mtu);
                write!(f, "node: ip link add {name}{mtu} up type veth peer name {port}{mtu}")
            }
            Self::RemoveAddress { link, address } => write!(f, "node: ip addr del {address} dev {link}"),
            Self::AddAddress { link, address } => write!(f, "node: ip addr add {address} dev {link}"),
            Self::NameServerAddress { link, address } => {
                write!(f, "node: ip addr add {address}/32 dev {link} scope link")
            }
            Self::Forward(Family::V4) => f.write_str("node: sysctl -w net.ipv4.ip_forward=1"),
            Self::Forward(Family::V6) => f.write_str("node: sysctl -w net.ipv6.conf.all.forwarding=1"),
            Self::Rename { link, name } => {
                write!(f, "node: ip link set {link} down; ip link set {link} name {name} up")
            }
            Self::RemoveLink { link } => write!(f, "node: ip link del {link}"),
            Self::CreateVeth { host, host_mac, host_mtu, bridge, pod, mac, pod_mtu } => {
                write!(f, "node: ip link add {host}")?;
                host_mac.map_or(Ok(()), |mac| write!(f, " address {mac}"))?;
                write!(f, "{} master {bridge} up type veth", mtu_words(*host_mtu))?;
                write!(f, " peer name {pod}{}", mtu_words(*pod_mtu))?;
                mac.map_or(Ok(()), |mac| write!(f, " address {mac}"))?;
                f.write_str(" netns pod")
            }
            Self::Join { link, bridge } => write!(f, "node: ip link set {link} master {bridge} up"),
            Self::SetPort { link, hairpin, isolated } => {
                write!(f, "node: bridge link set dev {link}")?;
                hairpin.map_or(Ok(()), |on| write!(f, " hairpin {}", on_off(on)))?;
                isolated.map_or(Ok(()), |on| write!(f, " isolated {}", on_off(on)))
            }
            Self::RemoveVlan { link, vlan } => write!(f, "node: bridge vlan del vid {vlan} dev {link}"),
            Self::AddVlan { link, vlan, native } => {
                let flags = if *native { " pvid untagged" } else { "" };
                write!(f, "node: bridge vlan add vid {vlan} dev {link}{flags}")
            }
            Self::SetMtu { link, mtu } => write!(f, "node: ip link set {link} mtu {mtu}"),
            Self::AwaitPort { link } => write!(f, "node: await {link} up"),
            Self::ForgetNeighbour { link, address } => write!(f, "node: ip neigh del {address} dev {link}"),
            Self::RemoveRoute { link, route } => {
                write!(f, "node: ip route del ")?;
                write_route(f, link, route)
            }
            Self::SpoofRule => write!(
                f,
                "node: nft add rule bridge {OWNER} spoof_check iifname @spoof_ports iifname . ether saddr != @spoof_allowed drop"
            ),
            Self::SpoofCheck { port, pod, mac } => {
                let mac = mac.map_or_else(|| format!("<mac of {pod}>"), |mac| mac.to_string());
                write!(
                    f,
                    "node: nft add element bridge {OWNER} spoof_allowed {{ {port} . {mac} }}; nft add element bridge {OWNER} \
                     spoof_ports {{ {port} }}"
                )
            }
            Self::ForgetConnections { address } => {
                write!(f, "node: conntrack -D -s {address}; conntrack -D -r {address}")
            }
            Self::Masquerade { network, subnet } => {
                let (family, multicast) = masquerade_words(*subnet);
                write!(
                    f,
                    "node: nft add rule {family} {OWNER} egress {family} saddr {subnet} {family} daddr != {subnet} {family} \
                     daddr != {multicast} masquerade comment \"{network}\""
                )
            }
            Self::ForgetUnmasqueraded { subnet } => {
                write!(
                    f,
                    "node: conntrack -D -s {subnet}, of the flows that should be masqueraded and are not"
                )
            }
            Self::RemoveSpoofCheck { port } => {
                write!(
                    f,
                    "node: nft delete element bridge {OWNER} spoof_ports {{ {port} }} and its spoof_allowed"
                )
            }
            Self::Filter(step) => write!(f, "node: {step}"),
            Self::Pod(step) => write!(f, "pod:  {step}"),
        }
    }
}

impl fmt::Display for FilterStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameServerRules { link, own, gateways } => {
                write!(f, "{}", name_server_commands(link, *own, gateways).join("; "))
            }
            Self::ReleaseNameServer { address } => write!(
                f,
                "nft delete element ip {OWNER} dns_addresses {{ {address} }}, and its elements of dns_links and dns_services, \
                 and the same of arp"
            ),
            Self::LeadNameServer { address, port: Some(port) } => write!(
                f,
                "nft add element ip {OWNER} dns_tracked {{ {address} . udp . {DNS_PORT}, {address} . tcp . {DNS_PORT} }}; nft \
                 add element ip {OWNER} dns_lead {{ {address} . udp . {DNS_PORT} : {address} . {port}, {address} . tcp . \
                 {DNS_PORT} : {address} . {port} }}"
            ),
            Self::LeadNameServer { address, port: None } => write!(
                f,
                "nft delete element ip {OWNER} dns_lead {{ {address} . udp . {DNS_PORT}, {address} . tcp . {DNS_PORT} }}, and the \
                 same of dns_tracked"
            ),
            Self::InterceptNames { link, gateway } => {
                let family = nft_family(Family::of(gateway.ip()));
                let (to, port) = (gateway.ip(), DNS_INTERCEPT_PORT);
                write!(
                    f,
                    "nft add element {family} {OWNER} dns_inside {{ {} }}; nft add element {family} {OWNER} dns_intercept {{ \
                     \"{link}\" . udp . {DNS_PORT} : {to} . {port}, \"{link}\" . tcp . {DNS_PORT} : {to} . {port} }}; nft add \
                     rule {family} {OWNER} dns_intercept_prerouting {family} daddr != @dns_inside dnat {family} to iifname . meta \
                     l4proto . th dport map @dns_intercept",
                    network_of(*gateway)
                )
            }
            Self::GuardNameServer { link, address } => write!(
                f,
                "nft add element arp {OWNER} dns_addresses {{ {address} }}; nft add element arp {OWNER} dns_links {{ \
                 {address} . \"{link}\" }}; nft add rule arp {OWNER} dns_guard arp daddr ip @dns_addresses arp daddr ip . \
                 iifname != @dns_links drop"
            ),
            Self::GuardForward { family, rule, add, remove } => {
                write!(f, "{}", guard_commands(nft_family(*family), *rule, add, remove).join("; "))
            }
            Self::ClampMss { family, interface } => write!(
                f,
                "nft add element {} {OWNER} clamped {{ \"{interface}\" }}; nft add rule {0} {OWNER} mss_clamp iifname \
                 @clamped tcp flags syn tcp option maxseg size set rt mtu, and the same with oifname",
                nft_family(*family)
            ),
            Self::AcceptForward { chain, traffic, change } => {
                write!(f, "{}", accept_commands(chain, &traffic.interface, change).join("; "))
            }
            Self::AcceptLegacy { family, traffic, change } => {
                let program = legacy::program(*family);
                let commands = legacy::commands(&traffic.interface, change);
                let typed: Vec<_> = commands.iter().map(|words| legacy::typed(program, words)).collect();
                write!(f, "{}", typed.join("; "))
            }
            Self::KeepAdvertisements { link } => {
                write!(f, "sysctl -w net.ipv6.conf.{link}.accept_ra=2")
            }
        }
    }
}

impl fmt::Display for PodStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl { key, value, .. } => {
                write!(f, "sysctl -w {}={value}", key.replace('/', "."))
            }
            Self::ArpNotify { link } => write!(f, "sysctl -w net.ipv4.conf.{link}.arp_notify=1"),
            Self::Address { link, address } => write!(f, "ip addr add {address} dev {link}"),
            Self::Up { link } => write!(f, "ip link set {link} up"),
            Self::Settle { link } => {
                write!(f, "await the end of duplicate address detection on {link}")
            }
            Self::Route { link, route } => {
                write!(f, "ip route add ")?;
                write_route(f, link, route)
            }
            Self::Announce { link } => write!(f, "announce the addresses of {link}"),
            Self::RemoveLink { link } => write!(f, "ip link del {link}"),
        }
    }
}

/// The nft family of a subnet and the multicast range that is never masqueraded in it.
pub fn masquerade_words(subnet: IpNetwork) -> (&'static str, &'static str) {
    if subnet.is_ipv4() { ("ip", "224.0.0.0/4") } else { ("ip6", "ff00::/8") }
}

fn nft_family(family: Family) -> &'static str {
    if family == Family::V4 { "ip" } else { "ip6" }
}

fn guard_commands(family: &str, rule: bool, add: &BTreeSet<Pair>, remove: &BTreeSet<Pair>) -> Vec<String> {
    let pairs = |pairs: &BTreeSet<Pair>| {
        let words = pairs.iter().map(|(from, to)| format!("\"{from}\" . \"{to}\""));
        words.collect::<Vec<_>>().join(", ")
    };
    let mut commands = Vec::new();
    if rule {
        commands.push(format!(
            "nft add rule {family} {OWNER} forward_guard iifname . oifname @uplink_pairs drop"
        ));
    }
    for (operation, which) in [("add", add), ("delete", remove)] {
        if !which.is_empty() {
            commands.push(format!(
                "nft {operation} element {family} {OWNER} uplink_pairs {{ {} }}",
                pairs(which)
            ));
        }
    }
    commands
}

fn name_server_commands(link: &IfName, own: Option<Ipv4Addr>, gateways: &[Ipv4Addr]) -> Vec<String> {
    let addresses = own.iter().chain(gateways);
    let services: Vec<_> =
        addresses.map(|at| format!("{at} . udp . {DNS_PORT}, {at} . tcp . {DNS_PORT}")).collect();
    let mut commands = vec![format!("nft add element ip {OWNER} dns_services {{ {} }}", services.join(", "))];
    if let Some(own) = own {
        commands.push(format!("nft add element ip {OWNER} dns_addresses {{ {own} }}"));
        commands
            .push(format!("nft add element ip {OWNER} dns_links {{ {own} . \"lo\", {own} . \"{link}\" }}"));
    }
    commands.extend([
        format!(
            "nft add rule ip {OWNER} dns_prerouting ip daddr @dns_addresses ip daddr . iifname != @dns_links drop"
        ),
        format!(
            "nft add rule ip {OWNER} dns_prerouting ip daddr . meta l4proto . th dport @dns_services notrack, the same for the \
             source, and both in dns_output"
        ),
    ]);
    commands
}

/// What a person types to change a chain of somebody else, in the words of the program that owns it.
pub fn accept_commands(base: &ChainName, interface: &IfName, change: &Change) -> Vec<String> {
    if base.is_iptables() {
        let program = base.iptables("-nft");
        return legacy::commands(interface, change)
            .iter()
            .map(|words| legacy::typed(&program, words))
            .collect();
    }
    let table = base.table_words();
    let accept = |accept: usize| {
        let matches = match accept {
            0 => format!("iifname \"{interface}\""),
            1 => format!("oifname \"{interface}\" ct state established,related"),
            _ => format!("oifname \"{interface}\" ct status dnat"),
        };
        // nft wants the quotes of a comment with a blank, and a shell takes the outer ones.
        format!("{matches} accept comment {}", typed(format_args!("\"{OWNER} {interface}\"")))
    };
    let delete = change.remove.iter().map(|removed| {
        format!("nft delete rule {table} {} handle {}", typed(&removed.chain), removed.handle)
    });
    let insert = change.insert.iter().map(|(number, place)| match place.before {
        None => format!("nft add rule {table} {} {}", typed(&place.chain), accept(*number)),
        Some((handle, _)) => {
            format!("nft insert rule {table} {} handle {handle} {}", typed(&place.chain), accept(*number))
        }
    });
    delete.chain(insert).collect()
}

fn mtu_words(mtu: Option<u32>) -> String {
    mtu.map(|mtu| format!(" mtu {mtu}")).unwrap_or_default()
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn write_route(f: &mut fmt::Formatter<'_>, link: &IfName, route: &Route) -> fmt::Result {
    if route.is_default() {
        f.write_str("default")?;
    } else {
        write!(f, "{}", route.dst)?;
    }
    route.gw.map_or(Ok(()), |gw| write!(f, " via {gw}"))?;
    write!(f, " dev {link}")?;
    route.table.map_or(Ok(()), |table| write!(f, " table {table}"))?;
    route.priority.map_or(Ok(()), |priority| write!(f, " metric {priority}"))?;
    route.scope.map_or(Ok(()), |scope| write!(f, " scope {scope}"))?;
    route.mtu.map_or(Ok(()), |mtu| write!(f, " mtu {mtu}"))?;
    route.advmss.map_or(Ok(()), |advmss| write!(f, " advmss {advmss}"))
}
