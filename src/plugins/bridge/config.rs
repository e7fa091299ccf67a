//! The bridge plugin's configuration as a value that cannot be wrong.
//!
//! Owns every key of the plugin, its default and what a wrong value gets. Removal reads the same keys but forgives all of
//! them: a configuration that became invalid must not keep a pod's remains on the node.
//!
//! Pure.

use std::net::Ipv4Addr;

use ipnetwork::IpNetwork;

use crate::cni::args::Args;
use crate::cni::config::NetConf;
use crate::cni::error::{Context, Error, Result};
use crate::cni::json::{Json, Object};
use crate::cni::result::Dns;
use crate::conflist::ANNOTATIONS;
use crate::net::{IfName, Label, Mac, VlanId, is_nobodys};
use crate::plugins::next_move::ARGUMENTS;
use crate::spec::Firewall;

const DEFAULT_BRIDGE: &str = "cni0";
/// The annotation of a pod that says what else it is called, with commas between.
const NAMES: &str = "smarter-cni/dns-names";
/// A record is read by every look at the node: it keeps what a person would write.
const MOST_NAMES: usize = 16;
const LONGEST_NAMES: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the plugin's configuration")]
pub struct Config {
    pub bridge: IfName,
    /// Put the subnets' gateway addresses on the node and forward for them.
    pub is_gateway: bool,
    /// Give the pod a default route per family. Implies `is_gateway`.
    pub is_default_gateway: bool,
    pub force_address: bool,
    /// Where the node's name server is asked on the bridge, beside the gateways.
    pub node_dns: Option<Ipv4Addr>,
    /// What pods ask of other name servers comes there, too.
    pub dns_intercept: bool,
    pub ip_masq: bool,
    /// The configuration asked for iptables, which nftables serves.
    pub asked_for_iptables: bool,
    /// Bytes; `None` leaves the kernel's default.
    pub mtu: Option<u32>,
    pub hairpin: bool,
    pub promiscuous: bool,
    pub vlan: Option<VlanId>,
    /// The key `vlanTrunk`: ascending, without duplicates. An empty list still makes a new bridge filter VLANs.
    pub trunk: Option<Vec<VlanId>>,
    pub preserve_default_vlan: bool,
    pub spoof_check: bool,
    /// The keys `forwardAccept` and `mssClamp`, on unless switched off, and `forwardOthers`, off unless switched on.
    pub firewall: Firewall,
    /// `"mtu": "auto"`: that of the default route's uplink when the pod comes.
    pub mtu_auto: bool,
    pub detect_duplicates: bool,
    pub disable_container_interface: bool,
    pub port_isolation: bool,
    /// No new pods: the network is being taken from the node.
    pub drain: bool,
    /// CHECK fails also for what all pods of the node lost.
    pub strict_check: bool,
    /// `ipam.type`; `None` is layer 2.
    pub ipam: Option<String>,
    /// Replaces what IPAM says.
    pub dns: Option<Dns>,
    /// `runtimeConfig.mac` before `args.cni.mac` before `MAC` of CNI_ARGS.
    pub mac: Option<Mac>,
    /// `namespace/name`, where the runtime told us.
    pub pod_name: Option<String>,
    /// The pod's annotation `smarter-cni/dns-names`, as far as hosts may be called so.
    pub names: Vec<Label>,
}

impl Config {
    /// For ADD and CHECK. Every wrong value is refused here, before anything is touched.
    pub fn parse(document: &Object, args: &str) -> Result<Self> {
        let args = Args::parse(args, &["MAC"]).hint(ARGUMENTS)?;
        let common = NetConf::decode(document).context("failed to load netconf")?;
        let keys = Keys::decode(document).context("failed to load netconf")?;
        let mac = keys.mac.or(args.mac.clone()).filter(|text| !text.is_empty());
        let mac = mac.map(|text| text.parse::<Mac>()).transpose();
        // On layer 2 there is no address to stand in for.
        let masquerades = keys.ip_masq && common.ipam_type.is_some();
        let config = Self {
            bridge: bridge_name(keys.bridge)?,
            is_gateway: keys.is_gateway || keys.is_default_gateway,
            is_default_gateway: keys.is_default_gateway,
            force_address: keys.force_address,
            node_dns: keys.node_dns.as_deref().map(node_dns).transpose()?,
            dns_intercept: keys.dns_intercept,
            ip_masq: keys.ip_masq,
            asked_for_iptables: masquerades && asked_for_iptables(keys.ip_masq_backend.as_deref())?,
            mtu: u32::try_from(keys.mtu).ok().filter(|mtu| *mtu > 0),
            hairpin: keys.hairpin,
            promiscuous: keys.promiscuous,
            vlan: access_vlan(keys.vlan)?,
            trunk: keys.trunk.map(|elements| trunk(&elements)).transpose()?,
            preserve_default_vlan: keys.preserve_default_vlan,
            spoof_check: keys.spoof_check,
            firewall: keys.firewall,
            mtu_auto: keys.mtu_auto,
            detect_duplicates: keys.detect_duplicates,
            disable_container_interface: keys.disable_container_interface,
            port_isolation: keys.port_isolation,
            drain: keys.drain,
            strict_check: keys.strict_check,
            ipam: common.ipam_type.filter(|name| !name.is_empty()),
            dns: common.dns,
            mac: mac.map_err(|error| Error::internal(format!("failed to make veth pair: {error}")))?,
            pod_name: pod_name(args.pod().namespace.as_deref(), args.pod().name.as_deref()),
            names: names(document),
        };
        if config.disable_container_interface && config.ipam.is_some() {
            return Err(Error::internal("cannot use IPAM when DisableContainerInterface flag is set"));
        }
        Ok(config)
    }

    /// Hairpin mode needs the bridge to send a frame back where it came from; a promiscuous bridge would deliver it twice.
    pub fn refuse_contradictions(&self) -> Result<()> {
        if self.hairpin && self.promiscuous {
            return Err(Error::internal("cannot set hairpin mode and promiscuous mode at the same time"));
        }
        Ok(())
    }

    /// Whether a bridge that we create filters VLANs.
    pub fn vlan_filtering(&self) -> bool {
        self.vlan.is_some() || self.trunk.is_some()
    }
}

/// What removal needs to know, from whatever can still be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovalConfig {
    pub bridge: Option<IfName>,
    pub ipam: Option<String>,
    pub spoof_check: bool,
    pub drain: bool,
}

impl RemovalConfig {
    pub fn read(document: &Object) -> Self {
        let ipam = document.object("ipam").ok().flatten();
        Self {
            bridge: bridge_name(document.string("bridge").ok().flatten()).ok(),
            ipam: ipam.and_then(|ipam| ipam.string("type").ok().flatten()).filter(|name| !name.is_empty()),
            spoof_check: document.boolean("macspoofchk").ok().flatten().unwrap_or(false),
            drain: document.boolean("drain").ok().flatten().unwrap_or(false),
        }
    }
}

/// The keys with their JSON types, and nothing decided yet.
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the plugin's configuration")]
struct Keys {
    bridge: Option<String>,
    is_gateway: bool,
    is_default_gateway: bool,
    force_address: bool,
    node_dns: Option<String>,
    dns_intercept: bool,
    ip_masq: bool,
    ip_masq_backend: Option<String>,
    mtu: i64,
    mtu_auto: bool,
    hairpin: bool,
    promiscuous: bool,
    vlan: i64,
    trunk: Option<Vec<TrunkElement>>,
    preserve_default_vlan: bool,
    spoof_check: bool,
    firewall: Firewall,
    detect_duplicates: bool,
    disable_container_interface: bool,
    port_isolation: bool,
    drain: bool,
    strict_check: bool,
    mac: Option<String>,
}

struct TrunkElement {
    min: Option<i64>,
    max: Option<i64>,
    id: Option<i64>,
}

impl Keys {
    fn decode(document: &Object) -> Result<Self> {
        let boolean = |key| Ok::<_, Error>(document.boolean(key)?.unwrap_or(false));
        let runtime = mac_of(document.object("runtimeConfig")?)?;
        let args = document.object("args")?.map(|args| args.object("cni")).transpose()?.flatten();
        let args = mac_of(args)?;
        let (mtu, mtu_auto) = mtu(document)?;
        Ok(Self {
            bridge: document.string("bridge")?,
            is_gateway: boolean("isGateway")?,
            is_default_gateway: boolean("isDefaultGateway")?,
            force_address: boolean("forceAddress")?,
            node_dns: document.string("nodeDns")?.filter(|text| !text.is_empty()),
            dns_intercept: boolean("nodeDnsIntercept")?,
            ip_masq: boolean("ipMasq")?,
            ip_masq_backend: document.string("ipMasqBackend")?,
            mtu,
            mtu_auto,
            hairpin: boolean("hairpinMode")?,
            promiscuous: boolean("promiscMode")?,
            vlan: document.integer("vlan")?.unwrap_or(0),
            trunk: document.objects("vlanTrunk")?.map(trunk_elements).transpose()?,
            preserve_default_vlan: boolean("preserveDefaultVlan")?,
            spoof_check: boolean("macspoofchk")?,
            firewall: firewall(document)?,
            detect_duplicates: boolean("enabledad")?,
            disable_container_interface: boolean("disableContainerInterface")?,
            port_isolation: boolean("portIsolation")?,
            drain: boolean("drain")?,
            strict_check: boolean("strictCheck")?,
            mac: runtime.or(args),
        })
    }
}

fn firewall(document: &Object) -> Result<Firewall> {
    let switch = |key, default| Ok::<_, Error>(document.boolean(key)?.unwrap_or(default));
    Ok(Firewall {
        accept: switch("forwardAccept", true)?,
        guard: !switch("forwardOthers", false)?,
        clamp_mss: switch("mssClamp", true)?,
    })
}

/// What is no name is left out: whoever writes an annotation must not keep a pod from starting by a slip of the pen.
fn names(document: &Object) -> Vec<Label> {
    let runtime = document.object("runtimeConfig").ok().flatten();
    let annotations = runtime.and_then(|runtime| runtime.object(ANNOTATIONS).ok().flatten());
    let text = annotations.and_then(|annotations| annotations.text(NAMES).ok().flatten());
    let text = text.filter(|text| text.len() <= LONGEST_NAMES).unwrap_or_default();
    let mut names = Vec::new();
    for name in text.split(',').filter_map(|word| Label::parse(word.trim())) {
        if !names.contains(&name) && names.len() < MOST_NAMES {
            names.push(name);
        }
    }
    names
}

/// Bytes, or the one word that is allowed instead.
fn mtu(document: &Object) -> Result<(i64, bool)> {
    match document.get("mtu") {
        Some(Json::String(word)) if word == "auto" => Ok((0, true)),
        Some(Json::String(word)) => Err(Error::internal(format!("mtu: {word:?} is not known"))
            .with_details("mtu is a number of bytes, or \"auto\" for that of the default route's uplink")),
        _ => Ok((document.integer("mtu")?.unwrap_or(0), false)),
    }
}

fn mac_of(object: Option<&Object>) -> Result<Option<String>> {
    Ok(object.map(|object| object.string("mac")).transpose()?.flatten().filter(|mac| !mac.is_empty()))
}

fn trunk_elements(elements: Vec<&Object>) -> Result<Vec<TrunkElement>> {
    let decode = |element: &Object| {
        Ok(TrunkElement {
            min: element.integer("minID")?,
            max: element.integer("maxID")?,
            id: element.integer("id")?,
        })
    };
    elements.into_iter().map(decode).collect()
}

fn bridge_name(text: Option<String>) -> Result<IfName> {
    let text = text.unwrap_or_else(|| DEFAULT_BRIDGE.to_owned());
    text.parse().map_err(|error| {
        let found =
            if text.is_empty() { "LinkAttrs.Name cannot be empty".to_owned() } else { format!("{error}") };
        Error::internal(format!("failed to create bridge {text:?}: could not add {text:?}: {found}"))
            .with_details("the key bridge takes 1 to 15 bytes without /, :, % and white space")
    })
}

/// Only where it is one word for the mark on the link.
pub(super) fn pod_name(namespace: Option<&str>, name: Option<&str>) -> Option<String> {
    let name = format!("{}/{}", namespace?, name?);
    (!name.contains(' ')).then_some(name)
}

/// Both are served by nftables; anything else is a misspelling.
fn asked_for_iptables(backend: Option<&str>) -> Result<bool> {
    match backend {
        None | Some("nftables") => Ok(false),
        Some("iptables") => Ok(true),
        Some(other) => Err(Error::internal(format!("unknown ipmasq backend {other:?}"))
            .with_details("ipMasqBackend is nftables or iptables; leave it out to take the default")),
    }
}

/// An address of the node alone: what others could have, or what means several, is none.
fn node_dns(text: &str) -> Result<Ipv4Addr> {
    let usable = |address: &Ipv4Addr| !is_nobodys(*address);
    text.parse().ok().filter(usable).ok_or_else(|| {
        Error::internal(format!("invalid nodeDns {text:?}"))
            .with_details("nodeDns is an IPv4 address that belongs to nobody else, such as 169.254.0.2")
    })
}

fn access_vlan(vlan: i64) -> Result<Option<VlanId>> {
    let wrong = || Error::internal(format!("invalid VLAN ID {vlan} (must be between 0 and 4094)"));
    if vlan == 0 {
        return Ok(None);
    }
    u16::try_from(vlan).ok().and_then(VlanId::new).map(Some).ok_or_else(wrong)
}

fn trunk(elements: &[TrunkElement]) -> Result<Vec<VlanId>> {
    let vlan = |id: i64, what: &str| {
        let id = u16::try_from(id).ok().and_then(VlanId::new);
        id.ok_or_else(|| Error::internal(format!("incorrect trunk {what} parameter")))
    };
    let mut vlans = Vec::new();
    for element in elements {
        let min = element.min.map(|id| vlan(id, "minID")).transpose()?;
        let max = element.max.map(|id| vlan(id, "maxID")).transpose()?;
        match (min, max) {
            (Some(min), Some(max)) if min > max => {
                return Err(Error::internal("minID is greater than maxID in trunk parameter"));
            }
            (Some(min), Some(max)) => vlans.extend((min.id()..=max.id()).filter_map(VlanId::new)),
            (None, Some(_)) => {
                return Err(Error::internal(
                    "minID and maxID should be configured simultaneously, minID is missing",
                ));
            }
            (Some(_), None) => {
                return Err(Error::internal(
                    "minID and maxID should be configured simultaneously, maxID is missing",
                ));
            }
            (None, None) => {}
        }
        vlans.extend(element.id.map(|id| vlan(id, "id")).transpose()?);
    }
    vlans.sort_unstable();
    vlans.dedup();
    Ok(vlans)
}

/// The address right behind the network's own: `10.1.2.0/24` gives `10.1.2.1`.
pub fn first_address(network: IpNetwork) -> std::net::IpAddr {
    match network {
        IpNetwork::V4(v4) => Ipv4Addr::from(u32::from(v4.network()).wrapping_add(1)).into(),
        IpNetwork::V6(v6) => std::net::Ipv6Addr::from(u128::from(v6.network()).wrapping_add(1)).into(),
    }
}

#[cfg(test)]
mod tests;
