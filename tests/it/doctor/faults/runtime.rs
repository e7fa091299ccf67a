//! Runtimes that are there and do not run, and what they leave behind. Those that run are in `doctor::runtime`.

use std::fs;
use std::os::unix::net::UnixListener;

use super::faults;
use crate::doctor::node::{CONFLIST, sh, write};

const SOCKET: &str = "/run/containerd/containerd.sock";

/// Somebody listens as long as the test lives, and never says anything.
fn listen() -> UnixListener {
    fs::create_dir_all("/run/containerd").unwrap();
    UnixListener::bind(SOCKET).unwrap()
}

faults! {
    a_configured_runtime_does_not_run: [("runtime-socket", "runtime containerd")] => 1, |_| {
        write("/etc/containerd/config.toml", "version = 2\n");
    };
    a_runtime_that_starts_at_boot_does_not_run: [("runtime-socket", "runtime containerd")] => 1, |_| {
        write("/etc/systemd/system/multi-user.target.wants/containerd.service", "");
    };
    cri_o_does_not_run: [("runtime-socket", "runtime cri-o")] => 1, |_| {
        write("/etc/crio/crio.conf", "[crio.runtime]\n");
    };
    /// CRI-O makes host ports itself, and asks no plugin about an address that is closed.
    a_closed_uplink_is_open_for_cri_o: [
        ("runtime-socket", "runtime cri-o"), ("runtime-host-ports", "network smartnet"),
    ] => 1, |_| {
        write("/etc/crio/crio.conf", "[crio.runtime]\n");
        let closed = "\"type\":\"smarter-portmap\",\"denyHostPortInterfaces\":[\"wwan*\"]";
        let list = fs::read_to_string(CONFLIST).unwrap();
        write(CONFLIST, &list.replace("\"type\":\"smarter-portmap\"", closed));
    };
    nobody_listens_at_the_socket: [("runtime-socket", "runtime containerd")] => 1, |_| drop(listen());
    the_runtime_hangs: [("runtime-socket", "runtime containerd")] => 1, |_| std::mem::forget(listen());
    the_socket_is_a_plain_file: [("runtime-socket", "runtime containerd")] => 1, |_| write(SOCKET, "");
    /// It does not even start with such a file, so both are named.
    the_runtimes_configuration_is_cut_off: [
        ("runtime-config", "file /etc/containerd/config.toml"), ("runtime-socket", "runtime containerd"),
    ] => 1, |_| write("/etc/containerd/config.toml", "version = 2\n[plugins.\"io.contai");
    a_result_of_libcni_is_empty: [("cache-damaged", "file /var/lib/cni/results/smartnet-beef-eth0")] => 0, |_| {
        // A result of another network is none of our business.
        sh("mkdir -p /var/lib/cni/results; cd /var/lib/cni/results; touch cbr0-c4-eth0 smartnet-edge-c5-eth0");
        write("/var/lib/cni/results/smartnet-beef-eth0", "");
        write("/var/lib/cni/results/smartnet-c0ffee-eth0", "{}");
        write("/var/lib/cni/results/smartnet-c0ffee-net1", "{\"kind\":\"cniCacheV1\"}");
    };
}
