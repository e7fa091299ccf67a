//! The portmap plugin's configuration as a value that cannot be wrong.
//!
//! Owns every key of the plugin, its default and what a wrong value gets, in the order and the words of the plugin we
//! replace. What iptables could and our tables cannot is refused with what to write instead, never ignored.
//!
//! Pure.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::cni::address::parse_ip;
use crate::cni::config::NetConf;
use crate::cni::error::{Context, Error, Result};
use crate::cni::json::Object;
use crate::cni::request::Request;
use crate::cni::result::AddResult;
use crate::cni::wire;
use crate::net::{Family, IfName};
use crate::spec::limits::{Condition, Pattern};
use crate::spec::{HostPorts, Limits, Owner, Protocol, conditions};

#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the plugin's configuration")]
pub struct Config {
    /// What the plugins before ours in the chain made.
    pub previous: Option<AddResult>,
    pub snat: bool,
    pub masq_all: bool,
    /// The configuration asked for iptables, which nftables serves.
    pub asked_for_iptables: bool,
    /// A process of the node that listens on a wanted port is an error.
    pub strict: bool,
    /// CHECK fails also for what all pods of the node lost.
    pub strict_check: bool,
    pub limits: Limits,
    /// As asked for, without duplicates.
    pub ports: Vec<Port>,
    /// Asked for behind another one of the same host port, which gets it.
    pub outdone: Vec<Port>,
    /// The pod's addresses with prefix: the first of each family.
    pub pods: Vec<IpNetwork>,
}

/// One element of `runtimeConfig.portMappings`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub protocol: Protocol,
    pub host_port: u16,
    pub container_port: u16,
    pub host_ip: HostIp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostIp {
    /// Not given: all addresses of both families.
    Any,
    /// `0.0.0.0` or `::`.
    AllOf(Family),
    One(IpAddr),
}

impl HostIp {
    /// Whether it means addresses of the family, and then which one; `None` within is all of them.
    pub fn in_family(self, family: Family) -> Option<Option<IpAddr>> {
        match self {
            Self::Any => Some(None),
            Self::AllOf(its) => (its == family).then_some(None),
            Self::One(ip) => (Family::of(ip) == family).then_some(Some(ip)),
        }
    }
}

impl Config {
    /// For ADD, CHECK and STATUS. Every wrong value is refused here, before anything is touched.
    pub fn parse(request: &Request) -> Result<Self> {
        let document = &request.config;
        let decoded = "failed to parse network configuration";
        let common = NetConf::decode(document).context(decoded)?;
        let keys = Keys::decode(document).context(decoded)?;
        let previous = common.prev_result.as_ref();
        let previous = previous.map(|previous| wire::parse_prev_result(previous, request.version));
        let previous = previous.transpose().context("could not parse prevResult")?;
        keys.refuse_contradictions()?;
        keys.refuse_wrong_backend()?;
        let ports = keys.ports.iter().map(RawPort::check).collect::<Result<Vec<_>>>()?;
        let (ports, outdone) = first_of_each(ports);
        // What only host ports can need is no reason to refuse a pod that has none.
        let limits = if ports.is_empty() { Limits::default() } else { keys.limits()? };
        let if_name = request.target.as_ref().map(|target| &target.if_name);
        let pods = previous.as_ref().map(|previous| pod_addresses(previous, if_name)).unwrap_or_default();
        Ok(Self {
            snat: keys.snat,
            masq_all: keys.masq_all,
            asked_for_iptables: keys.backend.as_deref() == Some("iptables"),
            strict: keys.strict,
            strict_check: keys.strict_check,
            limits,
            ports,
            outdone,
            pods,
            previous,
        })
    }
}

/// What a network says about host ports, before any pod asks for one.
pub fn rules(document: &Object) -> Result<HostPorts> {
    let keys = Keys::decode(document)?;
    keys.refuse_contradictions()?;
    keys.refuse_wrong_backend()?;
    Ok(HostPorts {
        owner: Owner { container: String::new(), pod: None },
        mappings: Vec::new(),
        pods: Vec::new(),
        snat: keys.snat,
        masq_all: keys.masq_all,
        limits: keys.limits()?,
    })
}

/// The ports of a request whose other words may be wrong: removal takes what it can read.
pub fn ports_leniently(document: &Object) -> Vec<Port> {
    let ports = Keys::ports(document).unwrap_or_default();
    ports.iter().filter_map(|port| port.check().ok()).collect()
}

/// The keys with their JSON types, and nothing decided yet.
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the plugin's configuration")]
struct Keys {
    backend: Option<String>,
    snat: bool,
    masq_all: bool,
    mark_bit: Option<i64>,
    mark_chain: Option<String>,
    v4: Option<Vec<String>>,
    v6: Option<Vec<String>>,
    strict: bool,
    strict_check: bool,
    allowed: Vec<String>,
    denied: Vec<String>,
    ports: Vec<RawPort>,
}

struct RawPort {
    host: i64,
    container: i64,
    protocol: String,
    host_ip: String,
}

impl Keys {
    fn decode(document: &Object) -> Result<Self> {
        Ok(Self {
            snat: document.boolean("snat")?.unwrap_or(true),
            masq_all: document.boolean("masqAll")?.unwrap_or(false),
            mark_bit: document.integer("markMasqBit")?,
            mark_chain: document.string("externalSetMarkChain")?,
            backend: document.string("backend")?,
            v4: document.strings("conditionsV4")?,
            v6: document.strings("conditionsV6")?,
            strict: document.boolean("strictHostPorts")?.unwrap_or(false),
            strict_check: document.boolean("strictCheck")?.unwrap_or(false),
            allowed: document.strings("hostPortInterfaces")?.unwrap_or_default(),
            denied: document.strings("denyHostPortInterfaces")?.unwrap_or_default(),
            ports: Self::ports(document)?,
        })
    }

    fn ports(document: &Object) -> Result<Vec<RawPort>> {
        let Some(runtime) = document.object("runtimeConfig")? else { return Ok(Vec::new()) };
        let decode = |port: &Object| {
            Ok(RawPort {
                host: port.integer("hostPort")?.unwrap_or(0),
                container: port.integer("containerPort")?.unwrap_or(0),
                protocol: port.string("protocol")?.unwrap_or_default(),
                host_ip: port.string("hostIP")?.unwrap_or_default(),
            })
        };
        runtime.objects("portMappings")?.unwrap_or_default().into_iter().map(decode).collect()
    }

    /// Nothing of ours is marked, so the bit is only looked at.
    fn refuse_contradictions(&self) -> Result<()> {
        if self.mark_chain.is_some() && self.mark_bit.is_some() {
            return Err(Error::internal("Cannot specify externalSetMarkChain and markMasqBit"));
        }
        if self.mark_bit.is_some_and(|bit| !(0..=31).contains(&bit)) {
            return Err(Error::internal("MasqMarkBit must be between 0 and 31"));
        }
        Ok(())
    }

    fn refuse_wrong_backend(&self) -> Result<()> {
        let lists = [("conditionsV4", self.v4.as_deref()), ("conditionsV6", self.v6.as_deref())];
        let of = |iptables: bool| {
            let wrong = lists.iter().filter(|(_, list)| conditions::is_iptables(*list) == Some(iptables));
            wrong.map(|(key, _)| *key).collect::<Vec<_>>()
        };
        let (mut for_iptables, for_nftables) = (of(true), of(false));
        if self.mark_chain.is_some() {
            for_iptables.insert(0, "externalSetMarkChain");
        }
        let contradiction = |asked: &str, other: &str, keys: &[&str]| {
            Err(Error::internal(format!(
                "{asked} backend was requested but configuration contains {other}-specific options [{}]",
                keys.join(" ")
            )))
        };
        match self.backend.as_deref() {
            Some("iptables") if !for_nftables.is_empty() => {
                contradiction("iptables", "nftables", &for_nftables)
            }
            Some("nftables") if !for_iptables.is_empty() => {
                contradiction("nftables", "iptables", &for_iptables)
            }
            None | Some("" | "iptables" | "nftables") => Ok(()),
            Some(other) => Err(Error::internal(format!("unrecognized backend {other:?}"))
                .with_details("backend is nftables or iptables; our nftables serve both")),
        }
    }

    /// Who may use the ports, and how: everything that iptables could and our tables cannot.
    fn limits(&self) -> Result<Limits> {
        if let Some(chain) = &self.mark_chain {
            return Err(Error::internal(format!(
                "externalSetMarkChain {chain} cannot be served by nftables"
            ))
            .with_details(
                "leave it out: with \"snat\": true our tables masquerade what needs it without a mark",
            ));
        }
        Ok(Limits {
            allowed: patterns("hostPortInterfaces", &self.allowed)?,
            denied: patterns("denyHostPortInterfaces", &self.denied)?,
            v4: conditions_of("conditionsV4", Family::V4, self.v4.as_deref())?,
            v6: conditions_of("conditionsV6", Family::V6, self.v6.as_deref())?,
        })
    }
}

impl RawPort {
    fn check(&self) -> Result<Port> {
        let port = |number: i64, whose: &str| {
            let port = u16::try_from(number).ok().filter(|port| *port > 0);
            port.ok_or_else(|| {
                Error::internal(format!("Invalid {whose} port number: {number}"))
                    .with_details("ports are 1 to 65535")
            })
        };
        let container_port = port(self.container, "container")?;
        let host_port = port(self.host, "host")?;
        let protocol = if self.protocol.is_empty() { "tcp" } else { &self.protocol };
        let protocol = Protocol::from_name(protocol).ok_or_else(|| {
            Error::internal(format!("invalid protocol {protocol:?} of hostPort {host_port}"))
                .with_details("protocols with ports are tcp, udp and sctp")
        })?;
        Ok(Port { protocol, host_port, container_port, host_ip: self.host_ip(host_port)? })
    }

    fn host_ip(&self, host_port: u16) -> Result<HostIp> {
        if self.host_ip.is_empty() {
            return Ok(HostIp::Any);
        }
        let ip = parse_ip(&self.host_ip).ok_or_else(|| {
            Error::internal(format!("invalid hostIP {:?} of hostPort {host_port}", self.host_ip))
                .with_details("hostIP is an address of the node, or empty for all of them")
        })?;
        Ok(if ip.is_unspecified() { HostIp::AllOf(Family::of(ip)) } else { HostIp::One(ip) })
    }
}

/// The same twice is once; of two targets of one port the first gets it, as with the plugin we replace, and the others are
/// named apart.
fn first_of_each(ports: Vec<Port>) -> (Vec<Port>, Vec<Port>) {
    let (mut kept, mut outdone): (Vec<Port>, Vec<Port>) = (Vec::new(), Vec::new());
    for port in ports {
        let same = |other: &&Port| {
            (other.protocol, other.host_port, other.host_ip) == (port.protocol, port.host_port, port.host_ip)
        };
        match kept.iter().find(same) {
            None => kept.push(port),
            Some(other) if *other == port => {}
            Some(_) => outdone.push(port),
        }
    }
    (kept, outdone)
}

fn patterns(key: &str, texts: &[String]) -> Result<Vec<Pattern>> {
    let parse = |text: &String| {
        Pattern::parse(text, '*').ok_or_else(|| {
            Error::internal(format!("{key}: {text:?} is no pattern of interface names"))
                .with_details("an interface's name, or its beginning and a `*` as in wwan*")
        })
    };
    texts.iter().map(parse).collect()
}

fn conditions_of(key: &str, family: Family, words: Option<&[String]>) -> Result<Vec<Condition>> {
    conditions::parse(family, words.unwrap_or_default()).map_err(|wrong| {
        Error::internal(format!("{key}: {wrong}")).with_details(
            "our tables know addresses and incoming interfaces: -s, -d, -i (with !) or `ip saddr`, `ip daddr`, `iifname` \
             (with !=); for interfaces use hostPortInterfaces and denyHostPortInterfaces",
        )
    })
}

/// The first address of each family that is the pod's: of no interface, of one that the result does not list, or of the one
/// that this attachment is about.
fn pod_addresses(previous: &AddResult, if_name: Option<&IfName>) -> Vec<IpNetwork> {
    let is_pods = |index: Option<i64>| {
        let interface = index.and_then(|index| previous.interfaces.get(usize::try_from(index).ok()?));
        interface.is_none_or(|interface| {
            let inside = interface.sandbox.as_deref().is_some_and(|sandbox| !sandbox.is_empty());
            inside && if_name.is_none_or(|name| interface.name == name.as_str())
        })
    };
    let first = |family: Family| {
        let mut ips = previous.ips.iter().filter(|ip| is_pods(ip.interface)).map(|ip| ip.address);
        ips.find(|address| Family::of(address.ip()) == family)
    };
    Family::BOTH.into_iter().filter_map(first).collect()
}

#[cfg(test)]
mod tests;
