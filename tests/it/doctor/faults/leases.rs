use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::faults;
use crate::doctor::node::{Kind, LEASES, Lab, sh, write};

fn lease(address: &str, holder: &str) {
    fs::write(format!("{LEASES}/{address}"), format!("{holder}\r\neth0")).unwrap();
}

faults! {
    leases_are_of_another_boot: [("lease-other-boot", "network oldnet")] => 0, |_| {
        write("/etc/cni/net.d/9-old.conflist", r#"{"name":"oldnet","plugins":[{"type":"smarter-bridge","bridge":"old0",
            "ipam":{"type":"smarter-ipam","dataDir":"/run/old","subnet":"10.8.0.0/24"}}]}"#);
        write("/run/old/oldnet/.boot_id", "00000000-0000-4000-8000-000000000000\n----------------\n");
        write("/run/old/oldnet/10.8.0.2", "deadbeef\r\neth0");
    };
    a_lease_is_empty: [("lease-damaged", "lease /run/cni/networks/smartnet/10.7.0.50")] => 0, |_| {
        fs::write(format!("{LEASES}/10.7.0.50"), "").unwrap();
    };
    a_lease_is_rubbish: [("lease-damaged", "lease /run/cni/networks/smartnet/10.7.0.51")] => 0, |_| {
        fs::write(format!("{LEASES}/10.7.0.51"), [0; 64]).unwrap();
    };
    a_lease_belongs_to_nobody: [("lease-orphan", "lease /run/cni/networks/smartnet/10.7.0.52")] => 0, |_| {
        lease("10.7.0.52", "deadbeef");
    };
    a_running_pod_has_no_lease: [("lease-missing", "lease /run/cni/networks/smartnet/10.7.0.3")] => 1, |lab: &Lab| {
        fs::remove_file(format!("{LEASES}/{}", lab.pods[1].address)).unwrap();
    };
    all_leases_are_gone: [
        ("lease-missing", "lease /run/cni/networks/smartnet/10.7.0.2"), ("lease-missing", "lease /run/cni/networks/smartnet/10.7.0.3"), ("lease-missing", "lease /run/cni/networks/smartnet/10.7.0.4"),
    ] => 1, |_| sh("rm -r /run/cni/networks");
    the_directory_of_leases_is_a_link_that_leads_nowhere: [("lease-missing", "directory /run/cni/networks/smartnet")] => 1, |_| {
        sh("rm -r /run/cni/networks/smartnet; ln -s /run/nowhere /run/cni/networks/smartnet");
    };
    a_lease_is_outside_of_the_range: [("lease-outside", "lease /run/cni/networks/smartnet/10.8.0.5")] => 0, |_| {
        lease("10.8.0.5", "web-0");
    };
    a_pod_has_two_leases: [("lease-twice", "lease /run/cni/networks/smartnet/10.7.0.60")] => 0, |_| {
        lease("10.7.0.60", "web-0");
    };
    the_pool_is_nearly_full [pods: 4, kind: Kind { subnet: Some("10.7.0.0/29"), ..Kind::default() }]: [
        ("pool-nearly-full", "network smartnet"), ("lease-orphan", "lease /run/cni/networks/smartnet/10.7.0.6"),
    ] => 0, |_| lease("10.7.0.6", "deadbeef");
    a_process_sits_on_the_lock: [("lock-held", "lock /run/cni/networks/smartnet/lock")] => 1, |_| {
        let mut holder = Command::new("flock");
        holder.args([&format!("{LEASES}/lock"), "sleep", "60"]).stdin(Stdio::null()).stdout(Stdio::null());
        // Ends with the sandbox, or after a minute.
        std::mem::forget(holder.spawn().unwrap());
        // From ten seconds on it is held for long.
        thread::sleep(Duration::from_secs(11));
    };
    a_record_is_rubbish: [("record-damaged", "file /run/smarter-cni/attachments/0-0.bridge.json")] => 0, |_| {
        write("/run/smarter-cni/attachments/0-0.bridge.json", "{\"version\":1,");
    };
}
