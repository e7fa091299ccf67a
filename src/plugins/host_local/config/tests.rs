use super::*;
use crate::cni::{ContainerId, NetworkName, Target, Verb, json};

/// A request with this `ipam` and whatever more.
pub(in super::super) fn request(verb: Verb, text: &str, args: &str) -> Request {
    let Json::Object(config) = json::parse(text.as_bytes()).unwrap() else { panic!("{text}") };
    let version = match config.text("cniVersion").unwrap() {
        Some("0.2.0") => SpecVersion::V0_2_0,
        None | Some("") => SpecVersion::V0_1_0,
        _ => SpecVersion::V1_1_0,
    };
    let target = Target {
        container: ContainerId::parse("cid-a").unwrap(),
        if_name: "eth0".parse().unwrap(),
        netns: Some("/proc/self/ns/net".to_owned()),
    };
    Request {
        verb,
        version,
        network: NetworkName::parse(config.text("name").unwrap().unwrap_or("net")).unwrap(),
        target: matches!(verb, Verb::Add | Verb::Del | Verb::Check).then_some(target),
        args: args.to_owned(),
        path: String::new(),
        netns_override: false,
        environment: Vec::new(),
        stdin: text.as_bytes().to_vec(),
        config,
    }
}

fn decode(text: &str, args: &str) -> Result<Config> {
    Config::decode(&request(Verb::Add, text, args))
}

fn ipam(ipam: &str) -> Result<Config> {
    decode(&format!(r#"{{"cniVersion":"1.0.0","name":"net","ipam":{ipam}}}"#), "")
}

fn refused(text: &str) -> String {
    ipam(text).unwrap_err().msg
}

#[test]
fn a_subnet_of_ipv4_in_the_clothes_of_ipv6_is_refused() {
    for subnet in ["::ffff:10.0.0.0/104", "::ffff:a00:0/120", "0:0:0:0:0:ffff:10.1.2.0/120"] {
        for text in [
            format!(r#"{{"type":"x","subnet":"{subnet}"}}"#),
            format!(r#"{{"type":"x","ranges":[[{{"subnet":"{subnet}"}}]]}}"#),
        ] {
            let error = ipam(&text).unwrap_err();
            assert_eq!(error.msg, "IPNet IP and Mask version mismatch", "{text}");
            assert!(error.details.contains("write 10."), "{}", error.details);
        }
    }
}

#[test]
fn the_three_sources_of_ranges_come_in_order() {
    let config = decode(
        r#"{"cniVersion":"1.0.0","name":"net",
            "runtimeConfig":{"ipRanges":[[{"Subnet":"10.3.0.0/24"}]]},
            "ipam":{"type":"x","subnet":"10.1.0.0/24","rangeStart":"10.1.0.9","gateway":"10.1.0.254",
                    "ranges":[[{"subnet":"10.2.0.0/24"},{"subnet":"10.4.0.0/24"}],[{"subnet":"fd00::/64"}]]}}"#,
        "",
    )
    .unwrap();
    let sets: Vec<String> = config.sets.iter().map(ToString::to_string).collect();
    assert_eq!(
        sets,
        [
            "10.3.0.1-10.3.0.254",
            "10.1.0.9-10.1.0.254",
            "10.2.0.1-10.2.0.254,10.4.0.1-10.4.0.254",
            "fd00::1-fd00::ffff:ffff:ffff:ffff"
        ]
    );
    assert_eq!(config.data_dir, PathBuf::from("/var/lib/cni/networks"));
    assert_eq!(config.resolv_conf, None);
}

#[test]
fn the_other_three_fields_count_only_with_a_subnet() {
    assert_eq!(refused(r#"{"rangeStart":"10.0.0.1","gateway":"10.0.0.1"}"#), "no IP ranges specified");
    assert_eq!(refused(r#"{"ranges":[]}"#), "no IP ranges specified");
    assert_eq!(refused(r#"{"rangeStart":"x","gateway":"10.0.0.1"}"#), "invalid IP address: x");
}

#[test]
fn requests_add_up_and_count_once() {
    let text = r#"{"cniVersion":"1.0.0","name":"net","ipam":{"subnet":"10.1.0.0/24"},
        "args":{"cni":{"ips":["10.1.0.5","10.1.0.6/16"]}},"runtimeConfig":{"ips":["fd00::1/64","10.1.0.5"]}}"#;
    let config = decode(text, "IP=10.1.0.6;IgnoreUnknown=1").unwrap();
    let requested: Vec<String> = config.requested.iter().map(ToString::to_string).collect();
    assert_eq!(requested, ["10.1.0.6", "10.1.0.5", "fd00::1"]);
    let bad = |ip: &str| {
        let text = format!(
            r#"{{"cniVersion":"1.0.0","name":"net","ipam":{{"subnet":"10.1.0.0/24"}},"runtimeConfig":{{"ips":[{ip}]}}}}"#
        );
        decode(&text, "").unwrap_err()
    };
    assert_eq!(bad("\"\"").msg, "cannot understand ip: IP <nil> not v4 nor v6");
    assert_eq!(bad("\"bogus\"").msg, "invalid IP address bogus");
    assert_eq!(bad("null").code, Code::InvalidNetworkConfig);
}

#[test]
fn what_is_wrong_is_said_as_upstream_says_it() {
    for (text, why) in [
        ("null", "IPAM config missing 'ipam' key"),
        (r#"{"subnet":"10.9.0.0/33"}"#, "invalid CIDR address: 10.9.0.0/33"),
        (r#"{"subnet":"10.9.0.0/24","gateway":"10.9.0.0.1"}"#, "invalid IP address: 10.9.0.0.1"),
        (r#"{"ranges":[[]]}"#, "invalid range set 0: empty range set"),
        (r#"{"ranges":[[{"subnet":"10.9.0.0/24"}],null]}"#, "invalid range set 1: empty range set"),
        (r#"{"ranges":[[{}]]}"#, "invalid range set 0: IP <nil> not v4 nor v6"),
        (
            r#"{"subnet":"10.9.0.0/31"}"#,
            "invalid range set 0: Network 10.9.0.0/31 too small to allocate from",
        ),
        (
            r#"{"ranges":[[{"subnet":"10.9.0.0/24"},{"subnet":"fd00::/64"}]]}"#,
            "invalid range set 0: mixed address families",
        ),
        (
            r#"{"ranges":[[{"subnet":"10.9.0.0/24"}],[{"subnet":"10.9.0.0/25"}]]}"#,
            "range set 0 overlaps with 1",
        ),
        (
            r#"{"subnet":"10.9.0.0/24","routes":[{"gw":"10.9.0.1"}]}"#,
            "ipam.routes[0].dst: expected a string, found nothing",
        ),
        (r#"{"ranges":[7]}"#, "ipam.ranges[0]: expected an array of ranges, found the number 7"),
        (r#"{"subnet":"10.9.0.0/24","dataDir":7}"#, "ipam.dataDir: expected a string, found the number 7"),
    ] {
        assert_eq!(refused(text), why);
    }
}

#[test]
fn old_versions_have_one_address_per_family() {
    let two = |version: &str| {
        let text = format!(
            r#"{{{version}"name":"net","ipam":{{"ranges":[[{{"subnet":"10.1.0.0/24"}}],[{{"subnet":"10.2.0.0/24"}}]]}}}}"#
        );
        decode(&text, "").map(|config| config.sets.len())
    };
    assert_eq!(two(r#""cniVersion":"1.0.0","#), Ok(2));
    assert_eq!(
        two(r#""cniVersion":"0.2.0","#).unwrap_err().msg,
        "CNI version 0.2.0 does not support more than 1 address per family"
    );
    assert_eq!(two("").unwrap_err().msg, "CNI version  does not support more than 1 address per family");
    let dual = r#"{"name":"net","ipam":{"ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00::/64"}]]}}"#;
    assert!(decode(dual, "").is_ok());
}

#[test]
fn removal_needs_the_data_dir_alone() {
    let dir = |text: &str| {
        data_dir(&request(Verb::Del, text, "").config).map(|dir| dir.map(|dir| dir.display().to_string()))
    };
    let broken =
        r#"{"name":"net","ipam":{"subnet":"nonsense","ranges":7,"routes":[null],"dataDir":"/x"},"args":3}"#;
    assert_eq!(dir(broken), Ok(Some("/x".to_owned())));
    for none in [r#"{"name":"net"}"#, r#"{"name":"net","ipam":7}"#, r#"{"name":"net","ipam":{"dataDir":""}}"#]
    {
        assert_eq!(dir(none), Ok(None));
    }
    assert!(dir(r#"{"name":"net","ipam":{"dataDir":7}}"#).is_err());
}

#[test]
fn status_does_not_miss_ranges_that_come_with_the_add() {
    let status = |text: &str| Config::decode_for_status(&request(Verb::Status, text, ""));
    assert!(status(r#"{"cniVersion":"1.1.0","name":"net","ipam":{}}"#).unwrap().is_none());
    assert!(
        status(r#"{"cniVersion":"1.1.0","name":"net","ipam":{"subnet":"10.0.0.0/24"}}"#).unwrap().is_some()
    );
    assert!(status(r#"{"cniVersion":"1.1.0","name":"net","ipam":{"subnet":"10.0.0.1/24"}}"#).is_err());
}
