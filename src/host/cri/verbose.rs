//! What containerd adds to its status for people: the networks that it has loaded, and how the last attempt went. The shape
//! is go-cni's `ConfigResult`, unchanged from containerd 1.3 to 2.x. Nothing but text in and values out.
//!
//! Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

/// containerd's view of CNI at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cni {
    pub plugin_dirs: Vec<PathBuf>,
    pub conf_dir: PathBuf,
    /// In the order in which a pod gets them, without the loopback of containerd's own.
    pub networks: Vec<Network>,
    /// Why it could not load any; `None` when the last attempt went well.
    pub load_error: Option<String>,
}

/// A network as it was loaded. That its plugins exist is not known: containerd looks for them when a pod comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    pub name: String,
    /// What it is called in a pod, `eth0` for the first.
    pub interface: String,
    /// Types of its plugins.
    pub plugins: Vec<String>,
    /// The text of the file, as it was when it was loaded.
    pub source: String,
}

/// containerd sets `lo` up by a list of this name, which is in no file.
const LOOPBACK: &str = "cni-loopback";

/// `None` when the runtime says nothing of the kind.
pub(super) fn cni(info: &BTreeMap<String, String>) -> Option<Cni> {
    let config: Value = serde_json::from_str(info.get("cniconfig")?).ok()?;
    let load = info.get("lastCNILoadStatus.default").or_else(|| info.get("lastCNILoadStatus"));
    let networks = list(&config["Networks"]).iter().map(network);
    Some(Cni {
        plugin_dirs: list(&config["PluginDirs"]).iter().map(|dir| text(dir).into()).collect(),
        conf_dir: text(&config["PluginConfDir"]).into(),
        networks: networks.filter(|network| network.name != LOOPBACK).collect(),
        load_error: load.filter(|text| *text != "OK").cloned(),
    })
}

fn network(network: &Value) -> Network {
    let config = &network["Config"];
    Network {
        name: text(&config["Name"]),
        interface: text(&network["IFName"]),
        plugins: list(&config["Plugins"]).iter().map(|plugin| text(&plugin["Network"]["type"])).collect(),
        source: text(&config["Source"]),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// As containerd 1.6.20 says it.
    const CONFIG: &str = r#"{"PluginDirs":["/usr/lib/cni"],"PluginConfDir":"/etc/cni/net.d","PluginMaxConfNum":1,"Prefix":"eth",
      "Networks":[
        {"Config":{"Name":"cni-loopback","CNIVersion":"0.3.1","Plugins":[{"Network":{"type":"loopback","ipam":{},"dns":{}},
          "Source":"{\"type\":\"loopback\"}"}],"Source":"{}"},"IFName":"lo"},
        {"Config":{"Name":"smartnet","CNIVersion":"1.0.0","Plugins":[{"Network":{"type":"smarter-bridge","ipam":{},"dns":{}},
          "Source":"{}"},{"Network":{"type":"smarter-portmap","ipam":{},"dns":{}},"Source":"{}"}],
          "Source":"{\"name\":\"smartnet\"}\n"},"IFName":"eth0"}]}"#;

    #[test]
    fn networks_are_named_with_what_they_were_loaded_from() {
        let cni =
            cni(&info(&[("cniconfig", CONFIG), ("lastCNILoadStatus", "OK"), ("golang", "\"go1.19.8\"")]));
        let expected = Cni {
            plugin_dirs: vec!["/usr/lib/cni".into()],
            conf_dir: "/etc/cni/net.d".into(),
            networks: vec![Network {
                name: "smartnet".into(),
                interface: "eth0".into(),
                plugins: vec!["smarter-bridge".into(), "smarter-portmap".into()],
                source: "{\"name\":\"smartnet\"}\n".into(),
            }],
            load_error: None,
        };
        assert_eq!(cni, Some(expected));
    }

    #[test]
    fn a_failed_load_is_quoted() {
        let failed = "cni config load failed: no network config found in /etc/cni/net.d";
        let entries = [("cniconfig", r#"{"Networks":null}"#), ("lastCNILoadStatus", failed)];
        let cni = cni(&info(&entries)).unwrap();
        assert_eq!((cni.networks, cni.load_error.as_deref()), (Vec::new(), Some(failed)));
        // Other runtime classes may have networks of their own; ours is the default.
        let entries = [entries[0], entries[1], ("lastCNILoadStatus.default", "OK")];
        assert_eq!(super::cni(&info(&entries)).unwrap().load_error, None);
    }

    #[test]
    fn what_says_nothing_of_networks_is_none() {
        for config in [info(&[]), info(&[("config", "{}")]), info(&[("cniconfig", "{")])] {
            assert_eq!(cni(&config), None);
        }
    }
}
