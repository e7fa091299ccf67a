//! The node's name server: where pods ask it, and whether somebody answers there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use crate::datapath::claim;
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::attachments::Promise;
use crate::doctor::evidence::names::{Names, Server};
use crate::net::DNS_PORT;
use crate::spec::{Gateway, VlanGateway};
use crate::text::typed;

use Severity::{Broken, Warning};

const WHERE: &[Need] = &[Need::Network, Need::Attachments, Need::Configuration];

pub(super) const ASKED: &[Need] = &[Need::Network, Need::Attachments, Need::Configuration, Need::Names];

pub(super) const CHECKS: &[Check] = &[
    G::Bridge.check("dns-taken", "nobody else uses the name server's address", Broken, WHERE, taken),
    G::Bridge.check("dns-silent", "the node's name server runs", Broken, ASKED, silent),
    G::Bridge.check("dns-port", "the name server has port 53 of its addresses", Broken, ASKED, port),
    G::Bridge.check("dns-upstream", "the name server has somebody to ask", Warning, ASKED, upstream),
];

/// Where pods ask, with the links that have the address: as they were promised, and as the next ones will be.
fn servers(evidence: &Evidence) -> Result<BTreeMap<Ipv4Addr, BTreeSet<String>>, Pass> {
    let mut servers: BTreeMap<Ipv4Addr, BTreeSet<String>> = BTreeMap::new();
    for want in evidence.records()?.live().filter_map(|pod| pod.record.attachment()) {
        if let Some(gateway @ Gateway { dns: Some(dns), .. }) = &want.gateway {
            servers.entry(*dns).or_default().insert(gateway.link(&want.bridge).to_string());
        }
    }
    for network in evidence.configuration()?.networks().filter(|network| network.is_ours()) {
        let Some(config) = &network.attaches else { continue };
        if let Some(dns) = config.node_dns.filter(|_| config.is_gateway) {
            let vlan = config.vlan.and_then(|vlan| VlanGateway::of(&config.bridge, vlan).ok());
            let link = vlan.map_or_else(|| config.bridge.to_string(), |vlan| vlan.name.to_string());
            servers.entry(dns).or_default().insert(link);
        }
    }
    if servers.is_empty() {
        return Err(Pass::skipped("no network has an address for the node's name server (nodeDns)"));
    }
    Ok(servers)
}

/// What the installer refuses, where it came later.
fn taken(evidence: &Evidence) -> Verdict {
    let servers = servers(evidence)?;
    let node = evidence.node()?;
    let network = &node.network;
    let uses = claim::of(
        &network.links,
        &network.addresses,
        &network.routes,
        &network.neighbours,
        &node.connections,
    );
    let mut findings = Vec::new();
    for (address, links) in servers {
        // Of several networks each knows the others as ours, by their marks.
        let Some(link) = links.first() else { continue };
        let Some(taken) = claim::taken(address, link, &uses) else { continue };
        let has = |own: &&str| {
            network.link(own).is_some_and(|own| network.addresses_of(own).iter().any(|at| at.ip() == address))
        };
        let found = match links.iter().map(String::as_str).find(has) {
            Some(own) => format!("{taken}; {own} has it as well, so that nobody on this node reaches them"),
            None => format!(
                "{taken}; no pod's bridge gets it, and who asks for names there gets no answer from here"
            ),
        };
        let fix = another(evidence, claim::free(link, &uses))?;
        findings.push(Finding::problem(format!("address {address}"), found, fix));
    }
    Ok(findings)
}

/// The installation as it was, with another address.
fn another(evidence: &Evidence, free: Option<Ipv4Addr>) -> Result<String, Pass> {
    let known = &evidence.configuration()?.installed.settings;
    let mut words = vec![super::INSTALL.to_owned()];
    for (key, text) in known.iter().filter(|(key, _)| key.as_str() != "dns") {
        let option = format!("--{}", key.replace('_', "-"));
        match (key.as_str(), text.as_str()) {
            // The only one without a value.
            ("take_over", "true") => words.push(option),
            ("take_over", _) => {}
            _ => words.push(format!("{option} {}", typed(text))),
        }
    }
    let address = free.map_or_else(|| "off".to_owned(), |free| free.to_string());
    Ok(format!(
        "{} --dns {address}\nand the same as dns-address of the name server and as --cluster-dns of the kubelet, then \
         restart the pods; with --dns off pods ask their gateway (in a cluster: keys dns and dns-address of the ConfigMaps)",
        words.join(" ")
    ))
}

/// Of a node where pods ask: the evidence, and the addresses at which they do.
pub(super) fn asked(evidence: &Evidence) -> Result<(&Names, BTreeSet<IpAddr>), Pass> {
    servers(evidence)?;
    let promises = evidence.attachments()?.promises();
    let addresses: BTreeSet<IpAddr> = promises.values().flat_map(Promise::asked_at).collect();
    if addresses.is_empty() {
        return Err(Pass::skipped("no pod was promised an address of the node's name server"));
    }
    Ok((evidence.names()?, addresses))
}

/// The server, for checks that have nothing to say without one.
fn running(names: &Names) -> Result<&Server, Pass> {
    names.server.as_ref().ok_or_else(|| Pass::skipped("the name server does not run"))
}

/// Promised ones, without gateways: what kubelets are to name.
pub(super) fn own(evidence: &Evidence) -> Result<Vec<IpAddr>, Pass> {
    Ok(servers(evidence)?.into_keys().map(IpAddr::V4).collect())
}

/// Where somebody else uses the address, that is what is wrong with it.
fn silent(evidence: &Evidence) -> Verdict {
    let (names, _) = asked(evidence)?;
    let mut findings = Vec::new();
    for address in own(evidence)? {
        let object = format!("address {address}");
        match &names.server {
            None => findings.push(Finding::problem(
                object,
                "nobody serves names there: smarter-cni dns does not run on this node, or does not share its /run/smarter-cni",
                "setsid -f smarter-cni dns >/dev/null 2>&1\nand for good as a service (docs/dns.md), or as the DaemonSet smarter-dns: \
                 kubectl get pods -A -l k8s-app=smarter-dns -o wide",
            )),
            Some(server) if server.port(address).is_none() => findings.push(Finding::problem(
                object,
                format!("smarter-cni dns runs and does not serve there, but at {}", at(server)),
                format!("give it dns-address {address} (CLUSTER_DNS), and start it anew"),
            )),
            Some(_) => {}
        }
    }
    Ok(findings)
}

fn at(server: &Server) -> String {
    let words: Vec<_> = server.at.iter().map(ToString::to_string).collect();
    if words.is_empty() { "no address".to_owned() } else { words.join(", ") }
}

/// One finding for whoever holds it, at however many of our addresses. That questions are led to the port that the server
/// says it has instead is for the plan.
fn port(evidence: &Evidence) -> Verdict {
    let (names, addresses) = asked(evidence)?;
    let is_said = |address: &IpAddr, port: u16| match address {
        IpAddr::V4(address) => names.fallback.get(address) == Some(&port),
        IpAddr::V6(_) => false,
    };
    let mut held: BTreeMap<(String, Option<u16>), Vec<String>> = BTreeMap::new();
    for address in addresses {
        let served = names.server.as_ref().and_then(|server| server.port(address));
        let holders: Vec<&str> =
            names.holders.get(&address).into_iter().flatten().map(String::as_str).collect();
        let elsewhere = served.filter(|port| *port != DNS_PORT);
        if elsewhere.is_some_and(|port| is_said(&address, port)) {
            continue;
        }
        let is_held = elsewhere.is_some() || names.server.is_none() && !holders.is_empty();
        if is_held {
            let who = if holders.is_empty() {
                "a program that cannot be seen from here".to_owned()
            } else {
                holders.join(", ")
            };
            held.entry((who, elsewhere)).or_default().push(address.to_string());
        }
    }
    let finding = |((who, elsewhere), at): ((String, Option<u16>), Vec<String>)| {
        let at = at.join(", ");
        let meanwhile = match elsewhere {
            Some(port) => {
                format!("smarter-cni dns serves at port {port} meanwhile, and no question is led there")
            }
            None => "smarter-cni dns could not have it".to_owned(),
        };
        Finding::problem("port 53", format!("{who} has it at {at}: {meanwhile}"), release(&who, &at))
    };
    Ok(held.into_iter().map(finding).collect())
}

/// The name server tries again by itself, every few seconds.
fn release(who: &str, at: &str) -> String {
    let after = "the name server takes it within 5 seconds";
    if who.starts_with("dnsmasq") {
        return format!(
            "tell dnsmasq to leave {at} alone: bind-dynamic, and except-interface= with the bridge of the pods, in a file below \
             /etc/dnsmasq.d; then restart it\n{after}"
        );
    }
    format!("end that program, or let it listen at its own addresses and not at {at}\n{after}")
}

/// A node without a way out has nobody to ask, and need not.
fn upstream(evidence: &Evidence) -> Verdict {
    let (names, addresses) = asked(evidence)?;
    let server = running(names)?;
    let node = evidence.node()?;
    if node.uplinks().is_empty() {
        return Err(Pass::skipped("the node has no default route"));
    }
    if !server.upstreams.is_empty() {
        return Ok(Vec::new());
    }
    let of_node =
        |ip: &IpAddr| ip.is_loopback() || node.network.addresses.iter().any(|own| own.address.ip() == *ip);
    let own = |ip: &IpAddr| addresses.contains(ip);
    let looped = names.files.iter().find(|(_, servers)| servers.iter().any(own));
    let found = match (looped, names.files.iter().find(|(_, servers)| servers.iter().any(of_node))) {
        (Some((file, _)), _) => format!("{file} names this very name server, and no file names another one"),
        (None, Some((file, _))) => format!(
            "{file} names a server on this node, which it may ask others by, and no file names another one"
        ),
        (None, None) => "no file names an upstream server".to_owned(),
    };
    let router = node.uplinks().iter().find_map(|link| {
        node.network
            .routes
            .iter()
            .find(|route| route.dst.prefix() == 0 && route.index == Some(link.index))?
            .gw
    });
    let beside =
        "or what is the upstream here: the uplink's manager knows; else dns-upstream of the name server";
    let fix = match router {
        // Whoever wrote the last line may not have ended it.
        Some(router) => format!("printf '\\nnameserver {router}\\n' >> /etc/resolv.conf\n{beside}"),
        None => format!("name one in /etc/resolv.conf\n{beside}"),
    };
    Ok(vec![Finding::problem(
        "name server",
        format!("it has nobody to ask for names that are not of pods: {found}"),
        fix,
    )])
}
