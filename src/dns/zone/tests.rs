use super::super::name::shown;
use super::*;

pub(super) fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

pub(super) fn pod(namespace: &str, hosts: &[&str], addresses: &[&str]) -> Pod {
    Pod {
        namespace: Some(label(namespace)),
        hosts: hosts.iter().map(|host| label(host)).collect(),
        subdomain: None,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    }
}

pub(super) fn contents(pods: Vec<Pod>) -> Contents {
    Contents {
        domain: Name::parse("cluster.local").unwrap(),
        server: [169, 254, 0, 2].into(),
        gateways: vec![[10, 77, 0, 1].into()],
        pods,
        host_pods: Vec::new(),
        hosts: Vec::new(),
        ranges: vec!["10.77.0.0/24".parse().unwrap(), "fd77::/64".parse().unwrap()],
        forwards_single_labels: false,
        has_cluster_upstream: false,
    }
}

fn zone() -> Zone {
    Zone::build(&contents(vec![
        pod("ns1", &["web", "web-7c9"], &["10.77.0.7"]),
        pod("ns2", &["db"], &["10.77.0.8", "fd77::8"]),
        pod("ns1", &["rep"], &["10.77.0.20"]),
        pod("ns1", &["rep"], &["10.77.0.21"]),
        pod("ns2", &["rep"], &["10.77.0.22"]),
        Pod { subdomain: Some(label("shop")), ..pod("ns1", &["mail", "mail-0"], &["10.77.0.9"]) },
        Pod { namespace: None, ..pod("x", &["lone"], &["10.77.0.30"]) },
        pod("ns3", &["svc"], &["10.77.0.40"]),
        Pod { hosts: Vec::new(), ..pod("ns4", &[], &["10.77.0.50"]) },
    ]))
}

const WEB: [u8; 4] = [10, 77, 0, 7];
const DB: [u8; 4] = [10, 77, 0, 8];

/// In words: the records, or why there are none, with the zone that says so.
pub(super) fn said(zone: &Zone, name: &str, kind: Rtype, source: impl Into<IpAddr>, turn: usize) -> String {
    let name = if name == "." { Name::root() } else { Name::parse(name).unwrap() };
    match zone.look(name.as_wire(), kind, source.into(), turn) {
        Look::Forward => "forward".to_owned(),
        Look::ClusterUpstream => "cluster".to_owned(),
        Look::Local(Answer { exists, records, apex }) => match records {
            Records::None => {
                let what = if exists { "nodata" } else { "nxdomain" };
                format!("{what} {}", shown(&name.as_wire()[apex..]))
            }
            Records::Soa => "soa".to_owned(),
            Records::Ns => "ns".to_owned(),
            Records::Pointers(names) => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Records::Addresses(addresses) => {
                addresses.iter().map(|address| address.to_string()).collect::<Vec<_>>().join(" ")
            }
        },
    }
}

#[test]
fn a_pod_has_its_names_in_every_form() {
    let zone = zone();
    for name in [
        "web.ns1.svc.cluster.local",
        "web-7c9.ns1.svc.cluster.local",
        "web.ns1.pod.cluster.local",
        "10-77-0-7.ns1.pod.cluster.local",
        "web.svc.cluster.local",
        "web.cluster.local",
        "web",
        "web-7c9",
    ] {
        assert_eq!(said(&zone, name, Rtype::A, DB, 0), "10.77.0.7", "{name}");
    }
    assert_eq!(said(&zone, "mail.shop.ns1.svc.cluster.local", Rtype::A, DB, 0), "10.77.0.9");
    assert_eq!(said(&zone, "fd77--8.ns2.pod.cluster.local", Rtype::AAAA, WEB, 0), "fd77::8");
    assert_eq!(said(&zone, "db", Rtype::AAAA, WEB, 0), "fd77::8");
    assert_eq!(said(&zone, "db", Rtype::ANY, WEB, 0), "10.77.0.8 fd77::8");
    assert_eq!(said(&zone, "lone", Rtype::A, WEB, 0), "10.77.0.30");
    // The subdomain is that of the canonical host, and a pod is not found in another namespace.
    for missing in [
        "mail-0.shop.ns1.svc.cluster.local",
        "web.ns2.svc.cluster.local",
        "web.ns1.cluster.local",
        "10-77-0-7.ns2.pod.cluster.local",
    ] {
        assert_eq!(said(&zone, missing, Rtype::A, WEB, 0), "nxdomain cluster.local.", "{missing}");
    }
    // Who has no name is found by its address.
    assert_eq!(said(&zone, "10-77-0-50.ns4.pod.cluster.local", Rtype::A, WEB, 0), "10.77.0.50");
}

#[test]
fn an_existing_name_without_such_records_is_no_missing_one() {
    let zone = zone();
    for kind in [
        Rtype::AAAA,
        Rtype::TXT,
        Rtype::MX,
        Rtype::SRV,
        Rtype::HTTPS,
        Rtype::from_int(1000),
        Rtype::NS,
        Rtype::DS,
    ] {
        assert_eq!(said(&zone, "web.ns1.svc.cluster.local", kind, WEB, 0), "nodata cluster.local.", "{kind}");
    }
    assert_eq!(said(&zone, "web", Rtype::AAAA, WEB, 0), "nodata .");
    // What is only above names exists as well (RFC 8020).
    for between in [
        "ns1.svc.cluster.local",
        "svc.cluster.local",
        "pod.cluster.local",
        "shop.ns1.svc.cluster.local",
        "cluster.local",
    ] {
        assert_eq!(said(&zone, between, Rtype::A, WEB, 0), "nodata cluster.local.", "{between}");
    }
    for missing in [
        "nosuch.ns1.svc.cluster.local",
        "ns9.svc.cluster.local",
        "web.ns1.svc.cluster.local.cluster.local",
        "a.web.ns1.svc.cluster.local",
        "example.test.ns1.svc.cluster.local",
    ] {
        assert_eq!(said(&zone, missing, Rtype::A, WEB, 0), "nxdomain cluster.local.", "{missing}");
    }
}

#[test]
fn the_asker_s_own_namespace_comes_first() {
    let zone = zone();
    for name in ["rep", "rep.cluster.local", "rep.svc.cluster.local"] {
        assert_eq!(said(&zone, name, Rtype::A, DB, 0), "10.77.0.22", "{name}");
        assert_eq!(said(&zone, name, Rtype::A, WEB, 0), "10.77.0.20 10.77.0.21", "{name}");
        // Of nobody's namespace, or of one without such a pod.
        assert_eq!(
            said(&zone, name, Rtype::A, [127, 0, 0, 1], 0),
            "10.77.0.20 10.77.0.21 10.77.0.22",
            "{name}"
        );
    }
}

#[test]
fn replicas_take_turns() {
    let zone = zone();
    let name = "rep.ns1.svc.cluster.local";
    assert_eq!(said(&zone, name, Rtype::A, DB, 1), "10.77.0.21 10.77.0.20");
    assert_eq!(said(&zone, name, Rtype::A, DB, 2), "10.77.0.20 10.77.0.21");
    assert_eq!(said(&zone, name, Rtype::A, DB, usize::MAX), "10.77.0.21 10.77.0.20");
}

#[test]
fn the_apex_has_what_an_apex_has() {
    let zone = zone();
    assert_eq!(said(&zone, "cluster.local", Rtype::SOA, WEB, 0), "soa");
    assert_eq!(said(&zone, "cluster.local", Rtype::NS, WEB, 0), "ns");
    assert_eq!(said(&zone, "cluster.local", Rtype::DS, WEB, 0), "nodata cluster.local.");
    assert_eq!(said(&zone, "svc.cluster.local", Rtype::SOA, WEB, 0), "nodata cluster.local.");
    assert_eq!(said(&zone, "ns.dns.cluster.local", Rtype::A, WEB, 0), "169.254.0.2");
    // A pod of that name does not change what the domain is.
    assert_eq!(said(&zone, "svc.ns3.svc.cluster.local", Rtype::A, WEB, 0), "10.77.0.40");
    assert_eq!(said(&zone, "svc", Rtype::A, WEB, 0), "10.77.0.40");
}

#[test]
fn single_labels_and_the_domain_stay_here() {
    let zone = zone();
    assert_eq!(said(&zone, "nosuch", Rtype::A, WEB, 0), "nxdomain .");
    assert_eq!(said(&zone, "example.test", Rtype::A, WEB, 0), "forward");
    assert_eq!(said(&zone, ".", Rtype::NS, WEB, 0), "forward");
    // That nothing is below com would be believed.
    assert_eq!(said(&zone, "com", Rtype::DS, WEB, 0), "forward");
    let zone = Zone::build(&Contents {
        forwards_single_labels: true,
        ..contents(vec![pod("ns1", &["web"], &["10.77.0.7"])])
    });
    assert_eq!(said(&zone, "nosuch", Rtype::A, WEB, 0), "forward");
    assert_eq!(said(&zone, "web", Rtype::AAAA, WEB, 0), "nodata .");
}

#[test]
fn a_server_of_the_cluster_knows_the_rest_of_the_domain() {
    let zone = Zone::build(&Contents {
        has_cluster_upstream: true,
        ..contents(vec![pod("ns1", &["web"], &["10.77.0.7"])])
    });
    assert_eq!(said(&zone, "web.ns1.svc.cluster.local", Rtype::A, WEB, 0), "10.77.0.7");
    assert_eq!(said(&zone, "web.ns1.svc.cluster.local", Rtype::AAAA, WEB, 0), "nodata cluster.local.");
    // Services of the cluster may be there, and below it.
    for name in ["ns1.svc.cluster.local", "kubernetes.default.svc.cluster.local", "svc.cluster.local"] {
        assert_eq!(said(&zone, name, Rtype::A, WEB, 0), "cluster", "{name}");
    }
    assert_eq!(said(&zone, "cluster.local", Rtype::SOA, WEB, 0), "soa");
    assert_eq!(said(&zone, "nosuch", Rtype::A, WEB, 0), "nxdomain .");
}

#[test]
fn pointers_lead_back_to_all_names_in_the_namespace() {
    let zone = zone();
    assert_eq!(
        said(&zone, "7.0.77.10.in-addr.arpa", Rtype::PTR, WEB, 0),
        "web.ns1.svc.cluster.local. web.ns1.pod.cluster.local. web-7c9.ns1.svc.cluster.local. web-7c9.ns1.pod.cluster.local."
    );
    let v6 = Name::reverse("fd77::8".parse().unwrap()).to_string();
    assert_eq!(said(&zone, &v6, Rtype::PTR, WEB, 0), "db.ns2.svc.cluster.local. db.ns2.pod.cluster.local.");
    assert_eq!(said(&zone, "7.0.77.10.in-addr.arpa", Rtype::A, WEB, 0), "nodata 0.77.10.in-addr.arpa.");
    // Free addresses of pods are asked of nobody.
    assert_eq!(said(&zone, "99.0.77.10.in-addr.arpa", Rtype::PTR, WEB, 0), "nxdomain 0.77.10.in-addr.arpa.");
    assert_eq!(said(&zone, "x.7.0.77.10.in-addr.arpa", Rtype::PTR, WEB, 0), "nxdomain 0.77.10.in-addr.arpa.");
    assert_eq!(said(&zone, "0.77.10.in-addr.arpa", Rtype::SOA, WEB, 0), "soa");
    assert_eq!(said(&zone, "0.77.10.in-addr.arpa", Rtype::PTR, WEB, 0), "nodata 0.77.10.in-addr.arpa.");
    assert_eq!(said(&zone, "1.2.0.192.in-addr.arpa", Rtype::PTR, WEB, 0), "forward");
    assert_eq!(said(&zone, "77.10.in-addr.arpa", Rtype::PTR, WEB, 0), "forward");
    // Old tools ask for their server's name first.
    assert_eq!(said(&zone, "2.0.254.169.in-addr.arpa", Rtype::PTR, WEB, 0), "ns.dns.cluster.local.");
    assert_eq!(said(&zone, "3.0.254.169.in-addr.arpa", Rtype::PTR, WEB, 0), "forward");
}

#[test]
fn another_domain_keeps_the_short_names_where_they_were() {
    let domain = Name::parse("edge.example").unwrap();
    let zone = Zone::build(&Contents { domain, ..contents(vec![pod("ns1", &["web"], &["10.77.0.7"])]) });
    for name in
        ["web.ns1.svc.edge.example", "web.svc.edge.example", "web.edge.example", "web.cluster.local", "web"]
    {
        assert_eq!(said(&zone, name, Rtype::A, DB, 0), "10.77.0.7", "{name}");
    }
    assert_eq!(said(&zone, "web.ns1.svc.cluster.local", Rtype::A, DB, 0), "nxdomain cluster.local.");
    assert_eq!(said(&zone, "nosuch.edge.example", Rtype::A, DB, 0), "nxdomain edge.example.");
    assert_eq!(said(&zone, "example", Rtype::A, DB, 0), "nxdomain .");
}

#[test]
fn the_owner_s_names_lead_where_they_say() {
    let host = |address: &str, name: &str| Host {
        address: address.parse().unwrap(),
        name: Name::parse(name).unwrap(),
    };
    let hosts = vec![
        host("192.0.2.9", "printer"),
        host("192.0.2.9", "printer.lan"),
        host("127.0.0.1", "broker"),
        host("192.0.2.66", "localhost"),
    ];
    let zone = Zone::build(&Contents { hosts, ..contents(vec![]) });
    for name in ["printer", "printer.svc.cluster.local", "printer.cluster.local", "printer.lan"] {
        assert_eq!(said(&zone, name, Rtype::A, WEB, 0), "192.0.2.9", "{name}");
    }
    assert_eq!(said(&zone, "printer.lan", Rtype::AAAA, WEB, 0), "nodata printer.lan.");
    assert_eq!(said(&zone, "other.lan", Rtype::A, WEB, 0), "forward");
    assert_eq!(said(&zone, "broker", Rtype::A, WEB, 0), "10.77.0.1");
    assert_eq!(said(&zone, "localhost", Rtype::ANY, WEB, 0), "127.0.0.1 ::1");
}

#[test]
fn pods_of_the_host_s_network_are_found_at_the_gateway() {
    let host_pod = |namespace: &str, name: &str| HostPod { namespace: label(namespace), name: label(name) };
    let pods = || vec![pod("ns1", &["web"], &["10.77.0.7"]), pod("ns2", &["broker"], &["10.77.0.8"])];
    let host_pods = ["broker", "web", "localhost", "svc"].map(|name| host_pod("ns1", name)).to_vec();
    let zone = Zone::build(&Contents { host_pods: host_pods.clone(), ..contents(pods()) });
    for name in ["broker.ns1.svc.cluster.local", "broker.ns1.pod.cluster.local"] {
        assert_eq!(said(&zone, name, Rtype::A, DB, 0), "10.77.0.1", "{name}");
        assert_eq!(said(&zone, name, Rtype::AAAA, DB, 0), "nodata cluster.local.", "{name}");
    }
    for name in ["broker.svc.cluster.local", "broker.cluster.local", "broker"] {
        assert_eq!(said(&zone, name, Rtype::A, WEB, 0), "10.77.0.1", "{name}");
        assert_eq!(said(&zone, name, Rtype::A, DB, 0), "10.77.0.8", "{name}");
        assert_eq!(said(&zone, name, Rtype::A, [127, 0, 0, 1], 0), "10.77.0.8 10.77.0.1", "{name}");
        // A program of the node, whatever its pod: the gateway is in no namespace.
        assert_eq!(said(&zone, name, Rtype::A, [10, 77, 0, 1], 0), "10.77.0.8 10.77.0.1", "{name}");
    }
    // Beside a pod of the same name.
    assert_eq!(said(&zone, "web.ns1.svc.cluster.local", Rtype::A, DB, 0), "10.77.0.7 10.77.0.1");
    assert_eq!(said(&zone, "localhost", Rtype::ANY, WEB, 0), "127.0.0.1 ::1");
    assert_eq!(said(&zone, "svc.cluster.local", Rtype::A, WEB, 0), "nodata cluster.local.");
    assert_eq!(said(&zone, "1.0.77.10.in-addr.arpa", Rtype::PTR, WEB, 0), "nxdomain 0.77.10.in-addr.arpa.");
    assert_eq!(said(&zone, "10-77-0-1.ns1.pod.cluster.local", Rtype::A, WEB, 0), "nxdomain cluster.local.");

    // Where pods have both families the node is found at both; without any network where the server is.
    let gateways = ["fd77::1", "10.77.0.1", "10.78.0.1"].map(|address| address.parse().unwrap());
    let both = Zone::build(&Contents {
        host_pods: host_pods.clone(),
        gateways: gateways.to_vec(),
        ..contents(pods())
    });
    assert_eq!(said(&both, "broker.ns1.svc.cluster.local", Rtype::ANY, WEB, 0), "10.77.0.1 fd77::1");
    let none = Zone::build(&Contents { host_pods, gateways: vec![], ..contents(vec![]) });
    assert_eq!(said(&none, "broker", Rtype::A, [127, 0, 0, 1], 0), "169.254.0.2");
}

#[test]
fn every_name_of_an_address_is_listed_as_it_is_answered() {
    let zone = zone();
    let all = zone.by_address();
    let names = |address: [u8; 4]| {
        all[&IpAddr::from(address)].iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        names(WEB),
        "web.ns1.svc.cluster.local. web.ns1.pod.cluster.local. web-7c9.ns1.svc.cluster.local. \
         web-7c9.ns1.pod.cluster.local. 10-77-0-7.ns1.pod.cluster.local. web.svc.cluster.local. \
         web-7c9.svc.cluster.local. web.cluster.local. web-7c9.cluster.local. web. web-7c9."
    );
    assert_eq!(names([10, 77, 0, 50]), "10-77-0-50.ns4.pod.cluster.local.");
    // And nothing but that.
    for (address, names) in &all {
        let kind = if address.is_ipv4() { Rtype::A } else { Rtype::AAAA };
        for name in names {
            let said = said(&zone, &name.to_string(), kind, *address, 0);
            assert!(said.split(' ').any(|one| one == address.to_string()), "{name}: {said}");
        }
    }
}
