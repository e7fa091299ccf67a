use std::collections::BTreeSet;
use std::fs;

use super::{diagnose, faults};
use crate::doctor::node::{CONFLIST, Kind, Lab, conflist, write};

/// It is the next pod's: those that run are as they were promised to be.
#[test]
fn a_configuration_that_changed_is_a_note() {
    crate::sandbox::sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 2);
        let mut list: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(CONFLIST).unwrap()).unwrap();
        let hairpin = list["plugins"][0]["hairpinMode"].as_bool().unwrap_or_default();
        list["plugins"][0]["hairpinMode"] = (!hairpin).into();
        list["plugins"][0]["mtu"] = 1300.into();
        fs::write(CONFLIST, list.to_string()).unwrap();
        let found = diagnose("--strict");
        assert_eq!((found.status, found.problems()), (0, BTreeSet::new()), "{}", found.words());
        let notes: Vec<_> = found.rows("note").collect();
        assert!(
            notes.iter().all(|row| row["id"] == "conflist-changed" && row["severity"] == "info"),
            "{notes:?}"
        );
        let says = |words: &str| notes.iter().any(|row| row["found"].as_str().unwrap().contains(words));
        assert!(says(&format!(
            "hairpinMode is {} now, and 2 running pods (pod default/web-0 and others)",
            !hairpin
        )));
        assert!(
            says("mtu is 1300 now") && says("takes effect with the next ADD") && notes.len() == 2,
            "{notes:?}"
        );
        assert_eq!(found.json["summary"]["notes"], 2);
        drop(lab);
    });
}

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
