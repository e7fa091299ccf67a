//! From pods to the names they have.
//!
//! Pure.

use std::collections::HashMap;
use std::net::IpAddr;

use super::super::name::{Label, Name, labels};
use super::{Apex, CLUSTER_LOCAL, Contents, Group, Host, HostPod, Node, Pod, RESERVED, Zone};

impl Zone {
    pub(crate) fn build(contents: &Contents) -> Self {
        let domain = &contents.domain;
        let below = |labels: &[&str]| Name::below(labels, domain).unwrap_or_else(|| domain.clone());
        let mut apexes = vec![domain.clone()];
        // The longer one first: each may be below the other.
        apexes.extend(Name::parse(CLUSTER_LOCAL).filter(|other| other != domain));
        apexes.sort_by_key(|apex| std::cmp::Reverse(apex.as_wire().len()));
        let mut building = Building {
            zone: Self {
                names: HashMap::new(),
                pointers: HashMap::new(),
                askers: HashMap::new(),
                apexes,
                ranges: contents.ranges.clone(),
                server: below(&["ns", "dns"]),
                mailbox: below(&["hostmaster"]),
                forwards_single_labels: contents.forwards_single_labels,
                has_cluster_upstream: contents.has_cluster_upstream,
            },
            namespaces: HashMap::new(),
            domain: domain.clone(),
            reached: Reached::of(contents),
        };
        for apex in building.zone.apexes.clone() {
            building.node(apex, Apex::Domain);
        }
        for label in RESERVED {
            building.node(below(&[label]), Apex::Domain);
        }
        let server = building.zone.server.clone();
        building.zone.pointers.insert(contents.server, vec![server.clone()]);
        building.address(Some(server), None, contents.server, Apex::Domain);
        contents.pods.iter().for_each(|pod| building.pod(pod));
        contents.host_pods.iter().for_each(|pod| building.host_pod(pod));
        contents.hosts.iter().for_each(|host| building.host(host));
        building.localhost();
        building.zone
    }
}

struct Building {
    zone: Zone,
    namespaces: HashMap<Label, u32>,
    domain: Name,
    reached: Reached,
}

/// Where pods reach the node itself, whose loopback is of no use to them.
struct Reached {
    v4: Option<IpAddr>,
    v6: Option<IpAddr>,
    server: IpAddr,
}

impl Reached {
    fn of(contents: &Contents) -> Self {
        let first = |wanted: fn(&IpAddr) -> bool| contents.gateways.iter().copied().find(wanted);
        Self { v4: first(IpAddr::is_ipv4), v6: first(IpAddr::is_ipv6), server: contents.server }
    }

    /// Instead of an address of the loopback.
    fn instead_of(&self, loopback: IpAddr) -> IpAddr {
        if loopback.is_ipv4() { self.v4 } else { self.v6 }.unwrap_or(self.server)
    }

    fn all(&self) -> Vec<IpAddr> {
        let all: Vec<IpAddr> = self.v4.into_iter().chain(self.v6).collect();
        if all.is_empty() { vec![self.server] } else { all }
    }
}

impl Building {
    fn pod(&mut self, pod: &Pod) {
        let namespace = pod.namespace.as_ref().map(|namespace| self.number(namespace));
        for &address in &pod.addresses {
            if let Some(namespace) = namespace {
                let askers = self.zone.askers.entry(address).or_default();
                if !askers.contains(&namespace) {
                    askers.push(namespace);
                }
            }
            let mut pointers = Vec::new();
            for host in &pod.hosts {
                for (name, of) in self.names(pod, host) {
                    // Names without their namespace are several pods'.
                    if of == Named::InNamespace {
                        pointers.extend(name.clone());
                    }
                    let apex = if of == Named::Alone { Apex::Root } else { Apex::Domain };
                    self.address(name, namespace, address, apex);
                }
            }
            if let Some(namespace) = &pod.namespace {
                let label = address.to_string().replace(['.', ':'], "-");
                let name = Name::below(&[&label, namespace.as_str(), "pod"], &self.domain);
                self.address(name, None, address, Apex::Domain);
            }
            let known = self.zone.pointers.entry(address).or_default();
            pointers.retain(|name| !known.contains(name));
            known.reserve_exact(pointers.len());
            known.append(&mut pointers);
            // Who has no name has no pointer.
            if known.is_empty() {
                self.zone.pointers.remove(&address);
            }
        }
    }

    /// Every name under which one of the pod's hosts is found.
    fn names(&self, pod: &Pod, host: &Label) -> Vec<(Option<Name>, Named)> {
        let domain = &self.domain;
        let host = host.as_str();
        let mut names = Vec::new();
        if let Some(namespace) = pod.namespace.as_ref().map(Label::as_str) {
            names.push((Name::below(&[host, namespace, "svc"], domain), Named::InNamespace));
            // The canonical host's alone: it is its subdomain.
            let is_canonical = pod.hosts.first().is_some_and(|first| first.as_str() == host);
            if let Some(subdomain) = pod.subdomain.as_ref().filter(|_| is_canonical) {
                let labels = [host, subdomain.as_str(), namespace, "svc"];
                names.push((Name::below(&labels, domain), Named::InNamespace));
            }
            names.push((Name::below(&[host, namespace, "pod"], domain), Named::InNamespace));
        }
        names.push((Name::below(&[host, "svc"], domain), Named::InDomain));
        // What is below them is not a host's.
        if !RESERVED.contains(&host) {
            let apexes = self.zone.apexes.iter();
            names.extend(apexes.map(|apex| (Name::below(&[host], apex), Named::InDomain)));
        }
        names.push((Name::below(&[host], &Name::root()), Named::Alone));
        names
    }

    /// Under the names of a pod. The addresses are the node's: they belong to no namespace, and nothing points back from them.
    fn host_pod(&mut self, pod: &HostPod) {
        let namespace = Some(self.number(&pod.namespace));
        let named = Pod { namespace: Some(pod.namespace.clone()), ..Pod::default() };
        for (name, of) in self.names(&named, &pod.name) {
            let apex = if of == Named::Alone { Apex::Root } else { Apex::Domain };
            for address in self.reached.all() {
                self.address(name.clone(), namespace, address, apex);
            }
        }
    }

    /// An entry of one label is found where a pod without a namespace would be; any other as it is written.
    fn host(&mut self, host: &Host) {
        let address =
            if host.address.is_loopback() { self.reached.instead_of(host.address) } else { host.address };
        let mut parts = labels(host.name.as_wire());
        let (first, second) = (parts.next(), parts.next());
        let single = first.filter(|_| second.is_none()).and_then(|label| std::str::from_utf8(label).ok());
        let Some(label) = single.and_then(Label::parse) else {
            let is_ours = self.zone.apexes.iter().any(|apex| host.name.is_below(apex));
            let apex = if is_ours { Apex::Domain } else { Apex::Itself };
            return self.address(Some(host.name.clone()), None, address, apex);
        };
        for (name, of) in self.names(&Pod::default(), &label) {
            let apex = if of == Named::Alone { Apex::Root } else { Apex::Domain };
            self.address(name, None, address, apex);
        }
    }

    /// RFC 6761 section 6.3: never asked of anybody, and nobody's to take.
    fn localhost(&mut self) {
        let Some(name) = Name::parse("localhost") else { return };
        self.zone.names.remove(&name);
        for address in [IpAddr::from([127, 0, 0, 1]), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)] {
            self.address(Some(name.clone()), None, address, Apex::Root);
        }
    }

    fn number(&mut self, namespace: &Label) -> u32 {
        let next = u32::try_from(self.namespaces.len()).unwrap_or(u32::MAX);
        *self.namespaces.entry(namespace.clone()).or_insert(next)
    }

    /// A name too long for the wire is a name that nobody can ask for.
    fn address(&mut self, name: Option<Name>, namespace: Option<u32>, address: IpAddr, apex: Apex) {
        let Some(name) = name else { return };
        let node = self.node(name, apex);
        let at = node.groups.iter().position(|group| group.namespace == namespace);
        let at = at.unwrap_or_else(|| {
            // Nearly every name has one: room for four would be a third of what a name takes.
            node.groups.reserve_exact(1);
            node.groups.push(Group { namespace, ..Group::default() });
            node.groups.len() - 1
        });
        let Some(group) = node.groups.get_mut(at) else { return };
        match address {
            IpAddr::V4(address) if !group.v4.contains(&address) => group.v4.push(address),
            IpAddr::V6(address) if !group.v6.contains(&address) => group.v6.push(address),
            _ => {}
        }
    }

    /// With everything between it and its zone.
    fn node(&mut self, name: Name, apex: Apex) -> &mut Node {
        if apex == Apex::Domain {
            let apexes = &self.zone.apexes;
            let is_inside = |parent: &Name| apexes.iter().any(|apex| parent.is_below(apex));
            let inside: Vec<Name> = name.parents().take_while(is_inside).collect();
            for parent in inside {
                self.zone.names.entry(parent).or_default();
            }
        }
        let node = self.zone.names.entry(name).or_default();
        node.apex = apex;
        node
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    InNamespace,
    InDomain,
    Alone,
}
