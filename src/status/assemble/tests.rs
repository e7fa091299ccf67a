//! Who is shown, and as what.

use std::path::Path;

use super::*;
use crate::state::record::{HostPort as Port, PromisedAddress};
use crate::state::{BootId, Records};

fn record(plugin: &str, container: &str, address: &str) -> Record {
    let if_name = "eth0".parse().unwrap();
    let attachment = record::Attachment { network: "net", container, if_name: &if_name };
    let records = Records::at(Path::new("/nowhere"), BootId::current().unwrap());
    let mut record = Record::begin(&records, plugin, &attachment, None);
    (record.complete, record.created_boottime) = (true, 1000);
    record.promised.addresses = vec![PromisedAddress { address: address.parse().unwrap(), gateway: None }];
    record
}

fn bridged(container: &str, address: &str, host_if: &str) -> Record {
    let mut record = record("bridge", container, address);
    record.promised.bridge = Some("br0".parse().unwrap());
    record.promised.host_if = Some(host_if.parse().unwrap());
    record.promised.pools = vec![record::Pool { ranges: "10.1.2.1-10.1.2.6".into(), size: 5 }];
    record
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
        facts.records.entry(key_of(&record)).or_default().push(record);
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
    let mut ports = record("portmap", "c1", "10.1.2.2/29");
    let port = |host_ip: Option<&str>| Port {
        protocol: "tcp".into(),
        host_port: 8080,
        container_port: 80,
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
    };
    ports.promised.host_ports = vec![port(None), port(Some("0.0.0.0"))];
    let view = assemble(&facts(vec![ports, bridged("c1", "10.1.2.2/29", "veth1")]), None);
    let rows = &view.networks[0].attachments;
    assert_eq!(rows.len(), 1);
    let row = &rows[0];
    assert_eq!((row.addresses.as_slice(), row.since_seconds), (&["10.1.2.2".to_owned()][..], Some(60)));
    assert_eq!((row.host_interface.as_deref(), row.host_ports.len()), (Some("veth1"), 2));
    assert_eq!(row.host_ports[1].host_ip, Some("0.0.0.0".parse().unwrap()), "IPv4 alone is not everything");
    assert_eq!(view.networks[0].bridge.as_deref(), Some("br0"));
}

#[test]
fn the_kernel_says_what_became_of_an_attachment() {
    let mut all =
        facts(["a", "b", "c", "d", "e"].map(|id| bridged(id, "10.1.2.2/29", &format!("veth{id}"))).to_vec());
    let own = |id: &str| ("net".to_owned(), id.to_owned(), "eth0".to_owned());
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
    let mut other = bridged("c2", "10.1.3.2/29", "veth2");
    other.network = "other".into();
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
    let port = |host_port, host_ip: Option<&str>| Port {
        protocol: "tcp".into(),
        host_port,
        container_port: 80,
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
    };
    let mut first = record("portmap", "c1", "10.1.2.2/29");
    first.promised.host_ports = vec![port(8080, None), port(8081, Some("fd00::1"))];
    let mut second = record("portmap", "c1", "10.9.9.2/29");
    second.if_name = "net1".parse().unwrap();
    second.created_boottime = 2000;
    second.promised.host_ports = vec![port(8080, None), port(9090, None)];
    let shown = |records: Vec<Record>| {
        let view = assemble(&facts(records), None);
        let rows = view.networks.into_iter().flat_map(|network| network.attachments);
        let ports = |row: Attachment| row.host_ports.iter().map(|port| port.host_port).collect::<Vec<_>>();
        rows.map(|row| (row.interface.clone().unwrap(), ports(row))).collect::<Vec<_>>()
    };
    // IPv6 alone, and the pod has none; and what the first interface has, the second has not.
    let expected = [("eth0".to_owned(), vec![8080]), ("net1".to_owned(), vec![9090])];
    assert_eq!(shown(vec![first, second.clone()]), expected);
    assert_eq!(shown(vec![second]), [("net1".to_owned(), vec![8080, 9090])], "the first is gone");
}
