use std::fs;

use super::faults;
use crate::doctor::node::{CONFLIST, Kind, conflist, write};

faults! {
    there_is_no_configuration: [("conflist-missing", "directory /etc/cni/net.d")] => 1, |_| fs::remove_file(CONFLIST).unwrap();
    the_configuration_is_empty: [("conflist-invalid", "file /etc/cni/net.d/0-smarter.conflist")] => 1, |_| {
        fs::write(CONFLIST, "").unwrap();
    };
    the_configuration_is_cut_off: [("conflist-invalid", "file /etc/cni/net.d/0-smarter.conflist")] => 1, |_| {
        let text = fs::read(CONFLIST).unwrap();
        fs::write(CONFLIST, &text[..text.len() / 2]).unwrap();
    };
    an_uninstallation_was_left_half_way: [("conflist-drain", "file /etc/cni/net.d/0-smarter.conflist")] => 1, |_| {
        let text = fs::read_to_string(CONFLIST).unwrap();
        let mut list: serde_json::Value = serde_json::from_str(&text).unwrap();
        list["plugins"][0]["drain"] = true.into();
        fs::write(CONFLIST, list.to_string()).unwrap();
    };
    another_network_comes_first: [
        ("conflist-not-first", "file /etc/cni/net.d/0-flannel.conflist"), ("plugin-missing", "plugin flannel"),
    ] => 1, |_| {
        write("/etc/cni/net.d/0-flannel.conflist", r#"{"name":"cbr0","plugins":[{"type":"flannel"}]}"#);
    };
    the_range_was_changed_while_pods_ran: [
        ("range-in-use", "file /etc/cni/net.d/0-smarter.conflist"),
        ("lease-outside", "lease /run/cni/networks/smartnet/10.7.0.2"),
        ("lease-outside", "lease /run/cni/networks/smartnet/10.7.0.3"),
        ("lease-outside", "lease /run/cni/networks/smartnet/10.7.0.4"),
    ] => 0, |_| {
        let kind = Kind { subnet: Some("10.17.0.0/24"), ..Kind::default() };
        fs::write(CONFLIST, conflist(&kind).to_string()).unwrap();
    };
    the_cluster_gave_another_range [options: "--pod-cidr 10.42.3.0/24"]: [
        ("pod-cidr", "file /etc/cni/net.d/0-smarter.conflist"),
    ] => 1, |_| {};
}
