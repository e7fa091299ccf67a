//! The network configurations that a runtime finds, in its order, and the plugins that they name.
//!
//! Read as libcni reads them: by name, `.conf`, `.conflist` and `.json`. Nothing is executed; whether a plugin is ours, and
//! of which version, is read off its bytes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::applet;
use crate::cni::json::{self, Json, Object};
use crate::cni::{NetworkName, Request, SpecVersion, Verb};
use crate::host::root::Root;
use crate::plugins::bridge::config::Config as BridgeConfig;
use crate::plugins::host_local::{self, RangeSet};
use crate::state::lease::DATA_DIR;

#[derive(Clone, Debug, Default)]
pub struct Configuration {
    pub directory: String,
    /// By name, as a runtime sorts them.
    pub files: Vec<ConfFile>,
    pub bin_dirs: Vec<String>,
    /// Every plugin that a readable configuration names, and what stands under that name in the first directory that
    /// has it.
    pub plugins: BTreeMap<String, Option<PluginFile>>,
    /// Executed by containerd without being named.
    pub has_loopback: bool,
}

#[derive(Clone, Debug)]
pub struct ConfFile {
    pub path: String,
    /// What is wrong with it, when something is: the runtime passes over such a file.
    pub network: Result<ConfiguredNetwork, String>,
}

#[derive(Clone, Debug, Default)]
pub struct ConfiguredNetwork {
    pub name: String,
    /// Names of plugins, those of address management included, in their order.
    pub types: Vec<String>,
    pub bridge: Option<String>,
    /// Where leases of ours are.
    pub data_dir: Option<PathBuf>,
    pub ranges: Vec<RangeSet>,
    pub subnets: Vec<ipnetwork::IpNetwork>,
    /// `forwardAccept` is off: somebody else lets pods through.
    pub hands_off: bool,
}

impl ConfiguredNetwork {
    /// Uses one of our own names.
    pub fn is_ours(&self) -> bool {
        self.types.iter().any(|kind| kind.starts_with("smarter-") && applet::plugin(kind).is_some())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginFile {
    pub path: String,
    pub size: u64,
    pub executable: bool,
    /// The version, when it is a build of ours.
    pub version: Option<String>,
}

pub fn load(root: &Root, directory: &Path, bin_dirs: &[PathBuf]) -> io::Result<Configuration> {
    let mut found = Configuration {
        directory: directory.display().to_string(),
        bin_dirs: bin_dirs.iter().map(|directory| directory.display().to_string()).collect(),
        ..Configuration::default()
    };
    found.has_loopback = bin_dirs.iter().any(|directory| root.exists(&directory.join("loopback")));
    for name in root.list(directory)? {
        let path = directory.join(&name);
        let known = path
            .extension()
            .is_some_and(|ending| ending == "conf" || ending == "conflist" || ending == "json");
        if !known {
            continue;
        }
        let network = match root.read(&path) {
            Ok(Some(bytes)) => parse(&bytes, path.extension().is_some_and(|ending| ending == "conflist")),
            Ok(None) => continue,
            Err(error) => Err(error.to_string()),
        };
        found.files.push(ConfFile { path: path.display().to_string(), network });
    }
    let networks = found.files.iter().filter_map(|file| file.network.as_ref().ok());
    // The names are links to one file, which is read once.
    let mut versions = BTreeMap::new();
    let types: Vec<String> = networks.flat_map(|network| network.types.clone()).collect();
    for kind in types {
        // One element of a path, or nobody looks for it.
        if !kind.contains('/') && !found.plugins.contains_key(&kind) {
            let file =
                bin_dirs.iter().find_map(|directory| plugin(root, &directory.join(&kind), &mut versions));
            found.plugins.insert(kind, file);
        }
    }
    Ok(found)
}

/// A file of one network. `list`: it must be a list of plugins, else it may be a single one.
fn parse(bytes: &[u8], list: bool) -> Result<ConfiguredNetwork, String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err("it is empty".to_owned());
    }
    let document = match json::parse(bytes) {
        Ok(Json::Object(object)) => object,
        Ok(_) => return Err("it is no JSON object".to_owned()),
        Err(error) => return Err(error.to_string()),
    };
    let text = |object: &Object, key: &str| {
        object.string(key).map_err(|error| error.to_string()).map(|text| text.filter(|text| !text.is_empty()))
    };
    let name = text(&document, "name")?.ok_or("it has no \"name\"")?;
    let plugins = document.objects("plugins").map_err(|error| error.to_string())?;
    let plugins: Vec<&Object> = match plugins {
        Some(plugins) if !plugins.is_empty() => plugins,
        _ if list => return Err("it has no \"plugins\"".to_owned()),
        _ => vec![&document],
    };
    let mut network = ConfiguredNetwork { name: name.clone(), ..ConfiguredNetwork::default() };
    for (at, plugin) in plugins.into_iter().enumerate() {
        let kind = text(plugin, "type")?.ok_or_else(|| format!("plugin {} has no \"type\"", at + 1))?;
        let standard = applet::plugin(&kind).map(applet::Plugin::standard_name);
        let ipam = plugin.object("ipam").map_err(|error| error.to_string())?;
        let ipam_kind = ipam.map(|ipam| text(ipam, "type")).transpose()?.flatten();
        network.types.push(kind);
        network.types.extend(ipam_kind.clone());
        if standard == Some("bridge") {
            let bridge = BridgeConfig::parse(plugin, "").map_err(|error| error.to_string())?;
            network.bridge = Some(bridge.bridge.to_string());
            network.hands_off |= !bridge.firewall.accept;
        }
        let keeps_leases = ipam_kind
            .is_some_and(|kind| applet::plugin(&kind).is_some_and(|p| p.standard_name() == "host-local"));
        if keeps_leases {
            read_ranges(&mut network, &name, plugin)?;
        }
    }
    Ok(network)
}

fn read_ranges(network: &mut ConfiguredNetwork, name: &str, plugin: &Object) -> Result<(), String> {
    let request = Request {
        verb: Verb::Status,
        version: SpecVersion::V1_0_0,
        network: NetworkName::parse(name).map_err(|error| error.to_string())?,
        target: None,
        args: String::new(),
        path: String::new(),
        netns_override: false,
        environment: Vec::new(),
        stdin: Vec::new(),
        config: plugin.clone(),
    };
    let config = host_local::Config::decode_for_status(&request).map_err(|error| error.to_string())?;
    network.data_dir =
        Some(config.as_ref().map_or_else(|| DATA_DIR.into(), |config| config.data_dir.clone()));
    for set in config.iter().flat_map(|config| &config.sets) {
        // Two sets may share a subnet; a set may have pieces of several.
        network.subnets.extend(set.subnets());
        network.ranges.push(set.clone());
    }
    Ok(())
}

fn plugin(root: &Root, path: &Path, versions: &mut Versions) -> Option<PluginFile> {
    let here = root.locate(path).ok()?;
    let metadata = fs::metadata(&here).ok().filter(fs::Metadata::is_file)?;
    let ours = applet::plugin(path.file_name()?.to_str()?).is_some();
    Some(PluginFile {
        path: path.display().to_string(),
        size: metadata.len(),
        executable: metadata.permissions().mode() & 0o111 != 0,
        version: if ours {
            versions.entry(here.clone()).or_insert_with(|| version(&here)).clone()
        } else {
            None
        },
    })
}

/// By the path behind all links.
type Versions = BTreeMap<PathBuf, Option<String>>;

/// Longer than any build of ours, those with symbols for a debugger included.
const LARGEST: u64 = 128 << 20;

/// What `--version` prints stands in the binary as one piece: `smarter-cni 0.1.0` and a line break.
fn version(path: &Path) -> Option<String> {
    if fs::metadata(path).ok()?.len() > LARGEST {
        return None;
    }
    find_version(&fs::read(path).ok()?)
}

fn find_version(bytes: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"smarter-cni ";
    let candidates = bytes.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    candidates.map(|(at, _)| &bytes[at + NAME.len()..]).find_map(|rest| {
        let end = rest.iter().take(32).position(|byte| *byte == b'\n')?;
        let text = std::str::from_utf8(&rest[..end]).ok()?;
        let mut parts = text.splitn(3, '.');
        let digits = |part: Option<&str>| part.is_some_and(|p| p.starts_with(|c: char| c.is_ascii_digit()));
        (digits(parts.next()) && digits(parts.next()) && digits(parts.next())).then(|| text.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_its_bridge_ranges_and_plugins() {
        let text = crate::conflist::conflist(&crate::conflist::Network::default()).to_string();
        let network = parse(text.as_bytes(), true).unwrap();
        assert_eq!(network.types, ["smarter-bridge", "smarter-ipam", "smarter-portmap"]);
        assert_eq!(network.bridge.as_deref(), Some("smartnet0"));
        assert_eq!(network.data_dir.as_deref(), Some(Path::new("/var/run/cni/networks")));
        assert_eq!(network.subnets, ["172.38.0.0/16".parse().unwrap()]);
        assert!(network.is_ours() && !network.hands_off);
    }

    #[test]
    fn what_a_runtime_passes_over_is_named() {
        let why = |text: &str| parse(text.as_bytes(), true).unwrap_err();
        assert_eq!(why(""), "it is empty");
        assert_eq!(why("[]"), "it is no JSON object");
        assert_eq!(why("{\"name\":\"n\"}"), "it has no \"plugins\"");
        assert_eq!(why("{\"plugins\":[{\"type\":\"x\"}]}"), "it has no \"name\"");
        assert_eq!(why("{\"name\":\"n\",\"plugins\":[{}]}"), "plugin 1 has no \"type\"");
        assert!(why("{\"name\":\"n\"").contains("unexpected end"), "{}", why("{\"name\":\"n\""));
        let wrong = r#"{"name":"n","plugins":[{"type":"smarter-bridge","hairpinMode":"yes"}]}"#;
        assert!(why(wrong).contains("hairpinMode: expected a boolean"), "{}", why(wrong));
        let range =
            r#"{"name":"n","plugins":[{"type":"x","ipam":{"type":"smarter-ipam","subnet":"10.1.2.0/31"}}]}"#;
        assert!(why(range).contains("too small"), "{}", why(range));
        assert_eq!(parse(b"{\"name\":\"n\",\"type\":\"loopback\"}", false).unwrap().types, ["loopback"]);
    }

    #[test]
    fn a_build_of_ours_says_its_version() {
        assert_eq!(
            find_version(b"..smarter-cni bridge\n..smarter-cni 1.2.3-rc.1\n").as_deref(),
            Some("1.2.3-rc.1")
        );
        assert_eq!(find_version(b"smarter-cni 1.2\n"), None);
        assert_eq!(find_version(b"#!/bin/sh\n"), None);
    }
}
