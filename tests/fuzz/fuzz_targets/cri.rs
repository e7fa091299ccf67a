//! What somebody who listens at a container runtime's socket answers: HTTP/2, gRPC, protobuf, and JSON in it.
//!
//! Input: the bytes of the other end, until it closes.
#![no_main]

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use smarter_cni::host::cri::{self, Wanted};
use smarter_cni::host::runtimes::Kind;
use smarter_cni_fuzz::bounded;

fuzz_target!(|input: &[u8]| {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    theirs.set_nonblocking(true).expect("a socket");
    if theirs.write_all(input).is_err() || theirs.shutdown(Shutdown::Write).is_err() {
        // More than fits into a socket.
        return;
    }
    bounded(input, || {
        let Ok(status) = cri::status_over(ours, Duration::from_mins(1)) else { return };
        let bin_dirs = [PathBuf::from("/opt/cni/bin")];
        let same = |one: &Path, other: &Path| one == other;
        let _ = cri::network_loaded(
            &status,
            &Wanted {
                kind: Kind::Containerd,
                network: "smartnet",
                conf_dir: Path::new("/etc/cni/net.d"),
                bin_dirs: &bin_dirs,
                same: &same,
            },
        );
    });
});
