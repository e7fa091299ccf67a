//! The heart of repair: what a configuration wants is what its record wants.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cni::args::Args;
use crate::cni::json::{self, Json};
use crate::cni::result::{Interface, IpConfig};
use crate::net::{Mac, Route};
use crate::plugins::bridge::want;
use crate::state::record::{self, Pod as NamedPod};
use crate::state::{BootId, Records};

const ARGS: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0";

fn config(keys: &Value) -> Config {
    let Json::Object(object) = json::parse(keys.to_string().as_bytes()).unwrap() else { panic!("{keys}") };
    Config::parse(&object, ARGS).unwrap_or_else(|error| panic!("{keys}: {}", error.msg))
}

fn ips(addresses: &[&str]) -> AddResult {
    let ip = |address: &&str| IpConfig { interface: None, address: address.parse().unwrap(), gateway: None };
    AddResult { ips: addresses.iter().map(ip).collect(), ..AddResult::default() }
}

/// As ADD does it.
fn promised(config: &Config, ipam: AddResult) -> (Attachment, Record) {
    let if_name = "eth0".parse().unwrap();
    let attachment = record::Attachment { network: "net", container: "c1", if_name: &if_name };
    let records = Records::at(Path::new("/nowhere"), BootId::current().unwrap());
    let mut record = Record::begin(&records, "bridge", &attachment, None);
    let args = Args::parse_lenient(ARGS);
    let (namespace, name) = (args.pod().namespace.clone(), args.pod().name.clone());
    record.pod = Some(NamedPod { namespace, name, uid: None });
    let addresses = if ipam.ips.is_empty() { ipam } else { want::complete_addresses(config, ipam).unwrap() };
    let identity = Identity { network: "net".into(), container: "c1".into(), if_name };
    let want = want::attachment(config, &identity, "veth0123abcd".parse().unwrap(), &addresses).unwrap();
    write(&mut record, config, &want, &addresses);
    (want, written_and_read(&record))
}

fn written_and_read(record: &Record) -> Record {
    serde_json::from_str(&serde_json::to_string(record).unwrap()).unwrap()
}

fn assert_round_trip(keys: &Value, ipam: AddResult) {
    let config = config(keys);
    let (want, record) = promised(&config, ipam);
    assert_eq!(attachment(&record), Some(want), "{keys}");
    assert_eq!(written_and_read(&record), record, "{keys}");
}

#[test]
fn what_a_configuration_wants_is_what_its_record_wants() {
    let dual = || ips(&["10.1.2.5/24", "fd00::5/64"]);
    for keys in [
        json!({}),
        json!({"bridge": "br0", "isGateway": true}),
        json!({"isDefaultGateway": true, "ipMasq": true, "hairpinMode": true}),
        json!({"isGateway": true, "forceAddress": true, "mtu": 1400}),
        json!({"isGateway": true, "vlan": 100, "bridge": "br0"}),
        json!({"vlan": 100, "bridge": "averylongname12", "preserveDefaultVlan": true}),
        json!({"isGateway": true, "vlanTrunk": [{"minID": 5, "maxID": 8}, {"id": 20}]}),
        json!({"isGateway": true, "vlanTrunk": []}),
        json!({"vlan": 7, "vlanTrunk": [{"id": 7}, {"id": 8}]}),
        json!({"macspoofchk": true, "portIsolation": true, "promiscMode": true, "enabledad": true}),
        json!({"isGateway": true, "forwardAccept": false, "forwardOthers": true, "mssClamp": false}),
        json!({"runtimeConfig": {"mac": "02:00:00:00:00:07"}}),
    ] {
        assert_round_trip(&keys, dual());
        assert_round_trip(&keys, ips(&["10.1.2.5/24", "10.1.3.5/24", "10.9.9.9/32"]));
        assert_round_trip(&keys, AddResult::default());
    }
    assert_round_trip(&json!({"disableContainerInterface": true}), AddResult::default());
    let on_link = Route {
        scope: Some(253),
        mtu: Some(1400),
        advmss: Some(1300),
        ..Route::to("10.8.0.0/16".parse().unwrap(), None)
    };
    let table =
        Route { table: Some(100), priority: Some(7), ..Route::to("10.7.0.0/16".parse().unwrap(), None) };
    let routes = vec![on_link, table, Route::to("::/0".parse().unwrap(), Some("fd00::9".parse().unwrap()))];
    assert_round_trip(&json!({"isDefaultGateway": true}), AddResult { routes, ..dual() });
}

#[test]
fn macs_of_what_was_made_are_wanted_again() {
    let (want, mut record) = promised(&config(&json!({"isGateway": true})), ips(&["10.1.2.5/24"]));
    let interface = |mac: &str| Interface { mac: Some(mac.to_owned()), ..Interface::default() };
    let interfaces = ["02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"].map(interface).to_vec();
    remember_macs(&mut record, &AddResult { interfaces, ..AddResult::default() });
    let again = attachment(&written_and_read(&record)).unwrap();
    let mac = |last| Mac([2, 0, 0, 0, 0, last]);
    assert_eq!((again.bridge.mac, again.port.mac, again.pod.mac), (mac(1), Some(mac(2)), Some(mac(3))));
    let mut all_but = again.clone();
    (all_but.bridge.mac, all_but.port.mac, all_but.pod.mac) = (want.bridge.mac, None, None);
    assert_eq!(all_but, want);
}

#[test]
fn of_an_older_record_what_is_known_is_wanted() {
    let (want, record) =
        promised(&config(&json!({"isDefaultGateway": true, "ipMasq": true})), ips(&["10.1.2.5/24"]));
    let mut older = serde_json::to_value(&record).unwrap();
    let promised = older["promised"].as_object_mut().unwrap();
    for newer in ["bridge_mac", "firewall", "pools", "port_rules"] {
        promised.remove(newer);
    }
    for newer in ["force_address", "detect_duplicates"] {
        promised["flags"].as_object_mut().unwrap().remove(newer);
    }
    let again = attachment(&serde_json::from_value(older).unwrap()).unwrap();
    assert_eq!(again, Attachment { firewall: spec::Firewall::default(), ..want });
}

#[test]
fn the_record_of_an_add_that_did_not_get_far_wants_nothing() {
    let (_, mut record) = promised(&config(&json!({})), AddResult::default());
    record.promised.host_if = None;
    assert_eq!(attachment(&record), None);
}

#[test]
fn a_record_stays_small() {
    let keys = json!({"isDefaultGateway": true, "ipMasq": true, "hairpinMode": true});
    let (_, record) = promised(&config(&keys), ips(&["172.38.0.2/16"]));
    let bytes = serde_json::to_vec(&record).unwrap().len();
    assert!(bytes < 1536, "{bytes} bytes: every ADD writes them twice");
}

fn any_config() -> impl Strategy<Value = Value> {
    let switches = [
        "isGateway",
        "isDefaultGateway",
        "forceAddress",
        "ipMasq",
        "preserveDefaultVlan",
        "macspoofchk",
        "forwardAccept",
        "forwardOthers",
        "mssClamp",
        "enabledad",
        "portIsolation",
        "hairpinMode",
    ];
    let trunk = proptest::collection::vec(1_u16..=4094, 0..4);
    (
        proptest::collection::vec(proptest::option::of(any::<bool>()), switches.len()),
        proptest::option::of(0_u16..=4094),
        proptest::option::of(trunk),
        proptest::option::of(0_u32..9000),
        "[a-z]{1,10}",
    )
        .prop_map(move |(on, vlan, trunk, mtu, bridge)| {
            let mut keys = json!({ "bridge": bridge });
            for (switch, on) in switches.iter().zip(on) {
                if let Some(on) = on {
                    keys[*switch] = on.into();
                }
            }
            if let Some(vlan) = vlan {
                keys["vlan"] = vlan.into();
            }
            if let Some(trunk) = trunk {
                keys["vlanTrunk"] = trunk.iter().map(|id| json!({ "id": id })).collect();
            }
            if let Some(mtu) = mtu {
                keys["mtu"] = mtu.into();
            }
            keys
        })
}

proptest! {
    #[test]
    fn no_configuration_wants_what_its_record_does_not(keys in any_config(), v6 in any::<bool>()) {
        let addresses = if v6 { ips(&["10.1.2.5/24", "fd00::5/64"]) } else { ips(&["10.1.2.5/24"]) };
        assert_round_trip(&keys, addresses);
    }
}
