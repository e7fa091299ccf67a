//! The layouts as types: a field stands where its key stands in the output. Empty strings, empty lists, zeros
//! and unset values are left out, except where a field says otherwise.
//!
//! Pure.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Serialize, Serializer};

use crate::cni::error::{Error, Result};
use crate::cni::json::text;
use crate::cni::result::{AddResult, Dns, Interface, IpConfig};
use crate::cni::version::SpecVersion;
use crate::net::{self, Family};

/// Anything that has a text form, as a JSON string.
struct Text<T>(T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

fn nonzero(number: Option<u32>) -> Option<u32> {
    number.filter(|number| *number != 0)
}

fn filled(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

// 1.0.0 and 1.1.0: all keys in alphabetical order.

#[derive(Serialize)]
struct SortedResult<'a> {
    #[serde(rename = "cniVersion")]
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<SortedDns<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<SortedInterface<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<SortedIp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<SortedRoute>,
}

#[derive(Serialize)]
struct SortedDns<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    domain: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    nameservers: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    options: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    search: &'a [String],
}

#[derive(Serialize)]
struct SortedInterface<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    name: &'a str,
    #[serde(rename = "pciID", skip_serializing_if = "Option::is_none")]
    pci_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<&'a str>,
    #[serde(rename = "socketPath", skip_serializing_if = "Option::is_none")]
    socket_path: Option<&'a str>,
}

#[derive(Serialize)]
struct SortedIp {
    address: Text<IpNetwork>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<i64>,
}

#[derive(Serialize)]
struct SortedRoute {
    #[serde(skip_serializing_if = "Option::is_none")]
    advmss: Option<u32>,
    dst: Text<IpNetwork>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gw: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<u32>,
}

pub(super) fn sorted(result: &AddResult, version: SpecVersion) -> String {
    let dns = &result.dns;
    text::indented(&SortedResult {
        version: version.as_str(),
        dns: (!dns.is_empty()).then_some(SortedDns {
            domain: &dns.domain,
            nameservers: &dns.nameservers,
            options: &dns.options,
            search: &dns.search,
        }),
        interfaces: result.interfaces.iter().map(SortedInterface::from).collect(),
        ips: result.ips.iter().map(SortedIp::from).collect(),
        routes: result.routes.iter().map(SortedRoute::from).collect(),
    })
}

impl<'a> From<&'a Interface> for SortedInterface<'a> {
    fn from(interface: &'a Interface) -> Self {
        Self {
            mac: filled(interface.mac.as_ref()),
            mtu: nonzero(interface.mtu),
            name: &interface.name,
            pci_id: filled(interface.pci_id.as_ref()),
            sandbox: filled(interface.sandbox.as_ref()),
            socket_path: filled(interface.socket_path.as_ref()),
        }
    }
}

impl From<&IpConfig> for SortedIp {
    fn from(ip: &IpConfig) -> Self {
        Self { address: Text(ip.address), gateway: ip.gateway, interface: ip.interface }
    }
}

impl From<&net::Route> for SortedRoute {
    fn from(route: &net::Route) -> Self {
        Self {
            advmss: nonzero(route.advmss),
            dst: Text(route.dst),
            gw: route.gw,
            mtu: nonzero(route.mtu),
            priority: nonzero(route.priority),
            scope: route.scope,
            table: route.table,
        }
    }
}

// 0.3.0, 0.3.1 and 0.4.0.

#[derive(Serialize)]
struct ListsResult<'a> {
    #[serde(rename = "cniVersion")]
    version: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<ListsInterface<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ips: Vec<ListsIp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<ListsRoute>,
    /// `{}` when empty.
    dns: OldDns<'a>,
}

#[derive(Serialize)]
struct OldDns<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    nameservers: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    domain: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    search: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    options: &'a [String],
}

#[derive(Serialize)]
struct ListsInterface<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<&'a str>,
}

#[derive(Serialize)]
struct ListsIp {
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<i64>,
    address: Text<IpNetwork>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
}

/// All attributes, although the specification defines them only since 1.1.0: the reference plugins print
/// them.
#[derive(Serialize)]
struct ListsRoute {
    dst: Text<IpNetwork>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gw: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    advmss: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<u8>,
}

pub(super) fn lists(result: &AddResult, version: SpecVersion) -> String {
    text::indented(&ListsResult {
        version: version.as_str(),
        interfaces: result.interfaces.iter().map(ListsInterface::from).collect(),
        ips: result.ips.iter().map(ListsIp::from).collect(),
        routes: result.routes.iter().map(ListsRoute::from).collect(),
        dns: (&result.dns).into(),
    })
}

impl<'a> From<&'a Dns> for OldDns<'a> {
    fn from(dns: &'a Dns) -> Self {
        Self {
            nameservers: &dns.nameservers,
            domain: &dns.domain,
            search: &dns.search,
            options: &dns.options,
        }
    }
}

impl<'a> From<&'a Interface> for ListsInterface<'a> {
    fn from(interface: &'a Interface) -> Self {
        let Interface { name, mac, sandbox, .. } = interface;
        Self { name, mac: filled(mac.as_ref()), sandbox: filled(sandbox.as_ref()) }
    }
}

impl From<&IpConfig> for ListsIp {
    fn from(ip: &IpConfig) -> Self {
        let version = if ip.address.is_ipv4() { "4" } else { "6" };
        Self { version, interface: ip.interface, address: Text(ip.address), gateway: ip.gateway }
    }
}

impl From<&net::Route> for ListsRoute {
    fn from(route: &net::Route) -> Self {
        Self {
            dst: Text(route.dst),
            gw: route.gw,
            mtu: nonzero(route.mtu),
            advmss: nonzero(route.advmss),
            priority: nonzero(route.priority),
            table: route.table,
            scope: route.scope,
        }
    }
}

// 0.1.0 and 0.2.0.

#[derive(Serialize)]
struct Ip4Ip6Result<'a> {
    #[serde(rename = "cniVersion")]
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip4: Option<FamilyIp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip6: Option<FamilyIp>,
    /// `{}` when empty.
    dns: OldDns<'a>,
}

#[derive(Serialize)]
struct FamilyIp {
    ip: Text<IpNetwork>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<FamilyRoute>,
}

#[derive(Serialize)]
struct FamilyRoute {
    dst: Text<IpNetwork>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gw: Option<IpAddr>,
}

pub(super) fn ip4_ip6(result: &AddResult, version: SpecVersion) -> Result<String> {
    let of_family = |family| {
        let is_of = |cidr: &IpNetwork| Family::of(cidr.ip()) == family;
        let ip = result.ips.iter().find(|ip| is_of(&ip.address))?;
        let routes = result.routes.iter().filter(|route| is_of(&route.dst));
        let routes = routes.map(|route| FamilyRoute { dst: Text(route.dst), gw: route.gw }).collect();
        Some(FamilyIp { ip: Text(ip.address), gateway: ip.gateway, routes })
    };
    let (ip4, ip6) = (of_family(Family::V4), of_family(Family::V6));
    if ip4.is_none() && ip6.is_none() {
        return Err(Error::internal("cannot convert: no valid IP addresses"));
    }
    Ok(text::indented(&Ip4Ip6Result { version: version.as_str(), ip4, ip6, dns: (&result.dns).into() }))
}
