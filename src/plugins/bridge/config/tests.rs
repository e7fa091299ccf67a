//! Every key, its default, and what a wrong value gets.

use super::*;
use crate::cni::json::{self, Json};

fn object(text: &str) -> Object {
    match json::parse(text.as_bytes()).unwrap() {
        Json::Object(object) => object,
        other => panic!("{other:?}"),
    }
}

fn parse(text: &str) -> Result<Config> {
    Config::parse(&object(text), "")
}

#[track_caller]
fn assert_refused(text: &str, expected: &str) {
    assert_eq!(parse(text).unwrap_err().msg, expected);
}

#[test]
fn an_empty_configuration_is_a_layer_2_bridge_called_cni0() {
    let config = parse("{}").unwrap();
    assert_eq!(config.bridge.as_str(), "cni0");
    assert_eq!((config.ipam, config.mtu, config.vlan, config.trunk), (None, None, None, None));
    assert!(!config.is_gateway && !config.ip_masq && !config.hairpin && !config.preserve_default_vlan);
    assert_eq!(parse(r#"{"ipam":{"type":""}}"#).unwrap().ipam, None);
}

#[test]
fn keys_match_in_any_case_and_a_default_gateway_is_a_gateway() {
    let config = parse(r#"{"BRIDGE":"br9","IsDefaultGateway":true,"HairpinMode":true,"mtu":1400}"#).unwrap();
    assert_eq!((config.bridge.as_str(), config.mtu), ("br9", Some(1400)));
    assert!(config.is_gateway && config.is_default_gateway && config.hairpin);
    assert_eq!(parse(r#"{"mtu":-5}"#).unwrap().mtu, None);
}

#[test]
fn wrong_values_are_refused_by_name() {
    assert_refused(
        r#"{"bridge":""}"#,
        r#"failed to create bridge "": could not add "": LinkAttrs.Name cannot be empty"#,
    );
    assert_refused(
        r#"{"bridge":"0123456789abcdef"}"#,
        r#"failed to create bridge "0123456789abcdef": could not add "0123456789abcdef": interface name is too long"#,
    );
    assert_refused(r#"{"vlan":4095}"#, "invalid VLAN ID 4095 (must be between 0 and 4094)");
    assert_refused(r#"{"vlan":-1}"#, "invalid VLAN ID -1 (must be between 0 and 4094)");
    for nobody_masquerades in
        [r#"{"ipMasqBackend":"foo","ipam":{"type":"x"}}"#, r#"{"ipMasq":true,"ipMasqBackend":"foo"}"#]
    {
        assert!(!parse(nobody_masquerades).unwrap().asked_for_iptables);
    }
    assert_refused(
        r#"{"ipMasq":true,"ipMasqBackend":"foo","ipam":{"type":"x"}}"#,
        r#"unknown ipmasq backend "foo""#,
    );
    assert_refused(
        r#"{"disableContainerInterface":true,"ipam":{"type":"host-local"}}"#,
        "cannot use IPAM when DisableContainerInterface flag is set",
    );
    for nobodys in ["dns", "fd00::2", "127.0.0.1", "0.0.0.0", "224.0.0.251"] {
        let refused = format!(r#"{{"nodeDns":"{nobodys}"}}"#);
        assert_refused(&refused, &format!("invalid nodeDns {nobodys:?}"));
    }
    assert_refused(
        r#"{"runtimeConfig":{"mac":"zz"}}"#,
        "failed to make veth pair: address zz: invalid MAC address",
    );
    assert!(
        parse(r#"{"isGateway":"yes"}"#).unwrap_err().msg.starts_with("failed to load netconf: isGateway")
    );
}

#[test]
fn hairpin_and_promiscuous_mode_exclude_each_other() {
    let config = parse(r#"{"hairpinMode":true,"promiscMode":true}"#).unwrap();
    let refused = config.refuse_contradictions().unwrap_err();
    assert_eq!(refused.msg, "cannot set hairpin mode and promiscuous mode at the same time");
}

#[test]
fn both_backends_of_ip_masq_are_accepted() {
    assert!(
        parse(r#"{"ipMasq":true,"ipMasqBackend":"iptables","ipam":{"type":"x"}}"#)
            .unwrap()
            .asked_for_iptables
    );
    assert!(
        !parse(r#"{"ipMasq":true,"ipMasqBackend":"nftables","ipam":{"type":"x"}}"#)
            .unwrap()
            .asked_for_iptables
    );
    assert!(
        !parse(r#"{"ipMasq":true,"ipMasqBackend":null,"ipam":{"type":"x"}}"#).unwrap().asked_for_iptables
    );
}

#[test]
fn the_runtime_config_decides_the_mac_before_args_and_before_the_environment() {
    let mac =
        |text: &str, args: &str| Config::parse(&object(text), args).unwrap().mac.map(|mac| mac.to_string());
    let both = r#"{"args":{"cni":{"mac":"02:00:00:00:00:02"}},"RuntimeConfig":{"Mac":"02:00:00:00:00:03"}}"#;
    assert_eq!(mac(both, "MAC=02:00:00:00:00:01").as_deref(), Some("02:00:00:00:00:03"));
    let args = r#"{"args":{"cni":{"mac":"02:00:00:00:00:02"}}}"#;
    assert_eq!(mac(args, "MAC=02:00:00:00:00:01").as_deref(), Some("02:00:00:00:00:02"));
    assert_eq!(mac("{}", "MAC=02:00:00:00:00:01").as_deref(), Some("02:00:00:00:00:01"));
    assert_eq!(mac("{}", ""), None);
}

fn trunk_of(elements: &str) -> Result<Vec<u16>> {
    let config = parse(&format!(r#"{{"vlanTrunk":{elements}}}"#))?;
    Ok(config.trunk.unwrap().into_iter().map(VlanId::id).collect())
}

#[test]
fn a_trunk_is_a_sorted_set_of_vlans() {
    assert_eq!(trunk_of(r#"[{"id":30},{"minID":10,"maxID":12},{"id":11},{}]"#).unwrap(), [10, 11, 12, 30]);
    assert_eq!(trunk_of("[]").unwrap(), [] as [u16; 0]);
    assert!(parse(r#"{"vlanTrunk":[]}"#).unwrap().vlan_filtering());
    assert!(!parse(r#"{"vlanTrunk":null}"#).unwrap().vlan_filtering());
}

#[test]
fn a_wrong_trunk_is_refused_by_the_parameter() {
    for (elements, expected) in [
        (r#"[{"minID":0,"maxID":5}]"#, "incorrect trunk minID parameter"),
        (r#"[{"minID":1,"maxID":4095}]"#, "incorrect trunk maxID parameter"),
        (r#"[{"minID":5,"maxID":4}]"#, "minID is greater than maxID in trunk parameter"),
        (r#"[{"maxID":4}]"#, "minID and maxID should be configured simultaneously, minID is missing"),
        (r#"[{"minID":4}]"#, "minID and maxID should be configured simultaneously, maxID is missing"),
        (r#"[{"id":4095}]"#, "incorrect trunk id parameter"),
    ] {
        assert_eq!(trunk_of(elements).unwrap_err().msg, expected);
    }
    assert!(trunk_of("[null]").is_err());
}

#[test]
fn removal_forgives_everything() {
    let config = RemovalConfig::read(&object(
        r#"{"bridge":"a/b","vlan":9999,"ipam":{"type":"host-local"},"mtu":"x"}"#,
    ));
    assert_eq!(
        config,
        RemovalConfig { bridge: None, ipam: Some("host-local".into()), spoof_check: false, drain: false }
    );
    assert_eq!(RemovalConfig::read(&object("{}")).bridge.unwrap().as_str(), "cni0");
}

#[test]
fn the_pod_is_named_as_the_runtime_names_it() {
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0";
    assert_eq!(Config::parse(&object("{}"), args).unwrap().pod_name.as_deref(), Some("default/web-0"));
    let odd = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web 0";
    assert_eq!(Config::parse(&object("{}"), odd).unwrap().pod_name, None);
}

#[test]
fn an_annotation_names_the_pod_as_far_as_hosts_may_be_called_so() {
    let names = |annotations: &str| -> String {
        let text = format!(r#"{{"runtimeConfig":{{"io.kubernetes.cri.pod-annotations":{annotations}}}}}"#);
        parse(&text).unwrap().names.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>().join(" ")
    };
    let annotated = |value: &str| names(&format!(r#"{{"other":"x","smarter-cni/dns-names":{value}}}"#));
    assert_eq!(annotated(r#""mqtt, Broker ,mqtt""#), "mqtt broker");
    assert_eq!(annotated(r#"",a.b,-x,*,../etc,a b,\u001b[2J,good""#), "good");
    let many: Vec<String> = (0..40).map(|at| format!("n{at}")).collect();
    assert_eq!(annotated(&format!("{:?}", many.join(","))).split(' ').count(), 16);
    assert_eq!(annotated(&format!("{:?}", "x,".repeat(4000))), "");
    // None of them is a reason not to start a pod.
    for strange in ["null", "5", "[]", "{}", r#""""#] {
        assert_eq!(annotated(strange), "", "{strange}");
    }
    for strange in ["null", "[]", "5", "{}"] {
        assert_eq!(names(strange), "", "{strange}");
    }
}
