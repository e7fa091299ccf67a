//! What the node does to its pods' packets: forwarding, reverse path filters, firewalls of others, uplinks, disks.

use crate::datapath::firewall::{ForwardChain, legacy};
use crate::datapath::survey::{Link, OperState};
use crate::doctor::check::{Check, Finding, Group, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::files::Purpose;
use crate::doctor::evidence::sysctls;
use crate::net::{Family, IfName, network_of};

const fn check(
    id: &'static str,
    title: &'static str,
    severity: Severity,
    needs: &'static [Need],
    run: fn(&Evidence) -> Verdict,
) -> Check {
    Check { id, group: Group::Host, title, severity, needs, run }
}

use Severity::{Broken, Warning};

const SWITCHES: &[Need] = &[Need::Network, Need::Attachments, Need::Files];

pub(super) const CHECKS: &[Check] = &[
    check("forwarding", "the node forwards for its pods", Broken, SWITCHES, forwarding),
    check("forwarding-bridge", "the bridge takes part in forwarding", Broken, SWITCHES, forwarding_bridge),
    check("forwarding-reset", "no file switches forwarding off again", Warning, SWITCHES, forwarding_reset),
    check("rp-filter", "no reverse path filter drops what comes back", Warning, SWITCHES, rp_filter),
    check(
        "forward-drop",
        "no firewall drops what pods send through the node",
        Broken,
        &[Need::Filter, Need::Attachments, Need::Configuration],
        forward_drop,
    ),
    check(
        "iptables-mixed",
        "old and new iptables are not both in use",
        Warning,
        &[Need::Filter, Need::Network],
        iptables_mixed,
    ),
    check("uplink-missing", "there is a default route", Warning, &[Need::Network], uplink_missing),
    check("uplink-twice", "no two uplinks are in one network", Warning, &[Need::Network], uplink_twice),
    check("ipv6-disabled", "IPv6 is on where pods have it", Broken, SWITCHES, ipv6_disabled),
    check("ipv6-router", "uplinks keep their IPv6 router", Warning, SWITCHES, ipv6_router),
    check("disk-full", "there is room for leases and records", Broken, DISKS, disk_full),
    check("disk-read-only", "leases and records can be written", Broken, DISKS, disk_read_only),
    check("disk-noexec", "plugins may be executed", Broken, DISKS, disk_noexec),
];

const DISKS: &[Need] = &[Need::Files, Need::Configuration, Need::Attachments];

fn forwarding_key(family: Family) -> &'static str {
    if family == Family::V4 { "net/ipv4/ip_forward" } else { "net/ipv6/conf/all/forwarding" }
}

fn dotted(key: &str) -> String {
    key.chars()
        .map(|c| {
            if c == '/' {
                '.'
            } else if c == '.' {
                '/'
            } else {
                c
            }
        })
        .collect()
}

/// `sysctl -w x=1`, and what to do about a file that says something else.
fn turn(evidence: &Evidence, key: &str, value: &str) -> (String, String) {
    let files = evidence.files();
    let setter = files.ok().and_then(|files| sysctls::setter(&files.sysctls, key));
    let command = format!("sysctl -w {}={value}", dotted(key));
    match setter.filter(|setter| setter.value() != value) {
        Some(setter) => (
            format!(", and {} sets it to {}", setter.place(), setter.value()),
            format!("{command}, and change {}", setter.place()),
        ),
        None => (String::new(), command),
    }
}

fn forwarding(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    let mut findings = Vec::new();
    for family in routed(evidence)? {
        let key = forwarding_key(family);
        match node.switch(key) {
            Some("1") | None => {}
            Some(value) => {
                let (setter, fix) = turn(evidence, key, "1");
                findings.push(Finding::problem(
                    format!("sysctl {}", dotted(key)),
                    format!("{} is {value}{setter}: pods reach nothing beyond the node", dotted(key)),
                    fix,
                ));
            }
        }
    }
    Ok(findings)
}

fn routed(evidence: &Evidence) -> Result<Vec<Family>, Pass> {
    let routed = evidence.attachments()?.routed();
    if routed.is_empty() { Err(Pass::skipped("the node is no gateway for its pods")) } else { Ok(routed) }
}

fn gateway_links(evidence: &Evidence) -> Result<Vec<IfName>, Pass> {
    let promises = evidence.attachments()?.promises();
    Ok(promises.values().flat_map(|promise| promise.gateways.keys().cloned()).collect())
}

fn forwarding_bridge(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    if !routed(evidence)?.contains(&Family::V4) {
        return Err(Pass::skipped("IPv6 has no switch per interface that counts"));
    }
    if node.switch("net/ipv4/ip_forward") != Some("1") {
        return Err(Pass::skipped("forwarding is off altogether"));
    }
    let mut findings = Vec::new();
    for link in gateway_links(evidence)? {
        let key = format!("net/ipv4/conf/{link}/forwarding");
        if node.switch(&key) == Some("0") {
            let (setter, fix) = turn(evidence, &key, "1");
            findings.push(Finding::problem(
                format!("bridge {link}"),
                format!("{} is 0{setter}: what pods send is not forwarded", dotted(&key)),
                fix,
            ));
        }
    }
    Ok(findings)
}

/// Forwarding is on, but not for long.
fn forwarding_reset(evidence: &Evidence) -> Verdict {
    let (node, files) = (evidence.node()?, evidence.files()?);
    let mut findings = Vec::new();
    for family in routed(evidence)? {
        let key = forwarding_key(family);
        let setter = sysctls::setter(&files.sysctls, key).filter(|setter| setter.value() == "0");
        if let Some(setter) = setter.filter(|_| node.switch(key) == Some("1")) {
            findings.push(Finding::problem(
                format!("file {}", setter.file),
                format!(
                    "{} sets {} to 0: pods are cut off whenever it is applied, at the latest with the next update of the \
                     system",
                    setter.place(),
                    dotted(key)
                ),
                format!("remove the line, or write {} = 1 to /etc/sysctl.d/99-zz-pods.conf", dotted(key)),
            ));
        }
    }
    Ok(findings)
}

/// Strict filtering asks whether an answer would leave where the packet came in. With two uplinks it does not.
fn rp_filter(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    routed(evidence)?;
    let defaults = node.network.default_routes(Family::V4);
    let mut links: Vec<u32> = defaults.iter().filter_map(|route| route.index).collect();
    links.dedup();
    let Some((preferred, others)) = links.split_first().filter(|(_, others)| !others.is_empty()) else {
        return Err(Pass::skipped("there is one uplink at most"));
    };
    let all = node.number("net/ipv4/conf/all/rp_filter").unwrap_or(0);
    let mut findings = Vec::new();
    for link in
        others.iter().filter(|link| *link != preferred).filter_map(|link| node.network.by_index(*link))
    {
        let key = format!("net/ipv4/conf/{}/rp_filter", link.name);
        // The kernel takes the larger of the two (ip-sysctl).
        if node.number(&key).unwrap_or(0).max(all) != 1 {
            continue;
        }
        let (setter, fix) = turn(evidence, &key, "2");
        findings.push(Finding::problem(
            format!("interface {}", link.name),
            format!(
                "{} is strict{setter}, and the preferred default route leaves through {}: clients behind {} do not reach \
                 host ports",
                dotted(&key),
                node.network.name_of(*preferred),
                link.name
            ),
            fix,
        ));
    }
    Ok(findings)
}

fn forward_drop(evidence: &Evidence) -> Verdict {
    let filter = evidence.filter()?;
    let families = routed(evidence)?;
    let configured = evidence.configuration()?.files.iter().filter_map(|file| file.network.as_ref().ok());
    let left_alone: Vec<_> =
        configured.filter(|network| network.hands_off).filter_map(|network| network.bridge.clone()).collect();
    let mut findings = Vec::new();
    for link in gateway_links(evidence)? {
        if left_alone.iter().any(|bridge| *bridge == link.as_str()) {
            continue;
        }
        for (chain, owned) in filter.forward_chains(&link) {
            let concerns = families.iter().any(|family| chain.name.sees(*family));
            let lets_through = chain.accepts() || filter.names_interface(&chain.name.table, &link);
            if concerns && chain.drops() && !lets_through {
                let whose = owner(evidence, &chain);
                let how =
                    if chain.policy_drops { "its policy is drop" } else { "a rule without conditions drops" };
                findings.push(Finding::problem(
                    format!("chain {}", chain.name),
                    format!("{how}, and nothing accepts the packets of {link}; the chain is {whose}"),
                    remedy(&chain, &link, owned),
                ));
            }
        }
    }
    Ok(findings)
}

fn owner(evidence: &Evidence, chain: &ForwardChain) -> &'static str {
    let has =
        |name: &str| evidence.filter().is_ok_and(|filter| filter.has_chain_like(&chain.name.table, name));
    match chain.name.table.as_str() {
        "firewalld" => "firewalld's",
        "filter" if has("DOCKER") => "Docker's",
        "filter" if has("ufw") => "ufw's",
        "filter" => "iptables'",
        _ => "an administrator's, or another program's",
    }
}

fn remedy(chain: &ForwardChain, link: &IfName, owned: bool) -> String {
    if owned || chain.name.table == "firewalld" {
        return format!(
            "firewall-cmd --permanent --zone=trusted --add-interface={link} && firewall-cmd --reload"
        );
    }
    let again = "the next pod that starts puts the accepts there; now, by hand:\n";
    if chain.name.is_iptables() {
        let program = if chain.name.sees(Family::V4) { "iptables" } else { "ip6tables" };
        return format!("{again}{}", legacy::commands(program, link).replace("; ", "\n"));
    }
    let name = &chain.name;
    format!(
        "{again}nft insert rule {name} oifname {link} ct status dnat accept\n\
         nft insert rule {name} oifname {link} ct state established,related accept\n\
         nft insert rule {name} iifname {link} accept"
    )
}

/// Two packet filters side by side: each shows half of the rules, and a drop in either is a drop.
fn iptables_mixed(evidence: &Evidence) -> Verdict {
    let legacy = &evidence.node()?.legacy;
    let ours = evidence.filter()?.iptables_tables();
    let mixed = legacy.iter().find(|(_, table)| table == "filter" || table == "nat");
    match (mixed, ours.first()) {
        (Some((family, table)), Some(other)) => {
            let program = legacy::program(*family);
            Ok(vec![Finding::problem(
                format!("table {table}"),
                format!(
                    "the old {table} table of iptables-legacy is loaded, and iptables has rules in table {other} of \
                     nf_tables: neither program shows all rules"
                ),
                format!(
                    "find out who uses {program} ({program}-save shows its rules), move those rules, then reboot; on Debian: \
                     update-alternatives --config iptables"
                ),
            )])
        }
        _ => Ok(Vec::new()),
    }
}

fn uplink_missing(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    if !node.uplinks().is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![Finding::problem(
        "default route",
        "the node has none: pods reach each other and the node, nothing else; kubelet and k3s may refuse to start",
        "bring an uplink up; for a node that stays alone: ip link add dummy0 type dummy && ip link set dummy0 up && ip route \
         add default dev dummy0 metric 65535",
    )])
}

fn uplink_twice(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    let mut seen: Vec<(ipnetwork::IpNetwork, &Link)> = Vec::new();
    let mut findings = Vec::new();
    for address in node.network.addresses.iter().filter(|address| address.scope == 0) {
        let Some(link) = node.network.by_index(address.index).filter(|link| is_uplink(link)) else {
            continue;
        };
        let network = network_of(address.address);
        let single = if network.is_ipv4() { 32 } else { 128 };
        if network.prefix() == single {
            continue;
        }
        match seen.iter().find(|(other, _)| *other == network) {
            Some((_, other)) if other.index != link.index => findings.push(Finding::problem(
                format!("interface {}", link.name),
                format!(
                    "{} and {} both are in {network}: answers leave through one of them only",
                    other.name, link.name
                ),
                format!(
                    "take one of the two down, or give them networks of their own: ip link set {} down",
                    link.name
                ),
            )),
            _ => seen.push((network, link)),
        }
    }
    Ok(findings)
}

/// Something that leads out of the node: neither lo nor a bridge or veth, except a veth that has addresses of its own.
fn is_uplink(link: &Link) -> bool {
    let inside = matches!(link.kind.as_deref(), Some("bridge" | "dummy" | "ifb")) || link.name == "lo";
    !inside && link.up && link.state != OperState::Down
}

fn ipv6_disabled(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    let promises = evidence.attachments()?.promises();
    let v6 = |promise: &crate::doctor::evidence::attachments::Promise| {
        promise.subnets.keys().any(ipnetwork::IpNetwork::is_ipv6)
    };
    if !promises.values().any(v6) {
        return Err(Pass::skipped("no pod has an IPv6 address"));
    }
    let mut findings = Vec::new();
    for (bridge, promise) in promises.iter().filter(|(_, promise)| v6(promise)) {
        if !node.has_ipv6() {
            findings.push(Finding::problem(
                format!("bridge {bridge}"),
                "pods were promised IPv6 addresses, and this kernel has no IPv6",
                "remove ipv6.disable=1 from the kernel's command line, or take the IPv6 range out of the network's configuration",
            ));
            continue;
        }
        for link in promise.gateways.keys() {
            let key = format!("net/ipv6/conf/{link}/disable_ipv6");
            if node.switch(&key) == Some("1") {
                let (setter, fix) = turn(evidence, &key, "0");
                findings.push(Finding::problem(
                    format!("bridge {link}"),
                    format!("{} is 1{setter}: it has lost its IPv6 addresses", dotted(&key)),
                    format!("{fix}; the next pod that starts brings the gateway address back"),
                ));
            }
        }
    }
    Ok(findings)
}

/// A kernel that forwards takes no router advertisements where `accept_ra` is 1.
fn ipv6_router(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    if node.switch("net/ipv6/conf/all/forwarding") != Some("1") {
        return Err(Pass::skipped("the node does not forward IPv6"));
    }
    let promises = evidence.records()?.promises();
    let mut findings = Vec::new();
    for link in node
        .uplinks()
        .into_iter()
        .filter(|link| link.name.parse().is_ok_and(|name| !promises.contains_key(&name)))
    {
        let key = format!("net/ipv6/conf/{}/accept_ra", link.name);
        // Without a link-local address nobody advertises to it.
        let listens = node.network.addresses_of(link).iter().any(ipnetwork::IpNetwork::is_ipv6);
        let learns = !node
            .network
            .default_routes(Family::V6)
            .iter()
            .any(|route| route.index == Some(link.index) && route.protocol != RTPROT_RA);
        if node.switch(&key) == Some("1") && listens && learns {
            let (setter, fix) = turn(evidence, &key, "2");
            findings.push(Finding::problem(
                format!("interface {}", link.name),
                format!("{} is 1{setter}, and the node forwards: it ignores router advertisements, and its default route expires", dotted(&key)),
                fix,
            ));
        }
    }
    Ok(findings)
}

/// RTPROT_RA, linux/rtnetlink.h.
const RTPROT_RA: u8 = 9;

/// Less than this, and the next pod may be the one that fails.
const ROOM: u64 = 1 << 20;
const FILES: u64 = 64;

fn disk_full(evidence: &Evidence) -> Verdict {
    let places = evidence.files()?.directories.iter().filter(|place| place.purpose == Purpose::State);
    let mut findings = Vec::new();
    for place in places {
        let what = if place.bytes > 0 && place.free_bytes < ROOM {
            format!("{} KiB are left of {} MiB", place.free_bytes >> 10, place.bytes >> 20)
        } else if place.inodes > 0 && place.free_inodes < FILES {
            format!("{} inodes are left of {}", place.free_inodes, place.inodes)
        } else {
            continue;
        };
        findings.push(Finding::problem(
            format!("directory {}", place.path),
            format!("{what}: no pod can be attached"),
            format!("free space there (df -h {0}; df -i {0}), or move it to a tmpfs below /run", place.path),
        ));
    }
    Ok(findings)
}

fn disk_read_only(evidence: &Evidence) -> Verdict {
    let places = evidence.files()?.directories.iter();
    let read_only = places.filter(|place| place.purpose == Purpose::State && place.read_only);
    let findings = read_only.map(|place| {
        Finding::problem(
            format!("directory {}", place.path),
            "its file system is mounted read-only: no pod can be attached",
            "mount it writable; after a fault of the disk: fsck, then reboot",
        )
    });
    Ok(findings.collect())
}

fn disk_noexec(evidence: &Evidence) -> Verdict {
    let places = evidence.files()?.directories.iter();
    let barred = places.filter(|place| place.purpose == Purpose::Plugins && place.no_exec);
    let findings = barred.map(|place| {
        Finding::problem(
            format!("directory {}", place.path),
            "its file system is mounted noexec: the runtime cannot execute the plugins there",
            format!("mount -o remount,exec $(findmnt -no TARGET -T {}), and change /etc/fstab", place.path),
        )
    });
    Ok(findings.collect())
}
