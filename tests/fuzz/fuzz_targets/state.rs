//! What this program, an older or a newer one, or a power cut left in files: attachment records, leases, switches that were
//! turned, and libcni's cache of results.
//!
//! Input: a file's content. It is read as each of them.
#![no_main]

use std::fs;
use std::net::IpAddr;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use smarter_cni::net::IfName;
use smarter_cni::state::host::HostChanges;
use smarter_cni::state::lease::{Glance, Holder, Lease};
use smarter_cni::state::record::{Record, Records};
use smarter_cni::state::{BootId, holders, results};
use smarter_cni_fuzz::{Place, bounded};

/// One file under each of the names that are read.
static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let place = Place::new();
    let file = place.put(NAMES[0], b"");
    for name in &NAMES[1..] {
        let other = place.put(name, b"");
        fs::remove_file(&other).expect("just made");
        fs::hard_link(&file, &other).expect("another name");
    }
    place
});

const NAMES: [&str; 6] = [
    "attachments/0-0.bridge.json",
    "host.json",
    "results/net-c1-eth0",
    "leases/.boot_id",
    "leases/10.0.0.1",
    "leases/last_reserved_ip.0",
];

fuzz_target!(|input: &[u8]| {
    let root = PLACE.path();
    fs::write(root.join(NAMES[0]), input).expect("a file");
    bounded(input, || {
        let boot = BootId::parse(&"0".repeat(36)).expect("a boot");
        let records = Records::at(root, boot.clone());
        let _ = records.damaged();
        for record in records.all_kept().map(|kept| kept.records).unwrap_or_default() {
            kept(&record);
        }
        if let Ok(record) = serde_json::from_slice::<Record>(input) {
            kept(&record);
        }
        let _ = HostChanges::at(root, boot.clone()).read();

        let leases = Glance::at(&root.join("leases")).expect("a directory");
        let _ = leases.is_void(&boot);
        let _ = leases.lease(IpAddr::from([10, 0, 0, 1]));
        if let Lease::Held(holder) = Lease::parse(input) {
            assert_eq!(Lease::parse(&holder.to_bytes()), Lease::Held(holder));
        }
        let if_name: IfName = "eth0".parse().expect("a name");
        let _ = holders::of_cache(&root.join("results"), "net", &Holder::new("c1", &if_name));
        let _ = results::damaged(&root.join("results"), "net");
    });
});

/// What was read of a record is written so that it reads the same, and makes a want or none.
fn kept(record: &Record) {
    let bytes = serde_json::to_vec(record).expect("what was read can be written");
    let again: Record = serde_json::from_slice(&bytes).expect("what was written can be read");
    assert_eq!(*record, again);
    let _ = record.display_name();
    let _ = (record.attachment(), record.mappings(), record.gateways());
    if let Some(ports) = record.host_ports() {
        let comment = ports.owner.comment();
        let _ = comment.len();
    }
}
