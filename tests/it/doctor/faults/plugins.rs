use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::faults;
use crate::doctor::node::{BIN, sh};
use crate::lab;

/// A file of its own under the name of a plugin, which was a link.
fn place(name: &str, bytes: &[u8], mode: u32) {
    let path = Path::new(BIN).join(name);
    let _ = fs::remove_file(&path);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

fn program() -> Vec<u8> {
    fs::read(lab::binary()).unwrap()
}

/// As the installer does it: one file, and links to it.
fn one_program() {
    place("smarter-cni", &program(), 0o755);
    sh(&format!(
        "cd {BIN}; for n in smarter-bridge smarter-ipam smarter-portmap loopback; do ln -sf smarter-cni $n; done"
    ));
}

fn of_version(version: &str) -> Vec<u8> {
    let (own, other) =
        (format!("smarter-cni {}\n", env!("CARGO_PKG_VERSION")), format!("smarter-cni {version}\n"));
    assert_eq!(own.len(), other.len());
    let mut bytes = program();
    let places: Vec<_> =
        bytes.windows(own.len()).enumerate().filter(|(_, part)| *part == own.as_bytes()).collect();
    let places: Vec<_> = places.into_iter().map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "the program says its version");
    for at in places {
        bytes[at..at + other.len()].copy_from_slice(other.as_bytes());
    }
    bytes
}

faults! {
    a_plugin_is_missing: [("plugin-missing", "plugin smarter-portmap")] => 1, |_| {
        fs::remove_file(format!("{BIN}/smarter-portmap")).unwrap();
    };
    a_link_leads_nowhere: [("plugin-damaged", "file /opt/cni/bin/old")] => 1, |_| {
        sh(&format!("ln -sf /opt/cni/bin/old {BIN}/smarter-ipam"));
    };
    the_program_behind_all_names_is_missing: [("plugin-damaged", "file /opt/cni/bin/smarter-cni")] => 1, |_| {
        one_program();
        fs::remove_file(format!("{BIN}/smarter-cni")).unwrap();
    };
    the_program_behind_all_names_is_cut_short: [("plugin-damaged", "file /opt/cni/bin/smarter-cni")] => 1, |_| {
        one_program();
        sh(&format!("truncate -s 200000 {BIN}/smarter-cni"));
    };
    the_program_behind_all_names_is_not_executable: [("plugin-not-executable", "file /opt/cni/bin/smarter-cni")] => 1, |_| {
        one_program();
        sh(&format!("chmod 644 {BIN}/smarter-cni"));
    };
    the_program_behind_all_names_is_of_another_version: [("plugin-version", "file /opt/cni/bin/smarter-cni")] => 0, |_| {
        one_program();
        place("smarter-cni", &of_version("0.0.9"), 0o755);
    };
    a_plugin_is_not_executable: [("plugin-not-executable", "file /opt/cni/bin/smarter-bridge")] => 1, |_| {
        place("smarter-bridge", &program(), 0o644);
    };
    a_plugin_is_empty: [("plugin-damaged", "file /opt/cni/bin/smarter-ipam")] => 1, |_| place("smarter-ipam", b"", 0o755);
    a_plugin_is_cut_short: [("plugin-damaged", "file /opt/cni/bin/smarter-bridge")] => 1, |_| {
        place("smarter-bridge", &program()[..5000], 0o755);
    };
    a_plugin_is_no_program: [("plugin-damaged", "file /opt/cni/bin/smarter-portmap")] => 1, |_| {
        place("smarter-portmap", b"<html>404</html>", 0o755);
    };
    /// Byte 18 of an ELF file says for which machine it is; 8 is MIPS.
    a_plugin_is_for_another_machine: [("plugin-damaged", "file /opt/cni/bin/smarter-bridge")] => 1, |_| {
        let mut bytes = program();
        bytes[18] = 8;
        place("smarter-bridge", &bytes, 0o755);
    };
    the_loopback_plugin_is_empty: [("plugin-damaged", "file /opt/cni/bin/loopback")] => 1, |_| place("loopback", b"", 0o755);
    a_plugin_is_of_another_version: [("plugin-version", "file /opt/cni/bin/smarter-portmap")] => 0, |_| {
        place("smarter-portmap", &of_version("0.0.9"), 0o755);
    };
    a_plugin_is_somebody_elses: [("plugin-version", "file /opt/cni/bin/smarter-bridge")] => 0, |_| {
        place("smarter-bridge", &fs::read("/bin/true").unwrap(), 0o755);
    };
    there_is_no_loopback_plugin [options: "--bin-dir /opt/cni/bin"]: [("plugin-loopback", "plugin loopback")] => 0, |_| {
        fs::remove_file(format!("{BIN}/loopback")).unwrap();
    };
}
