//! What a network configuration asks of us. Pure; the order of the checks and their texts are the Go plugin's.
//!
//! Removal asks for much less than adding, so a configuration that became wrong since can still be taken down.
//!
//! Pure.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;

use super::range::{RangeSet, RangeText};
use crate::cni::address::parse_requested_ip;
use crate::cni::args::Args;
use crate::cni::json::mismatch;
use crate::cni::{Code, Context, Error, Json, Object, Request, Result, SpecVersion, wire};
use crate::net::{Family, Route};
use crate::plugins::next_move::ARGUMENTS;
use crate::state::lease::DATA_DIR;

/// A configuration that an ADD can work with.
#[derive(Clone, Debug)]
pub struct Config {
    /// A pod gets one address of each. Not empty, without overlap.
    pub sets: Vec<RangeSet>,
    /// Addresses somebody asked for, in the order of CNI_ARGS, `args`, `runtimeConfig`; each once.
    pub requested: Vec<IpAddr>,
    pub routes: Vec<Route>,
    pub data_dir: PathBuf,
    pub resolv_conf: Option<PathBuf>,
}

impl Config {
    pub fn decode(request: &Request) -> Result<Self> {
        let texts = Texts::decode(&request.config)?;
        let args = Args::parse(&request.args, &["IP"]).hint(ARGUMENTS)?;
        let requested = requested(args.ip, &texts)?;
        if texts.sets.is_empty() {
            return Err(Error::internal("no IP ranges specified"));
        }
        let sets = range_sets(&texts.sets, request)?;
        Ok(Self {
            sets,
            requested,
            routes: texts.routes,
            data_dir: texts.data_dir.unwrap_or_else(|| DATA_DIR.into()),
            resolv_conf: texts.resolv_conf,
        })
    }

    /// For STATUS, which no runtime tells of the ranges that it will send with an ADD: `None` when the configuration
    /// itself has none.
    pub fn decode_for_status(request: &Request) -> Result<Option<Self>> {
        if Texts::decode(&request.config)?.sets.is_empty() {
            Ok(None)
        } else {
            Self::decode(request).map(Some)
        }
    }
}

/// `ipam.dataDir`, and nothing else, whatever else may be wrong. `None` when it is not said.
pub(super) fn data_dir(config: &Object) -> Result<Option<PathBuf>> {
    let Ok(Some(ipam)) = config.object("ipam") else { return Ok(None) };
    path(ipam, "dataDir")
}

/// The fields as their types allow them, not yet looked at together.
struct Texts {
    sets: Vec<Vec<RangeText>>,
    /// `args.cni.ips` and `runtimeConfig.ips`.
    requested: Vec<String>,
    routes: Vec<Route>,
    data_dir: Option<PathBuf>,
    resolv_conf: Option<PathBuf>,
}

impl Texts {
    fn decode(config: &Object) -> Result<Self> {
        let runtime = config.object("runtimeConfig")?;
        let args = match config.object("args")? {
            Some(args) => args.object("cni")?,
            None => None,
        };
        let mut requested = Vec::new();
        for source in [args, runtime].into_iter().flatten() {
            requested
                .extend(source.strings("ips").map_err(|error| error.with_code(Code::InvalidNetworkConfig))?);
        }
        let mut sets = match runtime {
            Some(runtime) => range_texts(runtime, "ipRanges")?,
            None => Vec::new(),
        };
        let Some(ipam) = config.object("ipam")? else {
            return Err(Error::internal("IPAM config missing 'ipam' key"));
        };
        let old_style = range_text(ipam)?;
        if old_style.subnet.is_some() {
            sets.push(vec![old_style]);
        }
        sets.extend(range_texts(ipam, "ranges")?);
        let routes = ipam.objects("routes")?.unwrap_or_default();
        Ok(Self {
            sets,
            requested: requested.into_iter().flatten().collect(),
            routes: routes.into_iter().map(wire::route).collect::<Result<_>>()?,
            data_dir: path(ipam, "dataDir")?,
            resolv_conf: path(ipam, "resolvConf")?,
        })
    }
}

fn path(object: &Object, key: &str) -> Result<Option<PathBuf>> {
    Ok(object.text(key)?.filter(|text| !text.is_empty()).map(PathBuf::from))
}

/// An array of arrays of ranges. `null` for an inner array is an empty one.
fn range_texts(object: &Object, key: &str) -> Result<Vec<Vec<RangeText>>> {
    let mut sets = Vec::new();
    for (at, set) in object.array(key)?.unwrap_or_default().iter().enumerate() {
        let place = format!("{}[{at}]", object.place(key));
        let ranges = match set {
            Json::Null => Vec::new(),
            Json::Array(_) => set.objects(&place)?,
            other => return Err(mismatch(&place, "an array of ranges", other)),
        };
        sets.push(ranges.into_iter().map(range_text).collect::<Result<_>>()?);
    }
    Ok(sets)
}

fn range_text(object: &Object) -> Result<RangeText> {
    Ok(RangeText {
        subnet: subnet(object)?,
        start: object.address("rangeStart")?,
        end: object.address("rangeEnd")?,
        gateway: object.address("gateway")?,
    })
}

/// The kernel has no routes for IPv4 in the clothes of IPv6, and `::ffff:10.0.0.0/104` is a slip of somebody who meant one of
/// the two.
fn subnet(object: &Object) -> Result<Option<IpNetwork>> {
    let subnet = object.cidr("subnet")?;
    let is_written_as_v6 = object.text("subnet")?.is_some_and(|text| text.contains(':'));
    match subnet {
        Some(IpNetwork::V4(v4)) if is_written_as_v6 => Err(Error::internal(
            "IPNet IP and Mask version mismatch",
        )
        .with_details(format!("{} is an IPv4 network written as IPv6: write {v4}", object.place("subnet")))),
        subnet => Ok(subnet),
    }
}

fn requested(from_args: Option<IpAddr>, texts: &Texts) -> Result<Vec<IpAddr>> {
    let mut requested: Vec<IpAddr> = from_args.into_iter().collect();
    for text in &texts.requested {
        if text.is_empty() {
            return Err(Error::internal("cannot understand ip: IP <nil> not v4 nor v6"));
        }
        let address = parse_requested_ip(text)
            .ok_or_else(|| Error::internal(format_args!("invalid IP address {text}")))?;
        if !requested.contains(&address) {
            requested.push(address);
        }
    }
    Ok(requested)
}

fn range_sets(texts: &[Vec<RangeText>], request: &Request) -> Result<Vec<RangeSet>> {
    let mut sets: Vec<RangeSet> = Vec::with_capacity(texts.len());
    for (at, ranges) in texts.iter().enumerate() {
        let set = RangeSet::parse(ranges)
            .map_err(|why| Error::internal(format_args!("invalid range set {at}: {why}")))?;
        sets.push(set);
    }
    let several = |family| sets.iter().filter(|set| set.family() == family).count() > 1;
    if request.version < SpecVersion::V0_3_0 && Family::BOTH.into_iter().any(several) {
        let written = request.config.text("cniVersion")?.unwrap_or_default();
        return Err(Error::internal(format_args!(
            "CNI version {written} does not support more than 1 address per family"
        )));
    }
    for (at, one) in sets.iter().enumerate() {
        if let Some(ahead) = sets[at + 1..].iter().position(|other| one.overlaps(other)) {
            return Err(Error::internal(format_args!("range set {at} overlaps with {}", at + 1 + ahead)));
        }
    }
    Ok(sets)
}

#[cfg(test)]
pub(super) mod tests;
