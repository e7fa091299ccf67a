//! Who is shown, and as what.

use std::path::Path;

use super::*;
use crate::spec::{Attachment as Place, Bridge, Firewall, Pod, Port, Protocol};
use crate::state::record::Want;
use crate::state::{BootId, Records};

fn id(network: &str, container: &str, if_name: &str) -> AttachmentId {
    let (network, container) = (network.to_owned(), container.to_owned());
    AttachmentId { network, container, if_name: if_name.parse().unwrap() }
}

fn record(plugin: &str, id: &AttachmentId, want: Want) -> Record {
    let records = Records::at(Path::new("/nowhere"), BootId::current().unwrap());
    let mut record = Record::begin(&records, plugin, id, None);
    (record.complete, record.created_boottime, record.want) = (true, 1000, Some(want));
    record
}

fn bridged(container: &str, address: &str, host_if: &str) -> Record {
    bridged_in("net", container, address, host_if)
}

fn bridged_in(network: &str, container: &str, address: &str, host_if: &str) -> Record {
    let id = id(network, container, "eth0");
    let name = "br0".parse().unwrap();
    let want = Place {
        id: id.clone(),
        pod_name: None,
        bridge: Bridge {
            mac: Bridge::derived_mac(&name),
            name,
            mtu: None,
            vlan_filtering: false,
            promiscuous: false,
        },
        port: Port {
            name: host_if.parse().unwrap(),
            mac: None,
            mtu: None,
            hairpin: false,
            isolated: false,
            vlans: None,
        },
        pod: Pod {
            name: id.if_name.clone(),
            mac: None,
            mtu: None,
            up: true,
            addresses: vec![address.parse().unwrap()],
            routes: Vec::new(),
            detect_duplicates: false,
        },
        gateway: None,
        forwarding: Vec::new(),
        masquerade: Vec::new(),
        spoof_check: false,
        firewall: Firewall::default(),
    };
    let mut record = record("bridge", &id, Want::Attachment(Box::new(want)));
    record.leases.pools = vec![record::Pool { ranges: "10.1.2.1-10.1.2.6".into(), size: 5 }];
    record
}

fn mapping(host_port: u16, host_ip: Option<&str>, pod: &str) -> Mapping {
    let host_ip = host_ip.map(|ip| ip.parse().unwrap());
    Mapping { protocol: Protocol::Tcp, host_ip, host_port, pod: pod.parse().unwrap(), pod_port: 80 }
}

/// A record of host ports of container `c1`.
fn ported(if_name: &str, pods: &[&str], mappings: Vec<Mapping>) -> Record {
    let pods = pods.iter().map(|pod| pod.parse().unwrap()).collect();
    record("portmap", &id("net", "c1", if_name), Want::Mappings { mappings, pods })
}

fn link(index: u32, name: &str, master: Option<u32>, alias: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind: Some(if master.is_some() || name.starts_with("veth") { "veth" } else { "bridge" }.to_owned()),
        up: true,
        master,
        alias: Some(alias.to_owned()),
        ..Link::default()
    }
}

fn facts(records: Vec<Record>) -> Facts {
    let mut facts = Facts { now: Duration::from_secs(61), ..Facts::default() };
    for record in records {
        facts.records.entry(record.id.clone()).or_default().push(record);
    }
    facts
}

fn leased(address: &str, container: &str, reclaimable: bool) -> Leased {
    let holder = Some(Holder::new(container, &"eth0".parse().unwrap()));
    Leased { network: "net".into(), address: address.parse().unwrap(), holder, reclaimable }
}

fn states(view: &View) -> Vec<(String, State)> {
    let rows = view.networks.iter().flat_map(|network| &network.attachments);
    rows.map(|row| (row.container.clone().unwrap_or_default(), row.state)).collect()
}

#[test]
fn the_records_of_one_attachment_are_one_row() {
    let mappings = vec![
        mapping(8080, None, "10.1.2.2"),
        mapping(8080, None, "fd00::2"),
        mapping(8081, None, "10.1.2.2"),
        mapping(8082, Some("192.0.2.1"), "10.1.2.2"),
    ];
    let ports = ported("eth0", &["10.1.2.2/29", "fd00::2/64"], mappings);
    let view = assemble(&facts(vec![ports, bridged("c1", "10.1.2.2/29", "veth1")]), None);
    let rows = &view.networks[0].attachments;
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!((row.addresses.as_slice(), row.since_seconds), (&["10.1.2.2".to_owned()][..], Some(60)));
    assert_eq!((row.host_interface.as_deref(), row.host_ports.len()), (Some("veth1"), 3));
    let at: Vec<_> = row.host_ports.iter().map(|port| port.host_ip.map(|ip| ip.to_string())).collect();
    let expected = [None, Some("0.0.0.0".to_owned()), Some("192.0.2.1".to_owned())];
    assert_eq!(at, expected, "IPv4 alone is not everything");
    assert_eq!(view.networks[0].bridge.as_deref(), Some("br0"));
}

#[test]
fn the_kernel_says_what_became_of_an_attachment() {
    let mut all =
        facts(["a", "b", "c", "d", "e"].map(|id| bridged(id, "10.1.2.2/29", &format!("veth{id}"))).to_vec());
    let own = |container: &str| id("net", container, "eth0");
    all.gone.insert(own("d"));
    all.records.get_mut(&own("e")).unwrap()[0].complete = false;
    assert!(states(&assemble(&all, None)).iter().filter(|(_, state)| *state == State::Attached).count() == 3);
    all.links = Some(vec![
        link(1, "br0", None, ""),
        link(2, "vetha", Some(1), ""),
        link(3, "vethb", Some(9), ""),
        link(4, "vethx", Some(1), "smarter-cni net x eth0 10.1.2.9/29 pod ns/x"),
    ]);
    let expected = [
        ("a", State::Attached),
        ("b", State::Detached),
        ("c", State::NoLink),
        ("d", State::Dead),
        ("e", State::Unfinished),
        ("x", State::Unrecorded),
    ];
    assert_eq!(states(&assemble(&all, None)), expected.map(|(id, state)| (id.to_owned(), state)));
}

#[test]
fn pools_are_counted_from_leases() {
    let mut all = facts(vec![bridged("c1", "10.1.2.2/29", "veth1")]);
    all.leases = vec![
        leased("10.1.2.2", "c1", false),
        leased("10.1.2.3", "gone", true),
        leased("10.9.9.9", "elsewhere", false),
        Leased { holder: None, ..leased("10.1.2.4", "", true) },
    ];
    let view = assemble(&all, None);
    let Pool { size, used, free, reclaimable, .. } = &view.networks[0].pools[0];
    assert_eq!((*size, *used, *free, *reclaimable), (5, 3, 2, 2));
    // The holders that nobody has a record of are shown, each once.
    let states = states(&view);
    assert_eq!(states.iter().filter(|(_, state)| *state == State::NotOurs).count(), 2, "{states:?}");
}

#[test]
fn one_network_is_shown_alone() {
    let other = bridged_in("other", "c2", "10.1.3.2/29", "veth2");
    let all = facts(vec![bridged("c1", "10.1.2.2/29", "veth1"), other]);
    let names = |filter| assemble(&all, filter).networks.into_iter().map(|n| n.name).collect::<Vec<_>>();
    assert_eq!(names(None), ["net", "other"]);
    assert_eq!(names(Some("other")), ["other"]);
    assert_eq!(names(Some("nowhere")), Vec::<String>::new());
}

#[test]
fn ranges_are_read_back() {
    let within = |ranges, address: &str| is_within(ranges, address.parse().unwrap());
    assert!(within("10.1.2.1-10.1.2.6", "10.1.2.6") && !within("10.1.2.1-10.1.2.6", "10.1.2.7"));
    assert!(within("10.1.2.1-10.1.2.6,10.3.0.1-10.3.0.9", "10.3.0.2"));
    assert!(within("fd00::1-fd00::f", "fd00::a") && !within("fd00::1-fd00::f", "10.1.2.1"));
}

#[test]
fn a_host_port_stands_where_it_leads() {
    let to = |pod: &str, ports: [u16; 2]| ports.map(|port| mapping(port, None, pod)).to_vec();
    let first = ported("eth0", &["10.1.2.2/29"], to("10.1.2.2", [8080, 8081]));
    let mut second = ported("net1", &["10.9.9.2/29"], to("10.9.9.2", [8080, 9090]));
    second.created_boottime = 2000;
    let shown = |records: Vec<Record>| {
        let view = assemble(&facts(records), None);
        let rows = view.networks.into_iter().flat_map(|network| network.attachments);
        let ports = |row: Attachment| row.host_ports.iter().map(|port| port.host_port).collect::<Vec<_>>();
        rows.map(|row| (row.interface.clone().unwrap(), ports(row))).collect::<Vec<_>>()
    };
    // What the first interface has, the second has not.
    let expected = [("eth0".to_owned(), vec![8080, 8081]), ("net1".to_owned(), vec![9090])];
    assert_eq!(shown(vec![first, second.clone()]), expected);
    assert_eq!(shown(vec![second]), [("net1".to_owned(), vec![8080, 9090])], "the first is gone");
}
