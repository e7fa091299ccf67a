use super::*;
use crate::net::{Mac, Route};

fn boot(digit: char) -> BootId {
    BootId::parse(&digit.to_string().repeat(36)).unwrap()
}

fn full(records: &Records) -> Record {
    let if_name: IfName = "eth0".parse().unwrap();
    let attachment = Attachment { network: "smartnet", container: "cid-a", if_name: &if_name };
    let mut record = Record::begin(records, "bridge", &attachment, Some("/proc/self/ns/net"));
    record.pod =
        Some(Pod { namespace: Some("ns".into()), name: Some("p-0".into()), uid: Some("u-1".into()) });
    let mut route = Route::to("10.0.0.0/8".parse().unwrap(), Some("10.1.2.1".parse().unwrap()));
    route.table = Some(0);
    record.promised = Promised {
        bridge: Some("smartnet0".parse().unwrap()),
        bridge_mac: Some(Mac([2, 0, 0, 0, 0, 2])),
        host_if: Some("veth01234567".parse().unwrap()),
        host_mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        pod_mac: None,
        addresses: vec![PromisedAddress {
            address: "10.1.2.3/24".parse().unwrap(),
            gateway: Some("10.1.2.1".parse().unwrap()),
        }],
        gateways: vec!["10.1.2.1/24".parse().unwrap(), "fd00::1/64".parse().unwrap()],
        routes: vec![route, Route::to("::/0".parse().unwrap(), None)],
        mtu: Some(1400),
        flags: Flags { hairpin: true, vlan: Some(7), trunk: vec![1, 2], ..Flags::default() },
        firewall: Some(Firewall { accept: true, guard: false, clamp_mss: true }),
        host_ports: vec![HostPort {
            protocol: "tcp".into(),
            host_port: 8080,
            container_port: 80,
            host_ip: None,
        }],
        port_rules: Some(PortRules {
            snat: true,
            denied: vec!["wwan*".into()],
            conditions_v4: vec!["ip saddr 10.0.0.0/8".into()],
            pod_link: Some("smartnet0".parse().unwrap()),
            ..PortRules::default()
        }),
        pools: vec![Pool { ranges: "10.1.2.1-10.1.2.254".into(), size: 253 }],
        ipam: Some("smarter-ipam".into()),
        data_dir: Some("/var/run/cni/networks".into()),
    };
    record
}

#[test]
fn a_record_comes_back_as_it_was_written() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    let mut record = full(&records);
    assert_eq!(records.read(&record.attachment(), "bridge").unwrap(), None);
    records.write(&record).unwrap();
    record.complete = true;
    records.write(&record).unwrap();
    assert!(record.netns_id.is_some());
    assert_eq!(records.read(&record.attachment(), "bridge").unwrap().as_ref(), Some(&record));
    assert_eq!(records.read(&record.attachment(), "portmap").unwrap(), None);
    assert_eq!(records.all().unwrap(), [record.clone()]);
    assert!(records.names().unwrap().contains(&record.attachment()));
    records.remove(&record.attachment(), "bridge").unwrap();
    records.remove(&record.attachment(), "bridge").unwrap();
    assert!(records.all().unwrap().is_empty());
    assert!(!records.names().unwrap().contains(&record.attachment()));
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
fn a_container_finds_its_records_in_all_networks() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    let mut record = full(&records);
    records.write(&record).unwrap();
    record.network = "other".into();
    records.write(&record).unwrap();
    record.plugin = "portmap".into();
    records.write(&record).unwrap();
    assert_eq!(records.of_attachment(&record.attachment()).unwrap().len(), 2);
    record.container_id = "cid-b".into();
    records.write(&record).unwrap();
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
    assert_eq!(after.read(&record.attachment(), "bridge").unwrap(), None);
    assert!(after.all().unwrap().is_empty());
    before.forget_other_boots().unwrap();
    assert_eq!(before.all().unwrap().len(), 1);
    after.forget_other_boots().unwrap();
    assert!(before.all().unwrap().is_empty());
    before.write(&record).unwrap();
    after.remove(&record.attachment(), "bridge").unwrap();
    assert!(before.all().unwrap().is_empty());
}

#[test]
fn a_record_with_missing_and_unknown_fields_is_read() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    let record = full(&records);
    records.write(&record).unwrap();
    let file = root.path().join("attachments").join(file_name(&record.attachment(), "bridge"));
    let sparse = format!(
        r#"{{"version":1,"boot_id":"{}","plugin":"bridge","network":"smartnet","container_id":"cid-a","if_name":"eth0",
            "promised":{{"colour":"red","addresses":[{{"address":"10.1.2.3/24","since":7}}]}},"mood":{{}}}}"#,
        boot('a')
    );
    std::fs::write(&file, sparse).unwrap();
    let read = records.read(&record.attachment(), "bridge").unwrap().unwrap();
    assert_eq!((read.version, read.complete, read.netns), (1, false, None));
    assert_eq!(read.promised.addresses[0].address, "10.1.2.3/24".parse().unwrap());
    assert_eq!((read.promised.firewall, read.promised.port_rules), (None, None));
}

#[test]
fn locks_without_record_are_swept_unless_somebody_holds_them() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    assert_eq!(records.sweep_locks().unwrap(), 0);
    let mut record = full(&records);
    records.write(&record).unwrap();
    drop(records.lock(&record.attachment(), "bridge").unwrap());
    assert_eq!(records.sweep_locks().unwrap(), 0, "its record is there");
    record.container_id = "cid-b".into();
    let held = records.lock(&record.attachment(), "bridge").unwrap();
    assert!(records.try_lock(&record.attachment(), "bridge").unwrap().is_none());
    assert!(records.try_lock(&record.attachment(), "portmap").unwrap().is_some());
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
    let file = root.path().join("attachments").join(file_name(&record.attachment(), "bridge"));
    for damage in ["", "{", "null", "\0\0\0\0", r#"{"version":1}"#] {
        std::fs::write(&file, damage).unwrap();
        assert_eq!(records.read(&record.attachment(), "bridge").unwrap(), None, "{damage:?}");
        assert!(records.all().unwrap().is_empty());
        let kept = records.all_kept().unwrap();
        assert!(kept.records.is_empty() && kept.unread.len() == 1, "{damage:?}");
        assert!(kept.unread[0].is_of("cid-a") && !kept.unread[0].is_of("cid-b"));
        assert_eq!(kept.unread[0].plugin(), "bridge");
    }
    records.remove(&record.attachment(), "bridge").unwrap();
    assert!(!file.exists());
    assert_eq!(records.all_kept().unwrap(), Kept::default());
}

#[test]
fn one_bad_record_does_not_hide_the_others() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    let (good, mut bad) = (full(&records), full(&records));
    bad.container_id = "cid-b".into();
    records.write(&good).unwrap();
    records.write(&bad).unwrap();
    let file = root.path().join("attachments").join(file_name(&bad.attachment(), "bridge"));
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
    let refused = records.read(&record.attachment(), "bridge").unwrap_err().to_string();
    assert!(refused.contains(".bridge.json: it is of version 99, and this program knows 1"), "{refused}");
    assert!(refused.contains("restart the pod"), "{refused}");
    assert_eq!(records.all().unwrap(), vec![]);
    assert!(records.damaged().unwrap()[0].1.contains("version 99"));
    // Also where its fields mean something else, and not where it is of another boot.
    let file = root.path().join("attachments").join(file_name(&record.attachment(), "bridge"));
    std::fs::write(&file, format!(r#"{{"version":99,"boot_id":"{}","plugin":7}}"#, "a".repeat(36))).unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(matches!(parse(text.as_bytes(), None), Err(Reason::Newer(99))), "{text}");
    let after = Records::at(root.path(), boot('b'));
    records.write(&record).unwrap();
    assert_eq!(after.read(&record.attachment(), "bridge").unwrap(), None);
    // An older one is read.
    let older = Record { version: 0, ..record };
    records.write(&older).unwrap();
    assert_eq!(records.read(&older.attachment(), "bridge").unwrap(), Some(older));
}

#[test]
fn what_is_written_can_be_read() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    let mut record = full(&records);
    let port = record.promised.host_ports[0].clone();
    record.promised.host_ports =
        (1..=u16::MAX).map(|host_port| HostPort { host_port, ..port.clone() }).collect();
    records.write(&record).unwrap();
    let read = records.read(&record.attachment(), "bridge").unwrap().unwrap();
    assert_eq!(read, record);
    record.promised.host_ports = vec![port; 300_000];
    let refused = records.write(&record).unwrap_err().to_string();
    assert!(refused.contains("ask for fewer host ports"), "{refused}");
    assert_eq!(records.read(&read.attachment(), "bridge").unwrap(), Some(read));
}

#[test]
fn links_are_not_followed_and_leftovers_go_with_the_record() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    let record = full(&records);
    records.write(&record).unwrap();
    let directory = root.path().join("attachments");
    let file = directory.join(file_name(&record.attachment(), "bridge"));
    let elsewhere = root.path().join("elsewhere");
    std::fs::rename(&file, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &file).unwrap();
    assert_eq!(records.read(&record.attachment(), "bridge").unwrap(), None);
    let before = std::fs::read(&elsewhere).unwrap();
    records.write(&record).unwrap();
    assert_eq!(std::fs::read(&elsewhere).unwrap(), before);
    assert!(!file.is_symlink());

    let left = directory.join(temporary_name(&file_name(&record.attachment(), "bridge")));
    std::fs::write(&left, "half a rec").unwrap();
    assert_eq!(records.all().unwrap().len(), 1);
    records.write(&record).unwrap();
    assert!(!left.exists(), "a writer that was killed is in nobody's way");
    std::fs::write(&left, "half a rec").unwrap();
    records.remove(&record.attachment(), "bridge").unwrap();
    assert!(!left.exists() && !file.exists());
}

#[test]
fn what_killed_writers_left_goes_with_whoever_comes_next() {
    let root = tempfile::tempdir().unwrap();
    let records = Records::at(root.path(), boot('a'));
    let (record, mut other) = (full(&records), full(&records));
    other.container_id = "cid-b".into();
    records.write(&record).unwrap();
    let directory = root.path().join("attachments");
    let left = |record: &Record| {
        let path = directory.join(temporary_name(&file_name(&record.attachment(), "bridge")));
        std::fs::write(&path, "half a rec").unwrap();
        path
    };
    let leftovers = [left(&record), left(&other)];
    assert!(records.kept_of("cid-a").unwrap().leftovers);
    // One that writes just now is not disturbed.
    let held = records.lock(&other.attachment(), "bridge").unwrap();
    records.sweep_temporaries().unwrap();
    assert_eq!(leftovers.each_ref().map(|path| path.exists()), [false, true]);
    drop(held);
    records.sweep_locks().unwrap();
    assert!(!leftovers[1].exists() && !records.kept_of("cid-a").unwrap().leftovers);
    assert_eq!(records.all().unwrap(), [record]);
}
