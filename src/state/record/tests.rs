use ipnetwork::IpNetwork;

use super::*;
use crate::net::{Family, Mac, Route, VlanId};
use crate::spec::limits::{Condition, Match, Pattern};
use crate::spec::{
    Attachment, Bridge, Firewall, Gateway, HostPorts, Limits, Mapping, Owner, Port, Protocol, VlanGateway,
    Vlans,
};

fn boot(digit: char) -> BootId {
    BootId::parse(&digit.to_string().repeat(36)).unwrap()
}

fn id() -> AttachmentId {
    AttachmentId { network: "smartnet".into(), container: "cid-a".into(), if_name: "eth0".parse().unwrap() }
}

fn network(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

/// With a value in every field.
fn attachment() -> Attachment {
    let vlan = VlanId::new(7).unwrap();
    let name = "smartnet0".parse().unwrap();
    let mut route = Route::to(network("10.0.0.0/8"), Some("10.1.2.1".parse().unwrap()));
    (route.table, route.mtu, route.scope) = (Some(0), Some(1400), Some(253));
    Attachment {
        id: id(),
        pod_name: Some("ns/p-0".into()),
        gateway: Some(Gateway {
            addresses: vec![network("10.1.2.1/24"), network("fd00::1/64")],
            force: true,
            vlan: Some(VlanGateway::of(&name, vlan).unwrap()),
            dns: Some("169.254.0.2".parse().unwrap()),
            intercept: true,
        }),
        bridge: Bridge {
            mac: Mac([2, 0, 0, 0, 0, 2]),
            name,
            mtu: Some(1400),
            vlan_filtering: true,
            promiscuous: true,
        },
        port: Port {
            name: "veth01234567".parse().unwrap(),
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            mtu: Some(1400),
            hairpin: true,
            isolated: true,
            vlans: Vlans::of(Some(vlan), vec![VlanId::new(9).unwrap()], true),
        },
        pod: crate::spec::Pod {
            name: "eth0".parse().unwrap(),
            mac: Some(Mac([2, 0, 0, 0, 0, 3])),
            mtu: Some(1400),
            up: true,
            addresses: vec![network("10.1.2.3/24"), network("fd00::3/64")],
            routes: vec![route, Route::to(network("::/0"), None)],
            detect_duplicates: true,
        },
        forwarding: Family::BOTH.to_vec(),
        masquerade: vec![network("10.1.2.0/24")],
        spoof_check: true,
        firewall: Firewall { accept: true, guard: false, clamp_mss: true },
    }
}

fn host_ports() -> HostPorts {
    let pattern = |text| Pattern::parse(text, '*').unwrap();
    let condition = |negated, matches| Condition { negated, matches };
    let mapping = |host_ip: Option<&str>, pod: &str| Mapping {
        protocol: Protocol::Tcp,
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        host_port: 8080,
        pod: pod.parse().unwrap(),
        pod_port: 80,
    };
    HostPorts {
        owner: Owner { container: "cid-a".into(), pod: Some("ns/p-0".into()) },
        mappings: vec![mapping(None, "10.1.2.3"), mapping(Some("2001:db8::1"), "fd00::3")],
        pods: vec![network("10.1.2.3/24"), network("fd00::3/64")],
        snat: true,
        masq_all: true,
        limits: Limits {
            allowed: vec![pattern("eth0")],
            denied: vec![pattern("wwan*")],
            v4: vec![
                condition(false, Match::From(vec![network("10.0.0.0/8")])),
                condition(true, Match::To(vec![network("192.0.2.1/32")])),
            ],
            v6: vec![condition(true, Match::Interface(pattern("ppp*")))],
        },
    }
}

fn full(records: &Records) -> Record {
    of_container(records, "cid-a")
}

fn of_container(records: &Records, container: &str) -> Record {
    of(records, AttachmentId { container: container.into(), ..id() })
}

fn of(records: &Records, id: AttachmentId) -> Record {
    let mut record = Record::begin(records, "bridge", &id, Some("/proc/self/ns/net"));
    record.pod =
        Some(Pod { namespace: Some("ns".into()), name: Some("p-0".into()), uid: Some("u-1".into()) });
    record.want = Some(Want::Attachment(Box::new(Attachment { id, ..attachment() })));
    record.leases = Leases {
        ipam: Some("smarter-ipam".into()),
        data_dir: Some("/var/run/cni/networks".into()),
        pools: vec![Pool { ranges: "10.1.2.1-10.1.2.254".into(), size: 253 }],
    };
    record.pod_link = Some("smartnet0".parse().unwrap());
    record
}

fn ported(records: &Records, want: Want) -> Record {
    Record { plugin: "portmap".into(), want: Some(want), ..full(records) }
}

#[test]
fn a_record_comes_back_as_it_was_written() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    let mut record = full(&records);
    assert_eq!(records.read(&record.id, "bridge").unwrap(), None);
    records.write(&record).unwrap();
    record.complete = true;
    records.write(&record).unwrap();
    assert!(record.netns_id.is_some());
    assert_eq!(records.read(&record.id, "bridge").unwrap().as_ref(), Some(&record));
    assert_eq!(records.read(&record.id, "portmap").unwrap(), None);
    assert_eq!(records.all().unwrap(), [record.clone()]);
    assert!(records.names().unwrap().contains(&record.id));
    records.remove(&record.id, "bridge").unwrap();
    records.remove(&record.id, "bridge").unwrap();
    assert!(records.all().unwrap().is_empty());
    assert!(!records.names().unwrap().contains(&record.id));
}

#[test]
fn only_root_may_look() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    records.write(&full(&records)).unwrap();
    let directory = root.path().join("attachments");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&directory), 0o700);
    let files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    assert_eq!(mode(&files[0]), 0o600);
}

#[test]
fn every_kind_of_want_comes_back_as_it_was_written() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    let ports = host_ports();
    let (mappings, pods) = (ports.mappings.clone(), ports.pods.clone());
    for want in
        [Want::HostPorts(ports), Want::Mappings { mappings, pods: pods.clone() }, Want::Addresses(pods)]
    {
        let record = ported(&records, want);
        records.write(&record).unwrap();
        assert_eq!(records.read(&record.id, "portmap").unwrap().as_ref(), Some(&record));
        assert_eq!(record.addresses(), [network("10.1.2.3/24"), network("fd00::3/64")]);
    }
}

#[test]
fn what_is_promised_to_another_attachment_is_damage() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    let other = AttachmentId { container: "cid-b".into(), ..id() };
    let mut record = full(&records);
    record.want = Some(Want::Attachment(Box::new(Attachment { id: other, ..attachment() })));
    records.write(&record).unwrap();
    let owner = Owner { container: "cid-b".into(), pod: None };
    records.write(&ported(&records, Want::HostPorts(HostPorts { owner, ..host_ports() }))).unwrap();
    let damaged = records.damaged().unwrap();
    assert_eq!(damaged.len(), 2, "{damaged:?}");
    assert!(damaged.iter().all(|(_, why)| why.contains("to another attachment")), "{damaged:?}");
}

#[test]
fn a_container_finds_its_records_in_all_networks() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    records.write(&full(&records)).unwrap();
    let other = AttachmentId { network: "other".into(), ..id() };
    let record = of(&records, other);
    records.write(&record).unwrap();
    records.write(&Record { plugin: "portmap".into(), ..record.clone() }).unwrap();
    assert_eq!(records.of_attachment(&record.id).unwrap().len(), 2);
    records.write(&of_container(&records, "cid-b")).unwrap();
    assert_eq!(records.of_container("cid-a").unwrap().len(), 3);
    assert_eq!(records.of_container("cid-b").unwrap().len(), 1);
    assert_eq!(records.of_container("cid-c").unwrap().len(), 0);
    assert_eq!(records.all().unwrap().len(), 4);
}

#[test]
fn records_of_another_boot_are_void() {
    let root = tempfile::tempdir().unwrap();
    let before = Records::at(root.path(), boot('a'));
    let record = full(&before);
    before.write(&record).unwrap();
    let after = Records::at(root.path(), boot('b'));
    assert_eq!(after.read(&record.id, "bridge").unwrap(), None);
    assert!(after.all().unwrap().is_empty());
    before.forget_other_boots().unwrap();
    assert_eq!(before.all().unwrap().len(), 1);
    after.forget_other_boots().unwrap();
    assert!(before.all().unwrap().is_empty());
    before.write(&record).unwrap();
    after.remove(&record.id, "bridge").unwrap();
    assert!(before.all().unwrap().is_empty());
}

#[test]
fn a_record_with_missing_and_unknown_fields_is_read() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    let record = full(&records);
    records.write(&record).unwrap();
    let file = root.path().join("attachments").join(file_name(&record.id, "bridge"));
    let id = r#"{"network":"smartnet","container":"cid-a","if_name":"eth0","mood":7}"#;
    let sparse = format!(
        r#"{{"version":2,"boot_id":"{}","plugin":"bridge","id":{id},"want":{{"addresses":["10.1.2.3/24"]}},"mood":{{}}}}"#,
        boot('a')
    );
    std::fs::write(&file, sparse).unwrap();
    let read = records.read(&record.id, "bridge").unwrap().unwrap();
    assert_eq!((read.version, read.complete, read.netns.as_deref()), (2, false, None));
    assert_eq!(read.addresses(), [network("10.1.2.3/24")]);
    assert_eq!((read.attachment(), &read.leases), (None, &Leases::default()));
}

#[test]
fn locks_without_record_are_swept_unless_somebody_holds_them() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    assert_eq!(records.sweep_locks().unwrap(), 0);
    let record = full(&records);
    records.write(&record).unwrap();
    drop(records.lock(&record.id, "bridge").unwrap());
    assert_eq!(records.sweep_locks().unwrap(), 0, "its record is there");
    let record = of_container(&records, "cid-b");
    let held = records.lock(&record.id, "bridge").unwrap();
    assert!(records.try_lock(&record.id, "bridge").unwrap().is_none());
    assert!(records.try_lock(&record.id, "portmap").unwrap().is_some());
    assert_eq!(records.sweep_locks().unwrap(), 1, "the one of portmap, which nobody holds");
    drop(held);
    assert_eq!(records.sweep_locks().unwrap(), 1);
    assert_eq!(std::fs::read_dir(root.path().join("locks")).unwrap().count(), 1);
}

#[test]
fn damaged_records_count_as_absent_and_can_be_removed() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    let record = full(&records);
    records.write(&record).unwrap();
    let file = root.path().join("attachments").join(file_name(&record.id, "bridge"));
    for damage in ["", "{", "null", "\0\0\0\0", r#"{"version":1}"#] {
        std::fs::write(&file, damage).unwrap();
        assert_eq!(records.read(&record.id, "bridge").unwrap(), None, "{damage:?}");
        assert!(records.all().unwrap().is_empty());
        let kept = records.all_kept().unwrap();
        assert!(kept.records.is_empty() && kept.unread.len() == 1, "{damage:?}");
        assert!(kept.unread[0].is_of("cid-a") && !kept.unread[0].is_of("cid-b"));
        assert_eq!(kept.unread[0].plugin(), "bridge");
    }
    records.remove(&record.id, "bridge").unwrap();
    assert!(!file.exists());
    assert_eq!(records.all_kept().unwrap(), Kept::default());
}

#[test]
fn one_bad_record_does_not_hide_the_others() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    let (good, bad) = (full(&records), of_container(&records, "cid-b"));
    records.write(&good).unwrap();
    records.write(&bad).unwrap();
    let file = root.path().join("attachments").join(file_name(&bad.id, "bridge"));
    std::fs::write(&file, "{").unwrap();
    let kept = records.all_kept().unwrap();
    assert_eq!((kept.records, kept.unread.len()), (vec![good], 1));
    records.remove_unread(&kept.unread[0]).unwrap();
    assert!(!file.exists());
}

#[test]
fn a_record_of_a_newer_version_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    let record = Record { version: 99, ..full(&records) };
    records.write(&record).unwrap();
    let refused = records.read(&record.id, "bridge").unwrap_err().to_string();
    assert!(refused.contains(".bridge.json: it is of version 99, and this program knows 2"), "{refused}");
    assert!(refused.contains("restart the pod"), "{refused}");
    assert_eq!(records.all().unwrap(), vec![]);
    assert!(records.damaged().unwrap()[0].1.contains("version 99"));
    // Also where its fields mean something else, and not where it is of another boot.
    let file = root.path().join("attachments").join(file_name(&record.id, "bridge"));
    std::fs::write(&file, format!(r#"{{"version":99,"boot_id":"{}","plugin":7}}"#, "a".repeat(36))).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(matches!(parse(text.as_bytes(), None), Err(Reason::Newer(99))), "{text}");
    let after = Records::at(root.path(), boot('b'));
    records.write(&record).unwrap();
    assert_eq!(after.read(&record.id, "bridge").unwrap(), None);
}

#[test]
fn what_is_written_can_be_read() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    let mapping = host_ports().mappings[1];
    let both = |host_port| [0, 1].map(|pod_port| Mapping { host_port, pod_port, ..mapping });
    let with = |mappings| ported(&records, Want::HostPorts(HostPorts { mappings, ..host_ports() }));
    // Every port of a node, twice, has room.
    let length = |ports| {
        serde_json::to_vec(&with((u16::MAX - ports..=u16::MAX).flat_map(both).collect())).unwrap().len()
    };
    assert!(length(0) + (length(1) - length(0)) * usize::from(u16::MAX) < ROOM);
    let record = with((1..=u16::MAX / 64).flat_map(both).collect());
    records.write(&record).unwrap();
    let read = records.read(&record.id, "portmap").unwrap().unwrap();
    assert_eq!(read, record);
    let refused = records.write(&with(vec![mapping; 300_000 / 64])).unwrap_err().to_string();
    assert!(refused.contains("ask for fewer host ports"), "{refused}");
    assert_eq!(records.read(&read.id, "portmap").unwrap(), Some(read));
}

#[test]
fn links_are_not_followed_and_leftovers_go_with_the_record() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    let record = full(&records);
    records.write(&record).unwrap();
    let directory = root.path().join("attachments");
    let file = directory.join(file_name(&record.id, "bridge"));
    let elsewhere = root.path().join("elsewhere");
    std::fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    assert_eq!(records.read(&record.id, "bridge").unwrap(), None);
    let before = std::fs::read(&elsewhere).unwrap();
    records.write(&record).unwrap();
    assert_eq!(std::fs::read(&elsewhere).unwrap(), before);
    assert!(!file.is_symlink());

    let left = directory.join(temporary_name(&file_name(&record.id, "bridge")));
    std::fs::write(&left, "half a rec").unwrap();
    assert_eq!(records.all().unwrap().len(), 1);
    records.write(&record).unwrap();
    assert!(!left.exists(), "a writer that was killed is in nobody's way");
    std::fs::write(&left, "half a rec").unwrap();
    records.remove(&record.id, "bridge").unwrap();
    assert!(!left.exists() && !file.exists());
}

#[test]
fn what_killed_writers_left_goes_with_whoever_comes_next() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    let (record, other) = (full(&records), of_container(&records, "cid-b"));
    records.write(&record).unwrap();
    let directory = root.path().join("attachments");
    let left = |record: &Record| {
        let path = directory.join(temporary_name(&file_name(&record.id, "bridge")));
        std::fs::write(&path, "half a rec").unwrap();
        path
    };
    let leftovers = [left(&record), left(&other)];
    assert!(records.kept_of("cid-a").unwrap().leftovers);
    // One that writes just now is not disturbed.
    let held = records.lock(&other.id, "bridge").unwrap();
    records.sweep_temporaries().unwrap();
    assert_eq!(leftovers.each_ref().map(|path| path.exists()), [false, true]);
    drop(held);
    records.sweep_locks().unwrap();
    assert!(!leftovers[1].exists() && !records.kept_of("cid-a").unwrap().leftovers);
    assert_eq!(records.all().unwrap(), [record]);
}

/// Records that real runs wrote: every one below `tests/fixtures/attachments` is read.
fn written_by(build: &str) -> Vec<(String, Record)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/attachments").join(build);
    let names =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_record = |name: &String| name.ends_with(".bridge.json") || name.ends_with(".portmap.json");
    let read = |name: String| {
        let bytes = std::fs::read(directory.join(&name)).unwrap();
        let record = parse(&bytes, None).unwrap_or_else(|why| panic!("{build}/{name}: {why}"));
        (name, record.expect("of whatever boot"))
    };
    names.filter(is_record).map(read).collect()
}

/// A field that came later says by its default what these want.
#[test]
fn records_of_this_version_are_read() {
    let records = written_by("version-2");
    assert_eq!(records.len(), 7);
    for (name, record) in records {
        let is_whole = record.attachment().is_some() || record.host_ports().is_some();
        assert!(record.version == VERSION && is_whole, "{name}: {record:?}");
    }
}

#[test]
fn records_of_version_1_are_read_and_written_in_the_new_form() {
    let records = written_by("0.1.0");
    assert_eq!(records.len(), 13);
    for (name, record) in records {
        let is_whole = record.attachment().is_some() || record.host_ports().is_some();
        assert!(record.version == VERSION && is_whole, "{name}: {record:?}");
        let again = parse(&serde_json::to_vec(&record).unwrap(), Some(&record.boot_id)).unwrap();
        assert_eq!(again.as_ref(), Some(&record), "{name}");
        if name == "ported.portmap.json" {
            assert_eq!((record.mappings().len(), record.pod_link.as_ref().unwrap().as_str()), (3, "br0"));
        }
    }
}

/// Of a port that an older record does not tell all about, only the removal is known.
#[test]
fn a_record_of_version_1_that_tells_too_little_opens_nothing() {
    let path = "/tests/fixtures/attachments/0.1.0/ported.portmap.json";
    let text = std::fs::read_to_string(format!("{}{path}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let mut old: serde_json::Value = serde_json::from_str(&text).unwrap();
    let read = |old: &serde_json::Value| parse(old.to_string().as_bytes(), None).unwrap().unwrap();
    assert!(read(&old).host_ports().is_some());
    old["promised"]["port_rules"]["conditions_v4"] = serde_json::json!(["ct state new"]);
    assert_eq!((read(&old).host_ports(), read(&old).mappings().len()), (None, 3));
    old["promised"].as_object_mut().unwrap().remove("port_rules");
    assert_eq!((read(&old).host_ports(), read(&old).mappings().len()), (None, 3));
    old["plugin"] = "bridge".into();
    assert_eq!((read(&old).attachment(), read(&old).addresses().len()), (None, 2));
    old["version"] = 99.into();
    assert_eq!(parse(old.to_string().as_bytes(), None), Err(Reason::Newer(99)));
}
