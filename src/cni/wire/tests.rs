mod layouts;

use proptest::prelude::*;

use super::*;
use crate::cni::json::{self, Json, Object};
use crate::cni::result::{Dns, Interface, IpConfig};
use crate::net::{Route, network_of};

fn object(text: &str) -> Object {
    match json::parse(text.as_bytes()) {
        Ok(Json::Object(object)) => object,
        other => panic!("{text}: {other:?}"),
    }
}

fn ip(text: &str, gateway: Option<&str>, interface: Option<i64>) -> IpConfig {
    let gateway = gateway.map(|gateway| gateway.parse().unwrap());
    IpConfig { interface, address: text.parse().unwrap(), gateway }
}

fn route(dst: &str, gw: &str) -> Route {
    Route::to(dst.parse().unwrap(), gw.parse().ok())
}

/// Everything a result can say.
fn full() -> AddResult {
    let host =
        Interface { name: "veth<1>".into(), mac: Some("02:00:00:00:00:01".into()), ..Interface::default() };
    let pod = Interface {
        name: "eth0".into(),
        mtu: Some(1400),
        sandbox: Some("/run/netns/x".into()),
        socket_path: Some("/s".into()),
        pci_id: Some("0000:00".into()),
        ..Interface::default()
    };
    let special = Route {
        mtu: Some(1300),
        advmss: Some(1200),
        priority: Some(7),
        table: Some(0),
        scope: Some(0),
        ..route("10.9.0.0/16", "")
    };
    AddResult {
        interfaces: vec![host, pod],
        ips: vec![
            ip("10.1.2.5/24", Some("10.1.2.1"), Some(0)),
            ip("fd00::5/64", None, None),
            ip("10.3.0.1/8", None, Some(1)),
        ],
        routes: vec![route("0.0.0.0/0", "10.1.2.1"), route("::/0", "fd00::1"), special],
        dns: Dns {
            nameservers: vec!["1.1.1.1".into()],
            domain: "d".into(),
            search: vec!["s".into()],
            options: vec!["o".into()],
        },
    }
}

/// What is left of a result after it was said in a version.
fn as_said(mut result: AddResult, version: SpecVersion) -> AddResult {
    match Layout::of(version) {
        Layout::Sorted => {}
        Layout::Lists => {
            for interface in &mut result.interfaces {
                (interface.mtu, interface.socket_path, interface.pci_id) = (None, None, None);
            }
        }
        Layout::Ip4Ip6 => {
            result.interfaces.clear();
            let (v4, v6): (Vec<_>, Vec<_>) = result.ips.iter().cloned().partition(|ip| ip.address.is_ipv4());
            let firsts = [v4.first(), v6.first()].into_iter().flatten();
            result.ips = firsts.map(|ip| IpConfig { interface: None, ..ip.clone() }).collect();
            let (r4, r6): (Vec<_>, Vec<_>) = result.routes.iter().partition(|route| route.dst.is_ipv4());
            let r4 = r4.into_iter().filter(|_| !v4.is_empty());
            let r6 = r6.into_iter().filter(|_| !v6.is_empty());
            result.routes = r4.chain(r6).map(|route| Route::to(route.dst, route.gw)).collect();
        }
    }
    result
}

#[test]
fn what_one_version_says_is_read_back_whatever_the_configuration_s_version() {
    for said in SpecVersion::ALL {
        let text = render(&full(), said).unwrap();
        for assumed in SpecVersion::ALL {
            assert_eq!(
                parse_result(&object(&text), assumed).unwrap(),
                as_said(full(), said),
                "{said} {assumed}"
            );
        }
    }
}

#[test]
fn a_result_without_a_version_has_the_configuration_s() {
    let lists = r#""ips":[{"version":"4","address":"10.1.2.5/24"}]"#;
    for start in ["", r#""cniVersion":"","#, r#""cniVersion":null,"#, r#""cniVersion":5,"#] {
        let document = object(&format!("{{{start}{lists}}}"));
        for version in SpecVersion::ALL {
            let ips = parse_result(&document, version).unwrap().ips.len();
            assert_eq!(ips, usize::from(version >= SpecVersion::V0_3_0));
        }
    }
    let error = parse_result(&object(r#"{"cniVersion":"x\n"}"#), SpecVersion::V1_0_0).unwrap_err();
    assert_eq!((error.code.number(), &*error.msg), (999, "unsupported CNI result version \"x\\n\""));
}

#[test]
fn mtu_and_its_like_belong_to_the_newest_layout() {
    let text = r#""interfaces":[{"name":"a","mtu":9,"socketPath":"/s","pciID":"p","mac":"","sandbox":""}]"#;
    let read = |version: &str| {
        let document = object(&format!(r#"{{"cniVersion":"{version}",{text}}}"#));
        parse_result(&document, SpecVersion::V0_1_0).unwrap().interfaces.remove(0)
    };
    let bare = Interface { name: "a".into(), ..Interface::default() };
    assert_eq!(read("0.4.0"), bare);
    let whole = Interface { mtu: Some(9), socket_path: Some("/s".into()), pci_id: Some("p".into()), ..bare };
    assert_eq!(read("1.0.0"), whole);
}

#[test]
fn a_broken_result_says_where_it_is_broken() {
    for (text, says) in [
        (r#"{"ips":[null]}"#, "ips[0]: expected an object, found null"),
        (r#"{"interfaces":[null]}"#, "interfaces[0]: expected an object, found null"),
        (r#"{"routes":[{"dst":"0.0.0.0/0"},null]}"#, "routes[1]: expected an object, found null"),
        (r#"{"routes":[{"gw":"10.0.0.1"}]}"#, "routes[0].dst: expected a string, found nothing"),
        (
            r#"{"routes":[{"dst":"::/0","scope":256}]}"#,
            "routes[0].scope: expected an integer from 0 to 255, found the number 256",
        ),
        (r#"{"ips":[{}]}"#, "ips[0].address: expected a string, found nothing"),
        (r#"{"ips":[{"address":"10.0.0.1"}]}"#, "invalid CIDR address: 10.0.0.1"),
        (r#"{"dns":[]}"#, "dns: expected an object, found an array"),
    ] {
        for version in &SpecVersion::ALL[2..] {
            let error = parse_result(&object(text), *version).unwrap_err();
            assert_eq!((error.code.number(), &*error.msg), (999, says));
        }
    }
    for text in [r#"{"ip4":{}}"#, r#"{"ip4":{"ip":"10.0.0.1/8","routes":[null]}}"#, r#"{"ip6":[]}"#] {
        assert!(parse_result(&object(text), SpecVersion::V0_2_0).is_err());
    }
    let version =
        parse_result(&object(r#"{"ips":[{"address":"10.0.0.1/8","version":4}]}"#), SpecVersion::V0_4_0);
    assert_eq!(version.unwrap_err().msg, "ips[0].version: expected a string, found the number 4");
}

#[test]
fn host_bits_of_a_route_are_cut_off() {
    let document = object(r#"{"routes":[{"dst":"10.0.0.5/8","table":0,"priority":0}]}"#);
    let routes = parse_result(&document, SpecVersion::V1_0_0).unwrap().routes;
    assert_eq!(routes, [Route { table: Some(0), ..route("10.0.0.0/8", "") }]);
}

#[test]
fn a_previous_result_must_be_of_the_configuration_s_family() {
    for config in SpecVersion::ALL {
        for said in SpecVersion::ALL {
            let parsed = parse_prev_result(&object(&render(&full(), said).unwrap()), config);
            if Layout::of(config) == Layout::of(said) {
                assert_eq!(parsed.unwrap(), as_said(full(), said));
                continue;
            }
            let family = match Layout::of(config) {
                Layout::Ip4Ip6 => "[ 0.1.0 0.2.0]",
                Layout::Lists => "[0.3.0 0.3.1 0.4.0]",
                Layout::Sorted => "[1.0.0 1.1.0]",
            };
            let says = format!(
                "could not parse prevResult: result type supports {family} but unmarshalled CNIVersion is \"{said}\""
            );
            assert_eq!(parsed.unwrap_err().msg, says);
        }
    }
}

#[test]
fn a_previous_result_may_leave_its_version_out_but_not_empty() {
    for config in SpecVersion::ALL {
        for absent in ["{}", r#"{"cniVersion":null}"#] {
            assert_eq!(parse_prev_result(&object(absent), config).unwrap(), AddResult::default());
        }
        let empty = parse_prev_result(&object(r#"{"cniVersion":""}"#), config);
        assert_eq!(empty.is_ok(), Layout::of(config) == Layout::Ip4Ip6);
        let number = parse_prev_result(&object(r#"{"cniVersion":1}"#), config).unwrap_err();
        assert!(number.msg.starts_with("could not parse prevResult: "));
    }
}

#[test]
fn unknown_keys_are_dropped_on_the_way_through() {
    let document = object(r#"{"x":1,"ips":[{"address":"10.1.2.5/24","y":2}],"dns":{"z":3}}"#);
    let result = parse_prev_result(&document, SpecVersion::V1_1_0).unwrap();
    let text: String = render(&result, SpecVersion::V1_1_0).unwrap().split_whitespace().collect();
    assert_eq!(text, r#"{"cniVersion":"1.1.0","ips":[{"address":"10.1.2.5/24"}]}"#);
}

fn any_version() -> impl Strategy<Value = SpecVersion> {
    prop::sample::select(SpecVersion::ALL.to_vec())
}

prop_compose! {
    fn any_ip()(
        v4 in any::<Option<u32>>(),
        v6 in any::<u128>(),
        prefix in 0u8..=32,
        interface in any::<Option<i64>>(),
    ) -> IpConfig {
        let ip = v4.map_or_else(|| std::net::IpAddr::V6(v6.into()), |v4| std::net::IpAddr::V4(v4.into()));
        let address = ipnetwork::IpNetwork::new(ip, prefix).unwrap();
        IpConfig { interface, address, gateway: Some(ip.to_canonical()) }
    }
}

prop_compose! {
    fn any_result()(
        names in prop::collection::vec(".{0,6}", 0..3),
        ips in prop::collection::vec(any_ip(), 0..4),
        gateways in prop::collection::vec(any_ip(), 0..4),
        dns in prop::collection::vec(".{0,4}", 0..3),
    ) -> AddResult {
        AddResult {
            interfaces: names.into_iter().map(|name| Interface { name, ..Interface::default() }).collect(),
            ips,
            routes: gateways.into_iter().map(|ip| Route::to(network_of(ip.address), ip.gateway)).collect(),
            dns: Dns { search: dns.clone(), domain: dns.concat(), ..Dns::default() },
        }
    }
}

proptest! {
    #[test]
    fn any_result_is_read_back_as_it_was_said(result in any_result(), version in any_version()) {
        if let Ok(text) = render(&result, version) {
            prop_assert_eq!(parse_result(&object(&text), SpecVersion::V0_1_0).unwrap(), as_said(result, version));
        }
    }

    #[test]
    fn no_document_makes_result_parsing_panic(value in json::tests::any_json(), version in any_version()) {
        if let Ok(Json::Object(object)) = json::parse(value.to_string().as_bytes()) {
            let _ = parse_result(&object, version).and_then(|result| render(&result, version));
            let _ = parse_prev_result(&object, version);
        }
    }
}
