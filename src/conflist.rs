//! The network configuration list this node gets when nobody says otherwise. Pure.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

/// Names and numbers of the default network. The pod range must be the cluster's `cluster-cidr`.
pub const NETWORK: &str = "smartnet";
pub const BRIDGE: &str = "smartnet0";
pub const CNI_VERSION: &str = "1.0.0";
pub const SUBNET: &str = "172.38.0.0/16";
pub const GATEWAY: &str = "172.38.0.1";
/// On a temporary file system: a lease is worth nothing after a reboot.
pub const DATA_DIR: &str = "/var/run/cni/networks";

/// What can be said about a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    pub name: String,
    pub bridge: String,
    pub subnet: IpNetwork,
    pub gateway: IpAddr,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            name: NETWORK.to_owned(),
            bridge: BRIDGE.to_owned(),
            subnet: SUBNET.parse().expect("a network written in this file"),
            gateway: GATEWAY.parse().expect("an address written in this file"),
        }
    }
}

/// The list as a runtime reads it (CNI SPEC "Configuration format"). The plugins are called by our own names, so that a
/// package which owns the standard ones is not picked up by accident.
pub fn conflist(network: &Network) -> Value {
    json!({
        "cniVersion": CNI_VERSION,
        "name": network.name,
        "plugins": [{
            "type": "smarter-bridge",
            "bridge": network.bridge,
            "isDefaultGateway": true,
            "ipMasq": true,
            "hairpinMode": true,
            "ipam": {
                "type": "smarter-ipam",
                "dataDir": DATA_DIR,
                "ranges": [[{ "subnet": network.subnet.to_string(), "gateway": network.gateway.to_string() }]],
            },
        }, {
            "type": "smarter-portmap",
            "capabilities": { "portMappings": true },
            "snat": true,
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::applet::{APPLETS, Applet};

    #[test]
    fn every_type_of_the_default_network_is_a_plugin_of_ours() {
        let list = conflist(&Network::default());
        for plugin in list["plugins"].as_array().unwrap() {
            for name in [&plugin["type"], &plugin["ipam"]["type"]].into_iter().filter(|name| !name.is_null())
            {
                let known = |(known, applet, _): &(&str, Applet, &str)| {
                    name == known && matches!(applet, Applet::Plugin(_))
                };
                assert!(APPLETS.iter().any(known), "{name}");
            }
        }
    }

    #[test]
    fn the_default_gateway_is_in_the_default_range() {
        let network = Network::default();
        assert!(network.subnet.contains(network.gateway));
    }
}
