//! Reading a result of any version into the newest shape. Unknown keys are passed over.
//!
//! Pure.

use super::Layout;
use crate::cni::config;
use crate::cni::error::{Context, Error, Result};
use crate::cni::json::{Json, Object};
use crate::cni::quote::quoted;
use crate::cni::result::{AddResult, Dns, Interface, IpConfig};
use crate::cni::version::SpecVersion;
use crate::net::{self, Route};

/// The output of a delegated plugin. When it does not say its version (no key, an empty or no string), it is
/// `assumed`, the configuration's.
pub fn parse_result(object: &Object, assumed: SpecVersion) -> Result<AddResult> {
    let version = match object.get("cniVersion") {
        Some(Json::String(text)) if !text.is_empty() => SpecVersion::from_text(text).ok_or_else(|| {
            Error::internal(format_args!("unsupported CNI result version {}", quoted(text)))
        })?,
        _ => assumed,
    };
    decode(object, Layout::of(version))
}

/// The `prevResult` of a configuration of version `config`, which must be of the same layout.
pub fn parse_prev_result(object: &Object, config: SpecVersion) -> Result<AddResult> {
    parse_as(object, Layout::of(config)).context("could not parse prevResult")
}

fn parse_as(object: &Object, layout: Layout) -> Result<AddResult> {
    let family: &[&str] = match layout {
        Layout::Ip4Ip6 => &["", "0.1.0", "0.2.0"],
        Layout::Lists => &["0.3.0", "0.3.1", "0.4.0"],
        Layout::Sorted => &["1.0.0", "1.1.0"],
    };
    match object.text("cniVersion")? {
        Some(version) if !family.contains(&version) => Err(Error::internal(format_args!(
            "result type supports [{}] but unmarshalled CNIVersion is {}",
            family.join(" "),
            quoted(version)
        ))),
        _ => decode(object, layout),
    }
}

fn decode(object: &Object, layout: Layout) -> Result<AddResult> {
    let dns = object.object("dns")?.map_or_else(|| Ok(Dns::default()), config::dns)?;
    let mut result = AddResult { dns, ..AddResult::default() };
    if layout == Layout::Ip4Ip6 {
        for key in ["ip4", "ip6"] {
            let Some(family) = object.object(key)? else { continue };
            let gateway = family.address("gateway")?;
            result.ips.push(IpConfig { interface: None, address: required_cidr(family, "ip")?, gateway });
            for object in family.objects("routes")?.unwrap_or_default() {
                let Route { dst, gw, .. } = route(object)?;
                result.routes.push(Route::to(dst, gw));
            }
        }
        return Ok(result);
    }
    for object in object.objects("interfaces")?.unwrap_or_default() {
        result.interfaces.push(interface(object, layout)?);
    }
    for object in object.objects("ips")?.unwrap_or_default() {
        result.ips.push(ip(object, layout)?);
    }
    for object in object.objects("routes")?.unwrap_or_default() {
        result.routes.push(route(object)?);
    }
    Ok(result)
}

const U32: &str = "0 to 4294967295";

fn interface(object: &Object, layout: Layout) -> Result<Interface> {
    let filled = |key| Ok::<_, Error>(object.string(key)?.filter(|text| !text.is_empty()));
    let interface = Interface {
        name: object.string("name")?.unwrap_or_default(),
        mac: filled("mac")?,
        sandbox: filled("sandbox")?,
        ..Interface::default()
    };
    if layout != Layout::Sorted {
        return Ok(interface);
    }
    Ok(Interface {
        mtu: object.integer_in("mtu", U32)?.filter(|mtu| *mtu != 0),
        socket_path: filled("socketPath")?,
        pci_id: filled("pciID")?,
        ..interface
    })
}

fn ip(object: &Object, layout: Layout) -> Result<IpConfig> {
    if layout == Layout::Lists {
        // Says what the address says as well; only its type is checked.
        object.text("version")?;
    }
    Ok(IpConfig {
        interface: object.integer("interface")?,
        address: required_cidr(object, "address")?,
        gateway: object.address("gateway")?,
    })
}

fn required_cidr(object: &Object, key: &str) -> Result<ipnetwork::IpNetwork> {
    let missing = || Error::internal(format_args!("{}: expected a string, found nothing", object.place(key)));
    object.cidr(key)?.ok_or_else(missing)
}

/// One route of a result or of an IPAM configuration. Host bits of `dst` are cut off; zeros are "not set"
/// where 0 means nothing to the kernel.
pub fn route(object: &Object) -> Result<Route> {
    let number = |key| Ok::<_, Error>(object.integer_in::<u32>(key, U32)?.filter(|number| *number != 0));
    Ok(Route {
        dst: net::network_of(required_cidr(object, "dst")?),
        gw: object.address("gw")?,
        mtu: number("mtu")?,
        advmss: number("advmss")?,
        priority: number("priority")?,
        table: object.integer_in("table", U32)?,
        scope: object.integer_in("scope", "0 to 255")?,
    })
}
