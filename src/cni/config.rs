//! The fields that every network configuration shares (CNI SPEC "Section 1: Network configuration format").
//!
//! All of them are type-checked, also those a plugin does not use, as the reference plugins do. What only one plugin
//! understands is decoded by that plugin.

use super::error::Result;
use super::json::{Json, Object, mismatch};
use super::result::Dns;

/// The common part of a configuration. `None` means absent, `null` or empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NetConf {
    /// `type`: the plugin's own name.
    pub plugin_type: Option<String>,
    pub capabilities: Vec<(String, bool)>,
    /// `ipam.type`; without it there is no address management.
    pub ipam_type: Option<String>,
    /// `dns`, when it says anything: any of its lists is there (even empty) or its domain is not empty. It then replaces
    /// what the address management says.
    pub dns: Option<Dns>,
    /// Not decoded: see [`super::wire::parse_prev_result`]. `{}` is present.
    pub prev_result: Option<Object>,
    /// `cni.dev/valid-attachments` of GC: (containerID, ifname).
    pub valid_attachments: Option<Vec<(String, String)>>,
}

impl NetConf {
    pub fn decode(config: &Object) -> Result<Self> {
        config.text("cniVersion")?;
        config.text("name")?;
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let plugin_type = filled(config.string("type")?);
        let capabilities = capabilities(config)?;
        let ipam_type = match config.object("ipam")? {
            Some(ipam) => filled(ipam.string("type")?),
            None => None,
        };
        let dns = match config.object("dns")? {
            Some(object) => {
                let dns = dns(object)?;
                let lists = ["nameservers", "search", "options"];
                let says_something =
                    !dns.domain.is_empty() || lists.iter().any(|key| object.get(key).is_some());
                says_something.then_some(dns)
            }
            None => None,
        };
        let prev_result = config.object("prevResult")?.cloned();
        let valid_attachments = valid_attachments(config)?;
        Ok(Self { plugin_type, capabilities, ipam_type, dns, prev_result, valid_attachments })
    }
}

fn capabilities(config: &Object) -> Result<Vec<(String, bool)>> {
    let Some(object) = config.object("capabilities")? else { return Ok(Vec::new()) };
    let capability = |(name, value): &(String, Json)| match value {
        Json::Bool(wanted) => Ok((name.clone(), *wanted)),
        Json::Null => Ok((name.clone(), false)),
        other => Err(mismatch(&object.place(name), "a boolean", other)),
    };
    object.entries().iter().map(capability).collect()
}

fn valid_attachments(config: &Object) -> Result<Option<Vec<(String, String)>>> {
    let Some(objects) = config.objects("cni.dev/valid-attachments")? else { return Ok(None) };
    let attachment = |object: &Object| {
        Ok((object.string("containerID")?.unwrap_or_default(), object.string("ifname")?.unwrap_or_default()))
    };
    objects.into_iter().map(attachment).collect::<Result<_>>().map(Some)
}

/// A `dns` object, of a configuration or of a result.
pub fn dns(object: &Object) -> Result<Dns> {
    Ok(Dns {
        nameservers: object.strings("nameservers")?.unwrap_or_default(),
        domain: object.string("domain")?.unwrap_or_default(),
        search: object.strings("search")?.unwrap_or_default(),
        options: object.strings("options")?.unwrap_or_default(),
    })
}
