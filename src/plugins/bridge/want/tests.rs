//! From keys to what is promised, and that a record keeps it as it is.

use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::cni::json::{self, Json};
use crate::state::record::{Leases, Pool, Want};
use crate::state::{BootId, Record, Records};

fn config(text: &str) -> Config {
    let Json::Object(object) = json::parse(text.as_bytes()).unwrap() else { panic!("{text}") };
    Config::parse(&object, "").unwrap()
}

fn ip(address: &str, gateway: Option<&str>) -> IpConfig {
    IpConfig {
        interface: None,
        address: address.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
    }
}

fn route(dst: &str, gw: Option<&str>) -> Route {
    Route::to(dst.parse().unwrap(), gw.map(|gw| gw.parse().unwrap()))
}

fn id() -> AttachmentId {
    AttachmentId { network: "n".into(), container: "c".into(), if_name: "eth0".parse().unwrap() }
}

fn want(config: &Config, result: &AddResult) -> Attachment {
    attachment(config, &id(), "veth1".parse().unwrap(), result).unwrap()
}

#[test]
fn ipam_without_an_address_is_an_error() {
    let refused = complete_addresses(&config("{}"), AddResult::default()).unwrap_err();
    assert_eq!(refused.msg, "IPAM plugin returned missing IP config");
}

#[test]
fn a_gateway_is_computed_only_for_a_gateway() {
    let ipam = AddResult { ips: vec![ip("10.1.2.5/24", None)], ..AddResult::default() };
    let plain = complete_addresses(&config("{}"), ipam.clone()).unwrap();
    assert_eq!((plain.ips[0].gateway, plain.ips[0].interface), (None, Some(CONTAINER_INTERFACE)));
    let gateway = complete_addresses(&config(r#"{"isGateway":true}"#), ipam).unwrap();
    assert_eq!(gateway.ips[0].gateway, Some("10.1.2.1".parse().unwrap()));
    assert_eq!(gateway.routes, vec![]);
    let want = want(&config(r#"{"isGateway":true}"#), &gateway);
    assert_eq!(want.gateway.unwrap().addresses, vec!["10.1.2.1/24".parse().unwrap()]);
    assert_eq!(want.forwarding, vec![Family::V4]);
}

#[test]
fn each_family_gets_one_default_route() {
    let ips = vec![ip("10.1.2.5/24", None), ip("10.1.3.5/24", None), ip("fd00::5/64", None)];
    let config = config(r#"{"isDefaultGateway":true}"#);
    let result = complete_addresses(&config, AddResult { ips, ..AddResult::default() }).unwrap();
    assert_eq!(result.routes, vec![route("0.0.0.0/0", Some("10.1.2.1")), route("::/0", Some("fd00::1"))]);
    let want = want(&config, &result);
    assert_eq!(want.gateway.unwrap().addresses.len(), 3, "two gateways of one family live together");
    assert_eq!(want.forwarding, Family::BOTH.to_vec());
}

#[test]
fn a_default_route_of_ipam_is_not_doubled() {
    let config = config(r#"{"isDefaultGateway":true}"#);
    let ipam = AddResult {
        ips: vec![ip("10.1.2.5/24", None)],
        routes: vec![route("0.0.0.0/0", None)],
        ..AddResult::default()
    };
    let result = complete_addresses(&config, ipam).unwrap();
    assert_eq!(result.routes, vec![route("0.0.0.0/0", None)]);
    assert_eq!(want(&config, &result).pod.routes, vec![route("0.0.0.0/0", Some("10.1.2.1"))]);
}

#[test]
fn routes_inherit_the_gateway_unless_they_are_on_the_link() {
    let on_link = Route { scope: Some(253), ..route("10.8.0.0/16", None) };
    let routes = vec![route("10.7.0.0/16", None), on_link.clone(), route("10.7.0.0/16", Some("10.1.2.1"))];
    let result = AddResult { ips: vec![ip("10.1.2.5/24", Some("10.1.2.1"))], routes, ..AddResult::default() };
    let want = want(&config("{}"), &result);
    assert_eq!(want.pod.routes, vec![route("10.7.0.0/16", Some("10.1.2.1")), on_link]);
}

#[test]
fn masquerading_is_per_subnet_and_not_per_address() {
    let ips = vec![ip("10.1.2.5/24", None), ip("10.1.2.6/24", None), ip("10.9.9.9/32", None)];
    let result = AddResult { ips, ..AddResult::default() };
    let want = want(&config(r#"{"ipMasq":true}"#), &result);
    assert_eq!(want.masquerade, vec!["10.1.2.0/24".parse().unwrap(), "10.9.9.9/32".parse().unwrap()]);
}

#[test]
fn a_gateway_of_the_other_family_is_refused() {
    let result = AddResult { ips: vec![ip("10.1.2.5/24", Some("fd00::1"))], ..AddResult::default() };
    let config = config(r#"{"isGateway":true}"#);
    let refused = attachment(&config, &id(), "veth1".parse().unwrap(), &result).unwrap_err();
    assert_eq!(refused.msg, "gateway fd00::1 is not of the family of 10.1.2.5/24");
}

#[test]
fn vlans_of_the_port_follow_access_and_trunk() {
    let vlans = |text: &str| want(&config(text), &AddResult::default()).port.vlans;
    assert_eq!(vlans("{}"), None);
    assert_eq!(vlans(r#"{"vlanTrunk":[]}"#), None);
    let native = |id| VlanId::new(id);
    assert_eq!(
        vlans(r#"{"vlan":100,"preserveDefaultVlan":true}"#),
        Some(Vlans { native: native(100), tagged: vec![], keep_default: true })
    );
    assert_eq!(
        vlans(r#"{"vlanTrunk":[{"id":7}]}"#),
        Some(Vlans { native: native(1), tagged: vec![VlanId::new(7).unwrap()], keep_default: false })
    );
}

#[test]
fn a_gateway_in_a_vlan_needs_a_short_bridge_name() {
    let config = config(r#"{"isGateway":true,"vlan":1000,"bridge":"averylongname"}"#);
    let result = AddResult { ips: vec![ip("10.1.2.5/24", Some("10.1.2.1"))], ..AddResult::default() };
    let refused = attachment(&config, &id(), "veth1".parse().unwrap(), &result).unwrap_err();
    assert_eq!(
        refused.msg,
        "failed to create vlan interface: \"averylongname.1000\": interface name is too long"
    );
}

/// The record of what the configuration wants, as ADD writes it first, and its bytes.
fn recorded(want: &Attachment) -> (Record, Vec<u8>) {
    let records = Records::at(Path::new("/nowhere"), BootId::current().unwrap());
    let mut record = Record::begin(&records, "bridge", &want.id, None);
    record.want = Some(Want::Attachment(Box::new(want.clone())));
    let bytes = serde_json::to_vec(&record).unwrap();
    (serde_json::from_slice(&bytes).unwrap(), bytes)
}

fn completed(config: &Config, addresses: &[&str]) -> AddResult {
    let ips = addresses.iter().map(|address| ip(address, None)).collect();
    complete_addresses(config, AddResult { ips, ..AddResult::default() }).unwrap()
}

#[test]
fn a_record_stays_small() {
    let config = config(r#"{"isDefaultGateway": true, "ipMasq": true, "hairpinMode": true}"#);
    let id = AttachmentId { container: "0123456789abcdef".repeat(4), network: "smartnet".into(), ..id() };
    let result = completed(&config, &["172.38.0.2/16"]);
    let mut want = attachment(&config, &id, "veth0123abcd".parse().unwrap(), &result).unwrap();
    want.pod_name = Some("default/web-0".into());
    let (mut record, _) = recorded(&want);
    record.netns = Some("/var/run/netns/cni-01234567-89ab-cdef-0123-456789abcdef".into());
    record.leases = Leases {
        ipam: Some("smarter-ipam".into()),
        data_dir: Some("/var/run/cni/networks".into()),
        pools: vec![Pool { ranges: "172.38.0.1-172.38.255.254".into(), size: 65_533 }],
    };
    let bytes = serde_json::to_vec(&record).unwrap().len();
    assert!(bytes < 1536, "{bytes} bytes: every ADD writes them twice");
}

/// Records that the release before wrote, over what it was configured by.
#[test]
fn a_record_of_the_release_before_wants_what_its_configuration_did() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/attachments/0.1.0");
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("attachments")).unwrap();
    let mut seen = 0;
    for name in
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap())
    {
        let Some(kind) = name.strip_suffix(".config.json") else { continue };
        let keys: Value = serde_json::from_slice(&std::fs::read(directory.join(&name)).unwrap()).unwrap();
        let old = std::fs::read(directory.join(format!("{kind}.bridge.json"))).unwrap();
        let boot: Value = serde_json::from_slice(&old).unwrap();
        std::fs::write(root.path().join("attachments/0-0.bridge.json"), old).unwrap();
        let boot = BootId::parse(boot["boot_id"].as_str().unwrap()).unwrap();
        let record = Records::at(root.path(), boot).all().unwrap().remove(0);
        let recorded = record.attachment().unwrap_or_else(|| panic!("{kind}"));

        let mut config = config(&keys["bridge"].to_string());
        config.pod_name = Some(format!("shop/{kind}"));
        let ips = record.addresses().iter().map(|own| ip(&own.to_string(), None)).collect();
        // What address management added of routes only the record knows.
        let routes = recorded.pod.routes.clone();
        let given = AddResult { ips, routes, ..AddResult::default() };
        let given = complete_addresses(&config, given).unwrap_or_default();
        let mut wanted = attachment(&config, &record.id, recorded.port.name.clone(), &given).unwrap();
        (wanted.bridge.mac, wanted.port.mac) = (recorded.bridge.mac, recorded.port.mac);
        wanted.pod.mac = recorded.pod.mac;
        assert_eq!(*recorded, wanted, "{kind}");
        assert_eq!(differences(&config, recorded), vec![], "{kind}");
        seen += 1;
    }
    assert_eq!(seen, 12);
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
        "nodeDnsIntercept",
    ];
    let trunk = proptest::collection::vec(1_u16..=4094, 0..4);
    (
        proptest::collection::vec(proptest::option::of(any::<bool>()), switches.len()),
        proptest::option::of(0_u16..=4094),
        proptest::option::of(trunk),
        proptest::option::of(0_u32..9000),
        proptest::option::of("169\\.254\\.0\\.[2-9]"),
        "[a-z]{1,10}",
    )
        .prop_map(move |(on, vlan, trunk, mtu, dns, bridge)| {
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
            if let Some(dns) = dns {
                keys["nodeDns"] = dns.into();
            }
            keys
        })
}

proptest! {
    #[test]
    fn whatever_is_wanted_comes_back_from_the_record(keys in any_config(), v6 in any::<bool>()) {
        let config = config(&keys.to_string());
        let addresses: &[&str] = if v6 { &["10.1.2.5/24", "fd00::5/64"] } else { &["10.1.2.5/24"] };
        let result = completed(&config, addresses);
        for addresses in [&AddResult::default(), &result] {
            let want = want(&config, addresses);
            let (record, _) = recorded(&want);
            prop_assert_eq!(record.attachment(), Some(&want));
        }
        for address in &result.ips {
            let gateway = want(&config, &result).gateway_of(address.address);
            prop_assert_eq!(gateway, address.gateway.filter(|_| config.is_gateway));
        }
    }

    #[test]
    fn every_key_that_changes_is_named(then in any_config(), now in any_config()) {
        let result = |config: &Config| completed(config, &["10.1.2.5/24", "fd00::5/64"]);
        let (then, now) = (config(&then.to_string()), config(&now.to_string()));
        let was = want(&then, &result(&then));
        prop_assert_eq!(differences(&then, &was), vec![]);
        let named = differences(&now, &was);
        // A default route that is there stays, and of a bridge that is made it filters VLANs or not.
        let mut is = want(&now, &result(&now));
        is.pod.routes.clone_from(&was.pod.routes);
        is.bridge.vlan_filtering = was.bridge.vlan_filtering;
        (is.bridge.mac, is.bridge.name) = (was.bridge.mac, is.bridge.name);
        if is != was {
            prop_assert!(!named.is_empty(), "{was:?} became {is:?}");
        }
    }
}
