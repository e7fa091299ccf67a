use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::faults;
use crate::doctor::node::{BIN, CONFLIST, Kind, conflist, sh, write};

faults! {
    there_is_no_configuration: [("conflist-missing", "directory /etc/cni/net.d")] => 1, |_| fs::remove_file(CONFLIST).unwrap();
    the_configuration_is_empty: [("conflist-invalid", "file /etc/cni/net.d/0-smarter.conflist")] => 1, |_| {
        fs::write(CONFLIST, "").unwrap();
    };
    the_configuration_is_cut_off: [("conflist-invalid", "file /etc/cni/net.d/0-smarter.conflist")] => 1, |_| {
        let text = fs::read(CONFLIST).unwrap();
        fs::write(CONFLIST, &text[..text.len() / 2]).unwrap();
    };
    another_network_comes_first: [
        ("conflist-not-first", "file /etc/cni/net.d/0-flannel.conflist"), ("plugin-missing", "plugin flannel"),
    ] => 1, |_| {
        write("/etc/cni/net.d/0-flannel.conflist", r#"{"name":"cbr0","plugins":[{"type":"flannel"}]}"#);
    };
    a_plugin_is_missing: [("plugin-missing", "plugin smarter-portmap")] => 1, |_| {
        fs::remove_file(format!("{BIN}/smarter-portmap")).unwrap();
    };
    a_link_leads_nowhere: [("plugin-missing", "plugin smarter-ipam")] => 1, |_| {
        sh(&format!("ln -sf /opt/cni/bin/old {BIN}/smarter-ipam"));
    };
    a_plugin_is_not_executable: [("plugin-not-executable", "file /opt/cni/bin/smarter-bridge")] => 1, |_| {
        let path = format!("{BIN}/smarter-bridge");
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    };
    a_plugin_is_empty: [("plugin-not-executable", "file /opt/cni/bin/smarter-ipam")] => 1, |_| {
        sh(&format!("rm {BIN}/smarter-ipam; touch {BIN}/smarter-ipam; chmod 755 {BIN}/smarter-ipam"));
    };
    a_plugin_is_of_another_version: [("plugin-version", "file /opt/cni/bin/smarter-portmap")] => 0, |_| {
        sh(&format!("rm {BIN}/smarter-portmap; printf 'x\\0smarter-cni 0.0.9\\n' > {BIN}/smarter-portmap; chmod 755 {BIN}/smarter-portmap"));
    };
    a_plugin_is_somebody_elses: [("plugin-version", "file /opt/cni/bin/smarter-bridge")] => 0, |_| {
        sh(&format!("rm {BIN}/smarter-bridge; cp /bin/true {BIN}/smarter-bridge"));
    };
    there_is_no_loopback_plugin [options: "--bin-dir /opt/cni/bin"]: [("plugin-loopback", "plugin loopback")] => 0, |_| {
        fs::remove_file(format!("{BIN}/loopback")).unwrap();
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
