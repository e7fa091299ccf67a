//! The network configurations that runtimes find, in their order, and the plugins that they name.
//!
//! Read as libcni reads them: by name, `.conf`, `.conflist` and `.json`. What stands under the names of plugins is told by
//! [`super::plugins`]; where to look, by [`super::lookups`].

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::installed::Installed;
use super::lookups::Lookup;
use super::plugins::{self, PluginFile};
use crate::applet;
use crate::cni::json::{self, Json, Object};
use crate::cni::{NetworkName, Request, SpecVersion, Verb};
use crate::conflist;
use crate::host::root::Root;
use crate::host::runtimes::Kind;
use crate::plugins::bridge::config::Config as BridgeConfig;
use crate::plugins::host_local::{self, RangeSet};
use crate::plugins::portmap;
use crate::spec::HostPorts;
use crate::state::lease::DATA_DIR;

#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// Each once, whatever links lead there.
    pub directories: Vec<Directory>,
    pub installed: Installed,
}

/// Where networks are read from.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    pub path: PathBuf,
    /// The path behind all links.
    pub place: PathBuf,
    /// The runtime that reads it; `None` when somebody named it, or nobody is there to read it.
    pub reader: Option<Kind>,
    /// By name, as a runtime sorts them.
    pub files: Vec<ConfFile>,
    /// One for each list of directories in which a reader looks for the plugins.
    pub searches: Vec<Search>,
}

/// What is found in directories for plugins, of which the first that has a plugin counts.
#[derive(Clone, Debug, Default)]
pub struct Search {
    pub bin_dirs: Vec<PathBuf>,
    /// The paths behind all links.
    pub places: Vec<PathBuf>,
    /// The runtime that looks there; `None` when somebody named them, or nobody is there to look.
    pub searcher: Option<Kind>,
    /// Every plugin that a readable configuration names, and `loopback`, which containerd executes without being told.
    pub plugins: BTreeMap<String, Option<PluginFile>>,
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
    /// What the bridge plugin is told about a pod that comes.
    pub attaches: Option<BridgeConfig>,
    /// What the plugin for host ports is told, without the ports of a pod.
    pub maps: Option<HostPorts>,
    /// Where leases of ours are.
    pub data_dir: Option<PathBuf>,
    pub ranges: Vec<RangeSet>,
    pub subnets: Vec<ipnetwork::IpNetwork>,
    /// `forwardAccept` is off: somebody else lets pods through.
    pub hands_off: bool,
    /// Takes no new pods.
    pub drains: bool,
    /// Keys by which host ports were to be limited.
    pub port_limits: Vec<&'static str>,
}

impl Configuration {
    /// Those that can be read, of whatever directory.
    pub fn networks(&self) -> impl Iterator<Item = &ConfiguredNetwork> {
        self.directories.iter().flat_map(Directory::readable).map(|(_, network)| network)
    }
}

impl Directory {
    pub fn readable(&self) -> impl Iterator<Item = (&ConfFile, &ConfiguredNetwork)> {
        self.files.iter().filter_map(|file| Some((file, file.network.as_ref().ok()?)))
    }

    /// The files that a runtime comes to: up to the first network that gives pods an address. Those behind it are somebody's
    /// who names his network, as podman does, and no matter of pods.
    pub fn used(&self) -> &[ConfFile] {
        let decides = |file: &ConfFile| {
            let first = file.network.as_ref().ok().and_then(|network| network.types.first());
            first.is_some_and(|first| !conflist::hands_on(first))
        };
        match self.files.iter().position(decides) {
            Some(last) => &self.files[..=last],
            None => &self.files,
        }
    }
}

impl Search {
    pub fn in_words(&self) -> String {
        let paths: Vec<_> = self.bin_dirs.iter().map(|path| path.display().to_string()).collect();
        paths.join(", ")
    }
}

impl ConfiguredNetwork {
    /// Uses one of our own names.
    pub fn is_ours(&self) -> bool {
        self.types.iter().any(|kind| kind.starts_with("smarter-") && applet::plugin(kind).is_some())
    }
}

/// The text of an error names what could not be read.
pub fn load(root: &Root, lookups: &[Lookup]) -> Result<Configuration, String> {
    let mut found = Configuration::default();
    for lookup in lookups {
        let failed = |error: io::Error| format!("{}: {error}", lookup.conf_dir.display());
        let place = root.resolve(&lookup.conf_dir).map_err(failed)?;
        let known = found.directories.iter_mut().find(|directory| directory.place == place);
        let directory = if let Some(directory) = known {
            directory
        } else {
            found.directories.push(Directory {
                path: lookup.conf_dir.clone(),
                place,
                reader: lookup.reader,
                files: files(root, &lookup.conf_dir).map_err(failed)?,
                searches: Vec::new(),
            });
            found.directories.last_mut().expect("just pushed")
        };
        if !directory.searches.iter().any(|search| search.bin_dirs == lookup.bin_dirs) {
            let search = search(root, directory, lookup);
            directory.searches.push(search);
        }
    }
    found.installed = Installed::of(root, &found.directories);
    Ok(found)
}

fn files(root: &Root, directory: &Path) -> io::Result<Vec<ConfFile>> {
    let mut files = Vec::new();
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
        files.push(ConfFile { path: path.display().to_string(), network });
    }
    Ok(files)
}

fn search(root: &Root, directory: &Directory, lookup: &Lookup) -> Search {
    let bin_dirs = &lookup.bin_dirs;
    let mut found = Search {
        bin_dirs: bin_dirs.clone(),
        places: bin_dirs.iter().filter_map(|path| root.resolve(path).ok()).collect(),
        searcher: lookup.searcher,
        ..Search::default()
    };
    // The names are links to one file, which is read once.
    let mut versions = plugins::Versions::new();
    let named = directory.readable().flat_map(|(_, network)| network.types.iter().map(String::as_str));
    for name in named.chain(["loopback"]) {
        // One element of a path, or nobody looks for it.
        if !name.contains('/') && !found.plugins.contains_key(name) {
            let file = plugins::find(root, bin_dirs, name, &mut versions);
            found.plugins.insert(name.to_owned(), file);
        }
    }
    found
}

/// Why a list is no network where its name says that it is a single plugin.
pub const LIST_WITHOUT_ITS_NAME: &str = "it is a list of plugins, and its name does not end in .conflist";

/// A file of one network. `list`: it must be a list of plugins, else it may be a single one.
pub fn parse(bytes: &[u8], list: bool) -> Result<ConfiguredNetwork, String> {
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
    // go-cni and ocicni take the end of the name for the kind of the file.
    if !list && plugins.is_some() && text(&document, "type")?.is_none() {
        return Err(LIST_WITHOUT_ITS_NAME.to_owned());
    }
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
            network.drains |= bridge.drain;
            network.attaches.get_or_insert(bridge);
        }
        if standard == Some("portmap") {
            let rules = portmap::config::rules(plugin).map_err(|error| error.to_string())?;
            network.maps.get_or_insert(rules);
        }
        if standard == Some("portmap") {
            network.port_limits.extend(PORT_LIMITS.iter().filter(|key| is_set(plugin.get(key))));
        }
        let keeps_leases = ipam_kind
            .is_some_and(|kind| applet::plugin(&kind).is_some_and(|p| p.standard_name() == "host-local"));
        if keeps_leases {
            read_ranges(&mut network, &name, plugin)?;
        }
    }
    Ok(network)
}

/// Keys of portmap that say who may use host ports, or that refuse some.
const PORT_LIMITS: [&str; 5] =
    ["hostPortInterfaces", "denyHostPortInterfaces", "strictHostPorts", "conditionsV4", "conditionsV6"];

fn is_set(value: Option<&Json>) -> bool {
    match value {
        Some(Json::Array(list)) => !list.is_empty(),
        Some(Json::Bool(set)) => *set,
        _ => false,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_its_bridge_ranges_and_plugins() {
        let text = conflist::conflist(&conflist::Network::default()).to_string();
        let network = parse(text.as_bytes(), true).unwrap();
        assert_eq!(network.types, ["smarter-bridge", "smarter-ipam", "smarter-portmap"]);
        assert_eq!(network.bridge.as_deref(), Some("smartnet0"));
        assert_eq!(network.data_dir.as_deref(), Some(Path::new("/var/run/cni/networks")));
        assert_eq!(network.subnets, ["172.38.0.0/16".parse().unwrap()]);
        assert!(network.is_ours() && !network.hands_off);
    }

    #[test]
    fn a_list_says_how_host_ports_are_limited() {
        let limits = |keys: &str| {
            let text = format!(r#"{{"name":"n","plugins":[{{"type":"portmap",{keys}}}]}}"#);
            parse(text.as_bytes(), true).unwrap().port_limits
        };
        assert_eq!(
            limits(r#""snat":true,"strictHostPorts":false,"hostPortInterfaces":[]"#),
            Vec::<&str>::new()
        );
        assert_eq!(
            limits(r#""strictHostPorts":true,"denyHostPortInterfaces":["wwan*"]"#),
            ["denyHostPortInterfaces", "strictHostPorts"]
        );
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
        let list = b"{\"name\":\"n\",\"plugins\":[{\"type\":\"loopback\"}]}";
        assert_eq!(parse(list, false).unwrap_err(), LIST_WITHOUT_ITS_NAME);
        assert_eq!(parse(b"{\"name\":\"n\",\"type\":\"loopback\"}", false).unwrap().types, ["loopback"]);
    }
}
